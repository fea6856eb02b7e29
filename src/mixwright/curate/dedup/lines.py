"""Lines that stand in many documents are cut out of all but the best-ranked of them.

    measuring   ``LineWriter``: the hashes of a shard's long lines, once per row; which rows have other lines
    deciding    ``find_cuts``: per run of hashes the lines to cut, among rows that are kept; rows of which nothing is left
    writing     ``Cuts``: of one shard, cut out of its texts as they are read again

What is compared of a line is all but blanks and control characters at its ends; 64-bit hashes of it stand for it: among 10^9
different lines two are equal with probability .03.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from mixwright.curate.dedup.candidates import distinct
from mixwright.curate.dedup.folder import opened, save_array
from mixwright.curate.dedup.options import Lines
from mixwright.curate.dedup.rows import Rows
from mixwright.curate.dedup.signing import BUCKETS, Bands, Hashes, write_once
from mixwright.curate.texts import Counts, Texts
from mixwright.engine.task import Engine, Progress, Task
from mixwright.store.artifact import read_json, write_json, written_aside

if TYPE_CHECKING:
    import pyarrow as pa

Flags = NDArray[np.bool_]
#: bytes a task takes per entry
_ENTRY = 64


class LineWriter:
    """Writes what is noted of the lines of a shard: ``add`` every batch in order. A context manager: both files (``path`` and
    ``path`` with ``.npz``) are whole or not there. Cost: about 500 MB/s. Memory: 20 bytes a long line."""

    def __init__(self, path: Path, lines: Lines) -> None:
        self._path, self._lines = path, lines
        self._entries: list[tuple[Hashes, Counts]] = []
        self._short = [np.zeros(0, dtype=bool)]
        self.rows = 0

    def add(self, texts: Texts) -> None:
        """The rows of a batch."""
        from mixwright.curate.dedup.line_kernels import hash_lines

        hashes, of, short = hash_lines(texts.data, texts.offsets, self._lines.min_chars)
        self._entries.append((hashes, of + self.rows))
        self._short.append(short)
        self.rows += len(texts)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            return
        hashes = np.concatenate([np.zeros(0, dtype=np.uint64), *(one for one, _ in self._entries)])
        rows = np.concatenate([np.zeros(0, dtype=np.int64), *(one for _, one in self._entries)])
        write_once(self._path, hashes, rows.astype(np.uint32))
        rows = Bands(self._path).read(0, BUCKETS)[1]
        with written_aside(self._path.with_suffix(".npz")) as aside, aside.open("wb") as stream:
            counts = np.bincount(rows, minlength=self.rows)
            np.savez(stream, short=np.concatenate(self._short), long=counts)


def find_cuts(
    dedup: Path,
    noted: Sequence[Path],
    kept: Sequence[Flags],
    folder: Path,
    lines: Lines,
    *,
    engine: Engine,
    memory: int,
) -> list[Counts]:
    """Find the lines to cut among the ``kept`` rows (a mask per shard), leave them in ``folder`` for ``Cuts``, and return per
    shard the rows of which nothing is left, ascending. ``noted`` is what ``LineWriter`` wrote of each; see ``find_repeats``.
    """
    given = {"min_chars": lines.min_chars}
    find_repeats(dedup, noted, kept, folder, lines.max_documents, given, engine=engine, memory=memory)
    return [_emptied(folder, path, number) for number, path in enumerate(noted)]


def find_repeats(
    dedup: Path, noted: Sequence[Path], kept: Sequence[Flags], folder: Path, most: int, given: Mapping[str, Any], *,
    engine: Engine, memory: int,
) -> None:  # fmt: skip
    """Find the hashes in files of them (``noted``, of each shard) that more than ``most`` of the ``kept`` rows have, and leave
    in ``folder``, for ``repeats_of``, in which rows: all but the best-ranked. ``given`` is put into the folder's plan.

    ``dedup`` is the folder of ``find_pairs`` over the same shards (it knows their ranks). A task per run of hashes; called
    again after any interruption it does only what was not done. Rows of earlier runs have no part in it.
    """
    rows = opened(dedup).rows
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "plan.json").is_file():
        save_array(folder / "kept.npy", np.concatenate([np.zeros(rows.settled, dtype=bool), *kept]))
        entries = sum(Bands(path).count for path in noted)
        parts = min(BUCKETS, max(1, -(-entries * _ENTRY * engine.slots // memory)))
        plan = {"dedup": str(dedup), "noted": [str(path) for path in noted], "most": most, "parts": parts}
        write_json(folder / "plan.json", plan | dict(given))
    parts = read_json(folder / "plan.json")["parts"]
    tasks = [
        Task(f"lines {number}", "mixwright.curate.dedup.lines:cuts", {"folder": str(folder), "number": number})
        for number in range(parts)
        if not _part(folder, number).is_file()
    ]
    for outcome in list(engine.run(tasks)) if tasks else []:
        outcome.result()


def _part(folder: Path, number: int) -> Path:
    """The rows of a run of hashes, ascending; it comes last."""
    return folder / f"{number:05d}.npy"


def _hashes(part: Path) -> Path:
    return part.with_suffix(".hashes.npy")


def cuts(progress: Progress, *, folder: str, number: int) -> None:
    """The task of a run of hashes: which lines to cut out of which rows, ascending by row; one file open at a time."""
    place = Path(folder)
    plan = read_json(place / "plan.json")
    rows, kept = opened(plan["dedup"]).rows, np.load(place / "kept.npy", mmap_mode="r")
    start, stop = (BUCKETS * at // plan["parts"] for at in (number, number + 1))
    hashes, members = [np.zeros(0, dtype=np.uint64)], [np.zeros(0, dtype=np.int64)]
    first = _first_shard(rows)
    for shard, path in enumerate(plan["noted"]):
        some, own = Bands(Path(path)).read(start, stop)
        numbers = own.astype(np.int64) + rows.starts[first + shard]
        passing = kept[numbers]
        hashes.append(some[passing])
        members.append(numbers[passing])
    found, which = _to_cut(np.concatenate(hashes), np.concatenate(members), rows, plan["most"])
    save_array(_hashes(_part(place, number)), which)
    save_array(_part(place, number), found)


def _first_shard(rows: Rows) -> int:
    """How many shards are those of earlier runs."""
    return int((rows.orders < 0).sum())


def _to_cut(hashes: Hashes, members: Counts, rows: Rows, most: int) -> tuple[Counts, Hashes]:
    """Rows, ascending, and hashes of the lines to cut, those of a row ascending: all that are in more than ``most`` rows, without
    the best-ranked of these. Memory: 60 bytes an entry."""
    from mixwright.curate.dedup.sorting_kernels import by_rows, entries_ascending

    hashes, members = entries_ascending(hashes, members)
    if not len(hashes):
        return members, hashes
    begins = np.flatnonzero(np.concatenate([[True], hashes[1:] != hashes[:-1]]))
    sizes = np.diff(np.append(begins, len(hashes)))
    many = np.repeat(sizes > most, sizes)
    hashes, members, sizes = hashes[many], members[many], sizes[sizes > most]
    named, index = _numbered(members, len(rows))
    rank = np.empty(len(named), dtype=np.int64)
    rank[np.searchsorted(named, rows.ranked(named))] = np.arange(len(named))
    ranks = rank[index]
    best = np.minimum.reduceat(ranks, np.cumsum(sizes) - sizes) if len(sizes) else ranks
    later = ranks != np.repeat(best, sizes)
    found, which = by_rows(index[later], hashes[later], len(named))
    return named[found], which


def _numbered(members: Counts, rows: int) -> tuple[Counts, Counts]:
    """The distinct ones among ``members``, which are below ``rows``, ascending, and which of these each is."""
    if rows > len(members):
        named = distinct(members)
        return named, np.searchsorted(named, members)
    numbers = np.zeros(rows, dtype=np.int64)
    numbers[members] = 1
    named = np.flatnonzero(numbers)
    numbers[named] = np.arange(len(named))
    return named, numbers[members]


def repeats_of(folder: Path, number: int) -> tuple[Counts, Hashes]:
    """What ``find_repeats`` found for the shard that is ``number`` among its shards: rows, ascending, from 0 in the shard, and
    for each the hashes, ascending. Cost: a look into every part."""
    plan = read_json(folder / "plan.json")
    rows = opened(plan["dedup"]).rows
    at = _first_shard(rows) + number
    start, stop = rows.starts[at : at + 2]
    found = []
    for part in range(plan["parts"]):
        path = _part(folder, part)
        held = np.load(path, mmap_mode="r")
        own = slice(*np.searchsorted(held, [start, stop]).tolist())
        found.append((held[own] - start, np.load(_hashes(path), mmap_mode="r")[own]))
    members, hashes = (np.concatenate([one[which] for one in found]) for which in (0, 1))
    # a part has a run of hashes, ascending in each row
    order = np.argsort(members, kind="stable")
    return members[order], hashes[order]


@dataclass(frozen=True)
class Repeats(ABC):
    """What to cut out of the rows of one shard: ``rows`` (m,) ascending, from 0 in the shard, and ``hashes`` (m,)."""

    rows: Counts
    hashes: Hashes

    @abstractmethod
    def _without(self, texts: Texts, bounds: Counts) -> tuple[NDArray[np.uint8], Counts, Counts]:
        """Bytes and offsets of what is left, and how many characters went of each text; those of text i to cut are
        ``bounds[i]`` to ``bounds[i + 1]``."""

    def cut(self, texts: pa.Array, first: int) -> tuple[pa.Array, Counts]:
        """The texts (n,) of the rows from ``first`` on without what is to be cut, and how many characters went of each."""
        import pyarrow as pa

        bounds = np.searchsorted(self.rows, np.arange(first, first + len(texts) + 1))
        if bounds[0] == bounds[-1]:
            return texts, np.zeros(len(texts), dtype=np.int64)
        data, offsets, gone = self._without(Texts(texts), bounds)
        left = pa.LargeStringArray.from_buffers(len(texts), pa.py_buffer(offsets), pa.py_buffer(data))
        return left, gone


@dataclass(frozen=True)
class Cuts(Repeats):
    """Lines to cut."""

    min_chars: int

    @classmethod
    def of(cls, folder: Path, number: int) -> Cuts:
        """Those of the shard that is ``number`` among the shards ``find_cuts`` was given."""
        return cls(*repeats_of(folder, number), read_json(folder / "plan.json")["min_chars"])

    def _without(self, texts: Texts, bounds: Counts) -> tuple[NDArray[np.uint8], Counts, Counts]:
        from mixwright.curate.dedup.line_kernels import cut_lines

        data, offsets, gone = cut_lines(texts.data, texts.offsets, self.min_chars, self.hashes, bounds)
        return data, offsets, gone


def _emptied(folder: Path, noted: Path, number: int) -> Counts:
    """The rows of a shard all of whose lines are cut."""
    cut = np.bincount(Cuts.of(folder, number).rows)
    with np.load(noted.with_suffix(".npz")) as held:
        short, long = held["short"][: len(cut)], held["long"][: len(cut)]
    emptied: Counts = np.flatnonzero((cut == long) & (cut > 0) & ~short)
    return emptied


def told(cut: Counts) -> dict[str, Any]:
    """What is counted of texts that lines were cut out of."""
    return {"documents": int((cut > 0).sum()), "characters": int(cut.sum())}
