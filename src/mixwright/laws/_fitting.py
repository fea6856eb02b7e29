"""The one place that fits: from a functional form and a table of runs to a fit with a calibrated spread.

Notation: N runs, D domains, M metrics, P parameters, S sets of runs (all of them, and all but a fold), B members of the
ensemble; x ``(N, D)`` mixtures, y ``(M, N)`` losses, w ``(S, N)`` weights of the runs; θ ``(S, M, P)``.

A law is a ``FormLaw``: it says how its form is evaluated, where to start, what is likely before any run is seen, and how
it is written as a graph. Everything else (several starts, the ensemble, folds, calibration, status) is done here, once,
for all metrics, sets and members together in batches. Runs, domains and metrics are sorted by name before anything is
computed, so that their order in the table cannot matter.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from annotated_types import Ge, Gt
from numpy.typing import NDArray

from mixwright.core.law import Law
from mixwright.core.observation import Runs
from mixwright.core.rng import rng as stream
from mixwright.laws._calibration import calibrate, error_correlation, reach
from mixwright.laws._fit import GraphFit
from mixwright.laws._noise import seed_noise
from mixwright.laws._solver import Problems, solve
from mixwright.laws._table import Table, deal_folds, one_setting, tabulate
from mixwright.laws.graph import Builder

Array = NDArray[np.float64]
#: iterations after which the best of several starts is kept
_SCREENING = 30
#: iterations of the members, which start from the solution for all runs
_MEMBER_ITERATIONS = 40
#: how finely members are solved: they scatter by far more
_MEMBER_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Prior:
    """Before any run: per metric ``|R θ - q|² / 2`` with ``R (M, Q, P)``, ``q (M, Q)``, and bounds ``(M, P)``."""

    R: Array
    q: Array
    low: Array
    high: Array


@dataclass(frozen=True)
class FormLaw(Law):
    """A law given by a differentiable form; plug-ins subclass it and implement the abstract methods.

    The parameters of a metric are ``shared`` numbers followed by blocks of one number per domain. ``members`` is the size
    of the ensemble, ``folds`` the number of parts of the mixtures held out in turn to calibrate it, ``huber`` the threshold
    of Huber's loss in nats (None: squares).
    """

    members: Annotated[int, Ge(2)] = 32
    folds: Annotated[int, Ge(2)] = 5
    huber: Annotated[float, Gt(0)] | None = None

    #: how many of a metric's parameters belong to no domain
    shared: ClassVar[int] = 0
    #: how many of them each domain has
    blocks: ClassVar[int] = 1
    #: how many times the prior is adapted to all metrics together (empirical Bayes)
    adaptations: ClassVar[int] = 0

    @abstractmethod
    def evaluate(self, theta: Array, x: Array) -> tuple[Array, Array]:
        """Losses ``(K, N)`` at mixtures ``x (N, D)`` for parameters ``theta (K, P)``, and derivatives ``(K, N, P)``."""

    @abstractmethod
    def starts(self, table: Table, w: Array) -> Array:
        """Where to start, ``(A, M, P)``: A places, from the runs with weight in ``w (N,)``."""

    @abstractmethod
    def prior(self, table: Table, w: Array, theta: Array | None) -> Prior:
        """What is likely, given the runs' weights and, in adaptations, the parameters ``theta (M, P)`` found so far."""

    @abstractmethod
    def write(self, build: Builder, theta: Array) -> int:
        """Write the form with parameters ``theta (B, P)``: the node whose value is the B losses."""

    @abstractmethod
    def describe(self, theta: Array, domains: Sequence[str]) -> dict[str, Any]:
        """One metric's parameters ``theta (P,)`` by the names a person knows."""

    def width(self, domains: int) -> int:
        """How many parameters a metric has."""
        return self.shared + self.blocks * domains

    def check(self, table: Table) -> None:
        """Raise DataError if the form cannot describe such losses."""

    def unknowns(self, domains: int) -> int:
        """How many of a metric's parameters the runs are to tell."""
        return self.width(domains)

    def remark(self, table: Table, metric: int) -> str:
        """What a reader of this metric's predictions must know of the form itself; empty if nothing."""
        return ""

    def fit(self, runs: Runs, rng: np.random.Generator) -> GraphFit:
        """Fit every metric of ``runs``. Deterministic given ``rng``; the order of runs, domains and metrics is immaterial.

        If the runs are of several sizes or token counts, those of the commonest are used and the status says how many
        are left. Raises DataError for a metric with fewer than two values. Cost: for 20 runs, 5 domains and 7 metrics
        some tenths of a CPU-second.
        """
        return _fit(self, runs, int(rng.integers(1 << 62)))


@dataclass(frozen=True)
class Solution:
    """Of one law on one table: ``theta (S, M, P)``, ``settled (S, M)``, ``members (S, M, B, P)`` (B varies with the set).

    Set 0 is all runs, the others all but one fold; ``held (S, N)`` marks the runs left out.
    """

    theta: Array
    settled: NDArray[np.bool_]
    members: list[Array]
    held: NDArray[np.bool_]


