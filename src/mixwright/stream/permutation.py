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
_SALT = 0xD1342543DE82EF95
_ALL = 0xFFFFFFFFFFFFFFFF
#: So few elements that still walk are walked one by one, which is quicker than passes over short arrays.
_FEW = 8
_STEP = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_27, _30, _31, _32 = (np.uint64(bits) for bits in (27, 30, 31, 32))


def scramble(values: Keys) -> Keys:
    """A 64-bit hash of each value; neighbouring values give unrelated hashes."""
    return _scrambled(np.array(values, dtype=np.uint64))


def rectangle(size: int) -> tuple[int, int]:
    """``(a, b)`` with ``a*b >= size`` and as little more as ``a`` near the square root allows."""
    a = math.isqrt(max(size, 1) - 1) + 1
    return a, -(-max(size, 1) // a)


def permute(index: Ints, size: Ints, a: Ints, b: Ints, key: Keys) -> Ints:
    """``index``, each in 0..size-1, moved by the permutation of ``size`` elements that ``key`` chooses.

    ``a, b`` are ``rectangle(size)``; all five are broadcast against each other. Sizes stay below 2**52. Cost: some 80
    vector operations over the result, whatever the sizes.
    """
    out = _feistel(index, a, b, key)
    outside = np.nonzero(out >= size)
    while outside[0].size > _FEW:
        limit, side_a, side_b = (np.broadcast_to(part, out.shape)[outside] for part in (size, a, b))
        again = _feistel(out[outside], side_a, side_b, np.broadcast_to(key, out.shape)[outside])
        out[outside] = again
        walks = again >= limit
        outside = tuple(axis[walks] for axis in outside)
    for place in zip(*(axis.tolist() for axis in outside), strict=True):
        parts = (int(np.broadcast_to(part, out.shape)[place]) for part in (out, size, a, b, key))
        out[place] = _walked(*parts)
    return out


def quotient(x: Ints, by: Ints) -> Ints:
    """``x // by`` of non-negative integers below 2**52: a division in float64, whose error is too small to matter there.

    (A quotient that is no integer lies at least 1/by below the next one, more than half a unit in the last place.)
    """
    return (x / by).astype(np.int64)


def _feistel(x: Ints, a: Ints, b: Ints, key: Keys) -> Ints:
    quotients = quotient(x, b)
    left = quotients.view(np.uint64)
    right = (x - quotients * b).view(np.uint64)
    sides = np.asarray(a).astype(np.uint64), np.asarray(b).astype(np.uint64)
    for number in range(0, _ROUNDS, 2):
        left = _add(left, right, sides[0], key, number)
        right = _add(right, left, sides[1], key, number + 1)
    left *= sides[1]
    left += right
    return left.view(np.int64)


def _walked(x: int, size: int, a: int, b: int, key: int) -> int:
    """One element permuted until it lies in 0..size-1."""
    while x >= size:
        left, right = divmod(x, b)
        for number in range(0, _ROUNDS, 2):
            left = (left + _scaled(right, a, key, number)) % a
            right = (right + _scaled(left, b, key, number + 1)) % b
        x = left * b + right
    return x


def _scaled(other: int, side: int, key: int, number: int) -> int:
    z = ((other ^ number * _SALT & _ALL) + key + int(_STEP)) & _ALL
    z = (z ^ (z >> 30)) * int(_MIX_1) & _ALL
    z = (z ^ (z >> 27)) * int(_MIX_2) & _ALL
    return ((z ^ (z >> 31)) >> 32) * side >> 32


def _add(half: Keys, other: Keys, side: Keys, key: Keys, number: int) -> Keys:
    """``half`` plus a hash of ``other`` in 0..side-1, modulo ``side``; the high 32 bits of the hash are scaled."""
    z = _scrambled((other ^ np.uint64(number * _SALT & _ALL)) + key)
    z >>= _32
    z *= side
    z >>= _32
    z += half
    np.minimum(z, z - side, out=z)  # below side the difference wraps around and is the larger
    return z


def _scrambled(z: Keys) -> Keys:
    """``scramble`` in place."""
    z += _STEP
    t = z >> _30
    z ^= t
    z *= _MIX_1
    np.right_shift(z, _27, out=t)
    z ^= t
    z *= _MIX_2
    np.right_shift(z, _31, out=t)
    z ^= t
    return z
