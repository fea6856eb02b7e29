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
from annotated_types import Ge
from numpy.typing import NDArray

from mixwright.core.errors import DataError
from mixwright.core.law import Law
from mixwright.core.observation import Runs
from mixwright.core.rng import rng as stream
from mixwright.laws._fit import GraphFit, error_correlation
from mixwright.laws._noise import mixture_groups, seed_noise
from mixwright.laws._solver import Problems, solve
from mixwright.laws.graph import Builder

Array = NDArray[np.float64]
#: a normal variable lies within this many standard deviations in 90 % of cases
Z90 = 1.6448536269514722
#: the residuals' scale over the standard deviation of a metric's losses ("noise 0.1" of the shrunken additive law)
NOISE = 0.1
#: sizes and token counts closer than this part are one setting
SAME_SETTING = 0.02
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
    of the ensemble, ``folds`` the number of parts of the mixtures held out in turn to calibrate it.
    """

    members: Annotated[int, Ge(2)] = 32
    folds: Annotated[int, Ge(2)] = 5

    #: how many of a metric's parameters belong to no domain
    shared: ClassVar[int] = 0
    #: how many times the prior is adapted to all metrics together (empirical Bayes)
    adaptations: ClassVar[int] = 0
    #: threshold of Huber's loss in units of the residuals' scale
    delta: ClassVar[float] = np.inf

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
        np.stack([usable.params, usable.tokens], axis=1), axis=0, return_inverse=True, return_counts=True, equal_nan=True
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
    noise = seed_noise(used).sd
    order = [table.metrics.index(metric) for metric in used.metrics]
    sorted_noise = np.empty(len(order))
    sorted_noise[order] = noise
    solution = _solve_sets(law, table, seed)
    residuals, variance = _held_out(law, table, solution)
    factor, misfit = _calibrate(residuals, variance, sorted_noise, table)
    graph = _write(law, table, solution, factor, misfit, used)
    covariance = error_correlation(residuals) * np.outer(misfit, misfit)
    back = np.argsort(sorted(range(len(used)), key=lambda n: used.run_id[n]))
    place = [table.domains.index(domain) for domain in used.domains]
    return GraphFit(
        law=type(law).__name__.lower(), domains=used.domains, metrics=used.metrics, noise=noise,
        status=tuple(_status(law, table, m, bool(solution.settled[0, m]), note) for m in order),
        graph=graph, forms=(_name(law),) * len(order), misfit=covariance[np.ix_(order, order)],
        reach=_reach(table.x), swept=used.mixtures(), run_id=used.run_id, residuals=residuals[back][:, order],
        parameters={
            table.metrics[m]: law.describe(_by_domain(law, solution.theta[0, m], place), used.domains) for m in order
        },
    )  # fmt: skip


def _name(law: FormLaw) -> str:
    return type(law).__module__.rpartition(".")[2]
