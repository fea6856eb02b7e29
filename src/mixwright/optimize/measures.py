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
        misfit = max(0.0, float(self.q @ self.fit.misfit @ self.q))
        far = points - self.reference
        rounded = np.sqrt(far**2 + self.rounding**2)
        like = np.exp(-(rounded - self.rounding).sum(axis=1) / self.fit.reach)
        return 2 * (1 - like) * misfit, (2 * misfit / self.fit.reach) * like[:, None] * far / rounded

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
