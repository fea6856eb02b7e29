"""The step law: schedules, planted trajectories, order that must not matter, what is said when data lack, published runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from mixwright.core.errors import DataError, StudyError
from mixwright.core.rng import rng
from mixwright.laws._curves import Exponent
from mixwright.laws._tied import solve_tied
from mixwright.laws.steps import LearningRate, StepLaw, pooled_exponents

EARLY = tuple(np.linspace(1e4, 3e4, 9))
STEP = 1_048_576


def published_law() -> StepLaw:
    """The published runs' schedule: 2k steps of warm-up, cosine to a tenth of the peak at 100k steps."""
    rate = LearningRate("cosine", total=1e5 * STEP, warmup=2e3 * STEP, final=0.1, memory=1e3 * STEP)
    return StepLaw(rate)


class TestLearningRate:
    @pytest.mark.parametrize("kind", ["constant", "linear", "cosine", "wsd"])
    def test_area_is_the_integral_of_the_rate_and_annealing_what_is_missing(self, kind: str) -> None:
        rate = LearningRate(kind, total=1000.0, warmup=100.0, final=0.2)  # type: ignore[arg-type]
        t = np.linspace(0, 1200, 24001)
        integral = np.concatenate([[0], np.cumsum((rate.rate(t)[1:] + rate.rate(t)[:-1]) / 2) * (t[1] - t[0])])
        np.testing.assert_allclose(rate.area(t), integral, atol=0.05)
        assert rate.rate(100.0) == pytest.approx(1.0)
        assert rate.rate(1100.0) == pytest.approx(1.0 if kind == "constant" else 0.2)
        late = t >= 100
        np.testing.assert_allclose(rate.annealed(t)[late], 1 - rate.rate(t)[late], atol=1e-12)
        assert np.all(rate.annealed(t)[~late] == 0)

    def test_half_way_down_a_cosine(self) -> None:
        rate = LearningRate("cosine", total=1000.0, warmup=0.0, final=0.0)
        assert rate.rate(500.0) == pytest.approx(0.5)
        assert rate.area(1000.0) == pytest.approx(500.0, rel=1e-5)

    def test_memory_delays_annealing(self) -> None:
        at_once = LearningRate("wsd", total=1000.0, final=0.0, decay=0.1)
        later = replace(at_once, memory=200.0)
        assert later.annealed(1000.0) < at_once.annealed(1000.0)
        assert later.annealed(3000.0) == pytest.approx(1.0, abs=1e-3)

    def test_units_of_tokens_do_not_matter(self) -> None:
        small, large = LearningRate(total=1e3, warmup=20.0), LearningRate(total=1e9, warmup=2e7)
        t = np.array([50.0, 400.0, 990.0])
        np.testing.assert_allclose(small.area(t) * 1e6, large.area(t * 1e6), rtol=1e-9)

    def test_a_warm_up_as_long_as_all_is_refused(self) -> None:
        with pytest.raises(StudyError, match="warms up for less"):
            LearningRate(total=100.0, warmup=100.0)


