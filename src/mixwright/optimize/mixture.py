"""The best mixture a fit knows within an objective's bounds, and how sure that is.

Notation: D domains, M metrics; w a mixture ``(D,)``; q ``(M,)`` the objective's weights of the metrics; f(w) what is minimized:
the weighted mean of predicted losses, or a quantile of its difference to natural; f* its least value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixwright.core.errors import DataError
from mixwright.core.mixture import Mixture
from mixwright.core.objective import Objective
from mixwright.core.recipe import Forecast
from mixwright.laws import Z90, GraphFit
from mixwright.optimize.budgets import limits, refuse
from mixwright.optimize.convexity import minorant
from mixwright.optimize.measures import Expected, Quantile
from mixwright.optimize.prices import Price, prices, sentences
from mixwright.optimize.search import KEPT, Found, Search
from mixwright.optimize.simplex import Region, hull_distance

Array = NDArray[np.float64]
#: the name of the weighted mean of metrics among forecasts
OBJECTIVE = "objective"
#: an L1 distance from the swept mixtures' hull beyond which a prediction is called extrapolation
_FAR = 0.02
#: an optimum this near to its proven bound is left alone
_PROVEN = 1e-7
#: mixtures nearer than this in L1 are the same one
_SAME = 1e-6


@dataclass(frozen=True)
class Optimum:
    """The best mixture with its reasons.

    ``gain`` is the objective's predicted difference to ``natural`` (negative is better), ``forecasts`` that of each metric,
    ``losses`` the predicted losses themselves at the scale of the runs, all with 90 % intervals for the expectation.
    ``contrasts`` compare it with other mixtures (uniform, those given, and the worst one): its objective minus theirs.

    ``gap`` bounds how much lower f could be anywhere within bounds and budgets: a proof where the law's graph shows that it is
    convex or has a convex lower bound, None where it does not; ``certificate`` says which, in a sentence.

    ``prices`` are the constraints that bind with what they cost, ``active`` the same as sentences, ``notes`` what a reader
    must know. ``ranges`` gives per domain the smallest and largest weight among mixtures around this one that are as good (f
    within ``tolerance`` of f*), and ``nearest`` is the one among them towards natural. ``worst`` is the mixture with
    the highest expected objective within the bounds (whatever the budgets), for contrast. ``epochs`` is empty without
    supplies.
    """

    mixture: Mixture
    natural: Mixture
    gain: Forecast
    forecasts: tuple[Forecast, ...]
    losses: tuple[Forecast, ...]
    gap: float | None
    tolerance: float
    ranges: Mapping[str, tuple[float, float]]
    nearest: Mixture
    worst: Mixture
    contrasts: tuple[Forecast, ...] = ()
    certificate: str = ""
    prices: tuple[Price, ...] = ()
    active: tuple[str, ...] = ()
    epochs: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Problem:
    """A fit, an objective and what they stand on, resolved: where to look, and what to make small."""

    fit: GraphFit
    objective: Objective
    q: Array
    base: Mixture
    named: Mapping[str, Mixture]
    search: Search
    bound: Search | None
    regions: Callable[[Objective], Region]

    @classmethod
    def of(
        cls,
        fit: GraphFit,
        objective: Objective,
        natural: Mixture,
        *,
        tokens: float | None = None,
        supply: Sequence[float] | NDArray[Any] | None = None,
        alternatives: Mapping[str, Mixture] | None = None,
        priors: Mapping[str, Mixture] | None = None,
    ) -> Problem:
        """See ``optimize``. ``bound`` searches a convex lower bound of the expected losses, where there is one."""
        if set(natural.domains) != set(fit.domains):
            raise DataError(
                f"The natural mixture is over {', '.join(natural.domains)}, but the fit over {', '.join(fit.domains)}."
            )
        base = natural.over(fit.domains)
        q = objective.metric_weights(fit.metrics)
        named = {name: mixture.over(fit.domains) for name, mixture in (alternatives or {}).items()}
        regions = partial(
            Region.of, domains=fit.domains, tokens=tokens, supply=supply, swept=fit.swept,
            named={"natural": base, "current": base, **named, **(priors or {})},
        )  # fmt: skip
        region = regions(objective)
        budgets = limits(fit, objective, base.weights)
        used = [
            m
            for m, share in zip(fit.metrics, q + objective.budget_weights(fit.metrics).sum(axis=0), strict=True)
            if share
        ]
        below = minorant(fit, used, region.low)
        measure = Expected(fit, q) if objective.risk is None else Quantile(fit, q, base.weights, objective.risk)
        search = Search(measure, region, budgets, swept=fit.swept)
        bound = None
        if below is not None and objective.risk is None:
            part = np.array([q[fit.metrics.index(m)] for m in used])
            bound = Search(
                Expected(below, part), region, limits(below, objective, base.weights, fit), convex=True, swept=fit.swept
            )
        return cls(fit, objective, q, base, named, search, bound, regions)

    def minimum(self) -> tuple[Found, float | None]:
        """The best end found and a proven bound on how much lower f could be, or None; StudyError if no mixture is allowed."""
        first = [self.base.weights, np.full(len(self.fit.domains), 1 / len(self.fit.domains))]
        if self.bound is None:
            found = self.search.minimum(first)
            if (found.over > KEPT).any():
                raise refuse(self.search, self.objective, first, self.regions)
            return found, None
        below = self.bound.minimum(first)
        if (below.over > KEPT).any():
            raise refuse(self.bound, self.objective, first, self.regions)
        least = below.value - self.bound.gap(below)
        found = self.search.nearby([below.w])
        if (found.over > KEPT).any() or found.value - least > _PROVEN:  # a little above its bound: look around
            found = self.search.minimum(first, below.w)
            if (found.over > KEPT).any():
                raise refuse(self.search, self.objective, first, self.regions)
        return found, max(0.0, found.value - least)


def optimize(
    fit: GraphFit,
    objective: Objective,
    *,
    natural: Mixture,
    tokens: float | None = None,
    supply: Sequence[float] | NDArray[Any] | None = None,
    alternatives: Mapping[str, Mixture] | None = None,
    priors: Mapping[str, Mixture] | None = None,
) -> Optimum:
    """The mixture with the least predicted objective within all bounds, compared with ``natural`` and ``alternatives``.

    ``tokens`` of the run it is for and ``supply`` (unique tokens per domain, in the fit's order) turn the epoch cap into
    bounds. ``natural`` is the reference of gains and loss budgets, and a prior called ``natural`` or ``current`` unless
    ``priors`` (or ``alternatives``) name another so. Raises StudyError when constraints contradict each other (naming
    which, and the least change that helps) or the objective names an unknown metric, DataError when ``natural`` is over
    other domains.
    Deterministic. Cost: hundredths of a CPU-second for a few domains, less than one for 100 domains and 50 metrics.
    """
    problem = Problem.of(
        fit, objective, natural, tokens=tokens, supply=supply, alternatives=alternatives, priors=priors
    )
    found, gap = problem.minimum()
    q, base, best, search = problem.q, problem.base.weights, found.w, problem.search
    tolerance = _tolerance(fit, q, best, base)
    low, high = search.edges(best, found.value + tolerance)
    near = search.back(search.region.project(base[None])[0], best, found.value + tolerance)
    gain = _difference(fit, OBJECTIVE, best, base, q)
    worst = Mixture.normalized(fit.domains, Search(Expected(fit, q), search.region).worst(base))
    epochs = {}
    if tokens and supply is not None:
        amount = np.asarray(supply, dtype=np.float64)
        epochs = {d: float(w * tokens / s) for d, w, s in zip(fit.domains, best, amount, strict=True) if s > 0}
    contrasts = _contrasts(problem, best, worst)
    priced = prices(search, found)
    certificate = _certificate(problem, found, gap)
    return Optimum(
        mixture=Mixture.normalized(fit.domains, best), natural=problem.base, gain=gain,
        forecasts=tuple(_difference(fit, m, best, base, row) for m, row in zip(fit.metrics, np.eye(len(q)), strict=True)),
        losses=_losses(fit, best, q), gap=gap, tolerance=tolerance,
        ranges={d: (float(a), float(b)) for d, a, b in zip(fit.domains, low, high, strict=True)},
        nearest=Mixture.normalized(fit.domains, near), worst=worst, contrasts=contrasts, certificate=certificate,
        prices=priced, active=sentences(priced), epochs=epochs,
        notes=_notes(problem, found, gain, contrasts, bool(epochs), [] if gap is not None else [certificate]),
    )  # fmt: skip


def _tolerance(fit: GraphFit, q: Array, best: Array, natural: Array) -> float:
    """How much worse still counts as as good: half the seed noise of the objective, or of what is known instead.

    Without repeats it is half the spread of the difference to natural.
    """
    noise = fit.seed_noise(q)
    if np.isfinite(noise):
        return 0.5 * noise
    return 0.5 * float(fit.difference(best[None], natural, q)[1][0])


def _difference(fit: GraphFit, name: str, best: Array, other: Array, q: Array, reference: str = "natural") -> Forecast:
    mean, spread = (float(part[0]) for part in fit.difference(best[None], other, q))
    return Forecast(name, "difference", mean, mean - Z90 * spread, mean + Z90 * spread, reference=reference)


def _contrasts(problem: Problem, best: Array, worst: Mixture) -> tuple[Forecast, ...]:
    """The objective at the best mixture minus that at others."""
    others = {"uniform": Mixture.uniform(problem.fit.domains), **problem.named, "worst": worst}
    return tuple(
        _difference(problem.fit, OBJECTIVE, best, other.weights, problem.q, name) for name, other in others.items()
    )


def _losses(fit: GraphFit, best: Array, q: Array) -> tuple[Forecast, ...]:
    """The predicted losses of the objective and every metric, at the size and tokens of the runs."""
    each = fit.predict(best[None])
    rows = [
        (OBJECTIVE, float(fit.mean(best[None], q)[0]), float(fit.spread(best[None], q)[0])),
        *zip(fit.metrics, each.mean[0].tolist(), each.spread[0].tolist(), strict=True),
    ]
    return tuple(Forecast(m, "loss", v, v - Z90 * s, v + Z90 * s) for m, v, s in rows)


def _certificate(problem: Problem, found: Found, gap: float | None) -> str:
    """How good the optimum is proven to be."""
    if gap is not None:
        return (
            f"The law is convex in the mixture or bounded by one that is: no allowed mixture is better by more than {gap:.1g} "
            "nats/token as the law predicts it."
        )
    why = "a quantile of the gain is not" if problem.objective.risk is not None else "the law is not known to be"
    return (
        f"No bound on what a better mixture could gain exists here, since {why} convex in the mixture: this is the best end of "
        f"{found.starts} ways down, {found.agreeing} of which ended as low."
    )


def _notes(
    problem: Problem, found: Found, gain: Forecast, contrasts: Sequence[Forecast], epochs: bool, more: Sequence[str]
) -> tuple[str, ...]:
    """What a reader must know before believing it."""
    fit, q, objective = problem.fit, problem.q, problem.objective
    notes = []
    for forecast in (gain, *contrasts):
        other = {"natural": problem.base, "uniform": Mixture.uniform(fit.domains), **problem.named}
        same = forecast.reference in other and np.abs(other[forecast.reference].weights - found.w).sum() < _SAME
        if same:
            notes.append(f"The best mixture is the {forecast.reference} one.")
        elif forecast.high >= 0:
            notes.append(
                f"These runs cannot tell this mixture from {forecast.reference}: the predicted difference is "
                f"{forecast.value:+.4f} ({forecast.low:+.4f} to {forecast.high:+.4f}), which includes no gain."
            )
    if objective.risk is not None:
        notes.append(
            f"The {objective.risk:.0%} quantile of the difference to natural was minimized, not its expectation; it is "
            f"{found.value:+.4f} nats/token."
        )
    notes += more
    if not epochs:
        bound = " and the epoch cap binds nothing" if objective.epoch_cap else ""
        notes.append(f"Epochs are unknown{bound}: they need the training tokens and each domain's supply.")
    if not np.isfinite(fit.seed_noise(q)):
        notes.append("No mixture was trained twice, so the seed noise is unknown.")
    for what, w in (("The best mixture", found.w), ("The natural mixture", problem.base.weights)):
        away = hull_distance(w, fit.swept)
        if away > _FAR:
            notes.append(
                f"{what} lies outside what the swept mixtures span (by {away:.2f} in L1): its prediction is an extrapolation."
            )
    notes += [f"{m}: {s}." for m, s, x in zip(fit.metrics, fit.status, q, strict=True) if s != "converged" and x > 0]
    return tuple(notes)
