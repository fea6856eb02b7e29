"""How much of a text its own n-grams repeat, as the filters of ROOTS and Data-Juicer measure it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mixwright.core.document import mixed
from mixwright.core.errors import StudyError
from mixwright.curate.signal import Floats, Signal, Texts

_Hashes = NDArray[np.uint64]
#: odd multiplier of the rolling hash
_ROLL = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class NgramRepetition(Signal):
    """The repetition filters of ROOTS (Laurençon et al. 2022, arXiv:2303.03915, appendix A), as Data-Juicer has them.

    ``char_ngram_repetition``  occurrences of the most frequent of the text's K distinct ``char_ngram``-grams of characters,
                               of the sqrt(K) most frequent (rounded down) those that occur more than once, / occurrences
    ``word_ngram_repetition``  occurrences of ``word_ngram``-grams of words that occur more than once / occurrences

    Both are 0 for a text without an n-gram. Words are those of ``Texts`` in any case (there: what stands between spaces, tabs
    and line feeds, without punctuation, digits and symbols at its ends). The 64-bit hash of an n-gram is taken for it.

    Cost: 6 MB/s.
    """

    columns = ("char_ngram_repetition", "word_ngram_repetition")
    always = False

    char_ngram: int = 10
    word_ngram: int = 10

    def __post_init__(self) -> None:
        if min(self.char_ngram, self.word_ngram) < 1:
            raise StudyError(f"n-grams have at least one member; got {self.char_ngram} and {self.word_ngram}.")

    def measure(self, texts: Texts) -> dict[str, Floats]:
        first, hashes = texts.word_hashes
        characters = _frequencies(texts.codes.astype(np.uint64), texts.starts, self.char_ngram)
        runs = _frequencies(hashes, first, self.word_ngram)
        return {
            "char_ngram_repetition": np.array([_most_frequent(counts) for counts in characters], dtype=np.float64),
            "word_ngram_repetition": np.array([_repeated(counts) for counts in runs], dtype=np.float64),
        }


def _frequencies(members: _Hashes, first: NDArray[np.int64], n: int) -> list[NDArray[np.int64]]:
    """How often each distinct n-gram of a text occurs, per text; text i has the members ``first[i]`` to ``first[i + 1]``."""
    scrambled = mixed(members)
    grams = np.zeros(max(0, len(members) - n + 1), dtype=np.uint64)
    for place in range(n):
        grams = grams * _ROLL + scrambled[place : place + len(grams)]
    grams = mixed(grams)
    bounds = zip(first[:-1].tolist(), first[1:].tolist(), strict=True)
    return [np.unique(grams[start : max(start, stop - n + 1)], return_counts=True)[1] for start, stop in bounds]


def _most_frequent(counts: NDArray[np.int64]) -> float:
    if not len(counts):
        return 0.0
    most = min(int(np.sqrt(len(counts))), int((counts > 1).sum()))
    return float(np.sort(counts)[len(counts) - most :].sum() / counts.sum())


def _repeated(counts: NDArray[np.int64]) -> float:
    return float(counts[counts > 1].sum() / counts.sum()) if len(counts) else 0.0
