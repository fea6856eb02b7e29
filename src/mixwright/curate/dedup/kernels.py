"""Loops of dedup, compiled by numba; they release the GIL and never read outside their arrays.

words    (W,) uint64 the word hashes of a batch, first (n + 1,) int64 where those of text i begin
n        words in a shingle, k = bands * rows values of a signature
shingle  the hash of n consecutive words: ``mixed`` of the polynomial of their hashes in ``_BASE`` modulo 2^64
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mixwright.curate.compiled import borrowing, compiled
from mixwright.curate.kernels import mixed

#: base of the polynomial over word hashes: the multiplier of Knuth's MMIX generator, odd
_BASE = np.uint64(6364136223846793005)
#: step between the hash functions of the rounds of a signature: 2^64 / golden ratio, odd
_STEP = np.uint64(0x9E3779B97F4A7C15)
#: steps of a merge between looks at whether two sets can still be similar
_UNWATCHED = 64
_EMPTY = np.uint32(0xFFFFFFFF)


@compiled
def shingles(words: Any, start: int, stop: int, n: int, out: Any) -> int:
    """The shingles of the words ``start`` to ``stop`` into ``out``, and how many: one of all words where they are fewer than
    ``n``, none where there are no words. Cost: 2 ns a word, a third of it for ``n`` 5."""
    count = stop - start
    if count <= 0:
        return 0
    width = min(n, count)
    if width == 5:
        _shingles_of_five(words, start, count - 4, out)
    else:
        leaving, value = np.uint64(1), np.uint64(0)
        for at in range(start, start + width):
            value = value * _BASE + words[at]
            leaving *= _BASE
        out[0] = mixed(value)
        for at in range(start + width, stop):
            value = value * _BASE + (words[at] - leaving * words[at - width])
            out[at - start - width + 1] = mixed(value)
    return count - width + 1


@borrowing
def _shingles_of_five(words: Any, start: int, count: int, out: Any) -> None:
    """None is made from the one before, so that the processor makes as many at once as it can."""
    one, two, three, four = np.uint64(1), np.uint64(2), np.uint64(3), np.uint64(4)
    square = _BASE * _BASE
    for j in range(count):
        at = np.uint64(start + j)
        value = words[at] * (square * square) + words[at + one] * (square * _BASE) + words[at + two] * square
        out[np.uint64(j)] = mixed(value + words[at + three] * _BASE + words[at + four])


@compiled
def band_keys(words: Any, first: Any, n: int, bands: int, rows: int) -> Any:
    """The band keys of each text, ``(texts, bands)`` uint64, a byte of each of its k values, ``(texts, k)`` uint8, and how many
    shingles it has, ``(texts,)`` int64.

    The signature is that of fast similarity sketching (Dahlgaard, Knudsen and Thorup 2017, arXiv:1704.04370): in round r a
    hash function of its own throws every shingle into one of k bins, which keeps the least value if it was empty before
    that round; from round k on all shingles are thrown into bin r - k. Each bin agrees with probability J, as with k
    permutations, and bins are no more alike than those, however short the text. Cost: one round for texts of many more
    than k shingles, about k ln k steps for short ones.
    """
    texts, k = len(first) - 1, bands * rows
    longest = np.int64(1)
    for i in range(texts):
        longest = max(longest, first[i + 1] - first[i])
    held = np.empty(longest, np.uint64)
    keys = np.zeros((texts, bands), np.uint64)
    sketches = np.zeros((texts, k), np.uint8)
    counts = np.zeros(texts, np.int64)
    bins = np.empty(k, np.uint32)
    round_of = np.empty(k, np.int64)
    for i in range(texts):
        count = shingles(words, first[i], first[i + 1], n, held)
        counts[i] = count
        if count == 0:
            continue
        _sketch(held, count, bins, round_of)
        for band in range(bands):
            key = np.uint64(band + 1) * _STEP
            for row in range(rows):
                at = band * rows + row
                value = np.uint64(bins[at]) | np.uint64(round_of[at]) << np.uint64(32)
                key = mixed(key ^ value)
                sketches[i, at] = value * _BASE >> np.uint64(56)
            keys[i, band] = key
    return keys, sketches, counts


@compiled
def _sketch(held: Any, count: int, bins: Any, round_of: Any) -> None:
    """The signature of ``count`` shingle hashes: each bin's value and the round in which it was filled."""
    k = len(bins)
    bins[:] = _EMPTY
    for at in range(count):
        value = held[at]
        place = (value >> np.uint64(32)) * np.uint64(k) >> np.uint64(32)
        # written anyway: whether it is lower is not to be guessed
        bins[place] = min(bins[place], np.uint32(value & np.uint64(0xFFFFFFFF)))
    left = 0
    for place in range(k):
        round_of[place] = 0
        if bins[place] == _EMPTY:
            round_of[place] = -1
            left += 1
    turn = 0
    while left > 0 and turn < 2 * k:
        turn += 1
        for at in range(count):
            value = mixed(held[at] + np.uint64(turn) * _STEP)
            place = (value >> np.uint64(32)) * np.uint64(k) >> np.uint64(32)
            if turn > k:
                place = np.uint64(turn - k - 1)
            low = np.uint32(value & np.uint64(0xFFFFFFFF))
            if round_of[place] == -1:
                round_of[place] = turn
                bins[place] = low
                left -= 1
            elif round_of[place] == turn and low < bins[place]:
                bins[place] = low


