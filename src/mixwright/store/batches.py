"""Rows of documents as Arrow batches: what everything reads. See ``documents.py`` for formats and what is unreadable."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mixwright.store.documents import Row, SourceFile, SourceOptions, Unreadable, start_of
from mixwright.store.json_rows import jsonl_rows
from mixwright.store.parquet_rows import parquet_batches, parquet_meta
from mixwright.store.pieces import Piece
from mixwright.store.row_batch import RowBatch, nothing, regrouped
from mixwright.store.streams import DamagedStream, Limits, Meter, chunks

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["RowBatch", "read_batches", "read_meta", "read_piece"]

#: readable or unreadable rows of a batch that is made of them, whatever their size
_MOST_ROWS = 16_384


def read_batches(
    piece: Piece,
    given: SourceOptions,
    *,
    first_row: int = 0,
    size: int = 1 << 20,
    meta: bool = True,
    max_inflation: float = 1000.0,
    max_row: int = 256 << 20,
) -> Iterator[RowBatch]:
    """The rows of a piece in batches of about ``size`` bytes of text; ``first_row`` rows of its file stand before it.

    Without ``meta`` the other fields are not read; which rows are readable is the same. A compressed file, or a row group,
    that unpacks to more than ``max_inflation`` times its size (and 64 MB) is unreadable from there on, as is a row of more
    than ``max_row`` bytes. Raises DataError if the file cannot be opened, ends before it did when it was found, or is a
    Parquet file without a column of strings of that name. Memory: some batches and the largest row.
    """
    limits = Limits(max_inflation, max_row)
    if piece.file.format == "parquet":
        made = parquet_batches(piece, given, size=size, meta=meta, limits=limits)
    else:
        meter = Meter()
        rows = (
            _text_row(piece.file, limits, meter)
            if piece.file.format == "text"
            else jsonl_rows(piece, given, first_row=first_row, meta=meta, limits=limits, meter=meter)
        )
        made = _gathered(piece, given, rows, size, meta, meter)
    yield from regrouped(made, size)


def read_meta(
    piece: Piece, given: SourceOptions, rows: NDArray[np.int64], *, size: int = 1 << 20, max_inflation: float = 1000.0
) -> Iterator[pa.Array]:
    """Of a piece of a Parquet or text file the meta that ``read_batches`` gives ``rows``, readable ones, which are counted from
    1 in their file and ascend: large strings. Texts are not read. Raises DataError if the file cannot be opened.
    """
    import pyarrow as pa

    if piece.file.format == "parquet":
        yield from parquet_meta(piece, given, rows, size=size, limits=Limits(max_inflation))
    else:
        yield pa.repeat(pa.scalar("{}", pa.large_string()), len(rows))


def read_piece(piece: Piece, given: SourceOptions, *, meta: bool = True) -> Iterator[Row | Unreadable]:
    """The rows of a piece one by one, in order; those of a range of bytes count from 1 at its first line. As above."""
    for batch in read_batches(piece, given, meta=meta):
        columns = [
            [None] * len(batch) if column is None else column.to_pylist()
            for column in (batch.texts, batch.meta, batch.prompts, batch.responses)
        ]
        waiting = list(reversed(batch.unreadable))
        for number, text, told, prompt, response in zip(batch.rows.tolist(), *columns, strict=True):
            while waiting and waiting[-1].row < number:
                yield waiting.pop()
            yield Row(batch.path, number, text, told or "{}", prompt, response)
        yield from reversed(waiting)


def _text_row(file: SourceFile, limits: Limits, meter: Meter) -> Iterator[Row | Unreadable]:
    """A whole file as one row."""
    pieces: list[bytes] = []
    held = 0
    try:
        for piece in chunks(file.place, file.bytes, meter, limits):
            pieces.append(piece)
            held += len(piece)
            if held > limits.row:
                yield Unreadable(file.name, 1, limits.too_long(max(held, file.bytes)), start_of(pieces[0]))
                return
        content = b"".join(pieces)
        yield Row(file.name, 1, content.decode("utf-8-sig"), "{}")
    except DamagedStream as error:
        yield Unreadable(file.name, 1, str(error), start_of(b"".join(pieces[:2])))
    except UnicodeDecodeError as error:
        reason = f"the file is not UTF-8 (byte {content[error.start]:#04x} at {error.start})"
        yield Unreadable(file.name, 1, reason, start_of(content))


def _gathered(
    piece: Piece, given: SourceOptions, found: Iterable[Row | Unreadable], size: int, meta: bool, meter: Meter
) -> Iterator[RowBatch]:
    """Rows as batches of about ``size`` bytes."""
    rows: list[Row] = []
    bad: list[Unreadable] = []
    held = 0
    for row in found:
        if isinstance(row, Row):
            rows.append(row)
            held += len(row.text)
        else:
            bad.append(row)
        if held >= size or len(rows) + len(bad) >= _MOST_ROWS:
            yield _batch(piece, given, rows, bad, meta, meter)
            rows, bad, held = [], [], 0
    if rows or bad:
        yield _batch(piece, given, rows, bad, meta, meter)


def _batch(
    piece: Piece, given: SourceOptions, rows: Sequence[Row], bad: Sequence[Unreadable], meta: bool, meter: Meter
) -> RowBatch:
    import pyarrow as pa

    if not rows:
        return nothing(piece.file.name, bad, given, meta=meta)
    large, halves = pa.large_string(), given.response is not None and piece.file.format != "text"
    span = (piece.stop - piece.start) or piece.file.bytes
    return RowBatch(
        piece.file.name,
        np.array([row.row for row in rows], dtype=np.int64),
        pa.array([row.text for row in rows], large),
        pa.array([row.meta for row in rows], large) if meta else None,
        tuple(bad),
        pa.array([row.prompt for row in rows], large) if halves else None,
        pa.array([row.response for row in rows], large) if halves else None,
        min(piece.size, meter.bytes * piece.size // max(1, span)),
    )
