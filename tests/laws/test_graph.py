"""The expression graph: what each operation gives, exact gradients, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixwright.core.errors import DataError
from mixwright.laws.graph import Builder, Graph, Node

DOMAINS = ("code", "prose", "maths")


def small_graph() -> Graph:
    """Every operation once or more: two members of 1 + 1 / sum(exp(cos(c + g log r))), their mean and their spread."""
    build = Builder(DOMAINS)
    floored = build.apply("max", build.weights(), build.const(1e-3))
    logs = build.tile(build.apply("log", floored), 2)
    inside = build.apply(
        "add", build.const([0.1, -0.4, 0.3, 0.2, -0.3, 0.1]), build.apply("mul", logs, build.const(0.5))
    )
    terms = build.sum(build.apply("exp", build.apply("cos", inside)), 3)
    members = build.apply("add", build.const(1.0), build.apply("pow", terms, build.const(-1.0)))
    mean = build.apply("mul", build.sum(members), build.const(0.5))
    away = build.apply("add", members, build.apply("mul", mean, build.const(-1.0)))
    spread = build.apply("pow", build.sum(build.apply("mul", away, away)), build.const(0.5))
    build.output("val:code", mean=mean, spread=spread, members=members)
    return build.graph()


def by_hand(weights: np.ndarray) -> np.ndarray:
    logs = np.log(np.maximum(weights, 1e-3))[:, None, :]
    c = np.array([[0.1, -0.4, 0.3], [0.2, -0.3, 0.1]])
    return 1 + 1 / np.exp(np.cos(c + 0.5 * logs)).sum(axis=2)


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_values_and_round_trip(seed: int) -> None:
    weights = np.random.default_rng(seed).dirichlet(np.ones(3), 5)
    graph = small_graph()
    again = Graph.from_dict(json.loads(json.dumps(graph.to_dict())))
    nodes = list(graph.outputs["val:code"].values())
    for first, second in zip(graph.evaluate(nodes, weights), again.evaluate(nodes, weights), strict=True):
        assert np.array_equal(first, second)
    members = by_hand(weights)
    mean, spread, found = graph.evaluate(nodes, weights)
    np.testing.assert_allclose(found, members, rtol=1e-13)
    np.testing.assert_allclose(mean[:, 0], members.mean(axis=1), rtol=1e-13)
    np.testing.assert_allclose(spread[:, 0], np.abs(members[:, 0] - members[:, 1]) / np.sqrt(2), rtol=1e-9)


def test_gradient_matches_finite_differences() -> None:
    graph = small_graph()
    out = graph.outputs["val:code"]
    weights = np.random.default_rng(3).dirichlet(np.ones(3), 4)
    for coefficients in ({out["mean"]: 1.0}, {out["mean"]: 0.3, out["spread"]: 2.0}):
        value, slope = graph.gradient(coefficients, weights)
        for d in range(3):
            step = np.zeros(3)
            step[d] = 1e-6
            up, down = (graph.gradient(coefficients, weights + s)[0] for s in (step, -step))
            np.testing.assert_allclose(slope[:, d], (up - down) / 2e-6, rtol=1e-5, atol=1e-8)
        expected = sum(f * graph.evaluate([n], weights)[0][:, 0] for n, f in coefficients.items())
        np.testing.assert_allclose(value, expected, rtol=1e-13)


def test_gradient_of_max_pow_tile_and_single_numbers() -> None:
    build = Builder(("a", "b"))
    r = build.weights()
    both = build.apply("add", build.tile(r, 2), build.sum(r))
    top = build.apply("max", both, build.const([0.5, 1.2, 1.6, 0.1]))
    out = build.sum(build.apply("pow", top, build.apply("mul", r_sum := build.sum(r), r_sum)))
    graph = Graph(("a", "b"), build.graph().nodes, {})
    at = np.array([[0.3, 0.9]])
    _, slope = graph.gradient({out: 1.0}, at)
    numeric = [
        (graph.gradient({out: 1.0}, at + s)[0] - graph.gradient({out: 1.0}, at - s)[0])[0] / 2e-6
        for s in np.eye(2) * 1e-6
    ]
    np.testing.assert_allclose(slope[0], numeric, rtol=1e-6)


def test_tokens_and_params_enter_as_numbers() -> None:
    build = Builder(("a",))
    tokens, params = build.apply("tokens"), build.apply("params")
    node = build.apply("mul", build.apply("log", tokens), params)
    (value,) = build.graph().evaluate([node], np.ones((2, 1)), tokens=np.e**2, params=3.0)
    np.testing.assert_allclose(value, [[6.0], [6.0]])


def test_bind_turns_tokens_and_params_into_constants() -> None:
    build = Builder(("a",))
    node = build.apply("mul", build.apply("log", build.apply("tokens")), build.apply("params"))
    build.output("m", mean=node, spread=build.const(0.0))
    graph = build.graph()
    assert graph.free == ("tokens", "params")
    half = graph.bind(tokens=np.e**2)
    assert half.free == ("params",)
    whole = half.bind(params=3.0)
    assert whole.free == ()
    np.testing.assert_allclose(whole.evaluate([node], np.ones((1, 1)))[0], [[6.0]])
    for wrong in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(DataError, match="params"):
            graph.bind(params=wrong)


def test_matmul_and_its_gradient() -> None:
    matrix = np.random.default_rng(1).normal(size=(4, 3))
    build = Builder(DOMAINS)
    turned = build.matmul(matrix, build.apply("pow", build.weights(), build.const(1 / 3)))
    total = build.sum(build.apply("exp", turned))
    graph = build.graph()
    weights = np.random.default_rng(2).dirichlet(np.ones(3), 6)
    (value,) = graph.evaluate([turned], weights)
    np.testing.assert_allclose(value, np.cbrt(weights) @ matrix.T, rtol=1e-13)
    _, slope = graph.gradient({total: 1.0}, weights)
    expected = (np.exp(value) @ matrix) * weights ** (-2 / 3) / 3
    np.testing.assert_allclose(slope, expected, rtol=1e-12)


#: x0 <= .5 ? (x2 <= .1 ? 1 : 2) : 3, a stump on x1, and a leaf alone
TREES = [0, 0.5, 2, 0.1, -1, 1.0, -1, 2.0, -1, 3.0, 1, 0.2, -1, 10.0, -1, 20.0, -1, 100.0]


def test_trees_go_left_where_at_most_the_threshold() -> None:
    build = Builder(DOMAINS)
    each, first_two = build.tree(build.weights(), TREES, 1), build.tree(build.weights(), TREES)
    graph = build.graph()
    weights = np.array([[0.5, 0.4, 0.1], [0.3, 0.2, 0.5], [0.6, 0.3, 0.1]])
    leaves, total = graph.evaluate([each, first_two], weights)
    assert leaves.tolist() == [[1, 20, 100], [2, 10, 100], [3, 20, 100]]
    assert total.tolist() == [[121], [112], [123]]
    assert not graph.smooth
    assert small_graph().smooth
    value, slope = graph.gradient({first_two: 2.0}, weights)
    assert value.tolist() == [242, 224, 246]
    assert not slope.any()


def test_deep_trees_agree_with_walking_them(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(7)

    def grow(depth: int) -> list[float]:
        if depth == 0 or generator.random() < 0.2:
            return [-1, float(generator.normal())]
        here = [float(generator.integers(3)), float(generator.random())]
        return here + grow(depth - 1) + grow(depth - 1)

    def walk(tree: list[float], x: np.ndarray) -> tuple[float, int]:
        if tree[0] < 0:
            return tree[1], 2
        left, used = walk(tree[2:], x)
        right, more = walk(tree[2 + used :], x)
        return (left if x[int(tree[0])] <= tree[1] else right), 2 + used + more

    trees = [grow(5) for _ in range(20)]
    build = Builder(DOMAINS)
    node = build.tree(build.weights(), np.concatenate(trees), 5)
    graph, weights = build.graph(), generator.dirichlet(np.ones(3), 30)
    again = Graph.from_dict(json.loads(json.dumps(graph.to_dict())))
    expected = np.array([[walk(tree, x)[0] for tree in trees] for x in weights]).reshape(30, 4, 5).sum(axis=2)
    np.testing.assert_allclose(again.evaluate([node], weights)[0], expected, rtol=1e-13)
    monkeypatch.setattr("mixwright.laws.graph._CHUNK", 60)
    assert np.array_equal(graph.evaluate([node], weights)[0], again.evaluate([node], weights)[0])


def test_many_mixtures_in_parts_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = small_graph()
    weights = np.random.default_rng(0).dirichlet(np.ones(3), 50)
    whole = graph.evaluate([graph.outputs["val:code"]["mean"]], weights)[0]
    monkeypatch.setattr("mixwright.laws.graph._CHUNK", 12)
    assert np.array_equal(whole, graph.evaluate([graph.outputs["val:code"]["mean"]], weights)[0])


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ([Node("sin", (0,))], "no known operation"),
        ([Node("exp", (0,))], "does not come before"),
        ([Node("weights"), Node("pow", (0,))], "has 1 arguments"),
        ([Node("const", value=(float("nan"),))], "finite"),
        ([Node("const", value=())], "finite"),
        ([Node("weights"), Node("sum", (0,), count=2)], "blocks of 2"),
        ([Node("weights"), Node("const", value=(1.0, 2.0)), Node("add", (0, 1))], "lengths 3, 2"),
        ([Node("weights"), Node("tile", (0,))], "positive number of times"),
        ([Node("weights"), Node("matmul", (0, 0))], "const as its matrix"),
        ([Node("weights"), Node("const", value=(1.0,) * 4), Node("matmul", (1, 0))], "4 numbers into rows of 3"),
        ([Node("weights"), Node("tree", (0,), (0.0, 0.5, -1.0, 1.0))], "not complete"),
        ([Node("weights"), Node("tree", (0,), (-1.0, 1.0, 0.0, 0.5))], "not complete"),
        ([Node("weights"), Node("tree", (0,), (3.0, 0.5, -1.0, 1.0, -1.0, 1.0))], "list of 3 does not have"),
        ([Node("weights"), Node("tree", (0,), (-1.0, 1.0, -1.0, 1.0, -1.0, 1.0), 2)], "3 trees into groups of 2"),
        ([Node("weights"), Node("tree", (0,), (-1.0,))], "two for every node"),
    ],
)
def test_malformed_graphs_are_refused(nodes: list[Node], words: str) -> None:
    with pytest.raises(DataError, match=words):
        Graph(DOMAINS, tuple(nodes), {})


def test_wrong_outputs_schemas_and_shapes_are_refused() -> None:
    with pytest.raises(DataError, match="must be one number"):
        Graph(DOMAINS, (Node("weights"),), {"m": {"mean": 0}})
    with pytest.raises(DataError, match="has 1 nodes"):
        Graph(DOMAINS, (Node("weights"),), {"m": {"mean": 4}})
    with pytest.raises(DataError, match="mixwright/graph/9"):
        Graph.from_dict({"schema": "mixwright/graph/9"})
    with pytest.raises(DataError, match="misnames"):
        Graph.from_dict({"schema": "mixwright/graph/1", "domains": ["a"], "nodes": [{}], "outputs": {}})
    with pytest.raises(DataError, match="3 domains"):
        small_graph().evaluate([0], np.ones((1, 2)) / 2)