@compiled
def all_shingles(words: Any, first: Any, n: int) -> Any:
    """The shingles of each text in order, back to back, and where those of text i begin, ``(texts + 1,)``."""
    texts = len(first) - 1
    out = np.empty(max(1, first[texts] - first[0]), np.uint64)
    begins = np.zeros(texts + 1, np.int64)
    for i in range(texts):
        at = begins[i]
        begins[i + 1] = at + shingles(words, first[i], first[i + 1], n, out[at:])
    return out[: begins[texts]].copy(), begins


@compiled
def jaccards(left: Any, left_at: Any, right: Any, right_at: Any, pairs: Any, least: float) -> Any:
    """Jaccard similarity of pairs of ascending sets: ``pairs[:, 0]`` of ``left`` with ``pairs[:, 1]`` of ``right``; 0 where it
    is below ``least``, which is seen early, and for two empty sets. Cost: 1 ns a member at most."""
    out = np.zeros(len(pairs), np.float64)
    for number in range(len(pairs)):
        a, a_stop = left_at[pairs[number, 0]], left_at[pairs[number, 0] + 1]
        b, b_stop = right_at[pairs[number, 1]], right_at[pairs[number, 1] + 1]
        whole = (a_stop - a) + (b_stop - b)
        # J >= t needs t / (1 + t) of all members in common; rounded down, so that none at the threshold is lost
        needed = np.int64(np.floor(whole * least / (1.0 + least) - 1e-6))
        common = 0
        while a < a_stop and b < b_stop and common + min(a_stop - a, b_stop - b) >= needed:
            # no step passes more than one member of each set
            for _ in range(min(a_stop - a, b_stop - b, _UNWATCHED)):
                x, y = left[np.uint64(a)], right[np.uint64(b)]
                common += x == y
                a += x <= y
                b += y <= x
        if whole > 0 and (a == a_stop or b == b_stop):
            out[number] = common / (whole - common)
            if out[number] < least:
                out[number] = 0.0
    return out


@compiled
def bucket_pairs(members: Any, segments: Any, most: int, out: Any) -> int:
    """Pairs ``lower << 32 | higher`` of members with the first ``most`` members before them in their bucket, into ``out``;
    returns how many. A segment is the start of a bucket and the members (first, stop) to pair; rows are below 2^32; ``out``
    has room for ``most`` pairs of every member."""
    count = 0
    for i in range(len(segments)):
        start = segments[i, 0]
        for at in range(segments[i, 1], segments[i, 2]):
            b = np.uint64(members[at])
            for other in range(start, min(at, start + most)):
                a = np.uint64(members[other])
                if a < b:
                    out[count] = a << np.uint64(32) | b
                    count += 1
                elif b < a:
                    out[count] = b << np.uint64(32) | a
                    count += 1
    return count


@compiled
def agreeing(left: Any, right: Any, places: Any) -> Any:
    """In how many bytes rows ``places[:, 0]`` of ``left`` and ``places[:, 1]`` of ``right`` (rows, k) agree, ``(pairs,)``."""
    out = np.zeros(len(places), np.int64)
    k = left.shape[1]
    for number in range(len(places)):
        a, b = places[number, 0], places[number, 1]
        count = np.int64(0)
        for at in range(k):
            count += left[a, at] == right[b, at]
        out[number] = count
    return out
