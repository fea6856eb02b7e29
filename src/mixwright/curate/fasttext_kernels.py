"""What a fastText classifier says of short texts, compiled by numba; the model's arrays are those of ``FastText``.

data     (B,) uint8  the UTF-8 bytes of all texts, back to back
offsets  (n + 1,) int64  where text i begins in data
hidden   (D,) float32  the mean of the rows of a text's words and character n-grams
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mixwright.curate.compiled import compiled

#: bytes of a sample, and how many places they come from
SAMPLE, PLACES = 1024, 4
#: fastText adds it before it takes logarithms
_TINY = 1e-5
_LABEL = np.frombuffer(b"__label__", dtype=np.uint8)
_END = np.frombuffer(b"</s>", dtype=np.uint8)


@compiled
def samples(data: Any, offsets: Any) -> Any:
    """Texts of at most ``SAMPLE`` bytes whole; of others ``PLACES`` pieces, evenly spread, cut between characters.

    Pieces are joined by a space, line feeds become spaces. Returns data and offsets of the samples.
    """
    piece = SAMPLE // PLACES
    room = 0
    for i in range(len(offsets) - 1):
        room += min(offsets[i + 1] - offsets[i], SAMPLE + PLACES)
    out = np.empty(room, np.uint8)
    ends = np.zeros(len(offsets), np.int64)
    count = 0
    for i in range(len(offsets) - 1):
        begin, size = offsets[i], offsets[i + 1] - offsets[i]
        places = 1 if size <= SAMPLE else PLACES
        for place in range(places):
            at = begin if places == 1 else begin + place * (size - piece) // (places - 1)
            stop = begin + size if places == 1 else at + piece
            while at < stop and data[at] & 0xC0 == 0x80:
                at += 1
            while stop > at and stop < begin + size and data[stop] & 0xC0 == 0x80:
                stop -= 1
            if place:
                out[count] = 32
                count += 1
            for byte in data[at:stop]:
                out[count] = 32 if byte == 10 else byte
                count += 1
        ends[i + 1] = count
    return out[:count].copy(), ends


@compiled
def fnv(value: Any, byte: Any) -> Any:
    """One step of FNV-1a over 32 bits; bytes above 127 extend their sign, as in fastText."""
    wide = np.uint32(byte) if byte < 128 else np.uint32(byte) | np.uint32(0xFFFFFF00)
    return np.uint32((value ^ wide) * np.uint32(16777619))


@compiled
def hashed(data: Any, at: int, stop: int) -> Any:
    """FNV-1a of some bytes."""
    value = np.uint32(2166136261)
    for place in range(at, stop):
        value = fnv(value, data[place])
    return value


@compiled
def enter_words(words: Any, word_offsets: Any, slots: Any) -> None:
    """Enter every word into the open-addressed table ``slots`` (-1 before)."""
    mask = len(slots) - 1
    for number in range(len(word_offsets) - 1):
        slot = np.int64(hashed(words, word_offsets[number], word_offsets[number + 1])) & mask
        while slots[slot] >= 0:
            slot = (slot + 1) & mask
        slots[slot] = number


@compiled
def enter_numbers(numbers: Any, slots: Any) -> None:
    """Enter where each of ``numbers`` stands into the open-addressed table ``slots`` (-1 before)."""
    mask = len(slots) - 1
    for place in range(len(numbers)):
        slot = np.int64(numbers[place]) & mask
        while slots[slot] >= 0:
            slot = (slot + 1) & mask
        slots[slot] = place


@compiled
def word_row(data: Any, at: int, stop: int, value: Any, words: Any, word_offsets: Any, word_slots: Any) -> Any:
    """The number of the word in ``data[at:stop]``, whose hash is ``value``; -1 if it is not in the vocabulary."""
    mask = len(word_slots) - 1
    slot = np.int64(value) & mask
    while word_slots[slot] >= 0:
        number = word_slots[slot]
        begin = word_offsets[number]
        if word_offsets[number + 1] - begin == stop - at:
            same = True
            for step in range(stop - at):
                if words[begin + step] != data[at + step]:
                    same = False
                    break
            if same:
                return np.int64(number)
        slot = (slot + 1) & mask
    return np.int64(-1)


@compiled
def bucket_row(bucket: Any, settings: Any, buckets: Any, bucket_rows: Any, bucket_slots: Any, bucket_flags: Any) -> Any:
    """The row of a bucket of n-grams, -1 if it was pruned."""
    pruned = settings[7]
    if pruned < 0:
        return settings[5] + bucket
    if pruned == 0 or bucket >> 3 >= len(bucket_flags) or not (bucket_flags[bucket >> 3] >> (bucket & 7)) & 1:
        return np.int64(-1)
    mask = len(bucket_slots) - 1
    slot = bucket & mask
    while bucket_slots[slot] >= 0:
        if buckets[bucket_slots[slot]] == bucket:
            return np.int64(bucket_rows[bucket_slots[slot]])
        slot = (slot + 1) & mask
    return np.int64(-1)


@compiled
def add(hidden: Any, rows: Any, row: int) -> Any:
    """Add a row of the input matrix; 1 if there was one."""
    if row < 0 or row >= len(rows):
        return 0
    for d in range(len(hidden)):
        hidden[d] += rows[row, d]
    return 1


@compiled
def is_blank(byte: Any) -> Any:
    """What parts words in fastText: space, tab, carriage return, vertical tab, form feed, NUL (and line feeds)."""
    return byte == 32 or (9 <= byte <= 13) or byte == 0


@compiled
def mean_row(
    data: Any, begin: int, end: int, hidden: Any, marked: Any, hashes: Any, settings: Any, words: Any, word_offsets: Any,
    word_slots: Any, buckets: Any, bucket_rows: Any, bucket_slots: Any, bucket_flags: Any, rows: Any,
) -> Any:  # fmt: skip
    """Fill ``hidden`` and return how many rows it is the mean of. ``marked`` and ``hashes`` are room for the longest text.

    Words that fastText would take for a label or the end of the line (where it would stop) are passed over.
    """
    smallest, largest, n_buckets, word_ngrams, pruned = settings[0], settings[1], settings[2], settings[3], settings[7]
    reach = 8 * len(bucket_flags)
    for d in range(len(hidden)):
        hidden[d] = 0
    count, seen, at = 0, 0, begin
    while at < end:
        while at < end and is_blank(data[at]):
            at += 1
        stop = at
        while stop < end and not is_blank(data[stop]):
            stop += 1
        size = stop - at
        label, ending = size >= len(_LABEL), size == len(_END)
        for step in range(len(_LABEL) if label else 0):
            label = label and data[at + step] == _LABEL[step]
        for step in range(len(_END) if ending else 0):
            ending = ending and data[at + step] == _END[step]
        if size and not label and not ending:
            value = hashed(data, at, stop)
            row = word_row(data, at, stop, value, words, word_offsets, word_slots)
            count += add(hidden, rows, row)
            hashes[seen] = value
            seen += 1
            marked[0], marked[size + 1] = 60, 62  # <word>
            for step in range(size):
                marked[1 + step] = data[at + step]
            size += 2
            for first in range(size):
                if marked[first] & 0xC0 == 0x80:
                    continue
                gram, place, length = np.uint32(2166136261), first, 1
                while place < size and length <= largest:
                    gram = fnv(gram, marked[place])
                    place += 1
                    while place < size and marked[place] & 0xC0 == 0x80:
                        gram = fnv(gram, marked[place])
                        place += 1
                    if length >= smallest and not (length == 1 and (first == 0 or place == size)):
                        bucket = np.int64(gram % np.uint32(n_buckets))
                        if pruned < 0 or (bucket < reach and bucket_flags[bucket >> 3] >> (bucket & 7) & 1):
                            row = bucket_row(bucket, settings, buckets, bucket_rows, bucket_slots, bucket_flags)
                            count += add(hidden, rows, row)
                    length += 1
        at = stop
    count += add(hidden, rows, settings[6])
    hashes[seen] = hashed(_END, 0, len(_END))
    for first in range(seen + 1 if word_ngrams > 1 else 0):
        value = np.uint64(np.int64(np.int32(hashes[first])))
        for place in range(first + 1, min(seen + 1, first + word_ngrams)):
            value = value * np.uint64(116049371) + np.uint64(np.int64(np.int32(hashes[place])))
            bucket = np.int64(value % np.uint64(n_buckets))
            row = bucket_row(bucket, settings, buckets, bucket_rows, bucket_slots, bucket_flags)
            count += add(hidden, rows, row)
    if count:
        scale = np.float32(1.0 / count)
        for d in range(len(hidden)):
            hidden[d] *= scale
    return count


@compiled
def dot(hidden: Any, out: Any, row: int) -> Any:
    """The inner product with a row of the output matrix."""
    total = np.float32(0)
    for d in range(len(hidden)):
        total += hidden[d] * out[row, d]
    return total


@compiled
def best_leaf(hidden: Any, out: Any, left: Any, right: Any, nodes: Any, scores: Any) -> Any:
    """The likeliest leaf of the tree and its log-probability, depth first; ``nodes`` and ``scores`` are room for a path."""
    size = (len(left) + 1) // 2
    best, highest = -1, -math.inf
    nodes[0], scores[0], top = len(left) - 1, 0.0, 1
    while top:
        top -= 1
        node, score = nodes[top], scores[top]
        if score < highest:
            continue
        if left[node] < 0:
            best, highest = node, score
            continue
        chance = 1.0 / (1.0 + math.exp(-dot(hidden, out, node - size)))
        nodes[top], scores[top] = right[node], score + math.log(chance + _TINY)
        nodes[top + 1], scores[top + 1] = left[node], score + math.log(1.0 - chance + _TINY)
        top += 2
    return best, highest


@compiled
def best_label(hidden: Any, out: Any, softmax: bool) -> Any:
    """The label of the highest inner product and its probability, by softmax or by the sigmoid of its own."""
    best, highest = 0, -math.inf
    for label in range(len(out)):
        score = dot(hidden, out, label)
        if score > highest:
            best, highest = label, score
    if not softmax:
        return best, 1.0 / (1.0 + math.exp(-highest))
    total = 0.0
    for label in range(len(out)):
        total += math.exp(dot(hidden, out, label) - highest)
    return best, 1.0 / total


@compiled
def classify(
    data: Any, offsets: Any, settings: Any, words: Any, word_offsets: Any, word_slots: Any, buckets: Any,
    bucket_rows: Any, bucket_slots: Any, bucket_flags: Any, rows: Any, out: Any, left: Any, right: Any,
) -> Any:  # fmt: skip
    """The likeliest label of every text (-1 where the model knows nothing in it) and its probability."""
    n = len(offsets) - 1
    label, chance = np.full(n, -1, np.int64), np.zeros(n, np.float64)
    longest = 0
    for i in range(n):
        longest = max(longest, offsets[i + 1] - offsets[i])
    hidden = np.zeros(rows.shape[1], np.float32)
    marked, hashes = np.empty(longest + 2, np.uint8), np.empty(longest + 1, np.uint32)
    nodes, scores = np.empty(len(left) + 1, np.int64), np.empty(len(left) + 1, np.float64)
    for i in range(n):
        known = mean_row(
            data, offsets[i], offsets[i + 1], hidden, marked, hashes, settings, words, word_offsets, word_slots, buckets,
            bucket_rows, bucket_slots, bucket_flags, rows,
        )  # fmt: skip
        if known == 0:
            continue
        if len(left):
            best, score = best_leaf(hidden, out, left, right, nodes, scores)
            label[i], chance[i] = best, min(math.exp(score), 1.0)
        else:
            best, score = best_label(hidden, out, settings[4] == 3)
            label[i], chance[i] = best, min(score, 1.0)
    return label, chance
