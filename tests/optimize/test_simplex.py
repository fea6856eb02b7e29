"""The allowed region: nearest points, draws, corners, and what is said when nothing is allowed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixwright.core.errors import StudyError
from mixwright.core.objective import Group, Objective, Within
from mixwright.optimize.simplex import Region, dirichlet, sobol

ABC = ("a", "b", "c", "d")


def region(**changes: object) -> Region:
    return Region.of(Objective(**changes), ABC)  # type: ignore[arg-type]


REGIONS = [
    region(),
    region(costs={"a": 1, "b": 3}, cost_cap=0.9),
    region(within=Within({"a": 0.4, "b": 0.3, "c": 0.2, "d": 0.1}, l1=0.3)),
    region(within=Within({"a": 0.4, "b": 0.3, "c": 0.2, "d": 0.1}, kl=0.05), floors={"d": 0.05}),
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
    draw = np.random.default_rng(seed)
    point = draw.normal(0.25, 0.5, 4)
    (found,) = where.project(point[None])
    assert where.contains(found[None], 1e-8)[0]
    corners = [where.least(slope)[0] for slope in (*np.eye(4), *-np.eye(4), found - point, draw.normal(size=4))]
    others = np.concatenate([where.sample(50, draw), corners])
    # of a convex set: nothing in it lies beyond the plane through the nearest point
    assert ((others - found) @ (point - found)).max() <= 1e-7


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
        (
            {"floors": {"a": 0.7, "b": 0.6, "c": 0.0}},
            r"the floor of a \(0.7\) and the floor of b \(0.6\) contradict each other. The smallest change that allows one: "
            r"lower the floor of a to 0.4",
        ),
        (
            {"ceilings": dict.fromkeys(ABC, 0.2)},
            r"ceiling of a \(0.2\), the ceiling of b \(0.2\), .* contradict one another. .*raise the ceiling of a to 0.4",
        ),
        ({"floors": {"e": 0.1}}, "names e, which is no domain"),
        ({"groups": {"g": Group(("a", "z"), 0, 1)}}, "objective.groups names z|objective.groups.g names z"),
        (
            {"floors": {"a": 0.3, "d": 0.1}, "groups": {"g": Group(("a", "b"), 0, 0.2)}},
            r"floor of a \(0.3\) and the ceiling of group g \(0.2\) contradict each other. .*lower the floor of a to 0.2",
        ),
        (
            {"ceilings": {"a": 0.1, "b": 0.1}, "groups": {"g": Group(("a", "b"), 0.5, 1)}},
            "ceiling of a .*ceiling of b .*floor of group g .* contradict one another. .*raise the ceiling of a to 0.4",
        ),
        (
            {"groups": {"g": Group(("a", "b"), 0.7, 1), "h": Group(("c", "d"), 0.5, 1)}},
            "floor of group g .*floor of group h .* contradict each other. .*lower the floor of group g to 0.5",
        ),
        (
            {"fixed": {"a": 0.6}, "floors": {"b": 0.5}},
            "fixed weight of a .*floor of b .* contradict each other. .* to ",
        ),
        ({"fixed": {"a": 0.6, "b": 0.7}}, "fixed weight of a .*fixed weight of b .* contradict each other"),
        (
            {"fixed": dict.fromkeys(ABC, 0.2)},
            "fixed weight of d .*contradict one another. .*set the fixed weight of a to 0.4",
        ),
        (
            {"costs": {"a": 1, "b": 2, "c": 3, "d": 4}, "cost_cap": 0.5},
            r"the cost cap \(0.5 per token\) cannot be met. The smallest change that allows one: raise the cost cap to 1.",
        ),
        (
            {"costs": {"a": 1, "b": 2}, "cost_cap": 0.5, "floors": {"b": 0.4, "c": 0.3}},
            "the floor of b .*the cost cap .* contradict each other",
        ),
        (
            {"within": Within(dict.fromkeys(ABC, 0.25), l1=0.2), "floors": {"a": 0.5}},
            r"floor of a .*the L1 distance to the prior mixture \(0.2\) contradict each other. .*lower the floor of a to 0.35",
        ),
        (
            {"within": Within(dict.fromkeys(ABC, 0.25), kl=0.05), "floors": {"a": 0.6}},
            r"floor of a .*the KL distance to the prior mixture \(0.05 nats\) contradict each other",
        ),
        (
            {"within": Within({"a": 0.5, "b": 0.5}, kl=1.0), "floors": {"c": 0.1}},
            r"gives c nothing and the floor of c \(0.1\) contradict each other. .*lower the floor of c to 0\.",
        ),
    ],
)
def test_contradictions_are_named_with_the_way_out(objective: dict[str, object], words: str) -> None:
    with pytest.raises(StudyError, match=words):
        region(**objective)


def test_an_epoch_cap_becomes_a_ceiling() -> None:
    where = Region.of(Objective(epoch_cap=2), ABC, tokens=1000, supply=[100, 1000, 1000, 1000])
    np.testing.assert_allclose(where.high, [0.2, 1, 1, 1])
    with pytest.raises(
        StudyError, match=r"the epoch cap \(2 epochs of each supply\) cannot be met. .* to 3.226 epochs"
    ):
        Region.of(Objective(epoch_cap=2), ABC, tokens=10_000, supply=[100, 1000, 1000, 1000])


def test_low_discrepancy_numbers_become_dirichlet_draws() -> None:
    centre = np.array([0.6, 0.3, 0.1])
    drawn = dirichlet(centre, 5.0, sobol(1024, 3, np.random.default_rng(0)))
    np.testing.assert_allclose(drawn.sum(axis=1), 1)
    np.testing.assert_allclose(drawn.mean(axis=0), centre, atol=0.01)
    np.testing.assert_allclose(drawn.var(axis=0), centre * (1 - centre) / 6, rtol=0.1)
    assert sobol(5, 2, np.random.default_rng(0)).shape == (5, 2)
