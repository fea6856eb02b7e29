"""Form M1 of the mixing laws (Ye et al. 2024, arXiv 2403.16952): L(r) = c + sum_j k_j exp(t_j r_j).

Every domain has a curve of its own, steep at zero where t_j is very negative; the curves add.

Notation: K problems, N runs, D domains, M metrics; parameters of a metric: c, then u_j = log k_j (the j-th term at r_j = 0),
then v_j = log k_j + t_j (at r_j = 1), so that a term is exp(u_j (1 - r_j) + v_j r_j) and both of its ends can be bounded.
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
#: a term at either end of its domain, in lowest losses seen: no larger, and not smaller than the second
_HIGHEST, _LOWEST = 100.0, 1e-9
#: where fits start: the floor in parts of the lowest loss, and t of every domain
_STARTS = ((0.5, -4.0), (0.8, -15.0))


@dataclass(frozen=True)
class M1(FormLaw):
    """``shrinkage`` 1 is the stated prior, 0 none (the form as published), 2 half the widths.

    The prior: t_j about ``pull`` with width ``width_t``; log k_j about their own mean with width ``width_k``; c about 0.75 of
    the lowest loss seen with width ``width_c`` of that loss. k_j > 0, c >= 0. First guesses, not tuned on any table.
    """

    shrinkage: Annotated[float, Ge(0)] = 1.0
    pull: float = -5.0
    width_t: Annotated[float, Gt(0)] = 5.0
    width_k: Annotated[float, Gt(0)] = 1.5
    width_c: Annotated[float, Gt(0)] = 0.25

    shared: ClassVar[int] = 1
    blocks: ClassVar[int] = 2

    def check(self, table: Table) -> None:
        """Losses must be positive."""
        losses_positive(table, "m1")

    def evaluate(self, theta: Array, x: Array) -> tuple[Array, Array]:
        """The losses c + sum of the terms."""
        domains = (theta.shape[1] - 1) // 2
        u, v = theta[:, None, 1 : 1 + domains], theta[:, None, 1 + domains :]
        terms = np.exp(u * (1 - x) + v * x)
        J = np.concatenate([np.ones((*terms.shape[:2], 1)), terms * (1 - x), terms * x], axis=2)
        return theta[:, :1] + terms.sum(axis=2), J

    def starts(self, table: Table, w: Array) -> Array:
        """Equal domains with one t, so high that the mean loss comes out, at two floors."""
        mean, _, lowest = table.spread(w)
        domains = table.x.shape[1]
        out = np.empty((len(_STARTS), len(mean), 1 + 2 * domains))
        for n, (part, t) in enumerate(_STARTS):
            k = np.maximum(mean - part * lowest, 1e-6) / np.exp(t * table.x).sum(axis=1).mean()
            out[n, :, 0] = part * lowest
            out[n, :, 1 : 1 + domains] = np.log(k)[:, None]
            out[n, :, 1 + domains :] = np.log(k)[:, None] + t
        return out

    def prior(self, table: Table, w: Array, theta: Array | None) -> Prior:
        """See the class; none where ``shrinkage`` is 0."""
        _, _, lowest = table.spread(w)
        count, domains = len(lowest), table.x.shape[1]
        width = 1 + 2 * domains
        at_zero, at_one = slice(1, 1 + domains), slice(1 + domains, None)
        R, q = np.zeros((count, width, width)), np.zeros((count, width))
        R[:, 0, 0] = self.shrinkage / (self.width_c * lowest)
        R[:, at_zero, at_zero] = self.shrinkage / self.width_k * centred(domains)
        R[:, at_one, at_one] = self.shrinkage / self.width_t * np.eye(domains)
        R[:, at_one, at_zero] = -R[:, at_one, at_one]
        q[:, 0] = 0.75 * lowest * R[:, 0, 0]
        q[:, at_one] = self.shrinkage * self.pull / self.width_t
        low = np.repeat(np.log(_LOWEST * lowest)[:, None], width, axis=1)
        high = np.repeat(np.log(_HIGHEST * lowest)[:, None], width, axis=1)
        low[:, 0], high[:, 0] = 0.0, np.inf
        return Prior(R, q, low, high)

    def write(self, build: Builder, theta: Array) -> int:
        """Members' u and t laid end to end: exp(u + t r), summed in blocks, plus c."""
        size, domains = len(theta), (theta.shape[1] - 1) // 2
        u, v = theta[:, 1 : 1 + domains], theta[:, 1 + domains :]
        inside = build.apply(
            "add", build.const(u), build.apply("mul", build.tile(build.weights(), size), build.const(v - u))
        )
        return build.apply("add", build.sum(build.apply("exp", inside), domains), build.const(theta[:, 0]))

    def describe(self, theta: Array, domains: Sequence[str]) -> dict[str, Any]:
        """c, and per domain k and t."""
        u, v = theta[1 : 1 + len(domains)], theta[1 + len(domains) :]
        return {
            "c": float(theta[0]),
            "k": dict(zip(domains, np.exp(u).tolist(), strict=True)),
            "t": dict(zip(domains, (v - u).tolist(), strict=True)),
        }
