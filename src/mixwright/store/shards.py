"""One shard of tokens: ``NAME.bin`` and ``NAME.idx`` in Megatron's layout, written as a stream, and its record.

``NAME.bin`` holds the ids back to back. ``NAME.idx`` is, little endian: the magic ``MMIDIDX\\0\\0``, u64 version 1, u8
dtype code (8 uint16, 4 int32), u64 sequence count, u64 document count, int32 sequence lengths, int64 byte offsets,
int64 document boundaries (megatron-core 0.16.1, ``megatron/core/datasets/indexed_dataset.py``). Here every sequence is
one document and ends with the end-of-document id.

``.NAME.json`` is the shard's record, written last: a shard without one is not believed. ``.NAME.npy`` beside it holds
how often each id occurs. Both go when the store's manifest is written.
"""

from __future__ import annotations

import array
import dataclasses
import glob
import hashlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from mixwright.core.errors import DataError
from mixwright.store.artifact import file_hash, read_json, write_json, written_aside
from mixwright.store.place import Place

_MAGIC = b"MMIDIDX\x00\x00"
_HEAD = "<QBQQ"
_CODES = {"uint16": 8, "int32": 4}
_DTYPES: dict[int, type[np.uint16] | type[np.int32]] = {8: np.uint16, 4: np.int32}


def dtype_for(vocab: int) -> str:
    """``uint16`` while every id fits, else ``int32`` (uint32 is not in Megatron's list)."""
    return "uint16" if vocab <= 65_536 else "int32"


@dataclass(frozen=True)
class Written:
    """What is known of a finished shard: counts and the SHA-256 of its files; ``key`` is what it was made from."""

    name: str
    tokens: int
    documents: int
    text_bytes: int
    bin: str
    idx: str
    key: str = ""

    @classmethod
    def find(cls, folder: Path, name: str, key: str = "") -> Written | None:
        """The record of a finished shard made from ``key``, or None; a damaged or another record is none."""
        path = folder / f".{name}.json"
        try:
            found = cls(**read_json(path))
        except (DataError, OSError, TypeError):
            return None
        return found if found.key == key and (folder / f".{name}.npy").is_file() else None

    def counts(self, folder: Path) -> NDArray[np.int64]:
        """How often each id occurs in it, ``(vocab,)``."""
        return np.asarray(np.load(folder / f".{self.name}.npy", allow_pickle=False), dtype=np.int64)


class ShardWriter:
    """Writes a shard document by document; memory is 4 bytes a document and 8 an id of the vocabulary.

    A context manager: the files take their names when the block ends without error, the record (``.record``) last.
    Raises DataError for an id outside ``0..vocab-1``.
    """

    def __init__(self, folder: Path, name: str, *, vocab: int, key: str = "") -> None:
        self.folder, self.name, self._vocab, self._key = folder, name, vocab, key
        self._dtype = np.dtype(dtype_for(vocab))
        self._lengths = array.array("i")
        self._counts = np.zeros(vocab, dtype=np.int64)
        self._digest = hashlib.sha256()
        self._text_bytes = 0
        self.tokens = 0
        self.record: Written | None = None

    def __enter__(self) -> ShardWriter:
        self._aside = written_aside(self.folder / f"{self.name}.bin")
        self._stream: IO[bytes] = self._aside.__enter__().open("wb")
        return self

    def add(self, ids: NDArray[Any], lengths: NDArray[Any] | None = None, *, text_bytes: int = 0) -> None:
        """One document, or several back to back with their ``lengths (n,)``; each ends with the end-of-document id.

        ``text_bytes`` are the UTF-8 bytes of their text.
        """
        if ids.size:
            low, high = int(ids.min()), int(ids.max())
            if low < 0 or high >= self._vocab:
                raise DataError(
                    f"{self.folder / self.name}.bin: token ids must lie in 0..{self._vocab - 1}; found {low}..{high}. "
                    "The tokenizer gives ids it does not count: take the one these tokens were made with."
                )
            content = np.ascontiguousarray(ids, dtype=self._dtype)
            self._counts += np.bincount(content, minlength=self._vocab)
            self._digest.update(content.data)
            self._stream.write(content.data)
        self._lengths.extend([ids.size] if lengths is None else lengths.tolist())
        self._text_bytes += text_bytes
        self.tokens += ids.size

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._stream.close()
        except BaseException as failure:
            self._aside.__exit__(type(failure), failure, failure.__traceback__)
            raise
        self._aside.__exit__(kind, error, trace)
        if kind is None:
            self._finish()

    def _finish(self) -> None:
        lengths = np.frombuffer(self._lengths, dtype=np.int32) if self._lengths else np.zeros(0, dtype=np.int32)
        write_index(self.folder / f"{self.name}.idx", lengths, self._dtype.name)
        with written_aside(self.folder / f".{self.name}.npy") as path, path.open("wb") as stream:
            np.save(stream, self._counts)
        index = file_hash(self.folder / f"{self.name}.idx")
        self.record = Written(
            self.name, self.tokens, len(lengths), self._text_bytes, self._digest.hexdigest(), index, self._key
        )
        write_json(self.folder / f".{self.name}.json", dataclasses.asdict(self.record))


