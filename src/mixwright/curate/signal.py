"""What a signal is: it measures numbers for every text, and never decides.

codes   (N,) uint32  the code points of all texts of a batch, back to back
starts  (n + 1,) int64  where text i begins in codes; its last entry is N
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import cache, cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from mixwright.core.errors import StudyError
from mixwright.core.find import find, names

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


class Texts:
    """A batch of texts with what signals share, each computed once: code points, word characters, word starts.

    A *word* is a run of characters that are letters, digits or ``_`` in any script: what ``\\w+`` finds in Python.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = texts

    def __len__(self) -> int:
        return len(self._texts)

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Characters of each text, ``(n,)``."""
        return np.array([len(text) for text in self._texts], dtype=np.int64)

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """Where each text begins in ``codes``, and their length, ``(n + 1,)``."""
        return np.concatenate([[0], np.cumsum(self.lengths)])

    @cached_property
    def codes(self) -> NDArray[np.uint32]:
        """The code points of all texts back to back, ``(N,)``."""
        return np.frombuffer("".join(self._texts).encode("utf-32-le", "surrogatepass"), dtype="<u4")

    @cached_property
    def in_word(self) -> Flags:
        """Which characters belong to words, ``(N,)``."""
        return self.which("word", lambda character: character.isalnum() or character == "_")

    @cached_property
    def word_starts(self) -> Flags:
        """Which characters begin a word, ``(N,)``."""
        before = np.zeros_like(self.in_word)
        before[1:] = self.in_word[:-1]
        inner = self.starts[:-1]
        before[inner[inner < len(before)]] = False
        return self.in_word & ~before

    def which(self, name: str, kind: Callable[[str], bool]) -> Flags:
        """Which characters are of a kind, ``(N,)``; the table of all code points is made once per ``name``."""
        if name not in _TABLES:
            _TABLES[name] = np.fromiter(map(kind, map(chr, range(sys.maxunicode + 1))), dtype=bool)
        return _TABLES[name][self.codes]

    def count(self, flags: Flags) -> NDArray[np.int64]:
        """How many characters of each text are flagged, ``(n,)``."""
        before = np.zeros(len(flags) + 1, dtype=np.int64)
        np.cumsum(flags, out=before[1:])
        counts: NDArray[np.int64] = np.diff(before[self.starts])
        return counts


#: kind of character -> whether each code point is of it
_TABLES: dict[str, Flags] = {}


class Signal(ABC):
    """Numbers for every text; subclasses are frozen dataclasses in ``signals/``, named as their file.

    ``columns`` are the names under which thresholds and tables know the numbers.
    """

    columns: ClassVar[tuple[str, ...]]

    @abstractmethod
    def measure(self, texts: Texts) -> dict[str, Floats]:
        """One finite float64 array ``(n,)`` per column, a pure function of each text alone."""


def ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> Floats:
    """``part / whole``, 0 where ``whole`` is 0."""
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)


@cache
def load(extra: tuple[str, ...] = ()) -> dict[str, Signal]:
    """Every built-in or registered signal, and ``extra`` ones (``package.module:Class``): column -> signal.

    Raises StudyError if a plug-in is not a signal, or two measure the same column.
    """
    columns: dict[str, Signal] = {}
    for name in (*names("signals"), *extra):
        made = find("signals", name)()
        if not isinstance(made, Signal):
            raise StudyError(f"The signal {name!r} is not a mixwright.curate.signal.Signal.")
        for column in made.columns:
            if column in columns:
                raise StudyError(f"Two signals measure {column!r}; rename a column of {name!r}.")
            columns[column] = made
    return columns


def measure(texts: Sequence[str], extra: tuple[str, ...] = ()) -> dict[str, Floats]:
    """Every signal of every text: column -> ``(n,)``."""
    shared = Texts(texts)
    measured: dict[str, Floats] = {}
    for signal in dict.fromkeys(load(extra).values()):
        measured |= signal.measure(shared)
    return measured
