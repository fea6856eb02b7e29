"""The default law: all metrics fitted together, a shrunken additive form beside Gaussian processes, weighed by held-out errors.

Three ways to predict a metric, each strong where another is weak:

* **additive** (``_shrunken``): ``E + (sum_j exp(c_j) (r_j + eps)^g_j)^(-p)``, whose prior is learned from all metrics. Right from
  few runs on, and sound outside them;
* **residual**: the additive form and a Gaussian process on what it leaves (``_process``). The process's amplitude grows with the
  square root of the loss above the floor E, and the noise's with that loss. Right with many runs;
* **smooth**: a Gaussian process, with a linear part, on the logarithm of the loss above 0.7 of its lowest. It knows no form,
  and so errs elsewhere than the other two.

Every mixture is held out once, in folds; the three are weighed so that the squared error of their weighted mean is least
there, by one set of weights for all metrics and then each metric's own, shrunk to it. The same held-out errors calibrate the
intervals, as for every law (``_calibration``). Members are draws from the additive form's posterior (Gaussian about its
maximum).

Notation: M metrics, N runs, D domains, P parameters of the additive form, S folds, B members, K = 3 ways; x ``(N, D)``,
y ``(M, N)``; A = L - E the loss above the floor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge
from numpy.typing import NDArray

from mixwright.core.law import Law
from mixwright.core.observation import Runs
from mixwright.core.rng import rng as stream
from mixwright.laws import _shrunken
from mixwright.laws._calibration import error_correlation, typical_misfit
from mixwright.laws._fit import GraphFit
from mixwright.laws._fitting import assemble
from mixwright.laws._process import Belief, Process
from mixwright.laws._table import Table, deal_folds, losses_positive, one_setting, tabulate
from mixwright.laws.graph import Builder

Array = NDArray[np.float64]
#: with up to so many runs every mixture is left out by itself; with more they are dealt into as many folds as follow
_ALONE, _FOLDS, _MANY, _FEW_FOLDS = 40, 10, 200, 5
#: the power of A with which the residual process's amplitude grows; the noise's grows with its square
_GROWTH = 0.5
#: where the logarithm of the smooth way begins, in lowest losses
_BEGIN = 0.7
#: priors of the processes; first guesses, of which others (lengths 2.7 or 7.4, cube or square roots) made no difference that
#: held-out training runs of RegMix could tell
_RESIDUAL = Belief(length=2.7, kernel=0.6, noise=0.6)
_SMOOTH = Belief(length=7.4, kernel=1.0, noise=0.14, linear=0.37, level=9.0)
#: the weights of the three ways before any run is seen, how many runs they count as, and how many the common weights count as
#: against a metric's own; of 2, 10 and 20 the last, by held-out training runs of RegMix and leave-one-out on RedPajama's 20
_WEIGHTS, _BELIEF, _BELIEF_COMMON = np.array([0.25, 0.25, 0.5]), 20.0, 200.0
#: powers of A with which the misfit may grow; the first is taken unless another is likelier
_POWERS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
#: members are drawn this part of a deviation to both sides, and the difference taken: the form is far from linear farther out
_STEP = 0.5


@dataclass(frozen=True)
class Hierarchical(Law):
    """``members`` draws for the spread; hyperparameters of the processes are found on at most ``rows`` runs."""

    members: Annotated[int, Ge(2)] = 32
    rows: Annotated[int, Ge(2)] = 128

    def fit(self, runs: Runs, rng: np.random.Generator) -> GraphFit:
        """Fit every metric of ``runs``. Deterministic given ``rng``; the order of runs, domains and metrics is immaterial.

        Runs of other sizes or token counts than the commonest are left out, which the status says. Raises DataError for a metric
        with fewer than two values or with a loss that is not positive. Cost: for 13 metrics and 17 domains 0.5 CPU-seconds
        with 64 runs, 3 with 512.
        """
        used, note = one_setting(runs)
        table, seed = tabulate(used), int(rng.integers(1 << 62))
        losses_positive(table, "hierarchical")
        units = _units(table)
        ways = _Ways.of(replace(table, y=table.y / units[:, None], noise=table.noise / units), self.rows, seed)
        residuals = ways.residuals.T * units
        root = _tie(error_correlation(residuals))
        draws = np.stack(
            [stream(seed, "members", metric).standard_normal((-(-self.members // 2), ways.form.theta.shape[1]))
             for metric in table.metrics]
        )  # fmt: skip
        draws = np.tensordot(root, draws, 1)
        place = np.array([table.domains.index(domain) for domain in used.domains])
        return assemble(
            "hierarchical", table, used, residuals, ways.variance.T * units**2,
            lambda build, m: ways.write(build, m, draws[m], place, float(units[m])),
            [_status(table, ways, m, note) for m in range(len(table.metrics))],
            [ways.describe(m, used.domains, place, float(units[m])) for m in range(len(table.metrics))],
            ways.scale(place),
        )  # fmt: skip


def _units(table: Table) -> Array:
    """How far each metric's losses lie above three quarters of the lowest, on average ``(M,)``: what they are counted in.

    So the law says the same of nats and of bits.
    """
    count = table.known.sum(axis=1)
    low = np.where(table.known, table.y, np.inf).min(axis=1)
    return np.asarray(table.y.sum(axis=1) / count - _shrunken.FLOOR_PART * low)


def _tie(correlation: Array) -> Array:
    """The root of a correlation matrix, with rows of length one: draws of different metrics are tied as their errors are."""
    root = np.linalg.cholesky(correlation + 1e-6 * np.eye(len(correlation)))
    return np.asarray(root / np.sqrt((root**2).sum(axis=1, keepdims=True)))


@dataclass(frozen=True, eq=False)
class _Ways:
    """The three ways fitted to a table, and what they say of runs held out.

    ``above (M, N)`` is A at the runs, ``amplitude (M, N)`` the residual process's there; ``begin (M,)`` and ``level (M, 2)`` undo
    the smooth way's logarithm and standardization. ``weights (M, K)`` are the ways'; ``residuals (M, N)`` what their weighted
    mean misses of held-out losses, ``variance (M, N)`` the additive form's there (NaN where not measured, or where nothing
    could be held out).
    """

    table: Table
    form: _shrunken.Shrunken
    residual: Process
    smooth: Process
    above: Array
    amplitude: Array
    begin: Array
    level: Array
    weights: Array
    residuals: Array
    variance: Array

    @classmethod
    def of(cls, table: Table, rows: int, seed: int) -> _Ways:
        """Fit all three."""
        form = _shrunken.fit_shrunken(table)
        above = _shrunken.above_floor(form.theta, table.x)
        growth = (above / above.mean(axis=1, keepdims=True)) ** _GROWTH
        left = np.where(table.known, table.y - _shrunken.evaluate(form.theta, table.x)[0], 0.0)
        size = np.sqrt(((left / growth) ** 2).sum(axis=1) / table.known.sum(axis=1))
        amplitude = growth * np.maximum(size, 1e-9 * above.mean(axis=1))[:, None]
        residual = Process.fit(table, left / amplitude, growth, _RESIDUAL, rows)
        begin = _BEGIN * np.where(table.known, table.y, np.inf).min(axis=1)
        logs, level = _standard(table, begin)
        smooth = Process.fit(table, logs, np.ones_like(logs), _SMOOTH, rows)
        ways = cls(table, form, residual, smooth, above, amplitude, begin, level, *[np.empty(0)] * 3)
        return ways._held_out(_folds(table, seed))

    def _held_out(self, fold: NDArray[np.int64]) -> _Ways:
        """With weights, residuals and variance."""
        table, known = self.table, self.table.known
        sets = int(fold.max(initial=-1)) + 1
        count = len(table.metrics)
        prior = np.tile(_WEIGHTS, (count, 1))
        if sets < 3:
            nothing = np.full(table.y.shape, np.nan)
            return replace(self, weights=prior, residuals=nothing, variance=nothing)
        w = np.stack([known & (fold != s) for s in range(sets)]).astype(float)
        theta = _shrunken.refit(table, self.form, w)
        each, variance = np.empty((sets, *table.y.shape)), np.full(table.y.shape, np.nan)
        for s in range(sets):
            each[s], variance[:, fold == s] = _shrunken.with_variance(table, self.form, theta[s], w[s], fold == s)
        additive = np.take_along_axis(each, fold[None, None], axis=0)[0]
        rest = self.residual.held_out((table.y - each) / self.amplitude, fold) * self.amplitude
        logs = self.smooth.e - self.smooth.held_out(np.broadcast_to(self.smooth.e, each.shape), fold)
        smooth = self.begin[:, None] + np.exp(self.level[:, :1] + self.level[:, 1:] * logs)
        errors = np.stack([table.y - additive, rest, table.y - smooth], axis=2)
        errors[~known] = np.nan
        weights = weigh(errors)
        residuals = np.einsum("mnk,mk->mn", errors, weights)
        return replace(self, weights=weights, residuals=residuals, variance=np.where(known, variance, np.nan))

    @cached_property
    def _roots(self) -> Array:
        """Symmetric roots of the additive form's posterior covariances, ``(M, P, P)``."""
        values, vectors = np.linalg.eigh(self.form.covariance)
        return np.asarray((vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :]) @ vectors.transpose(0, 2, 1))

    def write(
        self, build: Builder, m: int, draws: Array, place: NDArray[np.int64], unit: float
    ) -> tuple[int, int, int]:
        """The mean of metric m, its members about it (in losses, of which ``unit`` is one here), and how many these are."""
        size, theta = len(place), self.form.theta[m]
        additive, above = _shrunken.write(build, _shrunken.reordered(theta[None], place))
        mean = build.apply("mul", build.const(unit), self._mean(build, m, additive, above, place))
        away = _STEP * draws @ self._roots[m]
        both = np.concatenate([theta + away, theta - away])
        both[:, 1 + size : 1 + 2 * size] = np.minimum(both[:, 1 + size : 1 + 2 * size], 0.0)
        drawn, _ = _shrunken.write(build, _shrunken.reordered(both, place))
        half = len(draws)
        swing = np.concatenate([np.eye(half), -np.eye(half)]) @ np.concatenate([np.eye(half), -np.eye(half)], axis=1)
        members = build.apply("add", mean, build.matmul(unit * swing / (2 * _STEP), drawn))
        return mean, members, 2 * half

    def _mean(self, build: Builder, m: int, additive: int, above: int, place: NDArray[np.int64]) -> int:
        """The three ways weighed; one without weight is left out."""
        first, second, third = self.weights[m]
        parts = [build.apply("mul", build.const(first + second), additive)]
        if second > 0:
            start = self.amplitude[m, 0] / self.above[m, 0] ** _GROWTH
            amplitude = build.apply("mul", build.const(second * start), build.apply("pow", above, build.const(_GROWTH)))
            parts.append(build.apply("mul", amplitude, self.residual.write(build, m, place)))
        if third > 0:
            logs = build.apply("mul", build.const(self.level[m, 1]), self.smooth.write(build, m, place))
            loss = build.apply("exp", build.apply("add", logs, build.const(self.level[m, 0])))
            parts += [build.apply("mul", build.const(third), loss), build.const(third * self.begin[m])]
        return build.apply("add", *parts) if len(parts) > 1 else parts[0]

    def scale(self, place: NDArray[np.int64]) -> tuple[Array, Callable[[Builder, int], int]] | None:
        """How the misfit grows with A: the power of it under which the held-out errors are likeliest; None where that is 0.

        Given at the runs ``(N, M)`` and as what writes it: (A over its mean over the runs) to that power.
        """
        middle = self.above.mean(axis=1)
        explained = self.variance.T + self.table.noise**2
        ratio = (self.above / middle[:, None]).T
        power = max(_POWERS, key=lambda power: _likelihood(self.residuals.T, explained, ratio ** (2 * power)))
        if not power:
            return None

        def write(build: Builder, m: int) -> int:
            _, node = _shrunken.write(build, _shrunken.reordered(self.form.theta[m : m + 1], place))
            share = build.apply("mul", node, build.const(1 / middle[m]))
            return build.apply("pow", share, build.const(power))

        return ratio**power, write

    def describe(self, m: int, domains: tuple[str, ...], place: NDArray[np.int64], unit: float) -> dict[str, Any]:
        """The additive form's parameters by name, and the weights of the three ways."""
        u, c, h, log_p, log_eps = _shrunken.split(self.form.theta[m])
        c = c - np.log(unit) * np.exp(-log_p)
        return {
            "E": unit * float(np.exp(u)), "C": dict(zip(domains, np.exp(c[place]).tolist(), strict=True)),
            "g": dict(zip(domains, np.exp(h[place]).tolist(), strict=True)), "p": float(np.exp(log_p)),
            "eps": float(np.exp(log_eps)),
            "weights": dict(zip(("additive", "residual", "smooth"), self.weights[m].tolist(), strict=True)),
        }  # fmt: skip


