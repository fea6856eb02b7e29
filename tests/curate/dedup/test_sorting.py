"""Putting hashes in order by their first bits gives what plain sorting gives, also where hashes are not even."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixwright.core.rng import rng
from mixwright.curate.dedup.sorting_kernels import distinct_ascending, entries_ascending

#: hashes that differ in their last bits, in their first, or in all
HASH = st.one_of(st.integers(0, 40), st.integers(0, 3).map(lambda high: high << 62), st.integers(0, 2**64 - 1))


@settings(deadline=None)
@given(st.lists(st.lists(HASH, max_size=60), max_size=4))
def test_sets_as_plain_sets(sets: list[list[int]]) -> None:
    begins = np.cumsum([0, *map(len, sets)])
    hashes, kept = distinct_ascending(np.array([value for one in sets for value in one], dtype=np.uint64), begins)
    found = [hashes[start:stop].tolist() for start, stop in itertools.pairwise(kept)]
    assert found == [sorted(set(one)) for one in sets]


@settings(deadline=None)
@given(st.lists(HASH, max_size=120))
def test_entries_by_key_and_row(keys: list[int]) -> None:
    rows = rng(0, "entries", len(keys)).permutation(len(keys)).astype(np.uint32)
    found = entries_ascending(np.array(keys, dtype=np.uint64), rows)
    assert list(zip(*(side.tolist() for side in found), strict=True)) == sorted(zip(keys, rows.tolist(), strict=True))


@pytest.mark.parametrize("shift", [0, 20, 50])
def test_many_hashes_even_or_not(shift: int) -> None:
    hashes = rng(0, "many", shift).integers(0, 2**64, 50_000, dtype=np.uint64) >> np.uint64(shift)
    assert distinct_ascending(hashes, np.array([0, len(hashes)]))[0].tolist() == np.unique(hashes).tolist()
    rows = np.arange(len(hashes), dtype=np.uint32)
    assert entries_ascending(hashes, rows)[1].tolist() == np.argsort(hashes, kind="stable").tolist()
