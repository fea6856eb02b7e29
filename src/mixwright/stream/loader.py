"""The stream: batches of token windows in the planned order, with a state of one position."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixwright.core.errors import DataError
from mixwright.core.rng import derive_seed
from mixwright.core.schedule import Schedule
from mixwright.store.tokens import TokenStore
from mixwright.stream.order import ORDER_VERSION, Plan, order
from mixwright.stream.permutation import permute, rectangle

SCHEMA = "mixwright/stream/1"
#: Positions whose order is computed at once; the vector operations' fixed cost vanishes beyond a few thousand.
_AHEAD = 4096


class MixtureStream(Iterator[NDArray[Any]]):
    """Batches ``(batch / world, seq_len + 1)`` of token ids, uint16 or int32 as stored, until the schedule ends.

    Inputs are all columns but the last, labels all but the first. ``stores`` maps each domain of ``schedule`` to its
    tokens. ``batch`` is the *global* batch in windows and fixes the data; rank ``rank`` of ``world`` takes every
    ``world``-th row of it, rows being dealt in an order of their own for each batch, so that no rank meets a pattern
    of domains.

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
    ) -> None:
        if world < 1 or not 0 <= rank < world or batch % world:
            raise DataError(
                f"Rank {rank} of {world} cannot take its part of a batch of {batch} windows: "
                "batch must be a multiple of world, and rank below it."
            )
        self.plan = plan_for(stores, schedule, seed, seq_len=seq_len, batch=batch)
        self._schedule = schedule
        self.rank, self.world = rank, world
        self._windows = [_windows(stores[name], seq_len) if name in stores else None for name in schedule.domains]
        self._dtype = np.result_type(*(view.dtype for view in self._windows if view is not None))
        self._position = 0
        self._drawn: tuple[int, NDArray[np.int64], NDArray[np.int64]] = (0, _NONE, _NONE)

    @property
    def position(self) -> int:
        """Windows drawn so far, over all ranks."""
        return self._position

    @property
    def step(self) -> int:
        """Batches drawn so far."""
        return self._position // self.plan.batch

    def __next__(self) -> NDArray[Any]:
        if self._position >= self.plan.windows:
            raise StopIteration
        domain, window = self._next_rows()
        out = np.empty((domain.size, self.plan.seq_len + 1), dtype=self._dtype)
        for d in np.unique(domain):
            rows, view = np.flatnonzero(domain == d), self._windows[d]
            assert view is not None
            out[rows] = view[window[rows]]
        self._position += self.plan.batch
        return out

    def state_dict(self) -> dict[str, Any]:
        """``position`` and what it belongs to; plain values."""
        return {
            "schema": SCHEMA,
            "order_version": ORDER_VERSION,
            "position": self._position,
            "plan": self.plan.fingerprint(self._position),
            "variants": [phase.variant for phase in self.plan.phases if phase.start < self._position],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from ``state``. Raises DataError when it was written under a plan with another past."""
        if state.get("schema") != SCHEMA or state.get("order_version") != ORDER_VERSION:
            raise DataError(
                f"The state was written as {state.get('schema')!r} with order version {state.get('order_version')}; "
                f"this version goes on from {SCHEMA!r} with {ORDER_VERSION}. Use the mixwright that wrote it."
            )
        position = int(state["position"])
        if not 0 <= position <= self.plan.windows or position % self.plan.batch:
            raise DataError(
                f"The state's position {position:,} is no batch boundary of this plan of {self.plan.windows:,} windows "
                f"in batches of {self.plan.batch}."
            )
        plan = self.plan.rounded(self._schedule, state["variants"])
        if state["plan"] != plan.fingerprint(position):
            raise DataError(
                f"The state belongs to another plan: until position {position:,} its fingerprint is {state['plan']}, "
                f"this plan's {plan.fingerprint(position)}. Mixtures, seed, seq_len, batch and the domains' tokens must be "
                "those it was written with."
            )
        self.plan, self._position, self._drawn = plan, position, (0, _NONE, _NONE)

    def _next_rows(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Domain and window of this rank's rows of the next batch."""
        batch = self.plan.batch
        start, domain, window = self._drawn
        if not start <= self._position < start + domain.size:
            start = self._position
            end = min(self.plan.windows, start + max(batch, _AHEAD // batch * batch))
            domain, _, window = order(self.plan, np.arange(start, end))
            self._drawn = (start, domain, window)
        rows = self._position - start + deal(self.plan, self.step)[self.rank :: self.world]
        return domain[rows], window[rows]


@dataclass(frozen=True)
class Exposure:
    """What one phase draws from one domain: ``tokens``, and ``epochs``, how often that repeats its supply.

    ``total_epochs`` counts from the beginning of training to the end of the phase.
    """

    phase: int
    domain: str
    tokens: int
    epochs: float
    total_epochs: float


def ledger(plan: Plan) -> list[Exposure]:
    """What training by ``plan`` will draw, phase by phase and domain by domain, before any of it is done."""
    rows = []
    for number, phase in enumerate(plan.phases):
        before, after = plan.counts(phase.start), plan.counts(phase.end)
        for d, name in enumerate(plan.domains):
            supply, drawn = max(1, plan.supply[d]), int(after[d] - before[d])
            rows.append(Exposure(number, name, drawn * plan.seq_len, drawn / supply, int(after[d]) / supply))
    return rows


def plan_for(
    stores: Mapping[str, TokenStore],
    schedule: Schedule,
    seed: int,
    *,
    seq_len: int,
    batch: int,
) -> Plan:
    """The plan of a schedule over token stores. Raises DataError for a domain with weight that has no store."""
    for name, tokens in zip(schedule.domains, schedule.exposure().sum(axis=0), strict=True):
        if tokens > 0 and name not in stores:
            raise DataError(f"The schedule draws from {name}, of which there are no tokens. Tokenize it first.")
    used = {name: stores[name] for name in schedule.domains if name in stores}
    return Plan.of(
        schedule,
        {name: store.windows(seq_len) for name, store in used.items()},
        seed,
        seq_len=seq_len,
        batch=batch,
        fingerprints={name: str(store.manifest["files"]["000.bin"]) for name, store in used.items()},
    )


def deal(plan: Plan, step: int) -> NDArray[np.int64]:
    """The order in which the windows of batch ``step`` become its rows, ``(batch,)``."""
    size = np.full(plan.batch, plan.batch, dtype=np.int64)
    a, b = (np.full(plan.batch, side, dtype=np.int64) for side in rectangle(plan.batch))
    key = np.full(plan.batch, derive_seed(plan.seed, "deal", step), dtype=np.uint64)
    return permute(np.arange(plan.batch, dtype=np.int64), size, a, b, key)


_NONE = np.zeros(0, dtype=np.int64)


def _windows(store: TokenStore, seq_len: int) -> NDArray[Any]:
    """All windows of a store as overlapping rows ``(windows, seq_len + 1)`` of the memory map; nothing is copied."""
    ids, count = store.ids, store.windows(seq_len)
    return np.lib.stride_tricks.as_strided(
        ids, (count, seq_len + 1), (seq_len * ids.itemsize, ids.itemsize), writeable=False
    )
