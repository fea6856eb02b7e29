"""Hostile stores: each is named in one sentence, with the way out; what was verified is not read again."""

import json
import os
import re
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixwright.core.errors import DataError
from mixwright.store.foreign_tokens import open_tokens
from mixwright.store.token_checks import same_tokenizer, verify, verify_all
from mixwright.store.tokens import TokenStore, write_tokens


def made(folder: Path, *, tokenizer: str = "t", vocab: int = 300, end: int = 0, shard_tokens: int = 30) -> Path:
    documents = [np.append(np.arange(10 * n, 10 * n + 9) % 299 + 1, end) for n in range(9)]
    write_tokens(folder, documents, vocab=vocab, tokenizer=tokenizer, end=end, text_bytes=90, shard_tokens=shard_tokens)
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three shards, to be copied; made once, since every file is synced."""
    return made(tmp_path_factory.mktemp("whole") / "store")


def copied(whole: Path, factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(whole, factory.mktemp("copy") / "store"))


def rewrite(folder: Path, **changes: Any) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | changes))


def cut(path: Path, by: int = 1) -> None:
    path.write_bytes(path.read_bytes()[:-by])


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda f: cut(f / "001.bin"), r"001\.bin has 59 bytes, not the 60 its manifest says"),
        (lambda f: (f / "002.bin").unlink(), r"002\.bin is missing, though the manifest names it"),
        (lambda f: (f / "manifest.json").unlink(), "holds no complete token store"),
        (lambda f: cut(f / "manifest.json", 9), r"manifest\.json is not valid JSON"),
        (lambda f: (f / "manifest.json").write_bytes(b"\xff\xfe"), r"manifest\.json is not valid JSON"),
        (lambda f: (f / "manifest.json").write_text("[1]"), "is no token store"),
        (
            lambda f: rewrite(f, schema="mixwright/artifact/1"),
            "no token store: its manifest is in the form 'mixwright/art",
        ),
        (lambda f: rewrite(f, schema="mixwright/tokens/3"), "reads mixwright/tokens/1 to mixwright/tokens/2. Use the"),
        (lambda f: rewrite(f, tokens=91), "do not add up to 91 tokens"),
        (lambda f: rewrite(f, dtype="float64"), "dtype 'float64'; uint16 and int32 are known"),
        (lambda f: rewrite(f, end=None), "has None as end"),
        (lambda f: rewrite(f, shards=["000"]), "lists '000' as a shard"),
        (lambda f: rewrite(f, files={}), r"no checksum of 000\.bin"),
    ],
)
def test_opening(tmp_path: Path, damage: Callable[[Path], Any], sentence: str) -> None:
    damage(made(tmp_path))
    with pytest.raises(DataError, match=sentence):
        TokenStore.open(tmp_path)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda f: cut(f / "001.idx"), r"001\.idx has changed since it was written"),
        (lambda f: (f / "000.idx").write_bytes((f / "000.idx").read_bytes() + b"\0"), r"000\.idx has changed"),
        (lambda f: (f / "counts.npy").unlink(), r"There is no .*counts\.npy"),
        (
            lambda f: rewrite(f, vocab=50),
            r"000\.bin holds the token id 9\d?, its tokenizer only 0\.\.49|001\.bin holds",
        ),
    ],
)
def test_checking(tmp_path: Path, damage: Callable[[Path], Any], sentence: str) -> None:
    damage(made(tmp_path))
    with pytest.raises(DataError, match=sentence):
        TokenStore.open(tmp_path).check()


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["000.bin", "001.bin", "002.bin", "001.idx", "counts.npy"]), st.integers(0, 10**6))
def test_any_flipped_bit_is_found(tmp_path_factory: pytest.TempPathFactory, whole: Path, name: str, bit: int) -> None:
    folder = copied(whole, tmp_path_factory)
    content = bytearray((folder / name).read_bytes())
    bit %= len(content) * 8
    content[bit // 8] ^= 1 << bit % 8
    (folder / name).write_bytes(content)
    with pytest.raises(DataError, match=re.escape(name)):
        TokenStore.open(folder).check()


VALUES: list[Any] = [
    None,
    -1,
    0,
    1,
    7,
    10**18,
    0.5,
    "",
    "000",
    "int32",
    [],
    ["000"],
    {},
    [{}],
    {"000.bin": 1},
    [{"name": 3}],
]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_manifest_is_more_than_a_data_error(
    tmp_path_factory: pytest.TempPathFactory, whole: Path, data: st.DataObject
) -> None:
    folder = copied(whole, tmp_path_factory)
    manifest = json.loads((folder / "manifest.json").read_text())
    shards = [dict(entry) for entry in manifest["shards"]]
    place = data.draw(st.sampled_from([manifest, *shards]))
    place[data.draw(st.sampled_from(sorted(place)))] = data.draw(st.sampled_from(VALUES))
    rewrite(folder, **({} if place is manifest else {"shards": shards}) | (manifest if place is manifest else {}))
    try:
        store = TokenStore.open(folder)
        store.check()
    except DataError:
        return
    assert store.tokens == 90
    assert store.window(2, 8).size == 9


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 255))
def test_no_index_is_more_than_a_data_error(
    tmp_path_factory: pytest.TempPathFactory, whole: Path, at: int, change: int
) -> None:
    folder = copied(whole, tmp_path_factory)
    content = bytearray((folder / "000.idx").read_bytes())
    content[at % len(content)] ^= change
    (folder / "000.idx").write_bytes(content)
    try:
        store = open_tokens(folder / "000.idx")
        store.check()
        ends = store.document_ends(0)
    except DataError:
        return
    assert (store.tokens, ends[-1]) == (30, 30)
    assert (np.diff(ends) >= 0).all()


def test_checking_takes_little_memory(tmp_path: Path) -> None:
    write_tokens(tmp_path, [np.zeros(30_000_000, np.uint16)], vocab=10, tokenizer="t", end=0, text_bytes=1)
    store = TokenStore.open(tmp_path)
    tracemalloc.start()
    try:
        store.check()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 25e6 < 60e6 == (tmp_path / "000.bin").stat().st_size


def test_what_was_verified_is_not_read_again(tmp_path: Path) -> None:
    store, stamps = TokenStore.open(made(tmp_path / "a")), tmp_path / "stamps.json"
    assert verify(store, stamps) == 7
    assert verify(store, stamps) == 0
    other = TokenStore.open(made(tmp_path / "b"))
    assert verify(other, stamps) == 7
    assert verify(store, stamps) == 0
    file = tmp_path / "a" / "001.bin"
    content, before = file.read_bytes(), file.stat()
    file.write_bytes(content[2:] + content[:2])
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    with pytest.raises(DataError, match=r"001\.bin has changed"):
        verify(store, stamps)
    with pytest.raises(DataError, match=r"001\.bin has changed"):
        verify(store, stamps)
    file.write_bytes(content)
    assert verify(store, stamps) == 1
    stamps.write_text("{half")
    assert verify(store, stamps) == 7


def test_every_store_of_a_corpus_is_verified(tmp_path: Path) -> None:
    for name in ("train/web", "train/code", "val/web"):
        made(tmp_path / "corpus" / name)
    (tmp_path / "corpus/manifest.json").write_text('{"schema": "mixwright/artifact/1"}')
    stamps = tmp_path / "stamps.json"
    assert verify_all(tmp_path / "corpus", stamps) == 21
    assert verify_all(tmp_path / "corpus", stamps) == 0
    cut(tmp_path / "corpus/val/web/counts.npy")
    with pytest.raises(DataError, match=r"val/web/counts\.npy has changed"):
        verify_all(tmp_path / "corpus", stamps)


def test_one_tokenizer_for_all_domains(tmp_path: Path) -> None:
    stores = {name: TokenStore.open(made(tmp_path / name)) for name in ("web", "code")}
    same_tokenizer(stores)
    same_tokenizer({})
    for name, other, sentence in (
        (
            "hash",
            {"tokenizer": "u"},
            "Domain hash .* has the tokenizer u, domain web t: their ids do not mean the same",
        ),
        ("vocab", {"vocab": 301}, "Domain vocab .* has the number of ids 301, domain web 300"),
        ("end", {"end": 7}, "Domain end .* has the end-of-document id 7, domain web 0"),
    ):
        with pytest.raises(DataError, match=sentence):
            same_tokenizer(stores | {name: TokenStore.open(made(tmp_path / name, **other))})
    np.arange(99, dtype=np.uint16).tofile(tmp_path / "raw.npy")
    same_tokenizer(stores | {"raw": open_tokens(tmp_path / "raw.npy", dtype="uint16")})
    with pytest.raises(DataError, match=r"Domain raw .* tokenizer gpt2, domain web t"):
        same_tokenizer(stores | {"raw": open_tokens(tmp_path / "raw.npy", dtype="uint16", tokenizer="gpt2")})
