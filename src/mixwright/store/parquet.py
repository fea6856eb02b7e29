"""Parquet tables written a row at a time, the same bytes for the same rows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa


class TableWriter:
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

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        try:
            if kind is None:
                self._flush()
            self._writer.close()
        except BaseException as failure:
            self._aside.__exit__(type(failure), failure, failure.__traceback__)
            raise
        self._aside.__exit__(kind, error, trace)
