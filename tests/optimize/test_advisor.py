"""The advisor stops where nothing is left to gain and goes on where something is."""

from __future__ import annotations

import numpy as np
import pytest

from mixwright.optimize.advisor import advise, tolerance


def worlds(gaps: list[float], spread: float) -> np.ndarray:
    return 5 + np.array(gaps)[:, None] + spread * np.random.default_rng(0).standard_normal((len(gaps), 400))


def test_a_clear_case_stops() -> None:
    advice = advise(worlds([0, 0.2, 0.3], 0.02), 0, worth=0.4, noise=0.01)
    assert advice.stop
    assert advice.regret < 1e-3
    assert advice.chance == 0
    assert "will not change the decision" in advice.sentence


def test_an_unclear_case_goes_on() -> None:
    advice = advise(worlds([0, 0.02, 0.03, 0.01], 0.1), 0, worth=0.4, noise=0.01)
    assert not advice.stop
    assert advice.chance > 0.5
    assert "may still change the decision" in advice.sentence
    assert f"{advice.regret:.2g} nats" in advice.sentence


def test_the_regret_is_the_mean_of_what_the_best_of_each_world_saves() -> None:
    losses = np.array([[5.0, 5.0, 5.0, 5.0], [5.1, 4.6, 5.1, 5.2], [5.3, 4.9, 4.8, 5.0]])
    advice = advise(losses, 0, worth=0.0, noise=np.nan)
    assert advice.regret == pytest.approx((0.4 + 0.2) / 4)
    assert advice.chance == 0.5
    assert not advice.stop


def test_what_matters_is_a_part_of_the_gain_of_the_noise_or_of_the_loss() -> None:
    assert tolerance(1.0, 0.02, 5.0) == pytest.approx(0.05)
    assert tolerance(0.1, 0.02, 5.0) == pytest.approx(0.01)
    assert tolerance(0.0, np.nan, 5.0) == pytest.approx(0.005)
