"""What the graph shows of a law's convexity, and searches where it shows none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from mixwright.core.mixture import Mixture
from mixwright.core.objective import Objective
from mixwright.laws import GraphFit
from mixwright.laws.graph import Builder
from mixwright.optimize.convexity import minorant
from mixwright.optimize.mixture import optimize


def draws(size: int, count: int, seed: int) -> np.ndarray:
    """Mixtures of which many have weights near zero."""
    return np.random.default_rng(seed).dirichlet(np.full(size, 0.3), count)


@pytest.mark.parametrize("law", ["additive", "exponential"])
def test_the_lower_bound_is_convex_and_nowhere_above(law: str, known: Callable[..., GraphFit]) -> None:
    fit = known(law, 4)
    below = minorant(fit, fit.metrics, np.zeros(4))
    assert below is not None
    q = np.full(2, 0.5)
    one, other = draws(4, 3000, 0), draws(4, 3000, 1)
    assert (fit.mean(one, q) >= below.mean(one, q) - 1e-12).all()
    assert (below.mean((one + other) / 2, q) <= (below.mean(one, q) + below.mean(other, q)) / 2 + 1e-12).all()
    slopes = below.mean_and_slope(one, q)[1]
    tangent = below.mean(one, q) + (slopes * (other - one)).sum(axis=1)
    assert (below.mean(other, q) >= tangent - 1e-9).all()
    inside = np.array([[0.0, 0.3, 0.3, 0.4], [0.25, 0.25, 0.25, 0.25], [0.0, 0.0, 0.0, 1.0]])
    np.testing.assert_allclose(fit.mean(inside, q), below.mean(inside, q), rtol=1e-12)


def test_the_additive_law_itself_is_not_convex_near_zero_but_above_its_floor(known: Callable[..., GraphFit]) -> None:
    fit, q = known("additive", 4), np.full(2, 0.5)
    one, other = draws(4, 3000, 0), draws(4, 3000, 1)
    assert (fit.mean((one + other) / 2, q) > (fit.mean(one, q) + fit.mean(other, q)) / 2 + 1e-4).any()
    above = minorant(fit, fit.metrics, np.full(4, 1e-3))
    assert above is not None
    np.testing.assert_array_equal(above.mean(one, q), fit.mean(one, q))


def wells(depths: list[float], size: int = 3) -> GraphFit:
    """A loss with one well in each of some corners' neighbourhoods, each so deep: minus Gaussians about known centres."""
    names = tuple(f"d{n}" for n in range(size))
    build = Builder(names)
    parts = []
    for n, depth in enumerate(depths):
        centre = np.full(size, 0.1)
        centre[n] = 1 - 0.1 * (size - 1)
        off = build.apply("add", build.weights(), build.const(-centre))
        square = build.sum(build.apply("mul", off, off))
        parts.append(
            build.apply("mul", build.const(-depth), build.apply("exp", build.apply("mul", build.const(-20.0), square)))
        )
    mean = build.apply("add", build.const(3.0), *parts)
    members = build.apply("add", build.const([0.0, 0.001]), mean)
    build.output("target:0", mean=mean, spread=build.const(0.01), members=members)
    one = np.ones((1, 1))
    return GraphFit(
        law="wells", domains=names, metrics=("target:0",), noise=np.full(1, 0.01), seed_covariance=1e-4 * one,
        status=("converged",), graph=build.graph(), forms=("wells",), misfit=1e-6 * one, reach=0.5, swept=np.eye(size),
        run_id=names, residuals=np.zeros((size, 1)),
    )  # fmt: skip


@pytest.mark.parametrize("deepest", [0, 1, 2])
def test_the_deepest_of_several_valleys_is_found_and_no_bound_is_claimed(deepest: int) -> None:
    depths = [0.10, 0.10, 0.10]
    depths[deepest] = 0.12
    fit = wells(depths)
    assert minorant(fit, fit.metrics, np.zeros(3)) is None
    found = optimize(fit, Objective(), natural=Mixture.normalized(fit.domains, [1, 2, 3]))
    assert int(found.mixture.weights.argmax()) == deepest
    np.testing.assert_allclose(found.mixture.weights[deepest], 0.8, atol=0.01)
    assert found.gap is None
    assert "No bound on what a better mixture could gain exists here" in found.certificate
    assert found.certificate in found.notes


