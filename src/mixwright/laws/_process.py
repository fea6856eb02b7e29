"""Gaussian processes for all metrics at once: lengths shared by all, but for a metric's own domain.

The losses of few runs do not tell a length per domain and metric. So all metrics share one length per domain, and one more
which stands for the domain a metric is the held-out part of, whichever that is. The kernel is a Matérn-5/2 one on u, the cube
roots of the weights (losses fall steeply in the first per cent of a domain), and, where wanted, a linear one.

Notation: N runs, M metrics, D domains, S sets; u ``(N, D)``; e ``(M, N)`` what the process describes; ρ ``(M, N)`` the noise's
standard deviation relative to a common one; θ: log lengths ``(D)``, log length of the own domain, log amplitudes of the
kernel, of the noise and of the linear kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mixwright.laws._table import RELATED, Table
from mixwright.laws.graph import Builder

Array = NDArray[np.float64]
#: added to a weight before its root is taken, so that there is a slope at zero: what tables printed to three decimals hide
SHIFT = 3e-4
#: steps of L-BFGS; more change little, since runs tell hyperparameters only roughly
_STEPS = 25
#: bounds of log lengths and of log amplitudes
_LENGTHS, _AMPLITUDES = (-2.0, 6.0), (-6.0, 4.0)
#: a squared distance in lengths below this counts as this, so that its root has a slope
_NEAR = 1e-12


def roots(x: Array) -> Array:
    """u, the cube roots of mixtures."""
    return np.asarray(np.cbrt(x + SHIFT))


def write_roots(build: Builder, weights: int, scale: Array) -> int:
    """Cube roots u over their ``scale (D,)``, of the mixture that is the node ``weights``."""
    shifted = build.apply("add", weights, build.const(SHIFT))
    return build.apply("mul", build.apply("pow", shifted, build.const(1 / 3)), build.const(1 / scale))


def write_kernels(build: Builder, u: int, runs: Array, inverse: Array) -> int:
    """The Matérn kernel between the node ``u`` and ``runs (N, D)``: N numbers; ``inverse (D,)`` is one over the lengths."""
    count, size = runs.shape
    away = build.apply("add", build.tile(u, count), build.const(-runs))
    square = build.apply("mul", away, away)  # the same node for all metrics
    square = build.sum(build.apply("mul", square, build.const(np.tile(5.0 * inverse**2, count))), size)
    far = build.apply("pow", build.apply("max", square, build.const(5.0 * _NEAR)), build.const(0.5))
    shape = build.apply("add", build.const(1.0), far, build.apply("mul", far, far, build.const(1 / 3)))
    return build.apply("mul", shape, build.apply("exp", build.apply("mul", far, build.const(-1.0))))


def blended(table: Table) -> Array:
    """``(D, D)``: mixtures as processes see them. A revised domain and its earlier version are nearly one."""
    out = np.eye(len(table.domains))
    for new, old in table.related:
        out[new, old], out[old, old] = 1.0, RELATED
    return out


@dataclass(frozen=True)
class Belief:
    """The prior of θ: log ``length`` (in standard deviations of u) and log amplitudes of ``kernel``, ``noise`` and ``linear``
    kernel, each with width 1. ``level`` is the variance of a constant. No linear kernel where ``linear`` is 0."""

    length: float
    kernel: float
    noise: float
    linear: float = 0.0
    level: float = 0.0

    def centre(self, domains: int) -> Array:
        """Of θ ``(D + 4,)``."""
        amplitudes = [np.log(self.kernel), np.log(self.noise), np.log(self.linear) if self.linear else 0.0]
        return np.array([np.log(self.length)] * (domains + 1) + amplitudes)


@dataclass(frozen=True, eq=False)
class Process:
    """Processes of all metrics, given the runs.

    ``u (N, D)`` in its standard deviations ``scale (D,)``, ``own (M, D)``, ``e``, ``known`` and ``ratio`` (ρ) ``(M, N)``; ``blend
    (D, D)`` as ``blended`` gives it.
    """

    u: Array
    scale: Array
    own: NDArray[np.bool_]
    e: Array
    known: NDArray[np.bool_]
    ratio: Array
    belief: Belief
    theta: Array
    blend: Array

    @classmethod
    def fit(cls, table: Table, e: Array, ratio: Array, belief: Belief, rows: int) -> Process:
        """θ at the largest marginal likelihood of at most ``rows`` runs (evenly taken) times the prior.

        Cost: some 30 times M ``rows``³ operations.
        """
        from scipy.optimize import minimize

        blend = blended(table)
        u = roots(table.x @ blend.T)
        scale = np.maximum(u.std(axis=0), 1e-3)
        runs, size = u.shape
        whole = cls(u / scale, scale, table.own, e, table.known, ratio, belief, belief.centre(size), blend)
        taken = np.unique(np.linspace(0, runs - 1, min(runs, rows)).astype(int))
        part = replace(whole, u=whole.u[taken], e=e[:, taken], known=table.known[:, taken], ratio=ratio[:, taken])
        bounds = [_LENGTHS] * (size + 1) + [_AMPLITUDES] * 3
        found = minimize(
            part._loss, whole.theta, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": _STEPS}
        )
        return replace(whole, theta=np.asarray(found.x))

    def _lengths(self, theta: Array, metric: int) -> Array:
        """1 / length of each domain for a metric ``(D,)``."""
        size = self.u.shape[1]
        return np.exp(-np.where(self.own[metric], theta[size], theta[:size]))

    @cached_property
    def _alike(self) -> list[list[int]]:
        """Metrics with the same kernel matrix: the same own domain, runs and noise."""
        groups: dict[bytes, list[int]] = {}
        for m in range(len(self.e)):
            key = self.own[m].tobytes() + self.known[m].tobytes() + self.ratio[m].tobytes()
            groups.setdefault(key, []).append(m)
        return list(groups.values())

    def _kernel(self, theta: Array, metric: int, rows: NDArray[np.int64]) -> tuple[Array, Array, Array]:
        """Between runs: the Matérn kernel, minus its slope with the squared distance, and u in lengths."""
        a = self.u[rows] * self._lengths(theta, metric)
        norm = (a**2).sum(axis=1)
        far = np.sqrt(5.0 * np.maximum(norm[:, None] + norm - 2 * a @ a.T, _NEAR))
        decay = np.exp(-far)
        return (1 + far + far**2 / 3) * decay, 5 / 6 * (1 + far) * decay, a

    def _loss(self, theta: Array) -> tuple[float, Array]:
        """Minus the logarithm of marginal likelihood times prior, less constants, and its slope."""
        size = self.u.shape[1]
        away = theta - self.belief.centre(size)
        value, slope = 0.5 * float(away @ away), away.copy()
        for metrics in self._alike:
            rows = np.flatnonzero(self.known[metrics[0]])
            part, gradient = self._evidence(theta, metrics, rows)
            value += part
            slope += gradient
        return value, slope

    def _evidence(self, theta: Array, metrics: Sequence[int], rows: NDArray[np.int64]) -> tuple[float, Array]:
        from scipy.linalg.lapack import dpotrf, dpotri

        size, e = self.u.shape[1], self.e[np.asarray(metrics)[:, None], rows]
        kernel, noise, linear = np.exp(2 * theta[size + 1 :])
        k, fall, a = self._kernel(theta, metrics[0], rows)
        line = self.u[rows] @ self.u[rows].T if self.belief.linear else np.zeros((1, 1))
        own_noise = noise * self.ratio[metrics[0], rows] ** 2
        C = kernel * k + (linear * line if self.belief.linear else 0.0) + self.belief.level
        C[np.diag_indices(len(rows))] += own_noise
        L, failed = dpotrf(C, lower=1)
        if failed:
            return 1e10, np.zeros_like(theta)
        lower = dpotri(L, lower=1)[0]
        precision = _mirrored(lower)
        alpha = e @ precision
        value = 0.5 * float((alpha * e).sum()) + len(metrics) * float(np.log(np.diag(L)).sum())
        G = 0.5 * (len(metrics) * precision - alpha.T @ alpha)
        by_square = G * fall * kernel
        by_length = 4 * (by_square.sum(axis=1) @ a**2 - np.einsum("nd,nd->d", a, by_square @ a))
        slope = np.zeros_like(theta)
        np.add.at(slope, np.where(self.own[metrics[0]], size, np.arange(size)), by_length)
        slope[size + 1] = 2 * kernel * float((G * k).sum())
        slope[size + 2] = 2 * float(np.diag(G) @ own_noise)
        if self.belief.linear:
            slope[size + 3] = 2 * linear * float((G * line).sum())
        return value, slope

    @cached_property
    def _precisions(self) -> dict[int, tuple[NDArray[np.int64], Array]]:
        """Per metric, the rows that measured it and the inverse of their covariance (noise included)."""
        size = self.u.shape[1]
        out: dict[int, tuple[NDArray[np.int64], Array]] = {}
        kernel, noise, linear = np.exp(2 * self.theta[size + 1 :])
        for metrics in self._alike:
            rows = np.flatnonzero(self.known[metrics[0]])
            C = kernel * self._kernel(self.theta, metrics[0], rows)[0] + self.belief.level
            if self.belief.linear:
                C += linear * self.u[rows] @ self.u[rows].T
            C[np.diag_indices(len(rows))] += noise * self.ratio[metrics[0], rows] ** 2
            precision = _inverse(C)
            out |= dict.fromkeys(metrics, (rows, precision))
        return out

    @cached_property
    def alpha(self) -> Array:
        """``(M, N)``: the process's mean is the kernel to the runs times this; 0 for runs that did not measure the metric."""
        out = np.zeros_like(self.e)
        for m, (rows, precision) in self._precisions.items():
            out[m, rows] = precision @ self.e[m, rows]
        return out

    def held_out(self, e: Array, fold: NDArray[np.int64]) -> Array:
        """What is left of ``e (S, M, N)`` in fold s when it is predicted from the other folds' ``e[s]``: ``(M, N)``.

        Closed form: the block of the precision that belongs to the fold (Rasmussen and Williams 2006, section 5.4.2).
        """
        out = np.full(self.e.shape, np.nan)
        for m, (rows, precision) in self._precisions.items():
            for s in range(len(e)):
                inside = np.flatnonzero(fold[rows] == s)
                if inside.size:
                    block = precision[np.ix_(inside, inside)]
                    out[m, rows[inside]] = np.linalg.solve(block, precision[inside] @ e[s, m, rows])
        return out

    def write(self, build: Builder, metric: int, place: NDArray[np.int64]) -> int:
        """The mean at a mixture whose domains are in the order ``place``: one number."""
        size = self.u.shape[1]
        kernel, _, linear = np.exp(2 * self.theta[size + 1 :])
        rows = self._precisions[metric][0]
        runs, alpha = self.u[np.ix_(rows, place)], self.alpha[metric, rows]
        weights = build.weights()
        if (self.blend != np.eye(size)).any():
            weights = build.matmul(self.blend[np.ix_(place, place)], weights)
        u = write_roots(build, weights, self.scale[place])
        near = write_kernels(build, u, runs, self._lengths(self.theta, metric)[place])
        parts = [build.matmul(kernel * alpha[None], near), build.const(self.belief.level * alpha.sum())]
        if self.belief.linear:
            parts.append(build.matmul(linear * (alpha @ runs)[None], u))
        return build.apply("add", *parts)


def _mirrored(lower: Array) -> Array:
    """The symmetric matrix of which the lower half is given."""
    return np.asarray(np.tril(lower) + np.tril(lower, -1).T)


def _inverse(C: Array) -> Array:
    """Of a positive definite matrix, at half the cost of any other."""
    from scipy.linalg.lapack import dpotrf, dpotri

    L, failed = dpotrf(C, lower=1)
    return np.asarray(np.linalg.pinv(C, hermitian=True)) if failed else _mirrored(dpotri(L, lower=1)[0])
