"""Bad documents: each is read, or told in a sentence, and nothing else is lost with it."""

import gzip
import json
import os
import resource
import struct
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from documents_for_tests import batches, everything, pack

from mixwright.core.errors import DataError
from mixwright.store.batches import read_batches
from mixwright.store.documents import SourceOptions, find_files
from mixwright.store.pieces import Piece

GOOD = b'{"text":"good"}\n'


def reasons(base: Path, path: str = ".", **options: Any) -> tuple[list[str], list[tuple[int, str]]]:
    """Texts that were read, and the rows that were not, by ``batches`` of these options."""
    found = batches(base, path, **options)
    texts = [text for batch in found for text in batch.texts.to_pylist()]
    return texts, [(bad.row, bad.reason) for batch in found for bad in batch.unreadable]


def test_broken_utf8(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(GOOD + b'{"text":"\xff"}\n' + GOOD)
    column = pa.array([b"a", b"\xe6\x97", b"\xa5", None, "日".encode()], pa.binary()).view(pa.string())
    pq.write_table(
        pa.table({"text": column, "n": pa.array([b"\xff", b"", b"", b"", b"y"]).view(pa.string())}),
        tmp_path / "b.parquet",
    )
    (tmp_path / "c.txt").write_bytes(b"caf\xe9")
    texts, bad = reasons(tmp_path)
    assert texts == ["good", "good", "a", "日"]
    assert bad == [
        (2, "the line is not UTF-8 (byte 0xff at 9)"),
        (2, "the field 'text' is not UTF-8 (byte 0xe6 at 0)"),
        (3, "the field 'text' is not UTF-8 (byte 0xa5 at 0)"),
        (4, "the field 'text' is null"),
        (1, "the file is not UTF-8 (byte 0xe9 at 3)"),
    ]
    metas = [meta for batch in batches(tmp_path, "b.parquet") for meta in batch.meta.to_pylist()]
    assert metas == ['{"n":"\N{REPLACEMENT CHARACTER}"}', '{"n":"y"}'], "other columns never cost the row"


@pytest.mark.parametrize(
    "text", ["", "\0", "a\0b", "שלום abc مرحبا 123", "🇩🇪👩‍👩‍👧", "\ufeff", "\u2028\u2029\x85", "x" * 3_000_000]
)
def test_odd_text_is_kept_as_it_is(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.jsonl").write_text(
        json.dumps({"text": text}) + "\n" + json.dumps({"text": text}, ensure_ascii=False), "utf-8"
    )
    pq.write_table(pa.table({"text": [text]}), tmp_path / "b.parquet")
    (tmp_path / "c.txt").write_bytes(text.encode())
    read = text.removeprefix("\ufeff")  # a mark of byte order begins a text file, and is none of its text
    assert reasons(tmp_path) == ([text, text, text, read], [])


def test_lone_surrogates(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"text":"\\ud800"}\n{"text":"x","m":"\\udc00"}\n{"text":"\\ud83d\\ude00"}')
    texts, bad = reasons(tmp_path)
    assert texts == ["😀"]
    assert [row for row, _ in bad] == [1, 2]
    assert {reason for _, reason in bad} == {"the line holds half of a surrogate pair, which is no character"}
    assert reasons(tmp_path, meta=False) == (texts, bad), "which rows are readable does not depend on meta"


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_rows_that_are_too_long(tmp_path: Path, suffix: str) -> None:
    long = b'{"text":"' + b"y" * 5_000_000 + b'"}\n'
    (tmp_path / f"a.jsonl{suffix}").write_bytes(pack(GOOD + long + GOOD + long.rstrip(), suffix))
    (tmp_path / f"b.txt{suffix}").write_bytes(pack(b"z" * 2_000_001, suffix))
    texts, bad = reasons(tmp_path, max_row=1_000_000)
    assert texts == ["good", "good"]
    told = [(row, reason.rpartition(", more than")) for row, reason in bad]
    assert [(row, head) for row, (head, _, _) in told[:2]] == [
        (2, "the row has 5,000,011 bytes"),
        (4, "the row has 5,000,011 bytes"),
    ]
    assert {tail for _, (_, _, tail) in told} == {" the 1,000,000 that a row may have"}
    assert len(told) == 3


def test_long_values_of_parquet(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a", "b" * 2000, "c"]}), tmp_path / "a.parquet")
    assert reasons(tmp_path, max_row=1000) == (
        ["a", "c"], [(2, "the row has 2,000 bytes, more than the 1,000 that a row may have")],
    )  # fmt: skip


def bomb(suffix: str, size: int) -> bytes:
    """A good line, then ``size`` zeros; zstd as blocks of one repeated byte (RFC 8878, 3.1.1.2.3), 32 768 to 1."""
    if suffix == ".gz":
        return gzip.compress(GOOD + bytes(size))
    head = b"\x28\xb5\x2f\xfd" + b"\x00" + b"\x58"  # magic number; neither size nor checksum; a window of 2 MB
    blocks = [struct.pack("<I", 1 << 1 | (1 << 17) << 3)[:3] + b"\0"] * (size >> 17)
    last = struct.pack("<I", 1 | 1 << 1 | 1 << 3)[:3] + b"\0"
    return zstandard.ZstdCompressor().compress(GOOD) + head + b"".join(blocks) + last


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.txt"])
def test_bombs_are_bounded(tmp_path: Path, suffix: str, name: str) -> None:
    content = bomb(suffix, 96 << 20)
    (tmp_path / f"{name}{suffix}").write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    texts, bad = reasons(tmp_path, max_inflation=10)
    assert texts == (["good"] if name == "a.jsonl" else [])
    ((row, reason),) = bad
    assert row == (2 if name == "a.jsonl" else 1)
    size = f"{len(content):,}"
    assert f"the file unpacks to more than 10 times its {size} bytes (curate.max_inflation may be raised)" in reason
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000, "kB"


def test_what_is_no_bomb_yet(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(GOOD * 300_000))
    found = batches(tmp_path, max_inflation=2)
    assert sum(map(len, found)) == 300_000, "a small file may unpack to 64 MB whatever the ratio"


def test_bombs_of_frames(tmp_path: Path) -> None:
    frame = zstandard.ZstdCompressor().compress(bytes(1 << 20))
    (tmp_path / "a.jsonl.zst").write_bytes(pack(GOOD, ".zst") + frame * 100)
    texts, bad = reasons(tmp_path, max_inflation=10)
    assert (texts, [row for row, _ in bad]) == (["good"], [2])


def test_parquet_that_claims_too_much(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"text": ["x" * 90_000_000, "y"]}), tmp_path / "a.parquet", compression="zstd", row_group_size=1
    )
    texts, bad = reasons(tmp_path, max_inflation=100)
    assert texts == ["y"]
    assert bad[0][0] == 1
    assert "row group 0 says it unpacks to 90,0" in bad[0][1]
    pq.write_table(
        pa.table({"text": pa.nulls(20_000_000, pa.string())}), tmp_path / "a.parquet", row_group_size=20_000_000
    )
    texts, bad = reasons(tmp_path, max_inflation=10)
    assert texts == []
    ((row, reason),) = bad
    assert row == 1
    assert "row group 0 says it holds 20,000,000 rows in" in reason


