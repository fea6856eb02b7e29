"""The order: what comes at position *n* is a pure function of (schedule, seed, *n*).

A position counts windows (sequences) from the beginning of training. A ``Plan`` is a schedule made of whole global
batches over domains of known size; ``order(plan, positions)`` gives the domain, the epoch and the window at each.

- Each phase is apportioned exactly (see ``stream/apportion.py`` and ``stream/drawing.py``): every domain's cumulative count
  is within one window of the ideal at phase ends and less than two away in between, also where later phases drop domains
  or begin at any batch (``docs/stream.md`` has the maxima measured). What a phase owes a domain is given back in the next.
- A domain's windows are numbered through, over all phases: window number ``i`` is in epoch ``i // n`` and is the
  ``i % n``-th of that epoch's own permutation of the domain's ``n`` windows. So none is repeated before its domain's
  epoch ends, and every epoch has a new order.
- Positions before *n* do not depend on what is planned after *n*, so a schedule can be cut, branched or extended.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixwright.core.errors import DataError
from mixwright.core.mixture import Mixture
from mixwright.core.rng import derive_seed
from mixwright.core.schedule import Phase, Schedule
from mixwright.store.artifact import content_key
from mixwright.stream.drawing import Drawn, mended, planned_for
from mixwright.stream.permutation import permute, quotient, rectangle, scramble

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

#: Part of every plan's fingerprint; raised whenever an equal plan would give another order.
ORDER_VERSION = 2
#: Roundings tried for a phase whose end leaves a domain more than one window off, before it is mended.
_VARIANTS = 64
#: Windows at a phase's beginning and end that are looked at, how far from the ideal they may be, and how many windows all
#: domains of one of the next ``_AHEAD`` phases together may be owed.
_LOOK, _INSIDE, _LEFT, _AHEAD = 8192, 1.9, 0.9, 4
#: Domains times variants that are judged at most where phases must go together; a thousand domains take a second.
_JUDGED = 100_000
#: With more windows, products in float64 would be off by more than a thousandth of a window.
_MOST_WINDOWS = 1 << 40


@dataclass(frozen=True)
class PlannedPhase:
    """The windows from ``start`` on, ``windows`` of them, drawn by ``weights`` (D,).

    ``tokens`` is what the schedule asked for; ``variant`` numbers the choice of roundings, 0 unless the phase's end
    needed another, and below 0 where it is mended (see ``stream/drawing.py``).
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

    ``supply`` is how many windows of ``seq_len`` tokens each domain may draw from, ``batch`` the global batch in windows,
    ``fingerprints`` the checksum of each domain's tokens ("" where unknown). With ``subsample`` below 1 the supply is that
    fraction of the domain's ``held`` windows, chosen by one permutation keyed by seed and domain, the same for every
    epoch: of two fractions the smaller chooses among the windows of the larger.
    """

    domains: tuple[str, ...]
    supply: tuple[int, ...]
    fingerprints: tuple[str, ...]
    phases: tuple[PlannedPhase, ...]
    seed: int
    seq_len: int
    batch: int
    subsample: float = 1.0
    held: tuple[int, ...] = ()

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
        subsample: float = 1.0,
    ) -> Plan:
        """The plan of a schedule; ``supply`` gives windows per domain, ``seq_len`` tokens, ``batch`` windows.

        Each domain draws from ``max(1, round(subsample * windows))`` of its windows.

        Phase ends are rounded to the nearest whole batch (``rounding`` reports by how much); neighbouring phases of
        one mixture become one, so a switch to the same mixture changes nothing. ``variants`` fixes those of the first
        phases, as the state of a training under way states them. Raises DataError for a phase too short to hold a
        batch, and for a domain that has a weight but no window.
        """
        if seq_len < 1 or batch < 1:
            raise DataError(f"A batch needs at least one window of one token; got {batch} of {seq_len}.")
        if not 0 < subsample <= 1:
            raise DataError(f"subsample must lie above 0 and be at most 1; got {subsample}.")
        held = tuple(int(supply.get(name, 0)) for name in schedule.domains)
        for name, tokens, count in zip(schedule.domains, schedule.exposure().sum(axis=0), held, strict=True):
            if tokens > 0 and count < 1:
                raise DataError(
                    f"Domain {name} has a weight but not one window of {seq_len} tokens. Give it more text, "
                    "lower seq_len, or set its weight to 0."
                )
        known = fingerprints or {}
        phases: list[PlannedPhase] = []
        free: list[tuple[PlannedPhase, list[Floats]]] = []
        work, given = _Apportioned(len(held), seed), list(variants)
        whole = _whole_batches(schedule, batch, seq_len)
        for number, (start, end, phase) in enumerate(whole, 1):
            weights = tuple(phase.mixture.weights.tolist())
            planned = PlannedPhase(start, end - start, weights, phase.tokens)
            later = [after.mixture.weights for _, _, after in whole[number : number + _AHEAD]]
            while given and given[0] < 0 and planned_for(given[0])[0] < planned.windows:  # mended for an earlier end
                head, planned = _cut(planned, planned_for(given[0])[0], seq_len)
                phases.append(work.add(replace(head, variant=given.pop(0))))
            if given:
                phases.append(work.add(replace(planned, variant=given.pop(0))))
            else:
                free.append((planned, later))
        phases += work.add_all(free)
        names = schedule.domains
        prints = tuple(known.get(name, "") for name in names)
        drawn = tuple(min(count, max(1, round(subsample * count))) for count in held)
        plan = cls(
            names, drawn, prints, tuple(phases), int(seed), int(seq_len), int(batch), float(subsample),
            held if subsample < 1 else (),
        )  # fmt: skip
        plan.__dict__["_apportioned"] = work
        return plan

    def rounded(self, schedule: Schedule, variants: Sequence[int]) -> Plan:
        """The plan of ``schedule`` over the same domains, with the first phases' variants as a state has them.

        A phase that is cut short (by a branch, say) keeps the roundings it was begun with.
        """
        if tuple(variants) == self.variants[: len(variants)]:
            return self
        return self.following(schedule, variants)

    def following(self, schedule: Schedule, variants: Sequence[int]) -> Plan:
        """The plan of another schedule over the same domains, its first phases with ``variants``."""
        return Plan.of(
            schedule,
            dict(zip(self.domains, self.held or self.supply, strict=True)),
            self.seed,
            seq_len=self.seq_len,
            batch=self.batch,
            fingerprints=dict(zip(self.domains, self.fingerprints, strict=True)),
            variants=variants,
            subsample=self.subsample,
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
    def schedule(self) -> Schedule:
        """What was planned, neighbouring phases of one mixture taken together."""
        return Schedule(
            tuple(Phase(phase.tokens, Mixture(self.domains, np.array(phase.weights))) for phase in self.phases)
        )

    @property
    def variants(self) -> tuple[int, ...]:
        """The phases' variants."""
        return tuple(phase.variant for phase in self.phases)

    def fingerprint(self, position: int | None = None) -> str:
        """The hash of all that decides the order before ``position``, 16 hex digits; of the whole plan by default.

        Plans with equal fingerprints at a position have drawn the same windows until there.
        """
        whole = position is None
        begun = len(self.phases) if position is None else int(np.searchsorted(self._begin, max(position, 1)))
        known: dict[tuple[int, bool], str] = self.__dict__.setdefault("_known", {})
        if (begun, whole) not in known:
            phases = [
                (phase.start, phase.weights, phase.variant, phase.windows if whole else None)
                for phase in self.phases[:begun]
            ]
            chosen = () if self.subsample == 1 else (self.subsample, self.held)
            known[begun, whole] = content_key(
                "mixwright/order", ORDER_VERSION, self.seed, self.seq_len, self.batch, self.domains, self.supply,
                self.fingerprints, phases, *chosen,
            )  # fmt: skip
        return known[begun, whole]

    def counts(self, position: int) -> Ints:
        """Windows drawn from each domain before ``position``, ``(D,)``; cost O(D)."""
        if not 0 <= position <= self.windows:
            raise DataError(f"The plan has {self.windows:,} windows; position {position:,} is outside.")
        number = max(0, int(np.searchsorted(self._begin, position, side="right")) - 1)
        done, tree = self._apportioned.starts[number], self._apportioned.drawn[number]
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
    def _epochs(self) -> _Permutations:
        """The permutations of each domain's windows; an epoch is added to the key."""
        return _Permutations.of(self.supply, [derive_seed(self.seed, "order", name) for name in self.domains])

    @cached_property
    def _choice(self) -> _Permutations:
        """The permutation of all windows whose first are the domain's subsample."""
        return _Permutations.of(self.held, [derive_seed(self.seed, "subsample", name) for name in self.domains])


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
        drawn, before = plan._apportioned.drawn[phase].descend(k[here] - plan.phases[phase].start)
        domain[here], index[here] = drawn, plan._apportioned.starts[phase][drawn] + before
    return domain, *_windows(plan, domain, index)


