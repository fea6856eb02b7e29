"""An n-gram model of words, trained on reference text: a true probability of the next word given those before it.

    P(w | u v) = p(u v w) + left(u v) P(w | v)      P(w | v) = p(v w) + left(v) P(w)
    P(w) = p(w) + left() / (V + 1)

V words were seen; every other word is of one class, unknown, so that the probabilities of V + 1 classes sum to 1 after
any context: ``left`` of a context is 1 minus the sum of p over what followed it, and 1 where nothing did. Smoothing:

``kneser_ney``   p = (a - D(a)) / A, interpolated and modified (Chen and Goodman 1999, doi:10.1006/csla.1999.0128, section
                 3): a counts an n-gram in the highest order, in lower ones the different words before it (a text's
                 beginning is one); A sums a over the context; D for a = 1, 2, 3 and more from counts of counts
``witten_bell``  p = c / (C + T): counts, their sum over the context, and how many different words followed it (Witten and
                 Bell 1991, doi:10.1109/18.87000, method C)

Words are their 64-bit hashes, n-grams the polynomials of ``gram_kernels.py``, mixed.

G  n-grams of one order; ``context`` and ``suffix`` (G,) uint64 the hashes of all but the last word, and all but the first
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mixwright.curate.decontaminate import ngrams
from mixwright.curate.texts import Texts
from mixwright.store.artifact import read_json, write_json, written_aside

Hashes = NDArray[np.uint64]
Floats = NDArray[np.float64]
Smoothing = Literal["kneser_ney", "witten_bell"]
#: the discount where counts of counts tell none (Chen and Goodman 1999: those estimated for one discount are about this)
_DISCOUNT = 0.75
_WAITING = 1 << 21


@dataclass(frozen=True)
class NgramModel:
    """``table`` (S, 2) uint64 as in ``ngram_kernels.py``; ``base`` the probability of the unknown word on its own."""

    order: int
    words: int
    base: float
    table: Hashes

    def bits(self, texts: Texts) -> Floats:
        """-log2 of the probability of the words of each text, ``(n,)``; 0 without words. Cost: 80 ns a word (order 3)."""
        from mixwright.curate.ngram_kernels import word_bits

        table = self.table.view(np.ndarray)
        table.flags.writeable = False
        found: Floats = word_bits(*texts.word_hashes, self.order, self.base, table, table.view(np.float32))
        return found

    def save(self, folder: Path) -> None:
        """Leave it in ``folder`` for ``opened``."""
        with written_aside(folder / "table.npy") as path, path.open("wb") as stream:
            np.save(stream, self.table)
        write_json(folder / "model.json", {"order": self.order, "words": self.words, "base": self.base})

    @classmethod
    def opened(cls, folder: Path) -> NgramModel:
        """What ``save`` left, mapped into memory."""
        return cls(**read_json(folder / "model.json"), table=np.load(folder / "table.npy", mmap_mode="r"))


def train(batches: Iterable[Texts], order: int, smoothing: Smoothing, limit: int) -> NgramModel:
    """A model of ``order`` words; of at most ``limit`` n-grams, the longest and least seen are left out, words never.

    Cost: 0.1 s/MB of reference text (order 3); memory: 200 bytes a distinct n-gram, before any are left out.
    """
    counts = [_Counts() for _ in range(order)]
    for texts in batches:
        below = None
        for n, one in enumerate(counts, start=1):
            below = one.add(texts, n, below)
    tables = [one.merged() for one in counts]
    weights = [
        _seen_before(tables[n], tables[n + 1]) if smoothing == "kneser_ney" and n + 1 < order else tables[n].count
        for n in range(order)
    ]
    p = [_shares(table, weight, smoothing) for table, weight in zip(tables, weights, strict=True)]
    kept = _kept(tables, limit)
    return _assembled(tables, p, kept, order)


@dataclass(frozen=True)
class _Grams:
    """Distinct n-grams of one order, sorted by hash; ``begins``: whether a text began with it."""

    hash: Hashes
    context: Hashes
    suffix: Hashes
    count: NDArray[np.int64]
    begins: NDArray[np.bool_]


@dataclass
class _Counts:
    """n-grams of one order as they come in, merged when what waits outgrows what is merged."""

    parts: list[_Grams] = field(default_factory=list)

    def add(self, texts: Texts, n: int, below: Any) -> Any:
        """Count the n-grams of a batch; ``below``: hashes of its (n - 1)-grams and where those of each text begin."""
        grams = ngrams(texts, n)
        hashes = np.where(grams.hashes == 0, np.uint64(1), grams.hashes)
        sizes = np.bincount(grams.text, minlength=len(texts)).astype(np.int64)
        nothing = np.zeros(len(hashes), dtype=np.uint64)
        context, suffix = nothing, nothing
        if below is not None:
            lower, starts = below
            at = starts[grams.text] + grams.word
            context, suffix = lower[at], lower[at + 1]
        ones = np.ones(len(hashes), dtype=np.int64)
        self.parts.append(_distinct(_Grams(hashes, context, suffix, ones, grams.word == 0)))
        if len(self.parts) > 1 and sum(len(one.hash) for one in self.parts[1:]) > max(
            _WAITING, len(self.parts[0].hash)
        ):
            self.parts = [self.merged()]
        return hashes, np.cumsum(sizes) - sizes

    def merged(self) -> _Grams:
        """All so far."""
        if not self.parts:
            empty = np.zeros(0, dtype=np.uint64)
            return _Grams(empty, empty, empty, np.zeros(0, dtype=np.int64), np.zeros(0, dtype=bool))
        names = ("hash", "context", "suffix", "count", "begins")
        return _distinct(_Grams(*(np.concatenate([getattr(part, name) for part in self.parts]) for name in names)))


def _distinct(grams: _Grams) -> _Grams:
    hashes, at, inverse = np.unique(grams.hash, return_index=True, return_inverse=True)
    count = np.bincount(inverse, grams.count, minlength=len(hashes)).astype(np.int64)
    begins = np.bincount(inverse, grams.begins, minlength=len(hashes)) > 0
    return _Grams(hashes, grams.context[at], grams.suffix[at], count, begins)


def _seen_before(grams: _Grams, longer: _Grams) -> NDArray[np.int64]:
    """How many different words stood before each n-gram; the beginning of a text is one."""
    suffixes, counts = np.unique(longer.suffix, return_counts=True)
    before = grams.begins.astype(np.int64)
    before[np.searchsorted(grams.hash, suffixes)] += counts
    return before


def _shares(grams: _Grams, weight: NDArray[np.int64], smoothing: Smoothing) -> Floats:
    """P of each n-gram."""
    _, group = np.unique(grams.context, return_inverse=True)
    total = np.bincount(group, weight)
    if smoothing == "witten_bell":
        shares: Floats = weight / (total + np.bincount(group))[group]
        return shares
    discounts = np.array([0.0, *_discounts(weight)])
    reduced: Floats = (weight - discounts[np.minimum(weight, 3)]) / total[group]
    return reduced


def _discounts(weight: NDArray[np.int64]) -> tuple[float, float, float]:
    """What is taken from counts of 1, 2, and 3 and more."""
    one, two, three, four = (int((weight == times).sum()) for times in (1, 2, 3, 4))
    if min(one, two, three, four) > 0:
        rate = one / (one + 2 * two)
        found = (1 - 2 * rate * two / one, 2 - 3 * rate * three / two, 3 - 4 * rate * four / three)
        if all(0 < discount < most for discount, most in zip(found, (1, 2, 3), strict=True)):
            return found
    return _DISCOUNT, _DISCOUNT, _DISCOUNT


def _kept(tables: list[_Grams], limit: int) -> list[NDArray[np.bool_]]:
    """Which n-grams stay: all of the lowest orders, of the highest the most frequent, by count and then hash."""
    kept, room = [], limit
    for n, grams in enumerate(tables):
        stays = np.ones(len(grams.hash), dtype=bool)
        if n and len(grams.hash) > room:
            stays[np.lexsort((grams.hash, -grams.count))[max(room, 0) :]] = False
            room = 0
        else:
            room -= len(grams.hash)
        kept.append(stays)
    return kept


def _assembled(tables: list[_Grams], p: list[Floats], kept: list[NDArray[np.bool_]], order: int) -> NgramModel:
    from mixwright.curate.ngram_kernels import enter

    total = sum(int(stays.sum()) for stays in kept)
    table = np.zeros((1 << (3 * total // 2).bit_length(), 2), dtype=np.uint64)
    for n, grams in enumerate(tables):
        left = np.ones(len(grams.hash))
        if n + 1 < order:
            _take(left, grams.hash, tables[n + 1].context[kept[n + 1]], p[n + 1][kept[n + 1]])
        mine = kept[n]
        enter(
            table,
            table.view(np.float32),
            grams.hash[mine],
            p[n][mine].astype(np.float32),
            left[mine].astype(np.float32),
        )
    words = len(tables[0].hash)
    return NgramModel(order, words, float(1 - p[0].sum()) / (words + 1), table)


def _take(left: Floats, hashes: Hashes, contexts: Hashes, p: Floats) -> None:
    """Take from ``left`` of each context what followed it."""
    distinct, group = np.unique(contexts, return_inverse=True)
    left[np.searchsorted(hashes, distinct)] -= np.bincount(group, p, minlength=len(distinct))
