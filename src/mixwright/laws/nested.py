"""Laws in one another: each run's steps, then each mixture's sizes, then mixtures, as in Ye et al. (2024, section 4).

Notation: R runs, K mixtures, Z sizes, M metrics, D domains, B members.

Every run is carried to the target's tokens by the step law, every mixture to its parameters by the size law, and the mixing
law is fitted to the losses so predicted. Members go all the way: member b of the fit has its own exponents, annealing and
coefficients, so what is uncertain of the extrapolation is uncertain of the answer; of its draw the part that varies linearly
with the weights is kept (the rest is scatter from mixture to mixture, which the mixing law meets as noise).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated

import numpy as np
from annotated_types import Gt
from numpy.typing import NDArray

from mixwright.core.errors import DataError
from mixwright.core.find import find
from mixwright.core.law import Law
from mixwright.core.observation import Runs
from mixwright.core.rng import rng as stream
from mixwright.laws._fit import GraphFit
from mixwright.laws._noise import mixture_groups
from mixwright.laws._table import SAME_SETTING
from mixwright.laws.graph import Builder
from mixwright.laws.sizes import SizeLaw
from mixwright.laws.steps import StepLaw

Array = NDArray[np.float64]
#: runs' worth of belief that a member's extrapolation error does not depend on the mixture
_RIDGE = 1.0


@dataclass(frozen=True)
class Nested(Law):
    """``law`` is the mixing law; the target has ``tokens`` and non-embedding ``params`` (None: the most that any run has).

    Runs of one moment need no step law, runs of one size no size law, and then that law is left out.
    """

    law: str = "hierarchical"
    tokens: Annotated[float, Gt(0)] | None = None
    params: Annotated[float, Gt(0)] | None = None
    steps: StepLaw = field(default_factory=StepLaw)
    sizes: SizeLaw = field(default_factory=SizeLaw)

    def fit(self, runs: Runs, rng: np.random.Generator) -> GraphFit:
        """Fit every metric at the target, from all sizes and checkpoints. Cost: the step law's and the mixing law's.

        Deterministic given ``rng``; the order of rows, domains and metrics is immaterial. DataError where a law that is
        needed lacks tokens, checkpoints or sizes.
        """
        seed = int(rng.integers(1 << 62))
        target, members, noise = self._at_target(runs, seed)
        inner: GraphFit = find("laws", self.law)().fit(target, stream(seed, "mixtures"))
        if not members.any():
            return _named(inner, runs.metrics)
        return _named(_carry(inner, target, members, noise), runs.metrics)

    def scored(self, runs: Runs, rng: np.random.Generator) -> Runs:
        """The rows that the fit's residuals are of: every mixture's losses, carried to the target (``rng`` as for ``fit``)."""
        return self._at_target(runs, int(rng.integers(1 << 62)))[0]

    def _at_target(self, runs: Runs, seed: int) -> tuple[Runs, Array, Array]:
        """Every mixture at the target, the members' deviations there, and a checkpoint's noise covariance."""
        usable = _sorted(runs.usable())
        if not len(usable):
            raise DataError("No run of the table is done, so there is nothing to fit; see its status column.")
        carried, members, noise = self._over_steps(usable, seed)
        return *self._over_sizes(carried, members, seed), noise

    def forecast(self, runs: Runs, tokens: Sequence[float], rng: np.random.Generator) -> Forecast:
        """Loss curves of every mixture of the table at the target's size, from the step and the size law alone.

        Deterministic given ``rng``. Cost: the step law once, the size law once per value of ``tokens``.
        """
        seed = int(rng.integers(1 << 62))
        usable = _sorted(runs.usable())
        steps = self.steps.fit(usable, stream(seed, "steps"))
        means, members = [], []
        for count in tokens:
            mean = steps.mean(float(count))
            carried = replace(steps.last, losses=mean, tokens=np.full(len(mean), float(count)), step=())
            target, away = self._over_sizes(carried, steps.members(float(count)) - mean, seed)
            means.append(target.losses)
            members.append(target.losses + away)
        return Forecast(
            target.run_id, target.mixtures(), target.metrics, np.asarray(tokens, dtype=np.float64), np.stack(means),
            np.stack(members, axis=1),
        )  # fmt: skip

    def _over_steps(self, runs: Runs, seed: int) -> tuple[Runs, Array, Array]:
        """Runs at the target's tokens, the members' deviations ``(B, R, M)``, and a checkpoint's noise covariance."""
        last = runs.last()
        tokens = self.tokens if self.tokens is not None else float(np.max(np.nan_to_num(runs.tokens), initial=0.0))
        count = self.steps.members
        if len(last) == len(runs) and (tokens == 0 or _same(runs.tokens, tokens)):
            return last, np.zeros((count, *last.losses.shape)), np.full((len(runs.metrics),) * 2, np.nan)
        fit = self.steps.fit(runs, stream(seed, "steps"))
        mean = fit.mean(tokens)
        carried = replace(fit.last, losses=mean, tokens=np.full(len(mean), tokens), step=())
        return carried, fit.members(tokens) - mean, fit.covariance

    def _over_sizes(self, runs: Runs, members: Array, seed: int) -> tuple[Runs, Array]:
        """One row per mixture at the target's size, and the members' deviations there ``(B, K, M)``."""
        params = self.params if self.params is not None else float(np.max(np.nan_to_num(runs.params), initial=0.0))
        if params == 0 or _same(runs.params, params):
            return runs, members
        sizes = np.unique(runs.params)
        group, place = mixture_groups(runs.mixtures()), np.searchsorted(sizes, runs.params)
        losses = _cells(runs.losses[None], group, place, len(sizes))[0]
        drawn = _cells(runs.losses + members, group, place, len(sizes))
        fit = self.sizes.fit(sizes, losses, drawn, stream(seed, "sizes"))
        first = [int(np.flatnonzero(group == k)[0]) for k in range(len(losses))]
        mean = fit.mean(params)
        known = np.isfinite(losses).any(axis=1)
        target = replace(
            runs.take(first), losses=np.where(known, mean, np.nan), params=np.full(len(first), params), step=()
        )  # fmt: skip
        return target, np.where(known, fit.members(params) - mean, 0.0)


