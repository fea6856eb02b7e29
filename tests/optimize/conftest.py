"""Fits with known functions, made without fitting."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from mixwright.laws import GraphFit
from mixwright.laws.additive import Additive
from mixwright.laws.exponential import Exponential
from mixwright.laws.graph import Builder


def known_fit(
    kind: str, domains: int = 3, *, metrics: int = 2, wobble: float = 0.02, noise: float = 0.01, seed: int = 0
) -> GraphFit:
    """An additive or exponential law with drawn parameters; members differ from the mean by ``wobble``."""
    draw = np.random.default_rng(seed)
    names = tuple(f"d{n}" for n in range(domains))
    labels = tuple(f"target:{n}" for n in range(metrics))
    law = Additive() if kind == "additive" else Exponential()
    build = Builder(names)
    for label in labels:
        theta = draw.normal(0, 0.7, law.width(domains))
        theta[0] = 1.0
        if kind == "additive":
            theta[1 + domains :] = np.log(draw.uniform(0.3, 0.8, domains))
        mean = law.write(build, theta[None])
        members = law.write(build, theta + wobble * draw.normal(size=(16, len(theta))))
        build.output(label, mean=mean, spread=build.const(0.01), members=members)
    swept = np.concatenate([np.eye(domains), draw.dirichlet(np.ones(domains), 8)])
    return GraphFit(
        law=kind, domains=names, metrics=labels, noise=np.full(metrics, noise), seed_covariance=noise**2 * np.eye(metrics),
        status=("converged",) * metrics, graph=build.graph(), forms=(kind,) * metrics, misfit=1e-6 * np.eye(metrics),
        reach=0.5, swept=swept, run_id=tuple(f"r{n}" for n in range(len(swept))), residuals=np.zeros((len(swept), metrics)),
    )  # fmt: skip


@pytest.fixture
def known() -> Callable[..., GraphFit]:
    """Makes a fit whose function is known."""
    return known_fit
