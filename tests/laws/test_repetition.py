"""Repetition: the published formula, a graph that says the same, optima that stop repeating, proxies that repeated."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from mixwright.core.errors import DataError
from mixwright.core.observation import Runs
from mixwright.core.rng import rng
from mixwright.laws import GraphFit
from mixwright.laws.additive import Additive
from mixwright.laws.repetition import R_STAR, best_r_star, corrected, effective_weights, repeated

SUPPLY = {"d0": 100.0, "d1": 5000.0, "d2": 50.0, "d3": 400.0, "d4": 900.0}
Q = np.full(7, 1 / 7)


@pytest.fixture
def fit(planted: Callable) -> GraphFit:
    return Additive().fit(planted("additive").runs(30, noise=0.01), rng(0, "t"))


def points(count: int) -> np.ndarray:
    return np.random.default_rng(3).dirichlet(np.ones(5), count)


class TestEffectiveTokens:
    def test_one_epoch_is_worth_itself(self) -> None:
        np.testing.assert_array_equal(
            effective_weights(np.array([[0.4, 0.6]]), 10.0, np.array([4.0, 6.0])), [[0.4, 0.6]]
        )

    def test_four_epochs_are_nearly_as_good_as_new_and_forty_little_more(self) -> None:
        """Unique tokens 1 of 100: D' = U + U R* (1 - exp(-(epochs - 1) / R*)), Muennighoff et al. 2023, equation 5."""
        for epochs, worth in ((4, 1 + 15.39 * (1 - np.exp(-3 / 15.39))), (40, 1 + 15.39 * (1 - np.exp(-39 / 15.39)))):
            r = epochs / 100
            found = effective_weights(np.array([[r, 1 - r]]), 100.0, np.array([1.0, 1000.0]))
            assert found[0, 0] * 100 == pytest.approx(worth)
        assert worth < 16.4  # forty epochs: fewer than 1 + R* tokens' worth

    def test_never_more_than_the_tokens_seen_and_rising_in_them(self) -> None:
        r = np.linspace(0, 1, 101)
        found = effective_weights(np.stack([r, 1 - r], axis=1), 1e3, np.array([50.0, 1e4]))[:, 0]
        assert np.all(found <= r + 1e-15)
        assert np.all(np.diff(found) > 0)

    def test_no_tokens_no_repetition(self) -> None:
        with pytest.raises(DataError, match="positive number of training tokens; got 0"):
            effective_weights(np.array([[1.0]]), 0.0, np.array([1.0]))


class TestRepeated:
    def test_nothing_changes_while_nothing_is_repeated(self, fit: GraphFit) -> None:
        plenty = repeated(fit, 10.0, SUPPLY)
        np.testing.assert_allclose(plenty.predict(points(9)).mean, fit.predict(points(9)).mean, rtol=1e-14)
        np.testing.assert_allclose(plenty.predict(points(9)).spread, fit.predict(points(9)).spread, rtol=1e-12)

    def test_the_composition_learned_and_the_tokens_lost(self, fit: GraphFit) -> None:
        x, unique = points(9), np.array([SUPPLY[d] for d in fit.domains])
        effective = effective_weights(x, 1000.0, unique)
        kept = effective.sum(axis=1, keepdims=True)
        expected = fit.predict(effective / kept).mean * kept**-0.095
        np.testing.assert_allclose(repeated(fit, 1000.0, SUPPLY).predict(x).mean, expected, rtol=1e-12)

    def test_the_gradient_is_exact(self, fit: GraphFit) -> None:
        scarce, x = repeated(fit, 1000.0, SUPPLY), points(9)
        _, slope = scarce.mean_and_slope(x, Q)
        numeric = np.stack([(scarce.mean(x + d, Q) - scarce.mean(x - d, Q)) / 2e-6 for d in 1e-6 * np.eye(5)], axis=1)
        np.testing.assert_allclose(slope, numeric, rtol=1e-5, atol=1e-7)

    def test_more_of_a_scarce_domain_stops_helping(self, fit: GraphFit) -> None:
        """Along the way to all of d2, the best place comes earlier when d2 is scarce, and long before its fiftieth copy."""
        q = np.zeros(7)
        q[fit.metrics.index("val:d2")] = 1.0
        s = np.linspace(0, 0.99, 200)[:, None]
        way = (1 - s) * np.array([0.25, 0.25, 0, 0.25, 0.25]) + s * np.eye(5)[2]
        plenty = fit.mean(way, q).argmin()
        scarce = repeated(fit, 1000.0, SUPPLY | {"d2": 5.0}).mean(way, q).argmin()
        assert scarce < plenty
        assert way[scarce, 2] * 1000 / 5 < 50

    def test_a_domain_without_supply(self, fit: GraphFit) -> None:
        with pytest.raises(DataError, match="The supply of d2 is not given: say how many unique tokens"):
            repeated(fit, 1000.0, {d: 1.0 for d in fit.domains if d != "d2"})


class TestProxiesThatRepeated:
    def runs(self, planted: Callable, r_star: float) -> tuple[Runs, Callable]:
        """Runs of 1,000 tokens whose losses are what their effective tokens give in a planted world."""
        world = planted("additive")
        plain = world.runs(40)
        unique = np.array([SUPPLY[d] for d in plain.domains])
        effective = effective_weights(plain.mixtures(), 1000.0, unique, r_star=r_star)
        kept = effective.sum(axis=1, keepdims=True)
        losses = world.truth(effective / kept) * kept**-0.095
        runs = Runs(plain.domains, plain.metrics, plain.run_id, plain.mixtures(), losses, tokens=np.full(40, 1000.0))
        return runs, world.truth

    def test_corrected_runs_show_the_world_without_repetition(self, planted: Callable) -> None:
        runs, truth = self.runs(planted, R_STAR)
        fixed = corrected(runs, SUPPLY)
        np.testing.assert_allclose(fixed.losses, truth(fixed.mixtures()), rtol=1e-12)
        raw, right = (Additive().fit(r, rng(0, "t")).predict(points(30)).mean for r in (runs, fixed))
        assert np.abs(right - truth(points(30))).mean() < np.abs(raw - truth(points(30))).mean()

    def test_r_star_is_found(self, planted: Callable) -> None:
        runs, _ = self.runs(planted, 2.0)
        found, errors = best_r_star(runs, SUPPLY, Additive(members=8), 0)
        assert found in (1.0, 2.0, 4.0)
        assert errors[2.0] < errors[100.0]

    def test_runs_that_repeated_nothing_keep_the_published_one(self, planted: Callable) -> None:
        runs, _ = self.runs(planted, 2.0)
        assert best_r_star(runs, dict.fromkeys(runs.domains, 1e6), Additive(), 0) == (R_STAR, {})
