"""The exponential mixing law (Ye et al. 2024, arXiv 2403.16952, form M4): L(r) = c + k exp(sum_j t_j r_j).

Notation: K problems, N runs, D domains, M metrics; a_j = log k + t_j, so that L(r) = c + exp(a · r): on the simplex k and a
common part of all t_j are the same thing, and exp(a_j) is what domain j alone would leave above the floor c. It is the
same function as Olmix's log-linear law.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from annotated_types import Ge, Gt
from numpy.typing import NDArray

from mixwright.laws._fitting import FormLaw, Prior, centred
from mixwright.laws._table import Table, losses_positive
from mixwright.laws.graph import Builder

Array = NDArray[np.float64]
#: where the floor c is tried first, in parts of the lowest loss seen
_FLOORS = (0.3, 0.7, 0.9, 0.97, 0.995)
#: the largest exp(a_j), in lowest losses seen: what one domain alone is let to cost; unbounded, t explodes outside the runs
_HIGHEST = 100.0


@dataclass(frozen=True)
class Exponential(FormLaw):
    """``shrinkage`` 1 is the stated prior, 0 none (the form exactly as published), 2 half the widths.

    The prior: t_j about their mean with width ``width_t``; c about 0.75 of the lowest loss seen with width
    ``width_c`` of that loss. c >= 0; it may lie above the lowest loss, as noise demands. Widths 1 to 2 gave the smallest
    leave-one-out errors on the published runs of 5 and 7 domains.
    """

    shrinkage: Annotated[float, Ge(0)] = 1.0
    width_t: Annotated[float, Gt(0)] = 2.0
    width_c: Annotated[float, Gt(0)] = 0.25

    shared: ClassVar[int] = 1

    def check(self, table: Table) -> None:
        """Losses must be positive."""
        losses_positive(table, "exponential")

    def evaluate(self, theta: Array, x: Array) -> tuple[Array, Array]:
        """The losses c + exp(a · x)."""
        above = np.exp(theta[:, 1:] @ x.T)
        J = np.empty((*above.shape, theta.shape[1]))
        J[:, :, 0] = 1.0
        np.multiply(above[:, :, None], x[None], out=J[:, :, 1:])
        return theta[:, :1] + above, J

    def starts(self, table: Table, w: Array) -> Array:
        """For each of a few floors c, the weighted linear regression of log(L - c) on the weights."""
        _, _, lowest = table.spread(w)
        domains = table.x.shape[1]
        out = np.empty((len(_FLOORS), len(lowest), 1 + domains))
        for n, part in enumerate(_FLOORS):
            c = part * lowest
            above = np.maximum(table.y - c[:, None], 1e-3 * lowest[:, None])
            v = table.known * w * above**2
            X = np.einsum("mn,nd,ne->mde", v, table.x, table.x)
            ridge = 1e-3 * np.trace(X, axis1=1, axis2=2) / domains
            mean = (v * np.log(above)).sum(axis=1) / v.sum(axis=1)
            right = (v * (np.log(above) - mean[:, None])) @ table.x
            a = np.linalg.solve(X + ridge[:, None, None] * np.eye(domains), right[:, :, None])[:, :, 0]
            out[n, :, 0], out[n, :, 1:] = c, mean[:, None] + a
        return out

    def prior(self, table: Table, w: Array, theta: Array | None) -> Prior:
        """The t_j about their mean, c about 0.75 of the lowest loss; none where ``shrinkage`` is 0."""
        _, _, lowest = table.spread(w)
        count, domains = len(lowest), table.x.shape[1]
        R = np.zeros((count, 1 + domains, 1 + domains))
        R[:, 0, 0] = self.shrinkage / (self.width_c * lowest)
        R[:, 1:, 1:] = self.shrinkage * centred(domains) / self.width_t
        q = np.zeros((count, 1 + domains))
        q[:, 0] = 0.75 * lowest * R[:, 0, 0]
        low = np.full((count, 1 + domains), -np.inf)
        high = np.full_like(low, np.inf)
        low[:, 0] = 0.0
        high[:, 1:] = np.log(_HIGHEST * lowest)[:, None]
        return Prior(R, q, low, high)

    def write(self, build: Builder, theta: Array) -> int:
        """Members' a laid end to end, times the repeated weights, summed in blocks, exp, plus c."""
        size, domains = len(theta), theta.shape[1] - 1
        inside = build.apply("mul", build.tile(build.weights(), size), build.const(theta[:, 1:]))
        return build.apply("add", build.apply("exp", build.sum(inside, domains)), build.const(theta[:, 0]))

    def describe(self, theta: Array, domains: Sequence[str]) -> dict[str, Any]:
        """c, k and the t_j with mean zero: only their differences mean anything."""
        a = theta[1:]
        return {
            "c": float(theta[0]),
            "k": float(np.exp(a.mean())),
            "t": dict(zip(domains, (a - a.mean()).tolist(), strict=True)),
        }