def test_repeated_long_values_stay_bounded(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["x" * 100_000] * 8000}), tmp_path / "a.parquet", row_group_size=8000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    given = SourceOptions("a.parquet")
    (file,), _ = find_files(given, tmp_path)
    assert sum(batch.bytes for batch in read_batches(Piece(file), given, max_inflation=1e6)) == 800_000_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000, "kB"


def test_columns_of_other_types(tmp_path: Path) -> None:
    for name, column in {"n": pa.array([1]), "l": pa.array([["a"]]), "s": pa.array([{"a": "b"}])}.items():
        pq.write_table(pa.table({name: column}), tmp_path / f"{name}.parquet")
        with pytest.raises(DataError, match=rf"The column '{name}' of .*{name}\.parquet holds .*, not strings\."):
            everything(tmp_path, f"{name}.parquet", text=name)
        with pytest.raises(DataError, match=rf"{name}\.parquet has no column 'text'; it has {name}\."):
            everything(tmp_path, f"{name}.parquet")
    twice = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    pq.write_table(twice, tmp_path / "twice.parquet")
    with pytest.raises(DataError, match=r"twice\.parquet has several columns 'text'"):
        everything(tmp_path, "twice.parquet")


def damaged(path: Path, column: str, group: int) -> None:
    """Overwrite the pages of one column in one row group."""
    about = pq.read_metadata(path)
    part = about.row_group(group).column([about.schema.column(n).path for n in range(about.num_columns)].index(column))
    content = bytearray(path.read_bytes())
    at = part.dictionary_page_offset or part.data_page_offset
    content[at : at + part.total_compressed_size] = b"\xff" * part.total_compressed_size
    path.write_bytes(content)


