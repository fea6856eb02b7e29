"""What a model is measured on: the loss on held-out domains and targets, beside what word frequencies alone give.

Units: nats/token, and bits/byte, which compares tokenizers: nats/token * tokens / bytes / ln 2 with the tokens and
UTF-8 bytes of the metric's whole text (its end-of-document ids are tokens, too).

A loss is a mean over windows, so its standard error is that of a mean of window losses: what other windows of such text
would change, not what another seed would.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mixwright.core.errors import DataError
from mixwright.core.mixture import Mixture
from mixwright.store.artifact import read_json
from mixwright.store.tokens import TokenStore

if TYPE_CHECKING:
    pass

Floats = NDArray[np.float64]

#: What unigram frequencies give to ids they have not met, spread evenly over all ids (Jelinek and Mercer 1980).
SMOOTHING = 0.01
#: Windows that go through the model at once.
_CHUNK = 16


@dataclass(frozen=True)
class Metric:
    """A named text that a model is measured on: ``windows (n, seq_len + 1)`` of ids, and its bytes per token."""

    name: str
    windows: NDArray[np.int64]
    bytes_per_token: float

    @classmethod
    def open(cls, name: str, store: TokenStore, text_bytes: int, *, seq_len: int, tokens: int) -> Metric:
        """About ``tokens`` tokens of a store, in windows spaced evenly over it. DataError if it holds no window."""
        held = store.windows(seq_len)
        if held < 1:
            raise DataError(
                f"{name} has {store.tokens} tokens, too few for one window of {seq_len}. Give it more text, raise "
                "tokenizer.held_out or lower trainer.seq_len."
            )
        count = min(held, max(1, tokens // seq_len))
        chosen = ((2 * np.arange(count) + 1) * held) // (2 * count)
        windows = np.stack([store.window(int(number), seq_len) for number in chosen]).astype(np.int64)
        return cls(name, windows, text_bytes / store.tokens)

    def bits_per_byte(self, loss: float) -> float:
        """A loss in nats/token as bits/byte."""
        return loss / self.bytes_per_token / math.log(2)


def open_metrics(corpus: Path, *, seq_len: int, tokens: int, only: str = "") -> list[Metric]:
    """The metrics of a tokenize artifact whose names begin with ``only``, about ``tokens`` tokens of each."""
    listed = read_json(corpus / "metrics.json")
    return [
        Metric.open(name, TokenStore.open(corpus / entry["path"]), entry["bytes"], seq_len=seq_len, tokens=tokens)
        for name, entry in listed.items()
        if name.startswith(only)
    ]


def unigram(stores: Mapping[str, TokenStore], mixture: Mixture) -> Floats:
    """How often each id comes in training text drawn by ``mixture``, ``(V,)``, smoothed by ``SMOOTHING``."""
    vocab = next(iter(stores.values())).vocab
    frequency = np.full(vocab, SMOOTHING / vocab)
    for name, weight in mixture.to_dict().items():
        if weight > 0:
            frequency += (1 - SMOOTHING) * weight * stores[name].counts / stores[name].counts.sum()
    return frequency


def unigram_loss(metric: Metric, frequency: Floats) -> float:
    """The loss in nats/token of a model that gives every id its ``frequency (V,)`` whatever came before."""
    return float(-np.log(frequency)[metric.windows[:, 1:]].mean())


@dataclass(frozen=True)
class Measured:
    """A loss in nats/token with its standard error (None for a single window), in bits/byte, over how many tokens."""

    loss: float
    standard_error: float | None
    bits_per_byte: float
    tokens: int


def measure(losses: Callable[[Any, Any], Any], metric: Metric, *, device: str = "cpu") -> Measured:
    """A model's loss on a metric; ``losses(inputs, labels)`` are those of each token, ``(B*T,)`` for ``(B, T)`` ids.

    Every window is read without what came before it.
    """
    import torch

    means = []
    with torch.no_grad():
        for start in range(0, len(metric.windows), _CHUNK):
            rows = torch.from_numpy(metric.windows[start : start + _CHUNK]).to(device)
            each = losses(rows[:, :-1], rows[:, 1:]).view(len(rows), -1)
            means += each.mean(dim=1, dtype=torch.float64).tolist()
    loss = float(np.mean(means))
    error = float(np.std(means, ddof=1) / math.sqrt(len(means))) if len(means) > 1 else None
    return Measured(loss, error, metric.bits_per_byte(loss), int(metric.windows[:, 1:].size))
