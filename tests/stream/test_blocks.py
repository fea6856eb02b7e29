"""Tokens behind URLs: an S3-compatible server on loopback, and files for the quick ones."""

from __future__ import annotations

import multiprocessing
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from mixwright.core.errors import DataError
from mixwright.core.mixture import Mixture
from mixwright.core.schedule import Schedule
from mixwright.store.place import Place
from mixwright.store.tokens import TokenStore, write_tokens
from mixwright.stream import blocks as module
from mixwright.stream.blocks import BlockCache, Span
from mixwright.stream.loader import MixtureStream
from mixwright.stream.prefetch import prefetch

SEQ_LEN, BATCH, STEPS = 64, 4, 20


@pytest.fixture
def remote():
    """The content of a file of 10,000 bytes in fsspec's file system in memory."""
    import fsspec

    system = fsspec.filesystem("memory")
    content = np.random.default_rng(0).bytes(10_000)
    system.pipe_file("/bucket/000.bin", content)
    yield content
    system.rm("/bucket", recursive=True)


def span(start: int, stop: int) -> Span:
    return Span(Place("memory://bucket/000.bin"), 10_000, "first", start, stop)


def cache(folder: Path, **more) -> BlockCache:
    return BlockCache(folder, **({"bound": 4096, "block": 256, "wait": 0.0} | more))


def test_gives_any_bytes_and_stays_within_its_bound(remote, tmp_path) -> None:
    held, draw = cache(tmp_path), np.random.default_rng(1)
    for _ in range(60):
        starts = draw.integers(0, 9_990, 5)
        spans = [span(int(a), int(min(10_000, a + draw.integers(1, 700)))) for a in starts]
        assert held.read(spans) == [remote[s.start : s.stop] for s in spans]
        assert 0 < held.size <= held.bound
    assert not list(tmp_path.glob("*.tmp"))


def test_what_was_used_longest_ago_goes_first(remote, tmp_path, monkeypatch) -> None:
    held, asked = cache(tmp_path, bound=2048), []
    download = module._download
    monkeypatch.setattr(module, "_download", lambda wanted: asked.extend(wanted) or download(wanted))
    often = [span(0, 10)]
    for start in range(256, 6000, 256):
        held.read(often)
        held.read([span(start, start + 10)])
    assert [block.start for block in asked].count(0) == 1
    asked.clear()
    held.read([span(256, 300)])
    assert len(asked) == 1


def test_a_block_of_the_wrong_length_is_fetched_again(remote, tmp_path) -> None:
    held = cache(tmp_path)
    held.read([span(0, 1000)])
    for path in tmp_path.glob("*.block"):
        path.write_bytes(b"short")
    assert held.read([span(0, 1000)]) == [remote[:1000]]
    assert held.read([span(0, 1000)]) == [remote[:1000]]


def test_another_content_is_another_block(remote, tmp_path) -> None:
    import fsspec

    held = cache(tmp_path)
    held.read([span(0, 100)])
    fsspec.filesystem("memory").pipe_file("/bucket/000.bin", bytes(10_000))
    assert held.read([Span(Place("memory://bucket/000.bin"), 10_000, "second", 0, 100)]) == [bytes(100)]


def test_a_download_that_fails_is_tried_again_then_told_in_a_sentence(remote, tmp_path, monkeypatch) -> None:
    download = module._download
    answers = iter([[OSError("reset")], [b"half"]])
    monkeypatch.setattr(module, "_download", lambda wanted: next(answers, None) or download(wanted))
    assert cache(tmp_path).read([span(0, 100)]) == [remote[:100]]
    monkeypatch.setattr(module, "_download", lambda wanted: [OSError("connection refused")] * len(wanted))
    words = r"bytes 512 to 768 could not be read in 4 attempts \(connection refused\)"
    with pytest.raises(DataError, match=words):
        cache(tmp_path).read([span(600, 700)])
    monkeypatch.setattr(module, "_download", download)
    with pytest.raises(DataError, match="no/such/file"):
        cache(tmp_path).read([Span(Place("memory://no/such/file"), 300, "", 0, 300)])
    with pytest.raises(DataError, match="cannot hold a block"):
        BlockCache(tmp_path, bound=10)


