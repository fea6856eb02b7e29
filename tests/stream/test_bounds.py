"""How far counts may be from the ideal: within one window at phase ends, within two inside; no domain is forgotten."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixwright.core.mixture import Mixture
from mixwright.core.schedule import Phase, Schedule
from mixwright.stream.drawing import mended as mended_for
from mixwright.stream.order import Plan, order, stretch


def farthest(plan: Plan) -> tuple[float, float]:
    """The largest distance from the ideal at phase ends and at any position; every position is looked at.

    A domain is farthest just before and just after its draws, and at the beginnings and ends of phases.
    """
    ends = inside = 0.0
    for phase in plan.phases:
        domain, _, _ = stretch(plan, phase.start, phase.end)
        first, weights = plan.counts(phase.start), np.array(phase.weights)
        owed = plan.ideal(phase.start) - first
        by_domain = np.argsort(domain, kind="stable")
        drawn = np.bincount(domain, minlength=weights.size)
        before = np.empty(domain.size, dtype=np.int64)
        before[by_domain] = np.arange(domain.size) - np.repeat(np.cumsum(drawn) - drawn, drawn)
        ahead = owed[domain] + np.arange(domain.size) * weights[domain] - before
        inside = max(inside, float(ahead.max()), float((1 - weights[domain] - ahead).max()), float(np.abs(owed).max()))
        assert np.array_equal(first + drawn, plan.counts(phase.end))
        assert not drawn[weights == 0].any()
        ends = max(ends, float(np.abs(plan.counts(phase.end) - plan.ideal(phase.end)).max()))
    return ends, max(ends, inside)


def random_plan(draw: np.random.Generator, most: int, windows: float, dropping: bool) -> Plan:
    """Up to ``most`` domains in one to six phases that begin at any batch; weights of 1e-6 to 1 in three styles."""
    domains = int(np.exp(draw.uniform(np.log(2), np.log(most + 0.5))))
    batch, names, phases = int(draw.choice([1, 4, 32])), [f"d{n}" for n in range(domains)], []
    style = draw.integers(3)
    for _ in range(draw.integers(1, 7)):
        weights = (
            10 ** draw.uniform(-6, 0, domains),
            np.maximum(draw.dirichlet(np.full(domains, 0.5)), 1e-6),
            np.round(draw.dirichlet(np.ones(domains)), 3) + 1e-3,
        )[style]
        if dropping:
            kept = draw.random(domains) >= draw.choice([0.1, 0.5, 0.9, 0.98])
            kept[draw.integers(domains)] = True
            weights = np.where(kept, weights, 0)
        count = int(10 ** draw.uniform(0, windows - np.log10(batch))) * batch
        phases.append(Phase(count, Mixture.normalized(names, weights)))
    supply = dict.fromkeys(names, 1000)
    return Plan.of(Schedule(tuple(phases)), supply, int(draw.integers(1 << 30)), seq_len=1, batch=batch)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.booleans())
def test_within_one_at_ends_and_two_inside(seed: int, dropping: bool) -> None:
    ends, inside = farthest(random_plan(np.random.default_rng(seed), 100, 3.3, dropping))
    assert ends <= 1
    assert inside < 2


@pytest.mark.long
@pytest.mark.parametrize("dropping", [False, True])
def test_many_domains_and_long_phases(dropping: bool) -> None:
    """Prints the figures that docs/stream.md states."""
    draw, found = np.random.default_rng(int(dropping)), []
    for _ in range(500):
        found.append(farthest(random_plan(draw, 1000, 4.5, dropping)))
    ends, inside = np.max(found, axis=0)
    print(f"{len(found)} plans, dropping {dropping}: {ends:.4f} at ends, {inside:.4f} inside")
    assert ends <= 1
    assert inside < 2


def mended(draw: np.random.Generator) -> Plan:
    """A random plan whose phases are all mended, and some window given to another domain in one at least."""
    while True:
        plan = random_plan(draw, 300, 3.0, False)
        plan = plan.following(plan.schedule, [mended_for(phase.windows, 3) for phase in plan.phases])
        if any(drawn.at.size for drawn in plan._apportioned.drawn):
            return plan


def test_mended_phases_agree_at_every_position() -> None:
    draw = np.random.default_rng(3)
    for _ in range(15):
        plan = mended(draw)
        assert farthest(plan)[0] <= 1
        whole = np.stack(order(plan, np.arange(plan.windows)))
        assert np.array_equal(whole, np.stack(stretch(plan, 0, plan.windows)))
        some = draw.integers(0, plan.windows, 20)
        assert np.array_equal(whole[:, some], np.stack(order(plan, some)))
        for position in some.tolist():
            counts = np.bincount(whole[0, :position], minlength=len(plan.domains))
            assert np.array_equal(plan.counts(position), counts)
        for d in np.unique(whole[0]):
            epochs, windows = whole[1:, whole[0] == d]
            assert epochs.tolist() == [n // plan.supply[d] for n in range(epochs.size)]
            assert len(set(windows[: plan.supply[d]].tolist())) == min(windows.size, plan.supply[d])


def test_a_mended_phase_that_is_cut_or_lengthened_keeps_its_past() -> None:
    draw = np.random.default_rng(5)
    plan = next(plan for plan in iter(lambda: mended(draw), None) if plan.phases[-1].windows > 20 * plan.batch)
    last, whole = plan.phases[-1], np.stack(order(plan, np.arange(plan.windows)))
    middle = last.start + last.windows // plan.batch // 2 * plan.batch
    other = Mixture.uniform(plan.domains)
    for at, wanted in (
        (middle, plan.schedule.switched(middle, other)),
        (plan.windows, Schedule((*plan.schedule.phases, Phase(40 * plan.batch, plan.schedule.phases[-1].mixture)))),
    ):
        begun = [phase.variant for phase in plan.phases if phase.start < at]
        again = plan.following(wanted, begun)
        assert again.fingerprint(at) == plan.fingerprint(at)
        assert np.array_equal(whole[:, :at], np.stack(order(again, np.arange(at))))
        assert farthest(again)[1] < 2
    assert [phase.start for phase in again.phases] == [*[phase.start for phase in plan.phases], plan.windows]


def test_no_domain_is_starved_for_good() -> None:
    """A domain of one millionth is drawn about once in a million windows, also when phases change all the time."""
    names, rare = ["a", "b", "rare"], 1e-6
    phases = [
        Phase(50_000, Mixture.normalized(names, [0.7 - 0.4 * (n % 2), 0.3 + 0.4 * (n % 2) - rare, rare]))
        for n in range(100)
    ]
    plan = Plan.of(Schedule(tuple(phases)), dict.fromkeys(names, 10), 0, seq_len=1, batch=10)
    counts = [plan.counts(phase.end)[2] for phase in plan.phases]
    assert 4 <= counts[-1] <= 6
    assert max(abs(count - phase.end * rare) for count, phase in zip(counts, plan.phases, strict=True)) <= 1
