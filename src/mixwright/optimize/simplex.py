"""The mixtures an objective allows, as a region of the simplex: inside or not, nearest, drawn, spread.

Notation: D domains, G groups, N points; w a mixture ``(D,)``. The region is ``low <= w <= high``, ``sum(w) = 1`` and
``floor_g <= sum of w over group g <= ceiling_g``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixwright.core.errors import StudyError
from mixwright.core.objective import Objective
from mixwright.optimize.quadratic import quadratic

Array = NDArray[np.float64]
#: how far outside a bound still counts as inside
TOLERANCE = 1e-9
#: steps of the random walk per dimension; one step mixes one direction
_WALK = 12


@dataclass(frozen=True, eq=False)
class Region:
    """What is allowed; never empty. ``member (G, D)`` is 1 where a domain is of a group."""

    domains: tuple[str, ...]
    low: Array
    high: Array
    groups: tuple[str, ...]
    member: Array
    floor: Array
    ceiling: Array

    @classmethod
    def of(
        cls,
        objective: Objective,
        domains: Sequence[str],
        *,
        tokens: float | None = None,
        supply: Sequence[float] | NDArray[Any] | None = None,
    ) -> Region:
        """The region of an objective for a run of ``tokens`` tokens with ``supply`` unique tokens per domain.

        StudyError names what contradicts what when nothing is allowed, and by how much to relax it.
        """
        low, high = objective.bounds(domains, tokens, supply)
        low, high = np.maximum(low, 1 - high.sum() + high), np.minimum(high, 1 - low.sum() + low)
        for name, group in objective.groups.items():
            unknown = [domain for domain in group.domains if domain not in domains]
            if unknown:
                raise StudyError(
                    f"objective.groups.{name} names {', '.join(unknown)}, which is no domain; domains: {', '.join(domains)}."
                )
        member = np.array([[float(d in g.domains) for d in domains] for g in objective.groups.values()])
        region = cls(
            tuple(domains), low, high, tuple(objective.groups), member.reshape(-1, len(domains)),
            np.array([g.floor for g in objective.groups.values()]), np.array([g.ceiling for g in objective.groups.values()]),
        )  # fmt: skip
        region._feasible()
        return region

    def _feasible(self) -> None:
        """Raise StudyError if the groups contradict the bounds or one another."""
        for g, name in enumerate(self.groups):
            inside, outside = self.member[g] > 0, self.member[g] == 0
            least = max(float(self.low[inside].sum()), 1 - float(self.high[outside].sum()))
            most = min(float(self.high[inside].sum()), 1 - float(self.low[outside].sum()))
            if least > self.ceiling[g] + TOLERANCE:
                raise StudyError(
                    f"No mixture satisfies the objective: group {name} may have at most {self.ceiling[g]:.4g}, but the other "
                    f"bounds leave it no less than {least:.4g}. Raise its ceiling to that, or loosen the others."
                )
            if most < self.floor[g] - TOLERANCE:
                raise StudyError(
                    f"No mixture satisfies the objective: group {name} must have at least {self.floor[g]:.4g}, but the other "
                    f"bounds (floors, ceilings, epoch caps) leave it no more than {most:.4g}. Lower its floor to that, or "
                    "loosen the others."
                )
        if len(self.groups) > 1:
            self._feasible_together()

    def _feasible_together(self) -> None:
        """Groups that are possible one by one may not be so together: find the least total relaxation."""
        from scipy.optimize import linprog

        count, size = len(self.groups), len(self.domains)
        upper = np.block([[self.member, -np.eye(count)], [-self.member, -np.eye(count)]])
        found = linprog(
            np.concatenate([np.zeros(size), np.ones(count)]), A_ub=upper,
            b_ub=np.concatenate([self.ceiling, -self.floor]), A_eq=np.concatenate([np.ones(size), np.zeros(count)])[None],
            b_eq=[1.0], bounds=[*zip(self.low, self.high, strict=True), *[(0, None)] * count],
        )  # fmt: skip
        slack = found.x[size:]
        if slack.sum() > 1e-8:
            words = ", ".join(f"{name} by {by:.4g}" for name, by in zip(self.groups, slack, strict=True) if by > 1e-8)
            raise StudyError(
                f"No mixture satisfies the objective: the groups {', '.join(self.groups)} contradict one another. The "
                f"smallest relaxation is to loosen {words}."
            )

    def contains(self, points: Array, tolerance: float = 1e-7) -> NDArray[np.bool_]:
        """Which of ``points (N, D)`` are inside, ``(N,)``."""
        w = np.atleast_2d(points)
        sums = w @ self.member.T
        return np.asarray(
            (w >= self.low - tolerance).all(axis=1)
            & (w <= self.high + tolerance).all(axis=1)
            & (np.abs(w.sum(axis=1) - 1) <= tolerance)
            & (sums >= self.floor - tolerance).all(axis=1)
            & (sums <= self.ceiling + tolerance).all(axis=1)
        )

    def project(self, points: Array) -> Array:
        """The nearest allowed mixture (Euclidean) to each of ``points (N, D)``: what is allowed stays as it is, to the bit.

        Exact; without groups for all points at once, with groups one after another.
        """
        w = np.atleast_2d(np.asarray(points, dtype=np.float64))
        inside = np.where(self.contains(w, 1e-12)[:, None], w, _onto_box(w, self.low, self.high))
        if not self.groups:
            return inside
        wrong = np.flatnonzero(~self.contains(inside, TOLERANCE))
        for n in wrong:
            inside[n] = self.centre + self.step(self.centre, np.eye(len(self.domains)), self.centre - w[n])
        inside[wrong] = np.clip(inside[wrong], self.low, self.high)
        return inside

    def step(self, w: Array, H: Array, slope: Array, G: Array | None = None, h: Array | None = None) -> Array:
        """The step from an allowed ``w`` that minimizes ``s · H s / 2 + slope · s`` while ``w + s`` stays allowed.

        ``G s >= h`` are further conditions on the step.
        """
        rows = np.concatenate([np.eye(len(w)), self.member])
        at = rows @ w
        least, most = np.concatenate([self.low, self.floor]), np.concatenate([self.high, self.ceiling])
        more, limit = (np.zeros((0, len(w))), np.zeros(0)) if G is None or h is None else (G, h)
        return quadratic(
            H, slope, self.directions, np.concatenate([rows, -rows, more]),
            np.concatenate([np.minimum(least - at, 0), np.minimum(at - most, 0), limit]),
        )  # fmt: skip

    def least(self, slope: Array) -> tuple[Array, float]:
        """The corner of the region where ``slope · w`` is least, and that value: a linear program."""
        from scipy.optimize import linprog

        upper = np.concatenate([self.member, -self.member]) if self.groups else None
        limit = np.concatenate([self.ceiling, -self.floor]) if self.groups else None
        found = linprog(
            slope, A_ub=upper, b_ub=limit, A_eq=np.ones((1, len(slope))), b_eq=[1.0],
            bounds=list(zip(self.low, self.high, strict=True)),
        )  # fmt: skip
        return np.asarray(found.x), float(found.fun)

    @cached_property
    def directions(self) -> Array:
        """An orthonormal basis ``(K, D)`` of the directions in which one can move; K is 0 for a single point."""
        fixed = np.eye(len(self.domains))[self.high - self.low <= TOLERANCE]
        tight = self.member[self.ceiling - self.floor <= TOLERANCE]
        rows = np.concatenate([np.ones((1, len(self.domains))), fixed, tight])
        _, values, basis = np.linalg.svd(rows)
        return np.asarray(basis[int((values > 1e-10).sum()) :])

    def sample(self, count: int, rng: np.random.Generator) -> Array:
        """``count`` mixtures drawn uniformly from the region, ``(count, D)``, by independent hit-and-run walks."""
        basis = self.directions
        w = np.repeat(self.centre[None], count, axis=0)
        for _ in range(_WALK * max(1, len(basis))) if len(basis) else ():
            step = rng.standard_normal((count, len(basis))) @ basis
            back, ahead = self._reach(w, step)
            w = w + (back + (ahead - back) * rng.random(count))[:, None] * step
        return np.clip(w, self.low, self.high)

    @cached_property
    def centre(self) -> Array:
        """A mixture well inside: the mean of the corners at which one domain is largest or smallest."""
        return np.asarray(
            np.mean([self.least(sign * row)[0] for row in np.eye(len(self.domains)) for sign in (1, -1)], axis=0)
        )

    def _reach(self, w: Array, step: Array) -> tuple[Array, Array]:
        """How far one may go back and ahead along ``step (N, D)`` from ``w (N, D)``: ``(N,)`` each."""
        rows = np.concatenate([np.eye(len(self.domains)), self.member])
        least, most = np.concatenate([self.low, self.floor]), np.concatenate([self.high, self.ceiling])
        at, by = w @ rows.T, step @ rows.T
        with np.errstate(divide="ignore", invalid="ignore"):
            one, other = (least - at) / by, (most - at) / by
        still = np.abs(by) < 1e-12
        back = np.where(still, -np.inf, np.minimum(one, other)).max(axis=1)
        ahead = np.where(still, np.inf, np.maximum(one, other)).min(axis=1)
        return np.minimum(back, 0.0), np.maximum(ahead, 0.0)


def _onto_box(points: Array, low: Array, high: Array) -> Array:
    """The nearest points with ``low <= w <= high`` and sum 1: shift all by one number, then cut off."""
    below, above = (low - points).min(axis=1), (high - points).max(axis=1)
    for _ in range(100):
        middle = (below + above) / 2
        over = np.clip(points + middle[:, None], low, high).sum(axis=1) > 1
        below, above = np.where(over, below, middle), np.where(over, middle, above)
    w = np.clip(points + above[:, None], low, high)
    free = (w > low) & (w < high)
    rest = (1 - w.sum(axis=1)) / np.maximum(free.sum(axis=1), 1)
    return np.asarray(np.clip(w + free * rest[:, None], low, high))


def dirichlet(centre: Array, strength: float, uniform: Array) -> Array:
    """Dirichlet draws ``(N, D)`` with mean ``centre (D,)`` from ``uniform (N, D)`` numbers in (0, 1).

    A low-discrepancy sequence stays spread through this map. ``strength`` is the sum of the Dirichlet's parameters.
    """
    from scipy.special import gammaincinv

    shape = np.maximum(centre * strength, 1e-3)
    draws = gammaincinv(shape, np.clip(uniform, 1e-12, 1 - 1e-12)) + 1e-300
    return np.asarray(draws / draws.sum(axis=1, keepdims=True))


def sobol(count: int, dimensions: int, rng: np.random.Generator) -> Array:
    """The first ``count`` points of a scrambled Sobol sequence in (0, 1)^dimensions (Owen 1998)."""
    from scipy.stats import qmc

    power = max(1, int(np.ceil(np.log2(max(count, 2)))))
    return np.asarray(qmc.Sobol(dimensions, rng=rng).random_base2(power)[:count])
