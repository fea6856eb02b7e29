"""What a fit and its runs leave possible: many worlds, each with a loss for every candidate mixture at every size.

Notation: D domains, M metrics, R measured runs, C candidate mixtures, K places (a candidate at a size), S worlds; q ``(M,)``
metric weights; L the weighted mean of losses.

A world is one member of the fit's ensemble plus a misfit drawn from a Gaussian process (Matérn 3/2 in the square roots of
weights, its length half the median distance of the swept mixtures: smooth, so that many candidates close together are no
more chances to be better than one), corrected so that it passes through what was measured (Matheron's rule, see Wilson et
al. 2020, arXiv:2002.09309). The size of the misfit is that of held-out errors near the best
mixtures: losses of bad mixtures are missed by far more, and do not matter to the choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mixwright.core.errors import DataError
from mixwright.core.observation import Runs
from mixwright.laws import GraphFit

Array = NDArray[np.float64]
#: how many worlds are imagined
WORLDS = 256
#: correlation of a law's misfit between model sizes (or token counts) ten times apart; on the published runs of 5 and 7
#: domains (Ye et al. 2024) held-out errors of the additive law, 70M against 160M, 305M and 410M: .72 and .62, .64 and .67,
#: .54 and .51, medians over metrics, with the noise of single runs in them
ALIKE = 0.6
#: runs count as near the best within so many standard deviations of the runs' predicted losses
_NEAR = 0.25
#: sizes and tokens closer than this part are one setting
_SAME_SETTING = 0.02
#: what is added to the misfit's covariance, over its variance, so that it stays positive definite
_JITTER = 1e-6


@dataclass(frozen=True)
class Size:
    """Non-embedding ``params`` and training ``tokens`` of a run; None where unknown."""

    params: float | None = None
    tokens: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("params", self.params), ("tokens", self.tokens)):
            if value is not None and not (np.isfinite(value) and value > 0):
                raise DataError(f"A run's {name} must be positive and finite; got {value:g}.")

    @property
    def flops(self) -> float:
        """6 N D, what training costs (Kaplan et al. 2020, arXiv:2001.08361); 1 where either is unknown."""
        return 6.0 * self.params * self.tokens if self.params and self.tokens else 1.0

    def apart(self, other: Size) -> float:
        """How many factors of ten the two are apart, in parameters and tokens together."""
        both = ((self.params, other.params), (self.tokens, other.tokens))
        return float(sum(abs(np.log10(a / b)) for a, b in both if a and b))

    def __str__(self) -> str:
        words = [f"{value:.3g} {name}" for name, value in (("params", self.params), ("tokens", self.tokens)) if value]
        return ", ".join(words) or "the runs' size"


@dataclass(frozen=True, eq=False)
class Measured:
    """The runs of one ``size``: their mixtures ``x (R, D)`` in the fit's order, and L as measured, ``y (R,)``."""

    x: Array
    y: Array
    size: Size | None = None

    @classmethod
    def of(cls, fit: GraphFit, runs: Runs | None, q: Array, size: Size | None = None) -> Measured:
        """Those runs of the fit that measured all metrics with weight, at ``size`` or else at the commonest size."""
        nothing = cls(np.zeros((0, len(fit.domains))), np.zeros(0))
        if runs is None:
            return nothing
        missing = [m for m, weight in zip(fit.metrics, q, strict=True) if weight > 0 and m not in runs.metrics]
        if missing or set(runs.domains) != set(fit.domains):
            raise DataError(
                f"These runs are not those of the fit: they lack {', '.join(missing) or 'some of its domains'}. Fit them again."
            )
        known = set(fit.run_id)
        usable = runs.usable()
        used = [usable.metrics.index(m) for m, weight in zip(fit.metrics, q, strict=True) if weight > 0]
        rows = np.array([name in known for name in usable.run_id]) & np.isfinite(usable.losses[:, used]).all(axis=1)
        usable = usable.take(rows)
        if not len(usable):
            return nothing
        usable = usable.take(_of_size(usable, size))
        order = [usable.domains.index(name) for name in fit.domains]
        own = size or _size(usable)
        return cls(usable.mixtures()[:, order], usable.losses[:, used] @ q[q > 0], own)


def _size(runs: Runs) -> Size:
    """The size of runs that are all of one."""
    params, tokens = float(runs.params[0]), float(runs.tokens[0])
    return Size(params if np.isfinite(params) else None, tokens if np.isfinite(tokens) else None)


def _of_size(runs: Runs, size: Size | None) -> NDArray[np.int64]:
    """The rows of that size; without one, those of the commonest (the larger in a tie)."""
    logs = np.log(np.stack([np.nan_to_num(runs.params, nan=1.0), np.nan_to_num(runs.tokens, nan=1.0)], axis=1))
    if size is None:
        places, count = np.unique(np.round(logs / _SAME_SETTING), axis=0, return_counts=True)
        best = max(range(len(places)), key=lambda n: (count[n], tuple(places[n])))
        wanted = places[best] * _SAME_SETTING
    else:
        wanted = np.log([size.params or np.nan, size.tokens or np.nan])
    away = np.nan_to_num(np.abs(logs - wanted), nan=0.0)
    return np.flatnonzero((away <= _SAME_SETTING).all(axis=1))


@dataclass(frozen=True, eq=False)
class Worlds:
    """L in S worlds: ``target (C, S)`` at the size the choice is for, ``at[k] (C, S)`` at the k-th size a run may have.

    ``noise`` is the standard deviation of one more run about its expectation, ``misfit`` that of the law about the truth.
    """

    points: Array
    target: Array
    at: tuple[Array, ...]
    noise: float
    misfit: float


