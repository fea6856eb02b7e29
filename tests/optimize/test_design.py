"""Designed mixtures: allowed, different, repeatable, and spread from near the floor to large in every domain."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixwright.core.errors import StudyError
from mixwright.core.mixture import Mixture
from mixwright.core.objective import Group, Objective
from mixwright.core.rng import rng
from mixwright.optimize.design import SCHEMES, Options, design
from mixwright.optimize.grid import Grid
from mixwright.optimize.information import Information
from mixwright.optimize.simplex import Region

NATURAL = Mixture.of({"code": 0.453, "german": 0.055, "english": 0.161, "essays": 0.063, "maths": 0.268})


def weights(mixtures: list[Mixture]) -> np.ndarray:
    return np.array([mixture.weights for mixture in mixtures])


def test_every_domain_goes_from_near_its_floor_to_large() -> None:
    floors = dict.fromkeys(NATURAL.domains, 0.02)
    found = design(NATURAL, objective=Objective(floors=floors), rng=rng(0, "design"))
    w = weights(found)
    assert found[0].l1(NATURAL) < 1e-15
    assert len(found) == 16
    assert (w.min(axis=0) < 0.05).all()
    assert (w.max(axis=0) > 0.65).all()
    assert Region.of(Objective(floors=floors), NATURAL.domains).contains(w).all()


def test_the_same_stream_gives_the_same_design_and_another_another() -> None:
    first, same, other = (weights(design(NATURAL, rng=rng(seed, "design"))) for seed in (0, 0, 1))
    assert np.array_equal(first, same)
    assert np.abs(first - other).max() > 0.05


def test_it_fills_space_better_than_random_draws() -> None:
    def worst(points: np.ndarray) -> float:
        probes = np.sqrt(np.random.default_rng(7).dirichlet(np.ones(5), 400))
        return float(np.sqrt(((probes[:, None] - np.sqrt(points)[None]) ** 2).sum(axis=2)).min(axis=1).max())

    ours = np.mean([worst(weights(design(NATURAL, rng=rng(seed, "design")))) for seed in range(5)])
    drawn = np.mean([worst(np.random.default_rng(seed).dirichlet(np.ones(5), 16)) for seed in range(5)])
    assert ours < 0.92 * drawn


@given(st.integers(2, 12), st.integers(2, 40), st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_any_number_of_domains_and_runs(domains: int, runs: int, seed: int) -> None:
    names = tuple(f"d{n}" for n in range(domains))
    natural = Mixture(names, np.random.default_rng(seed).dirichlet(np.ones(domains)))
    found = design(natural, rng=rng(seed, "design"), options=Options(runs=runs))
    assert len({mixture.weights.round(9).tobytes() for mixture in found}) == runs


def test_groups_ceilings_and_caps_hold_and_natural_is_moved_inside() -> None:
    objective = Objective(ceilings={"code": 0.4}, epoch_cap=4, groups={"text": Group(("german", "english"), 0.3, 0.5)})
    supply = np.array([10, 1, 10, 10, 10]) * 1e6
    found = design(NATURAL, objective=objective, tokens=4e7, supply=supply, rng=rng(0, "design"))
    assert all(objective.allows(mixture, tokens=4e7, supply=supply.tolist()) for mixture in found)
    assert found[0]["code"] <= 0.4 + 1e-12
    assert found[0].l1(NATURAL) < 0.5


@given(st.sampled_from(SCHEMES), st.integers(3, 7), st.floats(0, 0.05), st.booleans(), st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_every_scheme_obeys_every_bound(scheme: str, domains: int, floor: float, grouped: bool, seed: int) -> None:
    names = tuple(f"d{n}" for n in range(domains))
    natural = Mixture(names, np.random.default_rng(seed).dirichlet(np.ones(domains)))
    groups = {"pair": Group(("d0", "d1"), 0.1, 0.7)} if grouped else {}
    objective = Objective(
        floors=dict.fromkeys(names, floor), ceilings={"d1": 0.6}, epoch_cap=4, groups=groups, trust=0.1
    )
    supply = np.full(domains, 2e8)
    found = design(
        natural,
        objective=objective,
        tokens=1e9,
        supply=supply,
        rng=rng(seed, "design"),
        options=Options(runs=9, scheme=scheme),
    )
    assert all(objective.allows(mixture, tokens=1e9, supply=supply.tolist()) for mixture in found)
    assert len({mixture.weights.round(6).tobytes() for mixture in found}) == 9


@pytest.mark.parametrize("scheme", SCHEMES)
def test_schemes_repeat_themselves_and_begin_with_the_natural_mixture(scheme: str) -> None:
    first, same, other = (design(NATURAL, rng=rng(s, "design"), options=Options(scheme=scheme)) for s in (0, 0, 1))
    assert first == same
    assert first != other
    assert first[0].l1(NATURAL) < 1e-12


@pytest.mark.parametrize("scheme", [s for s in SCHEMES if s != "spread"])
def test_the_order_of_domains_does_not_matter(scheme: str) -> None:
    turned = Mixture.of(dict(reversed(NATURAL.to_dict().items())))
    one, other = (design(n, rng=rng(0, "design"), options=Options(scheme=scheme)) for n in (NATURAL, turned))
    assert max(a.l1(b) for a, b in zip(one, other, strict=True)) < 1e-9


def test_the_grid_has_few_mixtures_with_zeros_and_all_lie_on_it() -> None:
    domains = tuple("abcdefg")
    caps = dict(zip(domains, (1.0, 1.0, 0.5857, 0.2588, 0.2254, 0.1779, 0.1727), strict=True))
    natural = Mixture(domains, np.array([0.4, 0.2, 0.1, 0.1, 0.1, 0.05, 0.05]))
    found = design(
        natural,
        objective=Objective(ceilings=caps),
        rng=rng(0, "design"),
        options=Options(runs=41, scheme="grid", zeros=0.25),
    )
    w = weights(found)[1:]
    assert int((w.min(axis=1) == 0).sum()) == 10  # as among the paper's 40
    listed = Grid(tuple(caps.values())).points(np.random.default_rng(0))
    assert np.abs(w[:, None] - listed[None]).max(axis=2).min(axis=1).max() < 1e-9


def test_dirichlet_stays_below_its_caps_and_apart_and_has_sparse_and_even_mixtures() -> None:
    options = Options(runs=64, scheme="dirichlet", most=3.0, apart=0.08)
    w = weights(design(NATURAL, rng=rng(0, "design"), options=options))
    assert (w <= 3.0 * NATURAL.weights + 1e-9).all()
    assert (np.abs(w[:, None] - w[None]).sum(axis=2) + np.eye(64)).min() > 0.08
    entropy = -(w * np.log(np.maximum(w, 1e-300))).sum(axis=1)
    assert entropy.min() < 0.6
    assert entropy.max() > 1.2


def test_optimal_designs_beat_the_others_by_their_criterion() -> None:
    region = np.random.default_rng(0).dirichlet(np.ones(5), 2000)
    by = {s: weights(design(NATURAL, rng=rng(0, "design"), options=Options(scheme=s, repeats=0))) for s in SCHEMES}
    points = np.concatenate(list(by.values()))
    known = Information.of(points, region)
    rows = {s: list(range(16 * n, 16 * n + 16)) for n, s in enumerate(by)}
    volume, variance = ({s: f(r) for s, r in rows.items()} for f in (known.volume, known.variance))
    assert max(volume, key=lambda s: volume[s]) == "d_optimal"
    assert min(variance, key=lambda s: variance[s]) == "i_optimal"


def test_options_that_make_no_sense_are_sentences() -> None:
    with pytest.raises(StudyError, match="must be one of spread, grid, dirichlet"):
        Options(scheme="random")  # type: ignore[arg-type]  # what a user may write
    with pytest.raises(StudyError, match="strengths must rise"):
        Options(strengths=(5.0, 0.1))


def test_no_room_is_said() -> None:
    tight = Objective(floors=dict.fromkeys(NATURAL.domains, 0.2))
    with pytest.raises(StudyError, match="no room for 16 different mixtures"):
        design(NATURAL, objective=tight, rng=rng(0, "design"))
