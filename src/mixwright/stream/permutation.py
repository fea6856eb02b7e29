"""Keyed permutations of 0..n-1, computed element by element: a new shuffle for every key, with no table.

Notation
    n        size of the set
    a, b     its rectangle: ``a*b >= n``, so that ``x = left*b + right`` with left < a and right < b
    key      64 bits that choose the permutation

A Feistel network on the rectangle adds a hash of one half to the other, in turn, modulo the other's side: a
bijection of 0..a*b-1. Results that fall in n..a*b-1 are permuted again until they do not ("cycle walking", Black and
Rogaway 2002, section 3), which keeps it a bijection of 0..n-1; with ``a`` the root of n rounded up, less than one
element in sqrt(n) walks. The hash is the finalizer of SplitMix64 (Steele, Lea and Flood 2014, figure 17).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Keys = NDArray[np.uint64]

#: Luby and Rackoff (1988) prove four rounds enough for ideal round functions; two more leave a margin for ours.
_ROUNDS = 6
_STEP = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def scramble(values: Keys) -> Keys:
    """A 64-bit hash of each value; neighbouring values give unrelated hashes."""
    z = values + _STEP
    z = (z ^ (z >> np.uint64(30))) * _MIX_1
    z = (z ^ (z >> np.uint64(27))) * _MIX_2
    return np.asarray(z ^ (z >> np.uint64(31)))


def rectangle(size: int) -> tuple[int, int]:
    """``(a, b)`` with ``a*b >= size`` and as little more as ``a`` near the square root allows."""
    a = math.isqrt(max(size, 1) - 1) + 1
    return a, -(-max(size, 1) // a)


def permute(index: Ints, size: Ints, a: Ints, b: Ints, key: Keys) -> Ints:
    """``index (n,)``, each in 0..size-1, moved by the permutation of ``size (n,)`` that ``key (n,)`` chooses.

    ``a, b (n,)`` are ``rectangle(size)``. Cost: some 80 vector operations over n, whatever the sizes.
    """
    out = _feistel(index, a, b, key)
    outside = np.flatnonzero(out >= size)
    while outside.size:
        out[outside] = _feistel(out[outside], a[outside], b[outside], key[outside])
        outside = outside[out[outside] >= size[outside]]
    return out


def _feistel(x: Ints, a: Ints, b: Ints, key: Keys) -> Ints:
    left, right = np.divmod(x, b)
    for number in range(0, _ROUNDS, 2):
        left = _add(left, right, a, key, number)
        right = _add(right, left, b, key, number + 1)
    return left * b + right


def _add(half: Ints, other: Ints, side: Ints, key: Keys, number: int) -> Ints:
    """``half`` plus a hash of ``other`` in 0..side-1, modulo ``side``; the high 32 bits of the hash are scaled."""
    salt = np.uint64((number * 0xD1342543DE82EF95) & 0xFFFFFFFFFFFFFFFF)
    high = scramble((other.astype(np.uint64) ^ salt) + key) >> np.uint64(32)
    moved = half + ((high * side.astype(np.uint64)) >> np.uint64(32)).astype(np.int64)
    return np.where(moved >= side, moved - side, moved)