def test_a_damaged_row_group(tmp_path: Path) -> None:
    table = pa.table({"text": [f"{n}" * 90 for n in range(30)], "n": list(range(30))})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=10)
    damaged(tmp_path / "a.parquet", "text", 1)
    texts, bad = reasons(tmp_path)
    assert texts == [f"{n}" * 90 for n in [*range(10), *range(20, 30)]]
    assert [row for row, _ in bad] == list(range(11, 21))
    assert all(reason.startswith("row group 1 is damaged (") for _, reason in bad)


def test_damage_beside_the_text_costs_no_row(tmp_path: Path) -> None:
    table = pa.table({"text": [f"{n}" for n in range(30)], "n": list(range(30))})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=10)
    damaged(tmp_path / "a.parquet", "n", 1)
    found = batches(tmp_path)
    assert [text for batch in found for text in batch.texts.to_pylist()] == [f"{n}" for n in range(30)]
    metas = [json.loads(meta) for batch in found for meta in batch.meta.to_pylist()]
    assert metas[9] == {"n": 9}
    assert metas[10]["unreadable"].startswith("row group 1 is damaged (")
    assert metas[20] == {"n": 20}


@pytest.mark.parametrize(
    "content", [b"", b"PAR1", b"PAR1" * 3, b"\0" * 100, b"PAR1" + b"\xff" * 50 + b"\x20\0\0\0PAR1"]
)
def test_what_is_not_parquet(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.parquet").write_bytes(content)
    texts, bad = reasons(tmp_path)
    assert texts == []
    assert [row for row, _ in bad] == [1]
    assert bad[0][1].startswith("the file is not Parquet, or is truncated (")


def test_a_parquet_file_that_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").mkdir()
    pq.write_table(pa.table({"text": ["x"]}), tmp_path / "a.parquet" / "part-0.parquet")
    (tmp_path / "a.parquet" / "_SUCCESS").write_text("")
    for path in (".", "a.parquet", "*.parquet"):
        assert [row.text for row in everything(tmp_path, path)[0]] == ["x"], path


NAMES = ["with space", "new\nline", "ünï", "quote'\"", "a%20b", "star*", "-dash", "tab\t"]


def test_odd_names(tmp_path: Path) -> None:
    for name in NAMES:
        (tmp_path / f"{name}.jsonl").write_bytes(json.dumps({"text": name}).encode())
    raw = os.path.join(os.fsencode(tmp_path), b"\xff\xfe.jsonl")  # noqa: PTH118
    with open(raw, "wb") as stream:  # noqa: PTH123
        stream.write(b'{"text":"raw"}')
    rows, bad = everything(tmp_path)
    assert bad == []
    assert {row.path: row.text for row in rows} == {f"{name}.jsonl": name for name in NAMES} | {
        r"\xff\xfe.jsonl": "raw"
    }
    for file in find_files(SourceOptions("."), tmp_path)[0]:
        piece = Piece(file)
        assert Piece.from_dict(json.loads(json.dumps(piece.to_dict()))) == piece
        assert (
            len(list(read_batches(Piece.from_dict(json.loads(json.dumps(piece.to_dict()))), SourceOptions(".")))) == 1
        )


def test_ten_thousand_files(tmp_path: Path) -> None:
    for number in range(10_000):
        (tmp_path / f"{number:05d}.txt").write_bytes(b"%d" % number)
    files, ignored = find_files(SourceOptions("."), tmp_path)
    assert (len(files), ignored) == (10_000, 0)
    assert reasons(tmp_path) == ([str(number) for number in range(10_000)], [])


def test_links_that_loop_or_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_bytes(GOOD)
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "self.jsonl").symlink_to(tmp_path / "in" / "self.jsonl")
    (tmp_path / "in" / "gone.jsonl").symlink_to(tmp_path / "nowhere")
    (tmp_path / "in" / "b.jsonl").symlink_to(tmp_path / "in" / "a.jsonl")
    os.mkfifo(tmp_path / "in" / "pipe.jsonl")
    files, ignored = find_files(SourceOptions("in"), tmp_path)
    assert [file.name for file in files] == ["a.jsonl", "b.jsonl"]
    assert ignored == 2, "links that lead nowhere are counted"
    assert len(find_files(SourceOptions("**/*.jsonl"), tmp_path)[0]) == 2


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_what_may_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(GOOD)
    (tmp_path / "a.jsonl").chmod(0)
    with pytest.raises(DataError, match=r"a\.jsonl cannot be read \(Permission denied\)\. Correct its permissions"):
        everything(tmp_path)


