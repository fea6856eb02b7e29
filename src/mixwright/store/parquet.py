"""Parquet tables written a row or a batch at a time, the same bytes for the same rows however they came."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

#: the most rows of a row group, so that reading one column of it stays a bounded step
_GROUP_ROWS = 1 << 20
#: bytes that an item of a list, and a value of any other nested type, are taken for
_LIST_ITEM = 16


class _Writer(ABC):
    """A Parquet file that is written aside and takes its name when the block ends without error."""

    _aside: Any
    _writer: Any

    @abstractmethod
    def _flush(self) -> None:
        """Write what waits as a row group."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        try:
            if kind is None:
                self._flush()
            self._writer.close()
        except BaseException as failure:
            self._aside.__exit__(type(failure), failure, failure.__traceback__)
            raise
        self._aside.__exit__(kind, error, trace)


class TableWriter(_Writer):
    """Writes a Parquet file row by row, zstd level 1; bytes depend on the rows alone, not on how they came.

    A context manager: the file is written aside and takes its name when the block ends without error. A row group is
    closed after ``group_bytes`` of what ``add`` was told, or 65 536 rows.
    """

    def __init__(self, path: Path, schema: pa.Schema, *, group_bytes: int = 16 << 20) -> None:
        self._path, self._schema, self._group_bytes = path, schema, group_bytes
        self._columns: dict[str, list[Any]] = {name: [] for name in schema.names}
        self._waiting = 0
        self._size = 0
        self.rows = 0

    def __enter__(self) -> TableWriter:
        import pyarrow.parquet as pq

        from mixwright.store.artifact import written_aside

        self._aside = written_aside(self._path)
        self._writer = pq.ParquetWriter(self._aside.__enter__(), self._schema, compression="zstd", compression_level=1)
        return self

    def add(self, row: dict[str, Any], size: int = 0) -> None:
        """One row, every column named; ``size`` is about how many bytes it takes."""
        for name, values in self._columns.items():
            values.append(row[name])
        self.rows += 1
        self._waiting += 1
        self._size += size
        if self._size >= self._group_bytes or self._waiting >= 65_536:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        if self._waiting:
            self._writer.write_table(pa.table(self._columns, schema=self._schema))
            self._columns = {name: [] for name in self._schema.names}
            self._waiting = self._size = 0


class BatchWriter(_Writer):
    """Writes a Parquet file from Arrow batches, zstd level 1; bytes depend on the rows alone, not on how they came.

    A context manager: the file is written aside and takes its name when the block ends without error. A row group is
    closed by the row that brings it to ``group_bytes`` (bytes of strings, and the width of numbers), or by 1 048 576 rows.
    ``repeated`` names columns with few different values, the only ones that get a dictionary; least and greatest values
    are kept for numbers only. ``light`` columns are read far more often than written: they lie in the file as they do in
    memory. Memory: about two row groups. Cost: about 2 CPU-seconds a gigabyte.
    """

    def __init__(
        self, path: Path, schema: pa.Schema, *, group_bytes: int = 16 << 20, repeated: Sequence[str] = (),
        light: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self._path, self._schema, self._group_bytes = path, schema, group_bytes
        self._repeated, self._light = [name for name in repeated if name in schema.names], frozenset(light)
        self._codec: Any = {name: "none" if name in light else "zstd" for name in schema.names} if light else "zstd"
        self._level: Any = {name: 1 for name in schema.names if name not in light} if light else 1
        self._waiting: list[pa.RecordBatch] = []
        self._sizes = _Sizes.of(schema)
        self._size = self._count = 0
        self.rows = 0

    def __enter__(self) -> BatchWriter:
        import pyarrow as pa
        import pyarrow.parquet as pq

        from mixwright.store.artifact import written_aside

        numbers = [field.name for field in self._schema
                   if pa.types.is_primitive(field.type) and field.name not in self._light]  # fmt: skip
        self._aside = written_aside(self._path)
        self._writer = pq.ParquetWriter(
            self._aside.__enter__(), self._schema, compression=self._codec, compression_level=self._level,
            use_dictionary=self._repeated, write_statistics=numbers, **(_one_page() if self._light else {}),
        )  # fmt: skip
        return self

    def add(self, batch: pa.RecordBatch) -> None:
        """Rows whose columns are those of the schema, in its order; other types of the same values are cast."""
        import pyarrow as pa

        if batch.schema != self._schema:
            batch = pa.record_batch(
                [column.cast(field.type) for column, field in zip(batch.columns, self._schema, strict=True)],
                schema=self._schema,
            )
        sizes = np.cumsum(self._sizes.rows(batch))
        self.rows += batch.num_rows
        start = 0
        while start < batch.num_rows:
            before = int(sizes[start - 1]) if start else 0
            room = before + self._group_bytes - self._size
            stop = min(
                int(np.searchsorted(sizes, room)) + 1, start + _GROUP_ROWS - self._count, batch.num_rows
            )  # the row that reaches the size is the group's last
            self._waiting.append(batch.slice(start, stop - start))
            self._size += int(sizes[stop - 1]) - before
            self._count += stop - start
            if self._size >= self._group_bytes or self._count >= _GROUP_ROWS:
                self._flush()
            start = stop

    def _flush(self) -> None:
        import pyarrow as pa

        if self._waiting:
            # one chunk a column: where pages end must not depend on the batches
            table = pa.Table.from_batches(self._waiting, self._schema).combine_chunks()
            self._writer.write_table(table, row_group_size=_GROUP_ROWS)
            self._waiting, self._size, self._count = [], 0, 0


def _one_page() -> dict[str, int]:
    """Options with which a row group is one page a column."""
    import pyarrow.parquet as pq

    pages = {"data_page_size": 1 << 30}
    # pages end after 20 000 rows since pyarrow 22, where this option came
    known = "max_rows_per_page" in inspect.signature(pq.ParquetWriter.__init__).parameters
    return pages | ({"max_rows_per_page": _GROUP_ROWS} if known else {})


@dataclass(frozen=True)
class _Sizes:
    """How to tell the bytes of rows of a schema: ``width`` of all values that have one, and which columns hold others."""

    width: int
    strings: tuple[int, ...]
    lists: tuple[int, ...]

    @classmethod
    def of(cls, schema: pa.Schema) -> _Sizes:
        import pyarrow as pa

        width, strings, lists = 0, [], []
        for at, kind in enumerate(schema.types):
            if pa.types.is_fixed_size_binary(kind):
                width += kind.byte_width
            elif pa.types.is_primitive(kind):
                width += max(1, kind.bit_width // 8)
            elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
                lists.append(at)
            elif pa.types.is_nested(kind) or pa.types.is_dictionary(kind) or pa.types.is_null(kind):
                width += _LIST_ITEM
            else:
                strings.append(at)
        return cls(width, tuple(strings), tuple(lists))

    def rows(self, batch: pa.RecordBatch) -> NDArray[np.int64]:
        import pyarrow.compute as pc

        sizes = np.full(batch.num_rows, self.width, dtype=np.int64)
        for at in self.strings:
            sizes += np.asarray(pc.fill_null(pc.binary_length(batch.column(at)), 0), dtype=np.int64)
        for at in self.lists:
            sizes += _LIST_ITEM * np.asarray(pc.fill_null(pc.list_value_length(batch.column(at)), 0), dtype=np.int64)
        return sizes


def row_bytes(batch: pa.RecordBatch) -> NDArray[np.int64]:
    """About how many bytes each row takes, ``(n,)``, from the row alone: its strings' bytes, the width of other values."""
    return _Sizes.of(batch.schema).rows(batch)
