"""Rows of documents out of Parquet, column by column: no loop over rows unless one is bad.

Only the columns that are needed are decoded, about a batch at a time, so that memory does not grow with row groups. A row
group that is damaged is told row by row from where it breaks; the groups after it are read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mixwright.core.errors import DataError
from mixwright.store.documents import SourceOptions, Unreadable
from mixwright.store.meta_json import as_json, dumps
from mixwright.store.place import Place
from mixwright.store.row_batch import RowBatch, nothing, offsets
from mixwright.store.streams import Limits
from mixwright.store.utf8 import as_large_binary, broken, holds_strings, kept

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from mixwright.store.pieces import Piece

#: bytes read from a file at once, here and behind a URL
_BUFFER, _RANGE = 1 << 20, 8 << 20
#: rows decoded to see how long they are, where the footer says that they are short
_FEW_ROWS = 1024
#: rows that a group may claim whatever its size, since nulls and repetitions take next to nothing
_FREE_ROWS = 1 << 24
#: unreadable rows told at once
_TOLD = 4096


@dataclass(frozen=True)
class _Reader:
    """An open file and what is wanted of it; ``fields`` hold text, ``others`` are the columns of the meta."""

    piece: Piece
    given: SourceOptions
    table: pq.ParquetFile
    fields: tuple[str, ...]
    others: tuple[str, ...]
    meta: bool
    size: int
    limits: Limits

    @property
    def name(self) -> str:
        return self.piece.file.name


def parquet_batches(piece: Piece, given: SourceOptions, *, size: int, meta: bool, limits: Limits) -> Iterator[RowBatch]:
    """The rows of a Parquet file, or of the row groups of a piece, in batches of no certain size.

    Raises DataError if the file cannot be opened or has no column of strings of that name.
    """
    try:
        table = _opened(piece)
    except _damage() as error:
        reason = f"the file is not Parquet, or is truncated ({_first_line(error)})"
        yield nothing(piece.file.name, [Unreadable(piece.file.name, 1, reason)], given, meta=meta)
        return
    with table:
        fields = given.fields
        schema = table.schema_arrow
        for field in fields:
            _check_column(piece, schema, field)
        others = tuple(name for name in dict.fromkeys(schema.names) if name not in fields) if meta else ()
        reader = _Reader(piece, given, table, fields, others, meta, size, limits)
        wanted = range(piece.start, piece.stop) if piece.stop else range(table.num_row_groups)
        first = 1 + sum(table.metadata.row_group(group).num_rows for group in range(wanted.start))
        for group in wanted:
            yield from _group(reader, group, first)
            first += table.metadata.row_group(group).num_rows


def parquet_meta(
    piece: Piece, given: SourceOptions, rows: NDArray[np.int64], *, size: int, limits: Limits
) -> Iterator[pa.Array]:
    """Of a piece the meta (JSON, large strings) that ``parquet_batches`` gives ``rows``, readable ones, which are counted from 1
    in their file and ascend; those of other pieces are passed over. Texts are not decoded, but for some in a group that
    say how many rows are read at once. Raises DataError if the file cannot be opened.
    """
    with _opened(piece) as table:
        others = tuple(name for name in dict.fromkeys(table.schema_arrow.names) if name not in given.fields)
        reader = _Reader(piece, given, table, given.fields, others, True, size, limits)
        wanted = range(piece.start, piece.stop) if piece.stop else range(table.num_row_groups)
        first = 1 + sum(table.metadata.row_group(group).num_rows for group in range(wanted.start))
        for group in wanted:
            after = first + table.metadata.row_group(group).num_rows
            mine = rows[slice(*np.searchsorted(rows, [first, after]).tolist())]
            yield from _meta(reader, group, mine - first, after - first)
            first = after


def _meta(reader: _Reader, group: int, rows: NDArray[np.int64], count: int) -> Iterator[pa.Array]:
    """The meta of ``rows`` of a row group of ``count`` rows, counted from 0 in it."""
    import pyarrow as pa

    if not len(rows):
        return
    if not reader.others:
        yield pa.repeat(pa.scalar("{}", pa.large_string()), len(rows))
        return
    at_once = _begun(reader, group).count
    beside = _Beside(reader, group, at_once)
    waiting: list[pa.RecordBatch] = []
    held = 0
    for start in range(0, int(rows[-1]) + 1, at_once):
        stop = min(start + at_once, count)
        chosen = rows[slice(*np.searchsorted(rows, [start, stop]).tolist())] - start
        batch = beside.batch(stop - start)
        if batch is not None:
            waiting.append(batch.take(pa.array(chosen)))
            held += waiting[-1].nbytes
        if waiting and (batch is None or held > reader.size):
            yield _whole_json(waiting)
            waiting, held = [], 0
        if batch is None:
            yield beside.told(len(chosen))
    if waiting:
        yield _whole_json(waiting)


def _whole_json(batches: Sequence[pa.RecordBatch]) -> pa.Array:
    """``as_json`` of them all, at once: a call takes as long as some hundred rows."""
    import pyarrow as pa

    whole = pa.Table.from_batches(batches).combine_chunks()
    return pa.concat_arrays([as_json(batch) for batch in whole.to_batches()] or [pa.array([], pa.large_string())])


def _opened(piece: Piece) -> pq.ParquetFile:
    import pyarrow.parquet as pq

    place = piece.file.place
    if (size := place.size()) != piece.file.bytes:
        raise DataError(f"{place} has {size} bytes, not the {piece.file.bytes} it had when it was found. Run again.")
    if place.path is None:
        return pq.ParquetFile(place.file(), pre_buffer=False, buffer_size=_RANGE)
    try:
        return pq.ParquetFile(place.path, pre_buffer=False, buffer_size=_BUFFER)
    except OSError as error:
        _refuse(place, error)
        raise


def _refuse(place: Place, error: BaseException) -> None:
    """DataError where the system could not read; Arrow's own complaints of what it read have no number."""
    if isinstance(error, OSError) and error.errno is not None:
        raise DataError(f"{place} cannot be read ({error.strerror or error}). Correct its permissions.") from error


