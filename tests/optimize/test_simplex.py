"""The allowed region: nearest points, draws, corners, and what is said when nothing is allowed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from mixwright.core.errors import StudyError
from mixwright.core.objective import Group, Objective
from mixwright.optimize.simplex import Region, dirichlet, sobol

ABC = ("a", "b", "c", "d")


def region(**changes: object) -> Region:
    return Region.of(Objective(**changes), ABC)  # type: ignore[arg-type]


REGIONS = [
    region(),
    region(floors={"a": 0.1, "b": 0.2}, ceilings={"c": 0.3}),
    region(floors=dict.fromkeys(ABC, 0.05), groups={"g": Group(("a", "b"), 0.3, 0.5)}),
    region(groups={"g": Group(("a", "b"), 0.3, 0.5), "h": Group(("b", "c"), 0.1, 0.35)}),
    region(floors={"a": 0.25}, ceilings={"a": 0.25}),
    region(groups={"g": Group(("a", "b"), 0.4, 0.4)}),
]


@pytest.mark.parametrize("where", REGIONS)
@given(seed=st.integers(0, 10_000))
@settings(max_examples=12, deadline=None)
def test_projection_gives_the_nearest_allowed_mixture(where: Region, seed: int) -> None:
    point = np.random.default_rng(seed).normal(0.25, 0.5, 4)
    (found,) = where.project(point[None])
    assert where.contains(found[None], 1e-8)[0]
    rules = [{"type": "eq", "fun": lambda w: w.sum() - 1}]
    for row, floor, ceiling in zip(where.member, where.floor, where.ceiling, strict=True):
        rules += [{"type": "ineq", "fun": lambda w, a=row, b=floor: a @ w - b}]
        rules += [{"type": "ineq", "fun": lambda w, a=row, b=ceiling: b - a @ w}]
    other = minimize(
        lambda w: ((w - point) ** 2).sum(), found, jac=lambda w: 2 * (w - point), method="SLSQP", constraints=rules,
        bounds=list(zip(where.low, where.high, strict=True)), options={"ftol": 1e-15},
    )  # fmt: skip
    assert ((found - point) ** 2).sum() <= other.fun + 1e-8


@pytest.mark.parametrize("where", REGIONS)
def test_draws_are_allowed_and_fill_the_region(where: Region) -> None:
    drawn = where.sample(1500, np.random.default_rng(0))
    assert where.contains(drawn).all()
    for d in range(4):
        row = np.eye(4)[d]
        least, most = where.least(row)[1], -where.least(-row)[1]
        width = most - least
        if width > 1e-6:
            assert drawn[:, d].min() < least + 0.15 * width
            assert drawn[:, d].max() > most - 0.4 * width


def test_draws_from_the_whole_simplex_are_uniform() -> None:
    drawn = REGIONS[0].sample(4000, np.random.default_rng(1))
    np.testing.assert_allclose(drawn.mean(axis=0), 0.25, atol=0.015)
    np.testing.assert_allclose(drawn.var(axis=0), 3 / 80, atol=0.004)  # of a flat Dirichlet over four


def test_a_region_of_one_point_is_a_region() -> None:
    where = region(floors={"a": 0.25, "b": 0.25, "c": 0.25, "d": 0.25})
    np.testing.assert_allclose(where.sample(3, np.random.default_rng(0)), 0.25, atol=1e-9)
    assert len(where.directions) == 0


@pytest.mark.parametrize(
    ("objective", "words"),
    [
        ({"floors": {"a": 0.7, "b": 0.6}}, "the floors sum to 1.3"),
        ({"ceilings": dict.fromkeys(ABC, 0.2)}, "highest weights allowed sum to 0.8"),
        ({"floors": {"e": 0.1}}, "names e, which is no domain"),
        ({"groups": {"g": Group(("a", "z"), 0, 1)}}, "objective.groups.g names z"),
        (
            {"floors": {"a": 0.3}, "groups": {"g": Group(("a", "b"), 0, 0.2)}},
            "group g may have at most 0.2, .* no less than 0.3",
        ),
        (
            {"ceilings": {"a": 0.1, "b": 0.1}, "groups": {"g": Group(("a", "b"), 0.5, 1)}},
            "at least 0.5, .* no more than 0.2",
        ),
        (
            {"groups": {"g": Group(("a", "b"), 0.7, 1), "h": Group(("c", "d"), 0.5, 1)}},
            "groups g, h contradict one another. The smallest relaxation is to loosen [gh] by 0.2",
        ),
    ],
)
def test_contradictions_are_named_with_the_way_out(objective: dict[str, object], words: str) -> None:
    with pytest.raises(StudyError, match=words):
        region(**objective)


def test_an_epoch_cap_becomes_a_ceiling() -> None:
    where = Region.of(Objective(epoch_cap=2), ABC, tokens=1000, supply=[100, 1000, 1000, 1000])
    np.testing.assert_allclose(where.high, [0.2, 1, 1, 1])
    with pytest.raises(StudyError, match="epoch cap"):
        Region.of(Objective(epoch_cap=2), ABC, tokens=10_000, supply=[100, 1000, 1000, 1000])


def test_low_discrepancy_numbers_become_dirichlet_draws() -> None:
    centre = np.array([0.6, 0.3, 0.1])
    drawn = dirichlet(centre, 5.0, sobol(1024, 3, np.random.default_rng(0)))
    np.testing.assert_allclose(drawn.sum(axis=1), 1)
    np.testing.assert_allclose(drawn.mean(axis=0), centre, atol=0.01)
    np.testing.assert_allclose(drawn.var(axis=0), centre * (1 - centre) / 6, rtol=0.1)
    assert sobol(5, 2, np.random.default_rng(0)).shape == (5, 2)
