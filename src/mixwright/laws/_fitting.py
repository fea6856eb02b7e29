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
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from annotated_types import Ge, Gt
from numpy.typing import NDArray

from mixwright.core.errors import DataError
from mixwright.core.law import Law
from mixwright.core.observation import Runs
from mixwright.core.rng import rng as stream
from mixwright.laws._fit import GraphFit, error_correlation
from mixwright.laws._noise import mixture_groups, seed_noise
from mixwright.laws._solver import Problems, solve
from mixwright.laws.graph import Builder, Graph

Array = NDArray[np.float64]
#: a normal variable lies within this many standard deviations in 90 % of cases
Z90 = 1.6448536269514722
#: the residuals' scale over the standard deviation of a metric's losses ("noise 0.1" of the shrunken additive law)
NOISE = 0.1
#: sizes and token counts closer than this part are one setting
SAME_SETTING = 0.02
#: iterations after which the best of several starts is kept
_SCREENING = 30
#: iterations of the members, which start from the solution for all runs
_MEMBER_ITERATIONS = 40


@dataclass(frozen=True)
class Table:
    """What forms see of the runs: mixtures ``x (N, D)``, losses ``y (M, N)`` (0 where ``known`` is false), names.

    ``own (M, D)`` marks the domain a metric is the held-out part of.
    """

    x: Array
    y: Array
    known: NDArray[np.bool_]
    domains: tuple[str, ...]
    metrics: tuple[str, ...]
    own: NDArray[np.bool_]

    def spread(self, w: Array) -> tuple[Array, Array, Array]:
        """Of the runs with weight: mean, standard deviation and lowest loss per metric, ``(M,)`` each."""
        v = self.known * w
        v = np.where(v.any(axis=1, keepdims=True), v, self.known)  # a metric that none of them measured: of all runs
        total = np.maximum(v.sum(axis=1), 1e-12)
        mean = (v * self.y).sum(axis=1) / total
        sd = np.sqrt((v * (self.y - mean[:, None]) ** 2).sum(axis=1) / total)
        low = np.where(v > 0, self.y, np.inf).min(axis=1)
        return mean, sd, np.where(np.isfinite(low), low, mean)

    def scale(self, w: Array) -> Array:
        """The scale of residuals per metric ``(M,)``; where all losses are equal, a thousandth of them."""
        mean, sd, _ = self.spread(w)
        return NOISE * np.maximum(sd, 1e-2 * np.abs(mean) + 1e-9)


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

    @classmethod
    def width(cls, domains: int) -> int:
        """How many parameters a metric has."""
        return cls.shared + cls.blocks * domains

    def check(self, table: Table) -> None:  # noqa: B027  (an optional hook: most forms take any losses)
        """Raise DataError if the form cannot describe such losses."""

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


def losses_positive(table: Table, law: str) -> None:
    """DataError if a loss is not positive, for forms with a floor between zero and the losses."""
    for metric, y, known in zip(table.metrics, table.y, table.known, strict=True):
        if np.any(known & (y <= 0)):
            raise DataError(
                f"The {law} law needs positive losses; {metric} has {y[known].min():.4g}. Leave the metric out, or use linear."
            )


def own_domains(metrics: Sequence[str], domains: Sequence[str]) -> NDArray[np.bool_]:
    """``(M, D)``: true where a metric is the held-out part of a domain: ``val:<domain>`` or the domain's very name.

    Letter case and punctuation are immaterial, so ``Pile-CC`` belongs to ``pile_cc``.
    """

    def plain(name: str) -> str:
        return "".join(c if c.isalnum() else "_" for c in name.casefold())

    keys = [plain(domain) for domain in domains]
    return np.array([[plain(metric.removeprefix("val:")) == key for key in keys] for metric in metrics], dtype=bool)


def one_setting(runs: Runs) -> tuple[Runs, str]:
    """The usable runs of the commonest size and token count (the larger in a tie), and a sentence if others are left out."""
    usable = runs.usable()
    if not len(usable):
        raise DataError("No run of the table is done, so there is nothing to fit; see its status column.")
    places, place, count = np.unique(
        np.stack([usable.params, usable.tokens], axis=1),
        axis=0,
        return_inverse=True,
        return_counts=True,
        equal_nan=True,
    )
    place = place.reshape(-1)
    filled = np.where(np.isnan(places), 0.0, places)
    near = np.all(
        np.abs(filled[:, None] - filled[None]) <= SAME_SETTING * np.maximum(filled[:, None], filled[None]), axis=2
    )
    support = near @ count
    chosen = max(range(len(places)), key=lambda n: (support[n], tuple(filled[n])))
    rows = np.flatnonzero(near[chosen][place])
    if len(rows) == len(usable):
        return usable, ""
    note = (
        f"fitted on {len(rows)} of {len(usable)} runs: the others are of another size or token count, which this law does "
        "not know"
    )
    return usable.take(rows), note


