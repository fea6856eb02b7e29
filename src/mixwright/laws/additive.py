"""A shrunken additive law: L(r) = E + 1 / sum_j exp(c_j) r_j^g_j, each r_j at least 3e-4.

Every domain adds to what the model learns for a metric, with diminishing returns (g_j <= 1, which makes the law convex in r:
one over a concave function). It is the mixture term of Apple's scaling laws (arXiv 2507.09404) at fixed size and tokens,
with a prior that lets few runs decide many parameters.

Notation: K problems, N runs, D domains, M metrics; parameters of a metric: u = log E, then c_j, then h_j = log g_j <= 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from annotated_types import Gt
from numpy.typing import NDArray

from mixwright.laws._fitting import FormLaw, Prior, centred
from mixwright.laws._table import Table, alike, losses_positive
from mixwright.laws.graph import Builder

Array = NDArray[np.float64]
#: a weight below this counts as this: tables round to three decimals, and 0 to any power tells nothing
FLOOR = 3e-4


@dataclass(frozen=True)
class Additive(FormLaw):
    """The widths of the prior, all on logarithms.

    ``width_c``: of c_j about their mean over domains, to which the metric's own domain adds a bonus learned from all
    metrics; ``width_g``: of log g_j about a common value learned from all; ``width_e``: of log E about the
    logarithm of 0.75 of the lowest loss seen. On published runs of 5, 7 and 17 domains (16 to 64 runs) held-out errors
    change by a few hundredths of themselves between 0.5 and 1 of ``width_c``, and are larger beyond 0.15 and 0.4 of
    ``width_g``.
    """

    width_c: Annotated[float, Gt(0)] = 0.7
    width_g: Annotated[float, Gt(0)] = 0.25
    width_e: Annotated[float, Gt(0)] = 0.3

    shared: ClassVar[int] = 1
    blocks: ClassVar[int] = 2
    adaptations: ClassVar[int] = 2

    def check(self, table: Table) -> None:
        """Losses must be positive."""
        losses_positive(table, "additive")

    def evaluate(self, theta: Array, x: Array) -> tuple[Array, Array]:
        """The losses E + 1 / sum of s_j, with s_j = exp(c_j + g_j log x_j)."""
        domains = (theta.shape[1] - 1) // 2
        logs = np.log(np.maximum(x, FLOOR))
        gain = np.exp(theta[:, None, 1 + domains :]) * logs[None]
        s = np.exp(theta[:, None, 1 : 1 + domains] + gain)
        above = 1.0 / s.sum(axis=2)
        floor = np.exp(theta[:, :1])
        J = np.empty((*above.shape, theta.shape[1]))
        J[:, :, 0] = floor
        by_c = J[:, :, 1 : 1 + domains]
        np.multiply(s, -(above**2)[:, :, None], out=by_c)
        np.multiply(by_c, gain, out=J[:, :, 1 + domains :])
        return floor + above, J

    def starts(self, table: Table, w: Array) -> Array:
        """Equal domains: at two floors E, the c at which the mean loss comes out."""
        mean, _, lowest = table.spread(w)
        domains = table.x.shape[1]
        out = np.zeros((2, len(mean), 1 + 2 * domains))
        for n, part in enumerate((0.6, 0.85)):
            typical = np.mean((np.maximum(table.x, FLOOR) ** _POWER).sum(axis=1))
            out[n, :, 0] = np.log(part * lowest)
            out[n, :, 1 : 1 + domains] = -np.log(np.maximum(mean - part * lowest, 1e-6) * typical)[:, None]
            out[n, :, 1 + domains :] = np.log(_POWER)
        return out

    def prior(self, table: Table, w: Array, theta: Array | None) -> Prior:
        """See the class; the bonus and the common power are those of ``theta`` where given."""
        _, _, lowest = table.spread(w)
        count, domains = table.own.shape
        bonus, power = _common(table, theta)
        R = np.zeros((count, 1 + 2 * domains, 1 + 2 * domains))
        mid, end = slice(1, 1 + domains), slice(1 + domains, None)
        R[:, 0, 0] = 1 / self.width_e
        R[:, mid, mid] = centred(domains) / self.width_c
        R[:, end, end] = np.eye(domains) / self.width_g
        centre = np.zeros((count, 1 + 2 * domains))
        centre[:, 0] = np.log(0.75 * lowest)
        centre[:, mid] = bonus * table.own
        centre[:, end] = power
        low, high = np.full_like(centre, -np.inf), np.full_like(centre, np.inf)
        high[:, end] = 0.0  # g <= 1: convex
        q = np.matmul(R, centre[:, :, None])[:, :, 0]
        return Prior(*alike(R, q, table, [(mid, self.width_c), (end, self.width_g)]), low, high)

    def write(self, build: Builder, theta: Array) -> int:
        """Members' c and g laid end to end: exp(c + g log r), summed in blocks, inverted, plus E."""
        size, domains = len(theta), (theta.shape[1] - 1) // 2
        logs = build.apply("log", build.apply("max", build.weights(), build.const(FLOOR)))
        powers = build.const(np.exp(theta[:, 1 + domains :]))
        inside = build.apply(
            "add", build.const(theta[:, 1 : 1 + domains]), build.apply("mul", build.tile(logs, size), powers)
        )
        above = build.apply("pow", build.sum(build.apply("exp", inside), domains), build.const(-1.0))
        return build.apply("add", above, build.const(np.exp(theta[:, 0])))

    def describe(self, theta: Array, domains: Sequence[str]) -> dict[str, Any]:
        """E, and per domain C = exp(c) and g."""
        count = len(domains)
        return {
            "E": float(np.exp(theta[0])),
            "C": dict(zip(domains, np.exp(theta[1 : 1 + count]).tolist(), strict=True)),
            "g": dict(zip(domains, np.exp(theta[1 + count :]).tolist(), strict=True)),
        }


#: the common power g before any run is seen
_POWER = 0.5
#: the own domain's bonus before any run is seen, and the weight of that belief in metrics
_BONUS, _BELIEF = 1.0, 1.0


def _common(table: Table, theta: Array | None) -> tuple[float, float]:
    """The bonus of a metric's own domain (on c) and the common log g, from all metrics' parameters ``theta (M, P)``."""
    if theta is None:
        return _BONUS, float(np.log(_POWER))
    domains = table.own.shape[1]
    c, h = theta[:, 1 : 1 + domains], theta[:, 1 + domains :]
    bonuses = [
        row[own].mean() - row[~own].mean() for row, own in zip(c, table.own, strict=True) if own.any() and not own.all()
    ]
    bonus = (_BELIEF * _BONUS + sum(bonuses)) / (_BELIEF + len(bonuses))
    return float(bonus), float(h.mean())
