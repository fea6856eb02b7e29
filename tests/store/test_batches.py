"""Batches hold the rows that reading one by one gives, whatever their size, and quick ways equal careful ones."""

import decimal
import json
import math
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from documents_for_tests import batches, everything
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mixwright.store import json_rows
from mixwright.store.batches import read_batches, read_meta
from mixwright.store.documents import Row, SourceOptions, Unreadable, find_files
from mixwright.store.meta_json import as_json
from mixwright.store.pieces import Piece, units
from mixwright.store.row_batch import RowBatch, regrouped
from mixwright.store.utf8 import as_large_binary, broken, is_utf8, replaced

FOLDER = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
LARGE = pa.large_string()


def batch(texts: list[str], first: int = 1, bad: tuple[int, ...] = ()) -> RowBatch:
    rows = [n for n in range(first, first + len(texts) + len(bad)) if n not in bad]
    told = tuple(Unreadable("f", row, "bad") for row in bad)
    return RowBatch("f", np.array(rows, np.int64), pa.array(texts, LARGE), pa.array(["{}"] * len(texts), LARGE), told)


@FOLDER
@given(st.lists(st.lists(st.text(max_size=30), max_size=8), max_size=8), st.integers(1, 60), st.data())
def test_regrouping_keeps_every_row(parts: list[list[str]], size: int, data: st.DataObject) -> None:
    made, first = [], 1
    for texts in parts:
        bad = data.draw(st.sets(st.integers(first, first + len(texts)), max_size=2).map(sorted).map(tuple))
        made.append(batch(texts, first, bad))
        first += len(texts) + len(bad)
    found = list(regrouped(made, size))
    assert [text for one in found for text in one.texts.to_pylist()] == [text for texts in parts for text in texts]
    numbers = [sorted([*one.rows.tolist(), *(bad.row for bad in one.unreadable)]) for one in found]
    assert [row for part in numbers for row in part] == list(range(1, first)), "in order, each once"
    for one in found:
        assert len(one) or one.unreadable
        assert one.bytes <= 2 * size or len(one) == 1 or len(one.texts[0].as_py().encode()) < size
        assert len(one.meta) == len(one)


def test_cutting_copies_nothing(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["x" * 1000] * 100}), tmp_path / "a.parquet", use_dictionary=False)
    found = batches(tmp_path, size=10_000, meta=False)
    assert {len(one) for one in found} <= {1, 9, 10}
    whole = batch(["x" * 1000] * 100)
    parts = list(regrouped([whole], 10_000))
    assert [len(one) for one in parts] == [10] * 10
    assert {one.texts.buffers()[2].address for one in parts} == {whole.texts.buffers()[2].address}


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(2**62, 2**66), st.floats(), st.text(max_size=8),
    st.sampled_from(["e+", "1e+20", "\x7f\x00\u2028"]),
)  # fmt: skip
values = st.recursive(
    scalars, lambda v: st.one_of(st.lists(v, max_size=3), st.dictionaries(st.text(max_size=4), v, max_size=3))
)
objects = st.dictionaries(st.sampled_from(["text", "a", "b", "é"]), values, max_size=4)
json_lines = st.one_of(
    objects.map(lambda v: json.dumps(v).encode()),
    objects.map(lambda v: json.dumps(v, ensure_ascii=False).encode("utf-8", "surrogatepass")),
    st.text(max_size=20).map(lambda t: json.dumps({"text": t, "n": 1}, ensure_ascii=False).encode()),
    st.binary(max_size=20),
    st.sampled_from([b'{"text":"a","text":"b"}', b'{"text":"a","n":1e400}', b'{"text":"a","n":-0.0}', b'{"text":"\x01"}',
                     b'{"text":"a",}', b'{"text":"a","n":01}', b'\xef\xbb\xbf{"text":"a"}', b'{"text":"a"}\x0c', b"\xc2\xa0",
                     b'{"text":"a","n":123456789012345678901234567890}', b'{"text":"\\ud83d\\ude00"}', b"[" * 2000]),
).filter(lambda line: b"\n" not in line)  # fmt: skip


