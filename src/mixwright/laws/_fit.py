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
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixwright.core.errors import DataError
from mixwright.core.law import Fit, Prediction
from mixwright.laws._calibration import error_correlation
from mixwright.laws.graph import Graph, Node

SCHEMA = "mixwright/fit/1"
Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class GraphFit(Fit):
    """A law with its parameters, written as an expression graph.

    ``forms`` names the law of each metric (they differ where ``law`` is ``auto``), ``parameters`` holds the numbers a
    person reads. ``swept (R, D)`` are the mixtures it was fitted on, ``run_id`` their runs, ``residuals (R, M)`` their
    measured less predicted losses when held out (NaN where not measured). ``seed_covariance (M, M)`` is that of seed noise
    between metrics (NaN where no repeats tell it). ``misfit (M, M)`` is the covariance of the law's
    misfit between metrics, and ``reach`` the L1 distance of mixtures over which misfit stays alike: its correlation is
    taken to fall as ``exp(-distance / reach)``. Where the graph has an output ``scale``, misfit at a mixture is
    so many times the typical one.
    """

    law: str
    domains: tuple[str, ...]
    metrics: tuple[str, ...]
    noise: Array
    seed_covariance: Array
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

    def at(self, tokens: float | None = None, params: float | None = None) -> GraphFit:
        """The same fit at so many training tokens and non-embedding parameters, as far as it depends on them."""
        return replace(self, graph=self.graph.bind(tokens, params))

    def _nodes(self, name: str, metrics: Sequence[str]) -> list[int]:
        if self.graph.free:
            wanted = " and ".join(self.graph.free)
            call = ", ".join(f"{name}=..." for name in self.graph.free)
            raise DataError(f"This fit's losses depend on {wanted}: say at how many, with fit.at({call}).")
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
        parts = self._parts(metric_weights)
        values = self.graph.evaluate(list(parts), weights)
        return np.asarray(sum(share * value[:, 0] for share, value in zip(parts.values(), values, strict=True)))

    def mean_and_slope(self, weights: Array, metric_weights: Array) -> tuple[Array, Array]:
        """The weighted mean of predicted losses ``(N,)`` and its gradient ``(N, D)``, exact."""
        return self.graph.gradient(self._parts(metric_weights), weights)

    def _parts(self, metric_weights: Array) -> dict[int, float]:
        """Which nodes the weighted mean of losses is made of, with their weights."""
        parts: dict[int, float] = {}
        for node, q in zip(self._nodes("mean", self.metrics), metric_weights, strict=True):
            if q > 0:
                parts[node] = parts.get(node, 0.0) + float(q)
        return parts

    def spread(self, weights: Array, metric_weights: Array) -> Array:
        """The standard deviation of the expectation of the weighted mean, ``(N,)``."""
        members = self.members(weights, metric_weights)
        parts = self.misfit_parts(weights, metric_weights)
        return np.asarray(np.sqrt(members.var(axis=1, ddof=1) + self._shared_misfit(parts, parts)))

    def difference(self, weights: Array, reference: Array, metric_weights: Array) -> tuple[Array, Array]:
        """Weighted mean loss at ``weights (N, D)`` minus that at ``reference (D,)``: mean and spread, ``(N,)`` each.

        Every member is compared with itself, so errors of level cancel; misfit cancels as far as the mixtures are alike.
        """
        points = np.atleast_2d(np.asarray(weights, dtype=np.float64))
        both = np.concatenate([np.asarray(reference, dtype=np.float64)[None], points])
        mean, members = self.mean(both, metric_weights), self.members(both, metric_weights)
        apart = np.abs(points - both[0]).sum(axis=1)
        parts = self.misfit_parts(both, metric_weights)
        here, there = parts[1:], parts[:1]
        alike = np.exp(-apart / self.reach)
        misfit = (
            self._shared_misfit(here, here)
            + self._shared_misfit(there, there)
            - 2 * alike * self._shared_misfit(here, there)
        )
        variance = (members[1:] - members[0]).var(axis=1, ddof=1) + np.maximum(misfit, 0.0)
        return mean[1:] - mean[0], np.sqrt(variance)

    def seed_noise(self, metric_weights: Array) -> float:
        """The standard deviation that seeds give the weighted mean of losses; NaN where no repeats tell it."""
        used = np.flatnonzero(metric_weights)
        q = np.asarray(metric_weights)[used]
        variance = float(q @ self.seed_covariance[np.ix_(used, used)] @ q)
        return float(np.sqrt(variance)) if not variance < 0 else 0.0

    def misfit_parts(self, weights: Array, metric_weights: Array) -> Array:
        """Each metric's share of the weighted mean's misfit, in its typical deviations: ``(N, M)``.

        The metric's weight times how much larger than typical its misfit is at that mixture (its output ``scale``; 1 without).
        """
        points = np.atleast_2d(np.asarray(weights, dtype=np.float64))
        out = np.tile(np.asarray(metric_weights, dtype=np.float64), (len(points), 1))
        used = [n for n, m in enumerate(self.metrics) if out[0, n] and "scale" in self.graph.outputs[m]]
        if used:
            scales = self.graph.evaluate(self._nodes("scale", [self.metrics[n] for n in used]), points)
            out[:, used] *= np.concatenate(scales, axis=1)
        return out

    def _shared_misfit(self, one: Array, other: Array) -> Array:
        """The covariance ``(N,)`` of misfits, were the mixtures the same but for their ``misfit_parts``."""
        covariance: Array = ((one @ self.misfit) * other).sum(axis=1)
        return np.maximum(covariance, 0.0)

    def only(self, metrics: Sequence[str]) -> GraphFit:
        """The same fit, of these metrics alone."""
        index = [self.metrics.index(metric) for metric in metrics]
        return GraphFit(
            self.law, self.domains, tuple(metrics), self.noise[index], self.seed_covariance[np.ix_(index, index)],
            tuple(self.status[i] for i in index),
            self.graph.only(metrics),
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
            "seed_covariance": _plain(self.seed_covariance),
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
            noise=_array(values["noise"], (len(metrics),)),
            seed_covariance=_array(values["seed_covariance"], (len(metrics), len(metrics))), status=tuple(values["status"]),
            graph=Graph.from_dict(values["graph"]), forms=tuple(values["forms"][metric] for metric in metrics),
            misfit=_array(values["misfit"], (len(metrics), len(metrics))), reach=float(values["reach"]),
            swept=_array(values["swept"], (-1, len(domains))), run_id=tuple(values["runs"]),
            residuals=_array(values["residuals"], (-1, len(metrics))), parameters=values["parameters"],
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"This fit lacks or misnames a field: {error!r}. Run mixwright fit again.") from error


