"""Whether a fit's expected losses are convex in the mixture, read off its graph; and where they nearly are, a convex lower bound.

Notation: w the weights; u a node's value; every node gets a curvature, all its elements alike: constant, affine, convex, concave
or unknown. The rules are those of disciplined convex programming (Grant, Boyd and Ye 2006), and one more: a node of the form
``k + p log(u)`` is remembered as such, for its exponential is the power ``exp(k) u^p``.

A law that counts weights below a floor as the floor, ``max(w, e)^p`` with 0 < p <= 1, is not concave just above zero. Its least
concave majorant follows the line from (0, e^p) that touches ``w^p``, at ``t = e (1 - p)^(-1/p)`` (at 1 if that is beyond), and
then the power; a loss that falls with it gets a convex minorant that equals the loss wherever each weight is 0 or at least t.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from mixwright.laws import GraphFit
from mixwright.laws.graph import Graph, Node
from mixwright.laws.reuse import through, underneath

Array = NDArray[np.float64]


class Curve(Enum):
    """How a node's value bends over mixtures."""

    CONSTANT = "constant"
    AFFINE = "affine"
    CONVEX = "convex"
    CONCAVE = "concave"
    UNKNOWN = "unknown"

    @property
    def flipped(self) -> Curve:
        """That of the negative."""
        return {Curve.CONVEX: Curve.CONCAVE, Curve.CONCAVE: Curve.CONVEX}.get(self, self)


#: curvatures that count as convex, and as concave
_CONVEX = (Curve.CONSTANT, Curve.AFFINE, Curve.CONVEX)
_CONCAVE = (Curve.CONSTANT, Curve.AFFINE, Curve.CONCAVE)


@dataclass(frozen=True, eq=False)
class _Shape:
    """A node's curvature; whether it is never negative; its value if constant.

    ``log`` is given for ``k + p log(u)``: k, p, u's curvature, and the floor e if u is ``max(weights, e)`` with e above
    some weights; ``weights`` for the weights themselves.
    """

    curve: Curve
    nonnegative: bool = False
    value: Array | None = None
    log: tuple[Array, Array, Curve, float] | None = None
    floored: float = 0.0
    weights: bool = False


_UNKNOWN = _Shape(Curve.UNKNOWN)


def minorant(fit: GraphFit, metrics: Sequence[str], low: Array) -> GraphFit | None:
    """A fit of ``metrics`` whose means are convex and nowhere above those of ``fit``, for weights of at least ``low (D,)``.

    The means themselves where they are convex; None where the graph does not show how to bound them (a Gaussian
    process, trees). Only its means can be used.
    """
    if (inner := underneath(fit)) is not None and (inner[1] >= 0).all():
        below = minorant(inner[0], metrics, inner[1] @ low)
        return None if below is None else through(below, fit.domains, inner[1], fit.swept)
    wanted = [fit.graph.outputs[metric]["mean"] for metric in metrics]
    reading = _Reading(fit.graph, low)
    for number in fit.graph.needed(wanted):
        reading.take(number)
    if any(reading.shapes[node].curve not in _CONVEX for node in wanted):
        return None
    outputs = {m: {"mean": reading.place[node]} for m, node in zip(metrics, wanted, strict=True)}
    part = fit.only(metrics)
    return replace(part, graph=Graph(fit.domains, tuple(reading.nodes), outputs))