@pytest.mark.parametrize("options", [{}, {"prompt": ("a", "b"), "response": "text"}])
@settings(max_examples=300, deadline=None)
@given(line=json_lines)
def test_the_quick_way_gives_what_the_careful_one_gives(options: dict[str, Any], line: bytes) -> None:
    import orjson

    source = SourceOptions("-", **options)
    quick = json_rows._quick("f", 1, line, source, orjson.loads, True)
    careful = json_rows.json_row("f", 1, line.strip(), source)
    assert quick is None or quick == careful
    without = json_rows._quick("f", 1, line, source, orjson.loads, False)
    assert (without is None) == (quick is None), "what is readable does not depend on meta"
    if isinstance(careful, Row):
        careful.text.encode()
        careful.meta.encode()


@FOLDER
@given(st.lists(json_lines, max_size=12), st.integers(1, 200), st.integers(1, 60))
def test_any_lines_in_any_pieces(tmp_path: Path, content: list[bytes], cut: int, size: int) -> None:
    """Rows and unreadable rows of all pieces are the lines that are not blank, in order, each once."""
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(content))
    source = SourceOptions("a.jsonl")
    files, _ = find_files(source, tmp_path)
    read, before = [], 0
    for piece in [piece for unit in units(files, cut) for piece in unit]:
        first = before_piece(b"\n".join(content), piece)
        for one in read_batches(piece, source, first_row=first, size=size):
            read += sorted([*one.rows.tolist(), *(bad.row for bad in one.unreadable)])
        before = piece.stop
    blank = [not (line.removeprefix(b"\xef\xbb\xbf") if n == 0 else line).strip() for n, line in enumerate(content)]
    assert read == [n for n, empty in enumerate(blank, 1) if not empty]
    assert before in (0, sum(map(len, content)) + max(0, len(content) - 1))


def before_piece(content: bytes, piece: Piece) -> int:
    head = content[: piece.start]
    return head.count(b"\n") + (not head.endswith(b"\n") if head else 0)


def test_instruction_rows(tmp_path: Path) -> None:
    rows = [
        {"instruction": "Add.", "input": "1 2", "output": "3", "id": 7},
        {"instruction": "Say.", "input": "", "output": "hi", "id": 8},
        {"instruction": "", "input": "", "output": "", "id": 9},
    ]
    bad: list[Any] = [{"instruction": "x", "output": "y"}, {"instruction": "x", "input": None, "output": "y"}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows + bad))
    names = ["instruction", "input", "output", "id"]
    columns = {name: [row.get(name) for row in rows + bad] for name in names}
    pq.write_table(pa.table(columns), tmp_path / "b.parquet")
    source = {"prompt": ("instruction", "input"), "response": "output"}
    for name in ("a.jsonl", "b.parquet"):
        (one,) = batches(tmp_path, given=SourceOptions(name, **source))  # type: ignore[arg-type]
        assert one.texts.to_pylist() == ["Add.\n1 2\n3", "Say.\nhi", "\n"]
        assert one.prompts.to_pylist() == ["Add.\n1 2", "Say.", ""]
        assert one.responses.to_pylist() == ["3", "hi", ""]
        assert one.meta.to_pylist() == ['{"id":7}', '{"id":8}', '{"id":9}']
        assert [row.row for row in one.unreadable] == [4, 5]
        read, _ = everything(tmp_path, name, **source)
        assert (read[0].prompt, read[0].response, read[0].text) == ("Add.\n1 2", "3", "Add.\n1 2\n3")
    assert [row.reason for row in everything(tmp_path, "a.jsonl", **source)[1]] == [
        "the object has no field 'input'; it has 'instruction', 'output'", "the field 'input' is not a string but null",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(), pa.binary_view(),
             pa.dictionary(pa.int32(), pa.string())]
)  # fmt: skip
def test_types_of_text(tmp_path: Path, kind: pa.DataType) -> None:
    texts = ["", "a", "日本", None, "a"]
    column = pa.array([None if text is None else text.encode() for text in texts], pa.binary())
    column = column.cast(pa.string()).dictionary_encode() if pa.types.is_dictionary(kind) else column.cast(kind)
    pq.write_table(pa.table({"text": column}), tmp_path / "a.parquet")
    rows, bad = everything(tmp_path)
    assert [(row.row, row.text) for row in rows] == [(1, ""), (2, "a"), (3, "日本"), (5, "a")]
    assert [row.row for row in bad] == [4]


