"""Going down a fitted objective inside a region, with exact gradients.

Notation: D domains, N points; w a mixture ``(D,)``; f(w) the weighted mean of predicted losses, g its gradient, H its second
derivatives.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mixwright.core.rng import rng as stream
from mixwright.laws import GraphFit
from mixwright.optimize.simplex import Region

Array = NDArray[np.float64]
#: mixtures drawn from the region, and how many of the best of all known ones are followed down
_DRAWS, _STARTS = 512, 3
#: starts are moved this far into the region: at a weight of zero a law may have no slope
_INSIDE = 0.03
#: Newton steps at most; each is shortened until f falls
_STEPS = 60
#: a Newton step that promises less than this part of f's range is the last
_REST = 1e-13
#: rounds in which the edge of the mixtures that are as good is approached
_ROUNDS = 4


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

    def curvature(self, w: Array) -> Array:
        """Second derivatives ``(D, D)`` at one mixture, by central differences of the exact gradient; positive definite.

        Directions that curve down (a law that is not convex) are taken as bending up as much.
        """
        size = 1e-3 * np.maximum(w, 1e-3)
        points = np.concatenate([w + np.diag(size), w - np.diag(size)])
        slopes = self.fit.mean_and_slope(points, self.metric_weights)[1]
        H = (slopes[: len(w)] - slopes[len(w) :]) / (2 * size[:, None])
        values, vectors = np.linalg.eigh((H + H.T) / 2)
        values = np.maximum(np.abs(values), 1e-9 * max(float(np.abs(values).max()), 1e-9))
        return np.asarray((vectors * values) @ vectors.T)

    def minimum(self, natural: Array) -> Array:
        """Where f is least: the best end of several ways down, from the natural mixture, swept and drawn ones.

        Exact for convex laws; for others the best that was found.
        """
        corners = np.stack([natural, np.full_like(natural, 1 / len(natural))])
        swept = self.fit.swept[self.region.contains(self.fit.swept)]
        drawn = self.region.sample(_DRAWS, stream(0, "optimize", len(natural)))
        points = np.concatenate([self.region.project(corners), swept, drawn])
        points = (1 - _INSIDE) * points + _INSIDE * self.region.centre
        values = self.value(points)
        scale = max(float(np.ptp(values)), 1e-9)
        ends = [self._descend(points[n], scale) for n in (0, *np.argsort(values, kind="stable")[:_STARTS])]
        return ends[int(self.value(np.array(ends)).argmin())]

    def _descend(self, w: Array, scale: float) -> Array:
        """Newton's method with the region's bounds in every step, shortened until f falls enough (Armijo)."""
        value, slope = self.slope(w)
        for _ in range(_STEPS):
            step = self.region.step(w, self.curvature(w), slope)
            promised = float(slope @ step)
            if promised >= -_REST * scale:
                break
            shares = 0.5 ** np.arange(12)
            values = self.value(w + shares[:, None] * step)
            falls = np.flatnonzero(values <= value + 1e-4 * shares * promised)
            if not falls.size:
                break
            w = w + shares[falls[0]] * step
            value, slope = self.slope(w)
        return np.clip(w, self.region.low, self.region.high)

    def edge(self, best: Array, toward: Array, below: float) -> Array:
        """The mixture farthest along ``toward (D,)`` with f at most ``below``, for a convex f; never outside of that.

        Sequential quadratic programming from the minimum ``best``: f is replaced by its tangent and curvature.
        """
        w, room = best, max(below - float(self.value(best[None])[0]), 0.0)
        basis = self.region.directions
        if not len(basis) or room == 0:
            return best
        for _ in range(_ROUNDS):
            value, slope = self.slope(w)
            H = self.curvature(w)
            along, inside = basis @ toward, basis @ H @ basis.T
            if w is best:  # the price of f at which the quadratic's edge is reached
                price = np.sqrt(max(float(along @ np.linalg.solve(inside, along)), 1e-300) / (2 * room))
                step = self.region.step(w, price * H, -toward)
            else:
                price = max(
                    float(along @ (basis @ slope)) / max(float((basis @ slope) @ (basis @ slope)), 1e-300), 1e-9
                )
                step = self.region.step(w, price * H, -toward, -slope[None], np.array([min(value - below, 0.0)]))
            ahead = self.back(w + step, best, below)
            if toward @ ahead <= toward @ w + 1e-9:
                break
            w = ahead
        return w

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
