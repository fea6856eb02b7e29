"""Which runs to train next: some where the best mixture may be, some where they tell most, and whether to train any.

Notation: D domains, M metrics, C candidate mixtures, S worlds (see ``worlds``); L the objective, q ``(M,)`` its weights.

* A run that *exploits* is the candidate whose loss, in the worlds these runs leave possible, is expected to fall furthest
  below the best so far, those already in the batch included (batch expected improvement, Ginsbourger et al. 2010).
* A run that *explores* is the one that lowers the variance of the gains most: their average over candidates, weighted by how
  often a candidate is among the best.

Runs of other sizes are compared by what they tell about the choice per FLOP.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mixwright.core.errors import DataError, StudyError
from mixwright.core.mixture import Mixture
from mixwright.core.objective import Objective
from mixwright.core.observation import Runs
from mixwright.laws import GraphFit
from mixwright.optimize.advisor import Advice, advise
from mixwright.optimize.mixture import optimize
from mixwright.optimize.simplex import Region
from mixwright.optimize.worlds import Measured, Size, Worlds, at_size, imagine

Array = NDArray[np.float64]
#: mixtures drawn from the region, and as many again between them and the best one
_DRAWS = 384
#: weights closer than this are the same mixture
_SAME = 1e-6
#: drawn mixtures closer than this (L1) to one that was measured or proposed are not proposed while others are left
_APART = 0.05
#: one run in eight explores: enough to correct the law, few enough to find the best of a pool of 512 within 16 runs
EXPLORE = 0.125
#: the part of the weight of exploration that is spread over all candidates
_EVENLY = 0.1


@dataclass(frozen=True)
class NextRun:
    """A run worth training: its mixture and size, what it is for, and why in words.

    ``gain`` is the expected L less that of the present best at the target (negative is better) and ``spread`` its standard
    deviation. ``candidate`` is the row of the candidates given, None where none were.
    """

    mixture: Mixture
    size: Size
    purpose: Literal["exploit", "explore"]
    reason: str
    gain: float
    spread: float
    candidate: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "weights": self.mixture.to_dict(), "params": self.size.params, "tokens": self.size.tokens,
            "purpose": self.purpose, "reason": self.reason, "gain": self.gain, "spread": self.spread,
            "candidate": self.candidate,
        }  # fmt: skip


@dataclass(frozen=True)
class NextRuns:
    """The batch, the mixture that is best at present, advice on whether to train at all, and what a reader must know."""

    runs: tuple[NextRun, ...]
    best: Mixture
    advice: Advice
    notes: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """As JSON, schema ``mixwright/next-runs/1``."""
        return {
            "schema": "mixwright/next-runs/1", "best": self.best.to_dict(), "advice": self.advice.__dict__,
            "runs": [run.to_dict() for run in self.runs], "notes": list(self.notes),
        }  # fmt: skip


def next_runs(
    fit: GraphFit,
    runs: Runs | None,
    objective: Objective,
    *,
    count: int,
    natural: Mixture | None = None,
    tokens: float | None = None,
    supply: Sequence[float] | NDArray[Any] | None = None,
    target: Size | None = None,
    sizes: Sequence[Size] = (),
    candidates: Array | None = None,
    explore: float = EXPLORE,
    priors: Mapping[str, Mixture] | None = None,
    rng: np.random.Generator,
) -> NextRuns:
    """``count`` runs to train next, to find and to learn in turn, and whether that is worth while.

    Every ``1 / explore``-th run explores, those already measured counted in, so that small batches alternate too.
    ``fit`` was fitted to ``runs`` (None: unknown; then nothing is corrected by what was measured). ``tokens`` of the run the
    choice is for and ``supply`` (in the fit's order) give the epoch caps. ``target`` is the size the choice is for (default:
    the largest of the runs' sizes for a fit that knows sizes), ``sizes`` those the next runs may have (default: that of the
    runs). With ``candidates (K, D)``, in the fit's order, only those allowed and not yet measured are proposed, and the
    present best is the best of the measured ones. Gains are over ``natural``, or the median candidate where it is not given.

    ``priors`` are mixtures that ``objective.within`` may name. StudyError when the bounds contradict each other or nothing
    is left to try, DataError for other domains. Deterministic given ``rng``; the order of domains is immaterial. Cost: about
    a CPU-second for a thousand candidates.
    """
    if count < 1 or not 0 <= explore <= 1:
        raise StudyError(f"next_runs needs count of at least 1 and explore in 0..1; got {count} and {explore:g}.")
    q = objective.metric_weights(fit.metrics)
    aim, measured = _aim(fit, runs, q, target)
    base = _natural(fit, natural)
    bounds = _Bounds(objective, tokens, supply, base, dict(priors or {}))
    region = bounds.region(fit, list(range(len(fit.domains))))
    pool = (
        _offered(fit, region, measured, candidates)
        if candidates is not None
        else _drawn(fit, bounds, region, measured, aim, rng)
    )
    offered = tuple(dict.fromkeys(sizes)) or (measured.size or aim or Size(),)
    worlds = imagine(fit, q, pool.points, measured, rng=rng, target=aim, sizes=offered)
    best = pool.best if pool.best is not None else int(_lowest(worlds.target, pool.tested))
    reference = float(np.median(worlds.target.mean(axis=1)))
    if base is not None:
        reference = float(at_size(fit, aim).mean(base.weights[None], q)[0])
    worth = max(reference - float(worlds.target[best].mean()), 0.0)
    advice = advise(worlds.target, best, worth=worth, noise=worlds.noise)
    picker = _Picker(worlds, offered, best, advice.tolerance)
    found = picker.pick(count, explore, pool.free, len(fit.swept), _APART if candidates is None else 0.0)
    if not found:
        raise StudyError(
            "Every mixture that is allowed among the candidates has been measured; there is none left to try."
        )
    return NextRuns(
        runs=tuple(_described(fit, picker, one, pool, candidates is not None) for one in found),
        best=Mixture.normalized(fit.domains, np.clip(pool.points[best], 0.0, None)),
        advice=advice,
        notes=_notes(fit, count, len(found), worlds, offered),
    )


def _aim(fit: GraphFit, runs: Runs | None, q: Array, target: Size | None) -> tuple[Size | None, Measured]:
    """The size the choice is for, and the runs of the fit's own size (of the target, where the fit knows sizes)."""
    if not fit.graph.free:
        return target, Measured.of(fit, runs, q)
    if target is None:
        if runs is None:
            raise DataError("This fit knows sizes: say which the choice is for (target), or give its runs.")
        usable = runs.usable()
        row = int(np.lexsort((np.nan_to_num(usable.tokens), np.nan_to_num(usable.params)))[-1])
        size, amount = float(usable.params[row]), float(usable.tokens[row])
        target = Size(size if np.isfinite(size) else None, amount if np.isfinite(amount) else None)
    return target, Measured.of(fit, runs, q, target)


