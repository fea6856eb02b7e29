from __future__ import annotations

import pytest

from mixwright.train.learning_rate import factor

STEPS = 100


def rates(kind, **more) -> list[float]:
    return [factor(kind, step, STEPS, **({"warmup": 0.1, "decay": 0.2} | more)) for step in range(STEPS)]


@pytest.mark.parametrize("kind", ["linear", "cosine", "wsd"])
def test_every_schedule_rises_falls_and_stays_positive(kind) -> None:
    values = rates(kind)
    assert max(values) == 1
    assert min(values) > 0
    assert values[:11] == sorted(values[:11])
    assert values[10:] == sorted(values[10:], reverse=True)
    assert values[-1] < 0.05


def test_wsd_is_flat_until_the_decay() -> None:
    values = rates("wsd")
    assert values[10:80] == [1.0] * 70
    assert values[81] < 1


def test_linear_and_cosine_meet_in_the_middle() -> None:
    assert rates("linear")[55] == pytest.approx(0.5)
    assert rates("cosine")[55] == pytest.approx(0.5)
    assert rates("cosine")[30] > rates("linear")[30]


@pytest.mark.parametrize("kind", ["linear", "cosine", "wsd"])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_the_shortest_runs_have_rates_too(kind, steps) -> None:
    for step in range(steps):
        assert 0 < factor(kind, step, steps, warmup=0.5, decay=0.2) <= 1
