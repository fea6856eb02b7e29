"""What two losses cost one another: the mixtures in which neither can fall unless the other rises.

Notation: a and b the two losses, each a metric or a weighted mean of metrics; w a mixture ``(D,)``; the front runs from the
mixture with the least a to that with the least b; y the exchange rate -da/db along it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixwright.core.errors import StudyError
from mixwright.core.mixture import Mixture
from mixwright.core.objective import Objective
from mixwright.core.recipe import Forecast
from mixwright.laws import Z90, GraphFit
from mixwright.optimize.budgets import limits
from mixwright.optimize.convexity import minorant
from mixwright.optimize.measures import Expected
from mixwright.optimize.mixture import Problem
from mixwright.optimize.search import Found, Limit, Search

Array = NDArray[np.float64]
#: how much worse than its least value the other loss may be at an end of the front
_END = 1e-7
#: a front shorter than this (nats in either loss) is one point
_SHORT = 1e-7
#: a point that another one beats in both losses by more than this is not of the front
_BEATEN = 1e-9


@dataclass(frozen=True)
class FrontPoint:
    """One mixture of the front. ``values`` are the two predicted losses, ``differences`` those to natural with 90 % intervals.

    ``exchange`` is how much the first loss falls per nat the second one rises, for small changes (inf at the first end, where
    nothing is left to gain, 0 at the last). ``gap`` bounds how much lower the first loss could be with the second as it is, None
    where the law is not known to be convex.
    ``ranges`` gives per domain the smallest and largest weight among mixtures that are as good: neither loss is higher
    than here by more than half its seed noise.
    """

    mixture: Mixture
    values: tuple[float, float]
    differences: tuple[Forecast, Forecast]
    exchange: float
    gap: float | None
    ranges: Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Front:
    """The Pareto front of two losses under an objective's constraints, from the least first loss to the least second.

    ``knee`` is the number of the point that lies farthest inside the line between the ends, each loss measured by its range
    over the front: before it and after it, one loss is bought dearly with the other. ``natural`` holds the losses of the
    reference mixture, ``notes`` what a reader must know.
    """

    names: tuple[str, str]
    points: tuple[FrontPoint, ...]
    knee: int
    natural: tuple[float, float]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; an exchange rate of inf is None."""
        return {
            "names": list(self.names),
            "knee": self.knee,
            "natural": list(self.natural),
            "points": [
                {
                    "weights": p.mixture.to_dict(),
                    "values": list(p.values),
                    "differences": [f.__dict__ for f in p.differences],
                    "exchange": p.exchange if np.isfinite(p.exchange) else None,
                    "gap": p.gap,
                    "ranges": {name: list(ends) for name, ends in p.ranges.items()},
                }
                for p in self.points
            ],
            "notes": list(self.notes),
        }


def pareto(
    fit: GraphFit,
    objective: Objective,
    *,
    metrics: tuple[str | Mapping[str, float], str | Mapping[str, float]],
    natural: Mixture,
    tokens: float | None = None,
    supply: Sequence[float] | NDArray[Any] | None = None,
    priors: Mapping[str, Mixture] | None = None,
    count: int = 15,
) -> Front:
    """The front between two metrics, or two weighted means of metrics, in up to ``count`` points.

    All constraints of ``objective`` hold, its own metrics and risk are set aside. Between the ends the first loss is made as
    small as can be while the second is held at evenly spaced values, which finds all points of convex and other fronts
    alike. Other arguments and errors as of ``optimize``. Cost: about ``count`` times that of one optimum.
    """
    if count < 2:
        raise StudyError(f"A front needs at least 2 points, its ends; got count = {count}.")
    names = tuple(m if isinstance(m, str) else " + ".join(m) for m in metrics)
    first, second = ({m: 1.0} if isinstance(m, str) else m for m in metrics)
    plain = replace(objective, metrics=first, risk=None)
    problem = Problem.of(fit, plain, natural, tokens=tokens, supply=supply, priors=priors)
    other = replace(objective, metrics=second, risk=None)
    qs = np.array([problem.q, other.metric_weights(fit.metrics)])
    twin = Problem.of(fit, other, natural, tokens=tokens, supply=supply, priors=priors)
    ends = [this.minimum()[0] for this in (problem, twin)]
    pair = Pair.of(problem, qs)
    chain = _undominated(_chain(pair, [end.w for end in ends], count))
    base = problem.base.weights
    points = tuple(_point(problem, qs, names, link) for link in chain)
    here = tuple(float(fit.mean(base[None], q)[0]) for q in qs)
    return Front((names[0], names[1]), points, _knee(points), (here[0], here[1]), _notes(problem, names, points, here))


@dataclass(frozen=True, eq=False)
class Link:
    """A mixture of the front, its two losses, the exchange rate, and how much lower the first might be (None: unknown)."""

    w: Array
    values: tuple[float, float]
    rate: float
    gap: float | None