def _likelihood(residuals: Array, explained: Array, times: Array) -> float:
    """The log likelihood of held-out errors ``(N, M)`` if the misfit's variance goes as ``times``, less a constant."""
    known = np.isfinite(residuals)
    if not known.any():
        return 0.0
    total = np.maximum(explained + typical_misfit(residuals, explained, times) * times, 1e-300)
    return float(-0.5 * (np.log(total) + residuals**2 / total)[known].sum())


def _folds(table: Table, seed: int) -> NDArray[np.int64]:
    """The fold of each run; runs of one mixture share theirs."""
    runs = len(table.x)
    folds = runs if runs <= _ALONE else _FOLDS if runs <= _MANY else _FEW_FOLDS
    return deal_folds(table.x, folds, stream(seed, "folds"))


def _standard(table: Table, begin: Array) -> tuple[Array, Array]:
    """Logarithms of losses above ``begin (M,)``, less their mean, over their deviation ``(M, N)``; these two ``(M, 2)``."""
    logs = np.where(table.known, np.log(np.where(table.known, table.y - begin[:, None], 1.0)), 0.0)
    count = table.known.sum(axis=1)
    mean = logs.sum(axis=1) / count
    away = np.where(table.known, logs - mean[:, None], 0.0)
    sd = np.maximum(np.sqrt((away**2).sum(axis=1) / count), 1e-9)
    return away / sd[:, None], np.stack([mean, sd], axis=1)


