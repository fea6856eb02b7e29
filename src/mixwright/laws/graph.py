"""A fit written down: a small expression graph in JSON, and its interpreter.

Notation: N mixtures, D domains, M metrics; r a mixture's weights ``(D,)``; K the length of a node's value.

The JSON form, schema ``mixwright/graph/1``, is all that an interpreter in another language needs::

    {"schema": "mixwright/graph/1",
     "domains": ["code", "prose"],                       order of the weights
     "nodes":   [{"op": "weights"},                      node 0
                 {"op": "const", "value": [-1.5, 0.2]},  node 1
                 {"op": "mul", "args": [0, 1]},          node 2: arguments are numbers of earlier nodes
                 {"op": "sum", "args": [2]},             node 3
                 {"op": "exp", "args": [3]}],            node 4
     "outputs": {"val:code": {"mean": 4, "spread": 7, "members": 5}}}

Every node's value is a list of K >= 1 float64 numbers. ``nodes`` is in order of evaluation: arguments come before the
node that uses them. All constants are finite. The operations, complete:

======== ========================= =============================================================================
op       further keys              value
======== ========================= =============================================================================
const    ``value``: numbers        that list
weights                            r, D numbers in the order of ``domains``
tokens                             one number: training tokens (NaN where unknown)
params                             one number: non-embedding parameters (NaN where unknown)
add      ``args``: two or more     element by element; an argument of length 1 stands for all K elements, all others
                                   have the same length
mul      ``args``: two or more     as add
max      ``args``: two             as add, the larger
pow      ``args``: two             as add, first to the power of second (``Math.pow``)
exp      ``args``: one             element by element
log      ``args``: one             element by element, natural
cos      ``args``: one             element by element, of radians
tile     ``args``: one, ``times``  the whole list so many times, one after another: (a, b) twice is (a, b, a, b)
sum      ``args``: one, ``size``   the list cut into blocks of ``size`` consecutive elements, each block summed;
                                   ``size`` absent or 0: the whole list is one block
matmul   ``args``: two             the first a const that holds a matrix row by row, as many columns as the second
                                   has elements: matrix times list
tree     ``args``: one, ``value``, decision trees over the list x, written one after another, each in preorder, two
         ``size``                  numbers a node: ``i, t`` for "where x[i] <= t the left subtree, which follows at
                                   once, else the right one, which follows the left", ``-1, v`` for a leaf of value
                                   v. Every ``size`` consecutive trees are summed to one element; ``size`` absent or
                                   0: all trees are
======== ========================= =============================================================================

``outputs`` gives per metric the numbers of nodes: ``mean`` (length 1: the expected loss), ``spread`` (length 1:
the standard deviation of that expectation, seed noise not among it) and ``members`` (length B: the loss predicted by
each member of the ensemble; member b is the same resampled world in every metric); and, where the law's misfit is not the
same everywhere, ``scale`` (length 1: how many times the typical one it is). A 90 % interval for one more
training run is ``mean ± 1.645 * sqrt(spread² + noise²)``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixwright.core.errors import DataError

SCHEMA = "mixwright/graph/1"
Array = NDArray[np.float64]
#: op -> (fewest arguments, most arguments)
ARITY: dict[str, tuple[int, int]] = {
    "const": (0, 0), "weights": (0, 0), "tokens": (0, 0), "params": (0, 0), "add": (2, 1 << 30), "mul": (2, 1 << 30),
    "max": (2, 2), "pow": (2, 2), "exp": (1, 1), "log": (1, 1), "cos": (1, 1), "tile": (1, 1), "sum": (1, 1),
    "matmul": (2, 2), "tree": (1, 1),
}  # fmt: skip
#: numbers held at once by one node while many mixtures are evaluated; 8 bytes each
_CHUNK = 1 << 20
#: the same for gradients, which read every node's value again and so should fit the processor's cache
_CACHED = 1 << 16


@dataclass(frozen=True)
class Node:
    """One operation; ``value`` belongs to const and tree, ``count`` is the ``times`` of tile, the ``size`` of sum, tree."""

    op: str
    args: tuple[int, ...] = ()
    value: tuple[float, ...] = ()
    count: int = 0

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        out: dict[str, Any] = {"op": self.op}
        if self.args:
            out["args"] = list(self.args)
        if self.op in ("const", "tree"):
            out["value"] = list(self.value)
        if self.op == "tile":
            out["times"] = self.count
        if self.op in ("sum", "tree"):
            out["size"] = self.count
        return out


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes in order of evaluation and, per metric, which of them are ``mean``, ``spread`` and ``members``.

    Checked on construction: operations, arguments, lengths and finite constants; DataError names the node.
    """

    domains: tuple[str, ...]
    nodes: tuple[Node, ...]
    outputs: Mapping[str, Mapping[str, int]]

    def __post_init__(self) -> None:
        lengths = self.lengths
        for metric, nodes in self.outputs.items():
            for name, node in nodes.items():
                if not 0 <= node < len(self.nodes):
                    raise DataError(
                        f"The graph's output {name} of {metric} is node {node}, but it has {len(self.nodes)} nodes."
                    )
                if name != "members" and lengths[node] != 1:
                    raise DataError(
                        f"The graph's output {name} of {metric} must be one number; node {node} has {lengths[node]}."
                    )

    @cached_property
    def lengths(self) -> tuple[int, ...]:
        """The length K of every node's value."""
        lengths: list[int] = []
        for number in range(len(self.nodes)):
            lengths.append(_length(number, self.nodes, lengths, len(self.domains)))
        return tuple(lengths)

    @cached_property
    def free(self) -> tuple[str, ...]:
        """Which of ``tokens`` and ``params`` the outputs depend on: they must be told, or bound, before evaluation."""
        used = {self.nodes[n].op for n in self.needed(n for nodes in self.outputs.values() for n in nodes.values())}
        return tuple(name for name in ("tokens", "params") if name in used)

    @cached_property
    def smooth(self) -> bool:
        """Whether gradients tell where to go: no output is made of trees, whose gradient is zero almost everywhere."""
        return not any(node.op == "tree" for node in self.nodes)

    @cached_property
    def _constants(self) -> dict[int, Array]:
        """The values ``(1, K)`` of const nodes, made once."""
        return {number: np.array([node.value]) for number, node in enumerate(self.nodes) if node.op == "const"}

    @cached_property
    def _forests(self) -> dict[int, _Forest]:
        """The trees of tree nodes, read once."""
        return {number: _forest(node.value) for number, node in enumerate(self.nodes) if node.op == "tree"}

    def bind(self, tokens: float | None = None, params: float | None = None) -> Graph:
        """The same graph with tokens and params, as far as given, turned into constants. DataError unless positive."""
        given = {name: value for name, value in (("tokens", tokens), ("params", params)) if value is not None}
        for name, value in given.items():
            if not (np.isfinite(value) and value > 0):
                raise DataError(f"A fit cannot be taken at {name} = {value:g}: give a positive number.")
        nodes = tuple(
            Node("const", value=(float(given[node.op]),)) if node.op in given else node for node in self.nodes
        )
        return Graph(self.domains, nodes, self.outputs)

    def needed(self, wanted: Iterable[int]) -> list[int]:
        """The wanted nodes and all they depend on, in order of evaluation."""
        stack, seen = list(wanted), set[int]()
        while stack:
            node = stack.pop()
            if node not in seen:
                seen.add(node)
                stack.extend(self.nodes[node].args)
        return sorted(seen)

    def only(self, metrics: Sequence[str]) -> Graph:
        """The graph of these metrics alone, without the nodes that only others need."""
        outputs = {metric: self.outputs[metric] for metric in metrics}
        kept = self.needed(node for nodes in outputs.values() for node in nodes.values())
        place = {old: new for new, old in enumerate(kept)}
        nodes = tuple(
            Node(n.op, tuple(place[a] for a in n.args), n.value, n.count) for n in (self.nodes[old] for old in kept)
        )
        return Graph(
            self.domains, nodes, {m: {name: place[node] for name, node in o.items()} for m, o in outputs.items()}
        )

    def _run(self, wanted: Iterable[int], weights: Array, tokens: float, params: float) -> dict[int, Array]:
        """Values of the wanted nodes and all they need, each ``(N, K)`` or ``(1, K)`` where no mixture enters."""
        values: dict[int, Array] = {}
        for number in self.needed(wanted):
            node = self.nodes[number]
            args = [values[a] for a in node.args]
            if node.op == "const":
                values[number] = self._constants[number]
            elif node.op == "tree":
                values[number] = self._forests[number].sums(args[0], node.count)
            else:
                values[number] = _apply(node, args, weights, tokens, params)
        return values

    def evaluate(
        self, nodes: Sequence[int], weights: Array, *, tokens: float = np.nan, params: float = np.nan
    ) -> list[Array]:
        """The values of ``nodes`` at mixtures ``weights (N, D)``: one array ``(N, K)`` each.

        Cost: a few array operations per node; memory is bounded by cutting the mixtures into parts.
        """
        points = np.atleast_2d(np.asarray(weights, dtype=np.float64))
        if points.shape[1] != len(self.domains):
            raise DataError(
                f"The fit knows {len(self.domains)} domains, but the mixtures given have {points.shape[1]} weights."
            )
        widest = max((self.lengths[n] for n in self.needed(nodes) if self.nodes[n].op != "const"), default=1)
        rows = max(1, _CHUNK // widest)
        parts: list[list[Array]] = []
        for at in range(0, max(len(points), 1), rows):
            part = points[at : at + rows]
            values = self._run(nodes, part, tokens, params)
            parts.append([np.broadcast_to(values[n], (len(part), self.lengths[n])) for n in nodes])
        return [np.concatenate(column) for column in zip(*parts, strict=True)] if nodes else []

    def gradient(
        self,
        coefficients: Mapping[int, float | Array],
        weights: Array,
        *,
        tokens: float = np.nan,
        params: float = np.nan,
    ) -> tuple[Array, Array]:
        """``sum(coefficient * node)`` over the nodes' elements, and its gradient with respect to the weights.

        Shapes ``(N,)`` and ``(N, D)`` at mixtures ``weights (N, D)``; a coefficient is a number, or an array ``(N, K)`` for
        the K elements of its node. Exact, by one pass backwards (where ``max`` ties, the first argument counts; that of a
        tree is zero). Cost: about two evaluations.
        """
        points = np.atleast_2d(np.asarray(weights, dtype=np.float64))
        widest = max((self.lengths[n] for n in self.needed(coefficients) if self._moving[n]), default=1)
        rows = max(1, _CACHED // widest)
        parts = [
            self._pull({n: c if np.ndim(c) == 0 else np.asarray(c)[at : at + rows] for n, c in coefficients.items()},
                       points[at : at + rows], tokens, params)
            for at in range(0, max(len(points), 1), rows)
        ]  # fmt: skip
        if len(parts) == 1:
            return parts[0]
        return np.concatenate([total for total, _ in parts]), np.concatenate([slope for _, slope in parts])

    @cached_property
    def _moving(self) -> tuple[bool, ...]:
        """Which nodes depend on the mixture."""
        moving: list[bool] = []
        for node in self.nodes:
            moving.append(node.op == "weights" or any(moving[arg] for arg in node.args))
        return tuple(moving)

    def _pull(
        self, coefficients: Mapping[int, float | Array], points: Array, tokens: float, params: float
    ) -> tuple[Array, Array]:
        """As ``gradient``, all points at once."""
        values = self._run(coefficients, points, tokens, params)
        total = np.zeros((len(points), 1))
        slopes: dict[int, Array] = {}
        for target, factor in coefficients.items():
            total = total + (factor * values[target]).sum(axis=1, keepdims=True)
            slopes[target] = np.atleast_2d(np.asarray(factor, dtype=np.float64))
        out = np.zeros_like(points)
        for number in sorted(values, reverse=True):
            slope = slopes.pop(number, None)
            if slope is None:
                continue
            node = self.nodes[number]
            if node.op == "weights":
                out = out + slope
            wanted = [self._moving[arg] for arg in node.args]
            for arg, back in zip(node.args, _backward(node, values, number, slope, wanted), strict=True):
                if back is not None:
                    slopes[arg] = slopes[arg] + back if arg in slopes else back
        return total[:, 0], out

    def to_dict(self) -> dict[str, Any]:
        """As JSON, schema ``mixwright/graph/1``."""
        return {
            "schema": SCHEMA,
            "domains": list(self.domains),
            "nodes": [node.to_dict() for node in self.nodes],
            "outputs": {metric: dict(nodes) for metric, nodes in self.outputs.items()},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Graph:
        """The inverse of ``to_dict``; DataError says what is wrong."""
        if values.get("schema") != SCHEMA:
            raise DataError(
                f"This is no expression graph for this version: its schema is {values.get('schema')!r}, not {SCHEMA!r}."
            )
        try:
            nodes = tuple(
                Node(
                    str(node["op"]),
                    tuple(int(a) for a in node.get("args", ())),
                    tuple(float(v) for v in node.get("value", ())),
                    int(node.get("times", node.get("size", 0))),
                )
                for node in values["nodes"]
            )
            return cls(tuple(values["domains"]), nodes, values["outputs"])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"This expression graph lacks or misnames a field: {error!r}.") from error


class Builder:
    """Writes a graph node by node; each method returns the number of the node it added."""

    def __init__(self, domains: Sequence[str]) -> None:
        self.domains = tuple(domains)
        self._nodes: list[Node] = []
        self._known: dict[Node, int] = {}
        self._outputs: dict[str, dict[str, int]] = {}

    def _add(self, node: Node) -> int:
        if node not in self._known:
            self._known[node] = len(self._nodes)
            self._nodes.append(node)
        return self._known[node]

    def const(self, value: float | Sequence[float] | NDArray[Any]) -> int:
        """A number or a list of numbers."""
        return self._add(Node("const", value=tuple(float(v) for v in np.ravel(np.asarray(value, dtype=np.float64)))))

    def weights(self) -> int:
        """The mixture."""
        return self._add(Node("weights"))

    def apply(self, op: str, *args: int) -> int:
        """``add``, ``mul``, ``max``, ``pow``, ``exp``, ``log`` or ``cos`` of earlier nodes."""
        return self._add(Node(op, args))

    def tile(self, arg: int, times: int) -> int:
        """The list repeated."""
        return self._add(Node("tile", (arg,), count=times))

    def sum(self, arg: int, size: int = 0) -> int:
        """Sums over blocks of ``size`` (0: over everything)."""
        return self._add(Node("sum", (arg,), count=size))

    def matmul(self, matrix: Sequence[Sequence[float]] | NDArray[Any], arg: int) -> int:
        """A constant matrix ``(P, K)`` times a list of K: P numbers."""
        return self._add(Node("matmul", (self.const(np.asarray(matrix)), arg)))

    def tree(self, arg: int, value: Sequence[float] | NDArray[Any], size: int = 0) -> int:
        """Decision trees over a list, written as in the table above; every ``size`` of them summed (0: all)."""
        return self._add(Node("tree", (arg,), tuple(float(v) for v in np.ravel(np.asarray(value))), size))

    def graft(self, graph: Graph, weights: int | None = None) -> list[int]:
        """Copy another graph's nodes; the node ``weights`` stands for its mixture if given. Their numbers here."""
        place: list[int] = []
        for node in graph.nodes:
            if node.op == "weights" and weights is not None:
                place.append(weights)
            else:
                place.append(self._add(Node(node.op, tuple(place[a] for a in node.args), node.value, node.count)))
        return place

    def output(self, metric: str, **nodes: int) -> None:
        """Name the nodes that are the metric's ``mean``, ``spread`` and ``members``."""
        self._outputs[metric] = nodes

    def graph(self) -> Graph:
        """What was written."""
        return Graph(self.domains, tuple(self._nodes), self._outputs)


def _length(number: int, nodes: Sequence[Node], lengths: Sequence[int], domains: int) -> int:
    """The length of a node's value; DataError if the node is malformed."""
    node = nodes[number]

    def fault(what: str) -> DataError:
        return DataError(f"Node {number} ({node.op}) of the expression graph {what}.")

    if node.op not in ARITY:
        raise fault(f"is of no known operation; known: {', '.join(ARITY)}")
    low, high = ARITY[node.op]
    if not low <= len(node.args) <= high:
        raise fault(f"has {len(node.args)} arguments")
    if any(not 0 <= arg < number for arg in node.args):
        raise fault("refers to a node that does not come before it")
    sizes = [lengths[arg] for arg in node.args]
    if node.op == "const":
        if not node.value or not np.all(np.isfinite(node.value)):
            raise fault("needs finite numbers")
        return len(node.value)
    if node.op == "weights":
        return domains
    if node.op == "tile":
        if node.count < 1:
            raise fault(f"needs a positive number of times; it has {node.count}")
        return sizes[0] * node.count
    if node.op == "sum":
        if node.count and (node.count < 0 or sizes[0] % node.count):
            raise fault(f"cannot cut {sizes[0]} numbers into blocks of {node.count}")
        return sizes[0] // node.count if node.count else 1
    if node.op == "matmul":
        if nodes[node.args[0]].op != "const":
            raise fault("needs a const as its matrix")
        if sizes[0] % sizes[1]:
            raise fault(f"cannot cut a matrix of {sizes[0]} numbers into rows of {sizes[1]}")
        return sizes[0] // sizes[1]
    if node.op == "tree":
        return _tree_length(node, sizes[0], fault)
    widest = max(sizes, default=1)
    if any(size not in (1, widest) for size in sizes):
        raise fault(f"joins lists of lengths {', '.join(map(str, sizes))}")
    return widest


@dataclass(frozen=True, eq=False)
class _Forest:
    """Decision trees in preorder: per node the element it tests (-1: a leaf), its number, and where its right child is."""

    element: NDArray[np.int64]
    number: Array
    right: NDArray[np.int64]
    roots: NDArray[np.int64]

    def sums(self, x: Array, size: int) -> Array:
        """Sums ``(N, T / size)`` of the leaves that the T trees lead ``x (N, K)`` to; cost about depth times N times T."""
        rows = max(1, _CHUNK // len(self.roots))
        parts = [self._leaves(x[at : at + rows]) for at in range(0, len(x), rows)]
        return np.concatenate([part.reshape(len(part), -1, size or len(self.roots)).sum(axis=2) for part in parts])

    def _leaves(self, x: Array) -> Array:
        at = np.broadcast_to(self.roots, (len(x), len(self.roots)))
        row = np.arange(len(x))[:, None]
        while (self.element[at] >= 0).any():
            element = self.element[at]
            left = x[row, np.maximum(element, 0)] <= self.number[at]
            at = np.where(element < 0, at, np.where(left, at + 1, self.right[at]))
        return self.number[at]


def _forest(value: Sequence[float]) -> _Forest:
    """Trees from their numbers in preorder, which ``_tree_length`` has checked."""
    element = np.array(value[0::2], dtype=np.int64)
    end = np.arange(1, len(element) + 1).tolist()  # where the subtree of each node ends
    right = [0] * len(element)
    for at in np.flatnonzero(element >= 0)[::-1].tolist():
        right[at] = end[at + 1]
        end[at] = end[right[at]]
    return _Forest(element, np.array(value[1::2]), np.array(right), _roots(element))


def _roots(element: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where trees begin: each one ends where more leaves than forks have been seen for the first time."""
    depth = np.cumsum(np.where(element >= 0, 1, -1))
    lowest = np.minimum.accumulate(np.concatenate([[0], depth]))
    return np.concatenate([[0], np.flatnonzero(np.diff(lowest) < 0)[:-1] + 1])


def _tree_length(node: Node, width: int, fault: Callable[[str], DataError]) -> int:
    """The length of a tree node's value, its trees checked."""
    if not node.value or len(node.value) % 2 or not np.all(np.isfinite(node.value)):
        raise fault("needs finite numbers, two for every node of its trees")
    element = np.array(node.value[0::2])
    if np.any(element != np.floor(element)) or element.min() < -1 or element.max() >= width:
        raise fault(f"tests an element that its list of {width} does not have")
    depth = np.cumsum(np.where(element >= 0, 1, -1))
    trees = -int(depth[-1])
    if trees < 1 or depth.min() < depth[-1] or (depth[:-1] == depth[-1]).any():
        raise fault("has a tree that is not complete")
    if node.count < 0 or (node.count and trees % node.count):
        raise fault(f"cannot cut {trees} trees into groups of {node.count}")
    return trees // node.count if node.count else 1


def _apply(node: Node, args: list[Array], weights: Array, tokens: float, params: float) -> Array:
    """The value ``(N or 1, K)`` of a node."""
    match node.op:
        case "weights":
            return weights
        case "tokens" | "params":
            return np.array([[tokens if node.op == "tokens" else params]], dtype=np.float64)
        case "add":
            return reduce(np.add, args)
        case "mul":
            return reduce(np.multiply, args)
        case "max":
            return np.maximum(args[0], args[1])
        case "pow":
            return np.asarray(np.power(args[0], args[1]))
        case "exp":
            return np.exp(args[0])
        case "log":
            return np.log(args[0])
        case "cos":
            return np.cos(args[0])
        case "tile":
            return np.tile(args[0], (1, node.count))
        case "matmul":
            return np.asarray(args[1] @ args[0].reshape(-1, args[1].shape[1]).T)
        case _:
            size = node.count or args[0].shape[1]
            return np.asarray(args[0].reshape(len(args[0]), -1, size).sum(axis=2))


def _backward(
    node: Node, values: Mapping[int, Array], number: int, slope: Array, wanted: Sequence[bool]
) -> list[Array | None]:
    """Slopes with respect to each argument that is wanted, given the slope with respect to the node's value."""
    args = [values[a] for a in node.args]
    match node.op:
        case "add":
            out = [slope] * len(args)
        case "mul":
            out = [
                slope * reduce(np.multiply, args[:n] + args[n + 1 :]) if want else slope
                for n, want in enumerate(wanted)
            ]
        case "max":
            first = args[0] >= args[1]
            out = [slope * first, slope * ~first]
        case "pow":
            with np.errstate(divide="ignore", invalid="ignore"):
                out = [slope, slope]
                if wanted[0]:
                    out[0] = slope * args[1] * np.power(args[0], args[1] - 1)
                if wanted[1]:
                    logs = np.log(np.where(args[0] > 0, args[0], 1.0))
                    out[1] = slope * np.where(args[0] > 0, values[number] * logs, 0.0)
        case "exp":
            out = [slope * values[number]]
        case "log":
            out = [slope / args[0]]
        case "cos":
            out = [-slope * np.sin(args[0])]
        case "tile":
            width = args[0].shape[1]
            whole = np.broadcast_to(slope, (len(slope), width * node.count))
            out = [whole.reshape(len(slope), node.count, width).sum(axis=1)]
        case "sum":
            size = node.count or args[0].shape[1]
            out = [np.repeat(slope, size, axis=1)]
        case "matmul":
            out = [slope, slope @ args[0].reshape(-1, args[1].shape[1])]  # the matrix is a constant
        case "tree":
            out = [np.zeros_like(args[0])]
        case _:
            out = []
    return [
        (back.sum(axis=1, keepdims=True) if arg.shape[1] == 1 and back.shape[1] > 1 else back) if want else None
        for arg, back, want in zip(args, out, wanted, strict=True)
    ]
