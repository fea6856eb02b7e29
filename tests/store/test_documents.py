"""Reading loses nothing: every row is read or told why not, whatever the file."""

import gzip
import json
import os
import random
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from mixwright.core.errors import DataError, StudyError
from mixwright.store.batches import read_piece
from mixwright.store.documents import Row, SourceOptions, Unreadable, find_files, fingerprint
from mixwright.store.parquet import TableWriter
from mixwright.store.pieces import Piece

LINES = [json.dumps({"text": f"line {n}", "n": n}) for n in range(1, 6)]


def everything(base: Path, **options: str) -> tuple[list[Row], list[Unreadable]]:
    given = SourceOptions(**options)  # type: ignore[arg-type]
    found = [row for file in find_files(given, base)[0] for row in read_piece(Piece(file), given)]
    return [row for row in found if isinstance(row, Row)], [row for row in found if isinstance(row, Unreadable)]


def pack(content: bytes, suffix: str) -> bytes:
    return {"": lambda b: b, ".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress}[suffix](content)


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_jsonl(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"a.jsonl{suffix}").write_bytes(pack("\n".join(LINES).encode(), suffix))
    rows, bad = everything(tmp_path, path=f"a.jsonl{suffix}")
    assert [(row.row, row.text) for row in rows] == [(n, f"line {n}") for n in range(1, 6)]
    assert json.loads(rows[2].meta) == {"n": 3}
    assert {row.path for row in rows} == {f"a.jsonl{suffix}"}
    assert bad == []


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_frames_follow_one_another(tmp_path: Path, suffix: str) -> None:
    both = pack(b'{"text":"a"}\n', suffix) + pack(b'{"text":"b"}\n', suffix)
    (tmp_path / f"a.jsonl{suffix}").write_bytes(both)
    assert [row.text for row in everything(tmp_path, path=".")[0]] == ["a", "b"]


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@pytest.mark.parametrize("cut", [0.3, 0.9, 0.999])
def test_truncated_stream(tmp_path: Path, suffix: str, cut: float) -> None:
    noise = random.Random(0)
    lines = [json.dumps({"text": f"{noise.getrandbits(120):030x}"}) for _ in range(20_000)]
    whole = pack("\n".join(lines).encode() + b"\n", suffix)
    (tmp_path / f"a.jsonl{suffix}").write_bytes(whole[: int(len(whole) * cut)])
    (tmp_path / "b.jsonl").write_text('{"text":"still read"}')
    rows, bad = everything(tmp_path, path=".")
    read = [row for row in rows if row.path.startswith("a")]
    assert [row.text for row in read] == [json.loads(line)["text"] for line in lines[: len(read)]]
    assert rows[-1].text == "still read"
    assert [(row.path, row.row) for row in bad] == [(f"a.jsonl{suffix}", len(read) + 1)]
    assert "truncated" in bad[0].reason


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_not_a_stream(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"a.jsonl{suffix}").write_bytes(b"plain text, not compressed")
    (tmp_path / f"b.txt{suffix}").write_bytes(b"")
    rows, bad = everything(tmp_path, path=".")
    assert rows == []
    assert [(row.path[0], row.row) for row in bad] == [("a", 1), ("b", 1)]
    assert "damaged" in bad[0].reason


def test_bad_lines_are_told_with_their_number(tmp_path: Path) -> None:
    lines: list[tuple[bytes, str]] = [
        (b'{"text": "good"}', ""),
        (b"not json", "not JSON"),
        (b'["a"]', "a list"),
        (b'{"body": "x"}', "no field 'text'; it has 'body'"),
        (b'{"text": 7}', "a number"),
        (b'{"text": null}', "null"),
        (b'{"text": "\xff\xfe"}', "not UTF-8 (byte 0xff at 10)"),
        (b'{"text": "\\ud800"}', "surrogate"),
        (b'{"text": "ok", "meta": "\\ud800"}', "surrogate"),
        (b"[" * 100_000, "not JSON"),
        (b'{"text": 1' + b"0" * 5000 + b"}", "not JSON"),
        (b'  {"text": "good too"}\r', ""),
    ]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(line for line, _ in lines))
    rows, bad = everything(tmp_path, path="a.jsonl")
    assert [row.text for row in rows] == ["good", "good too"]
    assert [row.row for row in rows] == [1, len(lines)]
    assert [row.row for row in bad] == [number for number, (_, why) in enumerate(lines, 1) if why]
    for row, why in zip(bad, [why for _, why in lines if why], strict=True):
        assert why in row.reason
        assert row.start == lines[row.row - 1][0].decode("utf-8", "replace")[:120]


def test_blank_lines_are_no_rows_but_count(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'\xef\xbb\xbf{"text":"a"}\n\n \n{"text":"b"}\n\n')
    rows, bad = everything(tmp_path, path="a.jsonl")
    assert [(row.row, row.text) for row in rows] == [(1, "a"), (4, "b")]
    assert bad == []


@settings(max_examples=30, deadline=None)
@given(
    content=st.lists(st.one_of(st.text(max_size=20).map(lambda t: json.dumps({"text": t}).encode()),
                               st.binary(max_size=12).filter(lambda b: b"\n" not in b))),
)  # fmt: skip
def test_any_bytes_are_read_or_told(content: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "a.jsonl").write_bytes(b"\n".join(content))
        rows, bad = everything(Path(folder), path="a.jsonl")
    numbers = sorted([row.row for row in rows] + [row.row for row in bad])
    blank = {n for n, line in enumerate(content, 1) if not line.removeprefix(b"\xef\xbb\xbf").strip()}
    told = [n for n in range(1, len(content) + 1) if n not in blank]
    assert [n for n in numbers if n not in blank] == told


