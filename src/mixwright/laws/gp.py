"""A Gaussian process on the cube roots of the weights: a constant and a Matérn-5/2 kernel with a length per domain.

The cube root makes losses smooth that fall steeply in the first per cent of a domain. Lengths and the share of noise maximize the
marginal likelihood times a prior; first for all metrics together, then for each about what all have in common. Members are
posterior samples by Matheron's rule (Wilson et al. 2020, arXiv 2002.09309): a sample of the prior from random Fourier features
(Rahimi and Recht 2007), corrected at the runs. Errors of metrics are tied as the held-out errors are.

Notation: N runs, D domains, M metrics, B members, F features; u = cube root of the weights ``(N, D)``; λ_d the logarithm of
domain d's length, η the noise's variance over the kernel's; θ = (λ, log η); y a metric's losses less mean, over their
deviation; C = K + η I + 100 (the constant), K the kernel between runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Gt
from numpy.typing import NDArray

from mixwright.core.law import Law
from mixwright.core.observation import Runs
from mixwright.core.rng import rng as stream
from mixwright.laws._calibration import error_correlation
from mixwright.laws._fit import GraphFit
from mixwright.laws._fitting import assemble
from mixwright.laws._noise import mixture_groups
from mixwright.laws._process import write_kernels
from mixwright.laws._table import Table, deal_folds, one_setting, tabulate
from mixwright.laws.graph import Builder

Array = NDArray[np.float64]
#: a weight below this counts as this, so that the cube root has a slope
FLOOR = 1e-6
#: the variance of the constant, over the kernel's: as good as free
_LEVEL = 100.0
#: bounds of λ and of log η
_LENGTHS, _NOISES = (np.log(0.05), np.log(100.0)), (np.log(1e-5), np.log(10.0))
#: squared distances below this count as this, so that their root has a slope
_NEAR = 1e-12


@dataclass(frozen=True)
class Gp(Law):
    """``members`` posterior samples from ``features`` cosines each; hyperparameters are found on at most ``rows`` runs
    (and on all but each of ``folds`` parts, for what held-out errors are).

    ``shared`` gives all metrics the same hyperparameters. The prior: λ about the logarithm of ``length`` (of cube roots, which
    lie between 0 and 1) with width ``width_length``, then each metric's about the common ones (its own domain's lower by what
    all metrics say) with width ``width_metric``; log η about that of ``noise`` with width ``width_noise``. Half or twice these
    widths change held-out errors of published training runs (16 to 64) by a few hundredths of themselves.
    """

    members: Annotated[int, Ge(2)] = 32
    features: Annotated[int, Ge(1)] = 200
    rows: Annotated[int, Ge(2)] = 192
    folds: Annotated[int, Ge(2)] = 5
    shared: bool = False
    length: Annotated[float, Gt(0)] = 2.0
    width_length: Annotated[float, Gt(0)] = 0.5
    width_metric: Annotated[float, Gt(0)] = 1.0
    noise: Annotated[float, Gt(0)] = 1e-3
    width_noise: Annotated[float, Gt(0)] = 1.5

    def fit(self, runs: Runs, rng: np.random.Generator) -> GraphFit:
        """Fit every metric of ``runs``, all of one size and token count as for other laws.

        Held-out residuals are closed-form: each mixture left out in turn, with hyperparameters found without the fold of
        mixtures it is in (with more than ``rows`` runs, on which one run has little influence, with those for all). Cost: about
        N³ operations a metric, and some tenths of a CPU-second for the hyperparameters.
        """
        used, note = one_setting(runs)
        table, seed = tabulate(used), int(rng.integers(1 << 62))
        u = np.cbrt(np.maximum(table.x, FLOOR))
        theta = self._hyperparameters(u, table, np.sort(stream(seed, "rows").permutation(len(u))[: self.rows]))
        posts = [_Posterior(u, table, m, each) for m, each in enumerate(theta.metrics)]
        residuals, variance = self._held_out(u, table, theta, posts, seed)
        draws = _Draws(self, table, error_correlation(residuals), seed)
        place = np.array([table.domains.index(domain) for domain in used.domains])
        return assemble(
            "gp", table, used, residuals, variance,
            lambda build, m: (*posts[m].write(build, draws, place), self.members),
            [_status(table, m, note) for m in range(len(posts))], [post.describe(used.domains, place) for post in posts],
        )  # fmt: skip

    def _hyperparameters(self, u: Array, table: Table, rows: NDArray[np.int64], start: _Theta | None = None) -> _Theta:
        """θ of every metric from the runs ``rows``, and what they have in common."""
        domains, metrics = u.shape[1], len(table.metrics)
        centre = np.append(np.full(domains, np.log(self.length)), np.log(self.noise))
        width = np.append(np.full(domains, self.width_length), self.width_noise)
        common, whole = centre, rows[table.known[:, rows].all(axis=0)]
        if len(whole) >= 2:
            common = _maximize(u[whole], table.y[:, whole], centre, width, centre if start is None else start.common)
            if self.shared:
                return _Theta(common, 0.0, [common] * metrics)
        centre = np.tile(common, (metrics, 1))
        if start is not None:
            centre[:, :-1] += start.bonus * table.own
            return _Theta(common, start.bonus, self._each(u, table, rows, centre, start.metrics))
        out = self._each(u, table, rows, centre, centre)
        if not table.own.any():
            return _Theta(common, 0.0, out)
        bonus = _bonus(table, np.array(out) - common)
        centre[:, :-1] += bonus * table.own
        return _Theta(common, bonus, self._each(u, table, rows, centre, out))

    def _each(
        self, u: Array, table: Table, rows: NDArray[np.int64], centre: Array, start: Sequence[Array] | Array
    ) -> list[Array]:
        """θ of every metric, with the prior about ``centre (M, D + 1)``, from ``start``."""
        width = np.append(np.full(u.shape[1], self.width_metric), self.width_noise)
        out = []
        for m, (y, known) in enumerate(zip(table.y, table.known, strict=True)):
            own = rows[known[rows]]
            own = own if len(own) >= 2 else np.flatnonzero(known)[: self.rows]
            out.append(_maximize(u[own], y[None, own], centre[m], width, start[m]))
        return out

    def _held_out(
        self, u: Array, table: Table, theta: _Theta, posts: Sequence[_Posterior], seed: int
    ) -> tuple[Array, Array]:
        """Per run and metric ``(N, M)``: measured less predicted when held out, and the process's variance there; else NaN."""
        residuals, variance = np.full(table.y.T.shape, np.nan), np.full(table.y.T.shape, np.nan)
        groups, fold = mixture_groups(table.x), deal_folds(table.x, self.folds, stream(seed, "folds"))
        crossed = len(u) <= self.rows and fold.max() > 1
        for part in range(int(fold.max()) + 1) if crossed else (0,):
            inside = fold == part if crossed else np.ones(len(u), dtype=bool)
            within = posts
            if crossed:
                without = self._hyperparameters(u, table, np.flatnonzero(~inside), theta)
                within = [_Posterior(u, table, m, each) for m, each in enumerate(without.metrics)]
            for m, post in enumerate(within):
                rows, mine = post.rows, inside[post.rows]
                error, spread = post.held_out(groups[rows], mine)
                residuals[rows[mine], m], variance[rows[mine], m] = error[mine], spread[mine]
        return residuals, variance