def tabulate(runs: Runs) -> tuple[Runs, Table]:
    """The runs with rows, domains and metrics sorted by name, and the table of them."""
    rows = sorted(range(len(runs)), key=lambda n: runs.run_id[n])
    domains = sorted(range(len(runs.domains)), key=lambda n: runs.domains[n])
    metrics = sorted(range(len(runs.metrics)), key=lambda n: runs.metrics[n])
    ordered = runs.take(rows)
    names = tuple(runs.domains[d] for d in domains), tuple(runs.metrics[m] for m in metrics)
    y = ordered.losses[:, metrics].T
    known = np.isfinite(y)
    x = ordered.mixtures()[:, domains]
    return ordered, Table(x, np.where(known, y, 0.0), known, *names, own_domains(names[1], names[0]))


def deal_folds(mixtures: Array, folds: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """A fold ``0..folds-1`` for each row of ``mixtures (N, D)``; equal mixtures share one. Fewer folds if there are few."""
    groups = mixture_groups(mixtures)
    count = int(groups.max(initial=-1)) + 1
    return np.asarray((rng.permutation(count) % max(1, min(folds, count)))[groups])


def _fit(law: FormLaw, runs: Runs, seed: int) -> GraphFit:
    used, note = one_setting(runs)
    ordered, table = tabulate(used)
    for metric, known in zip(table.metrics, table.known, strict=True):
        if known.sum() < 2:
            raise DataError(
                f"{metric} has {int(known.sum())} measured value(s) in {len(used)} usable runs; a law needs at least 2. "
                "Leave the metric out, or add runs that measure it."
            )
    law.check(table)
    seeds = seed_noise(used)
    order = [table.metrics.index(metric) for metric in used.metrics]
    sorted_noise = np.empty(len(order))
    sorted_noise[order] = seeds.sd
    solution = _solve_sets(law, table, seed)
    residuals, variance = _held_out(law, table, solution)
    factor, misfit = _calibrate(residuals, variance, sorted_noise, table)
    graph = _write(law, table, solution, factor, misfit, used)
    covariance = error_correlation(residuals) * np.outer(misfit, misfit)
    back = np.argsort(sorted(range(len(used)), key=lambda n: used.run_id[n]))
    return GraphFit(
        law=_name(law), domains=used.domains, metrics=used.metrics, noise=seeds.sd, seed_covariance=seeds.covariance,
        status=tuple(_status(law, table, m, bool(solution.settled[0, m]), note) for m in order),
        graph=graph, forms=(_name(law),) * len(order), misfit=covariance[np.ix_(order, order)],
        reach=_reach(table.x), swept=used.mixtures(), run_id=used.run_id, residuals=residuals[back][:, order],
        parameters={
            table.metrics[m]: law.describe(_by_domain(law, solution.theta[0, m], table, used), used.domains) for m in order
        },
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


def _stack(problems: Sequence[Problems]) -> Problems:
    def joined(name: str) -> Array:
        return np.concatenate([getattr(p, name) for p in problems])

    return Problems(*(joined(name) for name in ("y", "w", "scale", "R", "q", "low", "high", "delta")))


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
        solved = solve(lambda t: law.evaluate(t, table.x), theta.reshape(sets * count, -1), _stack(one))
        theta = solved.theta.reshape(sets, count, -1)
    assert theta is not None
    return theta, solved.settled.reshape(sets, count), priors


def _screened(law: FormLaw, table: Table, starts: Sequence[Array], problems: Sequence[Problems]) -> Array:
    """Of several starts per set and metric, ``A x (M, P)`` for each set, where the best is after some iterations."""
    places, count, width = starts[0].shape
    if places == 1:
        return np.concatenate(starts)
    each = _stack([p for p in problems for _ in range(places)])
    solved = solve(
        lambda t: law.evaluate(t, table.x), np.concatenate(starts).reshape(-1, width), each, iterations=_SCREENING
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
        lambda t: law.evaluate(t, table.x), np.concatenate(starts), _stack(problems), iterations=_MEMBER_ITERATIONS
    )
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


def _calibrate(residuals: Array, variance: Array, noise: Array, table: Table) -> tuple[float, Array]:
    """The factor on the members' deviations, and the misfit's standard deviation per metric ``(M,)`` (factor included).

    Misfit is what the mean square of held-out errors leaves after the members' variance and the seed noise. The factor
    then makes 90 % of all held-out errors lie within their intervals, with the finite-sample level of conformal
    prediction (Vovk et al. 2005): a little more than 90 % when mixtures are few. It stays within 1/2 and 4.
    """
    seed = np.nan_to_num(noise, nan=0.0) ** 2
    known = np.isfinite(residuals)
    if not known.any():
        return 1.0, table.spread(np.ones(table.x.shape[0]))[1]
    count = np.maximum(known.sum(axis=0), 1)
    excess = np.where(known, residuals**2 - variance - seed, 0.0).sum(axis=0) / count
    misfit = np.maximum(excess, 0.0)
    error, own, of_seed = (
        part[known] for part in (residuals**2, variance + misfit, np.broadcast_to(seed, residuals.shape))
    )
    mixtures = int(mixture_groups(table.x).max()) + 1
    level = min(1.0, 0.9 * (1 + 1 / mixtures))
    low, high = 0.5, 4.0
    for _ in range(40):
        factor = np.sqrt(low * high)
        ratio = error / np.maximum(factor**2 * own + of_seed, 1e-300)
        low, high = (factor, high) if np.quantile(ratio, level) > Z90**2 else (low, factor)
    return float(high), high * np.sqrt(misfit)


def _write(law: FormLaw, table: Table, solution: Solution, factor: float, misfit: Array, runs: Runs) -> Graph:
    """The graph over the runs' own order of domains, with mean, spread and members of every metric."""
    build = Builder(runs.domains)
    for m, metric in enumerate(table.metrics):
        members = _by_domain(law, solution.members[0][m], table, runs)
        size = len(members)
        mean = law.write(build, _by_domain(law, solution.theta[0, m : m + 1], table, runs))
        raw = law.write(build, members)
        centre = build.apply("mul", build.sum(raw), build.const(-1.0 / size))
        away = build.apply("mul", build.apply("add", raw, centre), build.const(factor))
        square = build.apply("mul", build.sum(build.apply("mul", away, away)), build.const(1.0 / (size - 1)))
        spread = build.apply("pow", build.apply("add", square, build.const(misfit[m] ** 2)), build.const(0.5))
        build.output(metric, mean=mean, spread=spread, members=build.apply("add", mean, away))
    return build.graph()


def _by_domain(law: FormLaw, theta: Array, table: Table, runs: Runs) -> Array:
    """Parameters ``(..., P)`` with the blocks of domains in the runs' order instead of sorted."""
    count = len(table.domains)
    place = np.array([table.domains.index(domain) for domain in runs.domains])
    index = [np.arange(law.shared), *(law.shared + block * count + place for block in range(law.blocks))]
    return theta[..., np.concatenate(index)]


def _status(law: FormLaw, table: Table, metric: int, settled: bool, note: str) -> str:
    """``converged``, or what a reader of this metric's predictions must know."""
    known, width = int(table.known[metric].sum()), law.width(len(table.domains))
    words = [note] if note else []
    if known < table.known.shape[1]:
        words.append(f"fitted on the {known} of {table.known.shape[1]} runs that measured it")
    if known < width:
        words.append(f"fewer runs ({known}) than parameters ({width}): what the runs leave open is as the prior has it")
    if not settled:
        words.append("the solver stopped before it settled")
    return "; ".join(words) or "converged"


def _reach(x: Array) -> float:
    """Half the median L1 distance between swept mixtures (of at most 500, evenly taken); 1 where there is one."""
    points = np.unique(x, axis=0)
    points = points[np.linspace(0, len(points) - 1, min(len(points), 500)).astype(int)]
    if len(points) < 2:
        return 1.0
    apart = np.abs(points[:, None] - points[None]).sum(axis=2)
    return float(np.median(apart[np.triu_indices(len(points), 1)])) / 2
