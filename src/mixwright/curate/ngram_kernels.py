"""What an n-gram model says of the words of texts, compiled by numba.

first   (n + 1,) int64, hashes (W,) uint64  as in ``texts.Words``
keys    (S, 2) uint64  an open-addressed table of n-grams of every order, S a power of two: column 0 is the hash (0: free)
values  (S, 4) float32  the same memory: columns 2 and 3 are p and left of ``ngram_model.py``
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mixwright.curate.compiled import compiled
from mixwright.curate.gram_kernels import BASE
from mixwright.curate.kernels import mixed

#: no model is of a higher order
HIGHEST = 6


@compiled
def enter(keys: Any, values: Any, hashes: Any, p: Any, left: Any) -> None:
    """Enter n-grams, whose hashes are not 0, into a table with room for them."""
    mask = np.uint64(len(keys) - 1)
    for number in range(len(hashes)):
        slot = hashes[number] & mask
        while keys[slot, 0] != np.uint64(0):
            slot = (slot + np.uint64(1)) & mask
        keys[slot, 0] = hashes[number]
        values[slot, 2], values[slot, 3] = p[number], left[number]


@compiled
def word_bits(first: Any, hashes: Any, order: int, base: float, keys: Any, values: Any) -> Any:
    """-log2 of the probability of every text's words, summed; ``base`` is the share of a word never seen."""
    mask = np.uint64(len(keys) - 1)
    bits = np.zeros(len(first) - 1, np.float64)
    left = np.ones(HIGHEST, np.float64)  # of the last 1, 2 ... words as a context
    grams = np.zeros(HIGHEST, np.uint64)  # the polynomials of the last 1, 2 ... words
    for i in range(len(first) - 1):
        total = 0.0
        for w in range(first[i], first[i + 1]):
            deepest = min(order, w - first[i] + 1)
            for depth in range(deepest - 1, 0, -1):
                grams[depth] = grams[depth - 1] * np.uint64(BASE) + hashes[w]
            grams[0] = hashes[w]
            chance, before = base, 1.0
            for depth in range(deepest):
                key = mixed(grams[depth])
                slot = key & mask
                while keys[slot, 0] != key and keys[slot, 0] != np.uint64(0):
                    slot = (slot + np.uint64(1)) & mask
                known = keys[slot, 0] == key
                if depth:
                    chance *= before
                if known:
                    chance += values[slot, 2]
                before = left[depth]
                left[depth] = values[slot, 3] if known else 1.0
            total -= math.log2(chance)
        bits[i] = total
    return bits
