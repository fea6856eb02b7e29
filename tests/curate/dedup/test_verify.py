"""Jaccard similarities against plain sets and datasketch; screening loses no pair at the threshold."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from datasketch import MinHash
from dedup_for_tests import jaccard, planted
from hypothesis import given, settings
from hypothesis import strategies as st

from mixwright.core.rng import rng
from mixwright.curate.dedup import kernels
from mixwright.curate.dedup.options import Near
from mixwright.curate.dedup.signing import sign
from mixwright.curate.dedup.verify import Sets, least_agreeing, write_sets
from mixwright.curate.texts import Texts

SET = st.sets(st.integers(0, 30), max_size=12).map(sorted)


@settings(deadline=None)
@given(SET, SET, st.sampled_from([0.0, 0.3, 0.5, 0.8, 1.0]))
def test_jaccards_are_those_of_plain_sets(one: list[int], other: list[int], least: float) -> None:
    sides = [(np.array(some, dtype=np.uint64), np.array([0, len(some)])) for some in (one, other)]
    exact = len(set(one) & set(other)) / len(set(one) | set(other)) if one or other else 0.0
    found = kernels.jaccards(*sides[0], *sides[1], np.zeros((1, 2), dtype=np.int64), least)
    assert found.tolist() == [exact if exact >= least else 0.0]


def test_sets_and_sketches_agree_with_datasketch(tmp_path: Path) -> None:
    texts = planted(11, 30)
    column = pa.array(texts, pa.large_string())
    write_sets(tmp_path / "0.hashes", [(0, column)], np.ones(len(texts), dtype=bool), 5)
    sets = Sets.open(tmp_path / "0.hashes")
    peers = []
    for row in range(len(texts)):
        peer = MinHash(num_perm=256)
        for value in sets.hashes[sets.begins[row] : sets.begins[row + 1]]:
            peer.update(value.tobytes())
        peers.append(peer)
    pairs = np.array([(a, b) for a in range(len(texts)) for b in range(a)])
    ours = kernels.jaccards(sets.hashes, sets.begins, sets.hashes, sets.begins, pairs, 0.0)
    assert ours.tolist() == [jaccard(texts[a], texts[b]) for a, b in pairs]
    theirs = np.array([peers[a].jaccard(peers[b]) for a, b in pairs])
    assert np.abs(ours - theirs).max() < 5 * 0.5 / 256**0.5
    sketches = sign(Texts(column), Near()).sketches
    agree = kernels.agreeing(sketches, sketches, pairs) / 125
    assert np.abs((agree - 1 / 256) / (255 / 256) - ours).max() < 5 * 0.5 / 125**0.5


@pytest.mark.parametrize("size", [20, 200])
@pytest.mark.parametrize("threshold", [0.5, 0.8])
def test_screening_loses_no_pair_at_the_threshold_and_most_below(size: int, threshold: float) -> None:
    def share(jaccard: float) -> float:
        shared, texts = round(size * jaccard), 3000
        words = rng(0, "screen", size).integers(0, 2**63, size=(texts, size), dtype=np.uint64)
        cut = shared + (size - shared) // 2
        one, other = words[:, :cut], np.concatenate([words[:, :shared], words[:, cut:]], axis=1)
        left, right = (
            kernels.band_keys(np.ascontiguousarray(side).ravel(), np.arange(texts + 1) * side.shape[1], 1, 25, 5)[1]
            for side in (one, other)
        )
        places = np.stack([np.arange(texts)] * 2, axis=1)
        return float((kernels.agreeing(left, right, places) >= least_agreeing(125, threshold)).mean())

    assert share(threshold) == 1
    assert share(threshold - 0.3) < 0.15


def test_sketches_of_few_values_screen_nothing_and_equal_sets_always_pass() -> None:
    assert least_agreeing(3, 0.8) <= 0
    assert least_agreeing(125, 1.0) == 125
    assert least_agreeing(125, 0.8) == 82
