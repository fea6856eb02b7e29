"""The product form of the mixing laws' code (Ye et al. 2024, arXiv 2403.16952): L(r) = c + prod_j (a_j + b_j exp(t_j r_j)).

Every domain scales what the others leave, steeply at zero. Without bounds it diverges now and then outside the runs; here every
factor is positive and bounded at both ends of its domain, and the best of several starts is taken.

Notation: K problems, N runs, D domains, M metrics; A = prod_j a_j; parameters of a metric: c, log A, then
u_j = log(b_j / a_j) (at r_j = 0), then v_j = u_j + t_j (at r_j = 1): a factor is 1 + exp(u_j (1 - r_j) + v_j r_j). The a_j
themselves cannot be told apart, only their product can.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from annotated_types import Ge, Gt
from numpy.typing import NDArray

from mixwright.laws._fitting import FormLaw, Prior
from mixwright.laws._table import Table, losses_positive
from mixwright.laws.graph import Builder

Array = NDArray[np.float64]
#: A in lowest losses seen
_HIGHEST, _LOWEST = 10.0, 1e-6
#: a factor is at most about 1 + exp(this), and differs from 1 by at least exp(that)
_MOST, _LEAST = 3.0, -15.0
#: where fits start: the floor in parts of the lowest loss, u and t of every domain
_STARTS = ((0.3, -1.0, -5.0), (0.7, -1.0, -15.0), (0.9, 0.0, -5.0))


@dataclass(frozen=True)
class Product(FormLaw):
    """``shrinkage`` 1 is the stated prior, 0 none (the form as published, within its bounds), 2 half the widths.

    The prior: u_j about -1.5 with width ``width_u``; t_j about ``pull`` with width ``width_t``; c about 0.75 of the lowest loss
    seen with width ``width_c`` of that loss. First guesses, not tuned on any table.
    """

    shrinkage: Annotated[float, Ge(0)] = 1.0
    pull: float = -5.0
    width_u: Annotated[float, Gt(0)] = 1.5
    width_t: Annotated[float, Gt(0)] = 5.0
    width_c: Annotated[float, Gt(0)] = 0.25

    shared: ClassVar[int] = 2
    blocks: ClassVar[int] = 2

    def check(self, table: Table) -> None:
        """Losses must be positive."""
        losses_positive(table, "product")

    def evaluate(self, theta: Array, x: Array) -> tuple[Array, Array]:
        """The losses c + A times the product of factors."""
        domains = (theta.shape[1] - 2) // 2
        e = np.exp(theta[:, None, 2 : 2 + domains] * (1 - x) + theta[:, None, 2 + domains :] * x)
        above = np.exp(theta[:, 1:2] + np.log1p(e).sum(axis=2))
        slope = above[:, :, None] * e / (1 + e)
        J = np.concatenate([np.ones_like(above)[:, :, None], above[:, :, None], slope * (1 - x), slope * x], axis=2)
        return theta[:, :1] + above, J

    def starts(self, table: Table, w: Array) -> Array:
        """Equal domains and the A at which the mean loss comes out, at a few floors and steepnesses."""
        mean, _, lowest = table.spread(w)
        domains = table.x.shape[1]
        out = np.empty((len(_STARTS), len(mean), 2 + 2 * domains))
        for n, (part, u, t) in enumerate(_STARTS):
            typical = np.exp(np.log1p(np.exp(u + t * table.x)).sum(axis=1).mean())
            out[n, :, 0] = part * lowest
            out[n, :, 1] = np.log(np.maximum(mean - part * lowest, 1e-6) / typical)
            out[n, :, 2 : 2 + domains], out[n, :, 2 + domains :] = u, u + t
        return out

    def prior(self, table: Table, w: Array, theta: Array | None) -> Prior:
        """See the class; none where ``shrinkage`` is 0."""
        _, _, lowest = table.spread(w)
        count, domains = len(lowest), table.x.shape[1]
        width = 2 + 2 * domains
        at_zero, at_one = slice(2, 2 + domains), slice(2 + domains, None)
        R, q = np.zeros((count, width, width)), np.zeros((count, width))
        R[:, 0, 0] = self.shrinkage / (self.width_c * lowest)
        R[:, at_zero, at_zero] = self.shrinkage / self.width_u * np.eye(domains)
        R[:, at_one, at_one] = self.shrinkage / self.width_t * np.eye(domains)
        R[:, at_one, at_zero] = -R[:, at_one, at_one]
        q[:, 0] = 0.75 * lowest * R[:, 0, 0]
        q[:, at_zero] = -1.5 * self.shrinkage / self.width_u
        q[:, at_one] = self.pull * self.shrinkage / self.width_t
        low, high = np.full_like(q, _LEAST), np.full_like(q, _MOST)
        low[:, 0], high[:, 0] = 0.0, np.inf
        low[:, 1], high[:, 1] = np.log(_LOWEST * lowest), np.log(_HIGHEST * lowest)
        return Prior(R, q, low, high)

    def write(self, build: Builder, theta: Array) -> int:
        """Members' factors laid end to end; the product is the exponential of a sum of logarithms."""
        size, domains = len(theta), (theta.shape[1] - 2) // 2
        u, v = theta[:, 2 : 2 + domains], theta[:, 2 + domains :]
        inside = build.apply(
            "add", build.const(u), build.apply("mul", build.tile(build.weights(), size), build.const(v - u))
        )
        factors = build.apply("add", build.apply("exp", inside), build.const(1.0))
        logs = build.apply("add", build.sum(build.apply("log", factors), domains), build.const(theta[:, 1]))
        return build.apply("add", build.apply("exp", logs), build.const(theta[:, 0]))

    def describe(self, theta: Array, domains: Sequence[str]) -> dict[str, Any]:
        """c, the product of all a, and per domain b / a and t."""
        count = len(domains)
        u, v = theta[2 : 2 + count], theta[2 + count :]
        return {
            "c": float(theta[0]),
            "a": float(np.exp(theta[1])),
            "b/a": dict(zip(domains, np.exp(u).tolist(), strict=True)),
            "t": dict(zip(domains, (v - u).tolist(), strict=True)),
        }
