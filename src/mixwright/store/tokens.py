"""Tokens on disk: a folder per domain with ``.bin``/``.idx`` shards in Megatron's layout and a manifest.

``NNN.bin`` holds the ids back to back. ``NNN.idx`` is, little endian: the magic ``MMIDIDX\\0\\0``, u64 version 1, u8
dtype code (8 uint16, 4 int32), u64 sequence count, u64 document count, int32 sequence lengths, int64 byte offsets,
int64 document boundaries (megatron-core's ``indexed_dataset.py``). Here every sequence is one document and ends with
the end-of-document id. ``manifest.json`` (schema ``mixwright/tokens/1``) names tokenizer, dtype, counts and checksums;
``counts.npy`` holds how often each id occurs, int64 ``(vocab,)``.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixwright.core.errors import DataError
from mixwright.store.artifact import MANIFEST, file_hash, read_json, write_json, written_aside

SCHEMA = "mixwright/tokens/1"
_MAGIC = b"MMIDIDX\x00\x00"
_CODES = {"uint16": 8, "int32": 4}
_DTYPES: dict[int, type[np.uint16] | type[np.int32]] = {8: np.uint16, 4: np.int32}


def dtype_for(vocab: int) -> str:
    """``uint16`` while every id fits, else ``int32`` (uint32 is not in Megatron's list)."""
    return "uint16" if vocab <= 65_536 else "int32"


def write_tokens(
    folder: Path, documents: Sequence[NDArray[Any]], *, vocab: int, tokenizer: str, end: int, text_bytes: int
) -> dict[str, Any]:
    """Write one shard of token ids (one array per document, each ending with ``end``) and the folder's manifest.

    Every file is written aside and renamed, the manifest last. Returns the manifest. ``text_bytes`` are the UTF-8
    bytes of the documents' text. Raises DataError for an id outside ``0..vocab-1``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = dtype_for(vocab)
    dtype = np.dtype(name)
    lengths = np.array([len(document) for document in documents], dtype=np.int32)
    ids = np.concatenate(documents) if documents else np.zeros(0, dtype=np.int64)
    if ids.size and (ids.min() < 0 or ids.max() >= vocab):
        raise DataError(f"{folder}: token ids must lie in 0..{vocab - 1}; found {ids.min()}..{ids.max()}.")
    with written_aside(folder / "000.bin") as path:
        ids.astype(dtype).tofile(path)
    offsets = np.concatenate([[0], np.cumsum(lengths[:-1], dtype=np.int64)]).astype(np.int64) * dtype.itemsize
    with written_aside(folder / "000.idx") as path, path.open("wb") as stream:
        stream.write(_MAGIC)
        stream.write(struct.pack("<QBQQ", 1, _CODES[name], len(lengths), len(lengths) + 1))
        stream.write(lengths.tobytes())
        stream.write(offsets[: len(lengths)].tobytes())
        stream.write(np.arange(len(lengths) + 1, dtype=np.int64).tobytes())
    with written_aside(folder / "counts.npy") as path, path.open("wb") as stream:
        np.save(stream, np.bincount(ids, minlength=vocab).astype(np.int64))
    manifest = {
        "schema": SCHEMA,
        "dtype": name,
        "vocab": vocab,
        "tokenizer": tokenizer,
        "end": end,
        "tokens": int(ids.size),
        "documents": len(lengths),
        "text_bytes": int(text_bytes),
        "files": {file: file_hash(folder / file) for file in ("000.bin", "000.idx", "counts.npy")},
    }
    write_json(folder / MANIFEST, manifest)
    return manifest


@dataclass(frozen=True)
class TokenStore:
    """The tokens of one folder, memory-mapped; opening costs the manifest, reading a window one copy."""

    folder: Path
    manifest: Mapping[str, Any]

    @classmethod
    def open(cls, folder: Path) -> TokenStore:
        """Open a folder; DataError if there is no manifest, it is newer, or a shard has the wrong size."""
        if not (folder / MANIFEST).is_file():
            raise DataError(f"{folder} holds no complete token store (no {MANIFEST}). Run mixwright tokenize.")
        manifest = read_json(folder / MANIFEST)
        if manifest.get("schema") != SCHEMA:
            raise DataError(f"{folder} is in the form {manifest.get('schema')!r}; this version reads {SCHEMA!r}.")
        store = cls(folder, manifest)
        size, wanted = (folder / "000.bin").stat().st_size, manifest["tokens"] * np.dtype(manifest["dtype"]).itemsize
        if size != wanted:
            raise DataError(
                f"{folder / '000.bin'} has {size} bytes, not the {wanted} its manifest says: it is damaged."
            )
        return store

    @property
    def tokens(self) -> int:
        """Tokens in it."""
        return int(self.manifest["tokens"])

    @property
    def vocab(self) -> int:
        """Number of ids of its tokenizer."""
        return int(self.manifest["vocab"])

    @cached_property
    def ids(self) -> NDArray[Any]:
        """All ids, ``(tokens,)``, memory-mapped."""
        if not self.tokens:
            return np.zeros(0, dtype=self.manifest["dtype"])
        return np.memmap(self.folder / "000.bin", dtype=self.manifest["dtype"], mode="r")

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """How often each id occurs, ``(vocab,)``."""
        return np.asarray(np.load(self.folder / "counts.npy"), dtype=np.int64)

    def windows(self, seq_len: int) -> int:
        """How many windows of ``seq_len`` inputs, each with its ``seq_len`` next tokens, it holds."""
        return max(0, (self.tokens - 1) // seq_len)

    def window(self, number: int, seq_len: int) -> NDArray[Any]:
        """Window ``number``: ``seq_len + 1`` ids; inputs are all but the last, labels all but the first."""
        return self.ids[number * seq_len : (number + 1) * seq_len + 1]

    def check(self) -> None:
        """Read everything and compare checksums; DataError names the file that has changed."""
        for name, wanted in self.manifest["files"].items():
            if file_hash(self.folder / name) != wanted:
                raise DataError(f"{self.folder / name} has changed since it was written: its checksum is another.")


def read_index(path: Path) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64], str]:
    """A ``.idx`` file: sequence lengths, byte offsets, document boundaries, dtype name. DataError if it is none."""
    content = path.read_bytes()
    head = struct.calcsize("<QBQQ")
    if content[: len(_MAGIC)] != _MAGIC or len(content) < len(_MAGIC) + head:
        raise DataError(f"{path} is not a Megatron index: it does not begin with MMIDIDX.")
    version, code, sequences, documents = struct.unpack_from("<QBQQ", content, len(_MAGIC))
    if version != 1 or code not in _DTYPES:
        raise DataError(f"{path}: version {version} with dtype code {code} is not known (1 with 4 or 8 is).")
    at = len(_MAGIC) + head
    wanted = at + 12 * sequences + 8 * documents
    if len(content) != wanted:
        raise DataError(f"{path} has {len(content)} bytes, not the {wanted} its header says: it is truncated.")
    lengths = np.frombuffer(content, np.int32, sequences, at)
    offsets = np.frombuffer(content, np.int64, sequences, at + 4 * sequences)
    bounds = np.frombuffer(content, np.int64, documents, at + 12 * sequences)
    return lengths, offsets, bounds, np.dtype(_DTYPES[code]).name
