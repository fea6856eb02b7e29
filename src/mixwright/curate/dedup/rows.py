"""All readable rows of a curation as arrays: where each stands, what it is called, and which of two survives.

N readable rows, numbered from 0 through all S shards in order; the first ``settled`` of them are those of earlier runs
starts   (S + 1,) int64  the number of the first row of each shard, and N
orders   (S,) int64      the order of each shard in the whole; -1 for those of earlier runs
priorities (S,) int64    of two equal rows that of the lower number survives
ids, hashes (N, 2) uint64, sizes (N,) int64 bytes of text: on disk, read as they are needed
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mixwright.core.errors import DataError, StudyError
from mixwright.curate.dedup.signing import ordered
from mixwright.curate.hashing import Halves, unhexed
from mixwright.curate.shards import Shard
from mixwright.curate.texts import Counts
from mixwright.store.artifact import written_aside

#: rows are numbered in 32 bits where pairs of them are kept
MOST = 1 << 32
_ARRAYS = ("starts", "orders", "priorities", "ids", "hashes", "sizes")


@dataclass(frozen=True)
class Rows:
    """See above. ``longest``: of rows of one priority the longer survives, then the lower hash; otherwise the first read."""

    starts: Counts
    orders: Counts
    priorities: Counts
    ids: Halves
    hashes: Halves
    sizes: Counts
    longest: bool = True
    settled: int = 0

    def __len__(self) -> int:
        return int(self.starts[-1])

    def shards(self, rows: Counts) -> Counts:
        """The shard (from 0 among ``starts``) of each row."""
        found: Counts = np.searchsorted(self.starts, rows, side="right") - 1
        return found

    def ranked(self, rows: Counts) -> Counts:
        """The same rows, those that survive first; ties go by the hash, then by place. Cost: one sort."""
        shards = self.shards(rows)
        if not self.longest:
            return rows[np.lexsort((rows, self.priorities[shards]))]
        hashes = ordered(self.hashes[rows])
        keys = (rows, hashes[:, 1], hashes[:, 0], -self.sizes[rows], self.priorities[shards])
        return rows[np.lexsort(keys)]

    def save(self, folder: Path) -> None:
        """Write the arrays, one file each."""
        for name in _ARRAYS:
            with written_aside(folder / f"{name}.npy") as aside, aside.open("wb") as stream:
                np.save(stream, getattr(self, name))

    @classmethod
    def open(cls, folder: Path, *, longest: bool, settled: int) -> Rows:
        """What ``save`` wrote, mapped into memory."""
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in _ARRAYS}
        for name in _ARRAYS[:3]:
            arrays[name] = np.array(arrays[name])
        return cls(**arrays, longest=longest, settled=settled)


@dataclass(frozen=True)
class Part:
    """The rows of one shard to gather: how many, and a function that reads their ids, hashes (n, 2) and sizes (n,)."""

    rows: int
    read: Callable[[], tuple[Halves, Halves, Counts]]

    @classmethod
    def of_table(cls, path: Path) -> Part:
        """``id``, ``text_hash`` and ``bytes`` of a table of signals."""
        import pyarrow.parquet as pq

        def read() -> tuple[Halves, Halves, Counts]:
            table = pq.read_table(path, columns=["id", "text_hash", "bytes"])
            return unhexed(table["id"]), unhexed(table["text_hash"]), table["bytes"].to_numpy()

        return cls(pq.read_metadata(path).num_rows, read)


def gather(parts: Sequence[Part], orders: Counts, priorities: Counts, folder: Path) -> None:
    """Put the rows of all shards into the arrays of ``folder``.

    Raises DataError for more than 2^32 rows. Memory: one shard's. Cost: about 0.3 microseconds a row.
    """
    starts = np.concatenate([[0], np.cumsum([part.rows for part in parts], dtype=np.int64)]).astype(np.int64)
    rows = int(starts[-1])
    if rows >= MOST:
        raise DataError(
            f"{rows} rows are more than dedup numbers (2^32): curate the sources in two runs, one `against` the other."
        )
    folder.mkdir(parents=True, exist_ok=True)
    kinds = {"ids": (np.uint64, (rows, 2)), "hashes": (np.uint64, (rows, 2)), "sizes": (np.int64, (rows,))}
    held = {
        name: np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=kind, shape=shape)
        for name, (kind, shape) in kinds.items()
    }
    for part, start, stop in zip(parts, starts[:-1], starts[1:], strict=True):
        for array, values in zip(held.values(), part.read(), strict=True):
            array[start:stop] = values
    for array in held.values():
        array.flush()
    for name, values in (("starts", starts), ("orders", orders), ("priorities", priorities)):
        np.save(folder / f"{name}.npy", values.astype(np.int64))


def priorities(shards: Sequence[Shard], named: Sequence[str]) -> Counts:
    """The priority of each shard: sources in ``named`` first, in that order, then the others as they come.

    Raises StudyError for a name that is no source.
    """
    sources = list(dict.fromkeys(shard.source for shard in sorted(shards, key=lambda shard: shard.order)))
    for name in named:
        if name not in sources:
            raise StudyError(f"dedup.priority names {name!r}, which is no source; there are: {', '.join(sources)}.")
    order = {name: at for at, name in enumerate(dict.fromkeys([*named, *sources]))}
    return np.array([order[shard.source] for shard in shards], dtype=np.int64)


def equal(hashes: Halves, parts: int = 1) -> tuple[Counts, Counts]:
    """Rows whose hash another row has too, and the number of the group of equals each is in; ``(m,)`` both, groups together.

    Memory: 16 bytes a row over ``parts``, in each of which the hashes are read once. Cost: about 0.1 microseconds a row.
    """
    members, groups, before = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)], 0
    for part in range(parts):
        own, group = _equal(hashes, part, parts)
        members.append(own)
        groups.append(group + before)
        before += int(group[-1]) + 1 if len(group) else 0
    return np.concatenate(members), np.concatenate(groups)


#: hashes read at once where they are split into parts
_READ = 1 << 20


def _equal(hashes: Halves, part: int, parts: int) -> tuple[Counts, Counts]:
    rows, first = _of_part(hashes, part, parts)
    order = np.argsort(first)
    ranked = first[order]
    same = np.zeros(len(order) + 1, dtype=bool)
    same[1:-1] = ranked[1:] == ranked[:-1]
    members = np.sort(rows[order[same[1:] | same[:-1]]])
    pairs = hashes[members]
    order = np.lexsort((members, pairs[:, 1], pairs[:, 0]))
    members, pairs = members[order], pairs[order]
    begins = np.ones(len(members) + 1, dtype=bool)
    begins[1:-1] = (pairs[1:] != pairs[:-1]).any(axis=1)
    several = ~(begins[:-1] & begins[1:])
    return members[several], np.cumsum(begins[:-1][several]) - 1


def _of_part(hashes: Halves, part: int, parts: int) -> tuple[Counts, NDArray[np.uint64]]:
    """The rows whose hash begins in a part, and the first halves of these hashes."""
    if parts == 1:
        return np.arange(len(hashes)), np.array(hashes[:, 0])
    rows, halves = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.uint64)]
    for start in range(0, len(hashes), _READ):
        some = np.array(hashes[start : start + _READ, 0])
        inside = np.flatnonzero((some >> np.uint64(32)) * np.uint64(parts) >> np.uint64(32) == part)
        rows.append(inside + start)
        halves.append(some[inside])
    return np.concatenate(rows), np.concatenate(halves)


def twins(rows: Rows, hashes: Halves, parts: int = 1) -> Counts:
    """Rows with a better-ranked row of the same hash, and that which is best of all: ``(m, 2)``, ascending."""
    members, groups = equal(hashes, parts)
    ranked = rows.ranked(members)
    places = np.argsort(members)
    of = groups[places[np.searchsorted(members, ranked, sorter=places)]]
    _, first = np.unique(of, return_index=True)
    best = ranked[first][of]
    found = np.stack([ranked, best], axis=1)[ranked != best]
    ascending: Counts = found[np.argsort(found[:, 0])]
    return ascending