class TestPlanted:
    def test_a_late_annealed_loss_is_found_from_early_checkpoints(self, trajectories: Callable) -> None:
        world = trajectories()
        runs = world.runs(8, EARLY)
        fit = StepLaw(world.rate, drop=world.drop).fit(runs, rng(0, "t"))
        for tokens in (5e4, 1e5):
            truth = np.concatenate(
                [world.truth(fit.last.mixtures()[[n]], tokens, fit.last.params[n]) for n in range(24)]
            )
            np.testing.assert_allclose(fit.mean(tokens), truth, atol=0.004)
        assert fit.alpha == pytest.approx(world.alpha, abs=0.02)

    def test_a_law_blind_to_the_schedule_misses_it(self, trajectories: Callable) -> None:
        world = trajectories()
        runs = world.runs(8, EARLY)
        truth = np.concatenate(
            [world.truth(m[None], 1e5, p) for m, p in zip(runs.last().mixtures(), runs.last().params, strict=True)]
        )
        knows, blind = (StepLaw(r, drop=world.drop).fit(runs, rng(0, "t")).mean(1e5) for r in (world.rate, None))
        assert np.abs(knows - truth).mean() < 0.2 * np.abs(blind - truth).mean()

    def test_intervals_hold_what_comes(self, trajectories: Callable) -> None:
        inside = []
        for seed in range(6):
            world = trajectories(seed=seed, drop=0.042 + 0.01 * (seed - 2.5) / 2.5)
            runs = world.runs(6, EARLY, noise=0.005)
            fit = StepLaw(world.rate).fit(runs, rng(seed, "t"))
            last = fit.last
            truth = np.concatenate(
                [world.truth(m[None], 6e4, p) for m, p in zip(last.mixtures(), last.params, strict=True)]
            )
            found = fit.predict(6e4)
            inside.append(np.abs(found.mean - truth) <= 1.645 * found.spread)
        assert 0.8 <= np.mean(inside) <= 1.0

    def test_annealed_checkpoints_of_one_run_tell_what_annealing_gives(self, trajectories: Callable) -> None:
        world = trajectories(drop=0.08)
        runs = world.runs(8, (*EARLY, 6e4, 8e4, 1e5), sizes=(8e7,), noise=0.003)
        early = runs.tokens <= 3e4
        long = early | (np.array(runs.run_id) == runs.run_id[0])
        near, far = (StepLaw(world.rate).fit(runs.take(rows), rng(0, "t")) for rows in (early, long))
        assert near.drop == StepLaw().drop
        assert far.drop == pytest.approx(0.08, abs=0.025)
        assert far.drops.std() < 0.8 * near.drops.std()
        others = [n for n, name in enumerate(far.last.run_id) if name != runs.run_id[0]]
        truth = world.truth(far.last.mixtures(), 1e5, 8e7)[others]
        assert np.abs(far.mean(1e5)[others] - truth).mean() < np.abs(near.mean(1e5)[others] - truth).mean()

    def test_a_checkpoints_noise_is_found(self, trajectories: Callable) -> None:
        world = trajectories()
        fit = StepLaw(world.rate).fit(world.runs(20, EARLY, noise=0.01), rng(0, "t"))
        np.testing.assert_allclose(fit.noise.mean(), 0.01, rtol=0.15)
        assert fit.covariance.shape == (2, 2)

    def test_the_order_of_rows_does_not_matter(self, trajectories: Callable) -> None:
        world = trajectories()
        runs = world.runs(5, EARLY, noise=0.01)
        shuffled = runs.take(np.random.default_rng(0).permutation(len(runs)))
        one, other = (StepLaw(world.rate).fit(r, rng(0, "t")) for r in (runs, shuffled))
        place = [other.last.run_id.index(name) for name in one.last.run_id]
        np.testing.assert_allclose(one.mean(5e4), other.mean(5e4)[place], atol=1e-9)

    def test_a_metric_some_runs_lack_is_predicted_for_the_others(self, trajectories: Callable) -> None:
        world = trajectories()
        runs = world.runs(6, EARLY)
        losses = runs.losses.copy()
        losses[[name == "m00-2e+07" for name in runs.run_id], 1] = np.nan
        fit = StepLaw(world.rate).fit(replace(runs, losses=losses), rng(0, "t"))
        row = fit.last.run_id.index("m00-2e+07")
        assert np.isnan(fit.mean(5e4)[row, 1])
        assert np.isfinite(np.delete(fit.mean(5e4), row, axis=0)).all()


class TestWhatIsSaid:
    def test_without_tokens(self, trajectories: Callable) -> None:
        runs = trajectories().runs(3, EARLY)
        tokens = runs.tokens.copy()
        tokens[4] = np.nan
        with pytest.raises(DataError, match="needs the tokens of every checkpoint; run m00"):
            StepLaw().fit(replace(runs, tokens=tokens, step=tuple(range(len(runs)))), rng(0, "t"))

    def test_too_few_checkpoints(self, trajectories: Callable) -> None:
        runs = trajectories().runs(3, EARLY[:2])
        with pytest.raises(DataError, match=r"needs 3 checkpoints of a run; m00-2e\+07 has 2 with val:code"):
            StepLaw().fit(runs, rng(0, "t"))


