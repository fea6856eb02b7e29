"""Which runs to train first: mixtures of the allowed region, chosen by one of six schemes.

Notation: D domains, N runs; distances are Euclidean between square roots of weights (Hellinger's, up to a factor), since
losses move as much between 1 % and 4 % of a domain as between 25 % and 36 %.

========== ====================================================================================================
spread     around the natural mixture, each as far as possible from all before it; each domain is raised once
grid       from the double-diminishing grid of Data Mixing Laws (Ye et al. 2024, arXiv:2403.16952)
dirichlet  drawn around the natural mixture, flattened, at many strengths, as in RegMix (Liu et al. 2024,
           arXiv:2407.01492), without near-duplicates
sobol      evenly over the whole allowed region, by a low-discrepancy sequence
d_optimal  where runs tell most about the parameters of an additive (or log-linear) law
i_optimal  where runs leave predictions over the allowed region the least average variance
========== ====================================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Gt, Le
from numpy.typing import NDArray

from mixwright.core.errors import StudyError
from mixwright.core.mixture import Mixture
from mixwright.core.objective import Objective
from mixwright.optimize.grid import Grid
from mixwright.optimize.information import Information, Model
from mixwright.optimize.simplex import Region, dirichlet, sobol

Array = NDArray[np.float64]
#: candidates among which each run is the one farthest from those before it
_CANDIDATES = 32
#: weights closer than this are the same mixture
_SAME = 1e-6
#: draws per run of the schemes that reject, and mixtures that stand for the region in the optimal ones
_DRAWS, _PROBES = 64, 1024
#: mixtures per run that are moved inside where too few are allowed as they are
_MOVED = 8
#: mixtures of a grid that are looked at, and the finest grid that is tried where a coarser one is too small
_LISTED, _FINEST = 20_000, 64

Scheme = Literal["spread", "grid", "dirichlet", "sobol", "d_optimal", "i_optimal"]


@dataclass(frozen=True)
class Options:
    """``runs`` mixtures by ``scheme``, the natural one among them, and ``repeats`` more runs of it with other seeds.

    Of ``spread``: ``strength`` is the sum of the Dirichlet's parameters per domain: small values reach the corners, large
    ones stay near the centre. ``pull`` is how much the centre is the natural mixture rather than the uniform one.
    ``lift`` is how far towards its highest weight each domain is raised once, the others keeping their proportions.

    Of ``grid``: ``grid_steps`` is 1 / δ, ``zeros`` the part of the mixtures in which a domain may be missing (a quarter in
    the paper's 40, though 5 of 6 on the grid). Of ``dirichlet``: ``strengths`` are the least and greatest sum of the
    Dirichlet's parameters, ``temperature`` flattens the natural mixture (weights to that power), ``most`` caps a weight at
    so many times the natural one; all three as RegMix has them; ``apart`` is the L1 distance below which two mixtures are
    near-duplicates. Of the optimal schemes: ``model`` is the law whose runs are planned.
    """

    runs: Annotated[int, Ge(2)] = 16
    repeats: Annotated[int, Ge(0)] = 3
    scheme: Scheme = "spread"
    strength: Annotated[float, Gt(0)] = 0.9
    pull: Annotated[float, Ge(0), Le(1)] = 0.5
    lift: Annotated[float, Gt(0), Le(1)] = 0.75
    grid_steps: Annotated[int, Ge(2), Le(64)] = 16
    zeros: Annotated[float, Ge(0), Le(1)] = 0.25
    strengths: tuple[Annotated[float, Gt(0)], Annotated[float, Gt(0)]] = (0.1, 5.0)
    temperature: Annotated[float, Gt(0), Le(1)] = 0.5
    most: Annotated[float, Gt(1)] = 15.0
    apart: Annotated[float, Ge(0), Le(1)] = 0.1
    model: Model = "additive"

    def __post_init__(self) -> None:
        if self.scheme not in SCHEMES:
            raise StudyError(f"design.scheme is {self.scheme!r}; it must be one of {', '.join(SCHEMES)}.")
        if self.strengths[0] > self.strengths[1]:
            raise StudyError(
                f"design.strengths must rise; they are {self.strengths[0]:g} and {self.strengths[1]:g}. Exchange the two."
            )


def design(
    natural: Mixture,
    *,
    rng: np.random.Generator,
    objective: Objective | None = None,
    tokens: float | None = None,
    supply: Array | None = None,
    options: Options | None = None,
) -> list[Mixture]:
    """``options.runs`` different mixtures within the objective's bounds; the first is the natural one, moved inside.

    Repeats are not listed: they are the first mixture again. ``objective.trust`` and ``budgets`` speak of runs and do not
    bind the first ones. Schemes other than ``spread`` do not depend on the order of the domains. StudyError if the bounds
    contradict each other or leave no room. Cost: milliseconds, a second or so for the optimal schemes.
    """
    options = options or Options()
    order = list(range(len(natural.domains)))
    if options.scheme != "spread":
        order.sort(key=lambda d: natural.domains[d])
    names = tuple(natural.domains[d] for d in order)
    stock = None if supply is None else np.asarray(supply, dtype=np.float64)[order]
    priors = {"natural": natural, "current": natural}
    wanted = replace(objective or Objective(), trust=None)
    region = Region.of(wanted, names, tokens=tokens, supply=stock, named=priors)
    centre = natural.weights[order]
    base = region.project(centre[None])[0]
    chosen = _CHOOSE[options.scheme](_Task(region, centre, base, options, rng))
    _check_room(chosen, options)
    return [Mixture.normalized(names, np.clip(w, 0.0, None)).over(natural.domains) for w in chosen]


@dataclass(frozen=True, eq=False)
class _Task:
    """What a scheme is given: the region, the natural mixture ``centre (D,)`` and ``base``, that mixture moved inside."""

    region: Region
    centre: Array
    base: Array
    options: Options
    rng: np.random.Generator


def _check_room(chosen: list[Array], options: Options) -> None:
    """StudyError if two of the mixtures are the same, or there are too few."""
    same = sum(np.abs(np.array(chosen[:n]) - w).max(axis=1).min() < _SAME for n, w in enumerate(chosen) if n)
    found = len(chosen) - same
    if found < options.runs:
        raise StudyError(
            f"The objective's bounds leave no room for {options.runs} different mixtures ({found} were found). "
            "Loosen floors and ceilings, or design fewer runs"
            f"{'' if options.scheme == 'spread' else ', or set design.scheme to spread'}."
        )


def _spread(task: _Task) -> list[Array]:
    """Up to half of the mixtures raise one domain each (in the order that keeps them far apart), the rest are chosen
    one after another, each the farthest from all before it among candidates drawn around the natural mixture."""
    options, size = task.options, len(task.base)
    chosen = [task.base]
    lifted = _lifted(task.region, task.base, options.lift)
    while len(lifted) and len(chosen) <= (options.runs - 1) // 2:
        lifted = _take_farthest(chosen, lifted)
    centre = options.pull * task.centre + (1 - options.pull) / size
    missing = options.runs - len(chosen)
    uniform = sobol(_CANDIDATES * max(missing, 1), size, task.rng)
    candidates = task.region.project(dirichlet(centre, options.strength * size, uniform))
    for part in np.array_split(candidates, missing) if missing else ():
        _take_farthest(chosen, part)
    return chosen


def _grid(task: _Task) -> list[Array]:
    """From the grid under the highest weights allowed: mixtures without a zero, and ``zeros`` of all with one."""
    options = task.options
    points = _grid_points(task)
    whole = points.min(axis=1) > 0
    chosen, pools = [task.base], [points[whole], points[~whole]]
    for number in range(1, options.runs):
        wanted = int(number * options.zeros + 1e-9) > int((number - 1) * options.zeros + 1e-9)
        pool = pools[int(wanted)] if len(pools[int(wanted)]) else pools[int(not wanted)]
        if not len(pool):
            break
        some = task.rng.choice(len(pool), min(_CANDIDATES, len(pool)), replace=False)
        chosen.append(pool[some[_farthest(chosen, pool[some])]])
        pools = [_unlike(part, chosen[-1]) for part in pools]
    return chosen


def _grid_points(task: _Task) -> Array:
    """The grid's allowed mixtures; where those are few, other ones of it moved inside, then finer grids."""
    options, region, steps = task.options, task.region, task.options.grid_steps
    while True:
        points = Grid(tuple(region.high.tolist()), steps).points(task.rng, _LISTED)
        inside = region.contains(points)
        found, outside = points[inside], points[~inside]
        if len(found) < _CANDIDATES * options.runs and len(outside):
            some = task.rng.choice(len(outside), min(_CANDIDATES * options.runs, len(outside)), replace=False)
            found = np.concatenate([found, region.project(outside[np.sort(some)])])
        found = _unlike(_distinct(found), task.base)
        if len(found) >= options.runs - 1 or steps >= _FINEST:
            return found
        steps *= 2


def _dirichlet(task: _Task) -> list[Array]:
    """Draws at strengths even in logarithm, kept where they are allowed and new; what is missing is moved inside."""
    options, region = task.options, task.region
    flat = np.maximum(task.centre, 1e-6) ** options.temperature
    uniform = sobol(_DRAWS * options.runs, len(flat) + 1, task.rng)
    low, high = np.log(options.strengths)
    strength = np.exp(low + (high - low) * uniform[:, :1])
    points = _sparse_dirichlet(strength * flat / flat.sum(), uniform[:, 1:])
    capped = (points <= np.maximum(options.most * task.centre, 1e-6)).all(axis=1)
    allowed = capped & region.contains(points)
    others = np.concatenate([points[capped & ~allowed], points[~capped]])[: _MOVED * options.runs]
    found = _take_apart(task.base, points[allowed], options.runs, options.apart)
    if len(found) < options.runs and len(others):
        found = _take_apart(
            task.base, np.concatenate([points[allowed], region.project(others)]), options.runs, options.apart
        )
    return found[: options.runs]


def _sobol(task: _Task) -> list[Array]:
    """A low-discrepancy sequence over the simplex where it is allowed; what is missing is drawn evenly from the region."""
    options, size = task.options, len(task.base)
    points = dirichlet(np.full(size, 1 / size), size, sobol(_DRAWS * options.runs, size, task.rng))
    inside = points[task.region.contains(points)]
    drawn = task.region.sample(_CANDIDATES * options.runs, task.rng) if len(inside) < options.runs else inside[:0]
    return _take_apart(task.base, np.concatenate([inside, drawn]), options.runs, 2 * _SAME)[: options.runs]


def _optimal(criterion: Literal["d", "i"]) -> Callable[[_Task], list[Array]]:
    """The scheme that is best by the criterion, the natural mixture and its repeats given."""

    def scheme(task: _Task) -> list[Array]:
        options, region = task.options, task.region
        probes = region.sample(_PROBES, task.rng)
        drawn = _spread(replace(task, options=replace(options, runs=min(4 * options.runs, 48))))
        corners = np.array([region.least(sign * row)[0] for row in np.eye(len(task.base)) for sign in (1, -1)])
        points = np.concatenate([probes[: _PROBES // 2], drawn[1:], region.project(corners)])
        points = np.array(_take_apart(task.base, points, options.runs, options.apart))
        known = Information.of(points, probes, options.model)
        count = min(options.runs, len(points)) - 1
        rows = known.choose(count, [0] * (1 + options.repeats), criterion)
        return [task.base, *points[rows]]

    return scheme


def _sparse_dirichlet(shape: Array, uniform: Array) -> Array:
    """Dirichlet draws ``(N, D)`` with parameters ``shape (N, D)`` however small, where all but one weight may be 0.

    Gamma variables below the smallest float are kept as logarithms: P(a, x) tends to x^a / Γ(a + 1) for small x.
    """
    from scipy.special import gammaincinv, gammaln

    u = np.clip(uniform, 1e-12, 1 - 1e-12)
    direct = gammaincinv(shape, u)
    small = direct < 1e-200
    logs = np.where(small, (np.log(u) + gammaln(shape + 1)) / shape, np.log(np.where(small, 1.0, direct)))
    draws = np.exp(logs - logs.max(axis=1, keepdims=True))
    return np.asarray(draws / draws.sum(axis=1, keepdims=True))


#: scheme -> what chooses its mixtures
_CHOOSE: Mapping[str, Callable[[_Task], list[Array]]] = MappingProxyType({
    "spread": _spread, "grid": _grid, "dirichlet": _dirichlet, "sobol": _sobol,
    "d_optimal": _optimal("d"), "i_optimal": _optimal("i"),
})  # fmt: skip
SCHEMES = tuple(_CHOOSE)


def _take_apart(base: Array, points: Array, runs: int, apart: float) -> list[Array]:
    """``base`` and those of ``points`` that are more than ``apart`` (L1) from all before; closer ones if those are few."""
    points = np.concatenate([base[None], points])
    while True:
        chosen = _thinned(points, apart)
        if len(chosen) >= runs or apart <= 2 * _SAME:
            return chosen
        apart = max(apart / 2, 2 * _SAME)


def _thinned(points: Array, apart: float) -> list[Array]:
    """Those of ``points (N, D)``, in order, that are more than ``apart`` (L1) from all before."""
    near = np.full(len(points), np.inf)
    chosen: list[Array] = []
    for n, w in enumerate(points):
        if near[n] > apart:
            chosen.append(w)
            near = np.minimum(near, np.abs(points - w).sum(axis=1))
    return chosen


def _distinct(points: Array) -> Array:
    """Different mixtures, in order of first appearance."""
    _, first = np.unique(np.round(points, 9), axis=0, return_index=True)
    return np.asarray(points[np.sort(first)])


def _unlike(points: Array, w: Array) -> Array:
    """Those of ``points (N, D)`` that are another mixture than ``w (D,)``."""
    return np.asarray(points[np.abs(points - w).max(axis=1, initial=0.0) > _SAME])


def _lifted(region: Region, base: Array, lift: float) -> Array:
    """Per domain: its weight raised by ``lift`` of the way to its highest, the others in the proportions of ``base``."""
    out = []
    for d in range(len(base)):
        top = -region.least(-np.eye(len(base))[d])[1]
        raised = base[d] + lift * (top - base[d])
        rest = 1 - base[d]
        w = base * ((1 - raised) / rest if rest > 0 else 0.0)
        w[d] = raised
        out.append(w)
    points = region.project(np.array(out))
    return np.asarray(points[np.abs(points - base).max(axis=1) > _SAME])


def _farthest(chosen: list[Array], candidates: Array) -> int:
    """Which candidate is farthest from all chosen."""
    apart = np.sqrt(candidates)[:, None] - np.sqrt(np.array(chosen))[None]
    return int((apart**2).sum(axis=2).min(axis=1).argmax())


def _take_farthest(chosen: list[Array], candidates: Array) -> Array:
    """Move the candidate farthest from all chosen to them; the candidates that remain are given back."""
    best = _farthest(chosen, candidates)
    chosen.append(candidates[best])
    return np.delete(candidates, best, axis=0)


def coverage(mixtures: list[Mixture]) -> dict[str, tuple[float, float]]:
    """Per domain, its smallest and largest weight among the mixtures."""
    w: NDArray[Any] = np.array([mixture.weights for mixture in mixtures])
    return {
        name: (float(a), float(b)) for name, a, b in zip(mixtures[0].domains, w.min(axis=0), w.max(axis=0), strict=True)
    }
