"""Many models of one shape as one: each parameter stacked along a leading axis, every product batched over it.

Notation
    K        models
    B, T     windows of each model's batch, tokens of a window; N = B*T
    V, d     ids of the tokenizer, width
    H, e, h  heads, channels of a head (d = H*e), width of the SwiGLU layer

The arithmetic is that of ``model.py``, product by product, with K in front; what depends on the model alone (norms of a
gradient, losses) is kept apart for each. A model with numbers that are not finite touches no other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from mixwright.core.run import ModelSize
from mixwright.train.attention import attention
from mixwright.train.head import head_losses
from mixwright.train.model import EPSILON, Model, rotated, rotation


@dataclass(frozen=True)
class Stack:
    """``parameters``: name -> ``(K, ...)``, leaves that gradients gather in, under the names of ``Model``."""

    size: ModelSize
    parameters: Mapping[str, Tensor]

    @classmethod
    def of(cls, models: Sequence[Model]) -> Stack:
        """Stack the models' parameters; each model's own then are views of the stack, so that both always agree."""
        stacked = {}
        for name, _ in models[0].named_parameters():
            own = [model.get_parameter(name) for model in models]
            stacked[name] = torch.stack([p.detach() for p in own]).requires_grad_()
            for k, parameter in enumerate(own):
                parameter.data = stacked[name].detach()[k]
        return cls(models[0].size, stacked)

    @property
    def count(self) -> int:
        """K."""
        return len(self.parameters["norm"])

    def hidden(self, inputs: Tensor) -> Tensor:
        """What the heads read, ``(K, N, d)``, for ``inputs (K, B, T)``."""
        (models, batch, length), table = inputs.shape, self.parameters["embedding"]
        offset = table.shape[1] * torch.arange(models, device=inputs.device)
        x = functional.embedding((inputs + offset[:, None, None]).flatten(1), table.flatten(0, 1))
        heads = self.size.heads
        turn = rotation(length, self.size.width // heads)
        for layer in range(self.size.layers):
            x = self._block(f"blocks.{layer}.", x, (batch, length, heads), turn)
        return self._normed("norm", x)

    def losses(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """Each model's mean loss in nats, ``(K,)``, for ``inputs`` and ``labels (K, B, T)``."""
        return head_losses(self.hidden(inputs), self.parameters["head"], labels.flatten(1))

    def _normed(self, name: str, x: Tensor) -> Tensor:
        width = self.size.width
        return functional.rms_norm(x, (width,), None, EPSILON) * self.parameters[name][:, None]

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return torch.bmm(x, self.parameters[name].mT)

    def _block(self, at: str, x: Tensor, shape: tuple[int, int, int], turn: tuple[Tensor, Tensor]) -> Tensor:
        """``x (K, N, d)`` after one layer."""
        (batch, length, heads), (models, _, d) = shape, x.shape
        y = self._linear(at + "query_key_value", self._normed(at + "attention_norm", x))
        query, key, value = y.view(models * batch, length, 3, heads, d // heads).permute(2, 0, 3, 1, 4)
        y = attention(rotated(query, turn), rotated(key, turn), value)
        x = x + self._linear(at + "attention_out", y.transpose(1, 2).reshape(models, batch * length, d))
        gate, up = self._linear(at + "gate_up", self._normed(at + "feed_norm", x)).chunk(2, dim=-1)
        return x + self._linear(at + "down", functional.silu(gate) * up)
