"""The page's interpreter of a fit's graph against the one in Python, in node."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mixwright.core.rng import rng
from mixwright.laws import GraphFit
from mixwright.laws.graph import Builder, Graph
from mixwright.report import page

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="node is not installed")
SCRIPT = (Path(page.__file__).parent / "page_graph.js").read_text("utf-8")


def _node(call: str, *values: Any) -> Any:
    """The value of a script expression in which v[0], v[1] ... are the values."""
    program = f"{SCRIPT}\nconst v = JSON.parse(require('fs').readFileSync(0, 'utf8'));\n" + (
        f"process.stdout.write(JSON.stringify({call}, (k, x) => ArrayBuffer.isView(x) ? [...x] : x));"
    )
    done = subprocess.run(
        [str(NODE), "-e", program], input=json.dumps(values), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_operation_agrees() -> None:
    build = Builder(("a", "b", "c"))
    weights, tokens, params = build.weights(), build.const(3e5), build.const([5.0, 6.0, 8.0])
    tiled = build.tile(weights, 3)
    scaled = build.apply("mul", tiled, build.const(np.arange(9) - 4.0))
    blocks = build.sum(scaled, 3)
    power = build.apply("pow", build.apply("add", blocks, params), build.const(1.7))
    most = build.apply("max", power, build.const(4.0))
    logged = build.apply("log", build.apply("add", most, tokens, build.const(1.0)))
    summed = build.sum(build.apply("exp", build.apply("mul", logged, build.const(0.1))))
    turned = build.matmul([[0.5, -1.0, 2.0], [1.0, 0.1, -0.3]], weights)
    leaves = build.tree(turned, [0, 0.1, 1, 0.2, -1, 1.5, -1, -2.0, -1, 0.25, 1, 0.3, -1, 3.0, -1, 4.0], 1)
    both = build.tree(weights, [2, 0.4, -1, 1.0, -1, 2.0, -1, 0.5])
    build.output("m", mean=build.apply("add", summed, build.sum(leaves), build.apply("cos", both)), spread=tokens)
    graph = build.graph()
    for point in rng(1, "points").dirichlet([1, 1, 1], 5):
        theirs = _node("evaluateGraph(v[0], v[1])", graph.to_dict(), point.tolist())
        ours = graph.evaluate(range(len(graph.nodes)), point[None])
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(one[0], other, rtol=1e-13)


def test_tokens_and_params_reach_the_nodes() -> None:
    nodes = [{"op": "tokens"}, {"op": "params"}, {"op": "mul", "args": [0, 1]}]
    graph = {"schema": "mixwright/graph/1", "domains": ["a"], "nodes": nodes, "outputs": {}}
    assert _node("evaluateGraph(v[0], [1], {tokens: 6, params: 7})[2]", graph) == [42]
    assert Graph.from_dict(graph).evaluate([2], np.ones((1, 1)), tokens=6, params=7)[0][0, 0] == 42


@pytest.mark.parametrize(
    ("graph", "message"),
    [({"schema": "mixwright/graph/2", "nodes": []}, "unknown graph schema"),
     ({"schema": "mixwright/graph/1", "nodes": [{"op": "sinh", "args": []}]}, "unknown operation sinh")],
)  # fmt: skip
def test_what_it_does_not_know_it_refuses(graph: dict[str, Any], message: str) -> None:
    call = "(() => { try { evaluateGraph(v[0], [1]); } catch (error) { return error.message; } })()"
    assert message in _node(call, graph)


@pytest.mark.parametrize("grows", [False, True])
def test_predictions_and_differences_agree_with_the_fit(data: dict[str, Any], fit: GraphFit, grows: bool) -> None:
    if grows:  # the misfit, with the loss
        outputs = {metric: {**nodes, "scale": nodes["mean"]} for metric, nodes in fit.graph.outputs.items()}
        fit = replace(fit, graph=Graph(fit.domains, fit.graph.nodes, outputs))
    written = json.loads(json.dumps(fit.to_dict()))
    reference = np.array(data["mixtures"]["natural"])
    objective = np.array([data["metric_weights"].get(metric, 0.0) for metric in fit.metrics])
    for point in rng(2, "points").dirichlet(np.ones(len(fit.domains)), 3):
        theirs = _node("predictLosses(v[0], v[1])", written, point.tolist())
        ours = fit.predict(point[None])
        np.testing.assert_allclose(ours.mean[0], [theirs[m]["mean"] for m in fit.metrics], rtol=1e-12)
        np.testing.assert_allclose(ours.spread[0], [theirs[m]["spread"] for m in fit.metrics], rtol=1e-8)
        call = "lossDifference(v[0], predictLosses(v[0], v[1]), predictLosses(v[0], v[2]), v[3], v[4])"
        apart = float(np.abs(point - reference).sum())
        gap = _node(call, written, point.tolist(), reference.tolist(), apart, objective.tolist())
        mean, spread = fit.difference(point[None], reference, objective)
        assert gap["mean"] == pytest.approx(mean[0], rel=1e-9)
        assert gap["spread"] == pytest.approx(spread[0], rel=1e-8)
