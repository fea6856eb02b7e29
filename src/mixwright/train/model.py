"""A decoder-only language model: RMSNorm, RoPE, causal attention, SwiGLU; embedding and head are separate.

Notation
    B, T     windows of a batch, tokens of a window
    V, d     ids of the tokenizer, width
    H, e     attention heads, channels of a head (d = H*e)
    h        width of the SwiGLU layer, ``ModelSize.hidden``

The layout is Llama's (Touvron et al. 2023, arXiv:2302.13971, section 2.2), except that the head has a bias, which
begins as the logarithm of how often each id comes. Parameters outside embedding and head are ``ModelSize.params``.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from mixwright.core.errors import DataError
from mixwright.core.rng import derive_seed
from mixwright.core.run import ModelSize

#: Base of the rotary angles (Su et al. 2021, arXiv:2104.09864, section 3.2.2).
ROPE_BASE = 10_000.0
_EPSILON = 1e-6


def heads_for(width: int) -> int:
    """How many attention heads a width gets: channels of a head even and nearest to 16 below 128 channels, 32 below
    512, 64 from there on (the larger of two equally near).
    """  # fmt: skip
    wanted = 16 if width < 128 else 32 if width < 512 else 64
    fitting = [count for count in range(1, width // 2 + 1) if width % (2 * count) == 0]
    return min(fitting, key=lambda count: (abs(width // count - wanted), count))


class Model(nn.Module):  # type: ignore[misc]  # torch is optional, so its classes are Any to the type checker
    """``forward(inputs, labels)`` gives each token's loss in nats, ``logits(inputs)`` the scores of the next id.

    ``unigram (V,)`` are positive frequencies of the ids, which the head's bias starts from; ``embedding_std`` is the
    spread of the embedding at the start. Weights depend on ``seed`` alone: matrices are normal with variance 1/fan-in,
    the head and what enters the residual stream are zero (a model that has seen nothing predicts the unigram
    frequencies). Raises DataError where ``unigram`` is not positive.
    """

    def __init__(self, size: ModelSize, unigram: NDArray[np.float64], seed: int, *, embedding_std: float = 0.5) -> None:
        super().__init__()
        if not np.all(np.isfinite(unigram)) or np.any(unigram <= 0):
            raise DataError("The frequencies that the head starts from must all be positive; smooth them first.")
        self.size, self.heads = size, heads_for(size.width)
        source = torch.Generator().manual_seed(derive_seed(seed, "model", str(size)))
        d, vocab = size.width, len(unigram)
        self.embedding = nn.Parameter(torch.randn((vocab, d), generator=source) * embedding_std)
        self.blocks = nn.ModuleList(Block(size, self.heads, source) for _ in range(size.layers))
        self.norm = nn.Parameter(torch.ones(d))
        self.head = nn.Parameter(torch.zeros(vocab, d))
        self.bias = nn.Parameter(torch.from_numpy(np.log(unigram / unigram.sum()).astype(np.float32)))

    @property
    def inner_parameters(self) -> int:
        """Parameters outside embedding and head; equal to ``ModelSize.params``."""
        outer = self.embedding.numel() + self.head.numel() + self.bias.numel()
        return int(sum(p.numel() for p in self.parameters()) - outer)

    def hidden(self, inputs: Tensor) -> Tensor:
        """What the head reads, ``(B, T, d)``, for ``inputs (B, T)``."""
        x = functional.embedding(inputs, self.embedding)
        turn = rotation(inputs.shape[1], self.size.width // self.heads)
        for block in self.blocks:
            x = block(x, turn)
        return functional.rms_norm(x, (self.size.width,), self.norm, _EPSILON)

    def logits(self, inputs: Tensor) -> Tensor:
        """Scores of the next id, ``(B, T, V)``."""
        return functional.linear(self.hidden(inputs), self.head, self.bias)

    def forward(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """The loss of each token in nats, ``(B*T,)``."""
        return functional.cross_entropy(self.logits(inputs).flatten(0, 1), labels.flatten(), reduction="none")


class Block(nn.Module):  # type: ignore[misc]  # as above
    """One layer: attention and SwiGLU, each added to what it read after normalization."""

    def __init__(self, size: ModelSize, heads: int, source: torch.Generator) -> None:
        super().__init__()
        d, hidden = size.width, size.hidden
        self.heads = heads

        def matrix(rows: int) -> nn.Parameter:
            return nn.Parameter(torch.randn((rows, d), generator=source) / math.sqrt(d))

        self.attention_norm = nn.Parameter(torch.ones(d))
        self.query_key_value = matrix(3 * d)
        self.attention_out = nn.Parameter(torch.zeros(d, d))
        self.feed_norm = nn.Parameter(torch.ones(d))
        self.gate_up = matrix(2 * hidden)
        self.down = nn.Parameter(torch.zeros(d, hidden))

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        """``x (B, T, d)`` after this layer; ``turn`` as ``rotation`` gives it."""
        batch, length, d = x.shape
        y = functional.rms_norm(x, (d,), self.attention_norm, _EPSILON)
        y = functional.linear(y, self.query_key_value).view(batch, length, 3, self.heads, d // self.heads)
        query, key, value = y.permute(2, 0, 3, 1, 4)
        y = functional.scaled_dot_product_attention(rotated(query, turn), rotated(key, turn), value, is_causal=True)
        x = x + functional.linear(y.transpose(1, 2).reshape(batch, length, d), self.attention_out)
        y = functional.rms_norm(x, (d,), self.feed_norm, _EPSILON)
        gate, up = functional.linear(y, self.gate_up).chunk(2, dim=-1)
        return x + functional.linear(functional.silu(gate) * up, self.down)


def rotation(length: int, channels: int) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the rotary angles, each ``(length, channels / 2)``."""
    rate = ROPE_BASE ** (-torch.arange(0, channels, 2, dtype=torch.float64) / channels)
    angle = torch.outer(torch.arange(length, dtype=torch.float64), rate)
    return angle.cos().float(), angle.sin().float()


def rotated(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """``x (..., T, e)`` with its halves turned as pairs."""
    first, second = x.chunk(2, dim=-1)
    cosine, sine = turn
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)
