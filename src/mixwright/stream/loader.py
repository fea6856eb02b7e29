"""The stream: batches of token windows in the planned order, with a state of one position."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixwright.core.errors import DataError
from mixwright.core.mixture import Mixture
from mixwright.core.rng import derive_seeds
from mixwright.core.schedule import Phase, Schedule
from mixwright.store.token_checks import same_tokenizer
from mixwright.store.tokens import TokenStore
from mixwright.stream.blocks import BlockCache
from mixwright.stream.ledger import Exposure, ledger
from mixwright.stream.order import ORDER_VERSION, Plan, PlannedPhase, order, stretch
from mixwright.stream.permutation import permute, rectangle
from mixwright.stream.reading import Windows

__all__ = ["Exposure", "MixtureStream", "Rows", "dealt", "ledger", "plan_for"]

SCHEMA = "mixwright/stream/1"
Ints = NDArray[np.int64]
#: domain (its place on the D axis), epoch and window of rows
Rows = tuple[Ints, Ints, Ints]

#: Positions whose order is computed at once: few after a jump, so that resuming is quick, then more, until the vector
#: operations' fixed cost is small against their work.
_FIRST, _MOST = 256, 4096


class MixtureStream(Iterator[NDArray[Any]]):
    """Batches ``(batch / world, seq_len + 1)`` of token ids, uint16 or int32 as stored, until the schedule ends.

    Inputs are all columns but the last, labels all but the first. ``stores`` maps each domain of ``schedule`` to its
    tokens, here or behind a URL; what comes from URLs is kept in ``cache`` (by default ``BlockCache.of_user()``).
    ``batch`` is the *global* batch in windows and fixes the data; rank ``rank`` of ``world`` takes every ``world``-th row
    of it, rows being dealt in an order of their own for each batch, so that no rank meets a pattern of domains. With
    ``subsample`` f each domain draws only from ``max(1, round(f * windows))`` of its windows, the same in every epoch.

    The state is one position (in windows, at a batch boundary) and the fingerprint of the plan until there: any
    other ``rank`` and ``world`` goes on from it with the same windows, and so does a stream of another plan with the
    same past (a branch). Raises DataError for a store that is missing, a domain without a window, a ``world`` that
    does not divide ``batch``, a state of another plan.
    """

    def __init__(
        self,
        stores: Mapping[str, TokenStore],
        schedule: Schedule,
        seed: int,
        *,
        seq_len: int,
        batch: int,
        rank: int = 0,
        world: int = 1,
        subsample: float = 1.0,
        cache: BlockCache | None = None,
    ) -> None:
        if world < 1 or not 0 <= rank < world or batch % world:
            raise DataError(
                f"Rank {rank} of {world} cannot take its part of a batch of {batch} windows: "
                "batch must be a multiple of world, and rank below it."
            )
        self.plan = plan_for(stores, schedule, seed, seq_len=seq_len, batch=batch, subsample=subsample)
        self.schedule = schedule
        self.rank, self.world = rank, world
        self._batch, self._rows = batch, batch // world
        self._built, self._extended = (self.plan, schedule), False
        self._windows = Windows([stores.get(name) for name in schedule.domains], seq_len, cache)
        self._many, self._position, self._last = _FIRST, 0, slice(0, 0)
        self._drawn = _NOTHING

    @property
    def position(self) -> int:
        """Windows drawn so far, over all ranks."""
        return self._position

    @property
    def step(self) -> int:
        """Batches drawn so far."""
        return self._position // self.plan.batch

    @property
    def last(self) -> Rows:
        """Domain, epoch and window of each row of the batch delivered last, ``(batch / world,)`` each; empty before the first."""
        rows = self._last
        return self._drawn.domain[rows], self._drawn.epoch[rows], self._drawn.window[rows]

    def __next__(self) -> NDArray[Any]:
        if self._position >= self._drawn.end:
            if self._position >= self.plan.windows:
                raise StopIteration
            self._look_ahead()
        out = self._read(0, self._rows)
        self._position += self._batch
        return out

    def part(self, number: int, parts: int) -> NDArray[Any]:
        """Part ``number`` of the next batch cut into ``parts`` micro-batches, read alone; the stream does not move on.

        ``skip(1)`` does, after the last. Raises DataError where there is no such part or no next batch.
        """
        rows = self._rows
        if parts < 1 or rows % parts or not 0 <= number < parts:
            raise DataError(
                f"There is no part {number} of {parts} equal parts of {rows} rows. Take a divisor of the rows and count from 0."
            )
        if self._position >= self.plan.windows:
            raise DataError(f"The schedule has ended after {self.step:,} batches: there is no next one.")
        if self._position >= self._drawn.end:
            self._look_ahead()
        return self._read(number * (rows // parts), rows // parts)

    def _read(self, first: int, rows: int) -> NDArray[Any]:
        """``rows`` rows of the next batch from its ``first`` on."""
        drawn = self._drawn
        first += (self._position - drawn.start) // self.world
        here = self._last = slice(first, first + rows)
        if drawn.whole:
            return self._windows.gather(drawn.places[here])
        return self._windows.read(drawn.places[here], drawn.domain[here], drawn.window[here])

    def skip(self, batches: int) -> None:
        """Move on (or back) by ``batches`` of them, reading nothing; at most to the schedule's beginning or end."""
        position = min(max(0, self._position + batches * self.plan.batch), self.plan.windows)
        if self._drawn.start <= position <= self._drawn.end:
            self._position = position
        else:
            self._go_to(position)

    def extend(self, schedule: Schedule) -> None:
        """Go on by ``schedule``, the whole of it with its past, from the next batch on.

        What has been drawn must be as ``schedule`` says, and stays as it is; everything after may be another: weights,
        phases, length. ``schedule.switched(at, mixture)`` makes one. The change is part of the state. Raises DataError
        for another past, and for a schedule that ends before what has been drawn.
        """
        if schedule.domains != self.plan.domains:
            raise DataError(
                f"The schedule's domains are {', '.join(schedule.domains)}, the stream's {', '.join(self.plan.domains)}: "
                "they must be the same, in this order. Give a domain that is not to be drawn the weight 0."
            )
        plan = self.plan.following(schedule, [phase.variant for phase in self._begun()])
        at = self._position
        if at and (plan.windows < at or plan.fingerprint(at) != self.plan.fingerprint(at)):
            raise DataError(
                f"The schedule differs from what has been drawn in the first {self.step:,} batches "
                f"({self._position * self.plan.seq_len:,} tokens), which nothing can change. Keep these tokens as they were; "
                "only what comes after may be another."
            )
        self._adopt(plan, schedule, extended=True)

    def change(self, mixture: Mixture) -> None:
        """Draw by ``mixture`` from the next batch to the schedule's end (see ``extend``)."""
        rest = self.schedule.tokens - self._position * self.plan.seq_len
        if rest <= 0:
            raise DataError("The schedule has ended: there is nothing left whose weights could change. Use extend.")
        past = [
            Phase((min(phase.end, self._position) - phase.start) * self.plan.seq_len, self._mixture(phase))
            for phase in self._begun()
        ]
        self.extend(Schedule((*past, Phase(rest, mixture.over(self.plan.domains)))))

    def state_dict(self) -> dict[str, Any]:
        """``position`` and what it belongs to, and the schedule if it was extended; plain values."""
        return self.state_at(self.step)

    def state_at(self, step: int) -> dict[str, Any]:
        """The state after ``step`` batches of this plan."""
        position = step * self.plan.batch
        state = {
            "schema": SCHEMA,
            "order_version": ORDER_VERSION,
            "position": position,
            "plan": self.plan.fingerprint(position),
            "variants": [phase.variant for phase in self.plan.phases if phase.start < position],
        }
        if self._extended:
            state["extended"] = {"built_as": self._built[0].fingerprint(), "schedule": self.schedule.to_dict()}
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from ``state``. Raises DataError when it was written under a plan with another past.

        A stream built as the one that wrote the state was built takes over the schedule it had been extended to.
        """
        if state.get("schema") != SCHEMA or state.get("order_version") != ORDER_VERSION:
            raise DataError(
                f"The state was written as {state.get('schema')!r} with order version {state.get('order_version')}; "
                f"this version goes on from {SCHEMA!r} with {ORDER_VERSION}. Use the mixwright that wrote it."
            )
        plan, schedule = self._built
        extended = state.get("extended") or {}
        taken_over = extended.get("built_as") == plan.fingerprint()
        if taken_over:
            schedule = Schedule.from_dict(extended["schedule"])
            plan = plan.following(schedule, state["variants"])
        position = int(state["position"])
        if not 0 <= position <= plan.windows or position % plan.batch:
            raise DataError(
                f"The state's position {position:,} is no batch boundary of this plan of {plan.windows:,} windows "
                f"in batches of {plan.batch}."
            )
        plan = plan.rounded(schedule, state["variants"])
        if state["plan"] != plan.fingerprint(position):
            raise DataError(
                f"The state belongs to another plan: until position {position:,} its fingerprint is {state['plan']}, "
                f"this plan's {plan.fingerprint(position)}. Mixtures, seed, seq_len, batch, subsample and the domains' tokens "
                "must be those it was written with."
            )
        self._adopt(plan, schedule, extended=taken_over)
        self._go_to(position)

    def __getstate__(self) -> dict[str, Any]:
        """Without what was looked ahead, whose places hold in this process only."""
        nothing = replace(_NOTHING, start=self._position, end=self._position)
        return self.__dict__ | {"_drawn": nothing, "_last": slice(0, 0), "_many": _FIRST}

    def _adopt(self, plan: Plan, schedule: Schedule, *, extended: bool) -> None:
        self.plan, self.schedule, self._extended = plan, schedule, extended
        self._drawn = replace(self._drawn, end=self._position)  # what was looked ahead is forgotten

    def _go_to(self, position: int) -> None:
        self._position, self._many, self._last = position, _FIRST, slice(0, 0)
        self._drawn = replace(_NOTHING, start=position, end=position)

    def _begun(self) -> list[PlannedPhase]:
        return [phase for phase in self.plan.phases if phase.start < self._position]

    def _mixture(self, phase: PlannedPhase) -> Mixture:
        return Mixture(self.plan.domains, np.array(phase.weights))

    def _look_ahead(self) -> None:
        """The order of the next batches, as many as the vector operations like."""
        batch, start = self.plan.batch, self._position
        end = min(self.plan.windows, start + max(batch, self._many // batch * batch))
        self._many = min(_MOST, 4 * self._many)
        mine = dealt(self.plan, start // batch, end // batch, np.arange(self.rank, batch, self.world))
        if self.world == 1:
            found = [row[mine - start] for row in stretch(self.plan, start, end)]
        else:
            found = list(order(self.plan, mine))
        domain, epoch, window = found
        places = self._windows.locate(domain, window)
        self._drawn = _Drawn(start, end, domain, epoch, window, places, bool(places.min() >= 0))
        self._windows.ahead(domain, window)


@dataclass(frozen=True, eq=False)
class _Drawn:
    """What one rank draws of the windows from ``start`` to before ``end``, row by row, and where it lies.

    ``whole`` says that none has to be put together.
    """

    start: int
    end: int
    domain: Ints
    epoch: Ints
    window: Ints
    places: Ints
    whole: bool


_NONE = np.zeros(0, dtype=np.int64)
_NOTHING = _Drawn(0, 0, _NONE, _NONE, _NONE, _NONE, whole=True)


def plan_for(
    stores: Mapping[str, TokenStore],
    schedule: Schedule,
    seed: int,
    *,
    seq_len: int,
    batch: int,
    subsample: float = 1.0,
) -> Plan:
    """The plan of a schedule over token stores.

    Raises DataError for a domain with weight that has no store, and for stores of different tokenizers.
    """
    for name, tokens in zip(schedule.domains, schedule.exposure().sum(axis=0), strict=True):
        if tokens > 0 and name not in stores:
            raise DataError(f"The schedule draws from {name}, of which there are no tokens. Tokenize it first.")
    used = {name: stores[name] for name in schedule.domains if name in stores}
    same_tokenizer(used)
    return Plan.of(
        schedule,
        {name: store.windows(seq_len) for name, store in used.items()},
        seed,
        seq_len=seq_len,
        batch=batch,
        subsample=subsample,
        fingerprints={name: store.fingerprint for name, store in used.items()},
    )


def dealt(plan: Plan, first: int, last: int, rows: Ints) -> Ints:
    """The positions that become ``rows (r,)`` of the batches from ``first`` to before ``last``, ``((last - first) * r,)``."""
    size, a, b = (np.array(side, dtype=np.int64) for side in (plan.batch, *rectangle(plan.batch)))
    keys = np.array(derive_seeds(plan.seed, "deal", numbers=range(first, last)), dtype=np.uint64)
    inside = permute(rows[None, :], size, a, b, keys[:, None])
    return (inside + np.arange(first, last)[:, None] * plan.batch).ravel()
