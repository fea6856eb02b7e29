"""Sources behind URLs are found and read as those in folders are."""

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from documents_for_tests import batches, everything, pack

from mixwright.core.errors import DataError, StudyError
from mixwright.store.batches import read_batches
from mixwright.store.documents import SourceOptions, find_files, fingerprint
from mixwright.store.pieces import Piece, count_lines, units

fsspec = pytest.importorskip("fsspec")
LINES = [json.dumps({"text": f"line {n}", "n": n}).encode() for n in range(200)]
NOWHERE = Path("/nowhere")


def fill(folder: Path) -> None:
    """Files of every kind, in folders, with odd names."""
    (folder / "in" / "deep").mkdir(parents=True)
    (folder / "in" / "a.jsonl").write_bytes(b"\n".join(LINES))
    (folder / "in" / "b.jsonl.gz").write_bytes(pack(b"\n".join(LINES[:5]), ".gz"))
    (folder / "in" / "deep" / "c d.jsonl.zst").write_bytes(pack(b"\n".join(LINES[:7]), ".zst"))
    (folder / "in" / "deep" / "e.txt").write_text("text")
    (folder / "in" / ".hidden.txt").write_text("never")
    (folder / "in" / "picture.png").write_bytes(b"x")
    table = pa.table({"text": [f"row {n}" * 200 for n in range(300)], "n": list(range(300))})
    pq.write_table(table, folder / "in" / "p.parquet", row_group_size=50, use_dictionary=False)


def same(here: Path, url: str) -> None:
    """What ``in`` holds behind ``url`` is what it holds here."""
    for path in ("in", "in/a.jsonl", "in/*.parquet", "in/**/*.zst", "in/deep"):
        local, far = (find_files(SourceOptions(p), here) for p in (path, f"{url}/{path}"))
        assert [(f.name, f.format, f.bytes) for f in far[0]] == [(f.name, f.format, f.bytes) for f in local[0]], path
        assert far[1] == local[1]
        assert everything(NOWHERE, f"{url}/{path}") == everything(here, path), path
    given = SourceOptions(f"{url}/in")
    files, _ = find_files(given, NOWHERE)
    pieces = [piece for unit in units(files, 2000) for piece in unit]
    assert len(pieces) > 10, "ranges of bytes and row groups"
    told = [Piece.from_dict(json.loads(json.dumps(piece.to_dict()))) for piece in pieces]
    assert told == pieces
    texts = [
        (batch.path, row, text)
        for piece in told
        for batch in read_batches(piece, given, first_row=count_lines(piece) if piece.file.name == "a.jsonl" else 0)
        for row, text in zip(batch.rows.tolist(), batch.texts.to_pylist(), strict=True)
    ]
    assert texts == [(row.path, row.row, row.text) for row in everything(here, "in")[0]]


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[str]:
    fill(tmp_path)
    system = fsspec.filesystem("memory")
    system.put(str(tmp_path / "in"), "/sources/in", recursive=True)
    yield "memory://sources"
    system.rm("/sources", recursive=True)


def test_memory(tmp_path: Path, memory: str) -> None:
    same(tmp_path, memory)


def test_files(tmp_path: Path) -> None:
    fill(tmp_path)
    assert everything(NOWHERE, f"file://{tmp_path}/in") == everything(tmp_path, "in")


def test_the_fingerprint_follows_the_files(memory: str) -> None:
    given, system = SourceOptions(f"{memory}/in"), fsspec.filesystem("memory")
    first = fingerprint(given, NOWHERE)
    assert fingerprint(given, NOWHERE) == first
    system.pipe_file("/sources/in/deep/e.txt", b"TEXT")
    assert fingerprint(given, NOWHERE) != first


def test_what_is_not_there(memory: str) -> None:
    with pytest.raises(DataError, match=r"There is no file or folder memory://sources/none\. Correct the path\."):
        find_files(SourceOptions(f"{memory}/none"), NOWHERE)
    with pytest.raises(DataError, match=r"No file matches memory://sources/\*\.csv\. Correct the path\."):
        find_files(SourceOptions(f"{memory}/*.csv"), NOWHERE)
    with pytest.raises(StudyError, match=r"odd://x/y cannot be opened \("):
        find_files(SourceOptions("odd://x/y"), NOWHERE)
    (file,), _ = find_files(SourceOptions(f"{memory}/in/p.parquet"), NOWHERE)
    with pytest.raises(DataError, match=r"p\.parquet is not a local file"):
        _ = file.path
    fsspec.filesystem("memory").rm("/sources/in/p.parquet")
    with pytest.raises(DataError, match=r"There is no memory://.*p\.parquet\."):
        list(read_batches(Piece(file), SourceOptions("-")))


def test_a_file_that_changed(memory: str) -> None:
    system = fsspec.filesystem("memory")
    for name in ("p.parquet", "a.jsonl"):
        (file,), _ = find_files(SourceOptions(f"{memory}/in/{name}"), NOWHERE)
        system.pipe_file(f"/sources/in/{name}", b"short")
        with pytest.raises(DataError, match=rf"{name} (has 5 bytes, not the|ends after 5 of its)"):
            list(read_batches(Piece(file), SourceOptions("-")))


def test_bad_rows_behind_a_url(memory: str) -> None:
    fsspec.filesystem("memory").pipe_file("/sources/in/bad.parquet", b"PAR1" * 9)
    assert [len(batch.unreadable) for batch in batches(NOWHERE, f"{memory}/in/bad.parquet")] == [1]


def test_a_server_that_fails_is_no_damage(memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row group is not told as damaged because a connection broke."""
    given = SourceOptions(f"{memory}/in/p.parquet")
    (file,), _ = find_files(given, NOWHERE)
    reading = read_batches(Piece(file), given, size=1)
    next(reading)

    def fail(*_: object, **__: object) -> bytes:
        raise OSError("connection reset")

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "cat_file", fail)
    with pytest.raises(DataError, match=r"p\.parquet cannot be read \(connection reset\)"):
        list(reading)


@pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow")
def test_on_a_server_that_speaks_s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real server on loopback, found as its users do: by the environment."""
    moto = pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    running.start()
    try:
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s",
        }.items():  # fmt: skip
            monkeypatch.setitem(os.environ, name, value)
        bucket = fsspec.filesystem("s3", skip_instance_cache=True)
        bucket.mkdir("web")
        fill(tmp_path)
        bucket.put(str(tmp_path / "in"), "web/in", recursive=True)
        same(tmp_path, "s3://web")
        given = SourceOptions("s3://web/in")
        first = fingerprint(given, NOWHERE)
        bucket.pipe_file("web/in/deep/e.txt", b"TEXT")
        assert fingerprint(given, NOWHERE) != first
        with pytest.raises(DataError, match=r"There is no file or folder s3://web/none\."):
            find_files(SourceOptions("s3://web/none"), NOWHERE)
    finally:
        running.stop()
        fsspec.filesystem("s3").clear_instance_cache()
