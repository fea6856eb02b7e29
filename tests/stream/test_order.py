from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixwright.core.errors import DataError
from mixwright.core.mixture import Mixture
from mixwright.core.schedule import Phase, Schedule
from mixwright.stream.order import ORDER_VERSION, Plan, order


def schedule(*phases: tuple[int, list[float]]) -> Schedule:
    names = [f"d{n}" for n in range(len(phases[0][1]))]
    return Schedule(tuple(Phase(tokens, Mixture.normalized(names, weights)) for tokens, weights in phases))


def plan_of(wanted: Schedule, supply: list[int] | None = None, seed: int = 0, **more) -> Plan:
    supply = supply or [50] * len(wanted.domains)
    settings = {"seq_len": 8, "batch": 4} | more
    return Plan.of(wanted, dict(zip(wanted.domains, supply, strict=True)), seed, **settings)


@st.composite
def plans(draw, least: float = 0.0) -> Plan:
    domains, phases = draw(st.integers(1, 6)), draw(st.integers(1, 3))
    weight = st.sampled_from([least, max(least, 1e-6), 0.01, 0.5, 0.5, 1.0]) | st.floats(max(least, 1e-6), 1)
    parts = []
    for _ in range(phases):
        weights = draw(st.lists(weight, min_size=domains, max_size=domains))
        weights[draw(st.integers(0, domains - 1))] += 0.5
        parts.append((32 * draw(st.integers(5, 60)), weights))
    supply = draw(st.lists(st.integers(1, 60), min_size=domains, max_size=domains))
    return plan_of(schedule(*parts), supply, draw(st.integers(0, 10**6)))