def test_text_files(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.md").write_text("one\ntwo\n")
    (tmp_path / "in" / "b.txt.gz").write_bytes(gzip.compress(b"packed"))
    (tmp_path / "bad.txt").write_bytes("caf\xe9".encode("latin-1"))
    (tmp_path / "code.py").write_text("x = 1")
    (tmp_path / ".hidden.txt").write_text("never")
    rows, bad = everything(tmp_path, path=".")
    assert [(row.path, row.text) for row in rows] == [("in/a.md", "one\ntwo\n"), ("in/b.txt.gz", "packed")]
    assert [(row.path, row.row) for row in bad] == [("bad.txt", 1)]
    assert "not UTF-8 (byte 0xe9 at 3)" in bad[0].reason
    files, ignored = find_files(SourceOptions("."), tmp_path)
    assert len(files) == 3
    assert ignored == 1
    assert len(find_files(SourceOptions(".", format="text"), tmp_path)[0]) == 4


def parquet(path: Path, texts: list[str | None], **others: list[object]) -> None:
    pq.write_table(pa.table({"text": pa.array(texts, pa.string()), **others}), path, row_group_size=2)


def test_parquet(tmp_path: Path) -> None:
    parquet(tmp_path / "a.parquet", ["x", None, "z"], n=[1, 2, 3])
    rows, bad = everything(tmp_path, path="*.parquet")
    assert [(row.row, row.text, json.loads(row.meta)) for row in rows] == [(1, "x", {"n": 1}), (3, "z", {"n": 3})]
    assert [(row.row, row.reason) for row in bad] == [(2, "the field 'text' is null")]


def test_damaged_parquet(tmp_path: Path) -> None:
    parquet(tmp_path / "a.parquet", [str(n) * 50 for n in range(6)])
    whole = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "b.parquet").write_bytes(whole[: len(whole) // 2])
    start = pq.ParquetFile(tmp_path / "a.parquet").metadata.row_group(1).column(0).dictionary_page_offset
    (tmp_path / "c.parquet").write_bytes(whole[:start] + b"\xff" * 40 + whole[start + 40 :])
    rows, bad = everything(tmp_path, path=".")
    assert [(row.path[0], row.row) for row in rows] == [("a", n) for n in range(1, 7)] + [
        ("c", n) for n in (1, 2, 5, 6)
    ]
    assert [(row.path[0], row.row) for row in bad] == [("b", 1), ("c", 3), ("c", 4)]


def test_parquet_without_the_column(tmp_path: Path) -> None:
    parquet(tmp_path / "a.parquet", ["x"], n=[1])
    with pytest.raises(DataError, match=r"no column 'body'; it has text, n\."):
        everything(tmp_path, path=".", text="body")
    with pytest.raises(DataError, match="holds int64, not strings"):
        everything(tmp_path, path=".", text="n")


def test_paths_that_name_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.pdf").write_text("x")
    for path, sentence in {
        "empty": r"The folder .*empty is empty\.",
        "missing": r"There is no file or folder .*missing\.",
        "*.jsonl": r"No file matches .*\*\.jsonl\.",
        "other": "1 file cannot be read by name",
        "other/a.pdf": "1 file cannot be read by name",
    }.items():
        with pytest.raises(DataError, match=sentence):
            find_files(SourceOptions(path), tmp_path)
        with pytest.raises(DataError, match=sentence):
            fingerprint(SourceOptions(path), tmp_path)
    assert everything(tmp_path, path="other/a.pdf", format="text")[0][0].text == "x"
    with pytest.raises(StudyError, match="must not be empty"):
        SourceOptions("")


def test_a_file_that_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text("x")
    monkeypatch.setattr(Path, "open", lambda *_: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    with pytest.raises(DataError, match=r"a\.txt cannot be read \(Permission denied\)"):
        everything(tmp_path, path="a.txt")


def test_globs_start_at_the_base_whatever_its_name(tmp_path: Path) -> None:
    base = tmp_path / "odd [name]*"
    (base / "deep" / "er").mkdir(parents=True)
    (base / "deep" / "er" / "a.txt").write_text("x")
    assert find_files(SourceOptions("**/*.txt"), base)[0][0].name == "deep/er/a.txt"
    assert find_files(SourceOptions("deep/*/a.*"), base)[0][0].name == "er/a.txt"


def test_fingerprint_follows_content_not_time(tmp_path: Path) -> None:
    file, options = tmp_path / "a.txt", SourceOptions("a.txt")
    file.write_text("one")
    first = fingerprint(options, tmp_path)
    os.utime(file, (1, 1))
    assert fingerprint(options, tmp_path) == first
    file.write_text("two")
    assert fingerprint(options, tmp_path) != first


def test_written_bytes_depend_on_rows_alone(tmp_path: Path) -> None:
    schema = pa.schema([("a", pa.int64()), ("b", pa.string())])
    for name in ("x", "y"):
        with TableWriter(tmp_path / name, schema, group_bytes=50) as table:
            for n in range(30):
                table.add({"a": n, "b": str(n)}, 10)
    assert (tmp_path / "x").read_bytes() == (tmp_path / "y").read_bytes()
    assert pq.read_table(tmp_path / "x")["a"].to_pylist() == list(range(30))
    assert pq.ParquetFile(tmp_path / "x").num_row_groups == 6


def test_a_failed_table_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with TableWriter(tmp_path / "x", pa.schema([("a", pa.int64())])) as table:
            table.add({"a": 1})
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fail()
    assert list(tmp_path.iterdir()) == []
