"""Rows of documents as Arrow holds them, joined and cut to batches of one size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mixwright.store.documents import SourceOptions, Unreadable

if TYPE_CHECKING:
    import pyarrow as pa

#: a batch may have so many times the size asked for before it is cut, and be so many times smaller before others are added
_SLACK = 2
#: unreadable rows in one batch, so that a damaged row group of any length is told in bounded memory
_MOST_UNREADABLE = 10_000


@dataclass(frozen=True)
class RowBatch:
    """Some rows of one file, in order: all that are readable, and beside them those that are not.

    ``path`` is the file's name, ``rows`` (n,) count from 1 within it, ``texts`` and ``meta`` (JSON) are Arrow large
    strings of length n without nulls, ``prompts`` and ``responses`` likewise where the source has instruction rows.
    ``meta`` is None where it was not asked for.
    """

    path: str
    rows: NDArray[np.int64]
    texts: pa.Array
    meta: pa.Array | None
    unreadable: tuple[Unreadable, ...] = ()
    prompts: pa.Array | None = None
    responses: pa.Array | None = None
    #: about how many of the piece's ``size`` bytes have been read so far
    read: int = field(default=0, compare=False)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def bytes(self) -> int:
        """UTF-8 bytes of its texts."""
        ends = offsets(self.texts)
        return int(ends[-1] - ends[0])

    def slice(self, start: int, stop: int) -> RowBatch:
        """Its readable rows from ``start`` to ``stop``, without a copy, and what is unreadable before and between them."""
        first = 0 if start == 0 else int(self.rows[start])
        after = np.inf if stop == len(self) else self.rows[stop]
        part: dict[str, Any] = {
            name: None if column is None else column.slice(start, stop - start)
            for name, column in self._columns().items()
        }
        bad = tuple(one for one in self.unreadable if first <= one.row < after)
        return replace(self, rows=self.rows[start:stop], unreadable=bad, **part)

    def _columns(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("texts", "meta", "prompts", "responses")}


def nothing(path: str, bad: Sequence[Unreadable], given: SourceOptions, *, meta: bool) -> RowBatch:
    """Unreadable rows alone."""
    import pyarrow as pa

    none = pa.array([], pa.large_string())
    halves = none if given.response is not None else None
    return RowBatch(path, np.zeros(0, np.int64), none, none if meta else None, tuple(bad), halves, halves)


def offsets(strings: pa.Array) -> NDArray[np.int64]:
    """Where each of n large strings begins in their buffer of bytes, and where the last one ends, ``(n + 1,)``."""
    buffer = strings.buffers()[1]
    if buffer is None or not buffer.size:
        return np.zeros(1, dtype=np.int64)
    return np.frombuffer(buffer, dtype=np.int64)[strings.offset : strings.offset + len(strings) + 1]


def regrouped(batches: Iterable[RowBatch], size: int) -> Iterator[RowBatch]:
    """The same rows of one file in batches of about ``size`` bytes of text: small ones joined, large ones cut.

    A batch has at least a row, or an unreadable one. Cutting copies nothing; joining copies what is joined.
    """
    waiting: list[RowBatch] = []
    held = bad = 0
    for batch in batches:
        if waiting and held + batch.bytes > _SLACK * size:
            yield from _cut(_joined(waiting), size)
            waiting, held, bad = [], 0, 0
        waiting.append(batch)
        held += batch.bytes
        bad += len(batch.unreadable)
        if _SLACK * held >= size or bad >= _MOST_UNREADABLE:
            yield from _cut(_joined(waiting), size)
            waiting, held, bad = [], 0, 0
    if waiting:
        yield from _cut(_joined(waiting), size)


def _joined(batches: Sequence[RowBatch]) -> RowBatch:
    import pyarrow as pa

    if len(batches) == 1:
        return batches[0]
    last = batches[-1]
    columns: dict[str, Any] = {
        name: None if column is None else pa.concat_arrays([batch._columns()[name] for batch in batches])
        for name, column in last._columns().items()
    }
    rows = np.concatenate([batch.rows for batch in batches])
    bad = tuple(one for batch in batches for one in batch.unreadable)
    return replace(last, rows=rows, unreadable=bad, **columns)


def _cut(batch: RowBatch, size: int) -> Iterator[RowBatch]:
    ends = offsets(batch.texts)
    if not len(batch) or ends[-1] - ends[0] <= _SLACK * size:
        if len(batch) or batch.unreadable:
            yield batch
        return
    start = 0
    while start < len(batch):
        stop = min(len(batch), int(np.searchsorted(ends, ends[start] + size)))
        stop = max(stop, start + 1)
        yield batch.slice(start, stop)
        start = stop
