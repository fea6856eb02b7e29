from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mixwright.stream.apportion import Tree

#: weights from 1e-6 to 1, some of them zero, some equal
WEIGHTS = st.lists(
    st.sampled_from([0.0, 1e-6, 1e-4, 0.01, 0.3, 0.3, 1.0]) | st.floats(1e-6, 1), min_size=1, max_size=12
)


def normalized(values: list[float]) -> np.ndarray:
    weights = np.array(values)
    if weights.sum() == 0:
        weights[0] = 1
    return weights / weights.sum()


def walk(tree: Tree, windows: int) -> list[int]:
    """The domain of each window, found the slow way: counters at every node, window by window."""
    if not tree.p.size:
        return [tree.only] * windows
    reached, lighter = [0] * tree.p.size, [0] * tree.p.size
    drawn = []
    for _ in range(windows):
        node = 0
        while node >= 0:
            reached[node] += 1
            want = int(np.clip(np.floor(reached[node] * tree.p[node] + tree.u[node]), 0, reached[node]))
            if want > lighter[node]:
                assert want == lighter[node] + 1
                lighter[node] += 1
                node = int(tree.light[node])
            else:
                assert want == lighter[node]
                node = int(tree.heavy[node])
        drawn.append(~node)
    return drawn


@settings(max_examples=60, deadline=None)
@given(WEIGHTS, st.integers(0, 2**30), st.integers(0, 3), st.randoms(use_true_random=False))
def test_equals_the_walk_and_is_never_two_off(values, seed, variant, random) -> None:
    weights = normalized(values)
    residual = np.array([random.uniform(-1, 1) for _ in weights])
    residual -= residual.mean()
    for owed in (np.zeros(weights.size), residual):
        tree, windows = Tree.of(weights, owed, seed, variant), 300
        drawn = walk(tree, windows)
        domain, before = tree.descend(np.arange(windows))
        assert domain.tolist() == drawn
        table = np.cumsum(np.eye(weights.size, dtype=int)[drawn], axis=0)
        assert np.array_equal(before, table[np.arange(windows), drawn] - 1)
        for k in (0, 1, 7, windows):
            assert np.array_equal(tree.counts(k), table[k - 1] if k else 0 * table[0])
        if not owed.any():
            ideal = np.outer(np.arange(1, windows + 1), weights)
            assert np.abs(table - ideal).max() < 2


def test_weights_that_need_a_deep_tree_stay_within_two() -> None:
    golden = 0.618 ** np.arange(30)
    for weights in (golden / golden.sum(), np.r_[np.full(3, 0.333), 0.001], np.r_[np.full(999, 1e-6), 1 - 999e-6]):
        tree = Tree.of(weights / weights.sum(), np.zeros(weights.size), 0)
        k = np.random.default_rng(0).integers(0, 10**7, 300)
        off = [np.abs(tree.counts(int(n)) - n * weights / weights.sum()).max() for n in k]
        assert max(off) < 1.68


def test_what_is_owed_is_given_back_first() -> None:
    weights = np.array([0.5, 0.25, 0.25])
    owed = np.array([-0.9, 0.9, 0.0])
    drawn, _ = Tree.of(weights, owed, 0).descend(np.arange(40))
    assert 1 in drawn[:2]
    table = np.cumsum(np.eye(3, dtype=int)[drawn], axis=0) - np.outer(np.arange(1, 41), weights)
    assert np.abs(table[3:] - owed).max() < 1.68


def test_a_domain_of_weight_zero_is_never_drawn() -> None:
    drawn, _ = Tree.of(np.array([0.0, 0.7, 0.3]), np.array([5.0, -3.0, -2.0]), 0).descend(np.arange(1000))
    assert set(drawn.tolist()) == {1, 2}


def test_far_positions_count_like_near_ones() -> None:
    weights = np.array([0.4, 0.3, 0.2, 0.1 - 1e-6, 1e-6])
    tree, far = Tree.of(weights, np.zeros(5), 3), 2**39
    domain, before = tree.descend(np.arange(far, far + 1000))
    start = tree.counts(far)
    for d in range(5):
        assert np.array_equal(before[domain == d], start[d] + np.arange(np.sum(domain == d)))
    assert np.abs(start - far * weights).max() < 2