def stretch(plan: Plan, start: int, end: int) -> tuple[Ints, Ints, Ints]:
    """``order`` for the positions from ``start`` to before ``end``, in half the time."""
    parts = []
    for phase, tree, done in zip(plan.phases, plan._apportioned.drawn, plan._apportioned.starts, strict=False):
        first, last = max(start, phase.start), min(end, phase.end)
        if first < last:
            domain, before = tree.stretch(first - phase.start, last - phase.start)
            parts.append((domain, done[domain] + before))
    domain, index = parts[0] if len(parts) == 1 else (np.concatenate(part) for part in zip(*parts, strict=True))
    return domain, *_windows(plan, domain, index)


def _windows(plan: Plan, domain: Ints, index: Ints) -> tuple[Ints, Ints]:
    """Epoch and window of the ``index``-th window drawn from each ``domain``."""
    size = plan._epochs.size[domain]
    epoch = quotient(index, size)
    window = plan._epochs.move(domain, index - epoch * size, scramble(epoch.view(np.uint64)))
    return epoch, plan._choice.move(domain, window) if plan.held else window


@dataclass(frozen=True, eq=False)
class _Permutations:
    """A keyed permutation for each domain: sizes, rectangles and keys, each ``(D,)``."""

    size: Ints
    a: Ints
    b: Ints
    keys: NDArray[np.uint64]

    @classmethod
    def of(cls, sizes: Sequence[int], keys: Sequence[int]) -> _Permutations:
        sides = np.array([rectangle(count) for count in sizes], dtype=np.int64)
        return cls(np.array(sizes, dtype=np.int64), sides[:, 0], sides[:, 1], np.array(keys, dtype=np.uint64))

    def move(self, domain: Ints, index: Ints, salt: NDArray[np.uint64] | None = None) -> Ints:
        """``index (n,)`` moved by the permutation of its ``domain (n,)``, one of its own for every ``salt``."""
        key = self.keys[domain]
        return permute(
            index, self.size[domain], self.a[domain], self.b[domain], key if salt is None else scramble(key + salt)
        )


