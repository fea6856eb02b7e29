"""Lines found, hashed and cut, compiled by numba; nothing is read outside the arrays.

data (B,) uint8, offsets (n + 1,) int64 as in ``texts.py``. A line ends before a line feed or at the end of its text; what is
compared is the line without bytes up to U+0020 at both ends.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mixwright.curate.compiled import compiled
from mixwright.curate.kernels.bits import eight
from mixwright.curate.kernels.hashing import SEED, absorbed, finished


@compiled
def _line_end(data: Any, at: int, stop: int) -> int:
    while at < stop and data[at] != 10:
        at += 1
    return at


@compiled
def _inner(data: Any, start: int, stop: int) -> Any:
    """Where what is compared of a line begins and ends."""
    while start < stop and data[start] <= 32:
        start += 1
    while stop > start and data[stop - 1] <= 32:
        stop -= 1
    return start, stop


@compiled
def _hash(data: Any, start: int, stop: int) -> Any:
    """The hash of bytes, their number absorbed first, then blocks of 8, the last filled with zeros."""
    state = absorbed(np.uint64(SEED), np.uint64(stop - start))
    at = start
    while at + 8 <= stop:
        state = absorbed(state, eight(data.ctypes.data + at))
        at += 8
    if at < stop:
        block = np.uint64(0)
        for place in range(stop - at):
            block |= np.uint64(data[at + place]) << np.uint64(8 * place)
        state = absorbed(state, block)
    return finished(state)


@compiled
def _characters(data: Any, start: int, stop: int) -> int:
    count = 0
    for at in range(start, stop):
        count += (data[at] & 0xC0) != 0x80
    return count


@compiled
def hash_lines(data: Any, offsets: Any, least: int) -> Any:
    """The hashes of lines of at least ``least`` characters, the text each stands in (from 0), and whether each text has a
    shorter line that is not blank, ``(n,)``."""
    texts, room = len(offsets) - 1, 1024
    hashes, of = np.empty(room, np.uint64), np.empty(room, np.int64)
    short = np.zeros(texts, np.bool_)
    count = 0
    for i in range(texts):
        at, stop = offsets[i], offsets[i + 1]
        while at < stop:
            end = _line_end(data, at, stop)
            first, last = _inner(data, at, end)
            if last > first:
                if last - first >= least and _characters(data, first, last) >= least:
                    if count == room:
                        room *= 2
                        more, more_of = np.empty(room, np.uint64), np.empty(room, np.int64)
                        more[:count], more_of[:count] = hashes, of
                        hashes, of = more, more_of
                    hashes[count], of[count] = _hash(data, first, last), i
                    count += 1
                else:
                    short[i] = True
            at = end + 1
    return hashes[:count].copy(), of[:count].copy(), short


@compiled
def cut_lines(data: Any, offsets: Any, least: int, cuts: Any, first: Any) -> Any:
    """The texts without the lines that are to be cut: bytes, offsets, and how many characters went, line feeds included.

    ``cuts[first[i]:first[i + 1]]`` are the ascending hashes of the lines to cut out of text i. A line goes with the line feed
    behind it, the last one with that before it.
    """
    texts = len(offsets) - 1
    out = np.empty(len(data), np.uint8)
    begins, gone = np.zeros(texts + 1, np.int64), np.zeros(texts, np.int64)
    size = 0
    for i in range(texts):
        at, stop, wanted = offsets[i], offsets[i + 1], cuts[first[i] : first[i + 1]]
        begin = size
        if len(wanted) == 0:
            out[size : size + stop - at] = data[at:stop]
            size += stop - at
            at = stop
        while at < stop:
            end = _line_end(data, at, stop)
            start, last = _inner(data, at, end)
            after = min(end + 1, stop)
            cut = False
            if last - start >= least and _characters(data, start, last) >= least:
                value = _hash(data, start, last)
                place = np.searchsorted(wanted, value)
                cut = place < len(wanted) and wanted[place] == value
            if cut:
                gone[i] += _characters(data, at, after)
                if after == stop and end == stop and size > begin and out[size - 1] == 10:
                    size -= 1
                    gone[i] += 1
            else:
                out[size : size + after - at] = data[at:after]
                size += after - at
            at = after
        begins[i + 1] = size
    return out[:size].copy(), begins, gone