@dataclass(frozen=True, eq=False)
class _Theta:
    """Hyperparameters: what metrics have in common, how much lower own domains' λ are expected, and each one's."""

    common: Array
    bonus: float
    metrics: list[Array]


def _bonus(table: Table, away: Array) -> float:
    """How much lower (so negative) λ of a metric's own domain is than the common one, from ``away (M, D + 1)``.

    Shrunk to none as by one further metric without any difference.
    """
    found = away[:, :-1][table.own]
    return float(found.sum() / (len(found) + 1))


def _standard(y: Array) -> tuple[Array, Array, Array]:
    """Losses ``(M, N)`` less their mean, over their standard deviation; these two ``(M,)``."""
    mean = y.mean(axis=1)
    sd = np.maximum(y.std(axis=1), 1e-6 * np.abs(mean) + 1e-9)
    return (y - mean[:, None]) / sd[:, None], mean, sd


def _maximize(u: Array, losses: Array, centre: Array, width: Array, start: Array) -> Array:
    """θ at the largest marginal likelihood of ``losses (M, N)`` times the prior ``(centre, width)``, from ``start``."""
    from scipy.optimize import minimize

    y, _, _ = _standard(losses)
    squares = (u.T[:, :, None] - u.T[:, None, :]) ** 2
    bounds = [_LENGTHS] * u.shape[1] + [_NOISES]

    def loss(theta: Array) -> tuple[float, Array]:
        value, slope = _evidence(theta, squares, y)
        away = (theta - centre) / width
        return value + 0.5 * float(away @ away), slope + away / width

    options = {"maxiter": 40, "ftol": 1e-5}
    begin = np.clip(start, *np.array(bounds).T)
    return np.asarray(minimize(loss, begin, jac=True, method="L-BFGS-B", bounds=bounds, options=options).x)


