"""Token files of other programs: written as these write them, read in place; what is damaged is named."""

import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mixwright.core.errors import DataError, StudyError
from mixwright.store.foreign_tokens import open_tokens
from mixwright.store.token_checks import verify
from mixwright.store.tokens import TokenStore, write_tokens

DOCUMENTS = [[5, 6, 7, 1], [8, 1], [9, 10, 11, 12, 13, 1]]
FLAT = [token for document in DOCUMENTS for token in document]


def megatron(prefix: Path, documents: list[list[int]], dtype: Any = np.uint16) -> Path:
    """A pair of files as megatron-core 0.16.1 lays them out, written by hand."""
    size, lengths = np.dtype(dtype).itemsize, [len(d) for d in documents]
    np.concatenate([np.array(d, dtype=dtype) for d in documents]).tofile(f"{prefix}.bin")
    starts = np.cumsum([0, *lengths[:-1]]) * size
    Path(f"{prefix}.idx").write_bytes(
        b"MMIDIDX\x00\x00" + struct.pack("<QBQQ", 1, 8 if size == 2 else 4, len(lengths), len(lengths) + 1)
        + np.array(lengths, "<i4").tobytes() + starts.astype("<i8").tobytes()
        + np.arange(len(lengths) + 1, dtype="<i8").tobytes()
    )  # fmt: skip
    return prefix


def datatrove(path: Path, documents: list[list[int]], dtype: str = "<u2") -> Path:
    """A file as datatrove's tokenizer leaves it: ids, the ends of documents in tokens, and its metadata."""
    ends, at = [], 0
    with path.open("wb") as stream:
        for document in documents:
            stream.write(np.array(document, dtype).tobytes())
            at += len(document)
            ends.append(at)
    Path(f"{path}.index").write_bytes(struct.pack(f"<{len(ends)}Q", *ends))
    Path(f"{path}.metadata").write_text(f"gpt2|{np.dtype(dtype).itemsize}\n{at}\n{at} T")
    return path


def raw(path: Path, documents: list[list[int]], dtype: str = "<u2") -> Path:
    """A file as OLMo-core reads them: ids and nothing else, though it is called .npy."""
    np.concatenate([np.array(d, dtype) for d in documents]).tofile(path)
    return path


@pytest.mark.parametrize("how", ["prefix", "bin", "idx"])
@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_a_megatron_pair(tmp_path: Path, how: str, dtype: Any) -> None:
    prefix = megatron(tmp_path / "web_text_document", DOCUMENTS, dtype)
    store = open_tokens({"prefix": prefix, "bin": f"{prefix}.bin", "idx": f"{prefix}.idx"}[how])
    assert store.ids.tolist() == FLAT
    assert store.dtype == dtype
    assert (store.tokens, store.end, store.vocab) == (12, 1, 14)
    assert store.manifest["documents"] == 3
    assert store.counts.tolist() == np.bincount(FLAT).tolist()
    assert store.window(1, 4).tolist() == FLAT[4:9]
    store.check()


@pytest.mark.parametrize("dtype", ["<u2", "<u4"])
def test_a_datatrove_file(tmp_path: Path, dtype: str) -> None:
    store = open_tokens(datatrove(tmp_path / "000_00000.ds", DOCUMENTS, dtype), vocab=100)
    assert store.ids.tolist() == FLAT
    assert store.dtype == ("uint16" if dtype == "<u2" else "int32")
    assert (store.end, store.vocab, store.manifest["documents"]) == (1, 100, 3)
    store.check()


@pytest.mark.parametrize(("dtype", "given"), [("<u2", "uint16"), ("<u4", "uint32"), ("<u4", "int32")])
def test_a_raw_file(tmp_path: Path, dtype: str, given: str) -> None:
    store = open_tokens(raw(tmp_path / "part-00.npy", DOCUMENTS, dtype), dtype=given, end=1, vocab=14)
    assert store.ids.tolist() == FLAT
    assert (store.end, store.windows(4)) == (1, 2)
    store.check()


@pytest.mark.parametrize(
    ("write", "suffix", "given"),
    [(megatron, "", {}), (datatrove, ".ds", {}), (raw, ".npy", {"vocab": 50}), (raw, ".bin", {"dtype": "uint16"})],
)
def test_a_folder_or_a_list_is_one_store(tmp_path: Path, write: Callable[..., Path], suffix: str, given: Any) -> None:
    places = [write(tmp_path / f"{name}{suffix}", DOCUMENTS[n : n + 1]) for n, name in enumerate("abc")]
    folder, listed = open_tokens(tmp_path, **given), open_tokens(places, **given)
    assert folder.shards == listed.shards
    assert [(shard.tokens, shard.start) for shard in folder.shards] == [(4, 0), (2, 4), (6, 6)]
    assert folder.ids.tolist() == FLAT
    assert folder.slice(3, 8).tolist() == FLAT[3:8]
    assert open_tokens(places[::-1], **given).ids.tolist() == DOCUMENTS[2] + DOCUMENTS[1] + DOCUMENTS[0]
    assert folder.fingerprint == listed.fingerprint != open_tokens(places[::-1], **given).fingerprint


