"""Token files: what is written is read, damage is named."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixwright.core.errors import DataError
from mixwright.store.tokens import TokenStore, read_index, write_tokens

documents = st.lists(st.lists(st.integers(1, 299), min_size=0, max_size=40).map(lambda ids: [*ids, 0]), max_size=12)


@settings(max_examples=40, deadline=None)
@given(documents, st.integers(1, 16), st.sampled_from([300, 70_000]))
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, docs: list[list[int]], seq_len: int, vocab: int) -> None:
    folder = tmp_path_factory.mktemp("tokens")
    write_tokens(folder, [np.array(d) for d in docs], vocab=vocab, tokenizer="t", end=0, text_bytes=9)
    store = TokenStore.open(folder)
    flat = [i for d in docs for i in d]
    assert store.ids.tolist() == flat
    assert store.counts.tolist() == np.bincount(flat, minlength=vocab).tolist() if flat else store.tokens == 0
    lengths, offsets, bounds, dtype = read_index(folder / "000.idx")
    assert lengths.tolist() == [len(d) for d in docs]
    assert dtype == ("uint16" if vocab == 300 else "int32")
    assert bounds.tolist() == list(range(len(docs) + 1))
    size = np.dtype(dtype).itemsize
    assert offsets.tolist() == [size * sum(len(d) for d in docs[:n]) for n in range(len(docs))]
    assert store.windows(seq_len) == max(0, (len(flat) - 1) // seq_len)
    for number in range(store.windows(seq_len)):
        assert store.window(number, seq_len).tolist() == flat[number * seq_len : number * seq_len + seq_len + 1]
    store.check()


def test_the_index_is_megatrons_byte_for_byte(tmp_path: Path) -> None:
    write_tokens(tmp_path, [np.array([5, 0]), np.array([7, 8, 0])], vocab=300, tokenizer="t", end=0, text_bytes=1)
    expected = (
        b"MMIDIDX\x00\x00" + struct.pack("<Q", 1) + struct.pack("<B", 8) + struct.pack("<Q", 2) + struct.pack("<Q", 3)
        + struct.pack("<2i", 2, 3) + struct.pack("<2q", 0, 4) + struct.pack("<3q", 0, 1, 2)
    )  # fmt: skip
    assert (tmp_path / "000.idx").read_bytes() == expected


def test_damage_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no complete token store"):
        TokenStore.open(tmp_path)
    with pytest.raises(DataError, match=r"must lie in 0\.\.9; found 3\.\.10"):
        write_tokens(tmp_path, [np.array([3, 10])], vocab=10, tokenizer="t", end=0, text_bytes=1)
    write_tokens(tmp_path, [np.array([3, 9])], vocab=10, tokenizer="t", end=0, text_bytes=1)
    (tmp_path / "000.bin").write_bytes(np.array([3, 8], np.uint16).tobytes())
    with pytest.raises(DataError, match="checksum"):
        TokenStore.open(tmp_path).check()
    (tmp_path / "000.bin").write_bytes(b"\x03")
    with pytest.raises(DataError, match="1 bytes, not the 4"):
        TokenStore.open(tmp_path)
    index = (tmp_path / "000.idx").read_bytes()
    (tmp_path / "000.idx").write_bytes(index[:-1])
    with pytest.raises(DataError, match="truncated"):
        read_index(tmp_path / "000.idx")


@settings(max_examples=40, deadline=None)
@given(documents, st.integers(1, 16), st.integers(1, 60))
def test_shards_laid_end_to_end(
    tmp_path_factory: pytest.TempPathFactory, docs: list[list[int]], seq_len: int, shard_tokens: int
) -> None:
    one, many = (tmp_path_factory.mktemp("tokens") for _ in range(2))
    arrays = [np.array(d) for d in docs]
    write_tokens(one, arrays, vocab=300, tokenizer="t", end=0, text_bytes=9)
    write_tokens(many, arrays, vocab=300, tokenizer="t", end=0, text_bytes=9, shard_tokens=shard_tokens)
    whole, store = TokenStore.open(one), TokenStore.open(many)
    assert store.ids.tolist() == whole.ids.tolist()
    assert (store.tokens, store.end, store.dtype) == (whole.tokens, 0, whole.dtype)
    assert store.counts.tolist() == whole.counts.tolist()
    assert store.windows(seq_len) == whole.windows(seq_len)
    for number in range(store.windows(seq_len)):
        assert store.window(number, seq_len).tolist() == whole.window(number, seq_len).tolist()
    assert [shard.start for shard in store.shards] == [
        sum(s.tokens for s in store.shards[:n]) for n in range(len(store.shards))
    ]
    assert all(shard.tokens for shard in store.shards)
    assert not [path for path in many.iterdir() if path.name.startswith(".")]
    store.check()
    if len(store.manifest["shards"]) == 1:
        assert store.fingerprint == whole.fingerprint == whole.manifest["files"]["000.bin"]
    else:
        assert store.fingerprint != whole.fingerprint


def test_behind_a_url(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    write_tokens(
        tmp_path, [np.arange(100) % 9 for _ in range(9)], vocab=10, tokenizer="t", end=0, text_bytes=9, shard_tokens=200
    )
    memory = fsspec.filesystem("memory")
    memory.put(str(tmp_path), "/bucket/domain", recursive=True)
    here, there = TokenStore.open(tmp_path), TokenStore.open("memory://bucket/domain")
    assert there.manifest == here.manifest
    assert [(s.tokens, s.start, s.documents) for s in there.shards] == [
        (s.tokens, s.start, s.documents) for s in here.shards
    ]
    assert there.shards[1].file == "memory://bucket/domain/001.bin"
    assert there.ids.tolist() == here.ids.tolist()
    assert there.counts.tolist() == here.counts.tolist()
    assert [there.window(n, 64).tolist() for n in range(14)] == [here.window(n, 64).tolist() for n in range(14)]
    there.check()
    memory.pipe_file("/bucket/domain/001.bin", b"12")
    with pytest.raises(DataError, match=r"memory://bucket/domain/001\.bin has 2 bytes, not the 400"):
        TokenStore.open("memory://bucket/domain")
    memory.rm("/bucket", recursive=True)
    with pytest.raises(DataError, match="no complete token store"):
        TokenStore.open("memory://bucket/domain")
    assert TokenStore.open(f"file://{tmp_path}").shards == here.shards


def test_the_first_form_is_read_as_well(tmp_path: Path) -> None:
    write_tokens(tmp_path, [np.array([3, 9, 0])], vocab=10, tokenizer="t", end=0, text_bytes=1)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    del manifest["shards"]
    (tmp_path / "manifest.json").write_text(json.dumps(manifest | {"schema": "mixwright/tokens/1"}))
    store = TokenStore.open(tmp_path)
    assert store.ids.tolist() == [3, 9, 0]
    assert (store.shards[0].tokens, store.shards[0].documents) == (3, 1)
    assert store.fingerprint == manifest["files"]["000.bin"]
    store.check()
