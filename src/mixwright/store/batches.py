"""Rows of documents as Arrow batches: what curation reads. See ``documents.py`` for formats and what is unreadable."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mixwright.store.documents import Row, SourceOptions, Unreadable
from mixwright.store.pieces import Piece, read_piece

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class RowBatch:
    """Some rows of one file, in order: all that are readable, and beside them those that are not.

    ``path`` is the file's name, ``rows`` (n,) count from 1 within it, ``texts`` and ``meta`` (JSON) are Arrow large
    strings of length n without nulls, ``prompts`` and ``responses`` likewise where the source has instruction rows.
    """

    path: str
    rows: NDArray[np.int64]
    texts: pa.Array
    meta: pa.Array
    unreadable: tuple[Unreadable, ...] = ()
    prompts: pa.Array | None = None
    responses: pa.Array | None = None
    #: bytes of the piece that have been read so far
    read: int = field(default=0, compare=False)


def read_batches(piece: Piece, given: SourceOptions, *, first_row: int = 0, size: int = 1 << 20) -> Iterator[RowBatch]:
    """The rows of a piece in batches of about ``size`` bytes of text; ``first_row`` rows of its file stand before it.

    Raises DataError as ``read_rows``. Memory: one batch, a decoded row group and the largest row.
    """
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
    import dataclasses

    import pyarrow as pa

    moved = first_row if piece.stop and piece.file.format == "jsonl" else 0
    return RowBatch(
        piece.file.name,
        np.array([row.row + moved for row in rows], dtype=np.int64),
        pa.array([row.text for row in rows], pa.large_string()),
        pa.array([row.meta for row in rows], pa.large_string()),
        tuple(dataclasses.replace(one, row=one.row + moved) for one in bad),
    )
