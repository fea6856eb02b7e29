"""Laws on runs that tell little or nothing: they work, with wide intervals, and say so; or refuse in one sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mixwright.core.errors import DataError
from mixwright.core.find import find, names
from mixwright.core.observation import FAILED, Runs
from mixwright.core.rng import rng
from mixwright.laws import Z90, GraphFit
from mixwright.laws.validation import validate

LAWS = [name for name in ("additive", "hierarchical") if name in names("laws")]


def fitted(law: str, runs: Runs) -> GraphFit:
    fit: GraphFit = find("laws", law)().fit(runs, rng(0, "bad"))
    return fit


def table(weights: np.ndarray, losses: np.ndarray, **columns: Any) -> Runs:
    count, metrics = losses.shape
    domains = tuple(f"d{n}" for n in range(weights.shape[1]))
    return Runs(
        domains,
        tuple(f"m{n}" for n in range(metrics)),
        tuple(f"r{n}" for n in range(count)),
        weights,
        losses,
        **columns,
    )


def some(count: int = 12, domains: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    weights = draw.dirichlet(np.ones(domains), count)
    return weights, 3 + np.exp(-weights[:, :2]) + 0.02 * draw.normal(size=(count, 2))


pytestmark = pytest.mark.parametrize("law", LAWS)


def test_a_metric_constant_over_runs_is_predicted_as_that_constant(law: str) -> None:
    weights, losses = some()
    losses[:, 1] = 3.25
    fit = fitted(law, table(weights, losses))
    at = np.random.default_rng(1).dirichlet(np.ones(4), 50)
    prediction = fit.predict(at)
    assert np.abs(prediction.mean[:, 1] - 3.25).max() < 0.1
    assert np.isfinite(prediction.mean).all()
    alone = fitted(law, table(weights, losses[:, :1]))
    np.testing.assert_allclose(prediction.mean[:, 0], alone.predict(at).mean[:, 0], atol=0.1)
    assert (
        validate(table(weights, losses), (law,), folds=3, repeats=1, rng=rng(0)).scores[law]["m1"]["spearman"] is None
    )


def test_fewer_runs_than_domains_work_with_wide_intervals_and_a_warning(law: str, planted: Callable[..., Any]) -> None:
    inside = []
    for seed in range(2):
        world = planted("additive", domains=17, seed=seed)
        measured = (*world.metrics[:4], *world.metrics[-2:])
        fit = fitted(law, world.runs(5, seed=seed).only(measured))
        assert all(status.startswith("fewer runs (5) than") for status in fit.status)
        at = np.random.default_rng(seed).dirichlet(np.full(17, 0.5), 200)
        prediction = fit.predict(at)
        half = Z90 * np.hypot(prediction.spread, np.nan_to_num(fit.noise))
        inside.append(np.abs(world.truth(at)[:, [0, 1, 2, 3, -2, -1]] - prediction.mean) <= half)
    assert np.mean(inside) > 0.8


def test_runs_of_one_mixture_say_nothing_of_others(law: str) -> None:
    weights, losses = some()
    repeats = table(np.repeat(weights[:1], 6, axis=0), losses[:6], seed=tuple(range(6)))
    fit = fitted(law, repeats)
    here, far = fit.predict(weights[:1]), fit.predict(np.eye(4))
    assert np.abs(here.mean - losses[:6].mean(axis=0)).max() < 3 * losses[:6].std()
    assert (far.spread.max(axis=0) > 2 * here.spread[0]).all()
    checked = validate(repeats, (law,), rng=rng(0))
    assert checked.scores == {}
    assert any("1 different mixtures" in note for note in checked.notes)


def test_runs_equal_in_everything_but_their_seeds(law: str) -> None:
    weights, losses = some()
    equal = table(np.repeat(weights[:1], 6, axis=0), np.repeat(losses[:1], 6, axis=0), seed=tuple(range(6)))
    fit = fitted(law, equal)
    assert fit.noise.tolist() == [0.0, 0.0]
    np.testing.assert_allclose(fit.predict(weights[:1]).mean, losses[:1], atol=0.05)
    copies = table(np.repeat(weights[:1], 6, axis=0), np.repeat(losses[:1], 6, axis=0))
    with pytest.raises(DataError, match="All runs are exact copies of one another"):
        fitted(law, copies)


def test_missing_losses_and_failed_runs_are_left_out_and_counted(law: str) -> None:
    weights, losses = some(14)
    losses[[2, 5], 0] = np.nan
    losses[7] = 1e9
    status = tuple(FAILED if n == 7 else "done" for n in range(14))
    fit = fitted(law, table(weights, losses, status=status))
    assert "r7" not in fit.run_id
    assert any("11 of" in words for words in fit.status)
    assert np.abs(fit.predict(weights).mean[0] - losses[0]).max() < 0.5


def test_losses_that_are_not_positive_are_refused(law: str) -> None:
    weights, losses = some()
    losses[3, 1] = -0.5
    with pytest.raises(DataError, match=rf"{law} law needs positive losses; m1 has -0\.5. Leave the metric out"):
        fitted(law, table(weights, losses))


@pytest.mark.parametrize("unit", [0.25, 4.0])
def test_the_unit_of_losses_is_immaterial(law: str, unit: float) -> None:
    weights, losses = some()
    plain, scaled = fitted(law, table(weights, losses)), fitted(law, table(weights, unit * losses))
    np.testing.assert_allclose(scaled.predict(weights).mean, unit * plain.predict(weights).mean, rtol=0.01)
    spreads = [fit.predict(weights).spread.mean(axis=0) for fit in (plain, scaled)]
    np.testing.assert_allclose(spreads[1], unit * spreads[0], rtol=0.3)


def test_names_like_formulas_make_no_difference(law: str) -> None:
    weights, losses = some()
    odd = Runs(
        ("=SUM(A1)", 'a "b", c', "漢字/x", "-1\n+2"),
        ("@m", "loss/loss/x"),
        tuple(f"=r{n}" for n in range(12)),
        weights,
        losses,
    )
    fit = fitted(law, odd)
    assert set(fit.parameters) == {"@m", "loss/loss/x"}
    assert np.abs(fit.predict(weights).mean - losses).mean() < 0.05
