"""Form M3 of the mixing laws (Ye et al. 2024, arXiv 2403.16952): L(r) = c + k exp(prod_j t_j r_j).

Only the product T of the t_j can be told from losses, and the law is constant wherever a domain is absent. It is here for
comparison: on published runs it predicts no better than the mean.

Notation: K problems, N runs, D domains, M metrics; p(r) = prod_j D r_j, which is 1 for equal weights; parameters of a metric:
c, u = log k and s = T / D^D, so that L(r) = c + exp(u + s p(r)).
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
#: a weight below this counts as this in the logarithm of the product, where it makes no difference
_TINY = 1e-30
#: where fits start: the floor in parts of the lowest loss, and s
_STARTS = ((0.5, -1.0), (0.9, -0.3), (0.5, 0.5))
#: the largest |s|: equal weights change the loss above the floor by this many powers of e
_FARTHEST = 10.0
#: exp(u), in lowest losses seen
_HIGHEST, _LOWEST = 100.0, 1e-9


@dataclass(frozen=True)
class M3(FormLaw):
    """``shrinkage`` 1 is the stated prior, 0 none (the form as published), 2 half the widths.

    The prior: s about 0 with width ``width_s``; c about 0.75 of the lowest loss seen with width ``width_c`` of that loss.
    """

    shrinkage: Annotated[float, Ge(0)] = 1.0
    width_s: Annotated[float, Gt(0)] = 2.0
    width_c: Annotated[float, Gt(0)] = 0.25

    shared: ClassVar[int] = 3
    blocks: ClassVar[int] = 0

    def check(self, table: Table) -> None:
        """Losses must be positive."""
        losses_positive(table, "m3")

    def evaluate(self, theta: Array, x: Array) -> tuple[Array, Array]:
        """The losses c + exp(u + s p)."""
        domains = x.shape[1]
        p = np.exp(np.log(np.maximum(x, _TINY)).sum(axis=1) + domains * np.log(domains))
        above = np.exp(theta[:, 1:2] + theta[:, 2:3] * p)
        return theta[:, :1] + above, np.stack([np.ones_like(above), above, above * p], axis=2)

    def starts(self, table: Table, w: Array) -> Array:
        """The k at which the mean loss comes out for equal weights, at a few floors and s."""
        mean, _, lowest = table.spread(w)
        out = np.empty((len(_STARTS), len(mean), 3))
        for n, (part, s) in enumerate(_STARTS):
            out[n, :, 0], out[n, :, 2] = part * lowest, s
            out[n, :, 1] = np.log(np.maximum(mean - part * lowest, 1e-6))
        return out

    def prior(self, table: Table, w: Array, theta: Array | None) -> Prior:
        """See the class; none where ``shrinkage`` is 0."""
        _, _, lowest = table.spread(w)
        count = len(lowest)
        R, q = np.zeros((count, 2, 3)), np.zeros((count, 2))
        R[:, 0, 0] = self.shrinkage / (self.width_c * lowest)
        R[:, 1, 2] = self.shrinkage / self.width_s
        q[:, 0] = 0.75 * lowest * R[:, 0, 0]
        low = np.stack([np.zeros(count), np.log(_LOWEST * lowest), np.full(count, -_FARTHEST)], axis=1)
        high = np.stack([np.full(count, np.inf), np.log(_HIGHEST * lowest), np.full(count, _FARTHEST)], axis=1)
        return Prior(R, q, low, high)

    def write(self, build: Builder, theta: Array) -> int:
        """The product as the exponential of a sum of logarithms; then exp(u + s p) + c."""
        logs = build.apply("log", build.apply("max", build.weights(), build.const(_TINY)))
        domains = len(build.domains)
        p = build.apply("exp", build.apply("add", build.sum(logs), build.const(domains * np.log(domains))))
        inside = build.apply("add", build.const(theta[:, 1]), build.apply("mul", p, build.const(theta[:, 2])))
        return build.apply("add", build.apply("exp", inside), build.const(theta[:, 0]))

    def describe(self, theta: Array, domains: Sequence[str]) -> dict[str, Any]:
        """c, k and the product T of the t_j."""
        return {
            "c": float(theta[0]),
            "k": float(np.exp(theta[1])),
            "T": float(theta[2] * float(len(domains)) ** len(domains)),
        }