def write_index(path: Path, lengths: NDArray[np.int32], dtype: str) -> None:
    """Write a ``.idx`` of documents of ``lengths (n,)`` tokens that lie back to back, one sequence each."""
    size, count = np.dtype(dtype).itemsize, len(lengths)
    offsets = np.zeros(count, dtype=np.int64)
    np.cumsum(lengths[:-1], dtype=np.int64, out=offsets[1:])
    with written_aside(path) as aside, aside.open("wb") as stream:
        stream.write(_MAGIC)
        stream.write(struct.pack(_HEAD, 1, _CODES[dtype], count, count + 1))
        stream.write(lengths.astype("<i4").tobytes())
        stream.write((offsets * size).astype("<i8").tobytes())
        stream.write(np.arange(count + 1, dtype="<i8").tobytes())


def read_index(path: Path | Place) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64], str]:
    """A ``.idx`` file: sequence lengths, byte offsets, document boundaries, dtype name. DataError if it is none."""
    content = Place.of(path).read()
    at = len(_MAGIC) + struct.calcsize(_HEAD)
    if content[: len(_MAGIC)] != _MAGIC or len(content) < at:
        raise DataError(f"{path} is not a Megatron index: it does not begin with MMIDIDX.")
    version, code, sequences, documents = struct.unpack_from(_HEAD, content, len(_MAGIC))
    if version != 1 or code not in _DTYPES:
        raise DataError(f"{path}: version {version} with dtype code {code} is not known (1 with 4 or 8 is).")
    wanted = at + 12 * sequences + 8 * documents
    if len(content) not in (wanted, wanted + sequences):  # a byte a sequence more: the modes of multimodal data
        raise DataError(f"{path} has {len(content)} bytes, not the {wanted} its header says: it is truncated.")
    lengths = np.frombuffer(content, np.int32, sequences, at)
    offsets = np.frombuffer(content, np.int64, sequences, at + 4 * sequences)
    bounds = np.frombuffer(content, np.int64, documents, at + 12 * sequences)
    if (lengths < 0).any() or (np.diff(bounds) < 0).any() or not ((bounds >= 0) & (bounds <= sequences)).all():
        raise DataError(
            f"{path} lists lengths below 0, or documents that are not in order: it is damaged. Copy it again or write the "
            "tokens again."
        )
    return lengths, offsets, bounds, np.dtype(_DTYPES[code]).name


def clear_records(folder: Path, names: Iterable[str]) -> None:
    """Remove what writing the shards ``names`` left beside them: records, counts and files of killed processes."""
    for name in names:
        for kind in ("json", "npy", "*.tmp"):
            for path in folder.glob(f".{glob.escape(name)}.{kind}"):
                path.unlink()