def centred(count: int) -> Array:
    """The matrix that takes the mean off ``count`` numbers: a prior on their differences, none on their level."""
    return np.eye(count) - 1.0 / count


def _fit(law: FormLaw, runs: Runs, seed: int) -> GraphFit:
    used, note = one_setting(runs)
    table = tabulate(used)
    law.check(table)
    solution = _solve_sets(law, table, seed)
    residuals, variance = _held_out(law, table, solution)

    def write(build: Builder, m: int) -> tuple[int, int, int]:
        members = _by_domain(law, solution.members[0][m], table, used)
        mean = law.write(build, _by_domain(law, solution.theta[0, m : m + 1], table, used))
        return mean, law.write(build, members), len(members)

    return assemble(
        _name(law), table, used, residuals, variance, write,
        [_status(law, table, m, bool(solution.settled[0, m]), note) for m in range(len(table.metrics))],
        [law.describe(_by_domain(law, theta, table, used), used.domains) for theta in solution.theta[0]],
    )  # fmt: skip


def assemble(
    law: str,
    table: Table,
    used: Runs,
    residuals: Array,
    variance: Array,
    write: Callable[[Builder, int], tuple[int, int, int]],
    status: Sequence[str],
    parameters: Sequence[dict[str, Any]],
    scale: tuple[Array, Callable[[Builder, int], int]] | None = None,
) -> GraphFit:
    """A calibrated fit from what any law found; all that is per metric or row is in the order of ``table``.

    ``residuals (N, M)`` and ``variance (N, M)`` are the held-out errors and the members' variance there (NaN where not
    measured). ``write(build, m)`` writes metric m over the domains of ``used``: the node of its mean, that of its members
    before calibration, and how many these are. ``scale``: how many times its typical size the misfit is at the
    runs ``(N, M)``, and what writes that number for any mixture (None: it is the same everywhere).
    """
    seeds = seed_noise(used)
    order = [table.metrics.index(metric) for metric in used.metrics]
    factor, misfit = calibrate(residuals, variance, table, None if scale is None else scale[0])
    build = Builder(used.domains)
    for m, metric in enumerate(table.metrics):
        mean, members, size = write(build, m)
        _write(
            build, metric, mean, members, size, factor, float(misfit[m]), None if scale is None else scale[1](build, m)
        )
    covariance = error_correlation(residuals) * np.outer(misfit, misfit)
    back = np.argsort(sorted(range(len(used)), key=lambda n: used.run_id[n]))
    return GraphFit(
        law=law, domains=used.domains, metrics=used.metrics, noise=seeds.sd, seed_covariance=seeds.covariance,
        status=tuple(status[m] for m in order), graph=build.graph(), forms=(law,) * len(order),
        misfit=covariance[np.ix_(order, order)], reach=reach(table.x), swept=used.mixtures(), run_id=used.run_id,
        residuals=residuals[back][:, order], parameters={table.metrics[m]: parameters[m] for m in order},
    )  # fmt: skip


def _name(law: FormLaw) -> str:
    return type(law).__module__.rpartition(".")[2]


def _solve_sets(law: FormLaw, table: Table, seed: int) -> Solution:
    """Solve for all runs and for all but each fold, and an ensemble around each."""
    fold = deal_folds(table.x, law.folds, stream(seed, "folds"))
    parts = int(fold.max(initial=-1)) + 1
    held = np.zeros((1 + parts if parts > 2 else 1, len(fold)), dtype=bool)
    for part in range(1, len(held)):
        held[part] = fold == part - 1
    w = (~held).astype(float)
    theta, settled, priors = _solve_points(law, table, w)
    return Solution(theta, settled, _solve_members(law, table, w, theta, priors, seed), held)


def _problems(law: FormLaw, table: Table, w: Array, prior: Prior, scale: Array) -> Problems:
    """One problem per metric, for one set of runs."""
    delta = np.full_like(scale, np.inf) if law.huber is None else law.huber / scale
    return Problems(table.y, w * table.known, scale, prior.R, prior.q, prior.low, prior.high, delta)


def _solve_points(law: FormLaw, table: Table, w: Array) -> tuple[Array, NDArray[np.bool_], list[Prior]]:
    """The best of several starts for each set of runs and metric; the prior adapted in between."""
    sets, count = len(w), len(table.metrics)
    scales = [table.scale(row) for row in w]
    starts = [law.starts(table, row) for row in w]
    theta: Array | None = None
    for _ in range(1 + law.adaptations):
        priors = [law.prior(table, row, None if theta is None else theta[s]) for s, row in enumerate(w)]
        one = [_problems(law, table, w[s], priors[s], scales[s]) for s in range(sets)]
        if theta is None:
            theta = _screened(law, table, starts, one)
        solved = solve(lambda t: law.evaluate(t, table.x), theta.reshape(sets * count, -1), Problems.joined(one))
        theta = solved.theta.reshape(sets, count, -1)
    assert theta is not None
    return theta, solved.settled.reshape(sets, count), priors


