"""The best mixture a fit knows within an objective's bounds, and how sure that is.

Notation: D domains, M metrics; w a mixture ``(D,)``; q ``(M,)`` the objective's weights of the metrics; f(w) the weighted
mean of predicted losses, which is minimized; f* its least value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixwright.core.errors import DataError
from mixwright.core.mixture import Mixture
from mixwright.core.objective import Objective
from mixwright.core.recipe import Forecast
from mixwright.laws import Z90, GraphFit
from mixwright.optimize.search import Search
from mixwright.optimize.simplex import Region

Array = NDArray[np.float64]
#: the name of the weighted mean of metrics among forecasts
OBJECTIVE = "objective"
#: a weight this close to a bound is on it
_ON_BOUND = 1e-5
#: an L1 distance from the swept mixtures' hull beyond which a prediction is called extrapolation
_FAR = 0.02


@dataclass(frozen=True)
class Optimum:
    """The best mixture with its reasons.

    ``gain`` is the objective's predicted difference to ``natural`` (negative is better), ``forecasts`` that of each metric,
    ``losses`` the predicted losses themselves at the scale of the runs, all with 90 % intervals for the expectation.
    ``gap`` bounds how much lower f could be anywhere in the region, if the law is convex (additive, exponential, linear
    are). ``active`` are sentences on the bounds that bind and what they cost, ``notes`` what a reader must know.
    ``ranges`` gives per domain the smallest and largest weight among mixtures as good as this one (f within
    ``tolerance`` of f*), and ``nearest`` is the mixture closest to natural among them. ``epochs`` is empty without supplies.
    """

    mixture: Mixture
    natural: Mixture
    gain: Forecast
    forecasts: tuple[Forecast, ...]
    losses: tuple[Forecast, ...]
    gap: float
    tolerance: float
    ranges: Mapping[str, tuple[float, float]]
    nearest: Mixture
    active: tuple[str, ...] = ()
    epochs: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def optimize(
    fit: GraphFit,
    objective: Objective,
    *,
    natural: Mixture,
    tokens: float | None = None,
    supply: Sequence[float] | NDArray[Any] | None = None,
) -> Optimum:
    """The mixture with the least predicted objective within all bounds, compared with ``natural``.

    ``tokens`` of the run it is for and ``supply`` (unique tokens per domain, in the fit's order) turn the epoch cap into
    bounds. Raises StudyError when the bounds contradict each other or the objective names an unknown metric, DataError
    when ``natural`` is over other domains. Deterministic. Cost: some hundredths of a CPU-second.
    """
    if set(natural.domains) != set(fit.domains):
        raise DataError(
            f"The natural mixture is over {', '.join(natural.domains)}, but the fit over {', '.join(fit.domains)}."
        )
    base = natural.over(fit.domains)
    q = objective.metric_weights(fit.metrics)
    region = Region.of(objective, fit.domains, tokens=tokens, supply=supply)
    search = Search(fit, q, region)
    best = search.minimum(base.weights)
    value, slope = search.slope(best)
    tolerance = _tolerance(fit, q, best, base.weights)
    near = search.back(region.project(base.weights[None])[0], best, value + tolerance)
    gain = _difference(fit, OBJECTIVE, best, base.weights, q)
    epochs = {}
    if tokens and supply is not None:
        amount = np.asarray(supply, dtype=np.float64)
        epochs = {d: float(w * tokens / s) for d, w, s in zip(fit.domains, best, amount, strict=True) if s > 0}
    return Optimum(
        mixture=Mixture.normalized(fit.domains, best), natural=base, gain=gain,
        forecasts=tuple(_difference(fit, m, best, base.weights, row) for m, row in zip(fit.metrics, np.eye(len(q)), strict=True)),
        losses=_losses(fit, best, q), gap=max(0.0, float(slope @ best) - region.least(slope)[1]), tolerance=tolerance,
        ranges=_ranges(search, best, value + tolerance), nearest=Mixture.normalized(fit.domains, near),
        active=_active(region, objective, best, slope, tokens, supply), epochs=epochs,
        notes=_notes(fit, objective, best, base.weights, gain, q, bool(epochs)),
    )  # fmt: skip


def _ranges(search: Search, best: Array, below: float) -> dict[str, tuple[float, float]]:
    """Per domain, how small and how large its weight may be with f at most ``below``."""
    out = {}
    for d, name in enumerate(search.fit.domains):
        row = np.eye(len(best))[d]
        least, most = (float(search.edge(best, sign * row, below)[d]) for sign in (-1.0, 1.0))
        out[name] = (min(least, float(best[d])), max(most, float(best[d])))
    return out


def _tolerance(fit: GraphFit, q: Array, best: Array, natural: Array) -> float:
    """How much worse still counts as as good: half the seed noise of the objective, or of what is known instead.

    Without repeats it is half the spread of the difference to natural.
    """
    noise = fit.seed_noise(q)
    if np.isfinite(noise):
        return 0.5 * noise
    return 0.5 * float(fit.difference(best[None], natural, q)[1][0])


def _difference(fit: GraphFit, name: str, best: Array, natural: Array, q: Array) -> Forecast:
    mean, spread = (float(part[0]) for part in fit.difference(best[None], natural, q))
    return Forecast(name, "difference", mean, mean - Z90 * spread, mean + Z90 * spread, reference="natural")


def _losses(fit: GraphFit, best: Array, q: Array) -> tuple[Forecast, ...]:
    """The predicted losses of the objective and every metric, at the size and tokens of the runs."""
    each = fit.predict(best[None])
    rows = [
        (OBJECTIVE, float(fit.mean(best[None], q)[0]), float(fit.spread(best[None], q)[0])),
        *zip(fit.metrics, each.mean[0].tolist(), each.spread[0].tolist(), strict=True),
    ]
    return tuple(Forecast(m, "loss", v, v - Z90 * s, v + Z90 * s) for m, v, s in rows)


def _active(
    region: Region,
    objective: Objective,
    best: Array,
    slope: Array,
    tokens: float | None,
    supply: Sequence[float] | NDArray[Any] | None,
) -> tuple[str, ...]:
    """A sentence per bound that binds, with its shadow price: what one hundredth more room would give."""
    from scipy.optimize import nnls

    size = len(best)
    rules: list[tuple[str, Array]] = []  # name and outward normal
    for d, name in enumerate(region.domains):
        if region.high[d] - region.low[d] <= _ON_BOUND:
            rules += [(f"{name} is held at {best[d]:.4g}", sign * np.eye(size)[d]) for sign in (1, -1)]
        elif best[d] - region.low[d] <= _ON_BOUND and region.low[d] > 0:
            rules.append((f"The floor of {name} ({region.low[d]:.4g}) binds", -np.eye(size)[d]))
        elif best[d] - region.low[d] <= _ON_BOUND:
            rules.append((f"{name} gets nothing: it has no floor", -np.eye(size)[d]))
        elif region.high[d] - best[d] <= _ON_BOUND and region.high[d] < 1:
            rules.append((_top(region.domains[d], d, region, objective, tokens, supply), np.eye(size)[d]))
    sums = region.member @ best
    for g, name in enumerate(region.groups):
        if sums[g] - region.floor[g] <= _ON_BOUND and region.floor[g] > 0:
            rules.append((f"The floor of group {name} ({region.floor[g]:.4g}) binds", -region.member[g]))
        if region.ceiling[g] - sums[g] <= _ON_BOUND and region.ceiling[g] < 1:
            rules.append((f"The ceiling of group {name} ({region.ceiling[g]:.4g}) binds", region.member[g]))
    if not rules:
        return ()
    ones = np.ones(size)
    prices, _ = nnls(np.stack([ones, -ones, *(normal for _, normal in rules)], axis=1), -slope)
    out: dict[str, float] = {}
    for (words, _), price in zip(rules, prices[2:], strict=True):
        out[words] = out.get(words, 0.0) + float(price)
    return tuple(
        f"{words}."
        if words.endswith("no floor")
        else f"{words}; 0.01 more room would lower the objective by {price / 100:.2g}."
        for words, price in out.items()
    )


def _top(
    name: str,
    d: int,
    region: Region,
    objective: Objective,
    tokens: float | None,
    supply: Sequence[float] | NDArray[Any] | None,
) -> str:
    """Whether the ceiling or the epoch cap holds a domain down."""
    if objective.epoch_cap is not None and tokens and supply is not None:
        cap = objective.epoch_cap * float(supply[d]) / tokens
        if cap <= objective.ceilings.get(name, 1.0):
            return (
                f"The epoch cap of {name} binds ({objective.epoch_cap:g} epochs of {float(supply[d]):,.0f} tokens: a weight of "
                f"at most {cap:.4g})"
            )
    return f"The ceiling of {name} ({region.high[d]:.4g}) binds"


def _notes(
    fit: GraphFit, objective: Objective, best: Array, natural: Array, gain: Forecast, q: Array, epochs: bool
) -> tuple[str, ...]:
    """What a reader must know before believing it."""
    notes = []
    if gain.high >= 0:
        notes.append(
            f"These runs cannot tell this mixture from natural: the predicted difference is {gain.value:+.4f} "
            f"({gain.low:+.4f} to {gain.high:+.4f}), which includes no gain."
        )
    if not epochs:
        notes.append("Epochs are unknown: no supplies were given." if not objective.epoch_cap else
                     "Epochs are unknown and the epoch cap binds nothing: no supplies were given.")  # fmt: skip
    if not np.isfinite(fit.seed_noise(q)):
        notes.append("No mixture was trained twice, so the seed noise is unknown.")
    for what, w in (("The best mixture", best), ("The natural mixture", natural)):
        away = hull_distance(w, fit.swept)
        if away > _FAR:
            notes.append(
                f"{what} lies outside what the swept mixtures span (by {away:.2f} in L1): its prediction is an extrapolation."
            )
    notes += [f"{m}: {s}." for m, s, x in zip(fit.metrics, fit.status, q, strict=True) if s != "converged" and x > 0]
    return tuple(notes)


def hull_distance(w: Array, points: Array) -> float:
    """The L1 distance of ``w (D,)`` from the convex hull of ``points (R, D)``: a linear program."""
    from scipy.optimize import linprog

    count, size = points.shape
    cost = np.concatenate([np.zeros(count), np.ones(2 * size)])
    equal = np.block([[points.T, np.eye(size), -np.eye(size)], [np.ones((1, count)), np.zeros((1, 2 * size))]])
    found = linprog(cost, A_eq=equal, b_eq=np.append(w, 1.0), bounds=[(0, None)] * len(cost))
    return float(max(found.fun, 0.0))
