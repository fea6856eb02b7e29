"""What laws see of a table of runs: one setting, sorted by name, losses per metric, folds that keep repeats together.

Notation: N runs, D domains, M metrics; x ``(N, D)`` mixtures, y ``(M, N)`` losses, w ``(N,)`` weights of the runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from mixwright.core.errors import DataError
from mixwright.core.observation import Runs
from mixwright.laws._noise import mixture_groups, seed_noise

Array = NDArray[np.float64]
#: what a form is expected to miss, over the standard deviation of a metric's losses; with the priors of the additive law
#: this was the best of 0.03, 0.05 and 0.1 on published runs, by little
NOISE = 0.1
#: sizes and token counts closer than this part are one setting
SAME_SETTING = 0.02
#: a fit's time and memory grow with runs x parameters x metrics x members; with this many, seed noise is averaged out
MOST_RUNS = 2048
#: how far a new version of a domain is likely to be from the earlier one, over the widths of what laws learn of domains; an
#: assumption, since no published table has both
RELATED = 0.3
#: into how many steps that part is cut when settings are counted
_STEPS = 10


@dataclass(frozen=True)
class Table:
    """What forms see of the runs: mixtures ``x (N, D)``, losses ``y (M, N)`` (0 where ``known`` is false), names.

    ``own (M, D)`` marks the domain a metric is the held-out part of; ``noise (M,)`` is the seed noise, 0 where unknown.
    ``related`` are pairs of domains, a new version and an earlier one, which are likely to be alike.
    """

    x: Array
    y: Array
    known: NDArray[np.bool_]
    domains: tuple[str, ...]
    metrics: tuple[str, ...]
    own: NDArray[np.bool_]
    noise: Array
    related: tuple[tuple[int, int], ...] = ()

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
        """How far losses are expected to scatter about the law, ``(M,)``: what scales the residuals.

        The seed noise and, in quadrature, ``NOISE`` of the losses' spread for what the form misses.
        """
        mean, sd, _ = self.spread(w)
        misfit = NOISE * np.maximum(sd, 1e-4 * np.abs(mean) + 1e-9)
        return np.hypot(misfit, self.noise)


def tabulate(runs: Runs) -> Table:
    """The runs with rows, domains and metrics sorted by name, so that their order can have no consequence.

    Raises DataError for a metric with fewer than two values.
    """
    time = np.nan_to_num(runs.tokens, nan=-1.0).tolist()
    rows = sorted(range(len(runs)), key=lambda n: (runs.run_id[n], time[n], runs.step[n]))
    domains = sorted(range(len(runs.domains)), key=lambda n: runs.domains[n])
    metrics = sorted(range(len(runs.metrics)), key=lambda n: runs.metrics[n])
    ordered = runs.take(rows)
    names = tuple(runs.domains[d] for d in domains), tuple(runs.metrics[m] for m in metrics)
    y = ordered.losses[:, metrics].T
    known = np.isfinite(y)
    for metric, number in zip(names[1], known.sum(axis=1).tolist(), strict=True):
        if number < 2:
            raise DataError(
                f"A law needs at least 2 measured losses; {metric} has {number} in {len(runs)} usable runs. Leave the metric "
                "out, or add runs that measure it."
            )
    noise = np.nan_to_num(seed_noise(ordered).sd[metrics], nan=0.0)
    x = ordered.mixtures()[:, domains]
    related = tuple((names[0].index(new), names[0].index(old)) for new, old in sorted(runs.related.items()))
    return Table(x, np.where(known, y, 0.0), known, *names, own_domains(names[1], names[0], runs.own), noise, related)


def one_setting(runs: Runs) -> tuple[Runs, str]:
    """The usable runs of the commonest size and token count (the larger in a tie), and a sentence if others are left out.

    Steps stand for tokens where these are unknown. At most one row of a run is taken, its last of that setting, exact
    copies of runs count once, and of more than ``MOST_RUNS`` runs that many are drawn; the sentence says so.
    """
    usable = runs.usable()
    if not len(usable):
        raise DataError("No run of the table is done, so there is nothing to fit; see its status column.")
    used = usable.take(_commonest(usable)).last()
    notes = []
    if len(used) < len(usable):
        runs_in_all = len(set(usable.run_id))
        if len(used) == runs_in_all:
            notes.append(
                f"fitted on one row of each run: {len(usable) - len(used)} more are of other sizes or token counts"
            )
        else:
            notes.append(
                f"fitted on {len(used)} of {runs_in_all} runs: the others are of another size or token count, which this law "
                "does not know"
            )
    used, copies = used.without_copies()
    if copies and len(used) == 1:
        raise DataError(
            "All runs are exact copies of one another, so nothing can be learned from their differences: add runs."
        )
    if copies:
        notes.append(copies[0].lower() + copies[1:].removesuffix("."))
    if len(used) > MOST_RUNS:
        notes.append(
            f"fitted on {MOST_RUNS} of {len(used)} runs, drawn by their run ids: more would take time and tell little"
        )
        used = _drawn(used)
    return used, "; ".join(notes)


def settings(runs: Runs) -> list[Runs]:
    """The rows of each size and token count, the commonest setting first (the larger in a tie)."""
    out, rest = [], runs
    while len(rest):
        here = _commonest(rest)
        out.append(rest.take(here))
        rest = rest.take(~here)
    return out


def _commonest(usable: Runs) -> NDArray[np.bool_]:
    """Which rows ``(N,)`` are of the commonest size and token count; steps stand for tokens where these are unknown."""
    time = np.where(np.isnan(usable.tokens), np.array(usable.step, dtype=np.float64), usable.tokens)
    size = np.log1p(np.nan_to_num(np.stack([usable.params, time], axis=1), nan=0.0))
    places, place, count = np.unique(
        np.round(size / SAME_SETTING * _STEPS).astype(np.int64), axis=0, return_inverse=True, return_counts=True
    )
    support = _support(places, count)
    chosen = places[max(range(len(places)), key=lambda n: (support[n], tuple(places[n])))]
    near = np.abs(places - chosen).max(axis=1) <= _STEPS
    return np.asarray(near[place.reshape(-1)])


def _drawn(runs: Runs) -> Runs:
    """``MOST_RUNS`` of the runs, whatever their order: those whose ids have the lowest hashes."""
    order = sorted(range(len(runs)), key=lambda n: blake2b(runs.run_id[n].encode(), digest_size=8).digest())
    return runs.take(sorted(order[:MOST_RUNS]))


def _support(places: NDArray[np.int64], count: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many rows are near each of the settings ``places (K, 2)``, which are sorted."""
    sizes, start = np.unique(places[:, 0], return_index=True)
    stop = np.append(start[1:], len(places))
    out = np.zeros(len(places), dtype=np.int64)
    for a, b in zip(start, stop, strict=True):
        for other in np.flatnonzero(np.abs(sizes - places[a, 0]) <= _STEPS):
            times = places[start[other] : stop[other], 1]
            total = np.append(0, np.cumsum(count[start[other] : stop[other]]))
            first = np.searchsorted(times, places[a:b, 1] - _STEPS, side="left")
            out[a:b] += total[np.searchsorted(times, places[a:b, 1] + _STEPS, side="right")] - total[first]
    return out


