"""One law over mixture, tokens and size, from whole trajectories of several sizes at once.

    L(r, P, t) = E + m(r) n^-p s^-d + A n^-γ + B s^-α n^k - C u,        m(r) = 1 / sum_j exp(c_j) r_j^g_j + sum_g v_g k(r, r_g)

Notation: N rows, D domains, M metrics, K problems, G different mixtures; n = P / P0 parameters and s = S1 / S0 forward area
over their geometric means in the table, u = S2 the annealing (see ``steps``); θ ``(K, Q)`` = (log E, c (D), h = log g (D),
log A, log B, p, d, k, γ, α, C, v (G)).

The mixture term is that of the additive law (Shukor et al. 2025, arXiv 2507.09404) plus a Gaussian process over cube roots
of the weights for what it misses, k a squared exponential; it shrinks with size and tokens; A and B are
what all mixtures gain, larger models more from the same tokens (k > 0; k = 0 is the sum of Hoffmann et al. 2022).
Exponents and C are a metric's own about common ones, which are found first from the curves
alone (``_curves``), so that a metric with noise does as the others do.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Gt
from numpy.typing import NDArray

from mixwright.core.errors import DataError
from mixwright.core.law import Law
from mixwright.core.observation import Runs
from mixwright.core.rng import rng as stream
from mixwright.laws._curves import Curves, Exponent, exponent
from mixwright.laws._fit import GraphFit
from mixwright.laws._fitting import assemble
from mixwright.laws._noise import mixture_groups
from mixwright.laws._solver import Problems, Solved, solve
from mixwright.laws._table import SAME_SETTING, Table, deal_folds, losses_positive, tabulate
from mixwright.laws.graph import Builder
from mixwright.laws.sizes import SizeLaw
from mixwright.laws.steps import LearningRate, StepLaw, pooled_exponents

Array = NDArray[np.float64]
#: a weight below this counts as this, as in the additive law
FLOOR = 3e-4
#: into how many parts a trajectory is averaged: it bends too little for more to tell anything
_PARTS = 4
#: pieces of the straight lines that stand for a schedule in the graph
_PIECES = 400
#: parameters that are no domain's and no mixture's
_EXTRA = 8
#: how far a loss scatters about the law, over what is taken as the spread of losses between mixtures
_NOISE = 0.06
#: how far a metric's C may be from the common one, over how far that is from its prior
_TIED = 0.1
#: iterations of members and folds, which start from the solution for all rows
_ITERATIONS = 3
#: shares of a metric's lowest loss: the floor E, and each of the gains A and B, before any run is seen
_FLOOR_SHARE, _GAIN_SHARE = 0.4, 0.2


@dataclass(frozen=True)
class Joint(Law):
    """``steps`` and ``sizes`` give the schedule, the priors of the common exponents and of C.

    The widths of the prior: ``width_c``, ``width_g``, ``width_e`` as in the additive law; ``width_gain`` of log A and log B;
    ``width_exponent`` of a metric's γ and α about the common ones; ``width_shrink`` of p, d and k about 0, ``shrink`` and 0, then
    about what all metrics have in common. The Gaussian process has the standard deviation
    ``residual`` (of the spread of a metric's losses between mixtures) and the ``length`` (of cube roots of weights, 0 to 1).
    ``members`` is the size of the ensemble, ``folds`` the parts of the mixtures held out in turn.
    """

    steps: StepLaw = field(default_factory=StepLaw)
    sizes: SizeLaw = field(default_factory=SizeLaw)
    width_c: Annotated[float, Gt(0)] = 0.7
    width_g: Annotated[float, Gt(0)] = 0.25
    width_e: Annotated[float, Gt(0)] = 1.0
    width_gain: Annotated[float, Gt(0)] = 2.0
    width_exponent: Annotated[float, Gt(0)] = 0.01
    width_shrink: Annotated[float, Gt(0)] = 0.1
    shrink: Annotated[float, Ge(0)] = 0.05
    residual: Annotated[float, Gt(0)] = 0.1
    length: Annotated[float, Gt(0)] = 0.5
    members: Annotated[int, Ge(2)] = 32
    folds: Annotated[int, Ge(2)] = 5

    def fit(self, runs: Runs, rng: np.random.Generator) -> GraphFit:
        """Fit every metric; the fit depends on tokens and params as far as the runs differ in them: take it ``.at`` a target.

        Deterministic given ``rng``; the order of rows, domains and metrics is immaterial. Cost: some CPU-seconds for 1,000
        rows of 22 metrics. DataError where some rows have tokens or parameters and others none.
        """
        seed = int(rng.integers(1 << 62))
        used = _thinned(_complete(runs.usable()))
        table = tabulate(used)
        losses_positive(table, "joint")
        world = _World.of(self, used, table)
        groups = mixture_groups(table.x)
        fold = deal_folds(table.x, self.folds, stream(seed, "folds"))
        held = [fold == part for part in range(int(fold.max()) + 1)] if fold.max() >= 2 else []
        w = np.stack([world.w, *(world.w * ~part for part in held)])
        theta, common = _solve_points(world, w)
        members = _solve_members(world, w, theta, common, groups, seed)
        residuals, variance = _held_out(world, held, theta, members)
        return assemble(
            "joint", table, used, residuals, variance,
            lambda build, m: world.write(build, theta[0, m], members[0][:, m], used.domains),
            ["converged"] * len(table.metrics),
            [world.describe(theta[0, m]) for m in range(len(table.metrics))],
        )  # fmt: skip

    def scored(self, runs: Runs, rng: np.random.Generator) -> Runs:
        """The rows that the fit's residuals are of: each trajectory's averages."""
        return _thinned(_complete(runs.usable()))


@dataclass(frozen=True, eq=False)
class _World:
    """What the solver sees: rows as ``(G different mixtures, place (N,), log n, log s, u)``, and the common exponents."""

    law: Joint
    table: Table
    mixtures: Array
    kernel: Array
    place: NDArray[np.int64]
    log_n: Array
    log_s: Array
    u: Array
    size: float
    area: float
    gamma: Exponent
    alpha: Exponent
    w: Array
    spread: Array

    @classmethod
    def of(cls, law: Joint, used: Runs, table: Table) -> _World:
        place = mixture_groups(table.x)
        _, first = np.unique(place, return_index=True)
        rows = _order(used)
        log_n, size = _axis(used.params[rows])
        log_s, area, u = _moments(used.tokens[rows], law.steps.rate)
        gamma, alpha = _exponents(table, place, log_n, log_s, u, law)
        _, run, count = np.unique(np.array(used.run_id)[rows], return_inverse=True, return_counts=True)
        kernel = _kernel(table.x[first], law.length)
        w, spread = np.minimum(1.0, 2.0 / count)[run], _spread(table, log_n, log_s)
        return cls(law, table, table.x[first], kernel, place, log_n, log_s, u, size, area, gamma, alpha, w, spread)

    @property
    def domains(self) -> int:
        """D."""
        return int(self.mixtures.shape[1])

    @property
    def extra(self) -> slice:
        """Where log A to C stand in θ."""
        return slice(1 + 2 * self.domains, 1 + 2 * self.domains + _EXTRA)

    @property
    def width(self) -> int:
        """Q."""
        return 1 + 2 * self.domains + _EXTRA + len(self.mixtures)

    def evaluate(self, theta: Array) -> tuple[Array, Array]:
        """Losses ``(K, N)`` and derivatives ``(K, N, Q)``."""
        D = self.domains
        logs = np.log(np.maximum(self.mixtures, FLOOR))
        gain = np.exp(theta[:, None, 1 + D : 1 + 2 * D]) * logs[None]
        part = np.exp(theta[:, None, 1 : 1 + D] + gain)
        m = 1 / part.sum(axis=2)
        by_part = -part * (m**2)[:, :, None]
        e, rest = np.exp(theta[:, :1]), theta[:, 1 + 2 * D : 1 + 2 * D + _EXTRA, None].transpose(1, 0, 2)
        a, b, p, d, k, gamma, alpha, drop = rest
        m = m + theta[:, 1 + 2 * D + _EXTRA :] @ self.kernel
        shrink = np.exp(-p * self.log_n - d * self.log_s)
        mixed = m[:, self.place] * shrink
        sized, trained = np.exp(a - gamma * self.log_n), np.exp(b - alpha * self.log_s + k * self.log_n)
        J = np.empty((*mixed.shape, theta.shape[1]))
        J[:, :, 0] = e
        by_c = by_part[:, self.place] * shrink[:, :, None]
        J[:, :, 1 : 1 + D] = by_c
        J[:, :, 1 + D : 1 + 2 * D] = by_c * gain[:, self.place]
        columns = (
            sized, trained, -mixed * self.log_n, -mixed * self.log_s, trained * self.log_n, -sized * self.log_n,
            -trained * self.log_s,
        )  # fmt: skip
        for n, column in enumerate((*columns, np.broadcast_to(-self.u, mixed.shape))):
            J[:, :, 1 + 2 * D + n] = column
        J[:, :, 1 + 2 * D + _EXTRA :] = self.kernel[self.place] * shrink[:, :, None]
        return e + mixed + sized + trained - drop * self.u, J

    def starts(self) -> Array:
        """One place per metric ``(M, Q)``: equal domains, and the mean loss comes out."""
        mean, _, low = self.table.spread(self.w)
        D, law = self.domains, self.law
        theta = np.zeros((len(mean), self.width))
        theta[:, 0] = np.log(_FLOOR_SHARE * low)
        typical = np.mean((np.maximum(self.mixtures, FLOOR) ** 0.5).sum(axis=1))
        gains = (self.size > 0) + (self.area > 0)
        rest = np.maximum(mean - (_FLOOR_SHARE + gains * _GAIN_SHARE) * low, 1e-3 * low)
        theta[:, 1 : 1 + D] = -np.log(rest * typical)[:, None]
        theta[:, 1 + D : 1 + 2 * D] = np.log(0.5)
        theta[:, self.extra] = np.stack([*self._gains(low), *self._centres(low, (0.0, law.shrink, 0.0))], axis=1)
        return theta

    def _gains(self, low: Array) -> tuple[Array, Array]:
        """Log A and log B to begin with; next to nothing where sizes or tokens do not differ."""
        nothing = np.full_like(low, np.log(1e-9))
        each = np.log(_GAIN_SHARE * low)
        return (each if self.size > 0 else nothing), (each if self.area > 0 else nothing)

    def _centres(self, low: Array, common: tuple[float, float, float]) -> list[Array]:
        one = np.ones_like(low)
        return [
            *(value * one for value in common),
            self.gamma.mean * one,
            self.alpha.mean * one,
            self.law.steps.drop * one,
        ]

    def prior(self, theta: Array | None, w: Array) -> tuple[Array, Array, Array, Array]:
        """``R (M, Q, Q)``, ``q (M, Q)`` and bounds ``(M, Q)``, adapted to the parameters ``theta (M, Q)`` of all metrics."""
        law, D = self.law, self.domains
        _, _, low = self.table.spread(w)
        width = self.width
        R = np.zeros((len(low), width, width))
        centre = self.starts()
        own = self.table.own
        bonus, power, *common = (1.0, np.log(0.5), 0.0, law.shrink, 0.0) if theta is None else _common(theta, own)
        centre[:, 1 : 1 + D] = bonus * own
        centre[:, 1 + D : 1 + 2 * D] = power
        centre[:, self.extra] = np.stack(
            [*self._gains(low), *self._centres(low, (common[0], common[1], common[2]))], axis=1
        )
        R[:, 0, 0] = 1 / law.width_e
        R[:, 1 : 1 + D, 1 : 1 + D] = (np.eye(D) - 1 / D) / law.width_c
        R[:, 1 + D : 1 + 2 * D, 1 + D : 1 + 2 * D] = np.eye(D) / law.width_g
        widths = (
            [law.width_gain] * 2
            + [law.width_shrink] * 3
            + [law.width_exponent] * 2
            + [_TIED * max(law.steps.width_drop, 1e-6)]
        )
        at = range(self.extra.start, self.extra.stop)
        R[:, at, at] = 1 / np.array(widths)
        root = np.linalg.cholesky(self.kernel + 1e-6 * np.eye(len(self.kernel))).T
        R[:, self.extra.stop :, self.extra.stop :] = root / (law.residual * self.spread)[:, None, None]
        lowest, highest = np.full((len(low), width), -np.inf), np.full((len(low), width), np.inf)
        highest[:, 1 + D : 1 + 2 * D] = 0.0
        end = self.extra.stop
        lowest[:, end - 1], lowest[:, end - 3 : end - 1] = 0.0, 0.02
        return R, np.einsum("mij,mj->mi", R, centre), lowest, highest

    def problems(
        self, w: Array, prior: tuple[Array, Array, Array, Array], shift: Array | float = 0.0, off: Array | float = 0.0
    ) -> Problems:  # fmt: skip
        """One problem per metric, for rows weighted by ``w (N,)``, losses moved by ``off (N,)``."""
        R, q, low, high = prior
        scale = np.hypot(_NOISE * self.spread, self.table.noise)
        no_huber = np.full(len(R), np.inf)
        return Problems(self.table.y + off, w * self.table.known, scale, R, q + shift, low, high, no_huber)

    def write(self, build: Builder, theta: Array, members: Array, domains: tuple[str, ...]) -> tuple[int, int, int]:
        """The nodes of one metric's mean and members, over the runs' own order of domains."""
        order = [self.table.domains.index(name) for name in domains]
        return self._node(build, theta[None], order), self._node(build, members, order), len(members)

    def _node(self, build: Builder, theta: Array, order: list[int]) -> int:
        D, size = self.domains, len(theta)
        powers, c = np.exp(theta[:, 1 + D : 1 + 2 * D][:, order]), theta[:, 1 : 1 + D][:, order]
        logs = build.apply("log", build.apply("max", build.weights(), build.const(FLOOR)))
        inside = build.apply("add", build.const(c), build.apply("mul", build.tile(logs, size), build.const(powers)))
        m = build.apply("pow", build.sum(build.apply("exp", inside), D), build.const(-1.0))
        m = build.apply("add", m, build.matmul(theta[:, self.extra.stop :], self._near(build, order)))
        a, b, p, d, k, gamma, alpha, drop = theta[:, self.extra].T
        log_n, log_s, u = self._scales(build)
        terms, shrink = [build.const(np.exp(theta[:, 0]))], list[int]()
        if log_n is not None:
            shrink.append(build.apply("mul", build.const(-p), log_n))
            terms.append(_power(build, a, gamma, log_n))
        if log_s is not None:
            shrink.append(build.apply("mul", build.const(-d), log_s))
            trained = _power(build, b, alpha, log_s)
            faster = None if log_n is None else build.apply("exp", build.apply("mul", build.const(k), log_n))
            terms.append(trained if faster is None else build.apply("mul", trained, faster))
        if u is not None:
            terms.append(build.apply("mul", build.const(-drop), u))
        for exponent_node in shrink:
            m = build.apply("mul", m, build.apply("exp", exponent_node))
        return build.apply("add", *terms, m)

    def _near(self, build: Builder, order: list[int]) -> int:
        """The node of ``k(r, r_g)``, G numbers."""
        roots = np.cbrt(np.maximum(self.mixtures[:, order], FLOOR))
        root = build.apply("pow", build.apply("max", build.weights(), build.const(FLOOR)), build.const(1 / 3))
        apart = build.apply("add", build.tile(root, len(roots)), build.const(-roots))
        square = build.sum(build.apply("mul", apart, apart), self.domains)
        return build.apply("exp", build.apply("mul", square, build.const(-0.5 / self.law.length**2)))

    def _scales(self, build: Builder) -> tuple[int | None, int | None, int | None]:
        """Nodes of log n, log s and u; None where the runs do not differ in them."""
        log_n = log_s = u = None
        if self.size > 0:
            log_n = build.apply("add", build.apply("log", build.apply("params")), build.const(-np.log(self.size)))
        if self.area > 0:
            rate = self.law.steps.rate
            area = build.apply("tokens") if rate is None else _lines(build, rate, annealed=False)
            log_s = build.apply("add", build.apply("log", area), build.const(-np.log(self.area)))
            u = None if rate is None else _lines(build, rate, annealed=True)
        return log_n, log_s, u

    def describe(self, theta: Array) -> dict[str, Any]:
        """One metric's parameters by the names of the module's formula."""
        D, names = self.domains, self.table.domains
        a, b, p, d, k, gamma, alpha, drop = theta[self.extra].tolist()
        g = np.exp(theta[1 + D : 1 + 2 * D])
        return {
            "E": float(np.exp(theta[0])), "C_domain": dict(zip(names, np.exp(theta[1 : 1 + D]).tolist(), strict=True)),
            "g": dict(zip(names, g.tolist(), strict=True)), "A": float(np.exp(a)), "B": float(np.exp(b)),
            "p": p, "d": d, "k": k, "gamma": gamma, "alpha": alpha, "drop": drop, "params_0": self.size, "tokens_0": self.area,
        }  # fmt: skip


def _complete(runs: Runs) -> Runs:
    """DataError unless tokens, and params, are known for all rows or for none."""
    if not len(runs):
        raise DataError("No run of the table is done, so there is nothing to fit; see its status column.")
    for name in ("tokens", "params"):
        known = np.isfinite(getattr(runs, name))
        if known.any() and not known.all():
            row = int(np.argmin(known))
            raise DataError(
                f"The joint law needs {name} of every row or of none; run {runs.run_id[row]} has none. Fill the column, or "
                "leave the run out."
            )
    return runs


def _order(runs: Runs) -> list[int]:
    """The order in which ``tabulate`` puts rows."""
    time = np.nan_to_num(runs.tokens, nan=-1.0).tolist()
    return sorted(range(len(runs)), key=lambda n: (runs.run_id[n], time[n], runs.step[n]))


def _thinned(runs: Runs) -> Runs:
    """Each trajectory averaged into at most ``_PARTS`` rows, at the geometric mean of their tokens."""
    rows: dict[str, list[int]] = {}
    for n in _order(runs):
        rows.setdefault(runs.run_id[n], []).append(n)
    parts = [part for own in rows.values() for part in np.array_split(own, min(_PARTS, len(own)))]
    losses = np.full((len(parts), len(runs.metrics)), np.nan)
    for n, part in enumerate(parts):
        known = np.isfinite(runs.losses[part])
        total = np.where(known, runs.losses[part], 0.0).sum(axis=0)
        np.divide(total, known.sum(axis=0), out=losses[n], where=known.any(axis=0))
    tokens = np.array([float(np.exp(np.log(runs.tokens[part]).mean())) for part in parts])
    return replace(runs.take([int(part[-1]) for part in parts]), losses=losses, tokens=tokens)


def _axis(values: Array) -> tuple[Array, float]:
    """Logarithms over the geometric mean of the different values, and that mean; 0 and 0 where they are one or unknown."""
    if not np.all(values > 0) or np.ptp(np.log(values)) <= SAME_SETTING:
        return np.zeros(len(values)), 0.0
    middle = float(np.exp(np.log(np.unique(values)).mean()))
    return np.log(values / middle), middle


def _moments(tokens: Array, rate: LearningRate | None) -> tuple[Array, float, Array]:
    """Log s, S0 and u of rows; 0 where tokens are one or unknown."""
    nothing = np.zeros(len(tokens))
    if not np.all(tokens > 0):
        return nothing, 0.0, nothing
    log_s, area = _axis(tokens if rate is None else rate.area(tokens))
    return log_s, area, (nothing if rate is None or area == 0 else rate.annealed(tokens))


def _exponents(
    table: Table, place: NDArray[np.int64], log_n: Array, log_s: Array, u: Array, law: Joint
) -> tuple[Exponent, Exponent]:
    """The common γ and α: what curves over sizes and over tokens say, with the priors of the size and the step law."""
    y = table.y.T + law.steps.drop * u[:, None]
    gamma = _said(y, table.known.T, place, log_s, log_n)
    alpha = _said(y, table.known.T, place, log_n, log_s)
    return (
        _pooled(gamma, law.sizes.gamma, law.sizes.width_gamma),
        _pooled(alpha, law.steps.alpha, law.steps.width_alpha),
    )


def _pooled(said: Exponent, centre: float, width: float) -> Exponent:
    mean, covariance = pooled_exponents([said], centre, width, 1e-3)
    return Exponent(float(mean[0]), 1 / float(covariance[0, 0]))


def _said(y: Array, known: NDArray[np.bool_], place: NDArray[np.int64], fixed: Array, along: Array) -> Exponent:
    """What the curves along one axis say of its exponent; a curve is a mixture at one value of the other axis."""
    _, curve = np.unique(np.stack([place, np.round(fixed, 6)], axis=1), axis=0, return_inverse=True)
    moments, at = np.unique(np.round(along, 6), return_inverse=True)
    shape = (int(curve.max()) + 1, len(moments), y.shape[1])
    losses, seen = np.zeros(shape), np.zeros(shape, dtype=bool)
    losses[curve.reshape(-1), at.reshape(-1)] = np.where(known, y, 0.0)
    seen[curve.reshape(-1), at.reshape(-1)] = known
    return exponent(Curves(np.broadcast_to(np.exp(moments), shape[:2]), losses, seen))


def _spread(table: Table, log_n: Array, log_s: Array) -> Array:
    """How far losses of different mixtures lie apart at one size and time, a standard deviation ``(M,)``."""
    columns = np.stack([np.ones_like(log_n), log_n, log_s, log_n**2, log_s**2, log_n * log_s], axis=1)
    out = np.empty(len(table.metrics))
    for m, (y, known) in enumerate(zip(table.y, table.known, strict=True)):
        left = y[known] - columns[known] @ np.linalg.lstsq(columns[known], y[known], rcond=None)[0]
        out[m] = max(float(left.std()), 1e-4 * abs(float(y[known].mean())) + 1e-9)
    return out


def _kernel(mixtures: Array, length: float) -> Array:
    """Squared exponential between mixtures ``(G, G)`` in cube roots of weights."""
    roots = np.cbrt(np.maximum(mixtures, FLOOR))
    square = ((roots[:, None] - roots[None]) ** 2).sum(axis=2)
    return np.asarray(np.exp(-0.5 * square / length**2))


def _common(theta: Array, own: NDArray[np.bool_]) -> tuple[float, float, float, float, float]:
    """The bonus of a metric's own domain, log g, p, d and k that all metrics ``theta (M, Q)`` have in common."""
    D = own.shape[1]
    c = theta[:, 1 : 1 + D]
    bonuses = [row[mine].mean() - row[~mine].mean() for row, mine in zip(c, own, strict=True) if 0 < mine.sum() < D]
    bonus = (1.0 + sum(bonuses)) / (1 + len(bonuses))
    p, d, k = np.median(theta[:, 1 + 2 * D + 2 : 1 + 2 * D + 5], axis=0)
    return float(bonus), float(theta[:, 1 + D : 1 + 2 * D].mean()), float(p), float(d), float(k)


def _stacked(problems: list[Problems]) -> Problems:
    names = ("y", "w", "scale", "R", "q", "low", "high", "delta")
    return Problems(*(np.concatenate([getattr(p, name) for p in problems]) for name in names))


def _solve_points(world: _World, w: Array) -> tuple[Array, list[tuple[Array, Array, Array, Array]]]:
    """For all rows, and from there for all but each fold: parameters ``(S, M, Q)`` and priors; adapted twice."""
    theta = world.starts()
    prior = world.prior(None, w[0])
    for _ in range(3):
        solved = solve(world.evaluate, theta, world.problems(w[0], prior), iterations=60, tolerance=1e-7)
        theta = solved.theta
        prior = world.prior(theta, w[0])
    priors = [prior] + [world.prior(theta, row) for row in w[1:]]
    rest = _refined(
        world, [world.problems(row, p) for row, p in zip(w, priors, strict=True)], [theta] * len(w), 2 * _ITERATIONS
    )
    return rest.theta.reshape(len(w), len(theta), -1), priors


def _refined(world: _World, problems: list[Problems], starts: list[Array], iterations: int) -> Solved:
    return solve(world.evaluate, np.concatenate(starts), _stacked(problems), iterations=iterations, tolerance=1e-6)


def _solve_members(
    world: _World, w: Array, theta: Array, priors: list[tuple[Array, Array, Array, Array]],
    groups: NDArray[np.int64], seed: int,
) -> list[Array]:  # fmt: skip
    """The ensemble of each set ``(B, M, Q)``: mixtures reweighted, the prior's centre redrawn.

    What metrics have in common (γ, α, C, and what a size has of its own, that asked for too) is redrawn once for all.
    """
    count, metrics, width = world.law.members, len(world.table.metrics), theta.shape[2]
    draws = stream(seed, "bootstrap").exponential(size=(count, int(groups.max()) + 1))[:, groups]
    names = world.table.metrics
    shift = np.stack([stream(seed, "prior", m).standard_normal((count, width)) for m in names], axis=1)
    together = stream(seed, "common").standard_normal((count, 3))
    sd = 1 / np.sqrt([max(e.precision, 1e-6) for e in (world.gamma, world.alpha)]) / world.law.width_exponent
    end = world.extra.stop
    shift[:, :, end - 3 : end - 1] += (together[:, :2] * sd)[:, None]
    shift[:, :, end - 1] = together[:, None, 2] / _TIED
    sizes = np.unique(world.log_n, return_inverse=True)[1].reshape(-1)
    off = world.law.sizes.apart * stream(seed, "sizes").standard_normal((count, int(sizes.max()) + 2))
    out = []
    for s, row in enumerate(w):
        size = count if s == 0 else max(8, count // 4)
        weights = draws[:size] * row
        weights *= row.sum() / weights.sum(axis=1, keepdims=True)
        problems = [
            world.problems(weights[b], priors[s], shift[b], off[b, sizes] if world.size else 0.0) for b in range(size)
        ]
        solved = _refined(world, problems, [theta[s]] * size, _ITERATIONS)
        found = solved.theta.reshape(size, metrics, width)
        if world.size:
            found[:, :, 0] = np.log(np.maximum(np.exp(found[:, :, 0]) + off[:size, -1:], 1e-6))
        out.append(found)
    return out


def _held_out(world: _World, held: list[NDArray[np.bool_]], theta: Array, members: list[Array]) -> tuple[Array, Array]:
    """Per row and metric ``(N, M)``: measured less predicted when its mixture was held out, and the members' variance."""
    known = world.table.known.T
    error, variance = np.full(known.shape, np.nan), np.full(known.shape, np.nan)
    for s, rows in enumerate(held, start=1):
        size, metrics, width = members[s].shape
        fitted, _ = world.evaluate(theta[s])
        each, _ = world.evaluate(members[s].reshape(size * metrics, width))
        error[rows] = (world.table.y - fitted).T[rows]
        variance[rows] = each.reshape(size, metrics, -1).var(axis=0, ddof=1).T[rows]
    return np.where(known, error, np.nan), np.where(known, variance, np.nan)


def _power(build: Builder, log_size: Array, power: Array, log_scale: int) -> int:
    """``exp(log_size - power log_scale)``, one number per member."""
    falling = build.apply("mul", build.const(-power), log_scale)
    return build.apply("exp", build.apply("add", build.const(log_size), falling))


def _lines(build: Builder, rate: LearningRate, *, annealed: bool) -> int:
    """The schedule's forward area or annealing at the node of tokens, as straight lines between ``_PIECES`` points."""
    knots = np.linspace(0.0, rate.total, _PIECES + 1)
    values = rate.annealed(knots) if annealed else rate.area(knots)
    after = 0.0 if annealed else float(rate.rate(rate.total))
    slopes = np.concatenate([np.diff(values) / np.diff(knots), [after]])
    turns = np.diff(slopes, prepend=0.0)
    past = build.apply("max", build.apply("add", build.apply("tokens"), build.const(-knots)), build.const(0.0))
    return build.matmul(turns[None], past)
