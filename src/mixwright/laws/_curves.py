"""Families of curves that bend alike: one exponent for all, a level and a slope for each, shrunk towards each other.

Notation: K curves, T places, M metrics, B draws; x ``(K, T)`` places as multiples of a reference, y ``(K, T, M)`` losses,
β ``(K, M, 2)`` level and slope; a curve is ``y = level - slope bend(x, power)`` with ``bend(x, p) = (1 - x^-p) / p``, so that
the level is the loss at the reference and the slope its fall per unit of log x there, whatever the power (Box and Cox
1964): a power law ``E + A x^-p`` whose coefficients stay put while the exponent moves.

Levels and slopes of one metric are taken as normal over the curves, ``β ~ N(μ, Σ)``, with μ, Σ and the noise found by
expectation-maximization (random coefficients, Laird and Ware 1982): a curve of few or noisy points leans on the others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
#: the exponents tried
POWERS = np.linspace(0.02, 1.2, 60)
#: fewer curves than this are not shrunk: they do not tell how curves scatter
_FEWEST = 4
#: rounds of expectation-maximization; the variances settle long before the last
_ROUNDS = 40


@dataclass(frozen=True, eq=False)
class Curves:
    """``x (K, T)``, ``y (K, T, M)`` (0 where not ``known (K, T, M)``); a place holds the same moment in every curve."""

    x: Array
    y: Array
    known: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Population:
    """How the curves of each metric scatter: ``centre (M, 2)``, ``covariance (M, 2, 2)``, and ``noise (M,)``, a variance."""

    centre: Array
    covariance: Array
    noise: Array


@dataclass(frozen=True)
class Exponent:
    """What curves alone say of their exponent: ``mean``, and ``precision`` (one over the variance; 0: nothing)."""

    mean: float
    precision: float


def bend(x: Array, power: Array | float) -> Array:
    """``(1 - x^-power) / power``."""
    return np.asarray(-np.expm1(-np.asarray(power) * np.log(x)) / power)


def along(beta: Array, bent: Array) -> Array:
    """The curves with ``beta (..., K, M, 2)`` where ``bend`` is ``bent (..., K)``: ``(..., K, M)``."""
    return np.asarray(beta[..., 0] - beta[..., 1] * bent[..., None])


def least_squares(curves: Curves, power: float) -> Array:
    """Level and slope ``(K, M, 2)`` of each curve by itself; NaN where it has fewer than two points."""
    gram, moment = _moments(curves, power)
    enough = curves.known.sum(axis=1) >= 2
    beta = np.full(moment.shape, np.nan)
    beta[enough] = np.linalg.solve(gram[enough] + 1e-12 * np.eye(2), moment[enough][:, :, None])[:, :, 0]
    return beta


def residuals(curves: Curves, power: float, beta: Array) -> Array:
    """Measured less fitted, ``(K, T, M)``; 0 where not measured or the curve has no coefficients."""
    fitted = beta[:, None, :, 0] - beta[:, None, :, 1] * bend(curves.x, power)[:, :, None]
    return np.where(curves.known & np.isfinite(fitted), curves.y - fitted, 0.0)


def population(curves: Curves, power: float) -> Population:
    """Centre, scatter and noise of the curves. Cost: some 40 K M solutions of two equations."""
    alone = least_squares(curves, power)
    off = residuals(curves, power, alone)
    free = np.maximum(curves.known.sum(axis=1) - 2, 0).sum(axis=0)
    noise = np.maximum((off**2).sum(axis=(0, 1)) / np.maximum(free, 1), 1e-12)
    known = np.isfinite(alone[..., 0])
    count = known.sum(axis=0)
    filled = np.where(known[..., None], alone, 0.0)
    centre = filled.sum(axis=0) / np.maximum(count, 1)[:, None]
    away = np.where(known[..., None], alone - centre, 0.0)
    wide = np.einsum("kmi,kmj->mij", away, away) / np.maximum(count - 1, 1)[:, None, None]
    found = Population(centre, wide + 1e-10 * np.eye(2), noise)
    if len(curves.y) < _FEWEST:
        return replace(found, covariance=np.broadcast_to(1e6 * np.eye(2), wide.shape))
    for _ in range(_ROUNDS):
        found = _improved(curves, power, found)
    return found


def shrunk(curves: Curves, power: float, scatter: Population, centre: Array | None = None) -> Array:
    """Expected level and slope ``(K, M, 2)`` given all; ``centre (K, M, 2)``: other centres than the population's."""
    around = scatter.centre[None] if centre is None else centre
    return _posterior(curves, power, scatter, around)[0]


def recentred(curves: Curves, power: float, scatter: Population) -> Population:
    """The population with its centre found anew for these losses and this exponent, its scatter kept."""
    for _ in range(3):
        scatter = replace(scatter, centre=shrunk(curves, power, scatter).mean(axis=0))
    return scatter


