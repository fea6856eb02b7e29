"""The double-diminishing grid: the paper's count, its values, and even draws where it is too large to list."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixwright.core.errors import StudyError
from mixwright.optimize.grid import Grid, values

#: what RedPajama allows 100B tokens (Ye et al. 2024): tokens at hand over tokens of the run
REDPAJAMA = (1.0, 1.0, 0.5857, 0.2588, 0.2254, 0.1779, 0.1727)


def test_the_papers_grid_has_854_mixtures_133_of_them_without_a_zero() -> None:
    grid = Grid(REDPAJAMA)
    points = grid.points(np.random.default_rng(0))
    assert len(grid) == len(points) == 854
    assert int((points.min(axis=1) > 0).sum()) == 133
    assert len({row.tobytes() for row in points}) == 854
    assert np.abs(points.sum(axis=1) - 1).max() < 1e-12
    assert (points <= np.array(REDPAJAMA) + 1e-12).all()


def test_values_halve_while_they_are_a_step_or_more() -> None:
    assert values(0.5857, 16) == [9 / 16, 9 / 32, 9 / 64, 9 / 128, 0.0]
    assert values(2.0, 4) == [1.0, 0.5, 0.25, 0.0]
    assert values(0.03, 16) == [0.0]


@given(st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.45, 0.7, 1.0]), min_size=2, max_size=5), st.sampled_from([4, 8, 16]))
@settings(max_examples=30, deadline=None)
def test_the_count_is_that_of_trying_everything(caps: list[float], steps: int) -> None:
    order = sorted(range(len(caps)), key=lambda d: -caps[d])
    tried = 0
    for chosen in itertools.product(*(values(caps[d], steps) for d in order[:-1])):
        tried += -1e-9 <= 1 - sum(chosen) <= caps[order[-1]] + 1e-9
    if tried:
        assert len(Grid(tuple(caps), steps)) == tried
    else:
        with pytest.raises(StudyError, match="The grid of mixtures is empty"):
            Grid(tuple(caps), steps)


def test_the_order_of_domains_only_orders_the_weights() -> None:
    place = [3, 0, 6, 1, 5, 2, 4]
    rows = {row.tobytes() for row in Grid(REDPAJAMA).points(np.random.default_rng(0))[:, place]}
    again = Grid(tuple(REDPAJAMA[d] for d in place)).points(np.random.default_rng(0))
    assert rows == {row.tobytes() for row in again}


def test_a_grid_too_large_to_list_is_drawn_from_evenly() -> None:
    grid = Grid((1.0,) * 17)
    points = grid.points(np.random.default_rng(0), 4000)
    assert len(grid) > 10**8
    assert 3900 <= len(points) <= 4000
    assert np.abs(points.sum(axis=1) - 1).max() < 1e-12
    drawn = Grid(REDPAJAMA).points(np.random.default_rng(0), 500)
    assert 0.07 < (drawn.min(axis=1) > 0).mean() < 0.27  # 133 of 854 is .156; four standard errors of 400 draws are .07
