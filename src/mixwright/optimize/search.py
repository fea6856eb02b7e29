"""Going down a measure inside a region and under loss budgets, with exact gradients and the prices of what binds.

Notation: D domains, N points, K budgets; w a mixture ``(D,)``; f(w) the measure, g its gradient; c(w) ``(K,)`` by how much each
budget is exceeded, J ``(K, D)`` its slopes, y ``(K,)`` the prices; H the second derivatives of f + y · c; rho the penalty.

The method is sequential quadratic programming with an exact penalty (Nocedal and Wright 2006, section 18.5): in every step the
region is kept whole, distances and all, and only f and c are replaced by tangents and curvature.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from mixwright.core.rng import rng as stream
from mixwright.optimize.conic import Answer
from mixwright.optimize.measures import Expected, Measure, Quantile
from mixwright.optimize.simplex import Region

Array = NDArray[np.float64]
#: mixtures drawn from the region, and at most so many numbers (mixtures times domains) of all points tried
_DRAWS, _TRIED = 256, 40_000
#: ways down that are followed: of a measure known to be convex one, of others
_STARTS = {True: 1, False: 10}
#: this many ends that all agree, within this part of the measure's range, are enough
_ENOUGH, _AGREE = 5, 1e-4
#: starts of a measure not known to be convex differ by at least this in L1, where there are enough
_APART = 0.1
#: starts are moved this far into the region: at a weight of zero a law may have no slope
_INSIDE = 0.03
#: Newton steps at most; each is shortened until the merit falls
_STEPS = 80
#: a step that promises less than this part of the measure's range is the last
_REST = 1e-13
#: the first penalty and the last, in units of the measure per unit of a budget
_PENALTY, _PENALTY_END = 10.0, 1e7
#: a budget exceeded by less than this is kept
KEPT = 1e-8
#: how the L1 distance in a quantile is rounded, from one descent to the next
_ROUNDING = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
#: parts of the way to other points that are tried where a measure has no slopes
_SHARES = tuple(0.8**n for n in range(1, 25))
#: what a slope without end counts as
_STEEP = 1e12
#: how far a weight is raised when looking for a better valley near an end
_RAISES = (0.003, 0.01, 0.03, 0.1, 0.3)
#: rounds in which the edge of the mixtures that are as good is approached
_ROUNDS = 4
#: points tried on the way to where a loss is no longer as good
_BISECTED = 10
#: and what a round must gain for another
_GAINED = 1e-5


@dataclass(frozen=True, eq=False)
class Limit:
    """A loss budget: ``measure`` may be at most ``limit``."""

    name: str
    measure: Expected
    limit: float
    words: str = ""


@dataclass(frozen=True, eq=False)
class Model:
    """The measure and the budgets at one mixture, with gradients."""

    value: float
    slope: Array
    over: Array
    slopes: Array


@dataclass(frozen=True, eq=False)
class Found:
    """The best end of the ways down: the mixture, the measure there, the budgets' prices and how far they are exceeded.

    ``starts`` ways were followed, ``agreeing`` of them ended as low (within a millionth of the measure's range).
    """

    w: Array
    value: float
    prices: Array
    over: Array
    starts: int = 1
    agreeing: int = 1


@dataclass(frozen=True, eq=False)
class Search:
    """``measure`` over ``region`` under ``budgets``; ``convex`` says that the measure and the budgets are known to be.

    ``swept (R, D)`` are mixtures worth starting from. With ``elastic`` budgets may be broken, at the first penalty's price.
    """

    measure: Measure
    region: Region
    budgets: tuple[Limit, ...] = ()
    convex: bool = False
    swept: Array = field(default_factory=lambda: np.zeros((0, 0)))
    elastic: bool = False

    # ---- the functions -------------------------------------------------------------------------------------------

    def value(self, points: Array) -> Array:
        """The measure at ``points (N, D)``, ``(N,)``."""
        return self.measure.value(_on(np.atleast_2d(points)))

    def over(self, points: Array) -> Array:
        """By how much each budget is exceeded, ``(N, K)``; negative where there is room."""
        points = _on(np.atleast_2d(points))
        columns = [b.measure.value(points) - b.limit for b in self.budgets]
        return np.stack(columns, axis=1) if columns else np.zeros((len(points), 0))

    def model(self, w: Array) -> Model:
        """Everything at one mixture."""
        w = _on(w)
        value, slope = self.measure.value_and_slope(w[None])
        parts = [b.measure.value_and_slope(w[None]) for b in self.budgets]
        over = np.array([part[0][0] - b.limit for part, b in zip(parts, self.budgets, strict=True)])
        return Model(float(value[0]), slope[0], over, np.array([part[1][0] for part in parts]).reshape(-1, len(w)))

    def curvature(self, w: Array, prices: Array) -> Array:
        """Second derivatives ``(D, D)`` of f + prices · c by differences of the exact gradient, made positive definite.

        Directions that curve down are taken as bending up as much. Cost: D + 1 gradients at once.
        """
        size = 1e-5 * np.maximum(w, 1e-3)
        points = np.concatenate([w[None], w + np.diag(size)])
        slopes = self.measure.value_and_slope(points)[1]
        for budget, price in zip(self.budgets, prices, strict=True):
            if price > 0:
                slopes = slopes + price * budget.measure.value_and_slope(points)[1]
        H = (slopes[1:] - slopes[0]) / size[:, None]
        return _definite((H + H.T) / 2)

    # ---- the least value -----------------------------------------------------------------------------------------

    def minimum(self, first: Sequence[Array], promising: Array | None = None) -> Found:
        """Where f is least within region and budgets: the best end of several ways down.

        The ways begin at ``first`` (moved inside) and at the best of swept and drawn mixtures; or at ``promising`` (as it
        is) and ``first``. Exact for convex measures, for others the best that was found. Where no end keeps the budgets,
        ``Found.over`` says by how much.
        """
        points, values = self._tried(first)
        scale = max(float(np.ptp(values)), 1e-9)
        if promising is None:
            starts = points[self._chosen(points, values, len(first))]
        else:
            starts = np.concatenate([promising[None], points[: len(first)]])
        ends: list[Found] = []
        for start in starts:
            ends.append(self._descend_coarse(start, scale))
            merits = [self._merit(end) for end in ends]
            if len(ends) >= _ENOUGH and max(merits) - min(merits) <= _AGREE * scale:
                break
        close = sum(merit <= min(merits) + _AGREE * scale for merit in merits)
        best = ends[int(np.argmin(merits))]
        if isinstance(self.measure, Quantile):
            best = min(self.descend(best.w, scale), best, key=self._merit)
        if not self.convex and not self.model(best.w).slope.any():
            best = self._by_draws(best, points)
        best = best if self.convex else self._other_valleys(best, scale)
        return replace(best, starts=len(ends), agreeing=close)

    def nearby(self, starts: Sequence[Array]) -> Found:
        """The best end of the ways down from these mixtures as they are."""
        scale = max(float(np.ptp(self.value(np.array(starts)))), 1e-3)
        return min((self.descend(start, scale) for start in starts), key=self._merit)

    def _merit(self, end: Found) -> float:
        broken = np.maximum(end.over - KEPT, 0).sum()
        return float(end.value + (_PENALTY if self.elastic else _PENALTY_END) * broken)

    def _tried(self, first: Sequence[Array]) -> tuple[Array, Array]:
        """Starting points inside the region and their merit; the first ones first."""
        size = len(self.region.domains)
        swept = self.swept[self.region.contains(self.swept)] if len(self.swept) else np.zeros((0, size))
        room = (16 if self.region.boxed else 4) if self.convex else max(8, _TRIED // size)
        swept = swept[np.linspace(0, len(swept) - 1, min(len(swept), room)).round().astype(int)]
        few = len(self.region.rows.less_rules) > size and not self.region.boxed
        draws = stream(0, "optimize", size).dirichlet(np.ones(size), min(room, 24 if few else _DRAWS))
        points = np.concatenate([self.region.project(np.array(first)), swept, self.region.project(draws)])
        points = (1 - _INSIDE) * points + _INSIDE * self.region.centre
        return points, self.value(points) + _PENALTY * np.maximum(self.over(points), 0).sum(axis=1)

    def _chosen(self, points: Array, values: Array, first: int) -> list[int]:
        """Which points to go down from: the best ones that lie apart, and one of the first."""
        wanted = _STARTS[self.convex]
        chosen = [0] if first and not self.convex else []
        for near in (_APART, 0.0):
            for n in np.argsort(values, kind="stable"):
                if len(chosen) >= wanted:
                    break
                if all(np.abs(points[n] - points[m]).sum() > near for m in chosen):
                    chosen.append(int(n))
        return chosen

    def _descend_coarse(self, w: Array, scale: float) -> Found:
        """One way down from ``w``, of a quantile with its distance well rounded; the measure is that itself."""
        if not isinstance(self.measure, Quantile):
            return self._descend(w, scale)
        soft = replace(self, measure=replace(self.measure, rounding=_ROUNDING[0]))
        found = soft._descend(w, scale)
        return replace(found, value=float(self.value(found.w)[0]))

    def descend(self, w: Array, scale: float) -> Found:
        """One way down from ``w``; a quantile's distance is rounded less and less."""
        if not isinstance(self.measure, Quantile):
            return self._descend(w, scale)
        for rounding in _ROUNDING:
            soft = replace(self, measure=replace(self.measure, rounding=rounding))
            found = soft._descend(w, scale)
            w = found.w
        return replace(found, value=float(self.value(w)[0]))

    def _descend(self, w: Array, scale: float) -> Found:
        here, prices, rho = self.model(w), np.zeros(len(self.budgets)), _PENALTY
        for _ in range(_STEPS):
            step, prices, rho = self._step(w, here, prices, rho)
            broken = np.maximum(here.over, 0).sum()
            left = np.maximum(here.over + here.slopes @ step, 0).sum()
            promised = -float(here.slope @ step) + rho * float(broken - left)
            merit = here.value + rho * broken
            last = promised <= _REST * scale
            share, ahead = 1.0, self.model(_on(w + step))
            while not _merit(ahead, rho) <= merit - (-1e-15 * abs(merit) if last else 1e-4 * share * promised):
                share /= 2
                if last or share < 1e-4:
                    break
                ahead = self.model(_on(w + share * step))
            if not _merit(ahead, rho) <= merit + 1e-15 * abs(merit):
                break
            w, here = _on(w + share * step), ahead
            if last:
                break
        w = self.region.settle(w)
        here = self.model(w)
        return Found(w, here.value, prices, here.over)

    def _step(self, w: Array, here: Model, prices: Array, rho: float) -> tuple[Array, Array, float]:
        """The step of the quadratic program, the budgets' prices in it, and a penalty that is large enough for them."""
        H = self.curvature(w, prices)
        while True:
            found = self.subproblem(w, here, H, rho)
            if not found.solved:
                return np.zeros_like(w), prices, rho
            step, count = found.x[: len(w)], len(self.budgets)
            priced = found.less_prices[-2 * count : -count] if count else np.zeros(0)
            missed = (here.over + here.slopes @ step > KEPT).any() or (priced > rho / 2).any()
            if not missed or rho >= _PENALTY_END or self.elastic:
                return step, np.maximum(priced, 0.0), rho
            rho *= 10

    def subproblem(self, w: Array, here: Model, H: Array, rho: float) -> Answer:
        """Minimize the model of f around ``w``, budgets that cannot be kept costing ``rho`` per unit; x begins with the step."""
        program, count = self.region.rows.program.around(w), len(self.budgets)
        slope = here.slope
        if count:
            program = program.wider(count)
            give = np.eye(count, program.size, program.size - count)
            rows = np.pad(here.slopes, ((0, 0), (0, program.size - len(w)))) - give
            program = program.plus(less=(np.concatenate([rows, -give]), np.concatenate([-here.over, np.zeros(count)])))
            slope = np.concatenate([slope, np.zeros(program.size - count - len(w)), np.full(count, rho)])
        return program.solve(slope, H)

    def _by_draws(self, end: Found, points: Array) -> Found:
        """For measures without slopes (trees): from the best of all points tried, nearer and nearer to the best so far."""
        known = [
            Found(w, float(f), end.prices, c)
            for w, f, c in zip(points, self.value(points), self.over(points), strict=True)
        ]
        best = min((end, *known), key=self._merit)
        for share in _SHARES:
            near = best.w + share * (points - best.w)
            tried = zip(near, self.value(near), self.over(near), strict=True)
            best = min((best, *(Found(w, float(f), end.prices, c) for w, f, c in tried)), key=self._merit)
        return best

    def _other_valleys(self, end: Found, scale: float) -> Found:
        """Weights raised or dropped to their floor one at a time: if that helps, go on down from there."""
        for _ in range(4):
            points = self._neighbours(end.w)
            if not len(points):
                break
            values, over = self.value(points), self.over(points)
            near = [Found(w, float(f), end.prices, c) for w, f, c in zip(points, values, over, strict=True)]
            best = min(near, key=self._merit)
            if self._merit(best) >= self._merit(end) - 1e-12 * scale:
                break
            end = min((self.descend(best.w, scale), best, end), key=self._merit)
        return end

    def _neighbours(self, w: Array) -> Array:
        """Allowed mixtures with one weight raised by several amounts or dropped, the others in proportion."""
        moved = []
        for d in range(len(w)):
            rest = 1 - w[d]
            targets = [w[d] + up for up in _RAISES if w[d] + up <= self.region.high[d]] if w[d] < 0.05 else []
            if self.region.low[d] < w[d] < 0.05:
                targets.append(self.region.low[d])
            for target in targets:
                other = w * ((1 - target) / rest if rest > 0 else 0.0)
                other[d] = target
                moved.append(other)
        points = np.array(moved).reshape(-1, len(w))
        if not self.region.boxed:
            return points[self.region.contains(points, 1e-9)] if len(points) else points
        return self.region.project(points) if len(points) else points

    # ---- how good it is --------------------------------------------------------------------------------------------

    def gap(self, found: Found) -> float:
        """How much lower f could be anywhere in the region within budgets, if f and the budgets are convex.

        The certificate is the tangent of f + prices · c at the end found: its least value over the region, one linear (or
        cone) program, is a lower bound (Lagrange and Frank-Wolfe).
        """
        here = self.model(found.w)
        slope = here.slope + found.prices @ here.slopes
        return max(0.0, float(slope @ found.w) - self.region.least(slope)[1] - float(found.prices @ here.over))

    def worst(self, first: Array) -> Array:
        """Where f is largest in the region, whatever the budgets: from corner to corner while f rises; the best of several."""
        size = len(self.region.domains)
        corners = [first] if not self.region.boxed and size > 24 else []
        corners += [self.region.least(-row)[0] for row in np.eye(size)] if not corners else []
        tried = np.array(corners)
        order = np.argsort(-self.value(tried), kind="stable")[:3]
        ends = [self._ascend(tried[n]) for n in order]
        return ends[int(self.value(np.array(ends)).argmax())]

    def _ascend(self, w: Array) -> Array:
        for _ in range(_STEPS):
            value, slope = self.measure.value_and_slope(w[None])
            corner = self.region.least(-np.nan_to_num(slope[0], posinf=_STEEP, neginf=-_STEEP))[0]
            points = w + np.array([1.0, 0.3, 0.1, 0.03])[:, None] * (corner - w)
            values = self.value(points)
            best = int(values.argmax())
            if values[best] <= value[0] + 1e-12:
                break
            w = points[best]
        return w

    # ---- what is as good -----------------------------------------------------------------------------------------------

    def edges(self, best: Array, below: float) -> tuple[Array, Array]:
        """Per domain the smallest and largest weight ``(D,)`` among mixtures around ``best`` with f at most ``below``.

        Up to 24 domains by sequential cone programs, each exact for the quadratic through the point before; beyond that from
        one quadratic at ``best``, which may leave the ends too near. Every end is that of a mixture that was checked.
        """
        size = len(best)
        if size == 1 or below <= float(self.value(best)[0]):
            return best.copy(), best.copy()
        H = self.curvature(best, np.zeros(len(self.budgets)))
        if size > 24:
            down, up = (self._far_points(best, H, below, sign) for sign in (-1.0, 1.0))
        else:
            down, up = np.split(self._ends(best, H, below), 2)
        d = np.arange(size)
        low, high = self.region.low, self.region.high
        return np.minimum(down[d, d], best).clip(low, high), np.maximum(up[d, d], best).clip(low, high)

    def _ends(self, best: Array, H: Array, below: float) -> Array:
        """Mixtures ``(2D, D)``: per domain one with as little of it as f allows, then one with as much; all go on at once."""
        L, size = np.asarray(np.linalg.cholesky(H), dtype=np.float64), len(best)
        toward = np.concatenate([-np.eye(size), np.eye(size)])
        reached = np.repeat(best[None], 2 * size, axis=0)
        left = np.arange(2 * size)
        for _ in range(_ROUNDS):
            at = reached[left]
            values, slopes = self.measure.value_and_slope(_on(at))
            budgets = [b.measure.value_and_slope(_on(at)) for b in self.budgets]
            ahead = at.copy()
            for n, w in enumerate(at):
                over = np.array([part[0][n] - b.limit for part, b in zip(budgets, self.budgets, strict=True)])
                bends = np.array([part[1][n] for part in budgets]).reshape(-1, size)
                ahead[n] = self._outward(w, Model(float(values[n]), slopes[n], over, bends), toward[left[n]], L, below)
            ahead = self._back_many(best, ahead - best, below)
            gained = ((ahead - at) * toward[left]).sum(axis=1)
            reached[left[gained > 0]] = ahead[gained > 0]
            left = left[gained > _GAINED]
            if not len(left):
                break
        return reached

    def _outward(self, w: Array, here: Model, toward: Array, L: Array, below: float) -> Array:
        """How far ``toward`` leads from ``w`` by the quadratic with curvature ``L L^T`` there and the budgets' tangents."""
        inner = np.linalg.solve(L, here.slope)
        radius = 2 * (below - here.value) + float(inner @ inner)
        program = self.region.rows.program.around(w)
        if radius <= 0:
            return w
        if len(self.budgets):
            program = program.plus(less=(here.slopes, np.maximum(-here.over, 0.0)))
        ball = np.zeros((len(w) + 1, program.size))
        ball[1:, : len(w)] = -L.T
        found = program.plus(ball=(ball, np.append(np.sqrt(radius), inner))).solve(-toward)
        return w + found.x[: len(w)] if found.solved else w

    def _far_points(self, best: Array, H: Array, below: float, sign: float) -> Array:
        """Per domain a mixture ``(D, D)`` in which its weight is far up (sign 1) or down, by the quadratic at ``best``."""
        size, slope = len(best), self.model(best).slope
        free = (best > self.region.low + 1e-7) & (best < self.region.high - 1e-7)
        F = np.flatnonzero(free)
        K = np.zeros((len(F) + 1, len(F) + 1))
        K[:-1, :-1], K[:-1, -1], K[-1, :-1] = H[np.ix_(F, F)], 1.0, 1.0
        inverse = np.linalg.pinv(K)
        steps = np.zeros((size, size))
        steps[np.ix_(F, F)] = sign * inverse[:-1, :-1]
        for d in np.flatnonzero(~free):
            steps[d, F], steps[d, d] = -(inverse @ np.append(H[F, d], 1.0))[:-1] * sign, sign
        room = below - float(self.value(best)[0])
        bend = np.maximum(np.einsum("ij,jk,ik->i", steps, H, steps), 1e-300)
        tilt = np.maximum(steps @ slope, 0.0)
        steps *= ((np.sqrt(tilt**2 + 2 * bend * room) - tilt) / bend)[:, None]
        return self._back_many(best, self._inside(best, steps), below)

    def _inside(self, best: Array, steps: Array) -> Array:
        """Each step shortened to where the first bound on a weight is met."""
        with np.errstate(divide="ignore", invalid="ignore"):
            up = np.where(steps > 1e-15, (self.region.high - best) / steps, np.inf)
            down = np.where(steps < -1e-15, (self.region.low - best) / steps, np.inf)
        return np.asarray(steps * np.minimum(np.minimum(up, down).min(axis=1), 1.0).clip(0.0)[:, None])

    def _back_many(self, best: Array, steps: Array, below: float) -> Array:
        """``best`` plus each step, shortened until f is at most ``below`` and region and budgets are kept.

        By false position (the Illinois rule) between the last share of the way that is good and the first that is not.
        """
        near, far, share = np.zeros(len(steps)), np.ones(len(steps)), np.ones(len(steps))
        short, beyond = np.full(len(steps), self._excess(best[None], below)[0]), np.full(len(steps), np.inf)
        left, twice = np.ones(len(steps), dtype=bool), np.zeros(len(steps), dtype=bool)
        for _ in range(_BISECTED):
            excess = np.full(len(steps), np.nan)
            excess[left] = self._excess(best + share[left, None] * steps[left], below)
            good = left & (excess <= 0)
            bad = left & ~good
            near, short = np.where(good, share, near), np.where(good, excess, short)
            far, beyond = np.where(bad, share, far), np.where(bad, excess, np.where(good & twice, beyond / 2, beyond))
            left, twice = left & (near < 1) & (far - near > 1e-4 * far), good
            if not left.any():
                break
            with np.errstate(invalid="ignore"):
                chord = near - short * (far - near) / (beyond - short)
            share = np.where(np.isfinite(beyond), np.clip(chord, near, far), (near + far) / 2)
        return np.asarray(best + near[:, None] * steps)

    def _excess(self, points: Array, below: float) -> Array:
        """By how much f or a budget is exceeded, whichever is more, ``(N,)``; inf outside the region."""
        excess = np.maximum(self.value(points) - below, (self.over(points) - KEPT).max(axis=1, initial=-np.inf))
        outside = np.zeros(len(points), dtype=bool) if self.region.boxed else ~self.region.contains(points, 1e-7)
        return np.where(outside, np.inf, excess)

    def good(self, points: Array, below: float) -> NDArray[np.bool_]:
        """Which points are allowed, keep the budgets and have f at most ``below``, ``(N,)``."""
        return np.asarray(self._excess(points, below) <= 0)

    def back(self, w: Array, best: Array, below: float) -> Array:
        """``w`` if it is as good, else the last such mixture on the straight way from ``best`` to it."""
        if self.good(w[None], below)[0]:
            return w
        near, far = 0.0, 1.0
        for _ in range(4):  # the first point that is not lies between them
            shares = np.linspace(near, far, 17)
            bad = ~self.good(best + shares[1:, None] * (w - best), below)
            first = int(bad.argmax()) if bad.any() else len(bad) - 1
            near, far = float(shares[first]), float(shares[first + 1])
        return np.asarray(best + near * (w - best))


def _on(w: Array) -> Array:
    """Weights that rounding made negative are zero."""
    return np.maximum(w, 0.0)


def _merit(here: Model, rho: float) -> float:
    """The measure with what broken budgets cost; inf where there is no slope to go on with."""
    if not np.isfinite(here.slope).all():
        return np.inf
    return float(here.value + rho * np.maximum(here.over, 0).sum())


def _definite(H: Array) -> Array:
    """A positive definite matrix next to H: a little is added, or where that does not do eigenvalues are taken by size."""
    top = max(float(np.abs(H).max(initial=0.0)), 1e-9)
    for part in (1e-9, 1e-7):
        raised = H + part * top * np.eye(len(H))
        try:
            np.linalg.cholesky(raised - 0.5 * part * top * np.eye(len(H)))
            return raised
        except np.linalg.LinAlgError:
            continue
    values, vectors = np.linalg.eigh(H)
    values = np.maximum(np.abs(values), 1e-9 * top)
    return np.asarray((vectors * values) @ vectors.T)
