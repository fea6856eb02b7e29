"""What is counted of every text's n-grams of words.

An n-gram that stands twice holds two (n-1)-grams that do: n-grams are looked for only where both are known to.

first    (n + 1,) int64, start, stop, hashes (W,) as in ``texts.Words``
rank     (m + 1,) of a word of the text: where the n-gram that begins there stands first; -1 where it stands once
longer   (m + 1,) the same of (n + 1)-grams
letters  (m + 1,) characters of the words before each
held     the words, ascending, where an n-gram begins that stands twice
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mixwright.curate import counts as c
from mixwright.curate.compiled import compiled, inlined
from mixwright.curate.kernels.first_seen import bits_for, first_seen, new_slots, next_base

#: what n-grams are counted in: the most frequent ones of 2 to 4 words, those that stood before of 5 to 10 (Rae et al. 2021,
#: arXiv:2112.11446, table A1)
_MOST = 10
_TWO = 0xBF58476D1CE4E5B9


@compiled
def count_grams(data: Any, offsets: Any, first: Any, start: Any, stop: Any, hashes: Any, counts: Any) -> Any:
    """Add to the counts, of which CHARS is known."""
    most = 0
    for i in range(len(offsets) - 1):
        most = max(most, first[i + 1] - first[i])
    slots, base = new_slots(most), 1
    keys, rank = np.empty(most + 1, np.uint64), np.empty(most + 1, np.int32)
    longer, held, times = np.empty(most + 1, np.int32), np.empty(most + 1, np.int32), np.empty(most + 1, np.int32)
    letters = np.empty(most + 1, np.int64)
    for i in range(len(offsets) - 1):
        a, b = first[i], first[i + 1]
        m = b - a
        if m < 2:
            continue
        ascii_ = counts[i, c.CHARS] == offsets[i + 1] - offsets[i]
        top, often, size = _pairs(hashes[a:b], slots, base, keys, rank, longer, held, times)
        counts[i, c.TOP_2GRAM] = often * (_letters(data, start, stop, a + top, a + top + 2, ascii_) + 1)
        base = next_base(slots, base, m)
        measured = False
        for n in range(3, _MOST + 1):
            if (n > 4 and size == 0) or n > m:
                break
            top, often, size = _longer(size, slots, base, bits_for(size), keys, rank, longer, held, times)
            rank, longer = longer, rank
            base = next_base(slots, base, m)
            if n <= 4:
                counts[i, c.TOP_2GRAM + n - 2] = often * (
                    _letters(data, start, stop, a + top, a + top + n, ascii_) + n - 1
                )
            elif size > 0:
                if not measured:
                    measured = True
                    _measure_words(data, start[a:b], stop[a:b], ascii_, letters)
                counts[i, c.DUPLICATE_5GRAM + n - 5] = _stood_before(n, size, rank, held, times, letters)
    return base


@inlined
def _letters(data: Any, start: Any, stop: Any, a: Any, b: Any, ascii_: Any) -> Any:
    """Characters of the words a to b - 1."""
    count = 0
    for w in range(a, b):
        if ascii_:
            count += stop[w] - start[w]
        else:
            for at in range(start[w], stop[w]):
                count += data[at] & 0xC0 != 0x80
    return count


@compiled
def _pairs(hashes: Any, slots: Any, base: Any, keys: Any, rank: Any, longer: Any, held: Any, times: Any) -> Any:
    """Of the 2-grams: the first of the most frequent ones, how often it stands, how many are held."""
    m = len(hashes)
    bits = bits_for(m)
    top, often = 0, 1  # type: tuple[Any, Any]
    for w in range(m - 1):
        found = first_seen(slots, base, bits, keys, w, hashes[w] * np.uint64(_TWO) + hashes[w + 1])
        rank[w] = found
        times[w] = 0
        times[found] += 1
        if times[found] >= often and (times[found] > often or found < top):
            top, often = found, np.int64(times[found])
    rank[m - 1] = rank[m] = longer[m - 1] = longer[m] = -1
    size = 0
    for w in range(m - 1):
        twice = times[rank[w]] > 1
        held[size] = w
        size += twice
        rank[w] = rank[w] if twice else -1
        longer[w] = -1
    return top, often, size


@compiled
def _longer(
    size: Any, slots: Any, base: Any, bits: Any, keys: Any, rank: Any, longer: Any, held: Any, times: Any
) -> Any:
    """The same of the n-grams, from ``size`` held (n-1)-grams; ``longer`` becomes their rank.

    Where an n-gram goes on as the first one with the same beginning does, that is where it stands first. Only others are
    looked up. Loops are written without branches that a processor could guess wrong.
    """
    top, often = 0, 1  # type: tuple[Any, Any]
    for h in range(size):
        w = np.int64(held[h])
        follows = rank[w + 1]
        first = np.int64(rank[w]) if follows >= 0 else w
        if rank[first + 1] != follows:
            key = np.uint64(first) << np.uint64(32) | np.uint64(follows)
            first = first_seen(slots, base, bits, keys, w, key)
        longer[w] = first
        times[w] = 0
        times[first] += 1
        if times[first] >= often and (times[first] > often or first < top):
            top, often = first, np.int64(times[first])
    count = 0
    for h in range(size):
        w = held[h]
        first = longer[w]
        twice = times[first] > 1
        held[count] = w
        count += twice
        longer[w] = first if twice else -1
        rank[w] = rank[w] if twice else -1
    return top, often, count


@compiled
def _measure_words(data: Any, start: Any, stop: Any, ascii_: Any, letters: Any) -> Any:
    """Write how many characters the words before each have, and all of them."""
    count = 0
    for w in range(len(start)):
        letters[w] = count
        count += stop[w] - start[w]
        if not ascii_:
            for at in range(start[w], stop[w]):
                count -= data[at] & 0xC0 == 0x80
    letters[len(start)] = count


@compiled
def _stood_before(n: Any, size: Any, rank: Any, held: Any, times: Any, letters: Any) -> Any:
    """Characters of the n-grams that stood before, from left to right, none of which overlaps the one before.

    ``times`` become 0 where an n-gram was seen.
    """
    count, past = 0, 0
    for h in range(size):
        w = held[h]
        if w >= past:
            if times[rank[w]] > 0:
                times[rank[w]] = 0
            else:
                past = w + n
                count += letters[past] - letters[w]
    return count
