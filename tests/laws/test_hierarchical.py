from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from mixwright.core.errors import DataError
from mixwright.core.rng import rng
from mixwright.laws import _shrunken
from mixwright.laws.additive import Additive
from mixwright.laws.hierarchical import Hierarchical, _simplex, weigh
from mixwright.laws.validation import spearman
from mixwright.store.runs import read_runs
from mixwright.testing import made_up_runs


def test_derivatives_are_right() -> None:
    draw = np.random.default_rng(1)
    theta, x = 0.3 * draw.standard_normal((2, 11)), draw.dirichlet(np.ones(4), 6)
    _, J = _shrunken.evaluate(theta, x)
    for n in range(theta.shape[1]):
        step = np.zeros_like(theta)
        step[:, n] = 1e-6
        quotient = (_shrunken.evaluate(theta + step, x)[0] - _shrunken.evaluate(theta - step, x)[0]) / 2e-6
        np.testing.assert_allclose(J[:, :, n], quotient, rtol=1e-5, atol=1e-8)


def test_the_best_weights_are_found_on_the_simplex() -> None:
    draw = np.random.default_rng(0)
    grid = np.array([[a, b, 100 - a - b] for a in range(101) for b in range(101 - a)]) / 100
    for _ in range(20):
        e = draw.standard_normal((9, 3)) * [1.0, 0.3, 2.0] + draw.standard_normal((9, 1))
        prior, square = draw.dirichlet(np.ones(3)), e.T @ e
        found = _simplex(square, prior, 2.0)
        assert found.min() >= 0
        assert found.sum() == pytest.approx(1)

        def cost(v: np.ndarray, square: np.ndarray = square, prior: np.ndarray = prior) -> np.ndarray:
            return np.einsum("nk,kl,nl->n", v, square, v) + 2 * ((v - prior) ** 2).sum(axis=1)

        assert cost(found[None])[0] <= cost(grid).min() + 1e-9


def test_a_way_that_errs_gets_little_weight() -> None:
    draw = np.random.default_rng(0)
    errors = draw.standard_normal((4, 300, 3)) * [0.1, 1.0, 1.0]
    assert (weigh(errors)[:, 0] > 0.8).all()


@pytest.mark.parametrize("kind", ["additive", "exponential"])
def test_it_predicts_planted_losses_with_honest_intervals(kind: str, planted: Callable) -> None:
    world = planted(kind, seed=3)
    fit = Hierarchical().fit(world.runs(24, noise=0.01), rng(0, "fit"))
    x = np.random.default_rng(9).dirichlet(np.ones(len(world.domains)), 200)
    truth, found = world.truth(x), fit.predict(x)
    ranks = [spearman(found.mean[:, m], truth[:, m]) for m in range(truth.shape[1])]
    assert np.mean(ranks) > 0.95
    assert 0.8 < np.mean(np.abs(found.mean - truth) < 1.645 * np.sqrt(found.spread**2 + 0.01**2)) <= 1.0


def test_few_runs_borrow_from_all_metrics(planted: Callable) -> None:
    """Ten runs over five domains: sharing what domains do beats fitting each metric by itself."""
    alone, together = [], []
    for seed in range(4):
        world = planted("additive", seed=seed)
        runs = world.runs(10, noise=0.01)
        x = np.random.default_rng(seed).dirichlet(np.ones(len(world.domains)), 200)
        truth = world.truth(x)
        single = [Hierarchical().fit(runs.only([m]), rng(0, "fit")).predict(x).mean[:, 0] for m in runs.metrics]
        alone.append(np.abs(np.stack(single, axis=1) - truth).mean())
        together.append(np.abs(Hierarchical().fit(runs, rng(0, "fit")).predict(x).mean - truth).mean())
    assert np.mean(together) < np.mean(alone)


def test_more_metrics_of_noise_do_no_harm_and_missing_values_are_left_out() -> None:
    runs = made_up_runs(20)
    losses = runs.losses.copy()
    losses[5:9, 0] = np.nan
    fit = Hierarchical().fit(replace(runs, losses=losses), rng(0, "fit"))
    assert "fitted on the 16 of 20 runs" in fit.status[0]
    assert np.isnan(fit.residuals[5:9, 0]).all()
    assert np.isfinite(fit.residuals[:5, 0]).all()


def test_fewer_runs_than_domains_say_so_and_still_work() -> None:
    fit = Hierarchical().fit(made_up_runs(4, domains=6), rng(0, "fit"))
    assert all("fewer runs (" in words for words in fit.status)
    wide = Hierarchical().fit(made_up_runs(40, domains=6), rng(0, "fit"))
    x = np.full((1, 6), 1 / 6)
    assert fit.predict(x).spread.mean() > wide.predict(x).spread.mean()


def test_equal_runs_and_constant_metrics_give_a_constant() -> None:
    runs = made_up_runs(12)
    fit = Hierarchical().fit(replace(runs, losses=np.full_like(runs.losses, 3.0)), rng(0, "fit"))
    found = fit.predict(np.eye(3))
    np.testing.assert_allclose(found.mean, 3.0, atol=0.02)
    assert np.isfinite(found.spread).all()


def test_bits_and_nats_give_the_same() -> None:
    runs, x = made_up_runs(12), np.eye(3) * 0.7 + 0.1
    one, other = (
        Hierarchical().fit(replace(runs, losses=factor * runs.losses), rng(0, "fit")).predict(x)
        for factor in (1.0, 0.37)
    )
    np.testing.assert_allclose(other.mean, 0.37 * one.mean, rtol=1e-9)
    np.testing.assert_allclose(other.spread, 0.37 * one.spread, rtol=1e-9)


def test_losses_must_be_positive() -> None:
    runs = made_up_runs(10)
    with pytest.raises(DataError, match="hierarchical law needs positive losses"):
        Hierarchical().fit(replace(runs, losses=runs.losses - 5.0), rng(0, "fit"))


def test_it_beats_the_additive_law_on_published_runs(published: Callable) -> None:
    """Within the training table only: 48 runs predict 200 others."""
    runs = read_runs(published("regmix/train_1m.csv")).runs
    order = np.random.default_rng(0).permutation(len(runs))
    seen, held = runs.take(order[:48]), runs.take(order[48:248])
    errors = {
        law: np.abs(law.fit(seen, rng(0, "fit")).predict(held.mixtures()).mean - held.losses).mean()
        for law in (Hierarchical(), Additive())
    }
    better, worse = errors.values()
    assert better < 0.95 * worse


def test_where_losses_are_high_the_law_misses_more_and_says_so(published: Callable) -> None:
    """Of held-out training rows, 90 % lie inside both where a metric's own domain is absent and where it is common."""
    runs = read_runs(published("regmix/train_1m.csv")).runs
    order = np.random.default_rng(1).permutation(len(runs))
    fit = Hierarchical().fit(runs.take(order[:200]), rng(0, "fit"))
    held = runs.take(order[200:])
    found, x = fit.predict(held.mixtures()), held.mixtures()
    own = np.stack([x[:, runs.domains.index(metric)] for metric in runs.metrics], axis=1)
    inside = np.abs(found.mean - held.losses) < 1.645 * found.spread
    assert 0.82 < inside[own == 0].mean() < 0.97
    assert 0.82 < inside[own > 0.1].mean() < 0.97
    assert found.spread[own == 0].mean() > 2 * found.spread[own > 0.1].mean()