@settings(max_examples=60, deadline=None)
@given(plans())
def test_no_window_comes_twice_before_its_domains_epoch_ends(plan: Plan) -> None:
    domain, epoch, window = order(plan, np.arange(plan.windows))
    drawn: dict[int, list[tuple[int, int]]] = {}
    for d, e, w in zip(domain.tolist(), epoch.tolist(), window.tolist(), strict=True):
        drawn.setdefault(d, []).append((e, w))
    for d, pairs in drawn.items():
        size = plan.supply[d]
        assert [e for e, _ in pairs] == [n // size for n in range(len(pairs))]
        for start in range(0, len(pairs), size):
            windows = [w for _, w in pairs[start : start + size]]
            assert len(set(windows)) == len(windows)
            assert set(windows) <= set(range(size))


@settings(max_examples=60, deadline=None)
@given(plans(least=1e-6))
def test_counts_are_within_one_at_phase_ends_and_two_inside(plan: Plan) -> None:
    domain, _, _ = order(plan, np.arange(plan.windows))
    table = np.cumsum(np.eye(len(plan.domains), dtype=int)[domain], axis=0)
    for phase in plan.phases:
        assert np.abs(table[phase.end - 1] - plan.ideal(phase.end)).max() <= 1
        assert np.array_equal(plan.counts(phase.end), table[phase.end - 1])
    ideal = np.stack([plan.ideal(k) for k in range(1, plan.windows + 1)])
    assert np.abs(table - ideal).max() < 2


@settings(max_examples=30, deadline=None)
@given(plans())
def test_domains_that_come_and_go_stay_within_one_at_ends(plan: Plan) -> None:
    domain, _, _ = order(plan, np.arange(plan.windows))
    table = np.cumsum(np.eye(len(plan.domains), dtype=int)[domain], axis=0)
    for phase in plan.phases:
        assert np.abs(table[phase.end - 1] - plan.ideal(phase.end)).max() <= 1
        inside = domain[phase.start : phase.end]
        assert not set(inside.tolist()) & {d for d, weight in enumerate(phase.weights) if weight == 0}


@settings(max_examples=30, deadline=None)
@given(plans(), st.randoms(use_true_random=False))
def test_any_positions_in_any_order_give_the_same(plan: Plan, random) -> None:
    whole = np.stack(order(plan, np.arange(plan.windows)))
    some = [random.randrange(plan.windows) for _ in range(20)]
    assert np.array_equal(np.stack(order(plan, some)), whole[:, some])
    for position in some[:3]:
        assert [int(value[0]) for value in order(plan, position)] == whole[:, position].tolist()


def test_each_epoch_has_an_order_of_its_own_and_each_seed_too() -> None:
    wanted = schedule((8 * 300, [1.0]))
    first = order(plan_of(wanted, [100]), np.arange(300))[2].reshape(3, 100)
    for n in range(3):
        assert np.mean(first[n] == first[(n + 1) % 3]) < 0.1
    other = order(plan_of(wanted, [100], seed=1), np.arange(300))[2].reshape(3, 100)
    assert np.mean(first[0] == other[0]) < 0.1


def test_the_past_does_not_depend_on_the_future() -> None:
    long = plan_of(schedule((3200, [5, 3, 2])))
    cut = plan_of(schedule((3200, [5, 3, 2])).switched(1600, Mixture.uniform(["d0", "d1", "d2"])))
    switch = 1600 // 8
    assert np.array_equal(order(long, np.arange(switch)), order(cut, np.arange(switch)))
    assert long.fingerprint(switch) == cut.fingerprint(switch)
    assert long.fingerprint(switch + 4) != cut.fingerprint(switch + 4)
    assert long.fingerprint() != cut.fingerprint()
    longer = plan_of(schedule((6400, [5, 3, 2])))
    assert longer.fingerprint(long.windows) == long.fingerprint(long.windows)


def test_a_switch_to_the_same_mixture_is_no_switch() -> None:
    whole = schedule((3200, [0.1, 0.7, 0.2]))
    same = whole.switched(1000, whole.phases[0].mixture)
    assert plan_of(same) == plan_of(whole)


def test_an_earlier_phase_is_made_up_for_in_the_next() -> None:
    """A domain of 1/1000 in phases of 100 windows is never due within one, yet gets its share over 40 of them."""
    rare = [[0.999, 0.0005, 0.0005], [0.998, 0.001, 0.001]]
    plan = plan_of(schedule(*((800, rare[n % 2]) for n in range(40))))
    assert np.abs(plan.counts(plan.windows) - plan.ideal(plan.windows)).max() <= 1
    assert plan.counts(plan.windows)[1] >= 2


def test_phases_become_whole_batches_and_the_rounding_is_told() -> None:
    plan = plan_of(schedule((1000, [1, 1]), (1000, [1, 3])))
    assert [(p.start, p.end) for p in plan.phases] == [(0, 124), (124, 252)]
    assert plan.rounding == (-8, 24)
    assert plan.steps == 63


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (
            lambda: plan_of(schedule((3200, [1, 1]), (10, [1, 3]))),
            "Phase 2 has 10 tokens and comes to no whole batch of 32",
        ),
        (lambda: plan_of(schedule((320, [1, 1])), [5, 0]), "Domain d1 has a weight but not one window of 8 tokens"),
        (lambda: order(plan_of(schedule((320, [1, 1]))), [40]), "Positions run from 0 to 39"),
        (lambda: plan_of(schedule((320, [1, 1]))).counts(41), "position 41 is outside"),
        (lambda: plan_of(schedule((320, [1, 1])), batch=0), "at least one window"),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence(build, words: str) -> None:
    with pytest.raises(DataError, match=words):
        build()


def test_an_unused_domain_needs_no_window() -> None:
    plan = plan_of(schedule((320, [1, 0])), [5, 0])
    assert set(order(plan, np.arange(40))[0].tolist()) == {0}


def test_a_phase_that_would_end_more_than_one_off_takes_another_rounding() -> None:
    """These weights make nearest rounding miss by more than a window at many lengths; a variant repairs every one."""
    weights = [0.15089217, 0.48030904, 0.00097586, 0.33067699, 0.03714594]
    plain, varied = 0, 0
    for batches in range(1000, 1400):
        plan = plan_of(schedule((32 * batches, weights)))
        assert np.abs(plan.counts(plan.windows) - plan.ideal(plan.windows)).max() <= 1
        varied += plan.phases[0].variant > 0
        plain += plan.phases[0].variant == 0
    assert plain > 0
    assert varied > 0


def test_many_domains_and_a_trillion_tokens() -> None:
    weights = np.random.default_rng(0).dirichlet(np.full(1000, 0.5)).tolist()
    plan = plan_of(schedule((10**12, weights)), [10**6] * 1000, seq_len=1024, batch=32)
    domain, _, window = order(plan, np.arange(plan.windows - 1000, plan.windows))
    assert domain.max() < 1000
    assert window.max() < 10**6
    assert np.abs(plan.counts(plan.windows) - plan.ideal(plan.windows)).max() <= 1


def test_the_order_is_what_version_2_says() -> None:
    """A changed order needs a new ORDER_VERSION: checkpoints name it."""
    plan = plan_of(schedule((640, [5, 3, 2]), (320, [1, 1, 8])), [7, 11, 5], seed=3)
    domain, epoch, window = order(plan, np.arange(0, 120, 9))
    assert domain.tolist() == [0, 1, 0, 2, 0, 1, 0, 2, 0, 2, 2, 2, 2, 1]
    assert epoch.tolist() == [0, 0, 1, 1, 2, 1, 3, 2, 5, 3, 4, 6, 7, 2]
    assert window.tolist() == [0, 5, 2, 3, 6, 9, 6, 3, 3, 2, 3, 4, 1, 2]
    assert ORDER_VERSION == 2
    assert plan.fingerprint() == "225a7011adc56f6f"
