"""Objectives: every constraint is checked as it is written down, survives JSON, and can be asked of a mixture."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from mixwright.core.errors import StudyError
from mixwright.core.mixture import Mixture
from mixwright.core.objective import Budget, Group, Objective, Within, divergence

NAMES = ("code", "prose", "maths")
FULL = Objective(
    metrics={"val:code": 1, "val:prose": 3}, floors={"code": 0.1}, ceilings={"prose": 0.7}, epoch_cap=4.0,
    groups={"hard": Group(("code", "maths"), 0.2, 0.8)}, fixed={"maths": 0.25}, within=Within("natural", kl=0.5, l1=0.6),
    costs={"code": 2.0, "maths": 5.0}, cost_cap=2.5, budgets={"val:maths": Budget(percent=1.0)}, risk=0.9, trust=0.1,
)  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"fixed": {"code": 1.2}}, "The fixed weight of code must lie in 0..1; got 1.2"),
        ({"costs": {"code": -1}}, "The cost of code must be a finite number of at least 0; got -1"),
        ({"cost_cap": 2.0}, "cost_cap must be .* with costs beside it; got 2 and 0 costs"),
        ({"risk": 0.4}, "risk must lie between 0.5 and 1, .* got 0.4"),
        ({"trust": -0.1}, "trust must be a finite L1 distance"),
        ({"metrics": {"val:code": 0}}, "The objective's weight of val:code must be positive"),
    ],
)
def test_what_cannot_be_meant_is_refused(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(StudyError, match=words):
        Objective(**wrong)


def test_distances_and_budgets_say_what_they_lack() -> None:
    with pytest.raises(StudyError, match=r"needs kl .* or l1"):
        Within("natural")
    with pytest.raises(StudyError, match=r"objective.within.kl must be .* got -1"):
        Within("natural", kl=-1)
    with pytest.raises(StudyError, match=r"objective.within.prior is no mixture: Weights must sum to 1"):
        Within({"code": 0.5}, l1=0.1)
    with pytest.raises(StudyError, match="prior is 'ours', but the mixtures known here are: natural"):
        Within("ours", l1=0.1).over(NAMES, {"natural": Mixture.uniform(NAMES)})
    with pytest.raises(StudyError, match="exactly one of nats, percent and at_most, a finite number; got nothing"):
        Budget()
    with pytest.raises(StudyError, match="got nats 1, percent 2"):
        Budget(nats=1, percent=2)


def test_a_budget_is_measured_from_the_reference() -> None:
    assert Budget(nats=0.02).limit(3.0) == 3.02
    assert Budget(percent=-1.0).limit(3.0) == pytest.approx(2.97)
    assert Budget(at_most=2.5).limit(3.0) == 2.5
    assert Budget(percent=1.0).words("current") == "its value at the current mixture +1 %"
    rows = Objective(budgets={"a": Budget(nats=0), "both": Budget(nats=0, metrics={"a": 1, "b": 3})}).budget_weights(
        ("b", "a")
    )
    np.testing.assert_array_equal(rows, [[0, 1], [0.75, 0.25]])
    with pytest.raises(StudyError, match=r"objective.budgets.c names c, but the runs have only a"):
        Objective(budgets={"c": Budget(nats=0)}).budget_weights(("a",))


def test_it_survives_json() -> None:
    again = Objective.from_dict(json.loads(json.dumps(FULL.to_dict())))
    assert again.to_dict() == FULL.to_dict()
    assert again == FULL
    assert (
        Objective.from_dict({"metrics": {}, "floors": {}, "ceilings": {}, "epoch_cap": None, "groups": {}})
        == Objective()
    )
    own = Objective(within=Within({"code": 0.25, "prose": 0.75}, kl=0.1))
    assert Objective.from_dict(own.to_dict()).within == own.within


def test_a_mixture_is_allowed_or_not_by_each_constraint() -> None:
    base = Mixture(NAMES, np.array([0.3, 0.45, 0.25]))
    named = {"natural": base}
    assert FULL.allows(base, named=named)
    for change in (
        {"fixed": {"maths": 0.2}}, {"cost_cap": 1.8}, {"within": Within({"code": 0.5, "prose": 0.5}, l1=0.3)},
        {"within": Within({"code": 0.9, "prose": 0.05, "maths": 0.05}, kl=0.3)}, {"floors": {"code": 0.31}},
        {"groups": {"hard": Group(("code", "maths"), 0.6, 0.8)}},
    ):  # fmt: skip
        assert not Objective(**{"costs": FULL.costs, **change}).allows(base)  # type: ignore[arg-type]
    assert FULL.cost(base) == pytest.approx(0.3 * 2 + 0.25 * 5)


def test_divergence_counts_nothing_for_no_weight_and_everything_for_no_prior() -> None:
    p = np.array([0.5, 0.5, 0.0])
    assert float(divergence(p, p)) == 0
    np.testing.assert_allclose(divergence(np.array([[1.0, 0, 0], [0, 0.5, 0.5]]), p), [np.log(2), np.inf])