def test_a_store_of_our_own(tmp_path: Path) -> None:
    write_tokens(tmp_path, [np.array(d) for d in DOCUMENTS], vocab=14, tokenizer="t", end=1, text_bytes=1)
    assert open_tokens(tmp_path) == TokenStore.open(tmp_path)


def test_behind_a_url(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    megatron(tmp_path / "a", DOCUMENTS)
    fsspec.filesystem("memory").put(str(tmp_path), "/foreign", recursive=True)
    store = open_tokens("memory://foreign/a")
    assert store.ids.tolist() == FLAT
    assert store.end == 1
    assert store.fingerprint == open_tokens(tmp_path / "a").fingerprint
    assert open_tokens("memory://foreign").ids.tolist() == FLAT
    both = open_tokens([tmp_path / "a", "memory://foreign/a"])
    assert both.ids.tolist() == both.slice(0, 99).tolist() == FLAT + FLAT


@pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow")
def test_on_a_server_that_speaks_s3(tmp_path: Path) -> None:
    """A real server on loopback: all kinds opened, read, checked; what its tags say is verified is not read again."""
    moto, fsspec = pytest.importorskip("moto.server"), pytest.importorskip("fsspec")
    pytest.importorskip("s3fs")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    running.start()
    try:
        options = {"endpoint_url": f"http://127.0.0.1:{port}", "key": "k", "secret": "s"}
        bucket = fsspec.filesystem("s3", **options)
        bucket.mkdir("kinds")
        (tmp_path / "ours").mkdir()
        write_tokens(tmp_path / "ours", [np.array(d) for d in DOCUMENTS], vocab=14, tokenizer="t", end=1, text_bytes=1)
        for place in (megatron(tmp_path / "a", DOCUMENTS), datatrove(tmp_path / "b.ds", DOCUMENTS)):
            for file in tmp_path.glob(f"{place.name}*"):
                bucket.put(str(file), f"kinds/{file.name}")
        bucket.put(str(tmp_path / "ours"), "kinds/ours", recursive=True)
        for name in ("a", "b.ds", "ours"):
            here, there = open_tokens(tmp_path / name), open_tokens(f"s3://kinds/{name}", options=options)
            assert there.ids.tolist() == FLAT
            assert (there.end, there.fingerprint) == (1, here.fingerprint)
            assert verify(there, tmp_path / "stamps.json") == (3 if name == "ours" else 2)
            assert verify(there, tmp_path / "stamps.json") == 0
        bucket.pipe_file("kinds/ours/000.bin", np.array(FLAT[::-1], np.uint16).tobytes())
        with pytest.raises(DataError, match=r"s3://kinds/ours/000\.bin has changed since it was written"):
            verify(open_tokens("s3://kinds/ours", options=options), tmp_path / "stamps.json")
        with pytest.raises(DataError, match=r"s3://kinds/none is neither a folder nor a file of tokens"):
            open_tokens("s3://kinds/none", options=options)
    finally:
        running.stop()


def test_the_fingerprint_follows_the_content(tmp_path: Path) -> None:
    ids = np.arange(3_000_000, dtype=np.uint16)
    (tmp_path / "a.npy").write_bytes(ids.tobytes())
    ids[-1] += 1
    (tmp_path / "b.npy").write_bytes(ids.tobytes())
    first, second = (open_tokens(tmp_path / name, dtype="uint16").fingerprint for name in ("a.npy", "b.npy"))
    assert first != second
    (tmp_path / "b.npy").replace(tmp_path / "a.npy")
    assert open_tokens(tmp_path / "a.npy", dtype="uint16").fingerprint == second


def _cut(path: Path, by: int) -> None:
    path.write_bytes(path.read_bytes()[:-by])


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda f: _cut(f / "a.bin", 1), r"a\.bin has 23 bytes, not the 24 that a\.idx says"),
        (lambda f: _cut(f / "a.bin", 4), r"a\.bin has 20 bytes, not the 24"),
        (lambda f: (f / "a.bin").unlink(), r"There is no .*a\.bin"),
        (lambda f: _cut(f / "a.idx", 1), r"a\.idx has \d+ bytes, not the \d+ its header says"),
        (lambda f: (f / "a.idx").write_bytes(b"?" * 99), r"a\.idx is not a Megatron index"),
        (lambda f: (f / "a.idx").write_bytes(b""), r"a\.idx is not a Megatron index"),
    ],
)
def test_a_damaged_pair(tmp_path: Path, damage: Callable[[Path], Any], sentence: str) -> None:
    megatron(tmp_path / "a", DOCUMENTS)
    damage(tmp_path)
    with pytest.raises(DataError, match=sentence):
        open_tokens(tmp_path / "a")


