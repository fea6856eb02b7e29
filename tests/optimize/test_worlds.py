"""Worlds agree with what was measured, scatter as far as held-out errors say, and differ between sizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from mixwright.core.errors import DataError
from mixwright.core.observation import Runs
from mixwright.core.rng import rng
from mixwright.laws import GraphFit
from mixwright.optimize.worlds import ALIKE, Measured, Size, imagine, near_misfit

HALF = np.array([0.5, 0.5])


def measured_runs(fit: GraphFit, shift: float = 0.0, **sizes: float) -> Runs:
    """The swept mixtures with the losses the fit predicts, moved by ``shift``."""
    losses = fit.predict(fit.swept).mean + shift
    whole = {name: np.full(len(losses), value) for name, value in sizes.items()}
    return Runs(
        fit.domains, fit.metrics, fit.run_id, fit.swept, losses, params=whole.get("params"), tokens=whole.get("tokens")
    )


def with_misfit(fit: GraphFit, size: float) -> GraphFit:
    errors = size * np.random.default_rng(5).standard_normal((len(fit.swept), 1))
    return replace(fit, residuals=np.repeat(errors, len(fit.metrics), axis=1), reach=1.0)


def test_worlds_pass_through_what_was_measured_and_spread_away_from_it(known: Callable[..., GraphFit]) -> None:
    fit = with_misfit(known("additive", noise=1e-4), 0.1)
    there = Measured.of(fit, measured_runs(fit, 0.2), HALF)
    points = np.concatenate([there.x, np.random.default_rng(1).dirichlet(np.ones(3), 20)])
    worlds = imagine(fit, HALF, points, there, rng=rng(0, "worlds"))
    at = len(there.x)
    assert np.abs(worlds.target[:at] - there.y[:, None]).max() < 0.02
    assert worlds.target[at:].std(axis=1).mean() > 5 * worlds.target[:at].std(axis=1).mean()


def test_the_misfit_is_that_near_the_best(known: Callable[..., GraphFit]) -> None:
    fit = known("additive", wobble=1e-4, noise=1e-6)
    loss = fit.mean(fit.swept, HALF)
    bad = loss >= np.sort(loss)[-3]  # the corners
    errors = np.where(bad, 0.5, 0.02)[:, None] * np.ones((1, 2))
    assert near_misfit(replace(fit, residuals=errors), HALF) < 0.15
    assert near_misfit(replace(fit, residuals=0.5 * np.ones_like(errors)), HALF) == pytest.approx(0.5, rel=0.01)


def test_sizes_far_apart_share_less_of_the_misfit(known: Callable[..., GraphFit]) -> None:
    fit = with_misfit(known("additive", wobble=1e-6, noise=1e-4), 0.1)
    here, near, far = Size(1e6, 1e9), Size(3e6, 1e9), Size(1e8, 1e9)
    there = Measured.of(fit, measured_runs(fit, params=1e6, tokens=1e9), HALF)
    assert there.size == here
    points = np.random.default_rng(1).dirichlet(np.ones(3), 40)
    worlds = imagine(fit, HALF, points, there, rng=rng(0, "worlds"), target=here, sizes=(here, near, far), count=1024)

    def alike(one: np.ndarray, other: np.ndarray) -> float:
        pairs = zip(one, other, strict=True)
        return float(np.mean([np.corrcoef(a, b)[0, 1] for a, b in pairs]))

    assert np.array_equal(worlds.target, worlds.at[0])
    assert alike(worlds.target, worlds.at[1]) > alike(worlds.target, worlds.at[2]) + 0.1
    assert near.apart(here) == pytest.approx(np.log10(3))
    assert far.apart(here) == pytest.approx(2)
    assert 0 < ALIKE < 1


def test_only_runs_of_the_fit_at_its_commonest_size_count(known: Callable[..., GraphFit]) -> None:
    fit = known("additive")
    runs = measured_runs(fit, params=1e6, tokens=1e9)
    params = runs.params.copy()
    params[:2] = 1e7
    moved = replace(runs, params=params, domains=runs.domains, weights=runs.weights)
    there = Measured.of(fit, moved, HALF)
    assert len(there.y) == len(runs) - 2
    assert np.array_equal(there.x, fit.swept[2:])
    assert len(Measured.of(fit, moved, HALF, Size(1e7, 1e9)).y) == 2
    assert len(Measured.of(fit, None, HALF).y) == 0


def test_runs_of_another_study_are_refused(known: Callable[..., GraphFit]) -> None:
    fit = known("additive")
    other = known("additive", metrics=1)
    with pytest.raises(DataError, match="they lack target:1"):
        Measured.of(fit, measured_runs(other), HALF)
    with pytest.raises(DataError, match="tokens must be positive"):
        Size(1e6, -1.0)
