"""A batch of texts as Arrow holds them, with what signals share, each computed once.

data     (B,) uint8  the UTF-8 bytes of all texts, back to back
offsets  (n + 1,) int64  where text i begins in data; its last entry is B
codes    (N,) uint32  the code points of all texts, back to back
starts   (n + 1,) int64  where text i begins in codes
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mixwright.core.lazy import lazy
from mixwright.curate.counts import NAMES

if TYPE_CHECKING:
    import pyarrow as pa

Flags = NDArray[np.bool_]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Words:
    """The words of a batch: word w of text i has ``first[i] <= w < first[i + 1]``.

    ``start`` and ``stop`` (W,) are its bytes in ``data``, ``hashes`` (W,) uint64 the hash of its lower-cased characters: a
    pure function of them, the same in every version of mixwright with the same ``kernels.HASH_VERSION``.
    """

    first: Counts
    start: Counts
    stop: Counts
    hashes: NDArray[np.uint64]


class Texts:
    """A batch of texts. Built from Arrow strings without a copy, or from a sequence of ``str``.

    A *word* is a run of characters that are letters, digits or ``_`` in any script (what ``\\w+`` finds in Python); in
    scripts that put no space between words (Han, Kana, Thai, Lao, Khmer, Myanmar, Tibetan ...) each character is one.
    A *line* ends at a line feed, a *paragraph* is lines between blank ones, a *piece* stands between white space, a
    *sentence* as ``signals/c4.py`` says.
    ``prompts`` and ``responses`` are the two halves of instruction rows, None where a source has none.
    """

    def __init__(
        self, texts: Sequence[str] | pa.Array, *, prompts: pa.Array | None = None, responses: pa.Array | None = None
    ) -> None:
        self.prompts, self.responses = prompts, responses
        self.data, self.offsets, self._arrow = _buffers(texts)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __iter__(self) -> Iterator[str]:
        for start, stop in zip(self.offsets[:-1].tolist(), self.offsets[1:].tolist(), strict=True):
            yield self.data[start:stop].tobytes().decode("utf-8", "surrogatepass")

    @lazy
    def bytes(self) -> Counts:
        """UTF-8 bytes of each text, ``(n,)``."""
        return np.diff(self.offsets)

    @lazy
    def _counted(self) -> tuple[Counts, NDArray[np.uint64], Counts]:
        from mixwright.curate.kernels import count

        return count(self.data, self.offsets)

    @lazy
    def words(self) -> Words:
        """Where words begin and end, and their hashes. About 800 MB/s."""
        from mixwright.curate.kernels import find_words

        return Words(*find_words(self.data, self.offsets))

    @lazy
    def word_hashes(self) -> tuple[Counts, NDArray[np.uint64]]:
        """``first`` and ``hashes`` of ``words``. About 1 GB/s; nothing after ``counts``, so ask for those first."""
        from mixwright.curate.kernels import hash_words

        return self._counted[:2] if "_counted" in self.__dict__ else hash_words(self.data, self.offsets)

    @property
    def counts(self) -> Counts:
        """What ``counts.NAMES`` are of every text, ``(n, len(NAMES))``. About 190 MB/s with ``word_hashes``."""
        return self._counted[2]

    def counted(self, name: str) -> Counts:
        """One column of ``counts``, ``(n,)``."""
        return self.counts[:, NAMES.index(name)]

    @lazy
    def lengths(self) -> Counts:
        """Characters of each text, ``(n,)``."""
        return np.diff(self.starts)

    @lazy
    def _begins(self) -> Flags:
        begins: Flags = (self.data & 0xC0) != 0x80
        return begins

    @lazy
    def starts(self) -> Counts:
        """Where each text begins in ``codes``, and their length, ``(n + 1,)``."""
        before = np.zeros(len(self.data) + 1, dtype=np.int64)
        np.cumsum(self._begins, out=before[1:])
        return before[self.offsets]

    @lazy
    def codes(self) -> NDArray[np.uint32]:
        """The code points of all texts back to back, ``(N,)``."""
        content = self.data.tobytes().decode("utf-8", "surrogatepass")
        return np.frombuffer(content.encode("utf-32-le", "surrogatepass"), dtype="<u4")

    @lazy
    def in_word(self) -> Flags:
        """Which characters belong to words, ``(N,)``."""
        return self.which("word", lambda character: character.isalnum() or character == "_")

    @lazy
    def word_starts(self) -> Flags:
        """Which characters begin a run of word characters, ``(N,)``."""
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

    def count(self, flags: Flags) -> Counts:
        """How many characters of each text are flagged, ``(n,)``."""
        before = np.zeros(len(flags) + 1, dtype=np.int64)
        np.cumsum(flags, out=before[1:])
        return np.diff(before[self.starts])


#: kind of character -> whether each code point is of it
_TABLES: dict[str, Flags] = {}


def _buffers(texts: Any) -> tuple[NDArray[np.uint8], Counts, Any]:
    """Bytes, offsets, and the Arrow array that owns them (None for a sequence of ``str``)."""
    if not hasattr(texts, "buffers"):
        encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
        offsets = np.zeros(len(encoded) + 1, dtype=np.int64)
        np.cumsum([len(one) for one in encoded], out=offsets[1:])
        return np.frombuffer(b"".join(encoded), dtype=np.uint8), offsets, None
    import pyarrow as pa

    if not pa.types.is_large_string(texts.type):
        texts = texts.cast(pa.large_string())
    _, places, content = texts.buffers()
    at = np.frombuffer(places, dtype=np.int64)[texts.offset : texts.offset + len(texts) + 1] if places else np.zeros(1)
    at = at.astype(np.int64, copy=False)
    whole = np.frombuffer(content, dtype=np.uint8) if content is not None and content.size else np.zeros(0, np.uint8)
    return whole[at[0] : at[-1]], at - at[0], texts
