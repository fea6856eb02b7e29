"""64-bit hashes of words and of bytes. None is meant to withstand somebody who looks for collisions.

The hash of bytes: they are cut into blocks of 8 (the first byte lowest, the last block filled with zeros), each is
absorbed into a state, the state is finished. For up to 8 bytes it is a bijection: different bytes have different hashes.
The hash of a word is that of the UTF-8 bytes of its characters' lower case, in which ``_`` stands as 0x7F.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mixwright.curate.compiled import borrowing, compiled, inlined
from mixwright.curate.kernels.addresses import place
from mixwright.curate.kernels.bits import eight, highest
from mixwright.curate.kernels.characters import decode

#: changes when the hash of a word does: indexes of earlier runs are then refused
HASH_VERSION = 2
#: fractional part of the golden ratio; two odd constants of the splitmix64 generator (Stafford's variant 13)
SEED, FIRST, SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
#: words hashed at a time, so that what is fetched of them stays in the processor's nearest cache
_TOGETHER = 128
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


@borrowing
def hash_words_between(
    data: Any, base: Any, tail: Any, start: Any, stop: Any, first: Any, last: Any, fold: Any, hashes: Any, room: Any
) -> None:
    """Write the hashes of the words ``first`` to ``last``, which are ``data[start[w]:stop[w]]``; ``room`` is ``word_room()``.

    Their bytes are fetched one word after the other, all else is done for as many words as the processor takes at once.
    """
    heads, rests, odd = room[0], room[1], room[2]
    for w in range(first, last, _TOGETHER):
        size = min(_TOGETHER, last - w)
        for j in range(size):
            address = place(base, tail, len(data), start[np.uint64(w + j)])
            heads[np.uint64(j)], rests[np.uint64(j)] = eight(address), eight(address + 8)
        for j in range(size):
            length = stop[np.uint64(w + j)] - start[np.uint64(w + j)]
            longer = length > 8
            held, more = leading(min(length, 8)), leading(max(min(length, 16) - 8, 1)) if longer else np.uint64(0)
            block, further = heads[np.uint64(j)] & held, rests[np.uint64(j)] & more
            state = absorbed(np.uint64(SEED), block | _small(block) & held)
            after = absorbed(state, further | _small(further) & more)
            hashes[np.uint64(w + j)] = finished(after if longer else state)
            heads[np.uint64(j)], rests[np.uint64(j)] = block, further
            odd[np.uint64(j)] = (block | further) & np.uint64(_HIGH) if length <= 16 else np.uint64(1)
        for j in range(size):
            if odd[np.uint64(j)] != np.uint64(0):
                at = np.uint64(w + j)
                if odd[np.uint64(j)] == np.uint64(1) or cased(heads[np.uint64(j)]) | cased(rests[np.uint64(j)]) != 0:
                    hashes[at] = _folded_hash(data, base, tail, start[at], stop[at], fold)


@inlined
def _small(block: Any) -> Any:
    """The bit that makes a letter small, in every byte of a block that is ASCII."""
    return (~block & np.uint64(_HIGH)) >> np.uint64(2)


@inlined
def cased(block: Any) -> Any:
    """Not 0 if in a block of 8 bytes any may begin a character beyond ASCII that has another lower case.

    Characters whose first byte is D8 to DF, E0, E3 to E9 or EB to ED are of scripts without case.
    """
    e0, e1, e2, e3 = block << np.uint64(7), block << np.uint64(6), block << np.uint64(5), block << np.uint64(4)
    e4, e5 = block << np.uint64(3), block << np.uint64(2)  # bit 7 of every byte is now its bit 4, its bit 5
    caseless = ~(e0 | e1 | e2 | e3) | (~e1 & (e2 | e3)) | (e2 & ~e3) | (~e2 & e1 & e0)
    three_bytes = e5 & ~e4
    two_bytes = ~e5 & ~(e4 & e3)
    return block & (block << np.uint64(1)) & np.uint64(_HIGH) & (two_bytes | (three_bytes & ~caseless) | (e5 & e4))


@compiled
def word_room() -> Any:
    """What ``hash_words_between`` writes to while it works."""
    return np.empty((3, _TOGETHER), np.uint64)


@borrowing
def _folded_hash(data: Any, base: Any, tail: Any, start: Any, stop: Any, fold: Any) -> Any:
    """The hash of a word of any characters and length."""
    state, at = np.uint64(SEED), start
    while at < stop:  # 8 characters at a time, as long as they are ASCII
        held = leading(min(stop - at, 8))
        block = eight(place(base, tail, len(data), at)) & held
        if block & np.uint64(_HIGH) != np.uint64(0):
            break
        state = absorbed(state, (block | np.uint64(_CASE)) & held)
        at += 8
    block, filled = np.uint64(0), 0
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
