"""How much runs would tell: designs that are best for a law linearized where nothing is known yet.

Notation: C candidate mixtures, N runs, P parameters; x ``(C, P)`` the rows of derivatives of a loss by the parameters, each
in widths of its prior, over the noise; M = 1 + sum of the runs' x x' the precision of the parameters (Bayesian, so that it
is positive definite with fewer runs than parameters); B the mean of x x' over the allowed region.

D-optimal runs have the largest det M: the parameters' volume is smallest. I-optimal ones have the least trace of M^-1 B: the
average variance of a prediction over the region (Atkinson, Donev and Tobias 2007, chapters 10 and 11). Both are found by
adding runs one at a time and exchanging them while that helps (Fedorov 1972).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mixwright.laws.additive import FLOOR, Additive
from mixwright.laws.exponential import Exponential

Array = NDArray[np.float64]
#: how far losses scatter about a law, over their spread between mixtures: what the laws themselves assume
_NOISE = 0.1
#: the power of a domain's weight before any run is seen, as in the additive law
_POWER = 0.5
#: rounds of exchanges at most; a round that changes nothing is the last
_ROUNDS = 20

Model = Literal["additive", "log_linear"]


def derivatives(points: Array, model: Model = "additive") -> Array:
    """How a loss moves with each parameter at mixtures ``points (N, D)``, in prior widths: ``(N, P)``.

    ``additive``: E + 1 / sum of exp(c_j) w_j^g_j with equal domains (P = 1 + 2 D); ``log_linear``: c + exp(a · w) with
    equal domains (P = 1 + D). The widths are those of the two laws.
    """
    w = np.atleast_2d(np.asarray(points, dtype=np.float64))
    if model == "log_linear":
        law = Exponential()
        return np.concatenate([np.full((len(w), 1), law.width_c), law.width_t * w], axis=1)
    prior = Additive()
    logs = np.log(np.maximum(w, FLOOR))
    s = np.exp(_POWER * logs)
    by_c = -s / s.sum(axis=1, keepdims=True) ** 2
    return np.concatenate(
        [np.full((len(w), 1), prior.width_e), prior.width_c * by_c, prior.width_g * _POWER * logs * by_c], axis=1
    )


@dataclass(frozen=True, eq=False)
class Information:
    """Candidates ``x (C, P)`` and, for I-optimality, ``average (P, P)``: B, over the noise's variance."""

    x: Array
    average: Array

    @classmethod
    def of(cls, candidates: Array, region: Array, model: Model = "additive") -> Information:
        """Of candidate mixtures ``(C, D)`` and mixtures drawn evenly from the allowed region ``(K, D)``."""
        there, mean = derivatives(region, model), derivatives(region, model).mean(axis=0)
        noise = _NOISE * np.sqrt(max(float(((there - mean) ** 2).sum(axis=1).mean()), 1e-12))
        there = there / noise
        return cls(derivatives(candidates, model) / noise, there.T @ there / len(there))

    def precision(self, rows: list[int]) -> Array:
        """M for the candidates ``rows`` (one may stand twice)."""
        used = self.x[rows]
        return np.asarray(np.eye(self.x.shape[1]) + used.T @ used)

    def volume(self, rows: list[int]) -> float:
        """The logarithm of det M: larger is better."""
        return float(np.linalg.slogdet(self.precision(rows))[1])

    def variance(self, rows: list[int]) -> float:
        """The average variance of a prediction over the region, in units of the noise's: smaller is better."""
        return float(np.trace(np.linalg.solve(self.precision(rows), self.average)))

    def choose(self, count: int, fixed: list[int], criterion: Literal["d", "i"]) -> list[int]:
        """``count`` different candidates to add to those ``fixed``, best by the criterion: a local optimum of exchanges.

        Deterministic. Cost: about rounds x count x C x P^2 operations.
        """
        chosen: list[int] = []
        for _ in range(count):
            chosen.append(self._best(fixed + chosen, criterion)[0])
        for _ in range(_ROUNDS):
            changed = False
            for place in range(count):
                others = chosen[:place] + chosen[place + 1 :]
                best, gain, own = self._best(fixed + others, criterion, chosen[place])
                if gain > own * (1 + 1e-9) + 1e-12:
                    chosen[place], changed = best, True
            if not changed:
                break
        return chosen

    def _best(self, rows: list[int], criterion: Literal["d", "i"], now: int | None = None) -> tuple[int, float, float]:
        """The candidate not among ``rows`` whose run helps most beside them; its gain, and that of candidate ``now``."""
        inverse = np.linalg.inv(self.precision(rows))
        told = self.x @ inverse
        gain = (told * self.x).sum(axis=1)
        if criterion == "i":
            gain = ((told @ self.average) * told).sum(axis=1) / (1 + gain)
        free = gain.copy()
        free[rows] = -np.inf
        best = int(free.argmax())
        return best, float(gain[best]), float(gain[now]) if now is not None else 0.0
