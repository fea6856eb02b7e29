"""Windows of words that stand elsewhere too, found, and cut out, compiled by numba.

words   (W,) uint64, first (n + 1,) int64 as in ``texts.py``
w       words in a window: what is cut is made of windows; a text of fewer has none
mark    of a window: the least hash of the q-word shingles in it, q = w // 2; equal windows have equal marks (local minima of
        hashes: winnowing, Schleimer, Wilkerson and Aiken 2003, section 2)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mixwright.curate.compiled import compiled
from mixwright.curate.dedup.kernels import shingles


@compiled
def _has(ascending: Any, value: Any) -> bool:
    """Hashes are even, so that a few of them are looked through from where ``value`` should stand."""
    count = len(ascending)
    if count > 4096:
        place = np.searchsorted(ascending, value)
    else:
        place = np.int64((value >> np.uint64(32)) * np.uint64(count) >> np.uint64(32))
        while place > 0 and ascending[place - 1] >= value:
            place -= 1
        while place < count and ascending[place] < value:
            place += 1
    return bool(place < len(ascending) and ascending[place] == value)


@compiled
def _least(values: Any, count: int, width: int, out: Any) -> None:
    """Where the least of ``width`` values from each on stands, the last of equal ones, into ``out`` (count - width + 1,)."""
    best: Any = np.int64(-1)
    for at in range(count - width + 1):
        if best < at:
            best = at
            for place in range(at + 1, at + width):
                if values[place] <= values[best]:
                    best = place
        elif values[at + width - 1] <= values[best]:
            best = at + width - 1
        out[at] = best


@compiled
def marks(words: Any, first: Any, w: int) -> Any:
    """The marks of all windows, those of neighbours once, and the text of each, ``(m,)`` both."""
    q = max(1, w // 2)
    longest = np.int64(1)
    for i in range(len(first) - 1):
        longest = max(longest, first[i + 1] - first[i])
    grams, least = np.empty(longest, np.uint64), np.empty(longest, np.int64)
    size = np.int64(0)
    out, of = np.empty(max(1, len(words)), np.uint64), np.empty(max(1, len(words)), np.uint32)
    for i in range(len(first) - 1):
        count = first[i + 1] - first[i]
        if count < w:
            continue
        made = shingles(words, first[i], first[i + 1], q, grams)
        _least(grams, made, w - q + 1, least)
        for at in range(count - w + 1):
            if at == 0 or least[at] != least[at - 1]:
                out[size], of[size] = grams[least[at]], i
                size += 1
    return out[:size].copy(), of[:size].copy()


@compiled
def windows(words: Any, first: Any, w: int, shared: Any) -> Any:
    """The windows whose mark is among ``shared``, ascending: the hash of each, its text, and its first word in that."""
    q = max(1, w // 2)
    longest = np.int64(1)
    for i in range(len(first) - 1):
        longest = max(longest, first[i + 1] - first[i])
    grams, whole, least = np.empty(longest, np.uint64), np.empty(longest, np.uint64), np.empty(longest, np.int64)
    room = max(1, len(words))
    out, of, places = np.empty(room, np.uint64), np.empty(room, np.uint32), np.empty(room, np.uint32)
    size = np.int64(0)
    for i in range(len(first) - 1):
        count = first[i + 1] - first[i]
        if count < w:
            continue
        made = shingles(words, first[i], first[i + 1], q, grams)
        shingles(words, first[i], first[i + 1], w, whole)
        _least(grams, made, w - q + 1, least)
        wanted = False
        for at in range(count - w + 1):
            if at == 0 or least[at] != least[at - 1]:
                wanted = _has(shared, grams[least[at]])
            if wanted:
                out[size], of[size], places[size] = whole[at], i, at
                size += 1
    return out[:size].copy(), of[:size].copy(), places[:size].copy()


@compiled
def cut_windows(data: Any, offsets: Any, words: Any, first: Any, start: Any, w: int, cuts: Any, bounds: Any) -> Any:
    """The texts without the windows to cut: bytes, offsets, and how many characters went.

    ``cuts[bounds[i]:bounds[i + 1]]`` are the ascending hashes of the windows to cut out of text i. From the first word of a
    cut to the next word that stays all goes; from the beginning where no word stays before, to the end where none stays
    behind.
    """
    texts = len(offsets) - 1
    longest = np.int64(1)
    for i in range(texts):
        longest = max(longest, first[i + 1] - first[i])
    whole = np.empty(longest, np.uint64)
    out = np.empty(len(data), np.uint8)
    begins, gone = np.zeros(texts + 1, np.int64), np.zeros(texts, np.int64)
    size = np.int64(0)
    for i in range(texts):
        wanted, count = cuts[bounds[i] : bounds[i + 1]], first[i + 1] - first[i]
        kept: Any = offsets[i]
        until: Any = np.int64(0)
        if len(wanted) and count >= w:
            shingles(words, first[i], first[i + 1], w, whole)
            for at in range(count - w + 1):
                if _has(wanted, whole[at]):
                    if at >= until:
                        end = start[first[i] + at] if at else offsets[i]
                        out[size : size + end - kept] = data[kept:end]
                        size += end - kept
                    until = at + w
                    kept = start[first[i] + until] if until < count else offsets[i + 1]
        end = offsets[i + 1]
        out[size : size + end - kept] = data[kept:end]
        size += end - kept
        begins[i + 1] = size
        if until:
            for at in range(offsets[i], end):
                gone[i] += (data[at] & 0xC0) != 0x80
            for at in range(begins[i], size):
                gone[i] -= (out[at] & 0xC0) != 0x80
    return out[:size].copy(), begins, gone


@compiled
def all_cut(hashes: Any, places: Any, begins: Any, counts: Any, w: int, cuts: Any, bounds: Any) -> Any:
    """Whether no word of a text stays, ``(n,)``: windows ``begins[i]`` to ``begins[i + 1]``, ascending by ``places``, are those
    of text i, which has ``counts[i]`` words, and ``cuts[bounds[i]:bounds[i + 1]]`` the ascending hashes that are cut."""
    out = np.zeros(len(counts), np.bool_)
    for i in range(len(counts)):
        until: Any = np.int64(0)
        for at in range(begins[i], begins[i + 1]):
            if places[at] > until:
                break
            if _has(cuts[bounds[i] : bounds[i + 1]], hashes[at]):
                until = np.int64(places[at]) + w
        out[i] = until >= counts[i] and until > 0
    return out
