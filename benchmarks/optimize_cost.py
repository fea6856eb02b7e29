"""What optimizing costs: CPU-seconds of one optimum, by domains, metrics and constraints.

    python benchmarks/optimize_cost.py [--domains 100] [--metrics 50] [--members 24] [--law additive]

The law has drawn parameters and an ensemble of members, as a fit has; nothing is fitted. Printed per kind of constraint: the
CPU-seconds of `optimize` from the fit to the finished Optimum, the proven gap, and how many domains get weight.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np

from mixwright.core.find import find
from mixwright.core.mixture import Mixture
from mixwright.core.objective import Budget, Group, Objective, Within
from mixwright.laws import GraphFit
from mixwright.laws.graph import Builder
from mixwright.optimize.mixture import optimize


def drawn_fit(law_name: str, domains: int, metrics: int, members: int, seed: int = 0) -> GraphFit:
    """A fit with drawn parameters: every metric leans on its own domains."""
    draw = np.random.default_rng(seed)
    names, labels = tuple(f"d{n}" for n in range(domains)), tuple(f"target:{n}" for n in range(metrics))
    law, build = find("laws", law_name)(), Builder(names)
    for label in labels:
        theta = draw.normal(0, 0.7, law.width(domains))
        theta[0] = 0.8
        if law_name == "additive":
            theta[1 + domains :] = np.log(draw.uniform(0.3, 0.8, domains))
        mean = law.write(build, theta[None])
        each = law.write(build, theta + 0.02 * draw.normal(size=(members, len(theta))))
        build.output(label, mean=mean, spread=build.const(0.01), members=each)
    swept = draw.dirichlet(np.ones(domains), 3 * domains)
    return GraphFit(
        law=law_name, domains=names, metrics=labels, noise=np.full(metrics, 0.01), seed_covariance=1e-4 * np.eye(metrics),
        status=("converged",) * metrics, graph=build.graph(), forms=(law_name,) * metrics, misfit=1e-6 * np.eye(metrics),
        reach=0.5, swept=swept, run_id=tuple(f"r{n}" for n in range(len(swept))), residuals=np.zeros((len(swept), metrics)),
    )  # fmt: skip


def objectives(names: tuple[str, ...]) -> dict[str, Objective]:
    """One objective per kind of constraint, and one with all of them."""
    half = names[: len(names) // 2]
    costs = {name: float(n % 7) for n, name in enumerate(names)}
    parts: dict[str, dict[str, Any]] = {
        "nothing": {},
        "floors and ceilings": {
            "floors": dict.fromkeys(names, 0.1 / len(names)),
            "ceilings": dict.fromkeys(half, 0.05),
        },
        "epoch cap": {"epoch_cap": 4.0},
        "groups": {"groups": {"half": Group(half, 0.2, 0.4)}},
        "cost cap": {"costs": costs, "cost_cap": 2.0},
        "L1 to natural": {"within": Within("natural", l1=0.4)},
        "KL to natural": {"within": Within("natural", kl=0.1)},
        "loss budget": {"budgets": {"target:0": Budget(percent=0.0)}},
    }
    mixed: dict[str, Any] = {
        key: value for name, part in parts.items() if name != "KL to natural" for key, value in part.items()
    }
    return {name: Objective(**part) for name, part in parts.items()} | {"all": Objective(**mixed)}


def main() -> None:
    """Measure and print."""
    read = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    read.add_argument("--domains", type=int, default=100)
    read.add_argument("--metrics", type=int, default=50)
    read.add_argument("--members", type=int, default=24)
    read.add_argument("--law", default="additive")
    flags = read.parse_args()
    fit = drawn_fit(flags.law, flags.domains, flags.metrics, flags.members)
    natural = Mixture.normalized(fit.domains, np.arange(1.0, flags.domains + 1))
    supply = 1e9 * natural.weights
    optimize(fit.only(fit.metrics[:1]), Objective(), natural=natural)  # imports
    print(f"{flags.domains} domains x {flags.metrics} metrics, {flags.members} members, law {flags.law}")
    print(f"{'constraints':22} {'CPU s':>7} {'gap':>9} {'domains used':>13}")
    for name, objective in objectives(fit.domains).items():
        start = time.process_time()
        found = optimize(fit, objective, natural=natural, tokens=5e8, supply=supply)
        took = time.process_time() - start
        gap = "none" if found.gap is None else f"{found.gap:.1e}"
        print(f"{name:22} {took:7.2f} {gap:>9} {int((found.mixture.weights > 1e-6).sum()):13}")


if __name__ == "__main__":
    main()
