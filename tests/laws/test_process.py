import numpy as np
import pytest

from mixwright.core.observation import Runs
from mixwright.laws._process import Belief, Process, blended, roots
from mixwright.laws._table import tabulate
from mixwright.laws.graph import Builder
from mixwright.testing import made_up_runs

BELIEF = Belief(length=3.0, kernel=1.0, noise=0.2, linear=0.5, level=4.0)


def process(runs: Runs, rows: int = 100) -> Process:
    table = tabulate(runs)
    e = np.where(table.known, table.y - table.y.mean(axis=1, keepdims=True), 0.0)
    return Process.fit(table, e, np.ones_like(e), BELIEF, rows)


def test_the_slope_of_the_evidence_is_its_difference_quotient() -> None:
    made = process(made_up_runs(15))
    theta = made.theta + 0.1
    value, slope = made._loss(theta)
    assert np.isfinite(value)
    for n in range(len(theta)):
        step = 1e-5 * np.eye(len(theta))[n]
        quotient = (made._loss(theta + step)[0] - made._loss(theta - step)[0]) / 2e-5
        np.testing.assert_allclose(slope[n], quotient, rtol=1e-4, atol=1e-6)


def test_held_out_is_what_a_process_without_those_runs_predicts() -> None:
    made = process(made_up_runs(14))
    fold = np.arange(14) % 4
    found = made.held_out(np.broadcast_to(made.e, (4, *made.e.shape)), fold)
    size = made.u.shape[1]
    kernel, noise, linear = np.exp(2 * made.theta[size + 1 :])
    for m in range(len(made.e)):
        rows = np.flatnonzero(made.known[m])
        C = kernel * made._kernel(made.theta, m, rows)[0] + linear * made.u[rows] @ made.u[rows].T + BELIEF.level
        for s in range(4):
            held = fold[rows] == s
            weights = np.linalg.solve(C[np.ix_(~held, ~held)] + noise * np.eye((~held).sum()), made.e[m, rows[~held]])
            left = made.e[m, rows[held]] - C[np.ix_(held, ~held)] @ weights
            np.testing.assert_allclose(found[m, rows[held]], left, atol=1e-8)
    assert np.isnan(found[~made.known]).all()


def test_the_graph_says_what_the_process_says_in_any_order_of_domains() -> None:
    runs = made_up_runs(12)
    made = process(runs)
    place = np.array([2, 0, 1])
    build = Builder([runs.domains[d] for d in place])
    node = made.write(build, 0, place)
    build.output("m", mean=node)
    points = np.random.default_rng(0).dirichlet(np.ones(3), 5)
    said = build.graph().evaluate([node], points[:, place])[0][:, 0]
    u = roots(points) / made.scale
    size = u.shape[1]
    kernel, _, linear = np.exp(2 * made.theta[size + 1 :])
    inverse = made._lengths(made.theta, 0)
    far = np.sqrt(5 * (((u[:, None] - made.u[None]) * inverse) ** 2).sum(axis=2))
    k = kernel * (1 + far + far**2 / 3) * np.exp(-far) + linear * u @ made.u.T + BELIEF.level
    np.testing.assert_allclose(said, k @ made.alpha[0], atol=1e-9)


def test_related_domains_are_nearly_one() -> None:
    runs = made_up_runs(6)
    table = tabulate(Runs(runs.domains, runs.metrics, runs.run_id, runs.weights, runs.losses, related={"d2": "d0"}))
    both = blended(table) @ np.array([[0.4, 0.2, 0.4], [0.5, 0.2, 0.3]]).T
    assert np.abs(both[:, 0] - both[:, 1]).max() == pytest.approx(0.03)
