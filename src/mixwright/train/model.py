"""A decoder-only language model in Llama's layout: RMSNorm, RoPE, causal attention, SwiGLU; embedding and head apart.

Notation
    B, T     windows of a batch, tokens of a window
    V, d     ids of the tokenizer, width
    H, e     attention heads, channels of a head (d = H*e)
    h        width of the SwiGLU layer, ``ModelSize.hidden``
    s        spread of the embedding at the start, ``embedding_std``

The layout is that of Touvron et al. 2023 (arXiv:2302.13971, section 2.2) with nothing added, so ``LlamaForCausalLM``
holds the same function (``rms_norm_eps`` = ``EPSILON``, ``rope_theta`` = ``ROPE_BASE``, no biases, untied embeddings):

    embedding (V, d)                        model.embed_tokens
    blocks.N.attention_norm (d,)            model.layers.N.input_layernorm
    blocks.N.query_key_value (3d, d)        model.layers.N.self_attn.{q,k,v}_proj, d rows each, in this order
    blocks.N.attention_out (d, d)           model.layers.N.self_attn.o_proj
    blocks.N.feed_norm (d,)                 model.layers.N.post_attention_layernorm
    blocks.N.gate_up (2h, d)                model.layers.N.mlp.{gate,up}_proj, h rows each, in this order
    blocks.N.down (d, h)                    model.layers.N.mlp.down_proj
    norm (d,)                               model.norm
    head (V, d)                             lm_head

Where it starts. Channel 0 of every embedding is one constant, which holds the part ``CONSTANT`` of the embedding's squared
length; the other channels of all rows are scaled to one length. What enters the residual stream begins at zero, so after
the last norm channel 0 is the same number c = sqrt(CONSTANT * d) at every position, and a head whose column 0 is log
unigram / c predicts the unigram frequencies. This does what a bias of the head would do, and learns better (``LOG.md``,
2026-11-24): blocks, too, read a constant. Parameters outside embedding and head are ``ModelSize.params``.
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
from mixwright.train.attention import attention
from mixwright.train.head import head_loss

#: Base of the rotary angles (Su et al. 2021, arXiv:2104.09864, section 3.2.2).
ROPE_BASE = 10_000.0
#: What RMSNorm adds to the mean square.
EPSILON = 1e-6
#: Part of an embedding's squared length that its constant channel holds at the start (``LOG.md``, 2026-11-24).
CONSTANT = 0.75


def shapes(size: ModelSize, vocab: int) -> dict[str, tuple[int, ...]]:
    """Every parameter's name and shape, in the order of ``Model.named_parameters``."""
    d, h = size.width, size.hidden
    block = {
        "attention_norm": (d,), "query_key_value": (3 * d, d), "attention_out": (d, d),
        "feed_norm": (d,), "gate_up": (2 * h, d), "down": (d, h),
    }  # fmt: skip
    outer: dict[str, tuple[int, ...]] = {"embedding": (vocab, d), "norm": (d,), "head": (vocab, d)}
    return outer | {f"blocks.{n}.{name}": shape for n in range(size.layers) for name, shape in block.items()}


def initial(
    size: ModelSize, unigram: NDArray[np.float64], seed: int, *, embedding_std: float = 0.5
) -> dict[str, Tensor]:
    """The weights at the start, float32, by name as ``shapes`` says; they depend on ``seed`` alone.

    ``unigram (V,)`` are positive frequencies of the ids. Norms are one; query, key, value, gate and up are normal with
    variance 1/d; what is added to the residual stream is zero, and so is the head but for its column 0. Raises
    DataError where ``unigram`` is not positive.
    """
    if not np.all(np.isfinite(unigram)) or np.any(unigram <= 0):
        raise DataError("The frequencies that the head starts from must all be positive; smooth them first.")
    source = torch.Generator().manual_seed(derive_seed(seed, "model", str(size)))
    d = size.width
    values = {}
    for name, shape in shapes(size, len(unigram)).items():
        kind = name.rpartition(".")[2]
        if kind == "embedding":
            values[name] = _embedding(torch.randn(shape, generator=source), embedding_std)
        elif kind == "head":
            values[name] = torch.zeros(shape)
            values[name][:, 0] = _first_column(unigram, d, embedding_std)
        elif kind in ("query_key_value", "gate_up"):
            values[name] = torch.randn(shape, generator=source) / math.sqrt(d)
        else:
            values[name] = torch.ones(shape) if kind.endswith("norm") else torch.zeros(shape)
    return values


def _embedding(drawn: Tensor, std: float) -> Tensor:
    """Rows of one length, ``std * sqrt(d)``, with the same constant in channel 0."""
    d = drawn.shape[1]
    rest = drawn[:, 1:]
    rest = rest * (std * math.sqrt((1 - CONSTANT) * d) / rest.norm(dim=1, keepdim=True))
    return torch.cat([torch.full((len(drawn), 1), std * math.sqrt(CONSTANT * d)), rest], dim=1)


def _first_column(unigram: NDArray[np.float64], d: int, std: float) -> Tensor:
    """Log frequencies around their mean, over what channel 0 is after the last norm."""
    channel = std * math.sqrt(CONSTANT * d) / math.sqrt(std * std + EPSILON)
    score = np.log(unigram)
    return torch.from_numpy(((score - score.mean()) / channel).astype(np.float32))