@dataclass(frozen=True, eq=False)
class Pair:
    """Two losses over a region: the searches for them and, where there are any, for their convex lower bounds."""

    search: Search
    losses: tuple[Expected, Expected]
    bound: Search | None
    below: tuple[Expected, Expected] | None

    @classmethod
    def of(cls, problem: Problem, qs: Array) -> Pair:
        """Of metric weights ``qs (2, M)``."""
        fit, search = problem.fit, problem.search
        losses = (Expected(fit, qs[0]), Expected(fit, qs[1]))
        shares = qs.sum(axis=0) + problem.objective.budget_weights(fit.metrics).sum(axis=0)
        used = [metric for metric, share in zip(fit.metrics, shares, strict=True) if share > 0]
        below = minorant(fit, used, search.region.low)
        if below is None:
            return cls(search, losses, None, None)
        index = [fit.metrics.index(metric) for metric in used]
        bounds = (Expected(below, qs[0, index]), Expected(below, qs[1, index]))
        kept = limits(below, problem.objective, problem.base.weights, fit)
        return cls(search, losses, replace(search, measure=bounds[0], budgets=kept, convex=True), bounds)

    def least(self, this: int, limit: float, *starts: Array) -> tuple[Found, float | None]:
        """The least of one loss while the other is at most ``limit``, and a proven bound on how far it is from its least."""
        bound = None
        if self.bound is not None and self.below is not None:
            held = (*self.bound.budgets, Limit("", self.below[1 - this], limit))
            lower = replace(self.bound, measure=self.below[this], budgets=held)
            under = lower.nearby(starts[:1])
            bound, starts = under.value - lower.gap(under), (under.w, *starts)
        held = (*self.search.budgets, Limit("", self.losses[1 - this], limit))
        found = replace(self.search, measure=self.losses[this], budgets=held).nearby(starts)
        return found, None if bound is None else max(0.0, found.value - bound)

    def values(self, w: Array) -> tuple[float, float]:
        """Both losses at a mixture."""
        first, second = (float(loss.value_and_slope(w[None])[0][0]) for loss in self.losses)
        return first, second


def _chain(pair: Pair, ends: Sequence[Array], count: int) -> list[Link]:
    """Mixtures of the front from the least first loss to the least second."""
    # at each end the other loss is as small as it can be there
    start, _ = pair.least(1, pair.values(ends[0])[0] + _END, ends[0])
    stop, gap = pair.least(0, pair.values(ends[1])[1] + _END, ends[1])
    top, bottom = pair.values(start.w)[1], pair.values(stop.w)[1]
    last = Link(stop.w, pair.values(stop.w), 0.0, gap)
    if top - bottom < _SHORT:
        return [last]
    chain = [Link(start.w, pair.values(start.w), np.inf, _END if pair.bound else None)]
    for at in np.linspace(top, bottom, count)[1:-1]:
        found, gap = pair.least(0, float(at), chain[-1].w, stop.w)
        chain.append(Link(found.w, pair.values(found.w), float(found.prices[-1]), gap))
    return [*chain, last]


def _undominated(chain: list[Link]) -> list[Link]:
    """The links that no other beats in both losses."""

    def beaten(values: tuple[float, float]) -> bool:
        return any(
            all(x <= y + 1e-15 for x, y in zip(o, values, strict=True))
            and any(x < y - _BEATEN for x, y in zip(o, values, strict=True))
            and max(abs(x - y) for x, y in zip(o, values, strict=True)) > _BEATEN
            for o in (link.values for link in chain)
        )

    return [link for link in chain if not beaten(link.values)]


def _point(problem: Problem, qs: Array, names: tuple[str, ...], link: Link) -> FrontPoint:
    fit, base, w, values = problem.fit, problem.base.weights, link.w, link.values
    differences = []
    tolerances = []
    for name, q in zip(names, qs, strict=True):
        mean, spread = (float(part[0]) for part in fit.difference(w[None], base, q))
        differences.append(
            Forecast(name, "difference", mean, mean - Z90 * spread, mean + Z90 * spread, reference="natural")
        )
        noise = fit.seed_noise(q)
        tolerances.append(0.5 * noise if np.isfinite(noise) else 0.5 * spread)
    limit = Limit("", Expected(fit, qs[1]), values[1] + tolerances[1])
    around = replace(problem.search, measure=Expected(fit, qs[0]), budgets=(*problem.search.budgets, limit))
    low, high = around.edges(w, values[0] + tolerances[0])
    ranges = {d: (float(x), float(y)) for d, x, y in zip(fit.domains, low, high, strict=True)}
    return FrontPoint(
        Mixture.normalized(fit.domains, w), values, (differences[0], differences[1]), link.rate, link.gap, ranges
    )


def _knee(points: Sequence[FrontPoint]) -> int:
    """The point farthest below the line between the ends (Das 1999, "normal boundary intersection" bulge)."""
    values = np.array([p.values for p in points])
    span = np.ptp(values, axis=0)
    if len(points) < 3 or not (span > 0).all():
        return 0
    scaled = (values - values.min(axis=0)) / span
    return int(scaled.sum(axis=1).argmin())


def _notes(
    problem: Problem, names: tuple[str, ...], points: Sequence[FrontPoint], here: tuple[float, ...]
) -> tuple[str, ...]:
    notes = []
    if len(points) == 1:
        notes.append(f"One mixture is best for both {names[0]} and {names[1]}: there is nothing to trade.")
    better = [n for n, p in enumerate(points) if all(x < y for x, y in zip(p.values, here, strict=True))]
    surely = [n for n in better if all(f.high < 0 for f in points[n].differences)]
    if better:
        notes.append(
            f"{len(better)} of {len(points)} points are better than natural in both losses, {len(surely)} of them surely "
            "(both 90 % intervals below zero)."
        )
    if problem.bound is None:
        notes.append(
            "The law is not known to be convex in the mixture: points are the best ends found, without a bound."
        )
    return tuple(notes)
