"""The size law: planted curves over sizes, mixtures trained at one size only, and what is said of one size."""

from __future__ import annotations

import numpy as np
import pytest

from mixwright.core.errors import DataError
from mixwright.core.rng import rng
from mixwright.laws.sizes import SizeLaw

PARAMS = np.array([2e7, 8e7, 2e8])


def losses(mixtures: int, *, gamma: float = 0.2, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Losses ``(K, 3, 2)`` of a planted law, its floors E and gains A ``(K, 2)``, which go together."""
    draw = np.random.default_rng(seed)
    floor = 1.5 + 0.1 * draw.standard_normal((mixtures, 2))
    gain = 0.6 + 0.5 * (floor - 1.5) + 0.005 * draw.standard_normal((mixtures, 2))
    return floor[:, None] + gain[:, None] * (PARAMS[None, :, None] / 1e8) ** -gamma, floor, gain


def test_a_larger_size_is_found() -> None:
    y, floor, gain = losses(12)
    fit = SizeLaw().fit(PARAMS, y, np.repeat(y[None], 16, axis=0), rng(0, "t"))
    assert fit.gamma == pytest.approx(0.2, abs=0.02)
    np.testing.assert_allclose(fit.mean(8e8), floor + gain * 8.0**-0.2, atol=0.003)


def test_a_mixture_of_one_size_leans_on_the_others() -> None:
    y, floor, gain = losses(12)
    short = y.copy()
    short[0, 1:] = np.nan
    fit = SizeLaw().fit(PARAMS, short, np.repeat(short[None], 64, axis=0), rng(0, "t"))
    truth = floor + gain * 8.0**-0.2
    np.testing.assert_allclose(fit.mean(8e8)[0], truth[0], atol=0.02)
    naive = short[0, 0] - np.nanmean(y[:, 0] - y[:, 2], axis=0)
    assert np.abs(fit.mean(2e8)[0] - y[0, 2]).max() < np.abs(naive - y[0, 2]).max()
    spread = fit.predict(8e8).spread
    assert np.all(spread[0] > spread[1:].mean(axis=0))


def test_the_further_the_less_sure() -> None:
    y, _, _ = losses(8)
    fit = SizeLaw().fit(
        PARAMS,
        y + 0.003 * np.random.default_rng(1).standard_normal(y.shape),
        y[None] + np.zeros((64, 1, 1, 1)),
        rng(0, "t"),
    )
    near, far = fit.predict(3e8).spread.mean(), fit.predict(5e9).spread.mean()
    assert 0.004 < near < far


def test_members_carry_what_losses_had() -> None:
    y, _, _ = losses(8)
    common = 0.05 * np.random.default_rng(1).standard_normal((64, 1, 1, 1))
    fit = SizeLaw(apart=1e-6).fit(PARAMS, y, y[None] + common, rng(0, "t"))
    np.testing.assert_allclose(fit.members(8e8).std(axis=0), common.std(), rtol=0.3)


def test_one_size_is_no_size_law() -> None:
    y, _, _ = losses(5)
    with pytest.raises(DataError, match="needs runs of 2 sizes or more; these are all of 20,000,000 parameters"):
        SizeLaw().fit(PARAMS[:1], y[:, :1], y[None, :, :1], rng(0, "t"))
