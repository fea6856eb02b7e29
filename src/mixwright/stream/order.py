"""The order: what comes at position *n* is a pure function of (schedule, seed, *n*).

A position counts windows (sequences) from the beginning of training. A ``Plan`` is a schedule made of whole global
batches over domains of known size; ``order(plan, positions)`` gives the domain, the epoch and the window at each.

- Each phase is apportioned exactly (see ``stream/apportion.py``): every domain's cumulative count is within one window
  of the ideal at phase ends and less than two away in between (1.3 was the most seen inside one phase, 1.6 with three,
  over thousands of random positions of random weights for 5 to 100 domains). What a phase owes a domain is given back in
  the next; only where a later phase drops domains altogether can an end be more than one off, for what they were owed
  or had too much stays.
- A domain's windows are numbered through, over all phases: window number ``i`` is in epoch ``i // n`` and is the
  ``i % n``-th of that epoch's own permutation of the domain's ``n`` windows. So none is repeated before its domain's
  epoch ends, and every epoch has a new order.
- Positions before *n* do not depend on what is planned after *n*, so a schedule can be cut, branched or extended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixwright.core.errors import DataError
from mixwright.core.rng import derive_seed
from mixwright.core.schedule import Phase, Schedule
from mixwright.store.artifact import content_key
from mixwright.stream.apportion import Tree
from mixwright.stream.permutation import permute, rectangle, scramble

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

#: Part of every plan's fingerprint; raised whenever an equal plan would give another order.
ORDER_VERSION = 1
#: Roundings tried for a phase whose end leaves a domain more than one window off.
_VARIANTS = 64
#: With more windows, products in float64 would be off by more than a thousandth of a window.
_MOST_WINDOWS = 1 << 40


@dataclass(frozen=True)
class PlannedPhase:
    """The windows from ``start`` on, ``windows`` of them, drawn by ``weights`` (D,).

    ``tokens`` is what the schedule asked for; ``variant`` numbers the choice of roundings, 0 unless the phase's end
    needed another.
    """

    start: int
    windows: int
    weights: tuple[float, ...]
    tokens: int
    variant: int = 0

    @property
    def end(self) -> int:
        """The position after its last window."""
        return self.start + self.windows


@dataclass(frozen=True)
class Plan:
    """Everything the order depends on. Make one with ``Plan.of``.

    ``supply`` is how many windows of ``seq_len`` tokens each domain holds, ``batch`` the global batch in windows,
    ``fingerprints`` the checksum of each domain's tokens ("" where unknown).
    """

    domains: tuple[str, ...]
    supply: tuple[int, ...]
    fingerprints: tuple[str, ...]
    phases: tuple[PlannedPhase, ...]
    seed: int
    seq_len: int
    batch: int

    @classmethod
    def of(
        cls,
        schedule: Schedule,
        supply: Mapping[str, int],
        seed: int,
        *,
        seq_len: int,
        batch: int,
        fingerprints: Mapping[str, str] | None = None,
        variants: Sequence[int] = (),
    ) -> Plan:
        """The plan of a schedule; ``supply`` gives windows per domain, ``seq_len`` tokens, ``batch`` windows.

        Phase ends are rounded to the nearest whole batch (``rounding`` reports by how much); neighbouring phases of
        one mixture become one, so a switch to the same mixture changes nothing. ``variants`` fixes those of the first
        phases, as the state of a training under way states them. Raises DataError for a phase too short to hold a
        batch, and for a domain that has a weight but no window.
        """
        if seq_len < 1 or batch < 1:
            raise DataError(f"A batch needs at least one window of one token; got {batch} of {seq_len}.")
        windows = tuple(int(supply.get(name, 0)) for name in schedule.domains)
        for name, tokens, count in zip(schedule.domains, schedule.exposure().sum(axis=0), windows, strict=True):
            if tokens > 0 and count < 1:
                raise DataError(
                    f"Domain {name} has a weight but not one window of {seq_len} tokens. Give it more text, "
                    "lower seq_len, or set its weight to 0."
                )
        known = fingerprints or {}
        phases: list[PlannedPhase] = []
        work = _Apportioned(len(windows), seed)
        for number, (start, end, phase) in enumerate(_whole_batches(schedule, batch, seq_len)):
            weights = tuple(phase.mixture.weights.tolist())
            planned = PlannedPhase(start, end - start, weights, phase.tokens)
            fixed = variants[number] if number < len(variants) else None
            phases.append(work.add_best(planned) if fixed is None else work.add(replace(planned, variant=fixed)))
        names = schedule.domains
        prints = tuple(known.get(name, "") for name in names)
        plan = cls(names, windows, prints, tuple(phases), int(seed), int(seq_len), int(batch))
        plan.__dict__["_apportioned"] = work
        return plan

    def rounded(self, schedule: Schedule, variants: Sequence[int]) -> Plan:
        """The plan of ``schedule`` over the same domains, with the first phases' variants as a state has them.

        A phase that is cut short (by a branch, say) keeps the roundings it was begun with.
        """
        if tuple(variants) == self.variants[: len(variants)]:
            return self
        return Plan.of(
            schedule,
            dict(zip(self.domains, self.supply, strict=True)),
            self.seed,
            seq_len=self.seq_len,
            batch=self.batch,
            fingerprints=dict(zip(self.domains, self.fingerprints, strict=True)),
            variants=variants,
        )

    @property
    def windows(self) -> int:
        """Windows in all; positions run from 0 to one less."""
        return self.phases[-1].end

    @property
    def steps(self) -> int:
        """Batches in all."""
        return self.windows // self.batch

    @property
    def batch_tokens(self) -> int:
        """Training tokens of one batch."""
        return self.batch * self.seq_len

    @property
    def rounding(self) -> tuple[int, ...]:
        """Tokens that rounding to whole batches added to each phase (negative: took from it)."""
        return tuple(phase.windows * self.seq_len - phase.tokens for phase in self.phases)

    @property
    def variants(self) -> tuple[int, ...]:
        """The phases' variants."""
        return tuple(phase.variant for phase in self.phases)

    def fingerprint(self, position: int | None = None) -> str:
        """The hash of all that decides the order before ``position``, 16 hex digits; of the whole plan by default.

        Plans with equal fingerprints at a position have drawn the same windows until there.
        """
        whole = position is None
        begun = [
            (phase.start, phase.weights, phase.variant, phase.windows if whole else None)
            for phase in self.phases
            if position is None or phase.start < max(position, 1)
        ]
        return content_key(
            "mixwright/order", ORDER_VERSION, self.seed, self.seq_len, self.batch, self.domains, self.supply,
            self.fingerprints, begun,
        )  # fmt: skip

    def counts(self, position: int) -> Ints:
        """Windows drawn from each domain before ``position``, ``(D,)``; cost O(D)."""
        if not 0 <= position <= self.windows:
            raise DataError(f"The plan has {self.windows:,} windows; position {position:,} is outside.")
        number = max(0, int(np.searchsorted(self._begin, position, side="right")) - 1)
        done, tree = self._apportioned.starts[number], self._apportioned.trees[number]
        return done + tree.counts(position - self.phases[number].start)

    def ideal(self, position: int) -> Floats:
        """The windows each domain should have given before ``position``: windows times weights, ``(D,)``."""
        total = np.zeros(len(self.domains))
        for phase in self.phases:
            total += min(phase.windows, max(0, position - phase.start)) * np.array(phase.weights)
        return total

    @cached_property
    def _begin(self) -> Ints:
        return np.array([phase.start for phase in self.phases], dtype=np.int64)

    @cached_property
    def _apportioned(self) -> _Apportioned:
        work = _Apportioned(len(self.domains), self.seed)
        for phase in self.phases:
            work.add(phase)
        return work

    @cached_property
    def _shapes(self) -> tuple[Ints, Ints, Ints, NDArray[np.uint64]]:
        """Size, rectangle sides and key of each domain's permutations."""
        sides = [rectangle(count) for count in self.supply]
        keys = [derive_seed(self.seed, "order", name) for name in self.domains]
        return (
            np.array(self.supply, dtype=np.int64),
            np.array([a for a, _ in sides], dtype=np.int64),
            np.array([b for _, b in sides], dtype=np.int64),
            np.array(keys, dtype=np.uint64),
        )


