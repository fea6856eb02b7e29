"""64-bit hashes of words and of bytes. None is meant to withstand somebody who looks for collisions.

The hash of bytes: they are cut into blocks of 8 (the first byte lowest, the last block filled with zeros), each is
absorbed into a state, the state is finished. For up to 8 bytes it is a bijection: different bytes have different hashes.
The hash of a word is that of the UTF-8 bytes of its characters' lower case, in which ``_`` stands as 0x7F.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mixwright.curate.compiled import borrowing, inlined
from mixwright.curate.kernels.addresses import place
from mixwright.curate.kernels.bits import eight, highest
from mixwright.curate.kernels.characters import decode

#: changes when the hash of a word does: indexes of earlier runs are then refused
HASH_VERSION = 2
#: fractional part of the golden ratio; two odd constants of the splitmix64 generator (Stafford's variant 13)
SEED, FIRST, SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_ALL, _HIGH, _CASE = 0xFFFFFFFFFFFFFFFF, 0x8080808080808080, 0x2020202020202020


@borrowing
def mixed(value: Any) -> Any:
    """The finalizer of the splitmix64 generator (Stafford's variant 13)."""
    value = np.uint64(value)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@inlined
def absorbed(state: Any, block: Any) -> Any:
    """The state after one more block of 8 bytes."""
    state = (state ^ block) * np.uint64(FIRST)
    return state ^ (state >> np.uint64(32))


@inlined
def finished(state: Any) -> Any:
    """The hash a state stands for."""
    state = state * np.uint64(SECOND)
    return state ^ (state >> np.uint64(29))


@inlined
def leading(count: Any) -> Any:
    """The mask of the first ``count`` (1 to 8) bytes of a block."""
    return np.uint64(_ALL) >> np.uint64(64 - 8 * count)


@inlined
def word_hash(address: Any, data: Any, start: Any, stop: Any, fold: Any) -> Any:
    """The hash of the word in ``data[start:stop]``, which stands at ``address``, 16 readable bytes at least."""
    length = stop - start
    ends, more = min(length, 16), length > 8
    first, second = leading(min(ends, 8)), leading(max(ends - 8, 1))
    one, two = eight(address) & first, eight(address + 8) & second
    if length > 16 or (one | (two if more else np.uint64(0))) & np.uint64(_HIGH) != 0:
        return _folded_hash(data, start, stop, fold)
    state = absorbed(np.uint64(SEED), (one | np.uint64(_CASE)) & first)
    longer = absorbed(state, (two | np.uint64(_CASE)) & second)
    return finished(longer if more else state)


@borrowing
def _folded_hash(data: Any, start: Any, stop: Any, fold: Any) -> Any:
    """The hash of a word of any characters and length."""
    state, block, filled = np.uint64(SEED), np.uint64(0), 0
    at = start
    while at < stop:
        byte = data[np.uint64(at)]
        if byte < 0x80:
            packed, width = np.uint64(byte | 0x20), 1
        else:
            code, width = decode(data, at, stop)
            packed = np.uint64(fold[code])
        at += width
        size = 1 + (highest(packed) >> 3)
        block |= packed << np.uint64(8 * filled)
        filled += size
        if filled >= 8:
            state = absorbed(state, block)
            filled -= 8
            block = packed >> np.uint64(8 * (size - filled)) if filled else np.uint64(0)
    return finished(absorbed(state, block) if filled else state)


@inlined
def bytes_hash(base: Any, tail: Any, size: Any, start: Any, stop: Any) -> Any:
    """The hash of bytes ``start`` to ``stop`` of ``size``; their number is absorbed too, for bytes may be zero."""
    state = absorbed(np.uint64(SEED), np.uint64(stop - start))
    at = start
    while at + 8 <= stop:
        state = absorbed(state, eight(base + at))
        at += 8
    if at < stop:
        state = absorbed(state, eight(place(base, tail, size, at)) & leading(stop - at))
    return finished(state)
