"""Linear regression on the weights, a baseline: L(r) = sum_j b_j r_j.

Notation: K problems, N runs, D domains; b_j is the loss of domain j alone (on the simplex an intercept would be redundant).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from annotated_types import Gt
from numpy.typing import NDArray

from mixwright.laws._fitting import FormLaw, Prior, centred
from mixwright.laws._table import Table
from mixwright.laws.graph import Builder

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Linear(FormLaw):
    """``width_b``: how far the b_j are expected to lie from their mean, in standard deviations of the metric's losses.

    The default is so wide that it only decides where the runs leave b_j open (fewer runs than domains).
    """

    width_b: Annotated[float, Gt(0)] = 10.0

    def evaluate(self, theta: Array, x: Array) -> tuple[Array, Array]:
        """The products b · x."""
        return theta @ x.T, np.broadcast_to(x, (len(theta), *x.shape)).copy()

    def starts(self, table: Table, w: Array) -> Array:
        """The mean loss for every domain; the problem is linear, so one start is enough."""
        mean, _, _ = table.spread(w)
        return np.repeat(mean[None, :, None], table.x.shape[1], axis=2)

    def prior(self, table: Table, w: Array, theta: Array | None) -> Prior:
        """The b_j about their own mean."""
        count, domains = table.y.shape[0], table.x.shape[1]
        _, sd, _ = table.spread(w)
        width = self.width_b * np.maximum(sd, 1e-9)
        R = centred(domains)[None] / width[:, None, None]
        bound = np.full((count, domains), np.inf)
        return Prior(R, np.zeros((count, domains)), -bound, bound)

    def write(self, build: Builder, theta: Array) -> int:
        """Members' b laid end to end, times the repeated weights, summed in blocks."""
        size, domains = theta.shape
        return build.sum(build.apply("mul", build.tile(build.weights(), size), build.const(theta)), domains)

    def describe(self, theta: Array, domains: Sequence[str]) -> dict[str, Any]:
        """The loss of each domain alone."""
        return {"b": dict(zip(domains, theta.tolist(), strict=True))}