def imagine(
    fit: GraphFit,
    q: Array,
    points: Array,
    measured: Measured,
    *,
    rng: np.random.Generator,
    target: Size | None = None,
    sizes: Sequence[Size] = (),
    count: int = WORLDS,
) -> Worlds:
    """``count`` worlds at ``points (C, D)``, for the choice at ``target`` (default: where it was measured).

    A fit that knows sizes is taken at each; one that does not predicts the same at all, and its misfit is taken to be other.
    Cost: the ensemble at C mixtures per size, and C^3 / 3 operations.
    """
    home = target if fit.graph.free else measured.size
    here = at_size(fit, home)
    noise, misfit = here.seed_noise(q), near_misfit(here, q)
    noise, length = noise if np.isfinite(noise) else 0.0, misfit_length(fit.swept)
    members = here.members(np.concatenate([points, measured.x]), q)
    member = np.arange(count) % members.shape[1]
    drift = _misfits(np.concatenate([points, measured.x]), misfit, length, rng, count)
    worlds = _through(members[:, member] + drift, points, measured, misfit, length, noise, rng)
    places = {home: worlds}
    for size in dict.fromkeys((target, *sizes)):
        if size not in places and size is not None:
            alike = ALIKE ** size.apart(home) if home is not None else 1.0
            there = at_size(fit, size).members(points, q)[:, member]
            other = np.sqrt(1 - alike**2) * _misfits(points, misfit, length, rng, count)
            places[size] = there + alike * (worlds - members[: len(points), member]) + other
    aim = worlds if target is None else places[target]
    return Worlds(points, aim, tuple(places[size] for size in sizes), noise, misfit)


def at_size(fit: GraphFit, size: Size | None) -> GraphFit:
    """The fit at that size, as far as it knows sizes. DataError if it needs one and is given none."""
    if not fit.graph.free:
        return fit
    missing = [name for name in fit.graph.free if size is None or getattr(size, name) is None]
    if missing:
        raise DataError(
            f"This fit's losses depend on {' and '.join(missing)}: say for which the choice is, as its target."
        )
    assert size is not None
    return fit.at(tokens=size.tokens, params=size.params)


def near_misfit(fit: GraphFit, q: Array) -> float:
    """The standard deviation of L about the law near the best mixtures, from held-out errors of the runs there.

    The mean square of held-out errors, weighted by how close to the best a run is predicted to be, less the members'
    variance and the seed noise, and at least a tenth of itself. Where no run was held out, the fit's own misfit.
    """
    used = np.flatnonzero(q)
    errors = fit.residuals[:, used] @ q[used]
    known = np.isfinite(errors)
    if known.sum() < 3:
        return float(np.sqrt(max(float(q @ fit.misfit @ q), 1e-12)))
    x, errors = fit.swept[known], errors[known]
    loss, variance = fit.mean(x, q), fit.members(x, q).var(axis=1, ddof=1)
    width = max(_NEAR * float(loss.std()), 1e-12)
    weight = np.exp(-0.5 * ((loss - loss.min()) / width) ** 2)
    noise = fit.seed_noise(q)
    square = float(weight @ errors**2 / weight.sum())
    less = float(weight @ variance / weight.sum()) + (noise**2 if np.isfinite(noise) else 0.0)
    return float(np.sqrt(max(square - less, 0.1 * square, 1e-12)))


def _apart(one: Array, other: Array) -> Array:
    """Distances ``(N, K)`` between the square roots of mixtures ``(N, D)`` and ``(K, D)``."""
    product = np.sqrt(np.maximum(one, 0)) @ np.sqrt(np.maximum(other, 0)).T
    return np.asarray(np.sqrt(np.maximum(one.sum(axis=1)[:, None] + other.sum(axis=1) - 2 * product, 0.0)))


def misfit_length(swept: Array) -> float:
    """Half the median distance between different swept mixtures (of at most 500, evenly taken); 1/2 where there is one."""
    points = np.unique(swept, axis=0)
    points = points[np.linspace(0, len(points) - 1, min(len(points), 500)).astype(int)]
    if len(points) < 2:
        return 0.5
    return float(np.median(_apart(points, points)[np.triu_indices(len(points), 1)])) / 2


def _covariance(one: Array, other: Array, misfit: float, length: float) -> Array:
    scaled = np.sqrt(3.0) * _apart(one, other) / length
    return np.asarray(misfit**2 * (1 + scaled) * np.exp(-scaled))


def _misfits(points: Array, misfit: float, length: float, rng: np.random.Generator, count: int) -> Array:
    """Misfits ``(N, count)`` at ``points (N, D)``, drawn together."""
    covariance = _covariance(points, points, misfit, length)
    covariance[np.diag_indices(len(points))] += _JITTER * misfit**2
    return np.asarray(np.linalg.cholesky(covariance) @ rng.standard_normal((len(points), count)))


def _through(
    worlds: Array,
    points: Array,
    measured: Measured,
    misfit: float,
    length: float,
    noise: float,
    rng: np.random.Generator,
) -> Array:
    """The worlds ``(C + R, S)`` at the C points alone, each moved so that it agrees with what was measured."""
    if not len(measured.y):
        return worlds
    scatter = max(noise**2, 100 * _JITTER * misfit**2)
    draws = np.sqrt(scatter) * rng.standard_normal((len(measured.y), worlds.shape[1]))
    wrong = measured.y[:, None] - worlds[len(points) :] - draws
    inner = _covariance(measured.x, measured.x, misfit, length) + scatter * np.eye(len(measured.y))
    across = _covariance(points, measured.x, misfit, length)
    return np.asarray(worlds[: len(points)] + across @ np.linalg.solve(inner, wrong))