def weigh(errors: Array) -> Array:
    """Weights ``(M, K)``, none negative, each metric's summing to one, from held-out ``errors (M, N, K)``.

    The common weights minimize the mean square of the weighted mean's error over all metrics, each relative to its own ways'
    errors, with ``_WEIGHTS`` as a prior; then each metric's own, with the common ones as a prior.
    """
    known = np.asarray(np.isfinite(errors).all(axis=2))
    e = np.where(known[:, :, None], errors, 0.0)
    count = np.maximum(known.sum(axis=1), 1)
    square = np.einsum("mnk,mnl->mkl", e, e)
    scale = np.maximum(np.einsum("mkk->m", square) / errors.shape[2] / count, 1e-300)
    square /= scale[:, None, None]
    share = square.sum(axis=0) / len(square)
    common = _simplex(share, _WEIGHTS, _BELIEF)
    return np.stack([_simplex(own, common, _BELIEF_COMMON) for own in square])


def _simplex(square: Array, prior: Array, belief: float) -> Array:
    """The weights ``v (K,)`` on the simplex that minimize ``v square v + belief |v - prior|²``, by trying every support."""
    count = len(prior)
    A, b = square + belief * np.eye(count), belief * prior
    best, least = prior, np.inf
    for support in range(1, 1 << count):
        on = [k for k in range(count) if support >> k & 1]
        inverse = np.linalg.inv(A[np.ix_(on, on)])
        v = inverse @ (b[on] + (1 - (inverse @ b[on]).sum()) / inverse.sum())
        if v.min() >= 0:
            full = np.zeros(count)
            full[on] = v
            value = float(full @ A @ full - 2 * b @ full)
            if value < least:
                best, least = full, value
    return best


def _status(table: Table, ways: _Ways, m: int, note: str) -> str:
    """``converged``, or what a reader of this metric's predictions must know."""
    known, runs = int(table.known[m].sum()), table.known.shape[1]
    words = [note] if note else []
    if known < runs:
        words.append(f"fitted on the {known} of {runs} runs that measured it")
    if known < len(table.domains):
        words.append(
            f"fewer runs ({known}) than domains ({len(table.domains)}): what the runs leave open is as the prior has it"
        )
    if not ways.form.settled[m]:
        words.append("the solver stopped before it settled")
    return "; ".join(words) or "converged"
