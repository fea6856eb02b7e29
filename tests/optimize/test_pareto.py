"""Fronts between two losses: against brute force, from end to end, with the knee, exchange rates and what is as good."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from mixwright.core.errors import StudyError
from mixwright.core.mixture import Mixture
from mixwright.core.objective import Budget, Objective, Within
from mixwright.laws import GraphFit
from mixwright.optimize.mixture import optimize
from mixwright.optimize.pareto import pareto

PAIR = ("target:0", "target:1")


def grid(steps: int) -> np.ndarray:
    return np.array([[a, b, steps - a - b] for a in range(steps + 1) for b in range(steps + 1 - a)]) / steps


@pytest.fixture
def fit(known: Callable[..., GraphFit]) -> GraphFit:
    return known("additive", 3, metrics=3, seed=5)


@pytest.mark.parametrize("objective", [Objective(), Objective(floors={"d1": 0.2}, within=Within("natural", kl=0.5))])
def test_no_mixture_beats_a_point_and_every_point_is_near_one(objective: Objective, fit: GraphFit) -> None:
    uniform = Mixture.uniform(fit.domains)
    front = pareto(fit, objective, metrics=PAIR, natural=uniform, count=9)
    points = np.array(
        [
            mixture
            for mixture in grid(300)
            if objective.allows(Mixture(fit.domains, mixture), named={"natural": uniform})
        ]
    )
    losses = fit.predict(points).mean[:, :2]
    for point in front.points:
        assert objective.allows(point.mixture, named={"natural": uniform})
        assert not (losses < np.array(point.values) - 1e-7).all(axis=1).any()
        near = np.maximum(losses - np.array(point.values), 0).max(axis=1).min()
        assert near < 2e-3
        np.testing.assert_allclose(point.values, fit.predict(point.mixture.weights[None]).mean[0, :2], atol=1e-12)


def test_it_runs_from_the_best_of_one_to_the_best_of_the_other(fit: GraphFit) -> None:
    front = pareto(fit, Objective(), metrics=PAIR, natural=Mixture.uniform(fit.domains))
    values = np.array([point.values for point in front.points])
    assert (np.diff(values[:, 0]) > 0).all()
    assert (np.diff(values[:, 1]) < 0).all()
    for end, m in ((0, 0), (-1, 1)):
        alone = optimize(fit, Objective(metrics={PAIR[m]: 1.0}), natural=Mixture.uniform(fit.domains))
        np.testing.assert_allclose(values[end, m], alone.losses[0].value, atol=2e-7)
    assert all(point.gap is not None and point.gap < 1e-6 for point in front.points)


def test_exchange_rates_are_slopes_and_the_knee_is_where_both_are_cheap(fit: GraphFit) -> None:
    front = pareto(fit, Objective(), metrics=PAIR, natural=Mixture.uniform(fit.domains), count=41)
    values = np.array([point.values for point in front.points])
    rates = np.array([point.exchange for point in front.points])
    middle = slice(5, -5)
    slopes = -(values[2:, 0] - values[:-2, 0]) / (values[2:, 1] - values[:-2, 1])
    np.testing.assert_allclose(rates[1:-1][middle], slopes[middle], rtol=0.05)
    assert rates[0] == np.inf
    assert rates[-1] == 0
    scaled = (values - values.min(axis=0)) / np.ptp(values, axis=0)
    assert scaled[front.knee].sum() == scaled.sum(axis=1).min() < 0.8


def test_bands_hold_mixtures_that_are_as_good_and_natural_is_compared(fit: GraphFit) -> None:
    natural = Mixture(fit.domains, np.array([0.1, 0.8, 0.1]))
    front = pareto(fit, Objective(), metrics=PAIR, natural=natural, count=5)
    tolerance = 0.5 * fit.noise[0]
    points = grid(150)
    losses = fit.predict(points).mean[:, :2]
    for point in front.points:
        good = points[(losses <= np.array(point.values) + tolerance).all(axis=1)]
        for d, name in enumerate(fit.domains):
            low, high = point.ranges[name]
            assert low <= good[:, d].min() + 2e-3
            assert high >= good[:, d].max() - 2e-3
            assert good[:, d].min() - low < 0.03
            assert high - good[:, d].max() < 0.03
        differences = [forecast.value for forecast in point.differences]
        np.testing.assert_allclose(differences, np.array(point.values) - np.array(front.natural), atol=1e-12)
    assert any("better than natural in both losses" in note for note in front.notes)


def test_groups_of_metrics_budgets_and_plain_values(fit: GraphFit) -> None:
    general = {"target:1": 1.0, "target:2": 3.0}
    natural = Mixture.uniform(fit.domains)
    front = pareto(
        fit,
        Objective(budgets={"target:2": Budget(nats=0.0)}, risk=0.9),
        metrics=("target:0", general),
        natural=natural,
        count=4,
    )
    assert front.names == ("target:0", "target:1 + target:2")
    limit = float(fit.mean(natural.weights[None], np.array([0.0, 0, 1]))[0])
    for point in front.points:
        losses = fit.predict(point.mixture.weights[None]).mean[0]
        np.testing.assert_allclose(point.values[1], 0.25 * losses[1] + 0.75 * losses[2])
        assert losses[2] <= limit + 1e-7
    plain = front.to_dict()
    assert plain["points"][0]["exchange"] is None
    assert plain["points"][-1]["weights"] == front.points[-1].mixture.to_dict()


def test_losses_that_agree_have_one_best_mixture(fit: GraphFit) -> None:
    front = pareto(fit, Objective(), metrics=("target:0", {"target:0": 2.0}), natural=Mixture.uniform(fit.domains))
    assert len(front.points) == 1
    assert any("nothing to trade" in note for note in front.notes)
    with pytest.raises(StudyError, match="at least 2 points"):
        pareto(fit, Objective(), metrics=PAIR, natural=Mixture.uniform(fit.domains), count=1)
