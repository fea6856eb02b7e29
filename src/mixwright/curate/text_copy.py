"""Texts as they were measured, kept on disk until they are written: what is read a second time is not decoded again.

A copy holds the bytes of a shard's readable texts back to back, and in ``.sizes.npy`` beside it how many each has. It is
scratch: not synced, used only where it is whole, and without one the shard is read again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Self

import numpy as np

from mixwright.core.errors import DataError
from mixwright.curate.shards import BATCH, Shard
from mixwright.curate.texts import Counts, Texts

if TYPE_CHECKING:
    import pyarrow as pa


class CopyWriter:
    """Writes the copy of a shard: ``add`` every batch in order. A context manager; the sizes come last."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sizes: list[Counts] = [np.zeros(0, dtype=np.int64)]

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        _sizes(self._path).unlink(missing_ok=True)
        self._stream: BinaryIO = self._path.open("wb", buffering=0)
        return self

    def add(self, texts: Texts) -> None:
        """The texts of a batch."""
        left = texts.data.data
        while left:  # a single call writes no more than 2 GB
            left = left[self._stream.write(left) :]
        self._sizes.append(texts.bytes)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()
        if kind is None:
            aside = _sizes(self._path).with_suffix(".partial.npy")
            np.save(aside, np.concatenate(self._sizes))
            aside.replace(_sizes(self._path))


def _sizes(path: Path) -> Path:
    return path.with_name(f"{path.name}.sizes.npy")


@dataclass(frozen=True)
class TextCopy:
    """The copy of a shard: its file, and how many bytes each of its n texts has, ``(n,)``."""

    path: Path
    sizes: Counts

    @classmethod
    def find(cls, path: Path | None, rows: int | None = None) -> TextCopy | None:
        """The copy at ``path``; None where there is none, or none that is whole and (where given) of so many rows."""
        if path is None or not (path.is_file() and _sizes(path).is_file()):
            return None
        sizes = np.load(_sizes(path))
        whole = rows in (None, len(sizes)) and path.stat().st_size == int(sizes.sum())
        return cls(path, sizes) if whole else None

    def spans(self, rows: Counts, size: int) -> Iterator[tuple[int, pa.Array]]:
        """The texts of ``rows``, which ascend, with those between them, in runs of about ``size`` bytes: the first row of a run
        and its texts, large strings. What lies between two runs is not read."""
        ends = np.concatenate([[0], np.cumsum(self.sizes)])
        with self.path.open("rb", buffering=0) as stream:
            at = 0
            while at < len(rows):
                first = int(rows[at])
                limit = max(first + 1, int(np.searchsorted(ends, ends[first] + size, side="right")) - 1)
                at = int(np.searchsorted(rows, limit))
                yield first, _read(stream, ends[first : int(rows[at - 1]) + 2])


def _read(stream: BinaryIO, ends: Counts) -> pa.Array:
    """The texts between ``ends``, the places in the file where they begin and the last one stops."""
    import pyarrow as pa

    begin, stop = int(ends[0]), int(ends[-1])
    held = np.empty(stop - begin, dtype=np.uint8)
    done = 0
    while done < len(held):
        count = os.preadv(stream.fileno(), [held[done:].data], begin + done)
        if not count:
            raise DataError(f"{stream.name} has become shorter while it was read. Run curate again.")
        done += count
    places = pa.py_buffer(ends - begin)
    return pa.LargeStringArray.from_buffers(len(ends) - 1, places, pa.py_buffer(held))


def texts_again(
    shard: Shard, copy: Path | None, rows: Counts, *, of: int | None = None, size: int = BATCH
) -> Iterator[tuple[int, pa.Array]]:
    """The texts of ``rows`` (ascending) of a shard, and others beside: the row of the first of a batch, and the batch. From the
    copy where there is one, otherwise everything is read again: DataError where the shard has not ``of`` rows."""
    held = TextCopy.find(copy, of)
    if held is not None:
        yield from held.spans(rows, size)
        return
    at = 0
    for batch in shard.batches(size):
        yield at, batch.texts
        at += len(batch.texts)
    if of not in (None, at):
        raise DataError(f"{shard.name}: {of} rows were measured, but {at} were read again: a file has changed.")
