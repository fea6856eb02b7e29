"""Where words begin and end in UTF-8 bytes, and their hashes.

data     (B,) uint8, offsets (n + 1,) int64 as in ``texts.py``
masks    uint64, bit j about byte j of a block of 64 bytes
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixwright.curate.compiled import compiled
from mixwright.curate.kernels.bits import lowest, within
from mixwright.curate.kernels.characters import UNSPACED, WORD, decode, folded, tables
from mixwright.curate.kernels.hashing import word_hash

_ALL = 0xFFFFFFFFFFFFFFFF


def find_words(data: NDArray[np.uint8], offsets: NDArray[np.int64]) -> tuple[Any, Any, Any, Any]:
    """``first`` (n + 1,), ``start``, ``stop``, ``hashes`` (W,) of the words of a batch."""
    first, start, stop, hashes = _find_words(frozen(data), offsets, tables()[0], folded())
    return first, start, stop, hashes


def frozen(data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The same bytes, contiguous and read-only, so that kernels are compiled for one type."""
    view = np.ascontiguousarray(data).view()
    view.flags.writeable = False
    return view


@compiled
def padded_end(data: Any) -> Any:
    """The last 64 bytes (fewer if there are none) and 128 zeros after them: where blocks that reach over the end are read."""
    end = np.zeros(192, np.uint8)
    count = min(64, len(data))
    end[:count] = data[len(data) - count :]
    return end


@compiled
def place(data: Any, end: Any, at: Any) -> Any:
    """An address at which byte ``at`` of the data is followed by 63 readable ones."""
    if at + 64 <= len(data):
        return data.ctypes.data + at
    return end.ctypes.data + at - (len(data) - min(64, len(data)))


@compiled
def _find_words(data: Any, offsets: Any, flags: Any, fold: Any) -> Any:
    n = len(offsets) - 1
    room = (len(data) + n) // 2 + 1  # two words are a byte apart, or their characters take three bytes each
    first = np.zeros(n + 1, np.int64)
    start, stop, hashes = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.uint64)
    end = padded_end(data)
    count = 0
    for i in range(n):
        count = _edges(data, end, offsets[i], offsets[i + 1], flags, start, stop, count)
        first[i + 1] = count
    for w in range(count):
        hashes[w] = word_hash(place(data, end, start[w]), data, start[w], stop[w], fold)
    return first, start[:count], stop[:count], hashes[:count]


@compiled
def _edges(data: Any, end: Any, at: Any, last: Any, flags: Any, start: Any, stop: Any, count: Any) -> Any:
    """Write where the words of ``data[at:last]`` begin and end from ``count`` on; returns how many there are then."""
    one, zero = np.uint64(1), np.uint64(0)
    began, ended = count, count
    inside = word_over = cut_over = zero
    over = 0
    while at < last:
        address = place(data, end, at)
        size = min(64, last - at)
        valid = np.uint64(_ALL) >> np.uint64(64 - size)
        word = within(address, np.uint8(97), np.uint8(25)) | within(address, np.uint8(65), np.uint8(25))
        word |= within(address, np.uint8(48), np.uint8(9)) | within(address, np.uint8(95), np.uint8(0))
        high = within(address, np.uint8(128), np.uint8(127)) & valid
        word = (word & valid) | word_over
        cut = cut_over
        word_over = cut_over = zero
        high = high >> np.uint64(over) << np.uint64(over)
        over = 0
        while high != zero:
            j = lowest(high)
            code, width = decode(data, at + j, last)
            kind = flags[code]
            run = (one << np.uint64(width)) - one
            high &= ~(run << np.uint64(j))
            past = max(0, j + width - 64)
            over = past
            if kind & WORD:
                word |= run << np.uint64(j)
                word_over = (one << np.uint64(past)) - one
                if kind & UNSPACED:
                    cut |= one << np.uint64(j)
                    if j + width < 64:
                        cut |= one << np.uint64(j + width)
                    else:
                        cut_over = one << np.uint64(past)
        before = word << one | inside
        begins, ends = word & (~before | cut), before & (~word | cut)
        inside = word >> np.uint64(63)
        while begins != zero:
            start[began] = at + lowest(begins)
            began += 1
            begins &= begins - one
        while ends != zero:
            stop[ended] = at + lowest(ends)
            ended += 1
            ends &= ends - one
        at += size
    if ended < began:
        stop[ended] = last
    return began