def _screened(law: FormLaw, table: Table, starts: Sequence[Array], problems: Sequence[Problems]) -> Array:
    """Of several starts per set and metric, ``A x (M, P)`` for each set, where the best is after some iterations."""
    places, count, width = starts[0].shape
    if places == 1:
        return np.concatenate(starts)
    each = Problems.joined([p for p in problems for _ in range(places)])
    solved = solve(
        lambda t: law.evaluate(t, table.x),
        np.concatenate(starts).reshape(-1, width),
        each,
        iterations=_SCREENING,
        tolerance=_MEMBER_TOLERANCE,
    )
    best = solved.objective.reshape(len(problems), places, count).argmin(axis=1)
    found = solved.theta.reshape(len(problems), places, count, width)
    return np.take_along_axis(found, best[:, None, :, None], axis=1)[:, 0]


def _solve_members(
    law: FormLaw, table: Table, w: Array, theta: Array, priors: Sequence[Prior], seed: int
) -> list[Array]:
    """The ensemble of each set: runs reweighted, the prior's centre redrawn, solved from the set's own solution."""
    draws = stream(seed, "bootstrap").exponential(size=(law.members, w.shape[1]))
    shift = np.stack(
        [stream(seed, "prior", m).standard_normal((law.members, priors[0].q.shape[1])) for m in table.metrics], axis=1
    )
    problems, starts, sizes = [], [], []
    for s, row in enumerate(w):
        size = law.members if s == 0 else min(law.members, max(8, law.members // 3))
        sizes.append(size)
        weights = draws[:size] * row
        weights *= row.sum() / weights.sum(axis=1, keepdims=True)
        scale = table.scale(row)
        for b in range(size):
            prior = Prior(priors[s].R, priors[s].q + shift[b], priors[s].low, priors[s].high)
            problems.append(_problems(law, table, weights[b], prior, scale))
            starts.append(theta[s])
    solved = solve(
        lambda t: law.evaluate(t, table.x), np.concatenate(starts), Problems.joined(problems),
        iterations=_MEMBER_ITERATIONS, tolerance=_MEMBER_TOLERANCE,
    )  # fmt: skip
    found = np.split(solved.theta.reshape(sum(sizes), len(table.metrics), -1), np.cumsum(sizes)[:-1])
    return [part.transpose(1, 0, 2) for part in found]


def _held_out(law: FormLaw, table: Table, solution: Solution) -> tuple[Array, Array]:
    """Per run and metric ``(N, M)``: measured less predicted when held out, and the members' variance there; else NaN."""
    shape = table.y.T.shape
    residuals, variance = np.full(shape, np.nan), np.full(shape, np.nan)
    for s in range(1, len(solution.held)):
        rows = np.flatnonzero(solution.held[s])
        predicted, _ = law.evaluate(solution.theta[s], table.x[rows])
        count, size, width = solution.members[s].shape
        each, _ = law.evaluate(solution.members[s].reshape(count * size, width), table.x[rows])
        known = table.known[:, rows]
        residuals[rows] = np.where(known, table.y[:, rows] - predicted, np.nan).T
        variance[rows] = np.where(known, each.reshape(count, size, -1).var(axis=1, ddof=1), np.nan).T
    return residuals, variance


def _write(
    build: Builder, metric: str, mean: int, raw: int, size: int, factor: float, misfit: float, scale: int | None
) -> None:
    """Name the mean, spread, members and scale of a metric: deviations of ``raw`` members times ``factor``, about the mean."""
    centre = build.apply("mul", build.sum(raw), build.const(-1.0 / size))
    away = build.apply("mul", build.apply("add", raw, centre), build.const(factor))
    square = build.apply("mul", build.sum(build.apply("mul", away, away)), build.const(1.0 / (size - 1)))
    missed = build.const(misfit**2)
    if scale is not None:
        missed = build.apply("mul", missed, build.apply("mul", scale, scale))
    spread = build.apply("pow", build.apply("add", square, missed), build.const(0.5))
    scaled = {} if scale is None else {"scale": scale}
    build.output(metric, mean=mean, spread=spread, members=build.apply("add", mean, away), **scaled)


def _by_domain(law: FormLaw, theta: Array, table: Table, runs: Runs) -> Array:
    """Parameters ``(..., P)`` with the blocks of domains in the runs' order instead of sorted."""
    count = len(table.domains)
    place = np.array([table.domains.index(domain) for domain in runs.domains])
    index = [np.arange(law.shared), *(law.shared + block * count + place for block in range(law.blocks))]
    return theta[..., np.concatenate(index)]


def _status(law: FormLaw, table: Table, metric: int, settled: bool, note: str) -> str:
    """``converged``, or what a reader of this metric's predictions must know."""
    known, width = int(table.known[metric].sum()), law.unknowns(len(table.domains))
    words = [part for part in (note, law.remark(table, metric)) if part]
    if known < table.known.shape[1]:
        words.append(f"fitted on the {known} of {table.known.shape[1]} runs that measured it")
    if known < width:
        words.append(f"fewer runs ({known}) than parameters ({width}): what the runs leave open is as the prior has it")
    if not settled:
        words.append("the solver stopped before it settled")
    return "; ".join(words) or "converged"
