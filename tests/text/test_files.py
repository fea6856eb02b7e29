"""Files straight to tokens: every readable row once, in order, whatever the workers, interruptions and formats."""

import gzip
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from curation_for_tests import HERE, Counting, Stopping, hashes
from hypothesis import given, settings
from hypothesis import strategies as st

from mixwright.core.errors import DataError, StudyError
from mixwright.core.rng import rng
from mixwright.engine.local import LocalEngine
from mixwright.store.batches import read_piece
from mixwright.store.documents import Row, SourceOptions, find_files
from mixwright.store.pieces import Piece, count_lines, units
from mixwright.store.tokens import TokenStore
from mixwright.text.files import tokenize_files
from mixwright.text.tokenizer import load, train


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    train(iter(texts("t", 50)), 300, file)
    return file


def texts(name: str, count: int) -> list[str]:
    random = rng(0, name)
    return [f"{name}{n} " + " ".join(random.choice(["naïve", "cat", "日本", "mat\n"], 9)) for n in range(count)]


def lines(rows: list[str]) -> bytes:
    return "".join(json.dumps({"text": row, "n": 1}, ensure_ascii=False) + "\n" for row in rows).encode()


def decoded(folder: Path) -> list[str]:
    store = TokenStore.open(folder)
    ends = np.flatnonzero(store.ids == store.end)
    return [load(folder / "tokenizer.json").decode(part.tolist()) for part in np.split(store.ids, ends + 1)[:-1]]


def mixed(base: Path) -> tuple[list[Path], list[str]]:
    """A file of each kind, and their texts in order."""
    zstandard = pytest.importorskip("zstandard")
    base.mkdir(parents=True, exist_ok=True)
    a, b, c, d = (texts(name, 40) for name in "abcd")
    (base / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + lines(a[:20]) + b"\n  \n" + lines(a[20:]))
    (base / "b.jsonl.zst").write_bytes(zstandard.compress(lines(b)))
    (base / "c.jsonl.gz").write_bytes(gzip.compress(lines(c)))
    pq.write_table(pa.table({"n": range(40), "text": d}), base / "d.parquet", row_group_size=7)
    (base / "e.txt").write_text("one document\nof two lines")
    paths = [base / name for name in ("a.jsonl", "b.jsonl.zst", "c.jsonl.gz", "d.parquet", "e.txt")]
    return paths, [*a, *b, *c, *d, "one document\nof two lines"]


def test_all_formats_in_one_shard(tmp_path: Path, tokenizer: Path) -> None:
    paths, wanted = mixed(tmp_path / "in")
    seen: list[float] = []
    made = tokenize_files(
        paths, tmp_path / "out", tokenizer=tokenizer, engine=HERE, on_progress=lambda _, part, facts: seen.append(part)
    )
    assert decoded(tmp_path / "out") == wanted
    assert (made.files, made.shards, made.documents, made.unreadable) == (5, 1, 161, 0)
    assert made.text_bytes == sum(len(text.encode()) for text in wanted)
    assert seen == sorted(seen)
    assert seen[-1] == 1
    store = TokenStore.open(tmp_path / "out")
    store.check()
    assert store.tokens == made.tokens
    assert sorted(hashes(tmp_path / "out")) == ["000.bin", "000.idx", "counts.npy", "manifest.json", "tokenizer.json"]
    assert tokenize_files(paths, tmp_path / "out", tokenizer=tokenizer, engine=Stopping(0)) == made
    assert (
        tokenize_files([tmp_path / "in"], tmp_path / "two", tokenizer=tokenizer.parent, engine=HERE).tokens
        == made.tokens
    )


def test_the_same_tokens_in_many_shards_and_processes(tmp_path: Path, tokenizer: Path) -> None:
    paths, wanted = mixed(tmp_path / "in")
    one = tokenize_files(paths, tmp_path / "one", tokenizer=tokenizer, engine=HERE, shard_bytes=700)
    assert one.shards > 10
    assert decoded(tmp_path / "one") == wanted
    names = [entry["name"] for entry in TokenStore.open(tmp_path / "one").manifest["shards"]]
    assert any("-" in name for name in names), "a compressed file is larger than it seems and makes several shards"
    tokenize_files(paths, tmp_path / "two", tokenizer=tokenizer, engine=LocalEngine(2), shard_bytes=700)
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")