def _natural(fit: GraphFit, natural: Mixture | None) -> Mixture | None:
    if natural is None:
        return None
    if set(natural.domains) != set(fit.domains):
        raise DataError(
            f"The natural mixture is over {', '.join(natural.domains)}, but the fit over {', '.join(fit.domains)}."
        )
    return natural.over(fit.domains)


@dataclass(frozen=True, eq=False)
class _Pool:
    """Candidate mixtures ``points (C, D)``: which may be proposed, which were measured, which is best (None: of those)."""

    points: Array
    free: NDArray[np.bool_]
    tested: NDArray[np.bool_]
    rows: NDArray[np.int64]
    best: int | None


@dataclass(frozen=True, eq=False)
class _Bounds:
    """What an objective's bounds depend on; ``supply`` is in the fit's order."""

    objective: Objective
    tokens: float | None
    supply: Sequence[float] | NDArray[Any] | None
    natural: Mixture | None
    priors: Mapping[str, Mixture]

    def region(self, fit: GraphFit, order: list[int]) -> Region:
        """What is allowed, with the fit's domains in this order."""
        stock = None if self.supply is None else np.asarray(self.supply, dtype=np.float64)[order]
        named = {} if self.natural is None else {"natural": self.natural, "current": self.natural}
        return Region.of(
            self.objective, [fit.domains[d] for d in order], tokens=self.tokens, supply=stock, swept=fit.swept[:, order],
            named={**named, **self.priors},
        )  # fmt: skip

    def best(self, fit: GraphFit) -> Array:
        """The best allowed mixture."""
        return optimize(
            fit, self.objective, natural=self.natural or Mixture.uniform(fit.domains), tokens=self.tokens,
            supply=self.supply, priors=self.priors,
        ).mixture.weights  # fmt: skip


