"""Words, lines and all counts of every text, a text after the other, so that what one needs stays in the processor's cache.

data, offsets, lines, row as in ``scanning.py``; a text has m words and L lines
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixwright.curate import counts as c
from mixwright.curate.compiled import compiled
from mixwright.curate.kernels.addresses import frozen
from mixwright.curate.kernels.characters import folded, tables
from mixwright.curate.kernels.hashing import word_room
from mixwright.curate.kernels.lines import count_lines, line_space
from mixwright.curate.kernels.repetition import count_grams, gram_space
from mixwright.curate.kernels.scanning import hash_of_words, line_feeds, scan_text, stop_words

#: room for words and lines that is made before a text needs more
_LEAST = 1024


def count(data: NDArray[np.uint8], offsets: NDArray[np.int64]) -> tuple[Any, Any, Any]:
    """``first`` (n + 1,) and ``hashes`` (W,) of the words, and the counts (n, K)."""
    found: tuple[Any, Any, Any] = _count(*frozen(data), offsets, tables()[0], folded(), *stop_words())
    return found


@compiled
def _count(data: Any, tail: Any, offsets: Any, flags: Any, fold: Any, stops: Any, shift: Any) -> Any:
    n = len(offsets) - 1
    base, end = np.int64(data.ctypes.data), np.int64(tail.ctypes.data)
    first, counts = np.zeros(n + 1, np.int64), np.zeros((n, len(c.NAMES)), np.int64)
    # two words are a byte apart, or their characters take three bytes each
    hashes = np.empty((len(data) + n) // 2 + 4, np.uint64)
    start, stop = np.empty(_LEAST, np.int64), np.empty(_LEAST, np.int64)
    lines, line_room, line_number = np.empty(8 * _LEAST, np.int64), line_space(_LEAST), 1
    room, slots = gram_space(_LEAST)
    number, words = 1, word_room()
    for i in range(n):
        begin, last, row = offsets[i], offsets[i + 1], counts[i]
        most = (last - begin) // 2 + 5
        if most > len(start):
            start, stop = np.empty(most, np.int64), np.empty(most, np.int64)
        most = line_feeds(data, base, end, begin, last) + 1
        if 8 * most > len(lines):
            lines, line_room, line_number = np.empty(8 * most, np.int64), line_space(most), 1
        m, k = scan_text(data, base, end, begin, last, flags, row, start, stop, 0, lines, 0)
        first[i + 1] = first[i] + m
        own = hashes[first[i] : first[i + 1]]
        hash_of_words(data, base, end, start, stop, 0, m, fold, own, words, stops, shift, row)
        source = (base, end, len(data), row[c.CHARS] == last - begin)
        line_number = count_lines(source, data, lines[: 8 * k].reshape(k, 8), flags, line_room, line_number, row)
        if m > len(room[0]):
            room, slots = gram_space(m)
            number = 1
        number = count_grams(source, start, stop, own, room, slots, number, row)
    return first, hashes[: first[n]], counts
