"""BiMix (Ge et al. 2024, arXiv 2405.14908) at fixed steps: L(r) = A / r_own^a.

The paper's L_i(r_i, s) = (A_i / r_i^alpha_i) (B_i / s^beta_i + C_i) has at one number of steps s only one factor in front of the
power of the metric's own domain, which is A here. A metric that is the held-out part of several domains takes their weights'
sum; for one that belongs to no domain the law says nothing of the mixture and is a constant, and its status says so.

Notation: K problems, N runs, D domains, M metrics; r_own at least 3e-4, where the law would be infinite; parameters of a metric:
log A, a, then per domain 1 where the metric is its held-out part and 0 elsewhere, which is no parameter to fit.
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
#: a weight below this counts as this: tables round to three decimals
FLOOR = 3e-4
#: the power a stays within these
_FALLING, _STEEPEST = -0.5, 2.0
#: the power before any run is seen
_POWER = 0.05


@dataclass(frozen=True)
class Bimix(FormLaw):
    """``shrinkage`` 1 is the stated prior, 0 none (the form as published), 2 half its width: a about 0.05, ``width_a``."""

    shrinkage: Annotated[float, Ge(0)] = 1.0
    width_a: Annotated[float, Gt(0)] = 0.2

    shared: ClassVar[int] = 2

    def check(self, table: Table) -> None:
        """Losses must be positive."""
        losses_positive(table, "bimix")

    def evaluate(self, theta: Array, x: Array) -> tuple[Array, Array]:
        """The losses exp(log A - a log r_own)."""
        own = theta[:, 2:] @ x.T
        logs = np.log(np.maximum(own, FLOOR))
        losses = np.exp(theta[:, :1] - theta[:, 1:2] * logs)
        by_own = np.where(own > FLOOR, -losses * theta[:, 1:2] / np.maximum(own, FLOOR), 0.0)
        J = np.concatenate([losses[:, :, None], (-losses * logs)[:, :, None], by_own[:, :, None] * x[None]], axis=2)
        return losses, J

    def starts(self, table: Table, w: Array) -> Array:
        """The prior's power and the A at which the mean loss comes out."""
        mean, _, _ = table.spread(w)
        out = np.empty((1, len(mean), 2 + table.x.shape[1]))
        power = np.where(table.own.any(axis=1), _POWER, 0.0)
        logs = np.log(np.maximum(table.own.astype(float) @ table.x.T, FLOOR)).mean(axis=1)
        out[0, :, 0], out[0, :, 1], out[0, :, 2:] = np.log(np.maximum(mean, 1e-6)) + power * logs, power, table.own
        return out

    def prior(self, table: Table, w: Array, theta: Array | None) -> Prior:
        """See the class; a is 0 for metrics without a domain of their own."""
        count, domains = table.own.shape
        has = table.own.any(axis=1)
        R, q = np.zeros((count, 1, 2 + domains)), np.zeros((count, 1))
        R[:, 0, 1] = np.where(has, self.shrinkage / self.width_a, 0.0)
        q[:, 0] = R[:, 0, 1] * _POWER
        low, high = np.full((count, 2 + domains), -np.inf), np.full((count, 2 + domains), np.inf)
        low[:, 1], high[:, 1] = np.where(has, _FALLING, 0.0), np.where(has, _STEEPEST, 0.0)
        low[:, 2:] = high[:, 2:] = table.own
        return Prior(R, q, low, high)

    def unknowns(self, domains: int) -> int:
        """A and a."""
        return 2

    def remark(self, table: Table, metric: int) -> str:
        """Says of a metric without a domain of its own that the mixture does not enter."""
        if table.own[metric].any():
            return ""
        return "belongs to no domain, so this law takes it for constant"

    def write(self, build: Builder, theta: Array) -> int:
        """The own weights by a matrix of zeros and ones; their logarithms times -a, plus log A, exponentiated."""
        own = build.apply("max", build.matmul(theta[:, 2:], build.weights()), build.const(FLOOR))
        scaled = build.apply("mul", build.apply("log", own), build.const(-theta[:, 1]))
        return build.apply("exp", build.apply("add", scaled, build.const(theta[:, 0])))

    def describe(self, theta: Array, domains: Sequence[str]) -> dict[str, Any]:
        """A, a, and the domains the metric belongs to."""
        own = [name for name, has in zip(domains, theta[2:].tolist(), strict=True) if has]
        return {"A": float(np.exp(theta[0])), "alpha": float(theta[1]), "own": own}
