"""The batched solver against others, alone and together, with bounds, priors and Huber's loss."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import lsq_linear, minimize

from mixwright.laws._solver import Problems, solve

Array = np.ndarray


def problems(y: Array, width: int, *, w: Array | None = None, prior: float = 0.0, low: float = -np.inf, high: float = np.inf,
             delta: float = np.inf) -> Problems:  # fmt: skip
    count = len(y)
    return Problems(
        y, np.ones_like(y) if w is None else w, np.ones(count), prior * np.repeat(np.eye(width)[None], count, axis=0),
        np.zeros((count, width)), np.full((count, width), low), np.full((count, width), high), np.full(count, delta),
    )  # fmt: skip


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_bounded_linear_problems_agree_with_scipy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    A, y = rng.normal(size=(12, 5)), rng.normal(size=(3, 12))
    found = solve(
        lambda t: (t @ A.T, np.repeat(A[None], len(t), axis=0)), np.zeros((3, 5)), problems(y, 5, low=-0.1, high=0.2)
    )
    assert found.settled.all()
    for row, theta in zip(y, found.theta, strict=True):
        np.testing.assert_allclose(theta, lsq_linear(A, row, (-0.1, 0.2), method="bvls").x, atol=1e-5)


def curve(x: Array):  # type: ignore[no-untyped-def]
    def model(theta: Array) -> tuple[Array, Array]:
        above = np.exp(theta[:, 1:2] + theta[:, 2:3] * x)
        return theta[:, :1] + above, np.stack([np.ones_like(above), above, above * x], axis=2)

    return model


def test_a_batch_gives_what_each_problem_alone_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    x = np.linspace(0, 1, 15)
    y = 2 + np.exp(rng.normal(0, 1, (6, 1)) - 2 * x) + 0.05 * rng.normal(size=(6, 15))
    together, start = problems(y, 3, prior=0.1), np.tile([1.0, 0.0, -1.0], (6, 1))
    found = solve(curve(x), start, together)
    for n in range(6):
        alone = solve(curve(x), start[n : n + 1], together.take(slice(n, n + 1)))
        np.testing.assert_allclose(found.theta[n], alone.theta[0], atol=1e-9)
    monkeypatch.setattr("mixwright.laws._solver._CHUNK", 50)
    np.testing.assert_allclose(solve(curve(x), start, together).theta, found.theta, atol=1e-9)


def test_huber_and_weights_and_prior_agree_with_a_general_minimizer() -> None:
    rng = np.random.default_rng(2)
    x = np.linspace(0, 1, 20)
    y = 2 + np.exp(0.5 - 2 * x)[None] + 0.05 * rng.normal(size=(1, 20))
    y[0, 3] += 5.0
    w = rng.exponential(size=(1, 20))
    given_problems = problems(y, 3, w=w, prior=0.3, delta=0.1)
    found = solve(curve(x), np.array([[1.0, 0.0, -1.0]]), given_problems)

    def objective(theta: Array) -> float:
        z = np.abs(theta[0] + np.exp(theta[1] + theta[2] * x) - y[0])
        return float(0.5 * (w[0] * np.where(z <= 0.1, z * z, 0.2 * z - 0.01)).sum() + 0.5 * 0.09 * theta @ theta)

    other = minimize(objective, found.theta[0] + 0.01, method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 1e-14})
    np.testing.assert_allclose(found.objective[0], objective(found.theta[0]), rtol=1e-12)
    assert found.objective[0] <= other.fun + 1e-10


def test_overflow_and_hopeless_starts_do_no_harm() -> None:
    x = np.linspace(0, 1, 10)
    found = solve(
        curve(x), np.array([[0.0, 800.0, 0.0], [1.0, 0.0, -1.0]]), problems(np.full((2, 10), 3.0), 3, prior=0.1)
    )
    assert np.isfinite(found.theta).all()
    assert np.isfinite(found.objective[1])


def test_a_parameter_that_nothing_depends_on_stays_where_it_is() -> None:
    A = np.array([[1.0, 0.0], [2.0, 0.0]])
    found = solve(
        lambda t: (t @ A.T, np.repeat(A[None], len(t), axis=0)),
        np.array([[0.0, 7.0]]),
        problems(np.array([[1.0, 2.0]]), 2),
    )
    np.testing.assert_allclose(found.theta, [[1.0, 7.0]])
