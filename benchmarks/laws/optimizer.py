"""The optimizer against brute force on simplex grids of 3 to 5 domains, with every kind of constraint; what is infeasible;
and how long 100 domains and 50 metrics take.

Notation: D domains, N points; f ``(N,)`` what is minimized, looked up through the fit's public predictions; ok ``(N,)`` whether a
point is allowed, written here anew from the constraint's definition.

Brute force is a full grid, then a random search from its three best points and from our answer, with steps that shrink to 1e-9.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any

import numpy as np
from benchmarks.laws import ours, published
from benchmarks.laws.scores import Array, Result, Row, Shown, timed
from benchmarks.laws.work import Task, Workshop
from numpy.typing import NDArray

from mixwright.core.mixture import Mixture
from mixwright.core.objective import Budget, Group, Objective, Within
from mixwright.core.observation import Runs
from mixwright.laws import GraphFit
from mixwright.laws.additive import Additive
from mixwright.laws.graph import Builder

#: parts of the grid by number of domains
PARTS = {3: 200, 4: 50, 5: 24}
#: a constraint may be exceeded by this much
SLACK = 1e-7
RISK = 0.9
Allowed = Callable[[Array], NDArray[np.bool_]]


@dataclass(frozen=True)
class Case:
    """One kind of constraint: the objective, whether points are allowed, and the budget of tokens that an epoch cap needs."""

    objective: Objective
    allowed: Allowed
    fixed: tuple[int, float] | None = None
    supply: tuple[float, ...] | None = None


def tables() -> dict[int, Runs]:
    """Published runs of 3 domains (3-mix, 160M), 5 (5-mix, 70M) and 4 (the same, dialogue and internet joined)."""
    five = published.mixing("5mix").at("70M", 30_000)
    share = published.groups(five.metrics)
    runs = Runs(
        domains=five.domains, metrics=share[0], run_id=five.run, weights=five.mix, losses=five.losses @ share[1]
    )
    joined = np.concatenate([five.mix[:, [0, 1, 3]], five.mix[:, [2]] + five.mix[:, [4]]], axis=1)
    four = replace(runs, domains=("academic", "prose", "symbolic", "talk"), weights=joined)
    small = published.mixing("3mix").at("160M", 60_000)
    three = Runs(domains=small.domains, metrics=small.metrics, run_id=small.run, weights=small.mix, losses=small.losses)
    return {3: three, 4: four, 5: runs}


def cases(fit: GraphFit, base: Array) -> dict[str, Case]:
    """Every kind of constraint, each set so that it binds at most optima."""
    d, count = fit.domains, len(fit.domains)
    base_mix = dict(zip(d, base.tolist(), strict=True))
    costs = np.linspace(1.0, 3.0, count)
    supply = np.linspace(0.02, 0.2, count)
    first = fit.metrics[0]
    q0 = np.eye(len(fit.metrics))[0]
    limit = float(fit.mean(base[None], q0)[0])

    def divergence(w: Array) -> Array:
        return np.where(w > 0, w * np.log(np.maximum(w, 1e-300) / base), 0.0).sum(axis=1)

    def everything(w: Array) -> NDArray[np.bool_]:
        return (
            (w[:, 0] >= 0.3 - SLACK)
            & (w[:, 1] <= 0.2 + SLACK)
            & (w[:, :2].sum(axis=1) <= 0.45 + SLACK)
            & (divergence(w) <= 0.2 + SLACK)
        )

    return {
        "none": Case(Objective(), lambda w: np.ones(len(w), dtype=bool)),
        "floor": Case(Objective(floors={d[0]: 0.4}), lambda w: w[:, 0] >= 0.4 - SLACK),
        "ceilings": Case(Objective(ceilings=dict.fromkeys(d, 0.37)), lambda w: (w <= 0.37 + SLACK).all(axis=1)),
        "group": Case(
            Objective(groups={"two": Group((d[0], d[1]), floor=0.1, ceiling=0.33)}),
            lambda w: (w[:, :2].sum(axis=1) <= 0.33 + SLACK) & (w[:, :2].sum(axis=1) >= 0.1 - SLACK),
        ),
        "fixed": Case(Objective(fixed={d[1]: 0.3}), lambda w: np.abs(w[:, 1] - 0.3) <= SLACK, fixed=(1, 0.3)),
        "epoch cap": Case(Objective(epoch_cap=4), lambda w: (w <= 4 * supply + SLACK).all(axis=1), supply=tuple(supply)),
        "KL": Case(Objective(within=Within(base_mix, kl=0.05)), lambda w: divergence(w) <= 0.05 + SLACK),
        "L1": Case(Objective(within=Within(base_mix, l1=0.2)), lambda w: np.abs(w - base).sum(axis=1) <= 0.2 + SLACK),
        "cost": Case(Objective(costs=dict(zip(d, costs, strict=True)), cost_cap=1.7), lambda w: w @ costs <= 1.7 + SLACK),
        "loss budget": Case(
            Objective(budgets={first: Budget(nats=0.0)}), lambda w: fit.mean(w, q0) <= limit + SLACK
        ),
        "risk": Case(Objective(risk=RISK), lambda w: np.ones(len(w), dtype=bool)),
        "several": Case(
            Objective(
                floors={d[0]: 0.3}, ceilings={d[1]: 0.2}, groups={"two": Group((d[0], d[1]), ceiling=0.45)},
                within=Within(base_mix, kl=0.2),
            ),
            everything,
        ),
    }  # fmt: skip


def value(fit: GraphFit, case: Case, base: Array) -> Callable[[Array], Array]:
    """What is minimized: the mean of metrics, or the upper quantile of its difference to the reference."""
    q = case.objective.metric_weights(fit.metrics)
    if case.objective.risk is None:
        return lambda w: fit.mean(w, q)

    def quantile(w: Array) -> Array:
        mean, spread = fit.difference(w, base, q)
        return mean + NormalDist().inv_cdf(RISK) * spread

    return quantile


def grid(domains: int, parts: int) -> Array:
    """All mixtures whose weights are multiples of 1 / parts, ``(N, D)``."""
    if domains == 1:
        return np.full((1, 1), 1.0)
    rows = [[n] for n in range(parts + 1)]
    for _ in range(domains - 2):
        rows = [[*row, n] for row in rows for n in range(parts + 1 - sum(row))]
    head = np.array(rows, dtype=float)
    return np.concatenate([head, parts - head.sum(axis=1, keepdims=True)], axis=1) / parts


def brute(f: Callable[[Array], Array], case: Case, domains: int, seed: int = 0) -> tuple[float, Array]:
    """The least value found and where."""
    draw = np.random.default_rng(seed)
    free = [n for n in range(domains) if case.fixed is None or n != case.fixed[0]]
    rest = 1.0 if case.fixed is None else 1 - case.fixed[1]
    points = np.zeros((len(grid(len(free), PARTS[domains])), domains))
    points[:, free] = grid(len(free), PARTS[domains]) * rest
    if case.fixed is not None:
        points[:, case.fixed[0]] = case.fixed[1]
    points = points[case.allowed(points)]
    found = np.concatenate([f(part) for part in np.array_split(points, max(1, len(points) // 4096))])
    ends = [polished(f, case, points[start], free, 1.0 / PARTS[domains], draw) for start in np.argsort(found)[:3]]
    return min(ends, key=lambda end: end[0])


def polished(
    f: Callable[[Array], Array], case: Case, here: Array, free: list[int], radius: float, draw: np.random.Generator
) -> tuple[float, Array]:
    """A random search from ``here`` among what is allowed, its steps shrinking from ``radius``: value and place."""
    low, domains = float(f(here[None])[0]), len(here)
    while radius > 1e-9:
        step = np.zeros((240, domains))
        step[:, free] = draw.normal(size=(240, len(free)))
        step[:80] *= draw.random((80, domains)) < 0.5  # along faces too
        step[:, free] -= step[:, free].mean(axis=1, keepdims=True)
        step *= radius / np.maximum(np.linalg.norm(step, axis=1, keepdims=True), 1e-300)
        trial = here + step
        if case.fixed is None:
            trial = np.maximum(trial, 0.0)
            trial /= trial.sum(axis=1, keepdims=True)
        trial = trial[(trial >= 0).all(axis=1)]
        trial = trial[case.allowed(trial)]
        values = f(trial) if len(trial) else np.array([np.inf])
        if values.min() < low:
            here, low = trial[int(values.argmin())], float(values.min())
            radius *= 1.3
        else:
            radius *= 0.6
    return low, here


def compare(law: str, domains: int) -> dict[str, dict[str, float]]:
    """Per kind of constraint: ours less brute force, and the seconds ours took."""
    from mixwright.optimize.mixture import optimize

    fit = ours.fit(law, tables()[domains])
    base = np.full(domains, 1 / domains)
    natural = Mixture.normalized(fit.domains, base)
    out = {}
    for kind, case in cases(fit, base).items():
        f = value(fit, case, base)
        more: dict[str, Any] = {"tokens": 1.0, "supply": np.array(case.supply)} if case.supply else {}
        found, seconds = timed(lambda case=case, more=more: optimize(fit, case.objective, natural=natural, **more))
        w = found.mixture.over(fit.domains).weights
        low, _ = brute(f, case, domains)
        free = [n for n in range(domains) if case.fixed is None or n != case.fixed[0]]
        near, _ = polished(f, case, w, free, 0.01, np.random.default_rng(1))
        allowed = bool(case.allowed(w[None])[0])
        out[kind] = {
            "excess": float(f(w[None])[0]) - min(low, near) if allowed else 1.0,
            "CPU s": seconds,
            "gap": found.gap if found.gap is not None else -1.0,
        }
    return out


def infeasible() -> list[dict[str, Any]]:
    """Contradicting constraints: whether the refusal names each of them, and gives a number to change."""
    from mixwright.core.errors import StudyError
    from mixwright.optimize.mixture import optimize

    fit = ours.fit("additive", tables()[5])
    natural, d = Mixture.uniform(fit.domains), fit.domains
    asked = [
        (Objective(floors={d[0]: 0.6, d[1]: 0.6}), ("floor", d[0], d[1]), {}),
        (Objective(ceilings=dict.fromkeys(d, 0.15)), ("ceiling",), {}),
        (Objective(floors={d[0]: 0.5}, groups={"some": Group((d[0], d[1]), ceiling=0.4)}), ("floor", d[0], "some"), {}),
        (Objective(epoch_cap=1), ("epoch",), {"tokens": 1.0, "supply": np.full(5, 0.1)}),
        (Objective(costs=dict(zip(d, range(1, 6), strict=True)), cost_cap=0.5), ("cost",), {}),
        (Objective(fixed={d[0]: 0.9}, within=Within(natural.to_dict(), l1=0.1)), (d[0], "prior"), {}),
    ]
    out = []
    for objective, words, more in asked:
        try:
            optimize(fit, objective, natural=natural, **more)
            said = ""
        except StudyError as error:
            said = str(error)
        named = all(word in said for word in words)
        out.append({"said": said, "named": named, "number": any(c.isdigit() for c in said)})
    return out


def large(domains: int = 100, metrics: int = 50, members: int = 32) -> dict[str, float]:
    """Seconds to optimize an additive fit of so many domains and metrics, with floors, ceilings, a group and a KL bound."""
    from mixwright.optimize.mixture import optimize

    draw = np.random.default_rng(0)
    names, labels = tuple(f"d{n}" for n in range(domains)), tuple(f"m{n}" for n in range(metrics))
    law, build = Additive(), Builder(names)
    for label in labels:
        theta = draw.normal(0, 0.7, law.width(domains))
        theta[0], theta[1 + domains :] = 1.0, np.log(draw.uniform(0.3, 0.8, domains))
        drawn = law.write(build, theta + 0.05 * draw.normal(size=(members, len(theta))))
        build.output(label, mean=law.write(build, theta[None]), spread=build.const(0.01), members=drawn)
    swept = draw.dirichlet(np.ones(domains), 200)
    fit = GraphFit(
        law="additive", domains=names, metrics=labels, noise=np.full(metrics, 0.01), seed_covariance=1e-4 * np.eye(metrics),
        status=("converged",) * metrics, graph=build.graph(), forms=("additive",) * metrics, misfit=1e-6 * np.eye(metrics),
        reach=0.5, swept=swept, run_id=tuple(f"r{n}" for n in range(200)), residuals=np.zeros((200, metrics)),
    )  # fmt: skip
    natural = Mixture.uniform(names)
    objective = Objective(
        floors={"d0": 0.01},
        ceilings={"d1": 0.02},
        groups={"ten": Group(names[:10], ceiling=0.2)},
        within=Within("natural", kl=0.5),
    )
    optimize(fit, objective, natural=natural)
    tries = []
    for _ in range(3):
        began = time.perf_counter()
        _, seconds = timed(lambda: optimize(fit, objective, natural=natural))
        tries.append((seconds, time.perf_counter() - began))
    return {"CPU s": float(np.median([t[0] for t in tries])), "wall s": float(np.median([t[1] for t in tries]))}


def run(shop: Workshop) -> Result:
    laws = tuple(dict.fromkeys((shop.law, "exponential")))
    wanted = [(law, domains) for domains in PARTS for law in laws]
    tasks = [Task("optimizer:compare", {"law": law, "domains": domains}, 20.0) for law, domains in wanted]
    tasks += [Task("optimizer:infeasible", {}, 3.0), Task("optimizer:large", {}, 5.0)]
    *found, refused, big = shop.do("optimizer", tasks)
    rows, cells = [], []
    for (law, domains), kinds in zip(wanted, found, strict=True):
        worst = max(kinds, key=lambda kind: kinds[kind]["excess"])
        rows.append(
            Row(
                f"optimizer, {law} on {domains} domains, {len(kinds)} kinds of constraint: most above brute force", "nats/token",
                kinds[worst]["excess"], ("<=", 1e-6), "grid and random search", 0.0, f"at {worst}",
            )
        )  # fmt: skip
        cells += [
            (f"{domains} domains, {law}, {kind}", f"{v['excess']:.1e}", f"{v['CPU s']:.3f}")
            for kind, v in kinds.items()
        ]
    named = sum(case["named"] and case["number"] for case in refused)
    rows.append(
        Row(
            "optimizer, infeasible constraints named with a way out",
            f"of {len(refused)} cases",
            float(named),
            (">=", len(refused)),
        )
    )
    rows.append(
        Row(
            "optimizer, 100 domains x 50 metrics",
            "CPU-seconds",
            big["CPU s"],
            ("<", 1.0),
            note=f"wall {big['wall s']:.2f} s, the machine shared",
        )
    )
    heads = ("problem", "ours less brute force", "CPU s")
    return Result(tuple(rows), (Shown("Optimizer against brute force", heads, tuple(cells)),))
