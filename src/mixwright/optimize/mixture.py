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
from mixwright.core.rng import rng as stream
from mixwright.laws import GraphFit
from mixwright.optimize.simplex import Region

Array = NDArray[np.float64]
#: the name of the weighted mean of metrics among forecasts
OBJECTIVE = "objective"
#: a normal variable lies within this many standard deviations in 90 % of cases
_Z90 = 1.6448536269514722
#: mixtures drawn from the region from which the search starts, and how many of the best of them it starts from
_DRAWS, _STARTS = 512, 4
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
    best = _search(fit, q, region, base.weights)
    value, slope = (part[0] for part in fit.mean_and_slope(best[None], q))
    tolerance = _tolerance(fit, q, best, base.weights)
    near = _near(fit, q, region, best, value + tolerance, base.weights)
    gain = _difference(fit, OBJECTIVE, best, base.weights, q)
    epochs = {}
    if tokens and supply is not None:
        amount = np.asarray(supply, dtype=np.float64)
        epochs = {d: float(w * tokens / s) for d, w, s in zip(fit.domains, best, amount, strict=True) if s > 0}
    return Optimum(
        mixture=Mixture.normalized(fit.domains, best), natural=base, gain=gain,
        forecasts=tuple(_difference(fit, m, best, base.weights, row) for m, row in zip(fit.metrics, np.eye(len(q)), strict=True)),
        losses=_losses(fit, best, q), gap=max(0.0, float(slope @ best) - region.least(slope)[1]), tolerance=tolerance,
        ranges=_ranges(fit, q, region, best, value + tolerance), nearest=Mixture.normalized(fit.domains, near),
        active=_active(region, objective, best, slope, tokens, supply), epochs=epochs,
        notes=_notes(fit, objective, best, base.weights, gain, q, bool(epochs)),
    )  # fmt: skip


def _search(fit: GraphFit, q: Array, region: Region, natural: Array) -> Array:
    """The minimizer of f over the region: several starts, each followed down with exact gradients."""
    seen = fit.swept[region.contains(fit.swept)]
    draws = region.sample(_DRAWS, stream(0, "optimize", *fit.domains))
    points = np.concatenate([region.project(np.stack([natural, np.full_like(natural, 1 / len(natural))])), seen, draws])
    order = np.argsort(fit.mean(points, q), kind="stable")
    found = [_descend(fit, q, region, points[n]) for n in (0, *order[:_STARTS])]
    return min(found, key=lambda w: float(fit.mean(w[None], q)[0]))


def _descend(
    fit: GraphFit, q: Array, region: Region, start: Array, *, toward: Array | None = None, below: float = np.inf
) -> Array:
    """From ``start`` to the nearest minimum of f within the region.

    With ``toward (D,)`` the minimum of ``toward · w`` among mixtures with f at most ``below`` instead.
    """
    from scipy.optimize import minimize

    scale = 1.0 / max(float(np.ptp(fit.mean(np.stack([start, region.centre()]), q))), 1e-3)
    rules: list[dict[str, Any]] = [{"type": "eq", "fun": lambda w: w.sum() - 1, "jac": lambda w: np.ones_like(w)}]
    for row, floor, ceiling in zip(region.member, region.floor, region.ceiling, strict=True):
        rules.append({"type": "ineq", "fun": lambda w, a=row, b=floor: a @ w - b, "jac": lambda w, a=row: a})
        rules.append({"type": "ineq", "fun": lambda w, a=row, b=ceiling: b - a @ w, "jac": lambda w, a=row: -a})

    def f(w: Array) -> tuple[float, Array]:
        value, slope = fit.mean_and_slope(w[None], q)
        return float(value[0]) * scale, slope[0] * scale

    target: Any = f
    if toward is not None:
        rules.append({"type": "ineq", "fun": lambda w: below * scale - f(w)[0], "jac": lambda w: -f(w)[1]})
        target = lambda w: (float(toward @ w), toward)  # noqa: E731
    best = start
    for _ in range(3):  # restarting forgets a curvature learned far away
        result = minimize(
            target, best, jac=True, method="SLSQP", bounds=list(zip(region.low, region.high, strict=True)),
            constraints=rules, options={"ftol": 1e-14, "maxiter": 300},
        )  # fmt: skip
        w = region.project(result.x[None])[0]
        if toward is None and f(w)[0] >= f(best)[0]:
            break
        best = w
    return best
