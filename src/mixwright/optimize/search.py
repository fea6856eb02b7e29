"""Going down a fitted objective inside a region, with exact gradients.

Notation: D domains, N points; w a mixture ``(D,)``; f(w) the weighted mean of predicted losses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixwright.core.rng import rng as stream
from mixwright.laws import GraphFit
from mixwright.optimize.simplex import Region

Array = NDArray[np.float64]
#: mixtures drawn from the region, and how many of the best of all known ones are followed down
_DRAWS, _STARTS = 512, 4
#: times the solver is started anew from where it stopped, so that it forgets a curvature learned far away
_RESTARTS = 3


@dataclass(frozen=True, eq=False)
class Search:
    """``metric_weights (M,)`` of ``fit`` over ``region``."""

    fit: GraphFit
    metric_weights: Array
    region: Region

    def value(self, points: Array) -> Array:
        """The objective at ``points (N, D)``, ``(N,)``."""
        return self.fit.mean(points, self.metric_weights)

    def slope(self, w: Array) -> tuple[float, Array]:
        """The objective and its gradient at one mixture."""
        value, slope = self.fit.mean_and_slope(w[None], self.metric_weights)
        return float(value[0]), slope[0]

    def minimum(self, natural: Array) -> Array:
        """Where f is least: the best end of several ways down, from the natural mixture, swept and drawn ones.

        Exact for convex laws; for others the best that was found.
        """
        corners = np.stack([natural, np.full_like(natural, 1 / len(natural))])
        swept = self.fit.swept[self.region.contains(self.fit.swept)]
        drawn = self.region.sample(_DRAWS, stream(0, "optimize", len(natural)))
        points = np.concatenate([self.region.project(corners), swept, drawn])
        values = self.value(points)
        scale = 1.0 / max(float(np.ptp(values)), 1e-9)

        def scaled(w: Array) -> tuple[float, Array]:
            value, slope = self.slope(w)
            return value * scale, slope * scale

        ends = [self._descend(scaled, points[n], []) for n in (0, *np.argsort(values, kind="stable")[:_STARTS])]
        return ends[int(self.value(np.array(ends)).argmin())]

    def edge(self, best: Array, toward: Array, below: float) -> Array:
        """The mixture farthest along ``-toward (D,)`` with f at most ``below``, starting from ``best``."""
        steep = 1.0 / max(float(np.abs(self.slope(best)[1]).max()), 1e-9)
        rule = {
            "type": "ineq",
            "fun": lambda w: (below - self.slope(w)[0]) * steep,
            "jac": lambda w: -self.slope(w)[1] * steep,
        }
        return self.back(self._descend(lambda w: (float(toward @ w), toward), best, [rule]), best, below)

    def back(self, w: Array, best: Array, below: float) -> Array:
        """``w`` if f(w) is at most ``below``, else the last such mixture on the straight way from ``best`` to it."""
        if self.value(w[None])[0] <= below:
            return w
        near, far = 0.0, 1.0
        for _ in range(4):  # the first point above ``below`` lies between them
            shares = np.linspace(near, far, 17)
            above = self.value(best + shares[1:, None] * (w - best)) > below
            first = int(above.argmax()) if above.any() else len(above) - 1
            near, far = float(shares[first]), float(shares[first + 1])
        return np.asarray(best + near * (w - best))

    def _descend(self, target: Any, start: Array, rules: list[dict[str, Any]]) -> Array:
        """Sequential quadratic programming (SLSQP, Kraft 1988) from ``start``; never worse than ``start``."""
        from scipy.optimize import minimize

        region = self.region
        rules = [*rules, {"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like}]
        for row, floor, ceiling in zip(region.member, region.floor, region.ceiling, strict=True):
            rules.append({"type": "ineq", "fun": lambda w, a=row, b=floor: a @ w - b, "jac": lambda w, a=row: a})
            rules.append({"type": "ineq", "fun": lambda w, a=row, b=ceiling: b - a @ w, "jac": lambda w, a=row: -a})
        best = start
        for _ in range(_RESTARTS):
            found = minimize(
                target, best, jac=True, method="SLSQP", bounds=list(zip(region.low, region.high, strict=True)),
                constraints=rules, options={"ftol": 1e-14, "maxiter": 300},
            )  # fmt: skip
            w = region.project(found.x[None])[0]
            if not target(w)[0] < target(best)[0] - 1e-12:
                break
            best = w
        return best
