"""Every kind of constraint: the optimum against brute force, what is said when constraints collide, and what they cost."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from mixwright.core.mixture import Mixture
from mixwright.core.objective import Budget, Group, Objective, Within
from mixwright.laws import GraphFit
from mixwright.optimize.mixture import Optimum, hull_distance, optimize

TOKENS = 1000.0
COSTS = {"d0": 3.0, "d1": 1.0, "d2": 0.5, "d3": 2.0, "d4": 0.1}


def natural(fit: GraphFit) -> Mixture:
    return Mixture.normalized(fit.domains, np.arange(1.0, len(fit.domains) + 1))


def supply(fit: GraphFit) -> np.ndarray:
    return np.array([60.0, 400.0, 90.0, 500.0, 700.0])[: len(fit.domains)]


KINDS: dict[str, Objective] = {
    "nothing": Objective(),
    "floors": Objective(floors={"d0": 0.2, "d2": 0.15}),
    "ceilings": Objective(ceilings={"d0": 0.3, "d1": 0.25}),
    "fixed": Objective(fixed={"d1": 0.35}),
    "epochs": Objective(epoch_cap=3.0),
    "groups": Objective(groups={"g": Group(("d0", "d1"), 0.1, 0.3), "h": Group(("d1", "d2"), 0.4, 0.9)}),
    "cost": Objective(costs=COSTS, cost_cap=0.9),
    "l1": Objective(within=Within("natural", l1=0.25)),
    "kl": Objective(within=Within("natural", kl=0.05)),
    "kl and l1": Objective(within=Within({"d0": 0.5, "d1": 0.3, "d2": 0.2}, kl=0.08, l1=0.3)),
    "budget": Objective(metrics={"target:0": 1.0}, budgets={"target:1": Budget(nats=0.02)}),
    "percent": Objective(metrics={"target:1": 1.0}, budgets={"general": Budget(percent=1.0, metrics={"target:0": 1.0})}),
    "trust": Objective(trust=0.05),
    "all": Objective(
        floors={"d1": 0.05}, ceilings={"d0": 0.6}, epoch_cap=5.0, groups={"g": Group(("d1", "d2"), 0.3, 0.9)},
        within=Within("natural", kl=0.3, l1=0.8), costs=COSTS, cost_cap=1.4,
        budgets={"target:1": Budget(percent=1.0)}, metrics={"target:0": 1.0},
    ),
}  # fmt: skip


def narrow(fit: GraphFit) -> GraphFit:
    """The fit as if only two mixtures had been swept, so that the trust distance binds."""
    return replace(
        fit, swept=np.array([[0.5, 0.3, 0.2], [0.2, 0.3, 0.5]]), residuals=fit.residuals[:2], run_id=fit.run_id[:2]
    )


def from_segment(w: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """The L1 distance to the segment between two points: linear in pieces that end where a weight is met."""
    along = ends[1] - ends[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        met = np.nan_to_num((w - ends[0]) / along, nan=0.0, posinf=1.0, neginf=0.0)
    at = np.clip(np.concatenate([met, np.zeros((len(w), 1)), np.ones((len(w), 1))], axis=1), 0, 1)
    return np.abs(w[:, None] - ends[0] - at[:, :, None] * along).sum(axis=2).min(axis=1)


def allowed(fit: GraphFit, objective: Objective) -> Callable[[np.ndarray], np.ndarray]:
    """The objective's constraints, written out a second time."""
    base, names = natural(fit).weights, list(fit.domains)

    def holds(w: np.ndarray) -> np.ndarray:
        good = np.ones(len(w), dtype=bool)
        for name, bound in objective.floors.items():
            good &= w[:, names.index(name)] >= bound - 1e-12
        for name, bound in objective.ceilings.items():
            good &= w[:, names.index(name)] <= bound + 1e-12
        if objective.epoch_cap:
            good &= (w * TOKENS / supply(fit) <= objective.epoch_cap + 1e-12).all(axis=1)
        for group in objective.groups.values():
            total = w[:, [names.index(d) for d in group.domains]].sum(axis=1)
            good &= (total >= group.floor - 1e-12) & (total <= group.ceiling + 1e-12)
        if objective.cost_cap is not None:
            good &= w @ [objective.costs.get(d, 0.0) for d in names] <= objective.cost_cap + 1e-12
        if objective.within is not None:
            within = objective.within
            prior = base if within.prior == "natural" else Mixture.of(within.prior).over(fit.domains).weights  # type: ignore[arg-type]
            if within.l1 is not None:
                good &= np.abs(w - prior).sum(axis=1) <= within.l1 + 1e-12
            if within.kl is not None:
                with np.errstate(divide="ignore", invalid="ignore"):
                    good &= np.where(w > 0, w * np.log(w / prior), 0.0).sum(axis=1) <= within.kl + 1e-12
        for (_, budget), q in zip(objective.budgets.items(), objective.budget_weights(fit.metrics), strict=True):
            good &= fit.mean(w, q) <= budget.limit(float(fit.mean(base[None], q)[0])) + 1e-12 if len(w) else True
        if objective.trust is not None:
            good &= from_segment(w, fit.swept) <= objective.trust + 1e-12
        return good

    return holds


