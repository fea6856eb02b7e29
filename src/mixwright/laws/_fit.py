"""A fit as an expression graph: predicts, compares mixtures, and is the same after a trip through JSON.

Notation: N mixtures, D domains, M metrics, B members, R runs; r a mixture ``(D,)``; q metric weights ``(M,)``.

Where the spread comes from, in one place:

* every member of the ensemble was fitted to the runs reweighted by independent exponential draws (the Bayesian
  bootstrap, Rubin 1981), with the prior's centre redrawn from the prior, so that what the runs do not tell stays as wide
  as the prior;
* to the members' variance comes that of the law's misfit, the part of held-out errors which neither members nor seed
  noise explain (the law was fitted without each fifth of the mixtures in turn);
* both are scaled by one factor per law, chosen so that 90 % of all held-out losses lie in ``mean ± 1.645 sqrt(spread² +
  noise²)``.

Where no repeats tell the seed noise, the misfit contains it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixwright.core.errors import DataError
from mixwright.core.law import Fit, Prediction
from mixwright.laws.graph import Graph, Node

SCHEMA = "mixwright/fit/1"
Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class GraphFit(Fit):
    """A law with its parameters, written as an expression graph.

    ``forms`` names the law of each metric (they differ where ``law`` is ``auto``), ``parameters`` holds the numbers a
    person reads. ``swept (R, D)`` are the mixtures it was fitted on, ``run_id`` their runs, ``residuals (R, M)`` their
    measured less predicted losses when held out (NaN where not measured). ``misfit (M, M)`` is the covariance of the law's
    misfit between metrics, and ``reach`` the L1 distance of mixtures over which misfit stays alike: its correlation is
    taken to fall as ``exp(-distance / reach)``.
    """

    law: str
    domains: tuple[str, ...]
    metrics: tuple[str, ...]
    noise: Array
    status: tuple[str, ...]
    graph: Graph
    forms: tuple[str, ...]
    misfit: Array
    reach: float
    swept: Array
    run_id: tuple[str, ...]
    residuals: Array
    parameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        missing = [metric for metric in self.metrics if metric not in self.graph.outputs]
        if missing:
            raise DataError(f"The fit's graph has no outputs for {', '.join(missing)}.")
        if self.graph.domains != self.domains:
            raise DataError(f"The fit is over {self.domains}, but its graph over {self.graph.domains}.")

    def _nodes(self, name: str, metrics: Sequence[str]) -> list[int]:
        return [self.graph.outputs[metric][name] for metric in metrics]

    def predict(self, weights: Array) -> Prediction:
        """Losses at mixtures ``weights (N, D)``; cost about B operations per mixture, metric and domain."""
        return Prediction(self._columns("mean", weights), self._columns("spread", weights))

    def _columns(self, name: str, weights: Array) -> Array:
        columns = self.graph.evaluate(self._nodes(name, self.metrics), weights)
        return np.concatenate(columns, axis=1)

    def members(self, weights: Array, metric_weights: Array) -> Array:
        """The weighted mean of losses as each member of the ensemble predicts it, ``(N, B)``."""
        used = [(m, q) for m, q in zip(self.metrics, metric_weights, strict=True) if q > 0]
        values = self.graph.evaluate(self._nodes("members", [m for m, _ in used]), weights)
        return np.asarray(sum(q * value for (_, q), value in zip(used, values, strict=True)))

    def mean(self, weights: Array, metric_weights: Array) -> Array:
        """The weighted mean of predicted losses, ``(N,)``."""
        return self.mean_and_slope(weights, metric_weights)[0]

    def mean_and_slope(self, weights: Array, metric_weights: Array) -> tuple[Array, Array]:
        """The weighted mean of predicted losses ``(N,)`` and its gradient ``(N, D)``, exact."""
        coefficients: dict[int, float] = {}
        for node, q in zip(self._nodes("mean", self.metrics), metric_weights, strict=True):
            if q > 0:
                coefficients[node] = coefficients.get(node, 0.0) + float(q)
        return self.graph.gradient(coefficients, weights)

    def spread(self, weights: Array, metric_weights: Array) -> Array:
        """The standard deviation of the expectation of the weighted mean, ``(N,)``."""
        members = self.members(weights, metric_weights)
        return np.asarray(np.sqrt(members.var(axis=1, ddof=1) + self._misfit(metric_weights)))

    def difference(self, weights: Array, reference: Array, metric_weights: Array) -> tuple[Array, Array]:
        """Weighted mean loss at ``weights (N, D)`` minus that at ``reference (D,)``: mean and spread, ``(N,)`` each.

        Every member is compared with itself, so errors of level cancel; misfit cancels as far as the mixtures are alike.
        """
        points = np.atleast_2d(np.asarray(weights, dtype=np.float64))
        both = np.concatenate([np.asarray(reference, dtype=np.float64)[None], points])
        mean, members = self.mean(both, metric_weights), self.members(both, metric_weights)
        apart = np.abs(points - both[0]).sum(axis=1)
        unlike = 2 * -np.expm1(-apart / self.reach)
        variance = (members[1:] - members[0]).var(axis=1, ddof=1) + unlike * self._misfit(metric_weights)
        return mean[1:] - mean[0], np.sqrt(variance)

    def _misfit(self, metric_weights: Array) -> float:
        """The variance of the weighted mean's misfit."""
        q = np.asarray(metric_weights, dtype=np.float64)
        return max(0.0, float(q @ self.misfit @ q))

    def only(self, metrics: Sequence[str]) -> GraphFit:
        """The same fit, of these metrics alone; the graph keeps its nodes."""
        index = [self.metrics.index(metric) for metric in metrics]
        return GraphFit(
            self.law, self.domains, tuple(metrics), self.noise[index], tuple(self.status[i] for i in index),
            Graph(self.domains, self.graph.nodes, {m: self.graph.outputs[m] for m in metrics}),
            tuple(self.forms[i] for i in index), self.misfit[np.ix_(index, index)], self.reach, self.swept, self.run_id,
            self.residuals[:, index], {m: self.parameters[m] for m in metrics if m in self.parameters},
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """As JSON, schema ``mixwright/fit/1``; None stands for NaN."""
        return {
            "schema": SCHEMA,
            "law": self.law,
            "forms": dict(zip(self.metrics, self.forms, strict=True)),
            "domains": list(self.domains),
            "metrics": list(self.metrics),
            "noise": _plain(self.noise),
            "status": list(self.status),
            "parameters": {metric: dict(values) for metric, values in self.parameters.items()},
            "misfit": _plain(self.misfit),
            "reach": self.reach,
            "runs": list(self.run_id),
            "swept": _plain(self.swept),
            "residuals": _plain(self.residuals),
            "graph": self.graph.to_dict(),
        }


def load_fit(values: Mapping[str, Any]) -> GraphFit:
    """The fit that ``to_dict`` gave; it predicts the same to the last bit. DataError if it is none, or is newer."""
    if values.get("schema") != SCHEMA:
        raise DataError(
            f"This is no fit this version can read: its schema is {values.get('schema')!r}, wanted {SCHEMA!r}. "
            "Run mixwright fit again."
        )
    try:
        metrics, domains = tuple(values["metrics"]), tuple(values["domains"])
        return GraphFit(
            law=str(values["law"]), domains=domains, metrics=metrics,
            noise=_array(values["noise"], (len(metrics),)), status=tuple(values["status"]),
            graph=Graph.from_dict(values["graph"]), forms=tuple(values["forms"][metric] for metric in metrics),
            misfit=_array(values["misfit"], (len(metrics), len(metrics))), reach=float(values["reach"]),
            swept=_array(values["swept"], (-1, len(domains))), run_id=tuple(values["runs"]),
            residuals=_array(values["residuals"], (-1, len(metrics))), parameters=values["parameters"],
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"This fit lacks or misnames a field: {error!r}. Run mixwright fit again.") from error


def join(fits: Sequence[GraphFit], metrics: Sequence[str], law: str) -> GraphFit:
    """One fit from several of the same runs and members, each bringing its own metrics; in the order of ``metrics``."""
    first, nodes = fits[0], list[Node]()
    outputs: dict[str, Mapping[str, int]] = {}
    for fit in fits:
        shift = len(nodes)
        nodes += [Node(n.op, tuple(a + shift for a in n.args), n.value, n.count) for n in fit.graph.nodes]
        outputs |= {m: {name: at + shift for name, at in o.items()} for m, o in fit.graph.outputs.items()}
    place = [(fit, fit.metrics.index(metric)) for metric in metrics for fit in fits if metric in fit.metrics]
    residuals = np.stack([fit.residuals[:, i] for fit, i in place], axis=1)
    sd = np.sqrt([fit.misfit[i, i] for fit, i in place])
    return GraphFit(
        law=law, domains=first.domains, metrics=tuple(metrics), noise=np.array([fit.noise[i] for fit, i in place]),
        status=tuple(fit.status[i] for fit, i in place),
        graph=Graph(first.domains, tuple(nodes), {m: outputs[m] for m in metrics}),
        forms=tuple(fit.forms[i] for fit, i in place), misfit=error_correlation(residuals) * np.outer(sd, sd),
        reach=first.reach, swept=first.swept, run_id=first.run_id, residuals=residuals,
        parameters={m: fit.parameters[m] for m, (fit, _) in zip(metrics, place, strict=True)},
    )  # fmt: skip


def error_correlation(residuals: Array) -> Array:
    """Correlation ``(M, M)`` of held-out errors ``(R, M)`` between metrics, about zero, from rows that have both.

    Shrunk towards none as from 2 further rows without any, since few rows show large correlations by chance.
    """
    known = np.isfinite(residuals)
    e = np.where(known, residuals, 0.0)
    both = known.T.astype(float) @ known
    scale = np.sqrt((e**2).T @ known)
    product = scale * scale.T
    raw = np.divide(e.T @ e, product, out=np.zeros_like(product), where=product > 0) * both / (both + 2)
    np.fill_diagonal(raw, 1.0)
    return np.asarray(raw)


def _plain(array: Array) -> list[Any]:
    nested = array.tolist()

    def clean(item: Any) -> Any:
        return [clean(i) for i in item] if isinstance(item, list) else (item if np.isfinite(item) else None)

    return [clean(item) for item in nested]


def _array(values: Any, shape: tuple[int, ...]) -> Array:
    return np.array(values, dtype=np.float64).reshape(shape)
