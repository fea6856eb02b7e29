"""Reads fastText models (``.bin``, ``.ftz``, format versions 11 and 12) into plain arrays.

The file is laid out as in fastText's source (``Args``, ``Dictionary``, ``Matrix``, ``QMatrix``, ``ProductQuantizer``), which
holds no description of it; all numbers are little-endian. Quantized matrices are multiplied out.

D   dimensions, R rows (words, then buckets of character n-grams), L labels
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mixwright.core.errors import DataError
from mixwright.store.artifact import read_json, write_json, written_aside

_MAGIC, _VERSIONS = 793712314, (11, 12)
_SUPERVISED = 3
#: kinds of loss
HIERARCHICAL, NEGATIVE, SOFTMAX, ONE_VS_ALL = 1, 2, 3, 4
_LABEL, _END_OF_LINE = "__label__", b"</s>"


@dataclass(frozen=True)
class FastText:
    """A text classifier; arrays are read-only.

    ``words`` and ``word_offsets`` are the vocabulary, ``word_slots`` an open-addressed table of its numbers by FNV-1a hash
    (-1 free). The row of the n-gram of bucket b is ``rows[n_words + b]``, or where buckets were pruned the entry of
    ``bucket_rows`` at the place of b in ``buckets``, found by ``bucket_slots``; ``bucket_flags`` says in a bit whether
    there is one. ``rows`` (R, D) and ``out`` (L - 1 or L, D) are float32, ``left`` and ``right`` (2L - 1,) the tree of the
    hierarchical softmax (empty for other losses), ``settings`` as in ``SETTINGS``.
    """

    SETTINGS: ClassVar = ("smallest", "largest", "buckets", "word_ngrams", "loss", "n_words", "end_row", "pruned")

    labels: tuple[str, ...]
    settings: NDArray[np.int64]
    words: NDArray[np.uint8]
    word_offsets: NDArray[np.int64]
    word_slots: NDArray[np.int32]
    buckets: NDArray[np.int32]
    bucket_rows: NDArray[np.int32]
    bucket_slots: NDArray[np.int32]
    bucket_flags: NDArray[np.uint8]
    rows: NDArray[np.float32]
    out: NDArray[np.float32]
    left: NDArray[np.int32]
    right: NDArray[np.int32]

    @property
    def arrays(self) -> tuple[Any, ...]:
        """Everything but the labels, in order."""
        return tuple(getattr(self, one.name) for one in fields(self)[1:])

    def save(self, folder: Path) -> None:
        """Leave it in ``folder`` as arrays that ``opened`` maps into memory; the labels last."""
        for one in fields(self)[1:]:
            with written_aside(folder / f"{one.name}.npy") as path, path.open("wb") as stream:
                np.save(stream, getattr(self, one.name))
        write_json(folder / "labels.json", list(self.labels))

    @classmethod
    def opened(cls, folder: Path) -> FastText:
        """What ``save`` left."""
        arrays = [np.load(folder / f"{one.name}.npy", mmap_mode="r") for one in fields(cls)[1:]]
        return cls(tuple(read_json(folder / "labels.json")), *map(_frozen, arrays))


def read(path: Path) -> FastText:
    """The classifier in a fastText file. Raises DataError for a file that is none, is cut short or is of another kind.

    Cost: 0.05 s for 1 MB; memory: the matrices as float32.
    """
    try:
        with path.open("rb") as stream:
            return _read(_Reader(path, stream, path.stat().st_size))
    except OSError as error:
        raise DataError(f"The fastText model {path} cannot be read ({error.strerror}). Correct its path.") from error


class _Reader:
    """Numbers of a stream, in order; refuses to read past its end."""

    def __init__(self, path: Path, stream: Any, size: int) -> None:
        self.path, self.stream, self.left = path, stream, size

    def take(self, count: int) -> bytes:
        if not 0 <= count <= self.left:
            raise DataError(f"{self.path} ends in the middle of the fastText model. Fetch it again.")
        self.left -= count
        content: bytes = self.stream.read(count)
        return content

    def numbers(self, form: str) -> tuple[Any, ...]:
        return struct.unpack("<" + form, self.take(struct.calcsize("<" + form)))

    def one(self, form: str) -> int:
        return int(self.numbers(form)[0])

    def array(self, kind: Any, count: int) -> NDArray[Any]:
        return np.frombuffer(self.take(count * np.dtype(kind).itemsize), dtype=kind)


def _read(given: _Reader) -> FastText:
    if given.left < 8 or given.one("i") != _MAGIC:
        raise DataError(f"{given.path} is no fastText model (its first four bytes say so). Name a .bin or .ftz file.")
    version = given.one("i")
    if version not in _VERSIONS:
        raise DataError(f"{given.path} is a fastText model of format {version}; only 11 and 12 can be read.")
    _, _, _, _, _, word_ngrams, loss, kind, buckets, smallest, largest, _, _ = given.numbers("12id")
    if kind != _SUPERVISED or loss not in (HIERARCHICAL, NEGATIVE, SOFTMAX, ONE_VS_ALL):
        raise DataError(f"{given.path} holds word vectors, no classifier. Name a model trained with labels.")
    largest = 0 if version == 11 else largest
    _, n_words, n_labels, _, kept = given.numbers("iiiqq")
    entries = [_entry(given) for _ in range(n_words + n_labels)]
    prune = given.array("<i4", 2 * max(kept, 0)).reshape(-1, 2)
    order = np.argsort(prune[:, 0])
    ids, places = prune[order, 0], prune[order, 1] + n_words
    quantized = given.one("?")
    rows = _quantized(given) if quantized else _dense(given)
    quantized_out = given.one("?")
    out = _quantized(given) if quantized and quantized_out else _dense(given)
    words = [name for name, _ in entries[:n_words]]
    end = words.index(_END_OF_LINE) if _END_OF_LINE in words else -1
    left, right = _tree([count for _, count in entries[n_words:]]) if loss == HIERARCHICAL else _tree([])
    settings = (smallest, largest, max(buckets, 1), word_ngrams, loss, n_words, end, (kept > 0) - (kept < 0))
    labels = tuple(name.decode("utf-8", "replace").removeprefix(_LABEL) for name, _ in entries[n_words:])
    made = (settings, *_vocabulary(words), *_buckets(ids, places), rows, out, left, right)
    kinds = ("i8", "u1", "i8", "i4", "i4", "i4", "i4", "u1", "f4", "f4", "i4", "i4")
    return FastText(labels, *(_frozen(np.ascontiguousarray(a, k)) for a, k in zip(made, kinds, strict=True)))


def _entry(given: _Reader) -> tuple[bytes, int]:
    """A word or label and how often it was seen."""
    name = bytearray()
    while (byte := given.take(1)) != b"\0":
        name += byte
    count, _ = given.numbers("qb")
    return bytes(name), count


def _dense(given: _Reader) -> NDArray[np.float32]:
    rows, columns = given.numbers("qq")
    return given.array("<f4", rows * columns).reshape(rows, columns)


def _quantized(given: _Reader) -> NDArray[np.float32]:
    """Product quantization: a row is its norm times the centroids that its codes name."""
    has_norms = given.one("?")
    rows, columns, size = given.numbers("qqi")
    codes = given.array("u1", size).reshape(rows, -1)
    row = _centroids(given)
    values = np.concatenate([row[part][codes[:, part]] for part in range(codes.shape[1])], axis=1)
    if has_norms:
        norms = given.array("u1", rows)
        values = _centroids(given)[0][norms] * values
    return values[:, :columns]


def _centroids(given: _Reader) -> list[NDArray[np.float32]]:
    """Per part of a row its 256 centroids, ``(256, width)``; only the last part may be narrower."""
    dim, parts, width, last = given.numbers("4i")
    values, out = given.array("<f4", dim * 256), []
    for part in range(parts):
        wide = last if part == parts - 1 else width
        out.append(values[part * 256 * width :][: 256 * wide].reshape(256, wide))
    return out


def _tree(counts: list[int]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Children of every node of the Huffman tree over labels sorted by falling count; leaves have -1."""
    size = len(counts)
    left, right = np.full((2, max(2 * size - 1, 0)), -1, dtype=np.int32)
    weights = [*counts, *[10**15] * max(size - 1, 0)]
    leaf, node = size - 1, size
    for new in range(size, 2 * size - 1):
        chosen = []
        for _ in range(2):
            if leaf >= 0 and weights[leaf] < weights[node]:
                chosen.append(leaf)
                leaf -= 1
            else:
                chosen.append(node)
                node += 1
        left[new], right[new] = chosen
        weights[new] = weights[chosen[0]] + weights[chosen[1]]
    return left, right