def test_an_index_over_a_part(tmp_path: Path) -> None:
    megatron(tmp_path / "a", DOCUMENTS)
    content = bytearray((tmp_path / "a.idx").read_bytes())
    content[34 + 12 : 34 + 20] = struct.pack("<q", 2)
    (tmp_path / "a.idx").write_bytes(content)
    with pytest.raises(DataError, match="do not lie back to back"):
        open_tokens(tmp_path / "a")


@pytest.mark.parametrize("by", [1, 2, 7])
def test_a_truncated_datatrove_file(tmp_path: Path, by: int) -> None:
    _cut(datatrove(tmp_path / "a.ds", DOCUMENTS), by)
    with pytest.raises(DataError, match=r"a\.ds has \d+ bytes and a\.ds\.index ends at token 12"):
        open_tokens(tmp_path / "a.ds")


def test_what_must_be_said(tmp_path: Path) -> None:
    raw(tmp_path / "a.npy", DOCUMENTS)
    with pytest.raises(StudyError, match=r"a\.npy does not say how its ids are stored\. Give dtype"):
        open_tokens(tmp_path / "a.npy")
    with pytest.raises(StudyError, match="does not show which id ends a document"):
        _ = open_tokens(tmp_path / "a.npy", dtype="uint16").end
    with pytest.raises(StudyError, match="got dtype 'float32'"):
        open_tokens(tmp_path / "a.npy", dtype="float32")
    (tmp_path / "b.npy").write_bytes(b"abc")
    with pytest.raises(DataError, match="3 bytes, no whole number of ids of 2"):
        open_tokens(tmp_path / "b.npy", dtype="uint16")
    np.save(tmp_path / "c.npy", np.arange(9, dtype=np.uint16))
    with pytest.raises(DataError, match=r"c\.npy has a NumPy header"):
        open_tokens(tmp_path / "c.npy", dtype="uint16")
    with pytest.raises(StudyError, match="says that its ids are uint16, not int32"):
        open_tokens(megatron(tmp_path / "d", DOCUMENTS), dtype="int32")


def test_what_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere is neither a folder nor a file of tokens"):
        open_tokens(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(DataError, match="holds no token store"):
        open_tokens(tmp_path)
    with pytest.raises(DataError, match="names no token files"):
        open_tokens([])
    with pytest.raises(DataError, match=r"holds megatron tokens of int32, .* megatron tokens of uint16"):
        open_tokens([megatron(tmp_path / "a", DOCUMENTS), megatron(tmp_path / "b", DOCUMENTS, np.int32)])


@pytest.mark.parametrize(("dtype", "id_", "shown"), [("uint16", 14, "14"), ("uint32", 2**32 - 2, "4294967294")])
def test_ids_beyond_the_vocabulary(tmp_path: Path, dtype: str, id_: int, shown: str) -> None:
    np.array([1, 2, id_], dtype=dtype).tofile(tmp_path / "a.npy")
    with pytest.raises(DataError, match=rf"a\.npy holds the token id {shown}, its tokenizer only 0\.\.13"):
        open_tokens(tmp_path / "a.npy", dtype=dtype, vocab=14).check()


def test_megatron_core_reads_ours_and_we_read_its(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    indexed = pytest.importorskip("megatron.core.datasets.indexed_dataset", reason="megatron-core is not installed")
    for dtype, vocab in ((np.uint16, 14), (np.int32, 70_000)):
        prefix = str(tmp_path / f"theirs-{vocab}")
        builder = indexed.IndexedDatasetBuilder(f"{prefix}.bin", dtype=dtype)
        for document in DOCUMENTS:
            builder.add_document(np.array(document), [len(document)])
        builder.add_document(np.array([3, 4, 1]), [2, 1])  # a document of two sequences
        builder.finalize(f"{prefix}.idx")
        store = open_tokens(prefix, vocab=vocab)
        assert store.ids.tolist() == [*FLAT, 3, 4, 1]
        assert (store.end, store.dtype, store.manifest["documents"]) == (1, dtype, 4)
        store.check()
        folder = tmp_path / f"ours-{vocab}"
        arrays = [np.array(d) for d in DOCUMENTS]
        write_tokens(folder, arrays, vocab=vocab, tokenizer="t", end=1, text_bytes=1, shard_tokens=5)
        ours = [indexed.IndexedDataset(str(folder / name)) for name in ("000", "001")]
        assert [part[n].tolist() for part in ours for n in range(len(part))] == DOCUMENTS
        assert ours[0].document_indices.tolist() == [0, 1, 2]
        assert ours[0][0].dtype == dtype