def test_six_valleys_in_six_domains() -> None:
    fit = wells([0.10, 0.11, 0.10, 0.10, 0.13, 0.10], size=6)
    found = optimize(fit, Objective(), natural=Mixture.uniform(fit.domains))
    assert int(found.mixture.weights.argmax()) == 4


def test_a_planted_optimum_is_found_with_its_proof(known: Callable[..., GraphFit]) -> None:
    # equal exponents 1/2 and C: 1 / sum C sqrt(w) is least at w = C^2 / sum C^2
    names = ("a", "b", "c", "d")
    C = np.array([1.0, 2.0, 0.5, 1.5])
    build = Builder(names)
    power = build.apply("pow", build.weights(), build.const(0.5))
    mean = build.apply("pow", build.sum(build.apply("mul", build.const(C), power)), build.const(-1.0))
    build.output(
        "target:0", mean=mean, spread=build.const(0.01), members=build.apply("add", build.const([0.0, 1e-3]), mean)
    )
    like = known("additive", 4, metrics=1)
    fit = replace(like, domains=names, graph=build.graph())
    found = optimize(fit, Objective(), natural=Mixture.uniform(names))
    np.testing.assert_allclose(found.mixture.weights, C**2 / (C**2).sum(), atol=1e-7)
    assert found.gap is not None
    assert found.gap < 1e-10
    assert "no allowed mixture is better" in found.certificate


def test_cvxpy_finds_the_same_optimum_of_the_additive_law(known: Callable[..., GraphFit]) -> None:
    import cvxpy

    fit = known("additive", 4, metrics=1, seed=7)
    theta = {
        op: [np.array(n.value) for n in fit.graph.nodes if n.op == "const" and len(n.value) == 4] for op in ("const",)
    }["const"]
    powers, logs = (v for v in theta[:2])
    E = next(
        float(n.value[0]) for n in reversed(fit.graph.nodes) if n.op == "const" and len(n.value) == 1 and n.value[0] > 1
    )
    w = cvxpy.Variable(4)
    terms = [np.exp(c) * cvxpy.power(w[d], g, approx=False) for d, (c, g) in enumerate(zip(logs, powers, strict=True))]
    problem = cvxpy.Problem(
        cvxpy.Minimize(E + cvxpy.inv_pos(sum(terms))), [cvxpy.sum(w) == 1, w >= 0.01, w[0] + w[1] <= 0.6]
    )
    problem.solve(solver=cvxpy.CLARABEL)
    assert (powers <= 1).all()
    from mixwright.core.objective import Group

    floors, groups = dict.fromkeys(fit.domains, 0.01), {"g": Group(("d0", "d1"), 0.0, 0.6)}
    found = optimize(fit, Objective(floors=floors, groups=groups), natural=Mixture.uniform(fit.domains))
    np.testing.assert_allclose(found.losses[0].value, problem.value, atol=1e-6)


def test_a_law_without_slopes_is_searched_by_draws(known: Callable[..., GraphFit]) -> None:
    # every tenth of a weight away from (0.3, 0.4] and (0.5, 0.6] costs one
    names = ("a", "b", "c")
    build = Builder(names)
    stumps: list[float] = []
    for place, target in ((0, 0.3), (1, 0.5)):
        for edge in np.arange(0.1, 1.0, 0.1):
            below, above = (1.0, 0.0) if edge <= target + 1e-9 else (0.0, 1.0)
            stumps += [place, float(edge), -1, below, -1, above]
    mean = build.tree(build.weights(), stumps)
    build.output(
        "target:0", mean=mean, spread=build.const(0.01), members=build.apply("add", build.const([0.0, 0.001]), mean)
    )
    fit = replace(known("additive", 3, metrics=1), domains=names, graph=build.graph())
    found = optimize(fit, Objective(), natural=Mixture.uniform(names))
    assert found.losses[0].value == 0.0
    assert found.gap is None