@pytest.mark.parametrize("name", ["a.jsonl", "a.txt", "a.jsonl.gz", "a.parquet"])
def test_files_that_vanish(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(GOOD)
    (file,), _ = find_files(SourceOptions("."), tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(DataError, match=rf"({name} cannot be read \(No such file or directory|There is no .*{name})"):
        list(read_batches(Piece(file), SourceOptions(".")))


def test_files_that_grow_or_shrink(tmp_path: Path) -> None:
    path, given = tmp_path / "a.jsonl", SourceOptions(".")
    path.write_bytes(GOOD * 3)
    (file,), _ = find_files(given, tmp_path)
    path.write_bytes(GOOD * 5)
    assert sum(map(len, read_batches(Piece(file), given))) == 3, "what was there when the files were found"
    path.write_bytes(GOOD)
    with pytest.raises(DataError, match=r"a\.jsonl ends after 16 of its 48 bytes: it changed while it was read"):
        list(read_batches(Piece(file), given))


@pytest.mark.long
def test_one_line_of_500_mb(tmp_path: Path) -> None:
    """Memory stays at the longest row that is allowed."""
    with (tmp_path / "a.jsonl").open("wb") as stream:
        stream.write(GOOD + b'{"text":"')
        for _ in range(500):
            stream.write(b"y" * 1_000_000)
        stream.write(b'"}\n' + GOOD)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    texts, bad = reasons(tmp_path, max_row=64 << 20)
    assert texts == ["good", "good"]
    assert bad == [(2, "the row has 500,000,011 bytes, more than the 67,108,864 that a row may have")]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 250_000, "kB"
    texts, bad = reasons(tmp_path, max_row=1 << 30)
    assert ([len(text) for text in texts], bad) == ([4, 500_000_000, 4], [])


@pytest.mark.long
@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_billion_zeros(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"a.jsonl{suffix}").write_bytes(bomb(suffix, 1_000_000_000))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    texts, bad = reasons(tmp_path, max_inflation=100)
    assert (texts, [row for row, _ in bad]) == (["good"], [2])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 700_000, "kB"
