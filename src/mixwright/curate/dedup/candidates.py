"""Pairs of different texts that agree in a band: what verification looks at.

A pair is one number, ``lower << 32 | higher`` of its two rows (numbered as in ``rows.py``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from mixwright.curate.dedup.rows import Rows
from mixwright.curate.dedup.signing import Hashes
from mixwright.curate.texts import Counts

Number = TypeVar("Number", np.uint64, np.int64)
#: pairs made at once, 8 bytes each
_AT_ONCE = 1 << 24
_LOW = np.uint64(0xFFFFFFFF)


@dataclass
class Buckets:
    """The rows that agree in the bands of a run of keys. ``largest`` bucket, and how many had more rows than each could be
    compared with (``capped``)."""

    members: Counts
    bounds: Counts
    rows: Rows
    representatives: int
    capped: int = 0
    largest: int = 0

    @classmethod
    def of(cls, keys: Hashes, members: Counts, rows: Rows, representatives: int) -> Buckets:
        """Entries (a key and the row that has it) in any order; buckets of one row are left out."""
        from mixwright.curate.dedup.sorting_kernels import entries_ascending

        ranked, members = entries_ascending(keys, members)
        same = np.zeros(len(ranked) + 1, dtype=bool)
        same[1:-1] = ranked[1:] == ranked[:-1]
        several = same[1:] | same[:-1]
        begins = np.flatnonzero(~same[:-1][several])
        members = members[several]
        return cls(members, np.append(begins, len(members)), rows, representatives)

    def pairs(self) -> Iterator[Hashes]:
        """The pairs of each row with at most ``representatives`` better-ranked ones of its bucket, distinct and ascending, in
        runs; a pair may be in several runs. Memory: 8 bytes a member and 256 MB.
        """
        from mixwright.curate.dedup.kernels import bucket_pairs

        self._rank_large()
        starts, stops = self.bounds[:-1], self.bounds[1:]
        segments = _segments(starts, stops, max(1, _AT_ONCE // self.representatives))
        made = np.cumsum((segments[:, 2] - segments[:, 1]) * self.representatives)
        at = 0
        while at < len(segments):
            before = made[at - 1] if at else 0
            stop = max(at + 1, int(np.searchsorted(made, before + _AT_ONCE, side="right")))
            room = np.empty(int(made[stop - 1] - before), dtype=np.uint64)
            count = bucket_pairs(self.members, segments[at:stop], self.representatives, room)
            yield without_settled(distinct(room[:count]), self.rows.settled)
            at = stop

    def _rank_large(self) -> None:
        """Order the members of buckets that are capped by rank; in others every pair is made anyway."""
        sizes = np.diff(self.bounds)
        self.largest = int(sizes.max(initial=0))
        large = np.flatnonzero(sizes > self.representatives + 1)
        self.capped = len(large)
        for bucket in large:
            inside = slice(self.bounds[bucket], self.bounds[bucket + 1])
            self.members[inside] = self.rows.ranked(self.members[inside])


def distinct(values: NDArray[Number]) -> NDArray[Number]:
    """Each once, ascending."""
    ascending = np.sort(values)
    once = np.ones(len(ascending), dtype=bool)
    once[1:] = ascending[1:] != ascending[:-1]
    return ascending[once]


def _segments(starts: Counts, stops: Counts, most: int) -> Counts:
    """Buckets cut so that none has more than ``most`` members to pair: ``(s, 3)`` start of the bucket, first and last
    member."""
    counts = -(-(stops - starts) // most)
    bucket = np.repeat(np.arange(len(starts)), counts)
    number = np.arange(len(bucket)) - np.repeat(np.cumsum(counts) - counts, counts)
    first = starts[bucket] + number * most
    return np.stack([starts[bucket], first, np.minimum(first + most, stops[bucket])], axis=1).reshape(-1, 3)


def without_settled(pairs: Hashes, settled: int) -> Hashes:
    """Without pairs of two rows of earlier runs: both are kept."""
    return pairs[pairs & _LOW >= settled] if settled else pairs


def rows_of(pairs: Hashes) -> tuple[Counts, Counts]:
    """The lower and the higher row of each pair."""
    return (pairs >> np.uint64(32)).astype(np.int64), (pairs & _LOW).astype(np.int64)


def by_shards(pairs: Hashes, rows: Rows) -> Iterator[tuple[int, int, Counts]]:
    """Which pairs (their numbers, ascending) are of which two shards, for each two that have one."""
    lower, higher = rows_of(pairs)
    one, other = rows.shards(lower), rows.shards(higher)
    order = np.lexsort((other, one))
    cuts = np.flatnonzero((np.diff(one[order]) != 0) | (np.diff(other[order]) != 0)) + 1
    for group in np.split(order, cuts) if len(order) else []:
        yield int(one[group[0]]), int(other[group[0]]), group
