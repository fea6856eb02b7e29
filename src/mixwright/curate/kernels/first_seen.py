"""A hash table that is never cleared, for keys of one short list after the other.

slots    (2^b,) int32, zeros at first; entry ``base + at`` says that position ``at`` of the list holds a key for the first
         time, entries below ``base`` are of earlier lists
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mixwright.curate.compiled import compiled, inlined


@compiled
def new_slots(most: Any) -> Any:
    """Slots for lists of up to ``most`` keys."""
    return np.zeros(1 << bits_for(most), np.int32)


@inlined
def bits_for(count: Any) -> Any:
    """How many bits of a hash pick the slot in a list of ``count`` keys: at most half of the slots are taken."""
    bits = 4
    while 1 << bits < 2 * count:
        bits += 1
    return bits


@inlined
def next_base(slots: Any, base: Any, count: Any) -> Any:
    """The base of a list of ``count`` keys after one with ``base`` and as many; the first is 1."""
    if base + 2 * count < 2**31 - 1:
        return base + count
    slots[:] = 0
    return 1


@inlined
def first_seen(slots: Any, base: Any, bits: Any, keys: Any, at: Any, key: Any) -> Any:
    """Where the list holds ``key`` first; ``at``, and it is entered there, if nowhere before. ``key`` is well mixed.

    Without a branch on whether a slot is taken, which no processor can guess.
    """
    keys[np.uint64(at)] = key
    slot = np.int64(key >> np.uint64(64 - bits))
    found = np.int64(slots[np.uint64(slot)]) - base
    found = at if found < 0 else found
    while keys[np.uint64(found)] != key:
        slot = (slot + 1) & ((1 << bits) - 1)
        found = np.int64(slots[np.uint64(slot)]) - base
        found = at if found < 0 else found
    slots[np.uint64(slot)] = base + found
    return found