def order(plan: Plan, positions: ArrayLike) -> tuple[Ints, Ints, Ints]:
    """What comes at each of ``positions (n,)``: domain (its place on the D axis), epoch and window, each ``(n,)``.

    Any positions in any order; cost O(n x mean depth of the tree), memory O(n + D x P). Raises DataError for a
    position outside the plan.
    """
    k = np.atleast_1d(np.asarray(positions, dtype=np.int64))
    if k.size and (k.min() < 0 or k.max() >= plan.windows):
        raise DataError(f"Positions run from 0 to {plan.windows - 1:,}; got {k.min():,} to {k.max():,}.")
    domain, index = np.empty_like(k), np.empty_like(k)
    number = np.searchsorted(plan._begin, k, side="right") - 1
    for phase in np.unique(number):
        here = number == phase
        drawn, before = plan._apportioned.trees[phase].descend(k[here] - plan.phases[phase].start)
        domain[here], index[here] = drawn, plan._apportioned.starts[phase][drawn] + before
    sizes, sides_a, sides_b, keys = plan._shapes
    size = sizes[domain]
    epoch, inside = np.divmod(index, size)
    key = scramble(keys[domain] + scramble(epoch.astype(np.uint64)))
    return domain, epoch, permute(inside, size, sides_a[domain], sides_b[domain], key)