def found_and_brute(fit: GraphFit, objective: Objective) -> tuple[Optimum, float, float]:
    objective = replace(objective, costs={d: cost for d, cost in objective.costs.items() if d in fit.domains})
    q = objective.metric_weights(fit.metrics)
    held = {fit.domains.index(name): value for name, value in objective.fixed.items()}
    held |= {d: 0.0 for d, name in enumerate(fit.domains) if _outside_prior(objective, name)}
    found = optimize(fit, objective, natural=natural(fit), tokens=TOKENS, supply=supply(fit))
    _, best = brute_force(lambda w: fit.mean(w, q), allowed(fit, objective), len(fit.domains), held)
    return found, float(fit.mean(found.mixture.weights[None], q)[0]), best


def _outside_prior(objective: Objective, name: str) -> bool:
    within = objective.within
    return (
        within is not None and within.kl is not None and not isinstance(within.prior, str) and name not in within.prior
    )


@pytest.mark.parametrize("law", ["additive", "exponential"])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "trust"])
def test_three_domains_agree_with_brute_force(kind: str, law: str, known: Callable[..., GraphFit]) -> None:
    objective = KINDS[kind]
    for seed in range(2):
        fit = known(law, 3, seed=seed)
        found, ours, best = found_and_brute(fit, objective)
        assert abs(ours - best) < 1e-6
        assert allowed(fit, objective)(found.mixture.weights[None] * (1 - 1e-9) + 1e-9 / 3)[0] or _on_edge(
            fit, objective, found
        )
        assert found.gap is not None
        assert found.gap < 1e-6 or law == "additive"


def _on_edge(fit: GraphFit, objective: Objective, found: Optimum) -> bool:
    """Whether every constraint holds to 1e-7, seen by loosening all that can be loosened by that much."""
    w = found.mixture.weights
    loose = replace(
        objective, floors={k: max(v - 1e-7, 0) for k, v in objective.floors.items()},
        ceilings={k: min(v + 1e-7, 1) for k, v in objective.ceilings.items()},
        groups={k: Group(g.domains, max(g.floor - 1e-7, 0), min(g.ceiling + 1e-7, 1)) for k, g in objective.groups.items()},
        epoch_cap=objective.epoch_cap and objective.epoch_cap + 1e-6,
        cost_cap=objective.cost_cap and objective.cost_cap + 1e-7,
        within=objective.within and replace(
            objective.within, l1=objective.within.l1 and objective.within.l1 + 1e-7,
            kl=objective.within.kl and objective.within.kl + 1e-7,
        ),
        budgets={
            k: replace(b, nats=None, percent=None, at_most=b.limit(float(fit.mean(natural(fit).weights[None], q)[0])) + 1e-7)
            for (k, b), q in zip(objective.budgets.items(), objective.budget_weights(fit.metrics), strict=True)
        },
        trust=objective.trust and objective.trust + 1e-7,
    )  # fmt: skip
    return bool(allowed(fit, loose)(w[None])[0])


