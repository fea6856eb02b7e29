"""Seed noise from repeats: pooled, per metric and between metrics; copies are no repeats."""

from __future__ import annotations

import numpy as np

from mixwright.core.observation import Runs
from mixwright.laws import seed_noise
from mixwright.laws._noise import mixture_groups


def table(weights: list[list[float]], losses: list[list[float]], **columns: object) -> Runs:
    ids = tuple(f"r{n}" for n in range(len(weights)))
    metrics = tuple(f"m{n}" for n in range(len(losses[0])))
    return Runs(("a", "b"), metrics, ids, np.array(weights), np.array(losses), **columns)  # type: ignore[arg-type]


def test_noise_is_pooled_over_mixtures() -> None:
    half, most = [0.5, 0.5], [0.9, 0.1]
    runs = table(
        [half, half, most, most, most, [1, 0]],
        [[1.0, 2], [3.0, 2], [5.0, np.nan], [6.0, 4], [7.0, 8], [9.0, 9]],
        seed=(0, 1, 0, 1, 2, 0),
    )
    noise = seed_noise(runs)
    np.testing.assert_allclose(noise.sd, [np.sqrt((2 + 2) / 3), np.sqrt((0 + 8) / 2)])
    assert noise.freedom.tolist() == [3, 2]
    assert noise.runs.tolist() == [5, 4]


def test_noise_of_a_mean_needs_the_covariance() -> None:
    rng = np.random.default_rng(0)
    losses = rng.normal(0, 0.1, (40, 1)) + rng.normal(0, 0.05, (40, 2))
    noise = seed_noise(table([[0.5, 0.5]] * 40, losses.tolist(), seed=tuple(range(40))))
    q = np.array([0.5, 0.5])
    np.testing.assert_allclose(np.sqrt(q @ noise.covariance @ q), losses.mean(axis=1).std(ddof=1), rtol=1e-12)


def test_no_repeats_no_noise() -> None:
    noise = seed_noise(table([[0.5, 0.5], [0.4, 0.6]], [[1.0], [2.0]]))
    assert np.isnan(noise.sd).all()
    assert noise.runs.tolist() == [0]


def test_other_sizes_tokens_and_exact_copies_are_no_repeats() -> None:
    half = [[0.5, 0.5]] * 2
    assert np.isnan(seed_noise(table(half, [[1.0], [2.0]], tokens=np.array([1.0, 2.0]))).sd).all()
    assert np.isnan(seed_noise(table(half, [[1.0], [2.0]], params=np.array([1.0, 2.0]))).sd).all()
    assert np.isnan(seed_noise(table(half, [[1.0], [1.0]], seed=(3, 3))).sd).all(), "a copy"
    assert seed_noise(table(half, [[1.0], [1.0]], seed=(3, 4))).sd.tolist() == [0.0], "another seed with the same loss"


def test_mixtures_within_rounding_are_one() -> None:
    weights = np.array([[0.2, 0.8], [0.5, 0.5], [0.2 + 4e-10, 0.8 - 4e-10], [0.2 + 1e-6, 0.8 - 1e-6], [0.5, 0.5]])
    assert mixture_groups(weights).tolist() == [0, 1, 0, 2, 1]


def test_rows_of_one_run_are_no_repeats() -> None:
    half = [[0.5, 0.5]] * 3
    steps = Runs(("a", "b"), ("m",), ("r", "r", "s"), np.array(half), np.array([[3.0], [2.0], [2.5]]), step=(1, 2, 2))
    noise = seed_noise(steps)
    assert noise.freedom.tolist() == [1]
    assert noise.runs.tolist() == [2]
    np.testing.assert_allclose(noise.sd, [np.sqrt(0.125)])
    same_tokens = Runs(
        ("a", "b"), ("m",), ("r", "r"), np.array(half[:2]), np.array([[3.0], [2.0]]), tokens=np.ones(2), step=(1, 2)
    )
    assert np.isnan(seed_noise(same_tokens).sd).all()