def _offered(fit: GraphFit, region: Region, measured: Measured, candidates: Array) -> _Pool:
    """The candidates given, as far as allowed."""
    given = np.atleast_2d(np.asarray(candidates, dtype=np.float64))
    if given.shape[1] != len(fit.domains):
        raise DataError(
            f"Candidates need a weight for each of the fit's {len(fit.domains)} domains; these have {given.shape[1]}."
        )
    rows = np.flatnonzero(region.contains(given, 1e-6))
    if not len(rows):
        raise StudyError(
            "None of the candidate mixtures is allowed by the objective's bounds. Loosen them, or offer others."
        )
    tested = _among(given[rows], measured.x if len(measured.x) else fit.swept)
    return _Pool(given[rows], ~tested, tested, rows, None)


def _drawn(
    fit: GraphFit, bounds: _Bounds, region: Region, measured: Measured, aim: Size | None, rng: np.random.Generator
) -> _Pool:
    """The best mixture, those between it and draws from the region, these draws, and what was measured.

    The region is drawn from with its domains sorted by name, so that their order is immaterial.
    """
    best = bounds.best(at_size(fit, aim))
    order = sorted(range(len(fit.domains)), key=lambda d: fit.domains[d])
    drawn = bounds.region(fit, order).sample(_DRAWS, rng)[:, np.argsort(order)]
    near = best + (1 - rng.random((_DRAWS, 1)) ** 0.5) * (drawn - best)
    tried = measured.x if len(measured.x) else fit.swept
    points = np.concatenate([best[None], near, drawn, tried[region.contains(tried)]])
    far = ~_among(points, tried, _APART)
    return _Pool(points, far if far.any() else ~_among(points, tried), ~far, np.arange(len(points)), 0)


def _among(points: Array, others: Array, apart: float = 0.0) -> NDArray[np.bool_]:
    """Which of ``points (N, D)`` are among ``others (R, D)``, or within ``apart`` (L1) of one."""
    away = np.abs(points[:, None] - others[None]).sum(axis=2).min(axis=1, initial=np.inf)
    return np.asarray(away <= max(apart, _SAME))


def _lowest(losses: Array, tested: NDArray[np.bool_]) -> int:
    """The tested candidate with the lowest expected loss, or of all if none was."""
    expected = losses.mean(axis=1)
    return int(np.where(tested | ~tested.any(), expected, np.inf).argmin())


@dataclass(frozen=True, eq=False)
class _Pick:
    """Candidate ``row`` at the ``place``-th size, and how much of the gains' deviation its run is expected to take away."""

    row: int
    place: int
    purpose: Literal["exploit", "explore"]
    improvement: float
    learned: float


