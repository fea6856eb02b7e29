"""Every kind of constraint: the optimum against brute force, what is said when constraints collide, and what they cost."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import replace
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from mixwright.core.errors import StudyError
from mixwright.core.mixture import Mixture
from mixwright.core.objective import Budget, Group, Objective, Within
from mixwright.laws import GraphFit
from mixwright.optimize.mixture import Optimum, optimize
from mixwright.optimize.simplex import hull_distance

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
    return np.asarray(np.abs(w[:, None] - ends[0] - at[:, :, None] * along).sum(axis=2).min(axis=1))


def allowed(fit: GraphFit, objective: Objective) -> Callable[[np.ndarray], np.ndarray]:
    """The objective's constraints, written out a second time."""
    base, names = natural(fit).weights, list(fit.domains)

    def holds(w: np.ndarray) -> np.ndarray:
        good = np.ones(len(w), dtype=bool)
        for name, value in objective.fixed.items():
            good &= np.abs(w[:, names.index(name)] - value) <= 1e-9
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


def over(objective: Objective, fit: GraphFit) -> Objective:
    """The objective with the costs of the fit's domains alone."""
    return replace(objective, costs={d: cost for d, cost in objective.costs.items() if d in fit.domains})


def found_and_brute(fit: GraphFit, objective: Objective) -> tuple[Optimum, float, float]:
    objective = over(objective, fit)
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


# ---- the same problem said otherwise, and drawn at random ----


@given(seed=st.integers(0, 10_000))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_allowed_mixture_is_better_whatever_the_constraints(seed: int, known: Callable[..., GraphFit]) -> None:
    draw = np.random.default_rng(seed)
    size = int(draw.integers(2, 6))
    fit = known(str(draw.choice(["additive", "exponential"])), size, seed=seed)
    objective = drawn_objective(fit, draw)
    drawn = np.concatenate([draw.dirichlet(np.full(size, spread), 4000) for spread in (0.3, 1.0, 5.0)])
    near = natural(fit).weights + 0.3 * draw.random((4000, 1)) * (drawn[:4000] - natural(fit).weights)
    points = held_at(np.concatenate([drawn, near]), fit, objective)
    points = points[allowed(fit, objective)(points)]
    try:
        found = optimize(fit, objective, natural=natural(fit), tokens=TOKENS, supply=supply(fit))
    except StudyError as error:
        said = str(error)
    else:
        said = ""
    if said:
        event("refused")
        assert "The smallest change that allows one" in said
        assert not len(points)
        return
    assert _on_edge(fit, objective, found)
    q = objective.metric_weights(fit.metrics)
    if len(points):
        assert float(fit.mean(found.mixture.weights[None], q)[0]) <= fit.mean(points, q).min() + 1e-9


def held_at(points: np.ndarray, fit: GraphFit, objective: Objective) -> np.ndarray:
    """The points with fixed weights set and the other weights in proportion; none if those sum to more than 1."""
    held = np.array([name in objective.fixed for name in fit.domains])
    rest = 1 - sum(objective.fixed.values())
    if not held.any() or rest <= 0 or held.all():
        return points if not held.any() else points[:0]
    out = np.where(held, [objective.fixed.get(name, 0.0) for name in fit.domains], points)
    out[:, ~held] *= (rest / points[:, ~held].sum(axis=1))[:, None]
    return out