def _check_column(piece: Piece, schema: pa.Schema, field: str) -> None:
    path = piece.file.url
    if schema.names.count(field) != 1:
        has = "has several columns" if field in schema.names else "has no column"
        raise DataError(
            f"{path} {has} {field!r}; it has {', '.join(schema.names)}. Name the text column with text: NAME."
        )
    kind = schema.field(field).type
    if not holds_strings(kind):
        raise DataError(
            f"The column {field!r} of {path} holds {kind}, not strings. Name the text column with text: NAME."
        )


def _group(reader: _Reader, group: int, first: int) -> Iterator[RowBatch]:
    """The rows of one row group, whose first row is ``first``."""
    about = reader.table.metadata.row_group(group)
    bomb = _bomb(reader, about)
    if bomb is not None:
        yield from _damaged(reader, f"row group {group} {bomb}", first, about.num_rows)
        return
    found, done = _begun(reader, group), 0
    beside = _Beside(reader, group, found.count) if reader.others else None
    while (batch := found.next()) is not None:
        others = beside.next(batch.num_rows) if beside is not None else None
        yield _as_rows(reader, batch, first + done, others)
        done += batch.num_rows
    if done < about.num_rows:
        why = found.failure or f"it ends after {done} of its {about.num_rows} rows"
        yield from _damaged(reader, f"row group {group} is damaged ({why})", first + done, about.num_rows - done)


class _Decoded:
    """Some columns of a row group, ``count`` rows at a time, up to its end or ``failure``."""

    def __init__(self, reader: _Reader, group: int, count: int, columns: Sequence[str]) -> None:
        self._reader, self.count, self.failure = reader, count, ""
        self._batches = reader.table.iter_batches(count, row_groups=[group], columns=list(columns), use_threads=False)

    def next(self) -> pa.RecordBatch | None:
        """The next rows; None at the end and where what comes is damaged. Raises DataError if the system cannot read."""
        try:
            return next(self._batches, None)
        except _damage() as error:
            _refuse(self._reader.piece.file.place, error)
            self.failure = _first_line(error)
            return None