class Model(nn.Module):  # type: ignore[misc]  # torch is optional, so its classes are Any to the type checker
    """``forward(inputs, labels)`` gives each token's loss in nats, ``logits(inputs)`` the scores of the next id.

    Weights begin as ``initial`` says (a model that has seen nothing predicts the unigram frequencies). With
    ``remember`` False each block's inner values are computed again on the way back instead of being kept (activation
    checkpointing; Chen et al. 2016, arXiv:1604.06174, section 3): about a third more work, memory that hardly grows
    with layers, the same values.
    """

    def __init__(
        self,
        size: ModelSize,
        unigram: NDArray[np.float64],
        seed: int,
        *,
        embedding_std: float = 0.5,
        remember: bool = True,
    ) -> None:
        super().__init__()
        values = initial(size, unigram, seed, embedding_std=embedding_std)
        self.size, self.remember = size, remember
        self.embedding = nn.Parameter(values["embedding"])
        self.norm = nn.Parameter(values["norm"])
        self.head = nn.Parameter(values["head"])
        self.blocks = nn.ModuleList(Block(size, values, f"blocks.{n}") for n in range(size.layers))

    @property
    def inner_parameters(self) -> int:
        """Parameters outside embedding and head; equal to ``ModelSize.params``."""
        return int(sum(p.numel() for p in self.parameters()) - self.embedding.numel() - self.head.numel())

    def hidden(self, inputs: Tensor) -> Tensor:
        """What the head reads, ``(B, T, d)``, for ``inputs (B, T)``."""
        x = functional.embedding(inputs, self.embedding)
        turn = rotation(inputs.shape[1], self.size.width // self.size.heads, x.device)
        for block in self.blocks:
            if self.remember or not torch.is_grad_enabled():
                x = block(x, *turn)
            else:
                x = torch.utils.checkpoint.checkpoint(block, x, *turn, use_reentrant=False)
        return functional.rms_norm(x, (self.size.width,), self.norm, EPSILON)

    def logits(self, inputs: Tensor) -> Tensor:
        """Scores of the next id, ``(B, T, V)``."""
        return functional.linear(self.hidden(inputs), self.head)

    def forward(self, inputs: Tensor, labels: Tensor, mean: bool = False) -> Tensor:
        """The loss of each token in nats, float32, ``(B*T,)``; with ``mean`` their mean, in less time and memory."""
        if mean:
            return head_loss(self.hidden(inputs).flatten(0, 1), self.head, labels.flatten())
        return losses(self.hidden(inputs), self.head, labels)


class Block(nn.Module):  # type: ignore[misc]  # as above
    """One layer: attention and SwiGLU, each added to what it read after normalization."""

    def __init__(self, size: ModelSize, values: dict[str, Tensor], prefix: str) -> None:
        super().__init__()
        self.heads = size.heads
        self.attention_norm = nn.Parameter(values[f"{prefix}.attention_norm"])
        self.query_key_value = nn.Parameter(values[f"{prefix}.query_key_value"])
        self.attention_out = nn.Parameter(values[f"{prefix}.attention_out"])
        self.feed_norm = nn.Parameter(values[f"{prefix}.feed_norm"])
        self.gate_up = nn.Parameter(values[f"{prefix}.gate_up"])
        self.down = nn.Parameter(values[f"{prefix}.down"])

    def forward(self, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        """``x (B, T, d)`` after this layer; ``cosine`` and ``sine`` as ``rotation`` gives them."""
        batch, length, d = x.shape
        y = functional.rms_norm(x, (d,), self.attention_norm, EPSILON)
        y = functional.linear(y, self.query_key_value).view(batch, length, 3, self.heads, d // self.heads)
        query, key, value = y.permute(2, 0, 3, 1, 4)
        turn = (cosine, sine)
        y = attention(rotated(query, turn), rotated(key, turn), value)
        x = x + functional.linear(y.transpose(1, 2).reshape(batch, length, d), self.attention_out)
        y = functional.rms_norm(x, (d,), self.feed_norm, EPSILON)
        gate, up = functional.linear(y, self.gate_up).chunk(2, dim=-1)
        return x + functional.linear(functional.silu(gate) * up, self.down)


def losses(hidden: Tensor, head: Tensor, labels: Tensor) -> Tensor:
    """The loss of each token in nats, float32 ``(B*T,)``, from ``hidden (B, T, d)`` and ``labels (B, T)``."""
    logits = functional.linear(hidden, head).flatten(0, 1).float()
    return functional.cross_entropy(logits, labels.flatten(), reduction="none")


def rotation(length: int, channels: int, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the rotary angles, each ``(length, channels / 2)``, float32."""
    rate = ROPE_BASE ** (-torch.arange(0, channels, 2, dtype=torch.float64, device=device) / channels)
    angle = torch.outer(torch.arange(length, dtype=torch.float64, device=device), rate)
    return angle.cos().float(), angle.sin().float()


def rotated(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """``x (..., T, e)`` with its halves turned as pairs, in the type of ``x``."""
    first, second = x.chunk(2, dim=-1)
    cosine, sine = turn
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1).to(x.dtype)
