"""Which texts share an n-gram of words with others: how targets are kept apart from training text.

Words are those of ``Texts.words``: lower-cased, each character of a script without spaces a word of its own. An n-gram is
the polynomial of its words' 64-bit hashes, mixed. Two n-grams of different words meet with probability 2^-64, so among
10^12 pairs 5e-8 false meetings are expected; n-grams that only rearrange the same few words lose some of the 64 bits (at
most 14 for n <= 16), since differences of powers of the base are even.

T       number of n-grams of a batch of texts
hashes  (T,) uint64
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixwright.curate.texts import Texts

Hashes = NDArray[np.uint64]
Numbers = NDArray[np.int64]
#: flags (bits) a member of a set: one look in memory that is near says no to all but 1 in 16 others
_FLAGS_PER_MEMBER = 16
_LEAST_FLAGS = 1 << 16


@dataclass(frozen=True)
class Grams:
    """Some n-grams of a batch of texts: ``hashes``, and for each the number of its ``text`` and its first ``word`` there."""

    hashes: Hashes
    text: Numbers
    word: Numbers


def ngrams(texts: Texts | Sequence[str], n: int) -> Grams:
    """Every run of ``n`` words of every text, in order. Cost beside ``Texts.word_hashes``: about 2 ns and 24 bytes a word."""
    from mixwright.curate.gram_kernels import grams

    return Grams(*grams(*_texts(texts).word_hashes, n))


def words(text: str, first: int, n: int) -> str:
    """``n`` words of a text from number ``first`` on, as they are compared."""
    whole = Texts([text])
    ends = zip(whole.words.start[first : first + n].tolist(), whole.words.stop[first : first + n].tolist(), strict=True)
    return " ".join(_lower(whole.data[start:stop].tobytes().decode("utf-8", "replace")) for start, stop in ends)


def _lower(word: str) -> str:
    """Character by character; one whose lower case is several characters stays as it is."""
    return "".join(small if len(small := character.lower()) == 1 else character for character in word)


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
    """A set of n-gram hashes, ``members`` sorted and distinct, that is asked about many others.

    Memory beside the members: 8 to 20 bytes each. Cost of asking: about 1 ns where the answer is no.
    """

    members: Hashes

    @classmethod
    def of(cls, *parts: Hashes) -> HashSet:
        """The union of some arrays."""
        return cls(np.unique(np.concatenate([np.zeros(0, dtype=np.uint64), *parts])))

    def has(self, hashes: Hashes) -> NDArray[np.bool_]:
        """Which of ``hashes`` are members, ``(T,)``."""
        return self.numbers(hashes) >= 0

    def numbers(self, hashes: Hashes) -> Numbers:
        """Which member each of ``hashes`` is, -1 where none, ``(T,)``."""
        from mixwright.curate.gram_kernels import numbers_of

        # compiled code has one version, for arrays that are not read-only
        found: Numbers = numbers_of(np.require(hashes, np.uint64, ["C", "W"]), *self._table)
        return found

    def grams(self, texts: Texts | Sequence[str], n: int) -> Grams:
        """Those n-grams of the texts that are members, in order. Cost beside ``Texts.word_hashes``: about 2 ns a word."""
        number, text, word = self.found(texts, n)
        return Grams(self.members[number], text, word)

    def found(self, texts: Texts | Sequence[str], n: int) -> tuple[Numbers, Numbers, Numbers]:
        """As ``grams``: number of the member, of the text, and of the first word in it."""
        from mixwright.curate.gram_kernels import member_grams

        first, hashes = _texts(texts).word_hashes
        number, text, word = member_grams(first, hashes, n, *self._table)
        return number, text, word

    @cached_property
    def _table(self) -> tuple[Any, Any, int, Any]:
        """``members``, ``flags``, ``shift`` and ``slots`` of ``gram_kernels``."""
        from mixwright.curate.gram_kernels import fill

        members = self.members.view()
        members.flags.writeable = False  # one compiled version for arrays in memory and mapped files
        bits = (max(_LEAST_FLAGS, _FLAGS_PER_MEMBER * len(members)) - 1).bit_length()
        flags = np.zeros((1 << bits) // 8, dtype=np.uint8)
        slots = np.full(1 << (3 * len(members) // 2).bit_length(), -1, dtype=np.int32)
        fill(members, flags, 64 - bits, slots)
        return members, flags, 64 - bits, slots


def _texts(texts: Texts | Sequence[str]) -> Texts:
    return texts if isinstance(texts, Texts) else Texts(texts)