class _Apportioned:
    """The trees of the phases added so far, and each domain's count at the start of each and at the end."""

    def __init__(self, domains: int, seed: int) -> None:
        self.trees: list[Tree] = []
        self.starts: list[Ints] = [np.zeros(domains, dtype=np.int64)]
        self._ideal = np.zeros(domains)
        self._seed = seed

    def _next(self, phase: PlannedPhase) -> tuple[Tree, Ints]:
        seed = derive_seed(self._seed, "apportion", phase.start)
        tree = Tree.of(np.array(phase.weights), self._ideal - self.starts[-1], seed, phase.variant)
        return tree, self.starts[-1] + tree.counts(phase.windows)

    def add(self, phase: PlannedPhase) -> PlannedPhase:
        tree, counts = self._next(phase)
        self.trees.append(tree)
        self.starts.append(counts)
        self._ideal = self._ideal + phase.windows * np.array(phase.weights)
        return phase

    def add_best(self, phase: PlannedPhase) -> PlannedPhase:
        """Add it in the first variant that ends within one window of the ideal, else in the nearest."""
        goal = self._ideal + phase.windows * np.array(phase.weights)
        errors: list[float] = []
        for variant in range(_VARIANTS):
            errors.append(float(np.abs(goal - self._next(replace(phase, variant=variant))[1]).max()))
            if errors[-1] <= 1:
                break
        return self.add(replace(phase, variant=int(np.argmin(errors))))


def _whole_batches(schedule: Schedule, batch: int, seq_len: int) -> list[tuple[int, int, Phase]]:
    """Start and end in windows of each phase, neighbours of one mixture taken together."""
    phases: list[Phase] = []
    for phase in schedule.phases:
        if phases and phases[-1].mixture == phase.mixture:
            phases[-1] = Phase(phases[-1].tokens + phase.tokens, phase.mixture)
        else:
            phases.append(phase)
    unit, tokens, start = batch * seq_len, 0, 0
    out = []
    for number, phase in enumerate(phases, 1):
        tokens += phase.tokens
        end = (2 * tokens + unit) // (2 * unit) * batch
        if end == start:
            raise DataError(
                f"Phase {number} has {phase.tokens:,} tokens and comes to no whole batch of {unit:,} tokens "
                f"({batch} windows of {seq_len}). Lengthen it, or lower batch or seq_len."
            )
        out.append((start, end, phase))
        start = end
    if start > _MOST_WINDOWS:
        raise DataError(f"A schedule may hold {_MOST_WINDOWS:,} windows; this one has {start:,}.")
    return out
