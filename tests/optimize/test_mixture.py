"""The best mixture: against brute force, with every kind of bound, and with its doubts said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from mixwright.core.errors import DataError, StudyError
from mixwright.core.mixture import Mixture
from mixwright.core.objective import Group, Objective, Within
from mixwright.core.rng import rng
from mixwright.laws import GraphFit
from mixwright.laws.additive import Additive
from mixwright.laws.graph import Graph
from mixwright.optimize.measures import Quantile
from mixwright.optimize.mixture import optimize
from mixwright.optimize.simplex import Region, hull_distance
from mixwright.testing import made_up_runs


def natural(fit: GraphFit) -> Mixture:
    return Mixture.normalized(fit.domains, np.arange(1.0, len(fit.domains) + 1))


def grid(step: int) -> np.ndarray:
    return np.array([[a, b, step - a - b] for a in range(step + 1) for b in range(step + 1 - a)]) / step


BOUNDS = {
    "free": Objective(),
    "one metric": Objective(metrics={"target:1": 2.0}),
    "floors": Objective(floors={"d0": 0.2, "d2": 0.1}),
    "ceilings": Objective(ceilings={"d0": 0.3, "d1": 0.25}),
    "groups": Objective(groups={"g": Group(("d0", "d1"), 0.1, 0.3)}),
    "all": Objective(
        floors={"d1": 0.05}, ceilings={"d0": 0.5}, groups={"g": Group(("d1", "d2"), 0.6, 0.9)}, epoch_cap=2
    ),
}


@pytest.mark.parametrize("kind", ["additive", "exponential"])
@pytest.mark.parametrize("name", list(BOUNDS))
def test_it_agrees_with_brute_force(kind: str, name: str, known: Callable[..., GraphFit]) -> None:
    objective, supply = BOUNDS[name], [400.0, 400.0, 200.0]
    for seed in range(3):
        fit = known(kind, seed=seed)
        found = optimize(fit, objective, natural=natural(fit), tokens=1000, supply=supply)
        q = objective.metric_weights(fit.metrics)
        region = Region.of(objective, fit.domains, tokens=1000, supply=supply)
        points = grid(200)
        values = fit.mean(points[region.contains(points)], q)
        best = float(fit.mean(found.mixture.weights[None], q)[0])
        assert region.contains(found.mixture.weights[None])[0]
        assert best <= values.min() + 1e-9
        assert best >= values.min() - 2e-3
        near = region.project(found.mixture.weights + 1e-3 * np.random.default_rng(0).normal(size=(200, 3)))
        assert best <= fit.mean(near, q).min() + 1e-9
        assert found.gap is not None
        assert found.gap < 1e-6


def test_it_agrees_with_a_fine_grid_to_a_ten_thousandth(known: Callable[..., GraphFit]) -> None:
    fit = known("additive", seed=5)
    found = optimize(fit, Objective(), natural=natural(fit))
    values = fit.mean(grid(1000), np.full(2, 0.5))
    assert abs(float(fit.mean(found.mixture.weights[None], np.full(2, 0.5))[0]) - values.min()) < 1e-4


def test_order_of_domains_does_not_matter(known: Callable[..., GraphFit]) -> None:
    fit = known("additive", 4)
    order = [2, 0, 3, 1]
    names = tuple(fit.domains[d] for d in order)
    # the same law over a reordered axis: every constant of one number per domain is reordered
    nodes = [
        replace(node, value=tuple(np.array(node.value).reshape(-1, 4)[:, order].ravel()))
        if (node.op == "const" and len(node.value) % 4 == 0 and len(node.value) > 16) or len(node.value) == 4 else node
        for node in fit.graph.nodes
    ]  # fmt: skip
    other = replace(
        fit, domains=names, graph=type(fit.graph)(names, tuple(nodes), fit.graph.outputs), swept=fit.swept[:, order]
    )
    base = natural(fit)
    np.testing.assert_allclose(other.predict(base.over(names).weights[None]).mean, fit.predict(base.weights[None]).mean)
    first, second = (optimize(f, Objective(floors={"d1": 0.1}), natural=base) for f in (fit, other))
    assert first.mixture.l1(second.mixture) < 1e-5
    assert abs(first.gain.value - second.gain.value) < 1e-9


def test_gain_forecasts_and_losses_belong_together(known: Callable[..., GraphFit]) -> None:
    fit = known("additive")
    found = optimize(fit, Objective(metrics={"target:0": 1, "target:1": 3}), natural=natural(fit))
    assert found.gain.value < 0
    assert found.gain.low < found.gain.value < found.gain.high
    assert [f.metric for f in found.forecasts] == list(fit.metrics)
    np.testing.assert_allclose(found.gain.value, 0.25 * found.forecasts[0].value + 0.75 * found.forecasts[1].value)
    losses = {f.metric: f.value for f in found.losses}
    at_natural = fit.mean(natural(fit).weights[None], np.array([0.25, 0.75]))[0]
    np.testing.assert_allclose(losses["objective"] - at_natural, found.gain.value)
    assert all(f.kind == "loss" for f in found.losses)
    assert all(f.reference == "natural" for f in found.forecasts)


def test_mixtures_as_good_are_as_good_and_no_wider_ones_are(known: Callable[..., GraphFit]) -> None:
    fit = known("additive", noise=0.01)
    q = np.full(2, 0.5)
    found = optimize(fit, Objective(), natural=natural(fit))
    np.testing.assert_allclose(found.tolerance, 0.5 * 0.01 / np.sqrt(2))
    limit = float(fit.mean(found.mixture.weights[None], q)[0]) + found.tolerance
    assert float(fit.mean(found.nearest.weights[None], q)[0]) <= limit + 1e-9
    assert found.nearest.l1(found.natural) < found.mixture.l1(found.natural)
    points = grid(200)
    good = points[fit.mean(points, q) <= limit]
    for d, name in enumerate(fit.domains):
        low, high = found.ranges[name]
        assert low <= good[:, d].min() + 1e-6
        assert high >= good[:, d].max() - 1e-6
        assert good[:, d].min() - low < 0.02
        assert high - good[:, d].max() < 0.02


def test_bounds_that_bind_are_named_with_their_price(known: Callable[..., GraphFit]) -> None:
    fit = known("exponential", seed=1)
    free = optimize(fit, Objective(), natural=natural(fit))
    best = int(free.mixture.weights.argmax())
    name = fit.domains[best]
    less = optimize(fit, Objective(ceilings={name: 0.4}), natural=natural(fit)).mixture.weights
    worst = fit.domains[int(less.argmin())]
    held = Objective(ceilings={name: 0.4}, floors={worst: 0.3})
    found = optimize(fit, held, natural=natural(fit))
    words = " ".join(found.active)
    assert f"The ceiling of {name} (0.4) binds" in words
    assert f"The floor of {worst} (0.3) binds" in words
    eased = optimize(fit, replace_bound(held, name, 0.41), natural=natural(fit))
    price = next(p for p in found.prices if p.kind == "ceiling")
    assert (price.name, price.stated) == (name, 0.4)
    np.testing.assert_allclose(found.gain.value - eased.gain.value, price.price / 100, rtol=0.15)
    assert f"0.01 more room would lower the objective by {price.price / 100:.2g} nats/token." in words


def replace_bound(objective: Objective, name: str, ceiling: float) -> Objective:
    return replace(objective, ceilings={**objective.ceilings, name: ceiling})


def test_an_epoch_cap_is_told_from_a_ceiling_and_epochs_are_counted(known: Callable[..., GraphFit]) -> None:
    fit = known("exponential", seed=1)
    best = int(optimize(fit, Objective(), natural=natural(fit)).mixture.weights.argmax())
    supply = np.full(3, 1e6)
    supply[best] = 1e5
    found = optimize(fit, Objective(epoch_cap=4), natural=natural(fit), tokens=1e6, supply=supply)
    assert any(
        f"The epoch cap of {fit.domains[best]} (4 epochs of 100,000 tokens: a weight of at most 0.4) binds" in s
        for s in found.active
    )
    np.testing.assert_allclose(found.epochs[fit.domains[best]], 4.0, rtol=1e-6)
    assert not any("Epochs are unknown" in note for note in found.notes)
    unknown = optimize(fit, Objective(epoch_cap=4), natural=natural(fit))
    assert any("the epoch cap binds nothing" in note for note in unknown.notes)
    assert unknown.epochs == {}


def test_doubts_are_said(known: Callable[..., GraphFit]) -> None:
    sure = known("additive")
    unsure = known("additive", wobble=3.0)
    assert not any("cannot tell" in note for note in optimize(sure, Objective(), natural=natural(sure)).notes)
    assert any(
        "cannot tell this mixture from natural" in note
        for note in optimize(unsure, Objective(), natural=natural(unsure)).notes
    )
    narrow = replace(sure, swept=np.array([[0.1, 0.2, 0.7], [0.1, 0.3, 0.6], [0.2, 0.1, 0.7]]))
    notes = optimize(narrow, Objective(), natural=natural(sure)).notes
    assert any(note.startswith("The best mixture lies outside what the swept mixtures span") for note in notes)
    seedless = replace(sure, seed_covariance=np.full((2, 2), np.nan), status=("converged", "fitted on 3 of 9 runs"))
    found = optimize(seedless, Objective(), natural=natural(sure))
    assert any("seed noise is unknown" in note for note in found.notes)
    assert "target:1: fitted on 3 of 9 runs." in found.notes
    assert found.tolerance > 0


def test_the_distance_from_the_hull() -> None:
    corners = np.eye(3)
    assert hull_distance(np.array([0.2, 0.3, 0.5]), corners) < 1e-9
    np.testing.assert_allclose(hull_distance(np.array([1.0, 0, 0]), np.array([[0.5, 0.5, 0], [0.5, 0, 0.5]])), 1.0)


def test_twenty_domains_are_no_harder(known: Callable[..., GraphFit]) -> None:
    fit = known("additive", 20, metrics=6)
    found = optimize(fit, Objective(floors={"d3": 0.05}), natural=natural(fit))
    assert found.gap is not None
    assert found.gap < 1e-5
    assert found.gain.value < 0


def test_what_does_not_fit_together_is_refused(known: Callable[..., GraphFit]) -> None:
    fit = known("additive")
    with pytest.raises(DataError, match="natural mixture is over a, b, but"):
        optimize(fit, Objective(), natural=Mixture.uniform(("a", "b")))
    with pytest.raises(
        StudyError, match=r"the floor of d0 \(0\.6\) and the floor of d1 \(0\.6\) contradict each other"
    ):
        optimize(fit, Objective(floors={"d0": 0.6, "d1": 0.6}), natural=natural(fit))
    with pytest.raises(StudyError, match="the runs have only target:0, target:1"):
        optimize(fit, Objective(metrics={"val:x": 1}), natural=natural(fit))
    reordered = optimize(fit, Objective(), natural=natural(fit).over(("d2", "d0", "d1")))
    assert reordered.natural == natural(fit)


@pytest.mark.parametrize("kind", ["additive", "exponential"])
def test_the_worst_mixture_is_the_worst(kind: str, known: Callable[..., GraphFit]) -> None:
    for seed, objective in enumerate((Objective(), BOUNDS["all"], Objective(within=Within("natural", l1=0.5)))):
        fit, q = known(kind, seed=seed), np.full(2, 0.5)
        found = optimize(fit, objective, natural=natural(fit), tokens=1000, supply=[400.0, 400.0, 200.0])
        region = Region.of(
            objective, fit.domains, tokens=1000, supply=[400.0, 400.0, 200.0], named={"natural": natural(fit)}
        )
        points = grid(200)
        assert region.contains(found.worst.weights[None])[0]
        highest = fit.mean(points[region.contains(points)], q).max()
        assert float(fit.mean(found.worst.weights[None], q)[0]) >= highest - 1e-9


def test_it_is_compared_with_uniform_the_worst_and_what_else_is_given(known: Callable[..., GraphFit]) -> None:
    fit, q = known("additive"), np.full(2, 0.5)
    guess = Mixture(fit.domains, np.array([0.2, 0.5, 0.3]))
    found = optimize(fit, Objective(), natural=natural(fit), alternatives={"guess": guess})
    assert [forecast.reference for forecast in found.contrasts] == ["uniform", "guess", "worst"]
    for forecast, other in zip(found.contrasts, (Mixture.uniform(fit.domains), guess, found.worst), strict=True):
        ours, theirs = fit.mean(np.array([found.mixture.weights, other.weights]), q)
        np.testing.assert_allclose(forecast.value, ours - theirs, atol=1e-12)
    unsure = optimize(known("additive", wobble=3.0), Objective(), natural=natural(fit), alternatives={"guess": guess})
    assert any("cannot tell this mixture from guess" in note for note in unsure.notes)
    itself = optimize(fit, Objective(), natural=natural(fit), alternatives={"guess": found.mixture})
    assert "The best mixture is the guess one." in itself.notes


def test_priors_go_by_name(known: Callable[..., GraphFit]) -> None:
    fit = known("additive")
    near = Objective(within=Within("natural", l1=0.1))
    base = optimize(fit, near, natural=natural(fit))
    assert base.mixture.l1(natural(fit)) < 0.1 + 1e-9
    other = Mixture(fit.domains, np.array([0.8, 0.1, 0.1]))
    moved = optimize(fit, near, natural=natural(fit), priors={"natural": other})
    assert moved.mixture.l1(other) < 0.1 + 1e-9
    with pytest.raises(StudyError, match="prior is 'ours', but the mixtures known here are"):
        optimize(fit, Objective(within=Within("ours", l1=0.1)), natural=natural(fit))


def test_the_quantile_slopes_as_it_should_where_misfit_grows_with_the_loss() -> None:
    fit = Additive().fit(made_up_runs(20), rng(0, "fit"))
    outputs = {metric: {**nodes, "scale": nodes["mean"]} for metric, nodes in fit.graph.outputs.items()}
    fit = replace(fit, graph=Graph(fit.domains, fit.graph.nodes, outputs))
    x = np.random.default_rng(0).dirichlet(np.ones(3), 4)
    measure = Quantile(fit, np.full(3, 1 / 3), np.full(3, 1 / 3), 0.9)
    value, slope = measure.value_and_slope(x)
    np.testing.assert_allclose(value, measure.value(x))
    for step in 1e-6 * np.eye(3):
        quotient = (measure.value(x + step) - measure.value(x - step)) / 2e-6
        np.testing.assert_allclose(slope @ step * 1e6, quotient, rtol=1e-4, atol=1e-6)