class _Reading:
    """Goes through a graph's nodes in order, notes their shapes and writes them anew, floors replaced."""

    def __init__(self, graph: Graph, low: Array) -> None:
        self.graph, self.low = graph, low
        self.nodes: list[Node] = []
        self.place: dict[int, int] = {}
        self.shapes: dict[int, _Shape] = {}

    def take(self, number: int) -> None:
        """Read one node whose arguments were read before."""
        node = self.graph.nodes[number]
        args = [self.shapes[arg] for arg in node.args]
        shape = _shape(node, args, self.low)
        if node.op == "exp" and args[0].log is not None and args[0].log[3] > 0:
            self.place[number], shape = self._power(args[0], number)
        else:
            self.place[number] = self._write(replace(node, args=tuple(self.place[arg] for arg in node.args)))
        self.shapes[number] = shape

    def _write(self, node: Node) -> int:
        self.nodes.append(node)
        return len(self.nodes) - 1

    def _power(self, inside: _Shape, number: int) -> tuple[int, _Shape]:
        """``exp(k) max(w, e)^p`` replaced by its concave majorant, for 0 < p <= 1."""
        assert inside.log is not None
        k, p, _, floor = inside.log
        length = self.graph.lengths[number]
        p, k = np.broadcast_to(p, length), np.broadcast_to(k, length)
        if not ((p > 0) & (p <= 1)).all() or length % len(self.low):
            return self._write(Node("const", value=(0.0,) * length)), _UNKNOWN
        with np.errstate(divide="ignore"):
            touch = np.minimum(floor * (1 - p) ** (-1 / p), 1.0)
        rise = (touch**p - floor**p) / touch
        const = [self._write(Node("const", value=tuple(v.tolist()))) for v in (np.exp(k), p, touch, -rise)]
        minus, zero = (self._write(Node("const", value=(v,))) for v in (-1.0, 0.0))
        w = self._write(Node("tile", (self._write(Node("weights")),), count=length // len(self.low)))
        power = self._write(Node("pow", (self._write(Node("max", (w, const[2]))), const[1])))
        short = self._write(Node("add", (const[2], self._write(Node("mul", (minus, w))))))
        line = self._write(Node("mul", (const[3], self._write(Node("max", (short, zero))))))
        both = self._write(Node("add", (power, line)))
        return self._write(Node("mul", (const[0], both))), _Shape(Curve.CONCAVE, nonnegative=True)


def _shape(node: Node, args: list[_Shape], low: Array) -> _Shape:
    """A node's shape from those of its arguments."""
    if node.op == "const":
        value = np.array(node.value)
        return _Shape(Curve.CONSTANT, bool((value >= 0).all()), value)
    if node.op == "weights":
        return _Shape(Curve.AFFINE, nonnegative=True, weights=True)
    if node.op in ("tokens", "params", "tree") or any(arg.curve is Curve.UNKNOWN and arg.log is None for arg in args):
        return _UNKNOWN
    rules = {
        "add": _add,
        "mul": _mul,
        "pow": _pow,
        "exp": _exp,
        "log": _log,
        "tile": _tile,
        "sum": _sum,
        "matmul": _matmul,
    }
    if node.op == "max":
        return _max(args, low)
    return rules[node.op](args, node.count) if node.op in rules else _UNKNOWN


def _joined(curves: Sequence[Curve]) -> Curve:
    """The curvature of a sum."""
    if all(c is Curve.CONSTANT for c in curves):
        return Curve.CONSTANT
    if all(c in (Curve.CONSTANT, Curve.AFFINE) for c in curves):
        return Curve.AFFINE
    if all(c in _CONVEX for c in curves):
        return Curve.CONVEX
    return Curve.CONCAVE if all(c in _CONCAVE for c in curves) else Curve.UNKNOWN


def _add(args: list[_Shape], _: int) -> _Shape:
    logs = [arg for arg in args if arg.log is not None]
    values = [arg.value for arg in args if arg.value is not None]
    if len(values) == len(args):
        return _constant(sum(values[1:], values[0]))
    log = None
    if len(logs) == 1 and len(values) == len(args) - 1 and logs[0].log is not None:
        k, p, curve, floor = logs[0].log
        log = (sum(values, k), p, curve, floor)
    return _Shape(_joined([arg.curve for arg in args]), all(arg.nonnegative for arg in args), log=log)


def _mul(args: list[_Shape], _: int) -> _Shape:
    moving = [arg for arg in args if arg.value is None]
    factor = np.ones(1)
    for arg in args:
        factor = factor * arg.value if arg.value is not None else factor
    if not moving:
        return _constant(factor)
    return _scaled(moving[0], factor) if len(moving) == 1 else _UNKNOWN


def _scaled(arg: _Shape, factor: Array) -> _Shape:
    log = None
    if arg.log is not None:
        k, p, curve, floor = arg.log
        log = (k * factor, p * factor, curve, floor)
    up, down = bool((factor >= 0).all()), bool((factor <= 0).all())
    curve = arg.curve if up or arg.curve is Curve.AFFINE else arg.curve.flipped if down else Curve.UNKNOWN
    return _Shape(curve, arg.nonnegative and up, log=log)


def _pow(args: list[_Shape], _: int) -> _Shape:
    base, power = args[0], args[1].value
    if power is None:
        return _UNKNOWN
    if base.value is not None:
        return _constant(base.value**power)
    if not base.nonnegative:
        return _UNKNOWN
    if (power <= 0).all() and base.curve in _CONCAVE:
        return _Shape(Curve.CONVEX, nonnegative=True)
    if ((power >= 0) & (power <= 1)).all() and base.curve in _CONCAVE:
        return _Shape(Curve.CONCAVE, nonnegative=True)
    if (power >= 1).all() and base.curve in _CONVEX:
        return _Shape(Curve.CONVEX, nonnegative=True)
    return _Shape(Curve.UNKNOWN, nonnegative=True)


def _exp(args: list[_Shape], _: int) -> _Shape:
    (arg,) = args
    if arg.value is not None:
        return _constant(np.exp(arg.value))
    if arg.log is not None:
        p, curve, floor = arg.log[1:]
        inside = _Shape(curve, nonnegative=True)
        return _pow([inside, _constant(p)], 0) if not floor else _UNKNOWN
    return _Shape(Curve.CONVEX if arg.curve in _CONVEX else Curve.UNKNOWN, nonnegative=True)


def _log(args: list[_Shape], _: int) -> _Shape:
    (arg,) = args
    if arg.value is not None:
        return _constant(np.log(arg.value))
    if not arg.nonnegative:
        return _UNKNOWN
    one = np.ones(1)
    curve = Curve.CONCAVE if arg.curve in _CONCAVE and not arg.floored else Curve.UNKNOWN
    return _Shape(curve, log=(0 * one, one, arg.curve, arg.floored))


def _max(args: list[_Shape], low: Array) -> _Shape:
    one, other = args
    if one.value is not None and other.value is not None:
        return _constant(np.maximum(one.value, other.value))
    if other.value is not None and one.weights and other.value.size == 1:
        floor = float(other.value[0])
        if floor <= low.min():
            return _Shape(Curve.AFFINE, nonnegative=True)
        return _Shape(Curve.CONVEX, nonnegative=True, floored=floor)
    convex = one.curve in _CONVEX and other.curve in _CONVEX
    return _Shape(Curve.CONVEX if convex else Curve.UNKNOWN, one.nonnegative or other.nonnegative)


def _tile(args: list[_Shape], times: int) -> _Shape:
    (arg,) = args
    if arg.value is not None:
        return _constant(np.tile(arg.value, times))
    if arg.log is None:
        return replace(arg, floored=0.0, weights=False)
    k, p, curve, floor = arg.log
    k, p = (v if v.size == 1 else np.tile(v, times) for v in (k, p))
    return _Shape(arg.curve, arg.nonnegative, log=(k, p, curve, floor))


def _sum(args: list[_Shape], size: int) -> _Shape:
    (arg,) = args
    if arg.value is not None:
        return _constant(arg.value.reshape(-1, size or arg.value.size).sum(axis=1))
    return _Shape(arg.curve, arg.nonnegative)


def _matmul(args: list[_Shape], _: int) -> _Shape:
    matrix, arg = args
    if arg.value is not None or matrix.value is None:
        return _UNKNOWN
    return replace(_scaled(arg, matrix.value), log=None)


def _constant(value: Array) -> _Shape:
    return _Shape(Curve.CONSTANT, bool((value >= 0).all()), value)
