"""Rows of documents as Arrow batches: what curation reads. See ``documents.py`` for formats and what is unreadable."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from mixwright.store.documents import Row, SourceOptions, Unreadable
from mixwright.store.parquet_rows import parquet_batches
from mixwright.store.pieces import Piece, read_piece
from mixwright.store.row_batch import RowBatch, regrouped
from mixwright.store.streams import Limits

__all__ = ["RowBatch", "read_batches"]


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

    Without ``meta`` the other fields are not read. A compressed file, or a row group, that unpacks to more than
    ``max_inflation`` times its size (and 64 MB) is unreadable from there on, as is a row of more than ``max_row`` bytes.
    Raises DataError as ``read_rows``. Memory: some batches and the largest row.
    """
    limits = Limits(max_inflation, max_row)
    if piece.file.format == "parquet":
        made = parquet_batches(piece, given, size=size, meta=meta, limits=limits)
    else:
        made = _row_by_row(piece, given, first_row, size)
    yield from regrouped(made, size)


def _row_by_row(piece: Piece, given: SourceOptions, first_row: int, size: int) -> Iterator[RowBatch]:
    rows: list[Row] = []
    bad: list[Unreadable] = []
    held = 0
    for row in read_piece(piece, given.text):
        if isinstance(row, Row):
            rows.append(row)
            held += len(row.text)
        else:
            bad.append(row)
        if held >= size:
            yield _batch(piece, rows, bad, first_row)
            rows, bad, held = [], [], 0
    if rows or bad:
        yield _batch(piece, rows, bad, first_row)


def _batch(piece: Piece, rows: list[Row], bad: list[Unreadable], first_row: int) -> RowBatch:
    import pyarrow as pa

    moved = first_row if piece.stop and piece.file.format == "jsonl" else 0
    return RowBatch(
        piece.file.name,
        np.array([row.row + moved for row in rows], dtype=np.int64),
        pa.array([row.text for row in rows], pa.large_string()),
        pa.array([row.meta for row in rows], pa.large_string()),
        tuple(dataclasses.replace(one, row=one.row + moved) for one in bad),
    )
