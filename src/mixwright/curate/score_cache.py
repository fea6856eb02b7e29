"""Scores kept by what was scored, so that no text meets the same model twice.

    <cache>/<key>/merged-<n>/first.u64   (M,) uint64, ascending: the first halves of all hashes, searched on disk
    <cache>/<key>/merged-<n>/rows.bin    (M,) hashes, failures and numbers in the same order
    <cache>/<key>/runs/<task>-<n>.npy    what a task has scored since; one file a chunk

A task reads what was merged before the tasks began, and its own runs: never what another one is writing. ``key`` names model
and options (``Scorer.key``).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mixwright.curate.hashing import Halves
from mixwright.curate.signal import Floats
from mixwright.store.artifact import written_aside

#: bytes of runs and merged rows that are sorted in memory at a time
_PART = 64 << 20
_FIRST, _ROWS = "first.u64", "rows.bin"
_Rows = NDArray[np.void]
#: the first halves of sorted rows, and the rows
_Table = tuple[NDArray[np.uint64], NDArray[np.void]]


class ScoreCache:
    """The scores under one key, ``columns`` numbers a row."""

    def __init__(self, folder: Path, columns: int) -> None:
        self._folder, self._runs = folder, folder / "runs"
        self._kind = np.dtype([("first", "<u8"), ("second", "<u8"), ("failed", "<i8"), ("values", "<f8", (columns,))])
        self._own: list[_Rows] = []

    def merge(self) -> None:
        """Before tasks begin: all runs into one sorted table. Memory: 64 MB; cost: reading and writing it once."""
        runs = [run for path in self._run_files() if (run := self._read(path)) is not None]
        if not runs:
            return
        before = self._merged()
        number = 1 + (int(before.name.partition("-")[2]) if before else 0)
        aside, place = self._folder / f".merged-{number}.tmp", self._folder / f"merged-{number}"
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        tables = [*([self._table(before)] if before else []), *map(_ordered, runs)]
        with (aside / _FIRST).open("wb") as firsts, (aside / _ROWS).open("wb") as rests:
            for rows in _merged_parts(tables, self._kind.itemsize):
                firsts.write(np.ascontiguousarray(rows["first"]).tobytes())
                rests.write(rows.tobytes())
            for stream in (firsts, rests):
                stream.flush()
                os.fsync(stream.fileno())
        aside.rename(place)
        for path in self._run_files():
            path.unlink()
        if before:
            shutil.rmtree(before)

    def own(self, task: str) -> None:
        """Read what earlier attempts at the same task left since the merging."""
        files = [path for path in self._run_files() if path.name.rpartition("-")[0] == task]
        self._own = [run for path in files if (run := self._read(path)) is not None]

    def put(self, task: str, number: int, hashes: Halves, failed: NDArray[np.int64], values: Floats) -> None:
        """Keep a chunk, whole or not at all."""
        if not len(hashes):
            return
        rows = np.zeros(len(hashes), dtype=self._kind)
        rows["first"], rows["second"], rows["failed"], rows["values"] = hashes[:, 0], hashes[:, 1], failed, values
        with written_aside(self._runs / f"{task}-{number}.npy") as path, path.open("wb") as stream:
            np.save(stream, rows)

    def next_number(self, task: str) -> int:
        """The number of a task's next chunk."""
        numbers = [int(p.stem.rpartition("-")[2]) for p in self._run_files() if p.name.rpartition("-")[0] == task]
        return max(numbers, default=-1) + 1

    def find(self, hashes: Halves) -> tuple[NDArray[np.bool_], NDArray[np.int64], Floats]:
        """Which are known ``(n,)``, their failures ``(n,)`` and numbers ``(n, columns)``."""
        known = np.zeros(len(hashes), dtype=bool)
        failed = np.zeros(len(hashes), dtype=np.int64)
        values = np.full((len(hashes), self._kind["values"].shape[0]), np.nan)
        merged = self._merged()
        for first, rows in [*([self._table(merged)] if merged else []), *map(_ordered, self._own)]:
            at, there = _search(first, rows["second"], hashes)
            there &= ~known
            found = rows[at[there]]
            failed[there], values[there] = found["failed"], found["values"]
            known |= there
        return known, failed, values

    def _merged(self) -> Path | None:
        found = [path for path in self._folder.glob("merged-*") if not path.name.startswith(".")]
        return max(found, key=lambda path: int(path.name.partition("-")[2])) if found else None

    def _table(self, merged: Path) -> _Table:
        return np.memmap(merged / _FIRST, dtype="<u8", mode="r"), np.memmap(merged / _ROWS, dtype=self._kind, mode="r")

    def _run_files(self) -> list[Path]:
        return sorted(path for path in self._runs.glob("*.npy") if not path.name.startswith("."))

    def _read(self, path: Path) -> _Rows | None:
        """A run; one that is damaged, or was made by other columns, is worth nothing and removed."""
        try:
            run = np.load(path)
        except (OSError, ValueError, EOFError):
            run = None
        if run is None or run.dtype != self._kind:
            path.unlink(missing_ok=True)
            return None
        whole: _Rows = run
        return whole


def _search(
    first: NDArray[np.uint64], second: NDArray[np.uint64], hashes: Halves
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Where each hash stands in a sorted table, and whether it does."""
    at = np.searchsorted(first, hashes[:, 0]).astype(np.int64)
    there = np.zeros(len(hashes), dtype=bool)
    open_ = np.flatnonzero(at < len(first))
    while len(open_):  # equal first halves are rare: one round, seldom two
        open_ = open_[first[at[open_]] == hashes[open_, 0]]
        met = second[at[open_]] == hashes[open_, 1]
        there[open_[met]] = True
        open_ = open_[~met]
        at[open_] += 1
        open_ = open_[at[open_] < len(first)]
    return at, there


def _ordered(run: _Rows) -> _Table:
    rows = np.sort(run, order=("first", "second"))
    return np.ascontiguousarray(rows["first"]), rows


def _merged_parts(tables: Sequence[_Table], size: int) -> Iterator[_Rows]:
    """Sorted tables as one, each hash once (the first table's row), in parts that fit into memory."""
    parts = max(1, -(-sum(len(rows) for _, rows in tables) * size // _PART))
    edges = np.array([(number << 64) // parts for number in range(1, parts)], dtype=np.uint64)
    cuts = [[0, *np.searchsorted(first, edges).tolist(), len(first)] for first, _ in tables]
    for number in range(parts):
        rows = np.concatenate(
            [rows[cut[number] : cut[number + 1]] for (_, rows), cut in zip(tables, cuts, strict=True)]
        )
        rows = rows[
            np.lexsort((rows["second"], rows["first"]))
        ]  # stable: of equal hashes the first table's comes first
        again = np.zeros(len(rows), dtype=bool)
        again[1:] = (rows["first"][1:] == rows["first"][:-1]) & (rows["second"][1:] == rows["second"][:-1])
        yield rows[~again]