@dataclass(frozen=True, eq=False)
class Forecast:
    """Predicted loss curves: ``mean (T, K, M)`` at ``tokens (T,)``, and ``members (B, T, K, M)``.

    Row k is the mixture ``mixtures[k]`` of ``run_id[k]`` (its first run by name); metrics are sorted by name.
    """

    run_id: tuple[str, ...]
    mixtures: Array
    metrics: tuple[str, ...]
    tokens: Array
    mean: Array
    members: Array

    def catches_up(self, fast: int, slow: int, metric_weights: Mapping[str, float]) -> tuple[float, float, float]:
        """The share of all tokens at which mixture ``fast`` has the loss that ``slow`` ends with, and its 90 % interval.

        1 where it never has. Each member is asked by itself, so what both curves share does not widen the interval.
        """
        q = np.array([metric_weights.get(metric, 0.0) for metric in self.metrics])
        every = [self._share(self.mean[:, fast] @ q, self.mean[:, slow] @ q)]
        every += [self._share(one[:, fast] @ q, one[:, slow] @ q) for one in self.members]
        low, high = np.quantile(every[1:], [0.05, 0.95])
        return every[0], float(low), float(high)

    def _share(self, fast: Array, slow: Array) -> float:
        lowest = np.minimum.accumulate(fast)
        if lowest[-1] > slow[-1]:
            return 1.0
        return float(np.interp(-slow[-1], -lowest, self.tokens) / self.tokens[-1])


def _sorted(runs: Runs) -> Runs:
    """Rows by run and tokens, metrics by name, so that their order can have no consequence."""
    order = np.lexsort((np.nan_to_num(runs.tokens), np.array(runs.run_id)))
    by_name = sorted(runs.metrics)
    place = [runs.metrics.index(metric) for metric in by_name]
    rows = runs.take(order)
    return replace(
        rows, metrics=tuple(by_name), losses=rows.losses[:, place], bpb=rows.bpb[:, place],
        unigram=rows.unigram[:, place], units=tuple(rows.units[m] for m in place),
    )  # fmt: skip


def _same(values: Array, target: float) -> bool:
    """Whether all of these are the target's, or unknown."""
    return bool(np.all(np.isnan(values) | (np.abs(np.log(values / target)) <= SAME_SETTING)))


def _cells(values: Array, group: NDArray[np.int64], place: NDArray[np.int64], sizes: int) -> Array:
    """Means ``(B, K, Z, M)`` of values ``(B, R, M)`` over the runs of each mixture and size; NaN where there are none."""
    known = np.isfinite(values)
    mixtures = int(group.max()) + 1
    cell = (group * sizes + place)[None] == np.arange(mixtures * sizes)[:, None]  # (K Z, R)
    total, count = cell @ np.where(known, values, 0.0), cell @ known.astype(float)
    mean = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return np.asarray(mean.reshape(len(values), mixtures, sizes, values.shape[2]))


def _carry(inner: GraphFit, target: Runs, deviations: Array, noise: Array) -> GraphFit:
    """The mixing law's fit whose members also carry theirs of the extrapolation, as linear functions of the weights."""
    x = target.mixtures()
    pull = np.linalg.solve(x @ x.T + _RIDGE * np.eye(len(x)), np.eye(len(x)))
    level = np.nan_to_num(deviations).mean(axis=1)
    slopes = np.einsum("dk,bkm->bmd", x.T @ pull, np.nan_to_num(deviations) - level[:, None]) + level[:, :, None]
    build = Builder(inner.domains)
    place = build.graft(inner.graph)
    for metric in inner.metrics:
        nodes = {name: place[node] for name, node in inner.graph.outputs[metric].items()}
        size = inner.graph.lengths[inner.graph.outputs[metric]["members"]]
        drawn = slopes[np.arange(size) % len(slopes), target.metrics.index(metric)]
        build.output(metric, **_with_carried(build, nodes, drawn))
    sd = np.sqrt(np.diag(noise))
    known = np.isfinite(sd)
    return replace(
        inner, law="nested", graph=build.graph(), noise=np.where(known, sd, inner.noise),
        seed_covariance=np.where(np.isfinite(noise), noise, inner.seed_covariance),
    )  # fmt: skip


def _with_carried(build: Builder, nodes: Mapping[str, int], slopes: Array) -> dict[str, int]:
    """A metric's nodes with the members' ``slopes (B, D)``, about their mean, added."""
    size, chosen = len(slopes), slopes - slopes.mean(axis=0)
    carried = build.matmul(chosen, build.weights())
    variance = build.apply("mul", build.sum(build.apply("mul", carried, carried)), build.const(1.0 / (size - 1)))
    square = build.apply("mul", nodes["spread"], nodes["spread"])
    spread = build.apply("pow", build.apply("add", square, variance), build.const(0.5))
    return {
        **{name: node for name, node in nodes.items() if name == "scale"},
        "mean": nodes["mean"],
        "spread": spread,
        "members": build.apply("add", nodes["members"], carried),
    }


def _named(fit: GraphFit, metrics: Sequence[str]) -> GraphFit:
    """The fit with its metrics in the table's order."""
    return replace(fit.only(metrics), law="nested")