def _matern(distance: Array) -> Array:
    """The kernel at distances in lengths: (1 + √5 d + 5/3 d²) exp(-√5 d)."""
    far = np.sqrt(5.0) * distance
    return np.asarray((1 + far + far**2 / 3) * np.exp(-far))


def _evidence(theta: Array, squares: Array, y: Array) -> tuple[float, Array]:
    """Minus the log marginal likelihood of ``y (M, N)`` with each one's scale at its best, less constants; and its slope.

    ``squares (D, N, N)`` are the squared differences of runs.
    """
    from scipy.linalg.lapack import dpotri

    count, runs = y.shape
    inverse, eta = np.exp(-2 * theta[:-1]), float(np.exp(theta[-1]))
    far = np.sqrt(5.0 * np.tensordot(inverse, squares, 1))
    decay = np.exp(-far)
    C = (1 + far + far**2 / 3) * decay + _LEVEL
    C[np.diag_indices(runs)] += eta
    L = np.linalg.cholesky(C)
    lower = dpotri(L, lower=1)[0]
    precision = lower + lower.T  # dpotri leaves zeros above the diagonal, as cholesky does
    precision[np.diag_indices(runs)] *= 0.5
    alpha = y @ precision
    square = np.maximum((alpha * y).sum(axis=1), 1e-12)
    value = 0.5 * runs * np.log(square / runs).sum() + count * np.log(np.diag(L)).sum()
    G = 0.5 * (count * precision - (alpha * (runs / square)[:, None]).T @ alpha)
    by_square = G * (-5 / 6 * (1 + far) * decay)
    slope = np.tensordot(squares, by_square, 2) * (-2 * inverse)
    return float(value), np.append(slope, eta * np.trace(G))


class _Draws:
    """What the members of all metrics share: directions and phases of the features, and their coefficients, tied by metric."""

    def __init__(self, law: Gp, table: Table, correlation: Array, seed: int) -> None:
        generator = stream(seed, "features")
        tails = np.sqrt(generator.chisquare(5.0, size=law.features) / 5.0)  # Matérn-5/2: Student's t with 5 degrees
        self.directions = generator.standard_normal((law.features, table.x.shape[1])) / tails[:, None]
        self.phases = generator.uniform(0, 2 * np.pi, law.features)
        shape = (law.members, law.features + len(table.x) + 1)
        free = np.stack([stream(seed, "members", metric).standard_normal(shape) for metric in table.metrics])
        root = np.linalg.cholesky(correlation + 1e-6 * np.eye(len(correlation)))
        root /= np.sqrt((root**2).sum(axis=1, keepdims=True))
        tied = np.tensordot(root, free, 1)
        self.features = tied[:, :, : law.features] * np.sqrt(2.0 / law.features)
        self.noise, self.level = tied[:, :, law.features : -1], tied[:, :, -1]