def test_reading_ahead_fetches_what_will_be_read(remote, tmp_path, monkeypatch) -> None:
    held = cache(tmp_path, bound=1 << 20)
    held.ahead([span(0, 5000)])
    thread = held._ahead._thread
    if thread is not None:
        thread.join(10)
    monkeypatch.setattr(module, "_download", lambda wanted: [OSError("not asked for ahead")] * len(wanted))
    assert held.read([span(0, 5000)]) == [remote[:5000]]
    held.ahead([span(6000, 6100)])
    with pytest.raises(DataError, match="not asked for ahead"):
        held.read([span(6000, 6100)])


def test_what_a_killed_process_left_is_removed(remote, tmp_path) -> None:
    held = cache(tmp_path, bound=1024)
    held.read([span(0, 10)])
    (tmp_path / "x.block.tmp").write_bytes(bytes(500))
    (tmp_path / ".bytes").write_text("nonsense")
    for start in range(0, 5000, 256):
        held.read([span(start, start + 10)])
    assert held.size <= 1024
    assert not list(tmp_path.glob("*.tmp"))


def _read_all(folder: str, source: str, seed: int) -> bool:
    held, content = BlockCache(Path(folder), bound=4096, block=256), Path(source).read_bytes()
    draw = np.random.default_rng(seed)
    for start in draw.integers(0, 9_000, 150).tolist():
        found = held.read([Span(Place(f"simplecache::file://{source}"), 10_000, "", start, start + 900)])
        if found != [content[start : start + 900]] or held.size > held.bound:
            return False
    return True


def test_several_processes_share_a_folder(remote, tmp_path) -> None:
    (tmp_path / "000.bin").write_bytes(remote)
    work = [(str(tmp_path / "cache"), str(tmp_path / "000.bin"), seed) for seed in range(2)]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert all(pool.starmap(_read_all, work))


def test_several_threads_share_a_cache(remote, tmp_path) -> None:
    held = cache(tmp_path, bound=1024)

    def read(seed: int) -> bool:
        starts = np.random.default_rng(seed).integers(0, 9_000, 100).tolist()
        return all(held.read([span(start, start + 300)]) == [remote[start : start + 300]] for start in starts)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(read, range(4)))
    assert held.size <= held.bound


@pytest.fixture(scope="module")
def server():
    """An S3-compatible server on a free port of loopback."""
    from moto.server import ThreadedMotoServer

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    running.start()
    yield {"endpoint_url": f"http://127.0.0.1:{port}", "key": "k", "secret": "s"}
    running.stop()


@pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow")
def test_a_stream_from_s3_gives_the_bytes_of_the_local_one(server, tmp_path) -> None:
    import fsspec

    system = fsspec.filesystem("s3", **server)
    system.mkdir("tokens")
    local, behind = {}, {}
    for number, name in enumerate("abc"):
        ids = np.random.default_rng(number).integers(1, 5000, 3000 + 500 * number)
        parts = np.split(ids, [700, 2100])
        write_tokens(tmp_path / name, parts, vocab=5000, tokenizer="t", end=0, text_bytes=1, shard_tokens=1)
        local[name] = TokenStore.open(tmp_path / name)
        if name != "c":
            system.put(f"{tmp_path / name}/", f"tokens/{name}/", recursive=True)
            behind[name] = TokenStore.open(f"s3://tokens/{name}", server)
    behind["c"] = local["c"]
    wanted = Schedule.constant(Mixture.uniform("abc"), STEPS * BATCH * SEQ_LEN)
    held = BlockCache(tmp_path / "cache", bound=8192, block=1024)

    def stream(stores, **more) -> MixtureStream:
        return MixtureStream(stores, wanted, 0, seq_len=SEQ_LEN, batch=BATCH, **more)

    source = stream(behind, cache=held)
    assert source.plan.fingerprint() == stream(local).plan.fingerprint()
    with prefetch(source) as ahead:
        for batch in stream(local):
            assert np.array_equal(next(ahead), batch)
            assert held.size <= held.bound
