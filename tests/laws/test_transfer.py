from dataclasses import replace

import numpy as np
import pytest

from mixwright.core.errors import DataError
from mixwright.core.observation import Runs
from mixwright.core.rng import rng
from mixwright.laws.hierarchical import Hierarchical
from mixwright.laws.transfer import Transfer

DOMAINS = ("a", "b", "c", "d")


def losses(x: np.ndarray, large: bool) -> np.ndarray:
    """Three metrics; a larger model errs less, and domain c helps it more."""
    strength = np.array([[2.0, 0.5, 0.8, 0.3], [0.3, 2.0, 0.5, 0.8], [0.6, 0.6, 0.6, 1.5]])
    strength = strength * (1.4 * np.array([1.0, 1.0, 1.3, 1.0]) if large else 1.0)
    return (1.6 if large else 1.8) + 1 / ((x + 3e-4) ** 0.5 @ strength.T)


def table(cheap: int, dear: int, seed: int = 0, noise: float = 0.005) -> Runs:
    draw = np.random.default_rng(seed)
    x = draw.dirichlet(np.full(4, 0.7), cheap + dear)
    large = np.arange(cheap + dear) >= cheap
    y = np.where(large[:, None], losses(x, True), losses(x, False)) + noise * draw.standard_normal((cheap + dear, 3))
    ids = tuple(f"r{n:03d}" for n in range(cheap + dear))
    return Runs(DOMAINS, ("m1", "m2", "m3"), ids, x, y, tokens=np.full(len(x), 1e9), params=np.where(large, 6e7, 1e6))


@pytest.mark.parametrize("dear", [4, 8, 20])
def test_it_is_never_much_worse_than_the_better_of_its_parts(dear: int) -> None:
    together, parts = [], []
    for seed in range(3):
        runs = table(60, dear, seed)
        x = np.random.default_rng(99).dirichlet(np.full(4, 0.7), 200)
        truth = losses(x, True)
        fit = Transfer().fit(runs, rng(0, "fit"))
        together.append(np.abs(fit.predict(x).mean - truth).mean())
        cheap, large = runs.take(np.arange(60)), runs.take(np.arange(60, 60 + dear))
        small = Hierarchical().fit(cheap, rng(0, "fit"))
        said, at = small.predict(x).mean, small.predict(large.mixtures()).mean
        lines = [np.polyfit(at[:, m], large.losses[:, m], 1) for m in range(3)]
        affine = np.stack([np.polyval(line, said[:, m]) for m, line in enumerate(lines)], axis=1)
        own = Hierarchical().fit(large, rng(0, "fit")).predict(x).mean
        parts.append(min(np.abs(affine - truth).mean(), np.abs(own - truth).mean()))
    assert np.mean(together) < 1.05 * np.mean(parts)


def test_intervals_hold_the_large_runs_losses() -> None:
    hits = []
    for seed in range(4):
        x = np.random.default_rng(50 + seed).dirichlet(np.full(4, 0.7), 200)
        found = Transfer().fit(table(50, 12, seed), rng(0, "fit")).predict(x)
        hits.append(np.mean(np.abs(found.mean - losses(x, True)) < 1.645 * found.spread))
    assert 0.8 < np.mean(hits) <= 1.0


def test_the_settings_are_said_and_the_order_of_rows_is_immaterial() -> None:
    runs = table(30, 6)
    fit = Transfer().fit(runs, rng(0, "fit"))
    assert fit.status[0] == "from 30 runs of 1e+06 parameters at 1e+09 tokens and 6 of 6e+07 parameters at 1e+09 tokens"
    assert len(fit.run_id) == 6
    again = Transfer().fit(runs.take(np.arange(36)[::-1]), rng(0, "fit"))
    x = np.eye(4) * 0.7 + 0.075
    np.testing.assert_allclose(fit.predict(x).mean, again.predict(x).mean, atol=1e-9)


def test_one_setting_is_refused_in_a_sentence() -> None:
    runs = table(20, 4)
    with pytest.raises(DataError, match=r"two settings.*these are of 1"):
        Transfer().fit(replace(runs, params=np.full(24, 1e6)), rng(0, "fit"))
    cheap_only = runs.losses.copy()
    cheap_only[:20, 1] = np.nan
    with pytest.raises(DataError, match="did not measure m2"):
        Transfer().fit(replace(runs, losses=cheap_only), rng(0, "fit"))
