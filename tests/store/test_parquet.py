"""Parquet tables: bytes depend on the rows alone, row groups follow their sizes, a failure leaves nothing."""

import itertools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixwright.store.parquet import BatchWriter, row_bytes

SCHEMA = pa.schema(
    [("id", pa.binary(16)), ("source", pa.string()), ("text", pa.large_string()), ("n", pa.int64()), ("ok", pa.bool_())]
)


def batch(texts: list[str | None]) -> pa.RecordBatch:
    count = range(len(texts))
    return pa.record_batch(
        [[bytes([n % 250]) * 16 for n in count], ["web"] * len(texts), texts, list(count), [n % 2 == 0 for n in count]],
        schema=SCHEMA,
    )


def write(path: Path, rows: pa.RecordBatch, cuts: list[int], group_bytes: int = 200) -> bytes:
    bounds = [0, *sorted(min(cut, rows.num_rows) for cut in cuts), rows.num_rows]
    with BatchWriter(path, SCHEMA, group_bytes=group_bytes, repeated=("source",)) as table:
        for start, stop in itertools.pairwise(bounds):
            table.add(rows.slice(start, stop - start))
    assert table.rows == rows.num_rows
    return path.read_bytes()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.one_of(st.none(), st.text(max_size=90)), max_size=40), st.lists(st.integers(0, 40), max_size=6),
    st.integers(1, 400),
)  # fmt: skip
def test_bytes_depend_on_rows_alone(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str | None], cuts: list[int], group_bytes: int
) -> None:
    folder, rows = tmp_path_factory.mktemp("t"), batch(texts)
    assert write(folder / "a", rows, [], group_bytes) == write(folder / "b", rows, cuts, group_bytes)
    assert pq.read_table(folder / "a").equals(pa.Table.from_batches([rows]))
    about = pq.read_metadata(folder / "a")
    sizes, at = row_bytes(rows), 0
    for number in range(about.num_row_groups):
        count = about.row_group(number).num_rows
        held = sizes[at : at + count]
        assert held[:-1].sum() < group_bytes, "the row before the last one did not fill the group"
        assert held.sum() >= group_bytes or at + count == rows.num_rows
        at += count


def test_what_a_row_takes() -> None:
    rows = batch(["", "äö", None])
    assert row_bytes(rows).tolist() == [16 + 3 + length + 8 + 1 for length in (0, 4, 0)]
    lists = pa.record_batch([pa.array([[1, 2], [], None]), pa.array([{"a": 1}] * 3)], names=["l", "s"])
    assert row_bytes(lists).tolist() == [48, 16, 16]


def test_columns_are_stored_as_fits_them(tmp_path: Path) -> None:
    write(tmp_path / "a", batch(["x", "y"]), [])
    columns = [pq.read_metadata(tmp_path / "a").row_group(0).column(n) for n in range(len(SCHEMA))]
    assert [column.compression for column in columns] == ["ZSTD"] * len(SCHEMA)
    assert [column.has_dictionary_page for column in columns] == [False, True, False, False, False]
    assert [bool(column.statistics and column.statistics.has_min_max) for column in columns] == [False] * 3 + [True] * 2


def test_other_types_of_the_same_values(tmp_path: Path) -> None:
    schema = pa.schema([("a", pa.large_string()), ("n", pa.int64())])
    with BatchWriter(tmp_path / "a", schema) as table:
        table.add(pa.record_batch([pa.array(["x", "x"]).dictionary_encode(), np.array([1, 2], np.int32)], ["a", "n"]))
    assert pq.read_table(tmp_path / "a").to_pylist() == [{"a": "x", "n": 1}, {"a": "x", "n": 2}]
    assert pq.read_schema(tmp_path / "a") == schema


def test_a_failed_file_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with BatchWriter(tmp_path / "x", SCHEMA) as table:
            table.add(batch(["a"]))
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fail()
    assert list(tmp_path.iterdir()) == []