@dataclass(frozen=True, eq=False)
class Yardstick:
    """How much residuals weigh: ``noise (M,)``, a variance, and ``effect (T,)``, the points at a place that count as one.

    Errors are alike across curves at one place and across metrics, so each point counts as one over the design effect
    (Kish 1965) ``(1 + (n - 1) rho)`` of both, the rho measured on residuals.
    """

    noise: Array
    effect: Array

    @classmethod
    def of(cls, curves: Curves) -> Yardstick:
        """From the residuals at the exponent that fits best; infinite noise where no curve has more than two points."""
        squares = np.stack([place_squares(curves, power).sum(axis=0) for power in POWERS[::3]])  # (P, M)
        free = np.maximum(curves.known.sum(axis=1) - 2, 0).sum(axis=0)
        noise = np.where(free > 0, np.maximum(squares.min(axis=0) / np.maximum(free, 1), 1e-12), np.inf)
        power = float(POWERS[::3][int((squares / noise).sum(axis=1).argmin())])
        off = residuals(curves, power, least_squares(curves, power)) / np.sqrt(noise)
        between, metrics = _alike(off, curves.known, 0), _alike(off, curves.known, 2)
        count = curves.known.any(axis=2).sum(axis=0)
        wide = curves.known.sum(axis=2).max(axis=0, initial=1)
        return cls(noise, (1 + (np.maximum(count, 1) - 1) * between) * (1 + (np.maximum(wide, 1) - 1) * metrics))

    def misfit(self, squares: Array) -> Array:
        """Minus twice the log-likelihood of sums of squares ``(..., T, M)``."""
        return np.asarray((squares / self.noise).sum(axis=-1) @ (1 / self.effect))


def exponent(curves: Curves) -> Exponent:
    """What curves say of their exponent: the mean and precision of the likelihood over ``POWERS``.

    Curves need three points to say anything.
    """
    yardstick = Yardstick.of(curves)
    if not np.isfinite(yardstick.noise).any():
        return Exponent(float(POWERS.mean()), 0.0)
    misfit = np.array([float(yardstick.misfit(place_squares(curves, power))) for power in POWERS])
    likelihood = np.exp(-0.5 * (misfit - misfit.min()))
    likelihood /= likelihood.sum()
    mean = float(likelihood @ POWERS)
    return Exponent(mean, 1 / max(float(likelihood @ (POWERS - mean) ** 2), 1e-6))


def place_squares(curves: Curves, power: float) -> Array:
    """Sums over the curves of squared residuals of each curve's own least squares, ``(T, M)``."""
    return np.asarray((residuals(curves, power, least_squares(curves, power)) ** 2).sum(axis=0))


def _moments(curves: Curves, power: float) -> tuple[Array, Array]:
    """``X'X (K, M, 2, 2)`` and ``X'y (K, M, 2)`` of the columns 1 and -bend."""
    columns = np.stack([np.ones_like(curves.x), -bend(curves.x, power)], axis=2)
    known = curves.known.astype(float)
    pairs = columns[:, :, :, None] * columns[:, :, None, :]
    gram = np.einsum("ktm,ktij->kmij", known, pairs, optimize=True)
    return gram, np.einsum("ktm,kti->kmi", known * curves.y, columns, optimize=True)


def _posterior(curves: Curves, power: float, scatter: Population, centre: Array) -> tuple[Array, Array]:
    """Mean ``(K, M, 2)`` and covariance ``(K, M, 2, 2)`` of the coefficients."""
    gram, moment = _moments(curves, power)
    inverse = np.linalg.inv(scatter.covariance)
    covariance = np.linalg.inv(gram / scatter.noise[None, :, None, None] + inverse[None])
    right = moment / scatter.noise[None, :, None] + np.einsum(
        "mij,kmj->kmi", inverse, np.broadcast_to(centre, moment.shape)
    )
    return np.einsum("kmij,kmj->kmi", covariance, right), covariance


def _improved(curves: Curves, power: float, old: Population) -> Population:
    beta, spread = _posterior(curves, power, old, old.centre[None])
    centre = beta.mean(axis=0)
    away = beta - centre
    covariance = (np.einsum("kmi,kmj->mij", away, away) + spread.sum(axis=0)) / len(beta)
    gram, _ = _moments(curves, power)
    off = (residuals(curves, power, beta) ** 2).sum(axis=(0, 1)) + np.einsum("kmij,kmji->m", gram, spread)
    noise = np.maximum(off / np.maximum(curves.known.sum(axis=(0, 1)), 1), 1e-12)
    return Population(centre, covariance + 1e-12 * np.eye(2), noise)


def _alike(off: Array, known: NDArray[np.bool_], axis: int) -> float:
    """The correlation of residuals along one axis, from the products of pairs there; at least 0."""
    count = known.sum(axis=axis)
    square = (off**2).sum() / max(int(known.sum()), 1)
    pairs = (off.sum(axis=axis) ** 2 - (off**2).sum(axis=axis)).sum()
    possible = float((count * (count - 1)).sum())
    return min(1.0, max(0.0, float(pairs) / max(possible * square, 1e-300))) if possible else 0.0