COLUMNS: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "string": (pa.string(), st.text(max_size=9)),
    "odd": (pa.string(), st.sampled_from(['"', "\\", "\0\b\f\n\r\t\x1f\x7f", "\u2028😀", "/", "<é>"])),
    "int": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "uint": (pa.uint64(), st.integers(0, 2**64 - 1)),
    "bool": (pa.bool_(), st.booleans()),
    "float": (pa.float64(), st.one_of(st.floats(), st.sampled_from([1e-5, 1e16, 1e-7, 5e-324, -0.0]))),
    "float32": (pa.float32(), st.floats(width=32)),
    "list": (pa.list_(pa.int64()), st.lists(st.integers(-9, 9), max_size=3)),
    "struct": (pa.struct({"a": pa.int64(), "b": pa.string()}), st.fixed_dictionaries({"a": st.just(1), "b": st.text()})),
    "date": (pa.date32(), st.dates(date(1900, 1, 1), date(2100, 1, 1))),
    "time": (pa.timestamp("us"), st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1))),
    "span": (pa.duration("us"), st.timedeltas(timedelta(-9), timedelta(9))),
    "decimal": (pa.decimal128(10, 2), st.decimals(-999, 999, places=2).map(decimal.Decimal)),
    "null": (pa.null(), st.none()),
}  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(sorted(COLUMNS)), min_size=1, max_size=5, unique=True), st.integers(0, 6), st.data())
def test_meta_is_what_json_gives(names: list[str], count: int, data: st.DataObject) -> None:
    columns = []
    for name in names:
        kind, strategy = COLUMNS[name]
        drawn = data.draw(st.lists(st.one_of(strategy, st.none()), min_size=count, max_size=count))
        columns.append(pa.array(drawn, kind))
    table = pa.record_batch(columns, names=names)
    plain = [json.dumps(row, ensure_ascii=False, separators=(",", ":"), default=str) for row in table.to_pylist()]
    assert as_json(table).to_pylist() == plain


def test_meta_of_odd_columns() -> None:
    table = pa.record_batch([pa.array(["x"]), pa.array(["y"])], names=["a", "a"])
    assert as_json(table).to_pylist() == ['{"a":"y"}']
    table = pa.record_batch([pa.array([b"\xff"]).view(pa.string()), pa.array([1.5])], names=['"q"\n', ""])
    assert json.loads(as_json(table)[0].as_py()) == {'"q"\n': "\N{REPLACEMENT CHARACTER}", "": 1.5}
    inner = pa.StructArray.from_arrays([pa.array([b"\xff", b"x"]).view(pa.string())], ["s"])
    assert as_json(pa.record_batch([inner], names=["t"])).to_pylist() == ['{"t":"not UTF-8"}', '{"t":{"s":"x"}}']
    none = pa.record_batch([pa.array([1, 2])], names=["n"]).select([])
    assert as_json(none).to_pylist() == ["{}"] * none.num_rows
    assert math.isnan(json.loads(as_json(pa.record_batch([pa.array([math.nan])], names=["f"]))[0].as_py())["f"])


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.one_of(st.none(), st.binary(max_size=6), st.text(max_size=4).map(str.encode)), max_size=8),
    st.integers(0, 3),
)
def test_utf8_is_told_value_by_value(values: list[bytes | None], start: int) -> None:
    column = as_large_binary(pa.array(values, pa.binary()))[start:]
    plain = {}
    for at, value in enumerate(values[start:]):
        try:
            (value or b"").decode()
        except UnicodeDecodeError as error:
            plain[at] = ((value or b"")[error.start], error.start)
    assert is_utf8(column) == (not plain)
    assert broken(column) == plain
    assert replaced(column).to_pylist() == [None if v is None else v.decode("utf-8", "replace") for v in values[start:]]


