"""AutoScale's law (Kang et al. 2024, arXiv 2407.20177): L(r) = E + sum_j (N0_j + N r_j)^-g_j, N the training tokens.

N0_j stands for what the other domains teach of domain j. The unit of N0_j and N is free: one number for all domains, learned
from each metric with the rest.

Notation: K problems, N runs, D domains, M metrics; parameters of a metric: e = log E, v = log N, then m_j = log (N0_j / N), then
h_j = log g_j: a term is exp(-g_j (v + log(exp(m_j) + r_j))).
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
#: N0_j / N stays within these: below the first a table's rounding hides it, above the second the domain does not matter
_SCARCEST, _PLENTIEST = 1e-4, 100.0
#: bounds of the powers g_j and of log N
_FLATTEST, _STEEPEST, _TOKENS = 0.005, 4.0, (0.0, 40.0)
#: where fits start: the floor in parts of the lowest loss, and N0_j / N
_STARTS = ((0.5, 0.01), (0.8, 0.1))


@dataclass(frozen=True)
class Autoscale(FormLaw):
    """``shrinkage`` 1 is the stated prior, 0 none (the form as published, within its bounds), 2 half the widths.

    The prior: log (N0_j / N) about log 0.03 with width ``width_n``; log g_j about log 0.2 with width ``width_g``; log N about
    that of 1e9 tokens (the published small runs have 1e9 to 3e9) with width ``width_tokens``; log E about the logarithm of 0.6 of
    the lowest loss seen with width ``width_e``. First guesses, not tuned on any table.
    """

    shrinkage: Annotated[float, Ge(0)] = 1.0
    width_n: Annotated[float, Gt(0)] = 1.5
    width_g: Annotated[float, Gt(0)] = 0.5
    width_tokens: Annotated[float, Gt(0)] = 5.0
    width_e: Annotated[float, Gt(0)] = 0.3

    shared: ClassVar[int] = 2
    blocks: ClassVar[int] = 2

    def check(self, table: Table) -> None:
        """Losses must be positive."""
        losses_positive(table, "autoscale")

    def evaluate(self, theta: Array, x: Array) -> tuple[Array, Array]:
        """The losses E + sum of the terms."""
        domains = (theta.shape[1] - 2) // 2
        floor, start = np.exp(theta[:, :1]), np.exp(theta[:, None, 2 : 2 + domains])
        g = np.exp(theta[:, None, 2 + domains :])
        logs = theta[:, None, 1:2] + np.log(start + x)
        terms = np.exp(-g * logs)
        by_v = -(terms * g)
        J = np.concatenate(
            [np.broadcast_to(floor[:, :, None], (*terms.shape[:2], 1)), by_v.sum(axis=2, keepdims=True),
             by_v * start / (start + x), by_v * logs],
            axis=2,
        )  # fmt: skip
        return floor + terms.sum(axis=2), J

    def starts(self, table: Table, w: Array) -> Array:
        """Equal domains; the N at which the mean loss comes out, at two floors."""
        mean, _, lowest = table.spread(w)
        domains = table.x.shape[1]
        out = np.empty((len(_STARTS), len(mean), 2 + 2 * domains))
        for n, (part, start) in enumerate(_STARTS):
            typical = ((start + table.x) ** -_POWER).sum(axis=1).mean()
            out[n, :, 0] = np.log(part * lowest)
            out[n, :, 1] = -np.log(np.maximum(mean - part * lowest, 1e-6) / typical) / _POWER
            out[n, :, 2 : 2 + domains], out[n, :, 2 + domains :] = np.log(start), np.log(_POWER)
        return out

    def prior(self, table: Table, w: Array, theta: Array | None) -> Prior:
        """See the class; none where ``shrinkage`` is 0."""
        _, _, lowest = table.spread(w)
        count, domains = len(lowest), table.x.shape[1]
        centre, low, high = (np.empty((count, 2 + 2 * domains)) for _ in range(3))
        by_n, by_g = slice(2, 2 + domains), slice(2 + domains, None)
        centre[:, 0], low[:, 0], high[:, 0] = np.log(0.6 * lowest), np.log(1e-6 * lowest), np.log(100 * lowest)
        centre[:, 1], low[:, 1], high[:, 1] = np.log(1e9), *_TOKENS
        centre[:, by_n], low[:, by_n], high[:, by_n] = np.log(0.03), np.log(_SCARCEST), np.log(_PLENTIEST)
        centre[:, by_g], low[:, by_g], high[:, by_g] = np.log(_POWER), np.log(_FLATTEST), np.log(_STEEPEST)
        widths = [self.width_e, self.width_tokens, *[self.width_n] * domains, *[self.width_g] * domains]
        R = np.repeat(np.diag(self.shrinkage / np.array(widths))[None], count, axis=0)
        return Prior(R, np.einsum("mqp,mp->mq", R, centre), low, high)

    def write(self, build: Builder, theta: Array) -> int:
        """Members' N0 / N and g laid end to end."""
        size, domains = len(theta), (theta.shape[1] - 2) // 2
        g = np.exp(theta[:, 2 + domains :])
        grown = build.apply("add", build.tile(build.weights(), size), build.const(np.exp(theta[:, 2 : 2 + domains])))
        scaled = build.apply("mul", build.apply("log", grown), build.const(-g))
        inside = build.apply("add", scaled, build.const(-g * theta[:, 1:2]))
        return build.apply("add", build.sum(build.apply("exp", inside), domains), build.const(np.exp(theta[:, 0])))

    def describe(self, theta: Array, domains: Sequence[str]) -> dict[str, Any]:
        """E, N in the unit learned, and per domain N0 / N and g."""
        count = len(domains)
        return {
            "E": float(np.exp(theta[0])),
            "N": float(np.exp(theta[1])),
            "N0/N": dict(zip(domains, np.exp(theta[2 : 2 + count]).tolist(), strict=True)),
            "g": dict(zip(domains, np.exp(theta[2 + count :]).tolist(), strict=True)),
        }


#: the powers before any run is seen, a common value of data's exponent in scaling laws
_POWER = 0.2