def test_sizes_lend_each_other_their_exponent() -> None:
    clear, dim = Exponent(0.6, 1e6), Exponent(0.1, 1.0)
    mean, covariance = pooled_exponents([clear, dim], 0.4, 0.1, 0.05)
    assert mean[0] == pytest.approx(0.6, abs=0.01)
    assert 0.5 < mean[1] < 0.6
    assert covariance[0, 0] < covariance[1, 1]
    alone, _ = pooled_exponents([Exponent(0.9, 0.0)], 0.4, 0.1, 0.05)
    assert alone[0] == pytest.approx(0.4)


class TestTied:
    def test_a_planted_law_is_recovered(self) -> None:
        tokens = np.linspace(1e10, 3e10, 11)
        c, gain, alpha = np.array([[2.0, 3.0]]), np.array([[0.4, 0.2]]), np.array([0.37])
        losses = c[:, :, None] + gain[:, :, None] * (tokens / 1e10) ** -alpha[0]
        found = solve_tied(tokens, np.concatenate([losses, losses + 1.0]))
        np.testing.assert_allclose(found.alpha, 0.37, rtol=1e-4)
        np.testing.assert_allclose(found.c[0], c[0], rtol=1e-3)
        assert found.objective.max() < 1e-12

    def test_no_start_of_a_general_solver_ends_lower(self) -> None:
        from scipy.optimize import minimize

        draw = np.random.default_rng(0)
        tokens = np.linspace(1.0, 3.0, 11)
        losses = 2.0 + np.array([0.5, 0.3])[:, None] * tokens**-0.6 + 0.03 * draw.standard_normal((2, 11))
        losses[1, 4] += 0.4  # beyond Huber's threshold
        found = solve_tied(tokens, losses[None])

        def objective(p: np.ndarray) -> float:
            off = np.abs(np.exp(p[1:3])[:, None] + np.exp(p[3:])[:, None] * tokens ** -np.exp(p[0]) - losses)
            inside = np.minimum(off, 0.05)
            return float((inside * (off - inside / 2)).sum())

        starts = [np.log([a, 1.5, 1.5, 0.5, 0.5]) for a in (0.1, 0.3, 0.6, 1.0, 2.0)]
        best = min(
            minimize(objective, s, method="Nelder-Mead", options={"maxiter": 8000, "fatol": 1e-12}).fun for s in starts
        )
        assert found.objective[0] <= best * (1 + 1e-6)


class TestPublishedRuns:
    def test_early_checkpoints_tell_late_ones(self, mixing_laws: Callable) -> None:
        runs, q = mixing_laws("5mix")
        step = np.array(runs.step)
        fit = published_law().fit(runs.take((step >= 10_000) & (step <= 30_000)), rng(0, "published"))
        row = {name: n for n, name in enumerate(fit.last.run_id)}
        bars = {(18915328, 0): 0.0038, (18915328, 1): 0.0135, (85056000, 0): 0.0078, (85056000, 1): 0.024}
        for (params, late), bar in bars.items():
            kept = (runs.params == params) & ((step >= 90_000) if late else (step >= 40_000) & (step <= 80_000))
            errors = [
                fit.mean(runs.tokens[n])[row[runs.run_id[n]]] @ q - runs.losses[n] @ q for n in np.flatnonzero(kept)
            ]
            assert np.abs(errors).mean() <= bar

    def test_the_default_of_the_annealing_is_what_the_default_mixture_says(self, mixing_laws: Callable) -> None:
        runs, q = mixing_laws("redpajama")
        step = np.array(runs.step)
        fit = published_law().fit(runs.take(step <= 30_000), rng(0, "published"))
        for n in np.flatnonzero(step == 100_000):
            row = fit.last.run_id.index(runs.run_id[n])
            assert abs(fit.mean(runs.tokens[n])[row] @ q - runs.losses[n] @ q) <= 0.002