def join(fits: Sequence[GraphFit], chosen: Mapping[str, int], law: str) -> GraphFit:
    """One fit from several of the same runs, metrics and members: ``chosen`` says whose prediction a metric takes."""
    first, nodes = fits[0], list[Node]()
    outputs: dict[str, Mapping[str, int]] = {}
    for number, fit in enumerate(fits):
        shift = len(nodes)
        own = fit.graph.only([metric for metric, its in chosen.items() if its == number])
        nodes += [Node(n.op, tuple(a + shift for a in n.args), n.value, n.count) for n in own.nodes]
        outputs |= {m: {name: at + shift for name, at in o.items()} for m, o in own.outputs.items()}
    metrics = tuple(chosen)
    place = [(fits[number], fits[number].metrics.index(metric)) for metric, number in chosen.items()]
    index = [i for _, i in place]
    residuals = np.stack([fit.residuals[:, i] for fit, i in place], axis=1)
    sd = np.sqrt([fit.misfit[i, i] for fit, i in place])
    return GraphFit(
        law=law, domains=first.domains, metrics=metrics, noise=first.noise[index],
        seed_covariance=first.seed_covariance[np.ix_(index, index)], status=tuple(fit.status[i] for fit, i in place),
        graph=Graph(first.domains, tuple(nodes), {metric: outputs[metric] for metric in metrics}),
        forms=tuple(fit.forms[i] for fit, i in place), misfit=error_correlation(residuals) * np.outer(sd, sd),
        reach=first.reach, swept=first.swept, run_id=first.run_id, residuals=residuals,
        parameters={m: fit.parameters[m] for m, (fit, _) in zip(metrics, place, strict=True)},
    )  # fmt: skip


def _plain(array: Array) -> list[Any]:
    nested = array.tolist()

    def clean(item: Any) -> Any:
        return [clean(i) for i in item] if isinstance(item, list) else (item if np.isfinite(item) else None)

    return [clean(item) for item in nested]


def _array(values: Any, shape: tuple[int, ...]) -> Array:
    return np.array(values, dtype=np.float64).reshape(shape)
