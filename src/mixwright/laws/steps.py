"""How losses fall with training, learning-rate schedule included: from early checkpoints to the loss at any later token count.

Notation: R runs, T checkpoints, M metrics, Z sizes, B members; t tokens seen, η(t) the learning rate over its peak,
S1(t) = ∫ η the forward area in tokens, S2(t) the annealing (0 before any, 1 once the rate has fallen to nothing).

``L(t) = E + A S1(t)^-α - C S2(t)``, the law of Tissue, Wang and Wang (2024, arXiv 2408.11029): progress goes with the sum of
the learning rates, and annealing takes off C nats more. E and A belong to a run and metric, shrunk towards those of the
other runs; α is one number per size, sizes shrunk towards each other; C is one number. Checkpoints near the peak rate
hardly tell C, so it stays where its prior is (see ``StepLaw``); annealed ones of a few runs tell it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, Gt, Interval
from numpy.typing import NDArray

from mixwright.core.errors import DataError, StudyError
from mixwright.core.law import Prediction
from mixwright.core.observation import Runs
from mixwright.laws._calibration import error_correlation
from mixwright.laws._curves import (
    POWERS,
    Curves,
    Exponent,
    Population,
    Yardstick,
    along,
    bend,
    exponent,
    place_squares,
    population,
    recentred,
    residuals,
    shrunk,
)  # fmt: skip

Array = NDArray[np.float64]
#: checkpoints a run needs: two coefficients and something left to see the noise
FEWEST_CHECKPOINTS = 3
#: the annealing from which on checkpoints have a say on C: on published runs that had seen .16 they moved it away from what
#: later checkpoints show, from .042 to .053
_ENOUGH = 0.3
#: how many of its prior's standard deviations C is looked for to either side
_REACH = 6
#: points of the table of a schedule
_TABLE = 4096


@dataclass(frozen=True)
class LearningRate:
    """The shape of a learning-rate schedule, over its peak, in tokens.

    It rises linearly for ``warmup`` tokens, then falls to ``final`` of the peak at ``total`` tokens: along half a cosine, in
    a line, or (``wsd``) in a line over the last ``decay`` of the total after staying at the peak; ``constant`` stays there.
    After ``total`` it stays where it is. ``memory`` tokens is how far annealing lags behind the rate: 1,000 steps in
    arXiv 2408.11029 (its λ = .999); of little consequence unless the rate falls within as many tokens.
    """

    kind: Literal["constant", "linear", "cosine", "wsd"] = "cosine"
    total: Annotated[float, Gt(0)] = 1e11
    warmup: Annotated[float, Ge(0)] = 0.0
    final: Annotated[float, Interval(ge=0, le=1)] = 0.1
    decay: Annotated[float, Interval(gt=0, le=1)] = 0.2
    memory: Annotated[float, Ge(0)] = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.warmup < self.total:
            raise StudyError(
                f"A learning rate warms up for less than its total of {self.total:g} tokens; got {self.warmup:g}."
            )

    def rate(self, tokens: Array | float) -> Array:
        """η at each of ``tokens``, between 0 and 1."""
        t = np.asarray(tokens, dtype=np.float64)
        rising = np.minimum(1.0, t / self.warmup) if self.warmup > 0 else np.ones_like(t)
        begin = self.total * (1 - self.decay) if self.kind == "wsd" else self.warmup
        done = np.clip((t - begin) / max(self.total - begin, 1e-300), 0.0, 1.0)
        fall = {"constant": 0.0 * done, "cosine": 0.5 * (1 - np.cos(np.pi * done))}.get(self.kind, done)
        return np.asarray(rising * (1 - (1 - self.final) * fall))

    def area(self, tokens: Array | float) -> Array:
        """S1: the tokens seen, each counted by its learning rate over the peak."""
        t = np.asarray(tokens, dtype=np.float64)
        grid = np.linspace(0.0, max(self.total, float(np.max(t, initial=0.0))), _TABLE)
        rate = self.rate(grid)
        return np.asarray(np.interp(t, grid, np.concatenate([[0.0], np.cumsum((rate[1:] + rate[:-1]) / 2)]) * grid[1]))

    def annealed(self, tokens: Array | float) -> Array:
        """S2: how much of the peak rate has been taken away, after ``memory``; 0 to ``1 - final``."""
        t = np.asarray(tokens, dtype=np.float64)
        now = np.where(t < self.warmup, 0.0, 1 - self.rate(t))
        if self.memory == 0:
            return np.asarray(now)
        grid = np.linspace(0.0, max(self.total, float(np.max(t, initial=0.0))), _TABLE)
        gone = np.where(grid < self.warmup, 0.0, 1 - self.rate(grid))
        keep = np.exp(-grid[1] / self.memory)
        lagged = np.zeros_like(gone)
        for n in range(1, len(grid)):
            lagged[n] = keep * lagged[n - 1] + (1 - keep) * gone[n]
        return np.asarray(np.interp(t, grid, lagged))


@dataclass(frozen=True)
class StepLaw:
    """Options of the step law; ``rate`` None: the schedule is unknown, and the law a power of tokens.

    α: ``alpha`` ± ``width_alpha`` before any run is seen (Tissue et al. report .5 to .6 for their law), each size about the
    common one with ``width_size``. C: ``drop`` ± ``width_drop`` nats per token for annealing to nothing. Its value is
    calibrated on the two published runs of RedPajama's default mixture (arXiv 2403.16952): fitted on 10k-30k steps, the
    70M and the 160M run meet their annealed checkpoints at 100k with .042 each. Tissue et al. have .08 at a peak of 2e-4.
    """

    rate: LearningRate | None = None
    alpha: Annotated[float, Gt(0)] = 0.4
    width_alpha: Annotated[float, Gt(0)] = 0.05
    width_size: Annotated[float, Gt(0)] = 0.05
    drop: Annotated[float, Ge(0)] = 0.042
    width_drop: Annotated[float, Ge(0)] = 0.015
    members: Annotated[int, Ge(2)] = 64

    def fit(self, runs: Runs, rng: np.random.Generator) -> StepFit:
        """Fit every run of the table, all checkpoints given. Cost: about a CPU-second for 100 runs of 22 metrics.

        Raises DataError for a table without tokens, or a run with fewer than 3 checkpoints of some metric it measures.
        """
        families = _families(runs, self.rate)
        drop, width = self._annealing(families)
        said = [exponent(_annealing_added(f, drop)) for f in families]
        mean, covariance = pooled_exponents(said, self.alpha, self.width_alpha, self.width_size)
        draws = rng.multivariate_normal(mean, covariance, size=self.members, method="cholesky")
        drops = np.maximum(0.0, drop + width * rng.standard_normal(self.members))
        parts = [
            _fit_family(f, float(mean[z]), np.clip(draws[:, z], 0.02, None), drop, drops, rng)
            for z, f in enumerate(families)
        ]
        return _join(families, parts, self, drop, drops, runs)

    def _annealing(self, families: list[_Family]) -> tuple[float, float]:
        """C and its standard deviation once the checkpoints are seen; α is integrated over its prior in each size.

        Only sizes that have seen enough annealing have a say: before, what it does looks like another α. For one α
        squared residuals are quadratic in C, so three values of it tell all others.
        """
        if self.rate is None or self.width_drop == 0:
            return self.drop, 0.0
        families = [family for family in families if family.annealing.max() >= _ENOUGH]
        if not families:
            return self.drop, self.width_drop
        tried = np.maximum(0.0, self.drop + self.width_drop * np.linspace(-_REACH, _REACH, 12 * _REACH + 1))
        belief = -0.5 * ((tried - self.drop) / self.width_drop) ** 2
        powers = POWERS[::3]
        of_power = -0.5 * (powers - self.alpha) ** 2 / (self.width_alpha**2 + self.width_size**2)
        for family in families:
            yardstick = Yardstick.of(_annealing_added(family, self.drop))
            at = self.drop + self.width_drop * np.array([-1.0, 0.0, 1.0])
            three = [[yardstick.misfit(place_squares(_annealing_added(family, c), p)) for p in powers] for c in at]
            whole = np.stack([np.polyval(curve, tried) for curve in np.polyfit(at, np.array(three), 2).T])
            belief = belief + np.logaddexp.reduce(of_power[:, None] - 0.5 * whole, axis=0)
        weight = np.exp(belief - belief.max())
        weight /= weight.sum()
        mean = float(weight @ tried)
        return mean, float(np.sqrt(weight @ (tried - mean) ** 2))


@dataclass(frozen=True, eq=False)
class StepFit:
    """Fitted curves of R runs: ``last`` holds each run's last checkpoint; arrays go by its rows.

    ``alpha (R,)``, ``beta (R, M, 2)`` (loss and fall per log S1 at ``reference (R,)``, with annealing added back), ``noise
    (R, M)`` the standard deviation of one checkpoint about its curve; each member b has its own ``alphas (B, R)``, ``drops
    (B,)``, ``betas (B, R, M, 2)``. ``covariance (M, M)`` is a checkpoint's noise between metrics, at the largest size.
    """

    last: Runs
    rate: LearningRate | None
    reference: Array
    alpha: Array
    drop: float
    beta: Array
    alphas: Array
    drops: Array
    betas: Array
    noise: Array
    covariance: Array

    def mean(self, tokens: float) -> Array:
        """Expected losses ``(R, M)`` at so many tokens; NaN where a run did not measure the metric."""
        bent = bend(_area(self.rate, tokens) / self.reference, self.alpha)
        return along(self.beta, bent) - self.drop * _annealed(self.rate, tokens)

    def members(self, tokens: float) -> Array:
        """The same as each member has it, ``(B, R, M)``: the spread of exponents, annealing and coefficients."""
        bent = bend(_area(self.rate, tokens) / self.reference, self.alphas)
        return along(self.betas, bent) - self.drops[:, None, None] * _annealed(self.rate, tokens)

    def predict(self, tokens: float) -> Prediction:
        """Mean and spread ``(R, M)`` of the expected loss; one checkpoint scatters about it by ``noise``."""
        return Prediction(self.mean(tokens), self.members(tokens).std(axis=0, ddof=1))


@dataclass(frozen=True, eq=False)
class _Family:
    """The runs of one size: ``rows (K,)`` in the table of last checkpoints, their curves, and the annealing at each place."""

    rows: NDArray[np.int64]
    reference: float
    curves: Curves
    annealing: Array


@dataclass(frozen=True, eq=False)
class _Part:
    alpha: float
    alphas: Array
    beta: Array
    betas: Array
    noise: Array
    covariance: Array


def pooled_exponents(said: list[Exponent], centre: float, width: float, between: float) -> tuple[Array, Array]:
    """Posterior mean ``(Z,)`` and covariance ``(Z, Z)`` of exponents that scatter by ``between`` about a common one.

    The common exponent is ``centre`` ± ``width`` before anything is seen.
    """
    count = len(said)
    precision = np.zeros((count + 1, count + 1))
    right = np.zeros(count + 1)
    precision[count, count], right[count] = 1 / width**2, centre / width**2
    for z, one in enumerate(said):
        precision[z, z] = one.precision + 1 / between**2
        precision[count, count] += 1 / between**2
        precision[z, count] = precision[count, z] = -1 / between**2
        right[z] = one.precision * one.mean
    covariance: Array = np.asarray(np.linalg.inv(precision))
    return (covariance @ right)[:count], covariance[:count, :count]


def _area(rate: LearningRate | None, tokens: Array | float) -> Array:
    return np.asarray(tokens, dtype=np.float64) if rate is None else rate.area(tokens)


def _annealed(rate: LearningRate | None, tokens: Array | float) -> Array:
    return np.zeros_like(np.asarray(tokens, dtype=np.float64)) if rate is None else rate.annealed(tokens)


def _families(runs: Runs, rate: LearningRate | None) -> list[_Family]:
    """The runs sorted by size; within a size every token count seen is a place."""
    usable = runs.usable()
    if not np.all(usable.tokens > 0):
        row = int(np.argmin(np.nan_to_num(usable.tokens)))
        raise DataError(
            f"The step law needs the tokens of every checkpoint; run {usable.run_id[row]} has none. Give a column tokens."
        )
    last = usable.last()
    place = {name: row for row, name in enumerate(last.run_id)}
    size = np.nan_to_num(last.params, nan=-1.0)
    out = []
    for params in np.unique(size):
        rows = np.flatnonzero(size == params)
        own = np.flatnonzero(np.isin([place[name] for name in usable.run_id], rows))
        moments, at = np.unique(usable.tokens[own], return_inverse=True)
        curve = {int(row): k for k, row in enumerate(rows)}
        y = np.full((len(rows), len(moments), len(usable.metrics)), np.nan)
        for n, t in zip(own, at, strict=True):
            y[curve[place[usable.run_id[n]]], t] = usable.losses[n]
        known = np.isfinite(y)
        _enough(known, [last.run_id[row] for row in rows], usable.metrics)
        area = _area(rate, moments)
        reference = float(np.exp(np.log(area).mean()))
        x = np.broadcast_to(area / reference, y.shape[:2])
        out.append(_Family(rows, reference, Curves(x, np.where(known, y, 0.0), known), _annealed(rate, moments)))
    return out


def _enough(known: NDArray[np.bool_], names: list[str], metrics: tuple[str, ...]) -> None:
    count = known.sum(axis=1)
    bad = np.argwhere((count > 0) & (count < FEWEST_CHECKPOINTS))
    if bad.size:
        run, metric = bad[0]
        raise DataError(
            f"The step law needs {FEWEST_CHECKPOINTS} checkpoints of a run; {names[run]} has {count[run, metric]} with "
            f"{metrics[metric]}. Keep every step of the table (every_step=True), or leave the run out."
        )


def _annealing_added(family: _Family, drop: float, noise: Array | float = 0.0) -> Curves:
    """The curves as they would be without annealing."""
    curves = family.curves
    y = np.where(curves.known, curves.y + drop * family.annealing[None, :, None] + noise, 0.0)
    return replace(curves, y=y)


def _fit_family(
    family: _Family, alpha: float, alphas: Array, drop: float, drops: Array, rng: np.random.Generator
) -> _Part:
    """Coefficients at the expected exponent, and of each member at its own, from losses with redrawn noise.

    A member's noise is the residuals with signs drawn at random (the wild bootstrap, Liu 1988), once for what all runs
    have in common at a checkpoint and once for what is the run's own; its prior centre is that of another run, which
    makes the member a draw from the posterior (randomize, then optimize: Bardsley et al. 2014).
    """
    curves = _annealing_added(family, drop)
    scatter = population(curves, alpha)
    seen = np.asarray(curves.known.any(axis=1))
    beta = np.where(seen[:, :, None], shrunk(curves, alpha, scatter), np.nan)
    common, own = _noise_parts(curves, alpha, beta)
    deviations = np.nan_to_num(beta - scatter.centre)
    betas = np.empty((len(alphas), *beta.shape))
    for b, power in enumerate(alphas):
        signs = rng.choice([-1.0, 1.0], size=(1 + len(beta), curves.x.shape[1]))
        noise = signs[0][None, :, None] * common + signs[1:, :, None] * own
        drawn = _annealing_added(family, float(drops[b]), noise)
        mine = recentred(drawn, float(power), scatter)
        centre = mine.centre + deviations[rng.permutation(len(beta))]
        betas[b] = shrunk(drawn, float(power), mine, _or_flat(centre, scatter))
    missing = ~np.isfinite(beta)
    betas[:, missing] = np.nan
    sd = np.sqrt(scatter.noise)
    correlation = error_correlation(_holes(curves, residuals(curves, alpha, beta)))
    return _Part(alpha, alphas, beta, betas, np.broadcast_to(sd, beta.shape[:2]), correlation * np.outer(sd, sd))


def _holes(curves: Curves, off: Array) -> Array:
    """Residuals as rows ``(K T, M)``, NaN where not measured."""
    return np.where(curves.known, off, np.nan).reshape(-1, off.shape[2])


def _or_flat(centre: Array, scatter: Population) -> Array:
    """Where curves are not shrunk, their centre has no say and is left alone."""
    free = scatter.covariance[:, 0, 0] > 1e5
    return np.where(free[None, :, None], scatter.centre[None], centre)


def _noise_parts(curves: Curves, alpha: float, beta: Array) -> tuple[Array, Array]:
    """Residuals as what curves have in common at a place ``(1, T, M)`` and each curve's own ``(K, T, M)``, unbiased."""
    off = residuals(curves, alpha, beta)
    count = curves.known.sum(axis=0)
    each = curves.known.sum(axis=1)[:, None, :]
    off = off * np.sqrt(each / np.maximum(each - 2, 1))
    common = np.where(count >= 3, off.sum(axis=0) / np.maximum(count, 1), 0.0)[None]
    return common, np.where(curves.known, off - common, 0.0)


def _join(families: list[_Family], parts: list[_Part], law: StepLaw, drop: float, drops: Array, runs: Runs) -> StepFit:
    last = runs.usable().last()
    count, metrics, members = len(last), len(last.metrics), len(drops)
    reference, alpha, noise = np.empty(count), np.empty(count), np.empty((count, metrics))
    beta, betas, alphas = (
        np.empty((count, metrics, 2)),
        np.empty((members, count, metrics, 2)),
        np.empty((members, count)),
    )
    for family, part in zip(families, parts, strict=True):
        rows = family.rows
        reference[rows], alpha[rows], noise[rows], beta[rows] = family.reference, part.alpha, part.noise, part.beta
        betas[:, rows], alphas[:, rows] = part.betas, part.alphas[:, None]
    return StepFit(last, law.rate, reference, alpha, drop, beta, alphas, drops, betas, noise, parts[-1].covariance)
