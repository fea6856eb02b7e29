"""The mixtures an objective allows, as a convex region of the simplex: inside or not, nearest, drawn, spread.

Notation: D domains, G groups, N points; w a mixture ``(D,)``. The region is ``low <= w <= high``, ``sum(w) = 1``,
``floor_g <= sum of w over group g <= ceiling_g`` and, where asked for, a cost cap, an L1 or KL distance to a prior mixture and
an L1 distance to the hull of swept mixtures. Loss budgets need a fit and are not of the region.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixwright.core.mixture import Mixture
from mixwright.core.objective import Objective, divergence
from mixwright.optimize.conic import Answer, Program
from mixwright.optimize.rules import Rows, add_prior, add_trust, explain, linear_rows

Array = NDArray[np.float64]
#: how far outside a bound still counts as inside
TOLERANCE = 1e-9
#: steps of the random walk per dimension; one step mixes one direction
_WALK = 12
#: a weight this close to a bound, left there by a solver, is on it
_SNAP = 1e-10


@dataclass(frozen=True, eq=False)
class Region:
    """What is allowed; never empty. ``member (G, D)`` is 1 where a domain is of a group.

    ``rows`` is the whole region as a convex program, rule by rule. ``prior (D,)`` and ``swept (R, D)`` are empty where no
    distance to them is bounded.
    """

    domains: tuple[str, ...]
    low: Array
    high: Array
    groups: tuple[str, ...]
    member: Array
    floor: Array
    ceiling: Array
    rows: Rows
    objective: Objective
    prior: Array
    swept: Array

    @classmethod
    def of(
        cls,
        objective: Objective,
        domains: Sequence[str],
        *,
        tokens: float | None = None,
        supply: Sequence[float] | NDArray[Any] | None = None,
        named: Mapping[str, Mixture] | None = None,
        swept: Array | None = None,
    ) -> Region:
        """The region of an objective for a run of ``tokens`` tokens with ``supply`` unique tokens per domain.

        ``named`` are the mixtures a prior may be given as by name, ``swept (R, D)`` those that ``objective.trust`` speaks of;
        without them it bounds nothing (before a sweep there are none).
        StudyError names what contradicts what when nothing is allowed, and the least change that helps.
        """
        objective.check_domains(domains)
        rows = linear_rows(objective, domains, tokens, supply)
        prior = np.zeros(0)
        if objective.within is not None:
            prior = objective.within.over(domains, named or {})
            add_prior(rows, objective, domains, prior)
        hull = np.zeros((0, len(domains)))
        if objective.trust is not None and swept is not None:
            hull = np.asarray(swept, dtype=np.float64)
            add_trust(rows, objective.trust, hull)
        low, high = _box(objective, domains, objective.epoch_caps(domains, tokens, supply))
        if objective.within is not None and objective.within.kl is not None:
            high = np.where(prior > 0, high, 0.0)
        groups = list(objective.groups.values())
        member = np.array([[float(d in g.domains) for d in domains] for g in groups])
        region = cls(
            tuple(domains), low, high, tuple(objective.groups), member.reshape(-1, len(domains)),
            np.array([g.floor for g in groups]), np.array([g.ceiling for g in groups]), rows, objective, prior, hull,
        )  # fmt: skip
        if not region._possible():
            error = explain(rows)
            if error is not None:
                raise error
        return region

    def _possible(self) -> bool:
        """Whether some mixture is allowed."""
        if self.boxed:
            return bool(
                (self.low <= self.high).all() and self.low.sum() <= 1 + TOLERANCE <= self.high.sum() + 2 * TOLERANCE
            )
        found = self._roomiest
        return found.solved and float(found.x[-1]) >= -TOLERANCE

    @property
    def boxed(self) -> bool:
        """Whether there are bounds on single weights only."""
        return not self.groups and self.objective.cost_cap is None and not self._curved

    @property
    def _curved(self) -> bool:
        return bool(len(self.prior) or len(self.swept))

    @property
    def _costs(self) -> Array:
        return np.array([self.objective.costs.get(name, 0.0) for name in self.domains])

    def contains(self, points: Array, tolerance: float = 1e-7) -> NDArray[np.bool_]:
        """Which of ``points (N, D)`` are inside, ``(N,)``."""
        w = np.atleast_2d(points)
        sums = w @ self.member.T
        inside = (
            (w >= self.low - tolerance).all(axis=1)
            & (w <= self.high + tolerance).all(axis=1)
            & (np.abs(w.sum(axis=1) - 1) <= tolerance)
            & (sums >= self.floor - tolerance).all(axis=1)
            & (sums <= self.ceiling + tolerance).all(axis=1)
        )
        if self.objective.cost_cap is not None:
            inside &= w @ self._costs <= self.objective.cost_cap + tolerance * max(float(self._costs.max()), 1e-300)
        inside &= self._near(w, tolerance)
        if len(self.swept):
            trust = float(self.objective.trust or 0.0)
            inside[inside] = [hull_distance(point, self.swept) <= trust + tolerance for point in w[inside]]
        return np.asarray(inside)

    def _near(self, w: Array, tolerance: float) -> NDArray[np.bool_]:
        """Which points are near enough to the prior."""
        near = np.ones(len(w), dtype=bool)
        within = self.objective.within
        if within is not None and within.l1 is not None:
            near &= np.abs(w - self.prior).sum(axis=1) <= within.l1 + tolerance
        if within is not None and within.kl is not None:
            near &= divergence(np.maximum(w, 0.0), self.prior) <= within.kl + tolerance
        return near

    def project(self, points: Array) -> Array:
        """The nearest allowed mixture (Euclidean) to each of ``points (N, D)``: what is allowed stays as it is, to the bit.

        Exact; with bounds on single weights only for all points at once, else one after another.
        """
        w = np.atleast_2d(np.asarray(points, dtype=np.float64))
        inside = np.where(self.contains(w, 1e-12)[:, None], w, _onto_box(w, self.low, self.high))
        if self.boxed:
            return inside
        identity = np.eye(len(self.domains))
        for n in np.flatnonzero(~self.contains(inside, 1e-12)):
            inside[n] = self.settle(self.rows.program.solve(-w[n], identity).x[: len(self.domains)])
        return inside

    def settle(self, w: Array) -> Array:
        """A solver's mixture with weights next to a bound put onto it, and the sum made one by the others."""
        if not np.all(np.isfinite(w)):
            return self.centre
        w = np.where(w - self.low < _SNAP, self.low, np.where(self.high - w < _SNAP, self.high, w))
        free = (w > self.low) & (w < self.high)
        missing = 1 - float(w.sum())
        if not free.any() or abs(missing) > 1e-6:
            return np.asarray(_onto_box(w[None], self.low, self.high)[0])
        return np.asarray(np.clip(w + free * (missing / free.sum()), self.low, self.high))

    def step(self, w: Array, H: Array, slope: Array, G: Array | None = None, h: Array | None = None) -> Array:
        """The step from an allowed ``w`` that minimizes ``s · H s / 2 + slope · s`` while ``w + s`` stays allowed.

        ``G s >= h`` are further conditions on the step.
        """
        program = self.rows.program.around(w)
        if G is not None and h is not None and len(h):
            program = program.plus(less=(-G, -h))
        found = program.solve(slope, H)
        return found.x[: len(w)] if found.solved else np.zeros_like(w)

    def least(self, slope: Array) -> tuple[Array, float]:
        """The mixture of the region where ``slope · w`` is least, and that value; a corner where all rules are linear."""
        if self.boxed:
            w, left = self.low.copy(), 1 - float(self.low.sum())
            for d in np.argsort(slope, kind="stable"):
                w[d] += min(left, self.high[d] - self.low[d])
                left = 1 - float(w.sum())
                if left <= 0:
                    break
            return w, float(slope @ w)
        found = self.rows.program.solve(slope)
        return self.settle(found.x[: len(slope)]), float(slope @ found.x[: len(slope)])

    @cached_property
    def directions(self) -> Array:
        """An orthonormal basis ``(K, D)`` of the directions in which one can move; K is 0 for a single point."""
        fixed = np.eye(len(self.domains))[self.high - self.low <= TOLERANCE]
        tight = self.member[self.ceiling - self.floor <= TOLERANCE]
        rows = np.concatenate([np.ones((1, len(self.domains))), fixed, tight])
        _, values, basis = np.linalg.svd(rows)
        return np.asarray(basis[int((values > 1e-10).sum()) :])

    def sample(self, count: int, rng: np.random.Generator) -> Array:
        """``count`` mixtures drawn uniformly from the region, ``(count, D)``, by independent hit-and-run walks.

        With a trust distance they are drawn around means of swept mixtures instead, and are not uniform.
        """
        if len(self.swept):
            shares = rng.dirichlet(np.full(len(self.swept), 2.0 / len(self.swept)), count)
            return self.project(shares @ self.swept)
        basis = self.directions
        w = np.repeat(self.centre[None], count, axis=0)
        for _ in range(_WALK * max(1, len(basis))) if len(basis) else ():
            step = rng.standard_normal((count, len(basis))) @ basis
            back, ahead = self._reach(w, step)
            w = self._drawn(w, step, back, ahead, rng)
        return np.clip(w, self.low, self.high)

    def _drawn(self, w: Array, step: Array, back: Array, ahead: Array, rng: np.random.Generator) -> Array:
        """A point on each way that is allowed: drawn, and where it is too far from the prior drawn again nearer by."""
        share = back + (ahead - back) * rng.random(len(w))
        for _ in range(60) if self._curved else ():
            far = ~self._near(w + share[:, None] * step, 0.0)
            if not far.any():
                break
            back, ahead = np.where(far & (share < 0), share, back), np.where(far & (share >= 0), share, ahead)
            share = np.where(far, back + (ahead - back) * rng.random(len(w)), share)
        else:
            share = share * (self._near(w + share[:, None] * step, 0.0) if self._curved else 1.0)
        return np.asarray(w + share[:, None] * step)

    @cached_property
    def centre(self) -> Array:
        """A mixture well inside: the least room it leaves in any rule is as large as can be."""
        return self.settle_inside(self._roomiest.x[: len(self.domains)])

    def settle_inside(self, w: Array) -> Array:
        """``w`` with its sum made one, within the box."""
        return np.asarray(_onto_box(w[None], self.low, self.high)[0])

    @cached_property
    def _roomiest(self) -> Answer:
        """The program in which all rules give up the same room, its last variable, which is made as large as can be."""
        program = self.rows.program.wider(1)
        A, b = program.less[0].copy(), program.less[1]
        ruled = np.array([rule is not None for rule in self.rows.less_rules], dtype=bool)
        A[ruled, -1] = 1.0
        slope = np.zeros(program.size)
        slope[-1] = -1.0
        H = np.zeros((program.size, program.size))
        size = len(self.domains)
        H[:size, :size] = 1e-3 * np.eye(size)
        return (
            Program(program.size, program.equal, (A, b), program.triples, program.ball)
            .plus(less=(-slope[None], np.ones(1)))
            .solve(slope, H)
        )

    def _reach(self, w: Array, step: Array) -> tuple[Array, Array]:
        """How far one may go back and ahead along ``step (N, D)`` from ``w (N, D)`` by the linear rules: ``(N,)`` each."""
        rows = np.concatenate([np.eye(len(self.domains)), self.member, self._costs[None]])
        cap = np.inf if self.objective.cost_cap is None else self.objective.cost_cap
        least, most = (
            np.concatenate([self.low, self.floor, [-np.inf]]),
            np.concatenate([self.high, self.ceiling, [cap]]),
        )
        at, by = w @ rows.T, step @ rows.T
        with np.errstate(divide="ignore", invalid="ignore"):
            one, other = (least - at) / by, (most - at) / by
        still = np.abs(by) < 1e-12
        back = np.where(still, -np.inf, np.minimum(one, other)).max(axis=1)
        ahead = np.where(still, np.inf, np.maximum(one, other)).min(axis=1)
        return np.minimum(back, 0.0), np.maximum(ahead, 0.0)


def _box(objective: Objective, domains: Sequence[str], caps: Array) -> tuple[Array, Array]:
    """The lowest and highest weight of each domain that the bounds on single weights leave, ``(D,)`` each."""
    low = np.array([max(objective.floors.get(name, 0.0), objective.fixed.get(name, 0.0)) for name in domains])
    high = np.array([min(objective.ceilings.get(name, 1.0), objective.fixed.get(name, 1.0)) for name in domains])
    high = np.minimum(high, caps)
    return np.maximum(low, 1 - high.sum() + high), np.minimum(high, 1 - low.sum() + low)


def hull_distance(w: Array, points: Array) -> float:
    """The L1 distance of ``w (D,)`` from the convex hull of ``points (R, D)``: a linear program."""
    from scipy.optimize import linprog

    if np.abs(points - w).sum(axis=1).min() == 0:
        return 0.0
    count, size = points.shape
    cost = np.concatenate([np.zeros(count), np.ones(2 * size)])
    equal = np.block([[points.T, np.eye(size), -np.eye(size)], [np.ones((1, count)), np.zeros((1, 2 * size))]])
    found = linprog(cost, A_eq=equal, b_eq=np.append(w, 1.0), bounds=(0, None))
    return float(max(found.fun, 0.0))


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