def test_interrupted_anywhere(tmp_path: Path, tokenizer: Path) -> None:
    paths, _ = mixed(tmp_path / "in")
    whole = tokenize_files(paths, tmp_path / "whole", tokenizer=tokenizer, engine=HERE, shard_bytes=2000)
    for finished in range(3):
        out = tmp_path / f"out-{finished}"
        with pytest.raises(KeyboardInterrupt):
            tokenize_files(paths, out, tokenizer=tokenizer, engine=Stopping(finished), shard_bytes=2000)
        with pytest.raises(DataError, match="no complete token store"):
            TokenStore.open(out)
        engine = Counting()
        again = tokenize_files(paths, out, tokenizer=tokenizer, engine=engine, shard_bytes=2000)
        assert engine.names[0] == f"files {finished + 1}/{finished + len(engine.names)}"
        assert again.tokens == whole.tokens
        assert hashes(out) == hashes(tmp_path / "whole")


def test_a_finished_shard_of_an_unfinished_unit_is_kept(
    tmp_path: Path, tokenizer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mixwright.text import files

    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines(texts("a", 400))))
    options: dict[str, Any] = {"tokenizer": tokenizer, "engine": HERE, "shard_bytes": 12_000}
    whole = tokenize_files([tmp_path / "a.jsonl.gz"], tmp_path / "whole", **options)
    assert whole.shards == 2
    real = files.write_json

    def stop(path: Path, value: Any) -> None:
        if path.name == ".unit-000.json":
            raise KeyboardInterrupt
        real(path, value)

    monkeypatch.setattr(files, "write_json", stop)
    with pytest.raises(KeyboardInterrupt):
        tokenize_files([tmp_path / "a.jsonl.gz"], tmp_path / "out", **options)
    monkeypatch.undo()
    (tmp_path / "out/.000-1.json").unlink()
    before = (tmp_path / "out/000.bin").stat().st_ino
    encoded: list[str] = []
    call = files.Encoder.__call__
    monkeypatch.setattr(files.Encoder, "__call__", lambda self, batch: encoded.extend(batch) or call(self, batch))
    assert tokenize_files([tmp_path / "a.jsonl.gz"], tmp_path / "out", **options).tokens == whole.tokens
    assert (tmp_path / "out/000.bin").stat().st_ino == before
    assert 0 < len(encoded) < 200
    assert hashes(tmp_path / "out") == hashes(tmp_path / "whole")


@pytest.mark.long
def test_killed_at_any_moment(tmp_path: Path, tokenizer: Path) -> None:
    """SIGKILL of the whole process at moments spread over its life, again and again until it is done."""
    (tmp_path / "a.jsonl").write_bytes(lines(texts("a", 30_000)))
    program = (
        "import sys; from pathlib import Path; from mixwright.text.files import tokenize_files\n"
        "from mixwright.engine.local import LocalEngine\n"
        "tokenize_files([sys.argv[1]], Path(sys.argv[2]), tokenizer=sys.argv[3], engine=LocalEngine(2), shard_bytes=100_000)\n"
    )
    start = [sys.executable, "-c", program, str(tmp_path / "a.jsonl")]
    subprocess.run([*start, str(tmp_path / "whole"), str(tokenizer)], check=True, timeout=120)
    random, kills, kept = rng(1, "kills"), 0, 0
    while True:
        process = subprocess.Popen([*start, str(tmp_path / "out"), str(tokenizer)])
        try:
            assert process.wait(1.2**kills * random.random()) == 0  # longer lives each time: it ends on any machine
            break
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            done = len(list((tmp_path / "out").glob(".unit-*.json")))
            assert done >= kept
            kept = done
            time.sleep(0.2)  # its workers die with it
    assert kills
    assert hashes(tmp_path / "out") == hashes(tmp_path / "whole")


def test_rows_that_cannot_be_read_are_counted(tmp_path: Path, tokenizer: Path) -> None:
    good = texts("g", 60)
    rows = lines(good).split(b"\n")[:-1]
    for at, bad in ((50, b"{broken"), (20, b'{"other": 1}'), (20, b"\xff\xfe"), (0, b'{"text": null}')):
        rows.insert(at, bad)
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(rows))
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(lines(texts("h", 200)))[:-40])
    (tmp_path / "c.parquet").write_bytes(b"PAR1 but not really")
    for shard_bytes, out in ((900, "many"), (10**6, "one")):
        made = tokenize_files(
            [tmp_path / name for name in ("a.jsonl", "b.jsonl.gz", "c.parquet")], tmp_path / out, tokenizer=tokenizer,
            engine=HERE, shard_bytes=shard_bytes,
        )  # fmt: skip
        assert made.unreadable == 6
        assert made.first_unreadable.startswith(str(tmp_path / "a.jsonl"))
        assert "row 1: the field 'text' is not a string but null" in made.first_unreadable
        listed = [json.loads(line) for line in (tmp_path / out / "unreadable.jsonl").read_text().splitlines()]
        assert [(Path(row["path"]).name, row["row"]) for row in listed[:4]] == [("a.jsonl", n) for n in (1, 22, 23, 54)]
        assert [Path(row["path"]).name for row in listed[4:]] == ["b.jsonl.gz", "c.parquet"]
        assert decoded(tmp_path / out)[:60] == good