def _begun(reader: _Reader, group: int) -> _Decoded:
    """The text of a row group, about a batch at a time.

    What the footer says of single columns is not asked for: where it is damaged, asking ends the process (pyarrow 26).
    So a dictionary, of which one long value may stand for every row, is found by decoding few rows first.
    """
    about = reader.table.metadata.row_group(group)
    count = max(1, about.num_rows * reader.size // max(1, about.total_byte_size))
    if min(count, about.num_rows) > _FEW_ROWS:
        few = _Decoded(reader, group, _FEW_ROWS, reader.fields).next()
        count = min(count, max(1, _FEW_ROWS * reader.size // max(1, 0 if few is None else few.nbytes)))
    return _Decoded(reader, group, int(count), reader.fields)


def _damage() -> tuple[type[Exception], ...]:
    """What pyarrow raises for bytes that are no Parquet."""
    import pyarrow as pa

    return (pa.ArrowException, OSError, RuntimeError, ValueError)


def _bomb(reader: _Reader, about: Any) -> str | None:
    """Why a row group is not even begun: it claims more than anybody packs into so few bytes."""
    packed, unpacked, rows = reader.piece.file.bytes, about.total_byte_size, about.num_rows
    if unpacked > reader.limits.most(packed):
        return f"says it unpacks to {unpacked:,} bytes, {reader.limits.inflated(packed)}"
    if rows > max(_FREE_ROWS, reader.limits.inflation * packed):
        return f"says it holds {rows:,} rows in {packed:,} bytes"
    return None


class _Beside:
    """The other columns of a row group, read beside the text; where they are damaged, that is what meta says."""

    def __init__(self, reader: _Reader, group: int, count: int) -> None:
        self._group, self._told = group, ""
        self._found = _Decoded(reader, group, count, reader.others)

    def next(self, rows: int) -> pa.Array:
        """JSON of the next ``rows``."""
        batch = self.batch(rows)
        return self.told(rows) if batch is None else as_json(batch)

    def batch(self, rows: int) -> pa.RecordBatch | None:
        """The next ``rows``; None from where they are damaged."""
        if not self._told:
            batch = self._found.next()
            if batch is not None and batch.num_rows == rows:
                return batch
            why = self._found.failure or "its columns are of different lengths"
            self._told = dumps({"unreadable": f"row group {self._group} is damaged ({why})"})
        return None

    def told(self, rows: int) -> pa.Array:
        """What JSON says of ``rows`` that are damaged."""
        import pyarrow as pa

        return pa.array([self._told] * rows, pa.large_string())


def _as_rows(reader: _Reader, batch: pa.RecordBatch, first: int, others: pa.Array | None) -> RowBatch:
    """A decoded batch as rows; those that hold null, broken UTF-8 or too much are unreadable."""
    import pyarrow as pa

    columns = {field: as_large_binary(batch.column(field)) for field in reader.fields}
    good = np.ones(batch.num_rows, dtype=bool)
    bad: dict[int, str] = {}
    for field, column in columns.items():
        for at, reason in _faults(field, column, reader.limits).items():
            bad.setdefault(at, reason)
            good[at] = False
    strings = {field: kept(good, column).view(pa.large_string()) for field, column in columns.items()}
    text, prompts, responses = _instruction(reader.given, strings)
    if others is not None:
        others = kept(good, others)
    elif reader.meta:
        others = pa.array(["{}"] * len(text), pa.large_string())
    told = tuple(Unreadable(reader.name, first + at, bad[at]) for at in sorted(bad))
    return RowBatch(reader.name, first + np.flatnonzero(good), text, others, told, prompts, responses)


def _faults(field: str, column: pa.Array, limits: Limits) -> dict[int, str]:
    """Why some values of a large binary column are no text."""
    import pyarrow as pa

    found: dict[int, str] = {}
    if column.null_count:
        found |= dict.fromkeys(np.flatnonzero(np.asarray(column.is_null())).tolist(), f"the field {field!r} is null")
    ends = offsets(column.view(pa.large_string()))
    if ends[-1] - ends[0] > limits.row:
        lengths = np.diff(ends)
        for at in np.flatnonzero(lengths > limits.row).tolist():
            found.setdefault(at, limits.too_long(int(lengths[at])))
    for at, (byte, place) in broken(column).items():
        found.setdefault(at, f"the field {field!r} is not UTF-8 (byte {byte:#04x} at {place})")
    return found


def _instruction(given: SourceOptions, strings: dict[str, pa.Array]) -> tuple[pa.Array, Any, Any]:
    """Text, prompts and responses; the last two None where the source has no instruction rows."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if given.response is None:
        return strings[given.text], None, None
    feed = pa.scalar("\n", pa.large_string())
    prompts = strings[given.prompt[0]]
    for name in given.prompt[1:]:
        after = strings[name]
        both = pc.binary_join_element_wise(prompts, after, feed)
        one = pc.if_else(pc.equal(pc.binary_length(prompts), 0), after, prompts)
        alone = pc.or_(pc.equal(pc.binary_length(prompts), 0), pc.equal(pc.binary_length(after), 0))
        prompts = pc.if_else(alone, one, both)
    responses = strings[given.response]
    return pc.binary_join_element_wise(prompts, responses, feed), prompts, responses


def _damaged(reader: _Reader, reason: str, first: int, count: int) -> Iterator[RowBatch]:
    """``count`` unreadable rows; a single one where the count itself is not to be believed."""
    if count > _FREE_ROWS:
        reason, count = f"{reason}; it says it holds {count:,} rows, which are told as one", 1
    for start in range(first, first + count, _TOLD):
        rows = range(start, min(start + _TOLD, first + count))
        yield nothing(
            reader.name, [Unreadable(reader.name, row, reason) for row in rows], reader.given, meta=reader.meta
        )


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
