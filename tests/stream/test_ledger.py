from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixwright.core.errors import StudyError
from mixwright.core.mixture import Mixture
from mixwright.core.schedule import Phase, Schedule
from mixwright.stream.ledger import check_epochs, ledger, ledger_table
from mixwright.stream.order import Plan


def plan_of(supply: list[int], *phases: tuple[int, list[float]]) -> Plan:
    names = [f"d{n}" for n in range(len(supply))]
    wanted = Schedule(tuple(Phase(windows * 8, Mixture.normalized(names, weights)) for windows, weights in phases))
    return Plan.of(wanted, dict(zip(names, supply, strict=True)), 0, seq_len=8, batch=4)


def test_what_is_within_the_cap_is_left_alone() -> None:
    plan = plan_of([100, 100], (400, [1, 1]))
    schedule, notes = check_epochs(plan, cap=4)
    assert (schedule, notes) == (plan.schedule, [])


def test_more_than_four_epochs_are_noted_with_their_source() -> None:
    schedule, notes = check_epochs(plan_of([100, 10], (400, [7, 1])))
    assert schedule.phases[0].mixture.weights.tolist() == [0.875, 0.125]
    assert len(notes) == 1
    assert "d1 5.0 times" in notes[0]
    assert "Muennighoff" in notes[0]


def test_a_cap_that_is_broken_is_an_error_with_ways_out() -> None:
    with pytest.raises(StudyError, match=r"repeat d1 20\.0 times, d0 2\.0 times, above the cap of 1\.5.*raise the cap"):
        check_epochs(plan_of([100, 10], (400, [1, 1])), cap=1.5)
    _, notes = check_epochs(plan_of([100, 10], (400, [1, 1])), cap=1.5, over="allow")
    assert [note.split(":")[0] for note in notes] == [
        "Above the cap of 1.5, which is not enforced",
        "Repeated more than 4 times",
    ]


def test_reweighting_keeps_the_proportions_of_the_rest() -> None:
    schedule, notes = check_epochs(plan_of([10, 1000, 1000], (400, [0.5, 0.3, 0.2])), cap=4, over="reweight")
    weights = schedule.phases[0].mixture.weights
    assert weights == pytest.approx([0.1, 0.54, 0.36])
    assert "d0 20.0 times before" in notes[0]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_domain_exceeds_the_cap_over_all_phases(data) -> None:
    domains = data.draw(st.integers(2, 6))
    supply = data.draw(st.lists(st.integers(5, 80), min_size=domains, max_size=domains))
    weights = st.lists(st.sampled_from([0.0, 0.05, 0.3, 1.0]), min_size=domains, max_size=domains).filter(any)
    phases = [(4 * data.draw(st.integers(5, 40)), data.draw(weights)) for _ in range(data.draw(st.integers(1, 3)))]
    used = np.sum([w for _, w in phases], axis=0) > 0
    plan, cap = plan_of(supply, *phases), data.draw(st.sampled_from([1.0, 2.5, 4.0]))
    try:
        schedule, _ = check_epochs(plan, cap=cap, over="reweight")
    except StudyError as error:
        if "No weights keep" not in str(error):
            raise
        return
    tokens = schedule.exposure().sum(axis=0)
    assert np.all(tokens <= cap * np.array(supply) * 8 * (1 + 1e-9) + 16)  # a window and the rounding of counts
    assert schedule.tokens == plan.schedule.tokens
    assert np.all((tokens > 0) <= used)
    free = tokens < cap * np.array(supply) * 8 * (1 - 1e-6)
    for before, after in zip(plan.schedule.phases, schedule.phases, strict=True):
        kept = free & (before.mixture.weights > 0)
        ratios = after.mixture.weights[kept] / before.mixture.weights[kept]
        assert np.allclose(ratios, ratios[:1])


def test_what_no_weights_can_do_is_said() -> None:
    words = r"phase 1 of 3,200 tokens draws only from d0, d1, which may give 640 in all\."
    with pytest.raises(StudyError, match=words):
        check_epochs(plan_of([10, 10, 99], (400, [1, 1, 0])), cap=4, over="reweight")


def test_the_table_shows_every_phase_and_domain() -> None:
    rows = ledger(plan_of([100, 10], (400, [3, 1]), (400, [0, 1])))
    lines = ledger_table(rows).splitlines()
    assert lines[0].split() == ["phase", "domain", "tokens", "epochs", "total", "epochs"]
    assert [line.split() for line in lines[1:]] == [
        ["1", "d0", "2,400", "3.00", "3.00"],
        ["1", "d1", "800", "10.00", "10.00"],
        ["2", "d0", "0", "0.00", "3.00"],
        ["2", "d1", "3,200", "40.00", "50.00"],
    ]
    assert len({len(line) for line in lines[1:]}) == 1
