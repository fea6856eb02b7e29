"""Vectors of texts from the hashes of their words, and keys of vectors' signs, compiled by numba.

words (W,) uint64, first (n + 1,) int64 as in ``texts.py``; d = 64 * blocks dimensions
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mixwright.curate.compiled import compiled
from mixwright.curate.kernels.hashing import mixed

_STEP = np.uint64(0x9E3779B97F4A7C15)


@compiled
def count_texts(words: Any, first: Any, counts: Any) -> None:
    """Add 1 to ``counts`` (a power of two of them) for each text and distinct word of it, at the word's hash."""
    last = np.uint64(len(counts) - 1)
    for i in range(len(first) - 1):
        own = np.sort(words[first[i] : first[i + 1]])
        for at in range(len(own)):
            if at == 0 or own[at] != own[at - 1]:
                counts[own[at] & last] += 1


@compiled
def projected(words: Any, first: Any, weights: Any, blocks: int) -> Any:
    """The sum over a text's distinct words of (1 + log of its count) x weight x signs, ``(n, d)`` float32 of length 1, or 0
    where there are no words; the signs are bits of the word's hash, mixed anew for every 64 dimensions."""
    n = len(first) - 1
    out = np.zeros((n, 64 * blocks), np.float32)
    last = np.uint64(len(weights) - 1)
    for i in range(n):
        own = np.sort(words[first[i] : first[i + 1]])
        begin = 0
        while begin < len(own):
            end = begin + 1
            while end < len(own) and own[end] == own[begin]:
                end += 1
            weight = np.float32((1.0 + np.log(end - begin)) * weights[own[begin] & last])
            for block in range(blocks):
                bits = mixed(own[begin] + np.uint64(block + 1) * _STEP)
                for bit in range(64):
                    sign = np.float32((bits >> np.uint64(bit)) & np.uint64(1)) * np.float32(2) - np.float32(1)
                    out[i, 64 * block + bit] += sign * weight
            begin = end
        length = np.sqrt(np.sum(out[i].astype(np.float64) ** 2))
        if length > 0:
            out[i] /= np.float32(length)
    return out


@compiled
def table_keys(sides: Any, tables: int) -> Any:
    """The key of each vector in each table, ``(n, tables)`` uint64, from which side of each hyperplane it lies on:
    ``sides`` (n, tables x bits) bool."""
    n, bits = len(sides), sides.shape[1] // tables
    out = np.empty((n, tables), np.uint64)
    for i in range(n):
        for table in range(tables):
            value = np.uint64(0)
            for bit in range(bits):
                value = value << np.uint64(1) | np.uint64(sides[i, table * bits + bit])
            out[i, table] = mixed(value + mixed(np.uint64(table + 1) * _STEP))
    return out
