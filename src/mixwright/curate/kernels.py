"""Loops over UTF-8 bytes, compiled by numba; they release the GIL and never read outside their arrays.

data     (B,) uint8, offsets (n + 1,) int64 as in ``texts.py``
WORD ... flags of a code point
"""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixwright.curate.compiled import compiled

#: changes when the hash of a word does: indexes of earlier runs are then refused
HASH_VERSION = 1
WORD, SPACE, UNSPACED = 1, 2, 4
#: code points of scripts that are written without spaces between words (Unicode 15 blocks)
UNSPACED_BLOCKS = (
    (0x0E00, 0x0EFF), (0x0F00, 0x0FFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x1950, 0x19DF), (0x1A20, 0x1AAF),
    (0x2E80, 0x2FDF), (0x3005, 0x3007), (0x3021, 0x3029), (0x3031, 0x3035), (0x3040, 0x30FF), (0x31F0, 0x31FF),
    (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xAA60, 0xAA7F), (0xF900, 0xFAFF), (0xFF66, 0xFF9F), (0x1AFF0, 0x1B16F),
    (0x20000, 0x3FFFF),
)  # fmt: skip


@cache
def tables() -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
    """Flags and the lower-case code point of every code point (itself where lower case is several)."""
    flags = np.zeros(sys.maxunicode + 1, dtype=np.uint8)
    lower = np.arange(sys.maxunicode + 1, dtype=np.uint32)
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        if character.isalnum() or character == "_":
            flags[code] |= WORD
        elif character.isspace():
            flags[code] |= SPACE
        small = character.lower()
        if len(small) == 1:
            lower[code] = ord(small)
    for start, stop in UNSPACED_BLOCKS:
        block = flags[start : stop + 1]
        block[(block & WORD) > 0] |= UNSPACED
    return flags, lower


@compiled
def decode(data: Any, at: int, stop: int) -> Any:
    """The code point at ``at`` and its length in bytes; a byte that begins none is itself, of length 1."""
    first = data[at]
    if first < 0x80:
        return np.uint32(first), 1
    if 0xC0 <= first < 0xE0 and at + 1 < stop:
        return np.uint32((first & 0x1F) << 6 | (data[at + 1] & 0x3F)), 2
    if 0xE0 <= first < 0xF0 and at + 2 < stop:
        return np.uint32(np.uint32(first & 0x0F) << 12 | np.uint32(data[at + 1] & 0x3F) << 6 | (data[at + 2] & 0x3F)), 3
    if 0xF0 <= first < 0xF5 and at + 3 < stop:
        code = (
            np.uint32(first & 0x07) << 18
            | np.uint32(data[at + 1] & 0x3F) << 12
            | np.uint32(data[at + 2] & 0x3F) << 6
            | np.uint32(data[at + 3] & 0x3F)
        )
        return min(code, np.uint32(0x10FFFF)), 4
    return np.uint32(first), 1


@compiled
def mixed(value: Any) -> Any:
    """The finalizer of the splitmix64 generator (Stafford's variant 13)."""
    value = np.uint64(value)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def find_words(data: NDArray[np.uint8], offsets: NDArray[np.int64]) -> tuple[Any, Any, Any, Any]:
    """``first``, ``start``, ``stop``, ``hashes`` of the words of a batch."""
    first, start, stop, hashes = _find_words(data, offsets, *tables())
    return first, start, stop, hashes


@compiled
def _find_words(data: Any, offsets: Any, flags: Any, lower: Any) -> Any:
    n = len(offsets) - 1
    room = len(data) + 1
    first = np.zeros(n + 1, np.int64)
    start = np.empty(room, np.int64)
    stop = np.empty(room, np.int64)
    hashes = np.empty(room, np.uint64)
    count = 0
    for i in range(n):
        at, end = offsets[i], offsets[i + 1]
        inside = False
        value = np.uint64(0)
        while at < end:
            code, width = decode(data, at, end)
            kind = flags[code]
            if kind & WORD:
                if inside and kind & UNSPACED:
                    stop[count], hashes[count] = at, mixed(value)
                    count += 1
                    inside = False
                if not inside:
                    inside = True
                    start[count] = at
                    value = np.uint64(0x9E3779B97F4A7C15)
                value = (value ^ np.uint64(lower[code])) * np.uint64(0x100000001B3)
                value ^= value >> np.uint64(29)
                if kind & UNSPACED:
                    stop[count], hashes[count] = at + width, mixed(value)
                    count += 1
                    inside = False
            elif inside:
                stop[count], hashes[count] = at, mixed(value)
                count += 1
                inside = False
            at += width
        if inside:
            stop[count], hashes[count] = end, mixed(value)
            count += 1
        first[i + 1] = count
    return first, start[:count].copy(), stop[:count].copy(), hashes[:count].copy()