def test_what_is_refused(tmp_path: Path, tokenizer: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines(texts("a", 9)))
    with pytest.raises(StudyError, match=r"a\.jsonl is named twice"):
        tokenize_files([tmp_path / "a.jsonl", tmp_path / "*.jsonl"], tmp_path / "o", tokenizer=tokenizer, engine=HERE)
    with pytest.raises(StudyError, match="There is nothing to tokenize"):
        tokenize_files([], tmp_path / "o", tokenizer=tokenizer, engine=HERE)
    with pytest.raises(DataError, match="There is no file or folder"):
        tokenize_files([tmp_path / "no.jsonl"], tmp_path / "o", tokenizer=tokenizer, engine=HERE)
    with pytest.raises(DataError, match="There is no tokenizer at"):
        tokenize_files([tmp_path / "a.jsonl"], tmp_path / "o", tokenizer=tmp_path / "nowhere", engine=HERE)
    with pytest.raises(DataError, match=r"None of the 9 rows of 1 file could be read \(.*no field 'body'"):
        tokenize_files([tmp_path / "a.jsonl"], tmp_path / "o", tokenizer=tokenizer, engine=HERE, text="body")
    tokenize_files([tmp_path / "a.jsonl"], tmp_path / "o", tokenizer=tokenizer, engine=HERE)
    (tmp_path / "a.jsonl").write_bytes(lines(texts("a", 10)))
    with pytest.raises(StudyError, match="holds the tokens of other files, or of these before they changed"):
        tokenize_files([tmp_path / "a.jsonl"], tmp_path / "o", tokenizer=tokenizer, engine=HERE)


def test_a_file_that_changed_in_between_is_encoded_again(tmp_path: Path, tokenizer: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.jsonl").write_bytes(lines(texts(name, 30)))
    paths = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    with pytest.raises(KeyboardInterrupt):
        tokenize_files(paths, tmp_path / "out", tokenizer=tokenizer, engine=Stopping(1), shard_bytes=1500)
    (tmp_path / "a.jsonl").write_bytes(lines(texts("other", 30)))
    tokenize_files(paths, tmp_path / "out", tokenizer=tokenizer, engine=HERE, shard_bytes=1500)
    assert decoded(tmp_path / "out") == [*texts("other", 30), *texts("b", 30)]


def test_out_may_lie_in_the_folder_of_the_files(tmp_path: Path, tokenizer: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines(texts("a", 9)) + b"bad\n")
    made = tokenize_files([tmp_path], tmp_path / "tokens", tokenizer=tokenizer, engine=HERE)
    assert (made.files, made.unreadable) == (1, 1)
    assert tokenize_files([tmp_path], tmp_path / "tokens", tokenizer=tokenizer, engine=HERE) == made


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(["", "x", "yy" * 9, "日本" * 30, " "]), max_size=30), st.integers(1, 200), st.booleans()
)
def test_every_line_is_in_one_piece(
    tmp_path_factory: pytest.TempPathFactory, rows: list[str], size: int, last_ends: bool
) -> None:
    file = tmp_path_factory.mktemp("pieces") / "a.jsonl"
    content = lines(rows) + b"\n"
    file.write_bytes(content if last_ends else content.rstrip(b"\n"))
    found, _ = find_files(SourceOptions(str(file)), Path())
    pieces = [piece for unit in units(found, size) for piece in unit]
    read = [(piece, row) for piece in pieces for row in read_piece(piece, SourceOptions("-"))]
    assert [row.text for _, row in read if isinstance(row, Row)] == rows
    before = [row.row + (count_lines(piece) if piece.stop else 0) for piece, row in read]
    assert before == list(range(1, len(rows) + 1))
    assert [Piece.from_dict(piece.to_dict()) for piece in pieces] == pieces
