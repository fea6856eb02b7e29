"""A power of a linear form: L(r) = E + K (eps + a · r)^-p, convex in r.

On the simplex K, eps and a scale into one another, which leaves one number per domain; here it is g_j, the logarithm of what
domain j alone leaves above the floor: L(r) = E + (sum_j r_j exp(-g_j / p))^-p. For large p this becomes the exponential law with
a_j = g_j; for small p one good domain is enough.

Notation: K problems, N runs, D domains, M metrics; parameters of a metric: e = log E, h = log p, then g_j.
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
#: exp(g_j) in lowest losses seen: what one domain alone is let to cost above the floor
_HIGHEST, _LOWEST = 100.0, 1e-6
#: the power p stays within these
_FLATTEST, _STEEPEST = 0.05, 20.0
#: where fits start: the floor in parts of the lowest loss, and p
_STARTS = ((0.6, 0.3), (0.85, 1.0))


@dataclass(frozen=True)
class Power(FormLaw):
    """``shrinkage`` 1 is the stated prior, 0 none (the form as published, within its bounds), 2 half the widths.

    The prior: g_j about their own mean with width ``width_g``; log p about log 0.5 with width ``width_p``; log E about the
    logarithm of 0.75 of the lowest loss seen with width ``width_e``. First guesses, not tuned on any table.
    """

    shrinkage: Annotated[float, Ge(0)] = 1.0
    width_g: Annotated[float, Gt(0)] = 1.0
    width_p: Annotated[float, Gt(0)] = 1.0
    width_e: Annotated[float, Gt(0)] = 0.3

    shared: ClassVar[int] = 2

    def check(self, table: Table) -> None:
        """Losses must be positive."""
        losses_positive(table, "power")

    def evaluate(self, theta: Array, x: Array) -> tuple[Array, Array]:
        """The losses E + exp(-p log s), s the sum of r_j exp(-g_j / p)."""
        floor, p, g = np.exp(theta[:, :1]), np.exp(theta[:, 1:2]), theta[:, 2:]
        least = g.min(axis=1, keepdims=True)  # the same number taken off all g scales s, and nothing overflows
        parts = np.exp((least - g) / p)[:, None] * x
        s = parts.sum(axis=2)
        above = np.exp(least - p * np.log(s))
        share = parts / s[:, :, None]
        by_p = above * (-p * np.log(s) - np.einsum("knd,kd->kn", share, g - least))
        J = np.concatenate(
            [np.broadcast_to(floor, s.shape)[:, :, None], by_p[:, :, None], above[:, :, None] * share], 2
        )
        return floor + above, J

    def starts(self, table: Table, w: Array) -> Array:
        """Equal domains at the mean loss, at two floors and powers."""
        mean, _, lowest = table.spread(w)
        out = np.empty((len(_STARTS), len(mean), 2 + table.x.shape[1]))
        for n, (part, p) in enumerate(_STARTS):
            out[n, :, 0], out[n, :, 1] = np.log(part * lowest), np.log(p)
            out[n, :, 2:] = np.log(np.maximum(mean - part * lowest, 1e-6))[:, None]
        return out

    def prior(self, table: Table, w: Array, theta: Array | None) -> Prior:
        """See the class; none where ``shrinkage`` is 0."""
        _, _, lowest = table.spread(w)
        count, domains = len(lowest), table.x.shape[1]
        width = 2 + domains
        R, q = np.zeros((count, width, width)), np.zeros((count, width))
        R[:, 0, 0], R[:, 1, 1] = self.shrinkage / self.width_e, self.shrinkage / self.width_p
        R[:, 2:, 2:] = self.shrinkage / self.width_g * centred(domains)
        q[:, 0] = self.shrinkage / self.width_e * np.log(0.75 * lowest)
        q[:, 1] = self.shrinkage / self.width_p * np.log(0.5)
        low = np.repeat(np.log(_LOWEST * lowest)[:, None], width, axis=1)
        high = np.repeat(np.log(_HIGHEST * lowest)[:, None], width, axis=1)
        low[:, 1], high[:, 1] = np.log(_FLATTEST), np.log(_STEEPEST)
        return Prior(R, q, low, high)

    def write(self, build: Builder, theta: Array) -> int:
        """Members' exp(-g / p) as the rows of a matrix times the weights, to the power -p, plus E."""
        p, g = np.exp(theta[:, 1:2]), theta[:, 2:]
        least = g.min(axis=1, keepdims=True)
        s = build.matmul(np.exp((least - g) / p), build.weights())
        above = build.apply("mul", build.apply("pow", s, build.const(-p)), build.const(np.exp(least)))
        return build.apply("add", above, build.const(np.exp(theta[:, 0])))

    def describe(self, theta: Array, domains: Sequence[str]) -> dict[str, Any]:
        """E, p, and what each domain alone leaves above E."""
        return {
            "E": float(np.exp(theta[0])),
            "p": float(np.exp(theta[1])),
            "alone": dict(zip(domains, np.exp(theta[2:]).tolist(), strict=True)),
        }
