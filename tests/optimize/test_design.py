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
from mixwright.optimize.design import Options, design
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


def test_no_room_is_said() -> None:
    tight = Objective(floors=dict.fromkeys(NATURAL.domains, 0.2))
    with pytest.raises(StudyError, match="no room for 16 different mixtures"):
        design(NATURAL, objective=tight, rng=rng(0, "design"))
