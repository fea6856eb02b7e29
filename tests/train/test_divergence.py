from __future__ import annotations

import math

import numpy as np
import pytest

from mixwright.train.divergence import FIRST, LAST, diverged, trimmed


def healthy(steps: int = 2000, noise: float = 0.4, seed: int = 0) -> np.ndarray:
    """A power law down from 7 nats with the noise of tiny batches."""
    draw = np.random.default_rng(seed)
    return 3 + 4 * (1 + np.arange(steps) / 50) ** -0.5 + noise * draw.standard_normal(steps)


def stopped_at(losses) -> int | None:
    """The first step at which a run with these losses would be stopped."""
    seen: list[float] = []
    for step, loss in enumerate(losses):
        seen = trimmed([*seen, float(loss)])
        if diverged(seen):
            return step
    return None


@pytest.mark.parametrize("noise", [0.05, 0.4, 1.5])
def test_healthy_runs_go_on_however_noisy(noise: float) -> None:
    for seed in range(5):
        assert stopped_at(healthy(noise=noise, seed=seed)) is None


def test_spikes_that_heal_and_harder_text_go_on() -> None:
    spiked = healthy()
    spiked[500:540] += 20
    assert stopped_at(spiked) is None
    slow = healthy()
    slow[500:900] += 15 * np.exp(-np.arange(400) / 80)
    assert stopped_at(slow) is None
    other_text = np.r_[healthy(1000), 9 * (1 + np.arange(1000) / 30) ** -0.3]
    assert stopped_at(other_text) is None


def test_a_run_that_never_learnt_goes_on() -> None:
    assert stopped_at(7 + 0.3 * np.random.default_rng(1).standard_normal(3000)) is None


@pytest.mark.parametrize("how", ["jump", "climb", "chaos"])
def test_a_run_that_is_lost_is_stopped_soon(how: str) -> None:
    losses, steps = healthy(), np.arange(1500)
    lost = {
        "jump": np.full(1500, 12.0),
        "climb": 7.0 + 0.02 * steps,
        "chaos": 15 + 3 * np.random.default_rng(0).standard_normal(1500),
    }[how]
    losses[500:] = lost
    at = stopped_at(losses)
    assert at is not None
    assert 500 + LAST // 2 < at <= 500 + 3 * LAST


def test_a_loss_that_is_not_finite_is_lost_at_once() -> None:
    assert diverged([1.0, math.nan]) == "its loss is nan"
    assert diverged([math.inf]) == "its loss is inf"
    assert diverged([]) == ""


def test_the_ends_alone_decide() -> None:
    losses = healthy(400).tolist()
    losses[250:] = [13.0] * 150
    assert len(trimmed(losses)) == FIRST + LAST
    assert diverged(trimmed(losses)) == diverged(losses)
    assert "began at" in diverged(losses)
