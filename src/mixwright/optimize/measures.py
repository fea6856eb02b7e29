"""What is minimized, as a smooth function of the mixture with its exact gradient: an expected loss, or a quantile of it.

Notation: N points, D domains, B members; q ``(M,)`` weights of metrics; w ``(D,)`` a mixture, p the reference; delta_b(w) member
b's loss at w minus that at p; z the standard normal quantile.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mixwright.laws import GraphFit

Array = NDArray[np.float64]


class Measure(Protocol):
    """A number per mixture that should be small."""

    def value(self, points: Array) -> Array:
        """Values ``(N,)`` at mixtures ``points (N, D)``."""

    def value_and_slope(self, points: Array) -> tuple[Array, Array]:
        """Values ``(N,)`` and gradients ``(N, D)`` at mixtures ``points (N, D)``."""


@dataclass(frozen=True, eq=False)
class Expected:
    """The weighted mean of predicted losses."""

    fit: GraphFit
    q: Array

    def value(self, points: Array) -> Array:
        """See Measure."""
        return self.fit.mean(points, self.q)

    def value_and_slope(self, points: Array) -> tuple[Array, Array]:
        """See Measure."""
        return self.fit.mean_and_slope(points, self.q)


@dataclass(frozen=True, eq=False)
class Quantile:
    """The upper quantile of the difference to a reference mixture: its mean plus z times its spread.

    The spread is that of ``GraphFit.difference``: the members' (each compared with itself) and, as far as the mixtures are
    unlike, that of the law's misfit. Far from the reference it grows with the distance, so the least quantile lies nearer
    than the least mean. It has a cusp at the reference, and edges where a weight equals the reference's: L1 distances of
    weights are rounded off below ``rounding``, so that there is a gradient.
    """

    fit: GraphFit
    q: Array
    reference: Array
    level: float
    rounding: float = 1e-9

    @cached_property
    def _at_reference(self) -> tuple[float, Array]:
        mean = float(self.fit.mean(self.reference[None], self.q)[0])
        return mean, self.fit.members(self.reference[None], self.q)[0]

    def value(self, points: Array) -> Array:
        """See Measure."""
        base, members = self._at_reference
        delta = self.fit.members(points, self.q) - members
        spread = np.sqrt(np.maximum(delta.var(axis=1, ddof=1) + self._misfit(points)[0], 1e-300))
        return np.asarray(self.fit.mean(points, self.q) - base + NormalDist().inv_cdf(self.level) * spread)

    def _misfit(self, points: Array) -> tuple[Array, Array]:
        """The variance of the difference of misfits ``(N,)`` and its gradient ``(N, D)``."""
        far = points - self.reference
        rounded = np.sqrt(far**2 + self.rounding**2)
        like = np.exp(-(rounded - self.rounding).sum(axis=1) / self.fit.reach)
        here, there = self.fit.misfit_parts(points, self.q), self.fit.misfit_parts(self.reference[None], self.q)
        covariance = here @ self.fit.misfit
        shared = (covariance * there).sum(axis=1)
        own, base = (covariance * here).sum(axis=1), float((there @ self.fit.misfit * there).sum())
        variance = np.maximum(own + base - 2 * like * shared, 0.0)
        slope = (2 * shared * like / self.fit.reach)[:, None] * far / rounded
        by_part = 2 * (covariance - like[:, None] * (there @ self.fit.misfit))
        return variance, slope + self._by_scale(points, by_part)

    def _by_scale(self, points: Array, by_part: Array) -> Array:
        """The gradient ``(N, D)`` of what has slopes ``by_part (N, M)`` with the metrics' shares of the misfit."""
        outputs = self.fit.graph.outputs
        coefficients: dict[int, float | Array] = {}
        for n, metric in enumerate(self.fit.metrics):
            if self.q[n] and "scale" in outputs[metric]:
                node = outputs[metric]["scale"]
                slope = by_part[:, n : n + 1] * self.q[n]
                coefficients[node] = coefficients[node] + slope if node in coefficients else slope
        return self.fit.graph.gradient(coefficients, points)[1] if coefficients else np.zeros_like(points)

    def value_and_slope(self, points: Array) -> tuple[Array, Array]:
        """See Measure."""
        mean, slope = self.fit.mean_and_slope(points, self.q)
        base, members = self._at_reference
        delta = self.fit.members(points, self.q) - members
        size = delta.shape[1]
        inside = (delta - delta.mean(axis=1, keepdims=True)) * (2.0 / (size - 1))
        nodes: dict[int, Array] = {}
        for metric, part in zip(self.fit.metrics, self.q, strict=True):
            if part > 0:
                node = self.fit.graph.outputs[metric]["members"]
                nodes[node] = nodes.get(node, 0.0) + part * inside
        by_members = self.fit.graph.gradient(nodes, points)[1]
        variance, by_misfit = self._misfit(points)
        spread = np.sqrt(np.maximum(delta.var(axis=1, ddof=1) + variance, 1e-300))
        z = NormalDist().inv_cdf(self.level)
        return mean - base + z * spread, slope + z * (by_members + by_misfit) / (2 * np.maximum(spread, 1e-12))[:, None]
