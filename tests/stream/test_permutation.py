from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixwright.stream.permutation import permute, rectangle


def permuted(size: int, key: int) -> np.ndarray:
    a, b = rectangle(size)
    index = np.arange(size, dtype=np.int64)
    return permute(index, np.full(size, size), np.full(size, a), np.full(size, b), np.full(size, key, dtype=np.uint64))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 3000), st.integers(0, 2**64 - 1))
def test_a_bijection_for_every_size_and_key(size: int, key: int) -> None:
    assert np.array_equal(np.sort(permuted(size, key)), np.arange(size))


def test_another_key_gives_another_order() -> None:
    first, second = permuted(1000, 1), permuted(1000, 2)
    assert np.mean(first == second) < 0.02
    assert np.mean(first == np.arange(1000)) < 0.02


def test_small_sets_reach_many_orders_evenly() -> None:
    seen = [tuple(permuted(4, key * 7919)) for key in range(2400)]
    counts = {order: seen.count(order) for order in set(seen)}
    assert len(counts) == 24
    assert min(counts.values()) > 40
    assert max(counts.values()) < 220


def test_each_place_gets_each_value_about_equally_often() -> None:
    size, keys = 10, 2000
    table = np.zeros((size, size))
    for key in range(keys):
        table[np.arange(size), permuted(size, key)] += 1
    assert abs(table / keys - 1 / size).max() < 0.05


@pytest.mark.parametrize("size", [1, 2, 3, 97, 10_000, 97_656, 2**40])
def test_the_rectangle_wastes_little(size: int) -> None:
    a, b = rectangle(size)
    assert size <= a * b <= size + a
    assert a <= int(np.sqrt(size)) + 1
