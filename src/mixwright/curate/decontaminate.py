"""Which texts share an n-gram of words with others: how targets are kept apart from training text.

Words are runs of ``\\w`` of the lower-cased text. A word is hashed as sum_i r(c_i) B^i mod 2^64 over its characters, r
a scrambling of the code point, and an n-gram likewise over its words; two different n-grams meet with probability about
2^-64, so among 10^12 pairs of n-grams about 5e-8 false meetings are expected.

T       number of n-grams of a batch of texts
hashes  (T,) uint64
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mixwright.curate.signal import Texts

Hashes = NDArray[np.uint64]
#: odd multipliers: of characters within a word, and of words within an n-gram
_OF_CHARACTERS = np.uint64(0x9E3779B97F4A7C15)
_OF_WORDS = np.uint64(0xD1B54A32D192ED03)
#: the first look at a hash goes into a table of 2^22 flags
_TABLE_BITS = 22


@dataclass(frozen=True)
class Grams:
    """The n-grams of a batch of texts: ``hashes``, and for each the number of its ``text`` and its first ``word``."""

    hashes: Hashes
    text: NDArray[np.int64]
    word: NDArray[np.int64]


def _mixed(values: Hashes) -> Hashes:
    """The finalizer of the splitmix64 generator (Stafford's variant 13)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _powers(base: np.uint64, count: int) -> Hashes:
    powers = np.full(max(count, 1), base, dtype=np.uint64)
    powers[0] = 1
    return np.cumprod(powers)


def ngrams(texts: Sequence[str], n: int) -> Grams:
    """Every run of ``n`` words of every text. Cost: about 50 ns a character, 40 bytes of memory."""
    lowered = Texts([text.lower() for text in texts])
    starts = np.flatnonzero(lowered.word_starts[lowered.in_word])
    characters = lowered.codes[lowered.in_word]
    lengths = np.diff(np.append(starts, len(characters)))
    within = np.arange(len(characters)) - np.repeat(starts, lengths)
    values = _mixed(characters.astype(np.uint64) + _OF_CHARACTERS)
    values *= _powers(_OF_CHARACTERS, int(lengths.max(initial=1)))[within]
    words = _mixed(np.add.reduceat(values, starts)) if len(starts) else values
    per_text = lowered.count(lowered.word_starts)
    ends = np.repeat(np.cumsum(per_text), per_text)
    first = np.flatnonzero(np.arange(len(words)) + n <= ends)
    hashes = np.zeros(len(first), dtype=np.uint64)
    for offset, power in enumerate(_powers(_OF_WORDS, n)):
        hashes += words[first + offset] * power
    of_text = np.repeat(np.arange(len(texts)), per_text)[first]
    before = np.cumsum(per_text) - per_text
    return Grams(_mixed(hashes), of_text, first - before[of_text])


def words(text: str, first: int, n: int) -> str:
    """``n`` words of a text from number ``first`` on, as they are compared."""
    return " ".join(re.findall(r"\w+", text.lower())[first : first + n])


@dataclass
class Growing:
    """A set of hashes that grows by batches: merged when what waits outgrows it, so each hash is sorted few times."""

    merged: Hashes = field(default_factory=lambda: np.zeros(0, dtype=np.uint64))
    waiting: list[Hashes] = field(default_factory=list)

    def add(self, hashes: Hashes) -> None:
        """Take in a batch."""
        self.waiting.append(np.unique(hashes))
        if sum(map(len, self.waiting)) > max(1 << 20, len(self.merged)):
            self.members()

    def members(self) -> Hashes:
        """All hashes so far, sorted and distinct."""
        self.merged = np.unique(np.concatenate([self.merged, *self.waiting]))
        self.waiting = []
        return self.merged


@dataclass(frozen=True)
class HashSet:
    """A set of n-gram hashes, ``members`` sorted and distinct, that is asked about many others."""

    members: Hashes

    @classmethod
    def of(cls, *parts: Hashes) -> HashSet:
        """The union of some arrays."""
        return cls(np.unique(np.concatenate([np.zeros(0, dtype=np.uint64), *parts])))

    @cached_property
    def _table(self) -> NDArray[np.bool_]:
        table = np.zeros(1 << _TABLE_BITS, dtype=bool)
        table[self.members >> np.uint64(64 - _TABLE_BITS)] = True
        return table

    def has(self, hashes: Hashes) -> NDArray[np.bool_]:
        """Which of ``hashes`` are members, ``(T,)``."""
        found: NDArray[np.bool_] = self._table[hashes >> np.uint64(64 - _TABLE_BITS)]
        likely = np.flatnonzero(found)
        at = np.searchsorted(self.members, hashes[likely])
        found[likely] = self.members[np.minimum(at, len(self.members) - 1)] == hashes[likely]
        return found