def own_domains(
    metrics: Sequence[str], domains: Sequence[str], own: Mapping[str, tuple[str, ...]] | None = None
) -> NDArray[np.bool_]:
    """``(M, D)``: true where a metric is the held-out part of a domain: as ``own`` says, and for metrics it does not name
    by name: ``val:<domain>`` or the domain's very name.

    Letter case and punctuation are immaterial, so ``Pile-CC`` belongs to ``pile_cc``.
    """

    def plain(name: str) -> str:
        return "".join(c if c.isalnum() else "_" for c in name.casefold())

    keys, own = [plain(domain) for domain in domains], own or {}
    return np.array(
        [
            [domain in own[metric] if metric in own else plain(metric.removeprefix("val:")) == key
             for domain, key in zip(domains, keys, strict=True)]
            for metric in metrics
        ],
        dtype=bool,
    )  # fmt: skip


def alike(R: Array, q: Array, table: Table, blocks: Sequence[tuple[slice, float]]) -> tuple[Array, Array]:
    """The prior ``|R theta - q|² / 2`` with related domains expected to be alike; shapes as before, ``R (M, P, P)``.

    ``blocks`` are the places in theta of numbers per domain, and how wide these are; the difference between a domain and its
    earlier version is ``RELATED`` times as wide.
    """
    if not table.related:
        return R, q
    rows = []
    for place, width in blocks:
        for new, old in table.related:
            row = np.zeros(R.shape[2])
            row[place][new], row[place][old] = 1.0, -1.0
            rows.append(row / (RELATED * width))
    both = np.concatenate([R, np.broadcast_to(np.array(rows), (len(R), len(rows), R.shape[2]))], axis=1)
    Q, square = np.linalg.qr(both)
    return square, np.matmul(Q[:, : q.shape[1]].transpose(0, 2, 1), q[:, :, None])[:, :, 0]


def losses_positive(table: Table, law: str) -> None:
    """DataError if a loss is not positive, for forms with a floor between zero and the losses."""
    for metric, y, known in zip(table.metrics, table.y, table.known, strict=True):
        if np.any(known & (y <= 0)):
            raise DataError(
                f"The {law} law needs positive losses; {metric} has {y[known].min():.4g}. Leave the metric out, or use linear."
            )


def deal_folds(mixtures: Array, folds: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """A fold ``0..folds-1`` for each row of ``mixtures (N, D)``; equal mixtures share one. Fewer folds if there are few."""
    groups = mixture_groups(mixtures)
    count = int(groups.max(initial=-1)) + 1
    return np.asarray((rng.permutation(count) % max(1, min(folds, count)))[groups])
