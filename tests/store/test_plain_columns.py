from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mixwright.store.parquet import BatchWriter
from mixwright.store.plain_columns import read_numbers

PLAIN = {"compression": "none", "use_dictionary": False, "write_statistics": False}


def _table(rows: int, *, nullable: bool = False) -> pa.Table:
    """Numbers with NaN, infinities and -0.0; whole numbers; ids."""
    draws = np.random.default_rng(rows)
    numbers = draws.standard_normal(rows)
    numbers[: rows // 2 : 7] = np.nan
    numbers[:3] = [np.inf, -np.inf, -0.0][:rows]
    kinds = [("ratio", pa.float64()), ("bytes", pa.int64()), ("small", pa.int32())]
    schema = pa.schema([
        ("id", pa.string()), *(pa.field(name, kind, nullable=nullable) for name, kind in kinds),
    ])  # fmt: skip
    whole = draws.integers(-(1 << 40), 1 << 40, rows)
    return pa.table([[f"row {at}" for at in range(rows)], numbers, whole, whole % 100], schema=schema)


def _agree(path: Path, table: pa.Table) -> None:
    found = read_numbers(path, ["small", "ratio", "absent", "bytes"])
    assert set(found) == {"small", "ratio", "bytes"}
    for name, values in found.items():
        expected = table[name].to_numpy()
        assert (values.dtype, values.tobytes()) == (expected.dtype, expected.tobytes()), name


@pytest.mark.parametrize("rows", [0, 1, 2, 63, 16_384, 70_000])
@pytest.mark.parametrize(
    "options",
    [
        PLAIN,
        PLAIN | {"row_group_size": 1000},
        PLAIN | {"data_page_size": 1 << 12},
        PLAIN | {"data_page_version": "2.0"},
        PLAIN | {"write_page_checksum": True},
        PLAIN | {"write_statistics": True},
        PLAIN | {"use_byte_stream_split": ["ratio"]},
        {"compression": "zstd"},
        {"compression": "none"},
    ],
    ids=str,
)
def test_numbers_are_those_that_arrow_reads_however_the_file_is_written(
    tmp_path: Path, rows: int, options: dict[str, Any]
) -> None:
    table = _table(rows)
    pq.write_table(table, tmp_path / "t.parquet", **options)
    _agree(tmp_path / "t.parquet", table)


def test_nulls_are_nan(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": pa.array([1.5, None, 2.5])}), tmp_path / "t.parquet", **PLAIN)
    assert read_numbers(tmp_path / "t.parquet", ["x"])["x"].tobytes() == np.array([1.5, np.nan, 2.5]).tobytes()
    table = _table(100, nullable=True)
    pq.write_table(table, tmp_path / "t.parquet", **PLAIN)
    _agree(tmp_path / "t.parquet", table)


def test_light_columns_of_a_batch_writer_are_read_straight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = _table(50_000)
    with BatchWriter(tmp_path / "t.parquet", table.schema, group_bytes=600_000, light=["ratio", "bytes"]) as writer:
        for batch in table.to_batches(max_chunksize=7000):
            writer.add(batch)
    assert pq.read_metadata(tmp_path / "t.parquet").num_row_groups > 1
    _agree(tmp_path / "t.parquet", table)

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("not read straight")

    monkeypatch.setattr(pq.ParquetFile, "read", refuse)
    assert set(read_numbers(tmp_path / "t.parquet", ["ratio", "bytes"])) == {"ratio", "bytes"}
    with pytest.raises(AssertionError, match="not read straight"):
        read_numbers(tmp_path / "t.parquet", ["small"])


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(_table(1000), path, **PLAIN)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises((OSError, ValueError)):
        read_numbers(path, ["ratio"])