@pytest.mark.parametrize("kind", ["nothing", "floors", "groups", "cost", "l1", "kl", "budget", "all"])
def test_four_domains_agree_with_brute_force(kind: str, known: Callable[..., GraphFit]) -> None:
    _, ours, best = found_and_brute(known("additive", 4, seed=3), KINDS[kind])
    assert abs(ours - best) < 1e-6


@pytest.mark.parametrize("kind", ["floors", "l1", "budget"])
def test_five_domains_agree_with_brute_force(kind: str, known: Callable[..., GraphFit]) -> None:
    _, ours, best = found_and_brute(known("additive", 5, seed=4), KINDS[kind])
    assert abs(ours - best) < 1e-6


def test_a_trust_distance_agrees_with_brute_force(known: Callable[..., GraphFit]) -> None:
    fit = narrow(known("exponential", 3, seed=1))
    found, ours, best = found_and_brute(fit, KINDS["trust"])
    assert abs(ours - best) < 1e-6
    np.testing.assert_allclose(hull_distance(found.mixture.weights, fit.swept), 0.05, atol=1e-7)


# ---- brute force, which shares no code with the optimizer ----


def simplex_grid(domains: int, steps: int) -> np.ndarray:
    """All mixtures whose weights are multiples of 1 / steps."""
    bars = np.array(list(itertools.combinations(range(steps + domains - 1), domains - 1)))
    edges = np.concatenate([np.full((len(bars), 1), -1), bars, np.full((len(bars), 1), steps + domains - 1)], axis=1)
    return (np.diff(edges, axis=1) - 1) / steps


def brute_force(
    value: Callable[[np.ndarray], np.ndarray],
    allowed: Callable[[np.ndarray], np.ndarray],
    domains: int,
    held: dict[int, float] | None = None,
) -> tuple[np.ndarray, float]:
    """The best allowed mixture and its value; ``held`` weights are not varied. Good to about 1e-8."""
    held = held or {}
    free = [d for d in range(domains) if d not in held]
    grid = np.zeros((1, domains)) + [held.get(d, 0.0) for d in range(domains)]
    part = simplex_grid(len(free), {1: 1, 2: 2000, 3: 120, 4: 36, 5: 22}[len(free)]) * (1 - sum(held.values()))
    points = np.repeat(grid, len(part), axis=0)
    points[:, free] = part
    points = points[allowed(points)]
    values = value(points)
    ends = [_refined(points[n], value, allowed, free) for n in np.argsort(values)[:6]]
    return min(ends, key=lambda end: end[1])


def _refined(
    w: np.ndarray,
    value: Callable[[np.ndarray], np.ndarray],
    allowed: Callable[[np.ndarray], np.ndarray],
    free: list[int],
) -> tuple[np.ndarray, float]:
    """Lattices of ever smaller width around the best point so far, each turned at random."""
    draw = np.random.default_rng(0)
    best, radius, size = float(value(w[None])[0]), 0.05, len(free) - 1
    lattice = np.array(
        list(itertools.product(np.linspace(-1, 1, {1: 401, 2: 31, 3: 11, 4: 7}[max(size, 1)]), repeat=size))
    )
    while radius > 1e-10 and size:
        turn = np.linalg.qr(draw.normal(size=(size, size)))[0]
        basis = np.linalg.svd(np.ones((1, size + 1)))[2][1:]
        moves = np.zeros((len(lattice), len(w)))
        moves[:, free] = radius * lattice @ turn @ basis
        exact = np.zeros((2 * len(free) ** 2, len(w)))
        for n, (a, b) in enumerate(itertools.permutations(free, 2)):  # along edges, which corners and bounds need
            exact[2 * n, [a, b]], exact[2 * n + 1, [a, b]] = (radius, -radius), (w[b], -w[b])
        points = w + np.concatenate([moves, exact])
        points = points[(points >= 0).all(axis=1)]
        points = points[allowed(points)]
        values = value(points) if len(points) else np.array([np.inf])
        n = int(values.argmin())
        if values[n] < best - 1e-16:
            w, best = points[n], float(values[n])
        else:
            radius *= 0.6
    return w, best