class _Posterior:
    """One metric's process given its runs."""

    def __init__(self, u: Array, table: Table, metric: int, theta: Array) -> None:
        self.metric, self.rows = metric, np.flatnonzero(table.known[metric])
        standard, mean, sd = _standard(table.y[metric : metric + 1, self.rows])
        self.y, self.mean, self.sd = standard[0], float(mean[0]), float(sd[0])
        self.u, self.lengths, self.eta = u[self.rows], np.exp(theta[:-1]), float(np.exp(theta[-1]))
        scaled = self.u / self.lengths
        norm = (scaled**2).sum(axis=1)
        square = np.maximum(norm[:, None] + norm - 2 * scaled @ scaled.T, _NEAR)
        C = _matern(np.sqrt(square)) + _LEVEL + self.eta * np.eye(len(norm))
        self.precision = np.linalg.inv(C)
        self.alpha = self.precision @ self.y
        self.amplitude = float(np.sqrt(max(self.y @ self.alpha / len(self.y), 1e-12)))

    def held_out(self, groups: NDArray[np.int64], wanted: NDArray[np.bool_]) -> tuple[Array, Array]:
        """Each wanted run's error when all of its mixture are left out, and the process's variance there, in losses."""
        error, variance = np.zeros(len(self.y)), np.zeros(len(self.y))
        for group in np.unique(groups[wanted]):
            rows = np.flatnonzero(groups == group)
            covariance = np.linalg.inv(self.precision[np.ix_(rows, rows)])
            error[rows] = covariance @ self.alpha[rows]
            variance[rows] = np.maximum(np.diag(covariance) - self.eta, 0.0)
        return error * self.sd, variance * (self.amplitude * self.sd) ** 2

    def write(self, build: Builder, draws: _Draws, place: NDArray[np.int64]) -> tuple[int, int]:
        """The mean and the members: kernels to all runs times their coefficients, and the members' own features."""
        inverse = 1 / self.lengths[place]
        u = build.apply("pow", build.apply("max", build.weights(), build.const(FLOOR)), build.const(1 / 3))
        scaled = build.apply("mul", u, build.const(inverse))
        kernels = write_kernels(build, u, self.u[:, place], inverse)
        members, level, features = self._coefficients(draws)
        mean = build.apply(
            "add", build.matmul(self.sd * self.alpha[None], kernels),
            build.const(self.mean + self.sd * _LEVEL * self.alpha.sum()),
        )  # fmt: skip
        waves = build.apply(
            "cos", build.apply("add", build.matmul(draws.directions[:, place], scaled), build.const(draws.phases))
        )
        return mean, build.apply(
            "add", build.matmul(self.sd * members, kernels), build.matmul(self.sd * features, waves),
            build.const(self.mean + self.sd * level),
        )  # fmt: skip

    def _coefficients(self, draws: _Draws) -> tuple[Array, Array, Array]:
        """Of the members: on the kernels ``(B, N)``, the level ``(B,)``, on the features ``(B, F)``, in standard units."""
        features = self.amplitude * draws.features[self.metric]
        level = self.amplitude * np.sqrt(_LEVEL) * draws.level[self.metric]
        waves = np.cos(self.u / self.lengths @ draws.directions.T + draws.phases)
        noise = self.amplitude * np.sqrt(self.eta) * draws.noise[self.metric][:, self.rows]
        members = (self.y - (features @ waves.T + level[:, None] + noise)) @ self.precision
        return members, level + _LEVEL * members.sum(axis=1), features

    def describe(self, domains: Sequence[str], place: NDArray[np.int64]) -> dict[str, Any]:
        """The lengths by domain, and the noise's standard deviation over the losses'."""
        lengths = self.lengths[place].tolist()
        return {
            "length": dict(zip(domains, lengths, strict=True)),
            "noise": float(np.sqrt(self.eta) * self.amplitude * self.sd),
        }


def _status(table: Table, metric: int, note: str) -> str:
    known, runs = int(table.known[metric].sum()), table.known.shape[1]
    words = [note] if note else []
    if known < runs:
        words.append(f"fitted on the {known} of {runs} runs that measured it")
    if known < table.x.shape[1] + 2:
        words.append(f"{known} runs say little of a length per domain: these are near the prior's")
    return "; ".join(words) or "converged"