def test_how_much_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text":"x"}\n' * 1000)
    (file,), _ = find_files(SourceOptions("."), tmp_path)
    (piece,) = units([file], 1 << 20)[0]
    assert [one.read for one in read_batches(piece, SourceOptions("."), size=500)][-1] == piece.size == file.bytes


def test_without_meta(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["x"], "n": [1]}), tmp_path / "a.parquet")
    (tmp_path / "b.jsonl").write_text('{"text":"x","n":1}')
    assert [one.meta for one in batches(tmp_path, meta=False)] == [None, None]
    assert [one.meta.to_pylist() for one in batches(tmp_path)] == [['{"n":1}'], ['{"n":1}']]


@FOLDER
@given(st.lists(st.sampled_from([b"one", b"", None, b"broken \xff"]), max_size=60), st.integers(1, 20), st.data())
def test_meta_alone(tmp_path: Path, texts: list[bytes | None], group: int, data: st.DataObject) -> None:
    """What is read without texts is what is read with them, in whole files and in pieces, also where columns are damaged."""
    values = pa.array(texts, pa.large_binary()).view(LARGE)
    others = {"number": list(range(len(texts))), "word": [f"w{n}" * (n % 5) for n in range(len(texts))]}
    more = data.draw(st.sampled_from([{}, others]))
    pq.write_table(pa.table({"text": values, **more}), tmp_path / "a.parquet", row_group_size=group, compression="none")
    if more and len(texts) > 3 and data.draw(st.booleans()):
        content = (tmp_path / "a.parquet").read_bytes()
        (tmp_path / "a.parquet").write_bytes(content.replace(b"w3w3w3", b"w3\xff3w3"))
    given_ = SourceOptions("a.parquet")
    file = find_files(given_, tmp_path)[0][0]
    for pieces in ([Piece(file)], [piece for unit in units([file], 1) for piece in unit]):
        told = {row: meta for piece in pieces for batch in read_batches(piece, given_)
                for row, meta in zip(batch.rows.tolist(), batch.meta.to_pylist(), strict=True)}  # fmt: skip
        wanted = sorted(data.draw(st.sets(st.sampled_from(sorted(told))))) if told else []
        found = [meta for piece in pieces for some in read_meta(piece, given_, np.array(wanted, np.int64))
                 for meta in some.to_pylist()]  # fmt: skip
        assert found == [told[row] for row in wanted]


def test_meta_of_a_damaged_column(tmp_path: Path) -> None:
    texts = [f"text {n}" for n in range(50)]
    for group in (50, 7):
        place = tmp_path / f"{group}"
        place.mkdir()
        table = pa.table({"text": texts, "word": ["abc" * 400] * 50})
        pq.write_table(table, place / "a.parquet", row_group_size=group, use_dictionary=False, data_page_size=2000)
        content = bytearray((place / "a.parquet").read_bytes())
        at = pq.ParquetFile(place / "a.parquet").metadata.row_group(0).column(1).data_page_offset
        content[at : at + 40] = b"\xff" * 40
        (place / "a.parquet").write_bytes(content)
        given_ = SourceOptions("a.parquet")
        file = find_files(given_, place)[0][0]
        told = [meta for batch in read_batches(Piece(file), given_) for meta in batch.meta.to_pylist()]
        assert "is damaged" in told[0]
        rows = np.arange(2, 51, 3)
        found = [meta for some in read_meta(Piece(file), given_, rows) for meta in some.to_pylist()]
        assert found == [told[row - 1] for row in rows]
