"""Form M2 of the mixing laws (Ye et al. 2024, arXiv 2403.16952): L(r) = c + k sum_j exp(t_j r_j).

As M1, but all domains weigh alike: only their steepness differs.

Notation: K problems, N runs, D domains, M metrics; parameters of a metric: c, u = log k, then v_j = log k + t_j, so that a
term is exp(u (1 - r_j) + v_j r_j) and both of its ends can be bounded.
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
#: a term at either end of its domain, in lowest losses seen: no larger, and not smaller than the second
_HIGHEST, _LOWEST = 100.0, 1e-9
#: where fits start: the floor in parts of the lowest loss, and t of every domain
_STARTS = ((0.5, -4.0), (0.8, -15.0))


@dataclass(frozen=True)
class M2(FormLaw):
    """``shrinkage`` 1 is the stated prior, 0 none (the form as published), 2 half the widths.

    The prior: t_j about ``pull`` with width ``width_t``; c about 0.75 of the lowest loss seen with width ``width_c`` of that
    loss. k > 0, c >= 0. First guesses, not tuned on any table.
    """

    shrinkage: Annotated[float, Ge(0)] = 1.0
    pull: float = -5.0
    width_t: Annotated[float, Gt(0)] = 5.0
    width_c: Annotated[float, Gt(0)] = 0.25

    shared: ClassVar[int] = 2

    def check(self, table: Table) -> None:
        """Losses must be positive."""
        losses_positive(table, "m2")

    def evaluate(self, theta: Array, x: Array) -> tuple[Array, Array]:
        """The losses c + sum of the terms."""
        terms = np.exp(theta[:, None, 1:2] * (1 - x) + theta[:, None, 2:] * x)
        by_k = (terms * (1 - x)).sum(axis=2, keepdims=True)
        return theta[:, :1] + terms.sum(axis=2), np.concatenate([np.ones_like(by_k), by_k, terms * x], axis=2)

    def starts(self, table: Table, w: Array) -> Array:
        """One t for all domains and the k at which the mean loss comes out, at two floors."""
        mean, _, lowest = table.spread(w)
        out = np.empty((len(_STARTS), len(mean), 2 + table.x.shape[1]))
        for n, (part, t) in enumerate(_STARTS):
            k = np.maximum(mean - part * lowest, 1e-6) / np.exp(t * table.x).sum(axis=1).mean()
            out[n, :, 0], out[n, :, 1], out[n, :, 2:] = part * lowest, np.log(k), np.log(k)[:, None] + t
        return out

    def prior(self, table: Table, w: Array, theta: Array | None) -> Prior:
        """See the class; none where ``shrinkage`` is 0."""
        _, _, lowest = table.spread(w)
        count, domains = len(lowest), table.x.shape[1]
        width = 2 + domains
        R, q = np.zeros((count, width, width)), np.zeros((count, width))
        R[:, 0, 0] = self.shrinkage / (self.width_c * lowest)
        R[:, 2:, 2:] = self.shrinkage / self.width_t * np.eye(domains)
        R[:, 2:, 1] = -self.shrinkage / self.width_t
        q[:, 0] = 0.75 * lowest * R[:, 0, 0]
        q[:, 2:] = self.shrinkage * self.pull / self.width_t
        low = np.repeat(np.log(_LOWEST * lowest)[:, None], width, axis=1)
        high = np.repeat(np.log(_HIGHEST * lowest)[:, None], width, axis=1)
        low[:, 0], high[:, 0] = 0.0, np.inf
        return Prior(R, q, low, high)

    def write(self, build: Builder, theta: Array) -> int:
        """Members' t laid end to end: exp(t r), summed in blocks, times k, plus c."""
        size, domains = len(theta), theta.shape[1] - 2
        t = build.const(theta[:, 2:] - theta[:, 1:2])
        each = build.apply("exp", build.apply("mul", build.tile(build.weights(), size), t))
        scaled = build.apply("mul", build.sum(each, domains), build.const(np.exp(theta[:, 1])))
        return build.apply("add", scaled, build.const(theta[:, 0]))

    def describe(self, theta: Array, domains: Sequence[str]) -> dict[str, Any]:
        """c, k and per domain t."""
        t = theta[2:] - theta[1]
        return {"c": float(theta[0]), "k": float(np.exp(theta[1])), "t": dict(zip(domains, t.tolist(), strict=True))}