@dataclass(eq=False)
class _Picker:
    """Chooses a batch, run by run; what the runs already in it would tell counts as told."""

    worlds: Worlds
    sizes: tuple[Size, ...]
    best: int
    tolerance: float

    def __post_init__(self) -> None:
        losses = (self.worlds.target, *self.worlds.at)
        scale = np.sqrt(self.worlds.target.shape[1] - 1)
        #: deviations of every place's L from its mean, so that covariances are their products
        self.away = [(part - part.mean(axis=1, keepdims=True)) / scale for part in losses]
        self.floor = self.worlds.target[self.best].copy()
        regret = self.worlds.target - self.worlds.target.min(axis=0)
        share = (regret <= self.tolerance).mean(axis=1)
        even = np.full(len(share), 1 / len(share))
        self.weight = (1 - _EVENLY) * share / max(share.sum(), 1e-300) + _EVENLY * even
        self.noise = max(self.worlds.noise**2, (0.1 * self.worlds.misfit) ** 2)

    def pick(self, count: int, explore: float, free: NDArray[np.bool_], done: int, apart: float) -> list[_Pick]:
        """``count`` runs after ``done`` others, ``apart`` (L1) where possible; each ``1 / explore``-th of all explores."""
        free, found = free.copy(), list[_Pick]()
        for number in range(done + 1, done + count + 1):
            if not free.any():
                break
            learns = int(number * explore + 1e-9) > int((number - 1) * explore + 1e-9)
            one = self._explore(free) if learns else self._exploit(free)
            found.append(one)
            self._learn(one)
            here = self.worlds.points[one.row][None]
            away = free & ~_among(self.worlds.points, here, apart)
            free = away if away.any() else free & ~_among(self.worlds.points, here)
        return found

    def _exploit(self, free: NDArray[np.bool_]) -> _Pick:
        target = self.worlds.target
        improvement = np.maximum(self.floor - target, 0.0).mean(axis=1)
        score = np.where(free, improvement, -np.inf)
        tied = np.flatnonzero(score >= score.max() - 1e-12)
        row = int(tied[target[tied].mean(axis=1).argmin()])
        told = self._told(np.array([row]), row)[:, 0]
        place = int((told / [size.flops for size in self.sizes]).argmax())
        return _Pick(row, place, "exploit", float(improvement[row]), self._part(told[place], row))

    def _explore(self, free: NDArray[np.bool_]) -> _Pick:
        told = self._told(np.arange(len(free)))
        worth = np.where(free, told, -np.inf) / np.array([size.flops for size in self.sizes])[:, None]
        place, row = (int(n) for n in np.unravel_index(int(worth.argmax()), worth.shape))
        improvement = float(np.maximum(self.floor - self.worlds.target[row], 0.0).mean())
        return _Pick(row, place, "explore", improvement, self._part(told[place, row]))

    def _gains(self) -> Array:
        """Deviations ``(C, S)`` of every candidate's L less that of the best."""
        return np.asarray(self.away[0] - self.away[0][self.best])

    def _told(self, rows: NDArray[np.int64], about: int | None = None) -> Array:
        """By how much a run of each row at each size lowers the variance of gains, ``(sizes, len(rows))``.

        Of the weighted mean over candidates, or of the gain of the one candidate ``about``.
        """
        gains = self._gains()
        gains, weight = (gains, self.weight) if about is None else (gains[about][None], np.ones(1))
        out = []
        for part in self.away[1:]:
            common = gains @ part[rows].T
            out.append(weight @ common**2 / ((part[rows] ** 2).sum(axis=1) + self.noise))
        return np.array(out)

    def _part(self, told: float, about: int | None = None) -> float:
        """The part of the gains' variance that a run takes away."""
        variance = (self._gains() ** 2).sum(axis=1)
        whole = float(self.weight @ variance if about is None else variance[about])
        return float(min(told / max(whole, 1e-300), 1.0))

    def _learn(self, one: _Pick) -> None:
        """Take the run as done: what it would tell leaves the deviations (Potter's square root of Kalman's update)."""
        self.floor = np.minimum(self.floor, self.worlds.target[one.row])
        seen = self.away[1 + one.place][one.row].copy()
        variance = float(seen @ seen)
        total = variance + self.noise
        factor = 1 / (total * (1 + np.sqrt(self.noise / total)))
        self.away = [part - factor * np.outer(part @ seen, seen) for part in self.away]


def _described(fit: GraphFit, picker: _Picker, one: _Pick, pool: _Pool, given: bool) -> NextRun:
    """The run with its reason in words."""
    target = picker.worlds.target
    gains = target[one.row] - target[picker.best]
    gain, spread = float(gains.mean()), float(gains.std(ddof=1))
    better = float((gains < 0).mean())
    if one.purpose == "exploit":
        reason = (
            f"may be the best: in {better:.0%} of the worlds these runs allow its loss is below that of the present best, "
            f"{gain:+.3f} ± {spread:.3f} nats on average"
        )
    else:
        reason = (
            f"tells most: its result takes away {one.learned:.0%} of the variance of the gains between the mixtures that may "
            "be best"
        )
    size = picker.sizes[one.place]
    if len(picker.sizes) > 1:
        reason += f"; of the sizes offered {size} tells most per FLOP"
    row = int(pool.rows[one.row]) if given else None
    mixture = Mixture.normalized(fit.domains, np.clip(pool.points[one.row], 0.0, None))
    return NextRun(mixture, size, one.purpose, reason + ".", gain, spread, row)


def _notes(fit: GraphFit, count: int, found: int, worlds: Worlds, sizes: tuple[Size, ...]) -> tuple[str, ...]:
    out = []
    if found < count:
        out.append(f"Only {found} of the {count} runs asked for are proposed: there are no more candidates to try.")
    if worlds.noise == 0:
        out.append("No repeated runs tell the seed noise; part of what looks like misfit of the law may be noise.")
    if len(sizes) > 1 and not fit.graph.free:
        out.append(
            "The law knows no sizes: it is taken to hold at all of them, with a misfit that differs more the further apart."
        )
    if any(size.flops == 1.0 for size in sizes) and len(sizes) > 1:
        out.append(
            "Some sizes lack params or tokens, so their cost is unknown and they are compared as if they cost the same."
        )
    return tuple(out)