class _Apportioned:
    """The phases added so far as they are drawn, and each domain's count at the start of each and at the end."""

    def __init__(self, domains: int, seed: int) -> None:
        self.drawn: list[Drawn] = []
        self.starts: list[Ints] = [np.zeros(domains, dtype=np.int64)]
        self._ideals = [np.zeros(domains)]
        self._seed = seed

    @property
    def _ideal(self) -> Floats:
        return self._ideals[-1]

    def _next(self, phase: PlannedPhase) -> Drawn:
        seed = derive_seed(self._seed, "apportion", phase.start)
        return Drawn.of(np.array(phase.weights), self._ideal - self.starts[-1], seed, phase.variant)

    def add(self, phase: PlannedPhase) -> PlannedPhase:
        drawn = self._next(phase)
        self.drawn.append(drawn)
        self.starts.append(self.starts[-1] + drawn.counts(phase.windows))
        self._ideals.append(self._ideal + phase.windows * np.array(phase.weights))
        return phase

    def add_all(self, phases: Sequence[tuple[PlannedPhase, list[Floats]]]) -> list[PlannedPhase]:
        """Add phases, each with the weights of those that follow it, in the first variants that are all good.

        Where a phase has none, the one before takes its next: where domains rest, an end can decide what a later one can
        be. Where that leads nowhere either, each takes the variant that is nearest to being good. See ``_Judged``.
        """
        self._left = max(_VARIANTS, _JUDGED // self._ideal.size)
        options: list[Iterator[PlannedPhase]] = []
        taken: list[PlannedPhase] = []
        while len(taken) < len(phases):
            if len(options) == len(taken):
                options.append(self._good(*phases[len(taken)]))
            found = next(options[-1], None)
            if found is not None:
                taken.append(self.add(found))
                continue
            options.pop()
            if self._left <= 0 or not taken:
                for _ in taken:
                    self._undo()
                return [self._add_nearest(*phase) for phase in phases]
            taken.pop()
            self._undo()
        return taken

    def _tries(self, phase: PlannedPhase, later: Sequence[Floats]) -> Iterator[_Judged]:
        """All variants: the roundings of the tree alone, those that end well of them, and mended ones."""
        yield self._judge(replace(phase, variant=0), later)
        for variant in self._ending_well(phase):
            yield self._judge(replace(phase, variant=variant), later)
        for roundings in range(_VARIANTS):
            yield self._judge(replace(phase, variant=mended(phase.windows, roundings)), later)

    def _good(self, phase: PlannedPhase, later: Sequence[Floats]) -> Iterator[PlannedPhase]:
        """The good variants that end differently, while there is time to judge."""
        seen: set[bytes] = set()
        for judged in self._tries(phase, later):
            self._left -= 1
            if judged.good and judged.ends not in seen:
                seen.add(judged.ends)
                yield judged.phase
            if self._left <= 0:
                return

    def _add_nearest(self, phase: PlannedPhase, later: Sequence[Floats]) -> PlannedPhase:
        best: _Judged | None = None
        for judged in self._tries(phase, later):
            best = judged if best is None or judged.excess < best.excess else best
            if best.good:
                break
        assert best is not None, "there is always the tree alone"
        return self.add(best.phase)

    def _undo(self) -> None:
        self.drawn.pop()
        self.starts.pop()
        self._ideals.pop()

    def _ending_well(self, phase: PlannedPhase) -> list[int]:
        """The variants above 0 whose trees alone end within one window of the ideal."""
        tree, seed = self._next(phase).tree, derive_seed(self._seed, "apportion", phase.start)
        u = np.stack([tree.varied(seed, variant) for variant in range(1, _VARIANTS)])
        owed = self._ideal + phase.windows * np.array(phase.weights) - self.starts[-1]
        ends = np.abs(owed - tree.counts_of(phase.windows, u)).max(axis=1)
        return (1 + np.flatnonzero(ends <= 1)).tolist()

    def _judge(self, phase: PlannedPhase, later: Sequence[Floats]) -> _Judged:
        drawn, weights, residual = self._next(phase), np.array(phase.weights), self._ideal - self.starts[-1]
        end = residual + phase.windows * weights - drawn.counts(phase.windows)
        farthest = 0.0
        if self.drawn or phase.variant < 0:  # a first phase whose tree is left alone is proven (see apportion.py)
            looks = {0, max(0, phase.windows - _LOOK)}
            farthest = max(_farthest(phase, drawn, residual, first) for first in looks)
        left = max((abs(float(end[weights > 0].sum())) for weights in later), default=0.0)
        return _Judged(phase, float(np.abs(end).max()), farthest, left, np.round(end, 6).tobytes())


@dataclass(frozen=True)
class _Judged:
    """A variant of a phase: how far it ends from the ideal, how far it is where residuals are given back, and how much all
    domains of a later phase together are left owed: one window or more cannot always be given back when others rest.
    """

    phase: PlannedPhase
    end: float
    farthest: float
    left: float
    ends: bytes

    @property
    def excess(self) -> float:
        """By how much it misses; what is left for later counts least."""
        return 10 * (max(0.0, self.end - 1) + max(0.0, self.farthest - _INSIDE)) + max(0.0, self.left - _LEFT)

    @property
    def good(self) -> bool:
        return self.excess == 0


def _farthest(phase: PlannedPhase, drawn: Drawn, residual: Floats, first: int) -> float:
    """How far any domain is from its ideal in the windows from ``first`` of a phase on, ``_LOOK`` of them.

    A domain is farthest just before and just after it is drawn.
    """
    last, weights = min(phase.windows, first + _LOOK), np.array(phase.weights)
    domain, before = drawn.stretch(first, last)
    ahead = residual[domain] + np.arange(first, last) * weights[domain] - before
    rest = residual + last * weights - drawn.counts(last)
    return float(max(ahead.max(), (1 - ahead - weights[domain]).max(), np.abs(rest).max()))


def _cut(phase: PlannedPhase, windows: int, seq_len: int) -> tuple[PlannedPhase, PlannedPhase]:
    """A phase in two, the first of ``windows``."""
    tokens, rest = windows * seq_len, phase.windows - windows
    return (
        replace(phase, windows=windows, tokens=tokens),
        replace(phase, start=phase.start + windows, windows=rest, tokens=phase.tokens - tokens),
    )


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
