from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixwright.train.learning_rate import annealed, factor

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


@pytest.mark.parametrize("kind", ["linear", "cosine", "wsd"])
def test_annealing_begins_where_the_parent_was_and_falls_linearly_to_zero(kind) -> None:
    shape = {"warmup": 0.1, "decay": 0.2}
    values = [annealed(kind, step, STEPS, since=60, **shape) for step in range(STEPS)]
    assert values[:61] == rates(kind)[:61]
    falls = -np.diff(values[60:])
    assert falls == pytest.approx(np.full(39, values[60] / 40), rel=1e-9)
    assert values[-1] == pytest.approx(values[60] / 40)


@given(st.integers(1, 200), st.data())
def test_annealed_rates_are_positive_and_at_most_the_peak(steps, data) -> None:
    since, step = (data.draw(st.integers(0, steps - 1)) for _ in range(2))
    assert 0 < annealed("wsd", step, steps, since=since, warmup=0.1, decay=0.2) <= 1
