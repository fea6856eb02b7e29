"""Many small least-squares problems at once: Levenberg-Marquardt, batched.

Notation: K problems, N data, P parameters, Q prior terms; θ ``(K, P)`` parameters, f ``(K, N)`` predictions, J ``(K, N, P)``
their derivatives; w ``(K, N)`` weights of the data, s ``(K,)`` the scale of the residuals z = (f - y) / s.

Each problem minimizes ``sum_n w_n rho(z_n) / 2 + |R θ - q|² / 2`` over ``low <= θ <= high``, where rho(z) is z², or Huber's
z² inside and 2δ|z| - δ² outside the threshold δ ``(K,)``. Problems do not touch each other: a batch gives what each alone gives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
#: ``model(θ)`` gives f ``(K, N)`` and J ``(K, N, P)``
Model = Callable[[Array], tuple[Array, Array]]

#: numbers of J held at once, 8 bytes each
_CHUNK = 1 << 21
#: a problem rests when its damping has grown beyond this: no step helps
_STUCK = 1e10
#: damping below this leaves a step as long as it wants to be
_FREE = 0.1
#: how often a step is solved anew because parameters met their bounds
_ROUNDS = 4
#: a parameter this close to its bound is on it
_ON_BOUND = 1e-12


@dataclass(frozen=True)
class Problems:
    """The data of K problems; ``R (K, Q, P)`` and ``q (K, Q)`` are the prior, ``low``/``high (K, P)`` the bounds."""

    y: Array
    w: Array
    scale: Array
    R: Array
    q: Array
    low: Array
    high: Array
    delta: Array

    def take(self, rows: NDArray[np.int64] | slice) -> Problems:
        """Some of them."""
        return Problems(
            self.y[rows], self.w[rows], self.scale[rows], self.R[rows], self.q[rows], self.low[rows], self.high[rows],
            self.delta[rows],
        )  # fmt: skip

    @classmethod
    def joined(cls, parts: Sequence[Problems]) -> Problems:
        """Several batches as one."""
        names = ("y", "w", "scale", "R", "q", "low", "high", "delta")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def objective(self, theta: Array, f: Array) -> Array:
        """What is minimized, ``(K,)``; inf where it cannot be computed."""
        z = np.abs(f - self.y) / self.scale[:, None]
        inside = np.minimum(z, self.delta[:, None])
        rho = inside * (2 * z - inside)
        prior = (np.matmul(self.R, theta[:, :, None])[:, :, 0] - self.q) ** 2
        total = 0.5 * ((self.w * rho).sum(axis=1) + prior.sum(axis=1))
        return np.where(np.isfinite(total), total, np.inf)


@dataclass(frozen=True)
class Solved:
    """Where each problem came to rest: ``theta (K, P)``, ``objective (K,)`` and whether it ``settled (K,)``."""

    theta: Array
    objective: Array
    settled: NDArray[np.bool_]


def solve(
    model: Model, start: Array, problems: Problems, *, iterations: int = 1000, tolerance: float = 1e-10
) -> Solved:
    """Minimize every problem from its ``start (K, P)``.

    A problem rests when a step lowers its objective by less than the part ``tolerance`` of it. Cost per iteration and
    problem: one evaluation of the model and about N P² + P³ operations. Memory is bounded by taking the problems in parts.
    """
    count, data, width = len(start), problems.y.shape[1], start.shape[1]
    at_once = max(1, _CHUNK // max(1, data * width))
    parts = [
        _solve(model, start[n : n + at_once], problems.take(slice(n, n + at_once)), iterations, tolerance)
        for n in range(0, count, at_once)
    ]
    return Solved(
        np.concatenate([part.theta for part in parts]),
        np.concatenate([part.objective for part in parts]),
        np.concatenate([part.settled for part in parts]),
    )


def _solve(model: Model, start: Array, problems: Problems, iterations: int, tolerance: float) -> Solved:
    theta = np.clip(start, problems.low, problems.high)
    with np.errstate(over="ignore", invalid="ignore"):
        f, J = model(theta)
        best = problems.objective(theta, f)
        damping = np.full(len(theta), 1e-3)
        settled = np.zeros(len(theta), dtype=bool)
        active = np.arange(len(theta))
        for _ in range(iterations):
            part = problems.take(active)
            step = _step(part, theta[active], f[active], J[active], damping[active])
            trial = np.clip(theta[active] + step, part.low, part.high)
            new_f, new_J = model(trial)
            new = part.objective(trial, new_f)
            better = new < best[active]
            gained = best[active] - new
            free = damping[active] < _FREE  # a strongly damped step gains little wherever it starts
            rest = better & free & (gained <= tolerance * best[active]) | ~better & (damping[active] > _STUCK)
            won = active[better]
            theta[won], f[won], J[won], best[won] = trial[better], new_f[better], new_J[better], new[better]
            damping[active] = np.where(better, np.maximum(damping[active] * 0.1, 1e-12), damping[active] * 8)
            settled[active[rest]] = True
            active = active[~rest]
            if not active.size:
                break
    return Solved(theta, best, settled)


def _step(part: Problems, theta: Array, f: Array, J: Array, damping: Array) -> Array:
    """The damped Gauss-Newton step of each problem, within its bounds."""
    z = (f - part.y) / part.scale[:, None]
    h = part.w * np.minimum(1.0, part.delta[:, None] / np.maximum(np.abs(z), 1e-300))
    J = J / part.scale[:, None, None]
    hJ = J * h[:, :, None]
    Rt = part.R.transpose(0, 2, 1)
    away = np.matmul(part.R, theta[:, :, None])[:, :, 0] - part.q
    gradient = np.matmul(hJ.transpose(0, 2, 1), z[:, :, None])[:, :, 0] + np.matmul(Rt, away[:, :, None])[:, :, 0]
    H = np.matmul(hJ.transpose(0, 2, 1), J) + np.matmul(Rt, part.R)
    diagonal = np.einsum("kpp->kp", H)
    diagonal += damping[:, None] * diagonal + 1e-12 * diagonal.max(axis=1, keepdims=True)
    sound = np.isfinite(H).all(axis=(1, 2)) & np.isfinite(gradient).all(axis=1) & (diagonal > 0).all(axis=1)
    H[~sound], gradient[~sound] = np.eye(H.shape[1]), 0.0
    return _within(H, gradient, part.low - theta, part.high - theta)


def _within(H: Array, gradient: Array, low: Array, high: Array) -> Array:
    """Steps that lower ``gradient · step + step · H step / 2`` within bounds.

    Parameters that would leave, first those that the slope itself drives out, are set on their bound and the others
    solved anew, given that, until none leaves (or after a few rounds, when what still leaves is cut off).
    """
    up, down = gradient < 0, gradient > 0
    fixed = (low >= -_ON_BOUND) & down | (high <= _ON_BOUND) & up
    step = np.where(fixed, 0.0, np.inf)
    for _ in range(_ROUNDS):
        A = np.where(fixed[:, :, None], np.eye(H.shape[1]), H)
        right = np.where(fixed, np.where(np.isfinite(step), step, 0.0), -gradient)
        step = np.linalg.solve(A, right[:, :, None])[:, :, 0]
        outside = ((step < low) | (step > high)) & ~fixed
        if not outside.any():
            break
        step = np.clip(step, low, high)
        led = outside & np.where(step >= high, up, down)  # the others may only follow these
        fixed |= np.where(led.any(axis=1, keepdims=True), led, outside)
    return np.clip(step, low, high)
