"""Loops over the hashes of words, compiled by numba: n-grams, and which of them belong to a set.

W        number of words of a batch
first    (n + 1,) int64, hashes (W,) uint64  as in ``texts.Words``
members  (M,) uint64  sorted, distinct
flags    (2^f / 8,) uint8  bit h >> (64 - f) is set for every member h; shift is 64 - f
slots    (2^s,) int32  an open-addressed table of numbers of members, -1 where free
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mixwright.curate.compiled import compiled
from mixwright.curate.kernels import mixed

#: an n-gram is sum_j w_j B^(n-1-j) mod 2^64 over the hashes w of its words; B = 3 mod 8 keeps B^k - 1 nearly odd
BASE = 0xD1B54A32D192ED03


@compiled
def power(n: int) -> Any:
    """``B^(n - 1)`` mod 2^64."""
    value = np.uint64(1)
    for _ in range(n - 1):
        value *= np.uint64(BASE)
    return value


@compiled
def fill(members: Any, flags: Any, shift: int, slots: Any) -> None:
    """Enter ``members`` into ``flags`` (zeros before) and ``slots`` (-1 before)."""
    mask = np.uint64(len(slots) - 1)
    for number in range(len(members)):
        flag = members[number] >> np.uint64(shift)
        flags[flag >> np.uint64(3)] |= np.uint8(1 << (flag & np.uint64(7)))
        slot = members[number] & mask
        while slots[slot] >= 0:
            slot = (slot + np.uint64(1)) & mask
        slots[slot] = number


@compiled
def number_of(value: Any, members: Any, flags: Any, shift: int, slots: Any) -> Any:
    """Which member ``value`` is, -1 if none."""
    flag = value >> np.uint64(shift)
    if not (flags[flag >> np.uint64(3)] >> (flag & np.uint64(7))) & np.uint64(1):
        return np.int64(-1)
    mask = np.uint64(len(slots) - 1)
    slot = value & mask
    while slots[slot] >= 0:
        if members[slots[slot]] == value:
            return np.int64(slots[slot])
        slot = (slot + np.uint64(1)) & mask
    return np.int64(-1)


@compiled
def numbers_of(values: Any, members: Any, flags: Any, shift: int, slots: Any) -> Any:
    """Which member each of ``values`` is, -1 if none."""
    found = np.empty(len(values), np.int64)
    for at in range(len(values)):
        found[at] = number_of(values[at], members, flags, shift, slots)
    return found


@compiled
def grams(first: Any, hashes: Any, n: int) -> Any:
    """Hash, text and first word within the text of every n-gram of a batch."""
    room = 0
    for i in range(len(first) - 1):
        room += max(first[i + 1] - first[i] - n + 1, 0)
    values, texts, words = np.empty(room, np.uint64), np.empty(room, np.int64), np.empty(room, np.int64)
    highest, at = power(n), 0
    for i in range(len(first) - 1):
        value = np.uint64(0)
        for w in range(first[i], first[i + 1]):
            if w - first[i] >= n:
                value -= hashes[w - n] * highest
            value = value * np.uint64(BASE) + hashes[w]
            if w - first[i] >= n - 1:
                values[at], texts[at], words[at] = mixed(value), i, w - first[i] - n + 1
                at += 1
    return values, texts, words


@compiled
def member_grams(first: Any, hashes: Any, n: int, members: Any, flags: Any, shift: int, slots: Any) -> Any:
    """Number of the member, text and first word within the text of every n-gram of a batch that is a member."""
    room = 0
    for i in range(len(first) - 1):
        room += max(first[i + 1] - first[i] - n + 1, 0)
    numbers, texts, words = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.int64)
    highest, at = power(n), 0
    for i in range(len(first) - 1):
        value = np.uint64(0)
        for w in range(first[i], first[i + 1]):
            if w - first[i] >= n:
                value -= hashes[w - n] * highest
            value = value * np.uint64(BASE) + hashes[w]
            if w - first[i] >= n - 1:
                number = number_of(mixed(value), members, flags, shift, slots)
                if number >= 0:
                    numbers[at], texts[at], words[at] = number, i, w - first[i] - n + 1
                    at += 1
    return numbers[:at].copy(), texts[:at].copy(), words[:at].copy()
