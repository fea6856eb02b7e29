"""What is counted of every text's n-grams of words.

Where an n-gram stands that stood before, an (n-1)-gram does: only there the next word is looked at.

start, stop, hashes  (m,) of the words of a text, as in ``texts.Words``
rank     (m,) of a word of the text: where the n-gram that begins there stands first
held     the words, ascending, where an n-gram begins that stood before: those with ``rank[w] < w``
times    (m,) how often an n-gram stands after the first time, where it stands first
letters  (m + 1,) characters of the words before each
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mixwright.curate import counts as c
from mixwright.curate.compiled import borrowing, compiled, inlined
from mixwright.curate.kernels.addresses import characters
from mixwright.curate.kernels.first_seen import bits_for, first_seen, new_slots, next_base

#: what n-grams are counted in: the most frequent ones of 2 to 4 words, those that stood before of 5 to 10 (Rae et al. 2021,
#: arXiv:2112.11446, table A1)
_MOST = 10
#: odd multipliers: the first word of a pair, the place of an n-gram (splitmix64's constants)
_TWO, _PLACE = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


@compiled
def gram_space(most: Any) -> Any:
    """Room for texts of up to ``most`` words, and slots, which begin with number 1."""
    keys, letters = np.empty(most, np.uint64), np.empty(most + 1, np.int64)
    rank, held, apart = np.empty(most, np.int32), np.empty(most + 1, np.int32), np.empty(most + 1, np.int32)
    times, marks = np.empty(most, np.int32), np.empty(most, np.uint8)
    return (keys, letters, rank, held, apart, times, marks), new_slots(most)


@borrowing
def count_grams(source: Any, start: Any, stop: Any, hashes: Any, space: Any, slots: Any, number: Any, row: Any) -> Any:
    """Add what is counted of the n-grams of a text of m words; returns the number of the next.

    ``start``, ``stop`` and ``hashes`` are its own; ``source`` is base, tail and size as in ``addresses.py``, and whether a
    character is a byte.
    """
    base, end, size_, ascii_ = source
    keys, letters, rank, held, apart, times, marks = space
    m = len(hashes)
    if m < 2:
        return number
    size = _pairs(hashes, slots, number, keys, rank, held)
    number = next_base(slots, number, m)
    for n in range(2, min(_MOST, m) + 1):
        if n > 2 and size > 0:
            size = _longer(n, size, hashes, slots, number, keys, rank, held, apart)
            number = next_base(slots, number, m)
        if n <= 4:
            top, often = _most_frequent(size, rank, held, times[:m])
            length = _letters(base, end, size_, start, stop, top, top + n, ascii_)
            row[c.TOP_2GRAM + n - 2] = often * (length + n - 1)
        elif size == 0:
            break
        else:
            if n == 5:
                _measure_words(base, end, size_, start[:m], stop[:m], ascii_, letters)
                marks[:m] = 0
            row[c.DUPLICATE_5GRAM + n - 5] = _stood_before(n, size, rank, held, marks, letters)
    return number


@inlined
def _letters(base: Any, tail: Any, size: Any, start: Any, stop: Any, a: Any, b: Any, ascii_: Any) -> Any:
    """Characters of the words a to b - 1."""
    count = 0
    for w in range(a, b):
        count += stop[w] - start[w] if ascii_ else characters(base, tail, size, start[w], stop[w])
    return count


@borrowing
def _pairs(hashes: Any, slots: Any, base: Any, keys: Any, rank: Any, held: Any) -> Any:
    """Rank and hold the 2-grams; returns how many are held."""
    bits = bits_for(len(hashes))
    size = 0
    for w in range(len(hashes) - 1):
        first = first_seen(slots, base, bits, keys, w, hashes[w] * np.uint64(_TWO) + hashes[w + 1])
        rank[w] = first
        held[np.uint64(size)] = w
        size += first < w
    return size


@borrowing
def _longer(n: Any, size: Any, hashes: Any, slots: Any, base: Any, keys: Any, rank: Any, held: Any, apart: Any) -> Any:
    """Rank and hold the n-grams, from ``size`` held (n-1)-grams.

    Where the next word is that of the first (n-1)-gram, so is the n-gram; the others are looked up among themselves. Loops
    are written without branches that a processor could guess wrong.
    """
    while size > 0 and held[size - 1] + n > len(hashes):
        size -= 1
    many = 0
    for h in range(size):
        w = np.int64(held[h])
        apart[many] = w
        many += hashes[np.uint64(w + n - 1)] != hashes[np.uint64(rank[np.uint64(w)] + n - 1)]
    bits = bits_for(many)
    for h in range(many):
        w = np.int64(apart[h])
        key = hashes[np.uint64(w + n - 1)] + np.uint64(rank[np.uint64(w)]) * np.uint64(_PLACE)
        rank[np.uint64(w)] = first_seen(slots, base, bits, keys, w, key)
    count = 0
    for h in range(size):
        w = np.int64(held[h])
        held[np.uint64(count)] = w
        count += rank[np.uint64(w)] < w
    return count


@borrowing
def _most_frequent(size: Any, rank: Any, held: Any, times: Any) -> Any:
    """Where the most frequent n-gram stands first, of several the first of them; and how often it stands."""
    times[:] = 0
    top, most = 0, 0  # type: tuple[Any, Any]
    for h in range(size):
        first = np.int64(rank[np.uint64(held[h])])
        often = np.int64(times[np.uint64(first)]) + 1
        times[np.uint64(first)] = often
        if often >= most and (often > most or first < top):
            top, most = first, often
    return top, most + 1


@borrowing
def _measure_words(base: Any, tail: Any, size: Any, start: Any, stop: Any, ascii_: Any, letters: Any) -> Any:
    """Write how many characters the words before each have, and all of them."""
    count = 0
    for w in range(len(start)):
        letters[w] = count
        count += stop[w] - start[w] if ascii_ else characters(base, tail, size, start[w], stop[w])
    letters[len(start)] = count


@borrowing
def _stood_before(n: Any, size: Any, rank: Any, held: Any, marks: Any, letters: Any) -> Any:
    """Characters of the n-grams that stood before, from left to right, none of which overlaps the one before.

    An n-gram stood before where one like it was read, not where it was passed over. ``marks`` (m,) of shorter n-grams become
    those of n: ``2 * n`` where one was passed over, + 1 where one was read of which the first was passed over.
    """
    count, past = 0, 0
    passed = np.uint8(2 * n)
    for h in range(size):
        w = np.int64(held[h])
        if w < past:
            continue
        first = np.uint64(rank[np.uint64(w)])
        if marks[first] == passed:
            marks[first] = passed + 1
        else:
            past = w + n
            count += letters[np.uint64(past)] - letters[np.uint64(w)]
            for over in range(w + 1, past):
                marks[np.uint64(over)] = passed
    return count