def _vocabulary(words: list[bytes]) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int32]]:
    from mixwright.curate.fasttext_kernels import enter_words

    offsets = np.zeros(len(words) + 1, dtype=np.int64)
    np.cumsum([len(word) for word in words], out=offsets[1:])
    content = np.frombuffer(b"".join(words), dtype=np.uint8)
    slots = np.full(1 << (2 * len(words) + 1).bit_length(), -1, dtype=np.int32)
    enter_words(_frozen(content), _frozen(offsets), slots)
    return content, offsets, slots


def _buckets(ids: NDArray[Any], places: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    from mixwright.curate.fasttext_kernels import enter_numbers

    flags = np.zeros((int(ids.max(initial=0)) >> 3) + 1, dtype=np.uint8)
    np.bitwise_or.at(flags, ids >> 3, (1 << (ids & 7)).astype(np.uint8))
    slots = np.full(1 << (2 * len(ids) + 1).bit_length(), -1, dtype=np.int32)
    ids = np.ascontiguousarray(ids, np.int32)
    enter_numbers(_frozen(ids), slots)
    return ids, places, slots, flags


def _frozen(values: NDArray[Any]) -> NDArray[Any]:
    """A read-only view: kernels are compiled once for arrays in memory and mapped ones."""
    view = values.view(np.ndarray)
    view.flags.writeable = False
    return view