def drawn_objective(fit: GraphFit, draw: np.random.Generator) -> Objective:
    """Some constraints of some kinds, often tight, sometimes impossible."""
    names, size = fit.domains, len(fit.domains)

    def some(low: float, high: float) -> dict[str, float]:
        return {name: float(draw.uniform(low, high)) for name in names if draw.random() < 0.3}

    parts: dict[str, Any] = {
        "floors": some(0, 0.5 / size), "ceilings": some(0.5 / size, 1), "fixed": some(0, 1.0 / size) if size > 3 else {},
        "epoch_cap": float(draw.uniform(1, 8)),
        "groups": {"g": Group(names[: size // 2 + 1], float(draw.uniform(0, 0.5)), float(draw.uniform(0.5, 1)))},
        "within": Within("natural", kl=float(draw.uniform(0, 0.3)), l1=float(draw.uniform(0, 1))),
        "cost_cap": float(draw.uniform(0.3, 2)), "budgets": {"target:1": Budget(nats=float(draw.uniform(-0.02, 0.1)))},
    }  # fmt: skip
    chosen = {key: value for key, value in parts.items() if draw.random() < 0.4}
    costs = {name: float(draw.uniform(0, 3)) for name in names} if "cost_cap" in chosen else {}
    return Objective(**chosen, costs=costs)


@pytest.mark.parametrize("kind", ["nothing", "groups", "kl", "l1", "cost", "budget"])
def test_the_order_of_domains_changes_nothing(kind: str, known: Callable[..., GraphFit]) -> None:
    fit, order = known("exponential", 4, metrics=2), [2, 0, 3, 1]
    other = reordered(fit, order)
    first, second = (
        optimize(f, over(KINDS[kind], fit), natural=natural(fit), tokens=TOKENS, supply=amount)
        for f, amount in ((fit, supply(fit)), (other, supply(fit)[order]))
    )
    assert abs(first.gain.value - second.gain.value) < 1e-9
    assert first.mixture.l1(second.mixture) < 1e-5


def reordered(fit: GraphFit, order: list[int]) -> GraphFit:
    """The same law over a reordered axis: every list of one number per domain is reordered."""
    size = len(order)
    nodes = [
        replace(node, value=tuple(np.array(node.value).reshape(-1, size)[:, order].ravel()))
        if (node.op == "const" and len(node.value) % size == 0 and len(node.value) not in (1, 16)) else node
        for node in fit.graph.nodes
    ]  # fmt: skip
    names = tuple(fit.domains[d] for d in order)
    return replace(
        fit, domains=names, graph=type(fit.graph)(names, tuple(nodes), fit.graph.outputs), swept=fit.swept[:, order]
    )


# ---- what constraints cost ----

EASED: dict[str, tuple[Objective, Callable[[Objective, float], Objective], float]] = {
    "floor": (Objective(floors={"d0": 0.3}), lambda o, by: replace(o, floors={"d0": 0.3 - by}), 1e-4),
    "ceiling": (Objective(ceilings={"d1": 0.1}), lambda o, by: replace(o, ceilings={"d1": 0.1 + by}), 1e-4),
    "fixed weight": (Objective(fixed={"d2": 0.4}), lambda o, by: replace(o, fixed={"d2": 0.4 + by}), 1e-4),
    "epoch cap": (Objective(epoch_cap=2.0), lambda o, by: replace(o, epoch_cap=2.0 + by), 1e-3),
    "group floor": (
        Objective(groups={"g": Group(("d0", "d1"), 0.8, 1.0)}),
        lambda o, by: replace(o, groups={"g": Group(("d0", "d1"), 0.8 - by, 1.0)}), 1e-4,
    ),
    "group ceiling": (
        Objective(groups={"g": Group(("d0", "d1"), 0.0, 0.2)}),
        lambda o, by: replace(o, groups={"g": Group(("d0", "d1"), 0.0, 0.2 + by)}), 1e-4,
    ),
    "cost cap": (Objective(costs={"d0": 3.0, "d1": 1.0}, cost_cap=0.3), lambda o, by: replace(o, cost_cap=0.3 + by), 1e-4),
    "l1": (Objective(within=Within("natural", l1=0.2)), lambda o, by: replace(o, within=Within("natural", l1=0.2 + by)), 1e-4),
    "kl": (Objective(within=Within("natural", kl=0.02)), lambda o, by: replace(o, within=Within("natural", kl=0.02 + by)), 1e-5),
    "budget": (
        Objective(metrics={"target:0": 1}, budgets={"target:1": Budget(nats=0.0)}),
        lambda o, by: replace(o, budgets={"target:1": Budget(nats=by)}), 1e-5,
    ),
    "trust": (Objective(trust=0.05), lambda o, by: replace(o, trust=0.05 + by), 1e-4),
}  # fmt: skip


@pytest.mark.parametrize("kind", list(EASED))
def test_a_price_is_what_more_room_gains(kind: str, known: Callable[..., GraphFit]) -> None:
    objective, ease, by = EASED[kind]
    fit = narrow(known("additive", 3, seed=5))
    q = objective.metric_weights(fit.metrics)

    def best(this: Objective) -> Optimum:
        return optimize(fit, this, natural=natural(fit), tokens=TOKENS, supply=supply(fit))

    found = best(objective)
    price = sum(p.price for p in found.prices if p.kind == kind)
    less, more = (float(fit.mean(best(ease(objective, s * by)).mixture.weights[None], q)[0]) for s in (-1, 1))
    np.testing.assert_allclose(price, (less - more) / (2 * by), rtol=0.02, atol=1e-6)
    assert any(p.kind == kind and abs(p.price) > 1e-4 and p.words in found.active for p in found.prices)


# ---- no mixture, or none surely better ----


def test_budgets_that_contradict_are_named_with_the_least_change(known: Callable[..., GraphFit]) -> None:
    fit = known("additive", 3, seed=5)
    alone = [optimize(fit, Objective(metrics={m: 1.0}), natural=natural(fit)).losses[0].value for m in fit.metrics]
    tight = {"target:0": Budget(at_most=alone[0] + 1e-3), "target:1": Budget(at_most=alone[1] + 1e-3)}
    with pytest.raises(StudyError) as raised:
        optimize(fit, Objective(budgets=tight, floors={"d0": 0.0}), natural=natural(fit))
    words = str(raised.value)
    assert "the budget of target:0 (at most" in words
    assert "and the budget of target:1 (at most" in words
    assert "contradict each other. The smallest change" in words
    assert "floor" not in words
    changes = {name: float(by) for name, by in re.findall(r"raise the budget of (\S+) by (\S+) nats", words)}
    grid = simplex_grid(3, 400)
    excess = np.sum([np.maximum(fit.mean(grid, np.eye(2)[m]) - alone[m] - 1e-3, 0) for m in range(2)], axis=0)
    np.testing.assert_allclose(sum(changes.values()), excess.min(), rtol=0.02, atol=2e-5)
    wide = {
        m: Budget(at_most=b.at_most + changes.get(m, 0.0) + 1e-5) for m, b in tight.items() if b.at_most is not None
    }
    assert optimize(fit, Objective(budgets=wide), natural=natural(fit)).gap is not None


def test_a_budget_that_a_ceiling_forbids_names_both(known: Callable[..., GraphFit]) -> None:
    fit = known("exponential", 3, seed=2)
    free = optimize(fit, Objective(metrics={"target:0": 1.0}), natural=natural(fit))
    best = max(free.mixture.to_dict().items(), key=lambda item: item[1])[0]
    budget = {"target:0": Budget(at_most=free.losses[0].value + 0.01)}
    with pytest.raises(
        StudyError, match=rf"the budget of target:0 .* and the ceiling of {best} \(0.1\) contradict each other"
    ):
        optimize(fit, Objective(ceilings={best: 0.1}, floors={"d0": 0.001}, budgets=budget), natural=natural(fit))


@pytest.mark.parametrize("seed", range(3))
def test_a_quantile_agrees_with_brute_force(seed: int, known: Callable[..., GraphFit]) -> None:
    fit = known("additive", 3, seed=seed, wobble=0.3)
    fit = replace(fit, misfit=4e-4 * np.eye(2))
    base, q, z = natural(fit).weights, np.full(2, 0.5), NormalDist().inv_cdf(0.9)

    def quantile(w: np.ndarray) -> np.ndarray:
        mean, spread = fit.difference(w, base, q)
        return mean + z * spread

    found = optimize(fit, Objective(risk=0.9), natural=natural(fit))
    _, best = brute_force(quantile, lambda w: np.ones(len(w), dtype=bool), 3)
    assert abs(float(quantile(found.mixture.weights[None])[0]) - best) < 1e-6
    assert found.gap is None
    assert "a quantile of the gain is not convex" in found.certificate
    assert found.mixture.l1(found.natural) < optimize(fit, Objective(), natural=natural(fit)).mixture.l1(found.natural)


def test_without_a_sure_gain_the_quantile_stays_where_one_is(known: Callable[..., GraphFit]) -> None:
    fit = replace(known("additive", 3, wobble=2.0), misfit=np.eye(2))
    found = optimize(fit, Objective(risk=0.95), natural=natural(fit))
    assert found.mixture.l1(found.natural) < 1e-4
    assert any("The best mixture is the natural one" in note for note in found.notes)


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
