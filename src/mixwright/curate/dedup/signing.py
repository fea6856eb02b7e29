"""MinHash band keys: texts that agree in one are looked at as near-duplicates.

keys  (n, bands) uint64; a key mixes the ``rows`` MinHash values of a band with the band's number
A key's bucket is its first ``_BITS`` bits: what one reduce task takes is a run of buckets.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from mixwright.core.errors import DataError
from mixwright.curate.dedup.options import Near
from mixwright.curate.hashing import Halves
from mixwright.curate.texts import Counts, Texts
from mixwright.store.artifact import written_aside

Hashes = NDArray[np.uint64]
Numbers = NDArray[np.uint32]
Sketches = NDArray[np.uint8]
#: keys are cut at multiples of 2^-12 of all keys: at 10^9 texts of 25 bands a bucket holds 6 million
_BITS = 12
BUCKETS = 1 << _BITS
#: the first of the four int64 before the content of a file of band keys: "mxband" and the form's number
_MAGIC = int.from_bytes(b"mxband1\0", "little")


@dataclass(frozen=True)
class Signed:
    """The band keys of texts, ``keys`` (n, bands); a byte of each of their MinHash values, ``sketches`` (n, bands * rows) uint8;
    and which have a word at all, ``any`` (n,): one without has no keys.

    Pure functions of each text's words, of ``near`` and of ``kernels.HASH_VERSION``.
    """

    keys: Hashes
    sketches: Sketches
    any: NDArray[np.bool_]


def sign(texts: Texts, near: Near) -> Signed:
    """Cost: 2.4 GB/s beside finding words."""
    from mixwright.curate.dedup import kernels

    first, hashes = texts.word_hashes
    keys, sketches, counts = kernels.band_keys(hashes, first, near.ngram, near.bands, near.rows)
    return Signed(keys, sketches, counts > 0)


def band_keys(texts: Texts, near: Near) -> tuple[Hashes, NDArray[np.bool_]]:
    """``keys`` and ``any`` of ``sign``."""
    signed = sign(texts, near)
    return signed.keys, signed.any


def shingle_sets(texts: Texts, ngram: int) -> tuple[Hashes, Counts]:
    """The distinct shingle hashes of each text, ascending, back to back, and where those of each begin, ``(n + 1,)``.

    A shingle is ``ngram`` consecutive words; a text of fewer words has one, of all of them.
    """
    from mixwright.curate.dedup import kernels
    from mixwright.curate.dedup.sorting_kernels import distinct_ascending

    first, words = texts.word_hashes
    hashes, begins = kernels.all_shingles(words, first, ngram)
    held: tuple[Hashes, Counts] = distinct_ascending(hashes, begins)
    return held


class BandWriter:
    """Writes the band keys of a shard, and their sketches (``Bands``): ``add`` every batch in order, each readable row once.

    A context manager: the files are whole or not there. Memory: 12 bytes a band and 1 a value of each row. ``path`` None
    keeps them in ``entries`` alone.
    """

    def __init__(self, path: Path | None, near: Near) -> None:
        self._path, self._near = path, near
        self._keys: list[Hashes] = []
        self._rows: list[Numbers] = []
        self._sketches: list[Sketches] = []
        self.rows = 0

    def add(self, texts: Texts) -> None:
        """The rows of a batch."""
        signed = sign(texts, self._near)
        numbers = np.arange(self.rows, self.rows + len(texts), dtype=np.uint32)[signed.any]
        self._keys.append(signed.keys[signed.any].ravel())
        self._rows.append(np.repeat(numbers, self._near.bands))
        self._sketches.append(signed.sketches)
        self.rows += len(texts)

    def entries(self) -> tuple[Hashes, Numbers]:
        """All keys, ascending (equal ones by row), and the row of each."""
        from mixwright.curate.dedup.sorting_kernels import entries_ascending

        keys = np.concatenate([*self._keys, np.zeros(0, dtype=np.uint64)])
        rows = np.concatenate([*self._rows, np.zeros(0, dtype=np.uint32)])
        held: tuple[Hashes, Numbers] = entries_ascending(keys, rows)
        return held

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._path is not None:
            keys, rows = self.entries()
            with written_aside(_sketches(self._path)) as aside, aside.open("wb") as stream:
                for part in self._sketches:
                    stream.write(part.data)
            write_bands(self._path, keys, rows)


def _sketches(path: Path) -> Path:
    return path.with_name(f"{path.name}.sketches")


def write_bands(path: Path, keys: Hashes, rows: Numbers) -> None:
    """Ascending keys and the row of each, as ``Bands`` reads them."""
    from mixwright.curate.kernels import HASH_VERSION

    cuts = np.arange(1, BUCKETS, dtype=np.uint64) << np.uint64(64 - _BITS)
    offsets = np.concatenate([[0], np.searchsorted(keys, cuts), [len(keys)]]).astype("<i8")
    head = np.array([_MAGIC, HASH_VERSION, BUCKETS, len(keys)], dtype="<i8")
    with written_aside(path) as aside, aside.open("wb") as stream:
        for part in (head, offsets, keys.astype("<u8", copy=False), rows.astype("<u4", copy=False)):
            stream.write(part.data)


def write_once(path: Path, hashes: Hashes, rows: Numbers) -> None:
    """Hashes and the row of each in any order, written as ``write_bands`` does, each hash once a row."""
    from mixwright.curate.dedup.sorting_kernels import entries_ascending

    hashes, rows = entries_ascending(hashes, rows)
    once = np.ones(len(rows), dtype=bool)
    once[1:] = (hashes[1:] != hashes[:-1]) | (rows[1:] != rows[:-1])
    write_bands(path, hashes[once], rows[once])


@dataclass(frozen=True)
class Bands:
    """A file of band keys."""

    path: Path

    def read(self, start: int, stop: int) -> tuple[Hashes, Numbers]:
        """The entries of the buckets ``start`` to ``stop``: keys, ascending, and rows. Three reads, one file open.

        Raises DataError for a file that is none, is truncated, or was hashed by another version of mixwright.
        """
        with self._opened() as (handle, count):
            places = self._at(handle, 32 + 8 * start, stop - start + 1, "<i8")
            first, held = int(places[0]), int(places[-1] - places[0])
            begin = 32 + 8 * (BUCKETS + 1)
            keys = self._at(handle, begin + 8 * first, held, "<u8").astype(np.uint64)
            rows = self._at(handle, begin + 8 * count + 4 * first, held, "<u4").astype(np.uint32)
        return keys, rows

    def sketches(self, near: Near) -> Sketches:
        """The sketches of all its rows, ``(n, bands * rows)``, mapped into memory."""
        path, width = _sketches(self.path), near.bands * near.rows
        rows, rest = divmod(path.stat().st_size, width)
        if rest:
            raise DataError(f"{path} is truncated. Remove it and run the command again.")
        if not rows:
            return np.zeros((0, width), dtype=np.uint8)
        # copied where it is written to, which is nowhere: compiled code has one version, for arrays that are not read-only
        return np.asarray(np.memmap(path, dtype=np.uint8, mode="c", shape=(rows, width)))

    @property
    def count(self) -> int:
        """How many entries it holds."""
        with self._opened() as (_, count):
            return count

    @contextmanager
    def _opened(self) -> Iterator[tuple[int, int]]:
        from mixwright.curate.kernels import HASH_VERSION

        handle = os.open(self.path, os.O_RDONLY)
        try:
            head = np.frombuffer(os.pread(handle, 32, 0), dtype="<i8")
            if len(head) != 4 or head[0] != _MAGIC or head[2] != BUCKETS:
                raise DataError(f"{self.path} holds no band keys of this form. Remove it and run the command again.")
            if head[1] != HASH_VERSION:
                raise DataError(
                    f"{self.path} was hashed by version {head[1]} of the word hash, but this mixwright has version "
                    f"{HASH_VERSION}, so nothing can be compared with it. Build the index again with this mixwright."
                )
            yield handle, int(head[3])
        finally:
            os.close(handle)

    def _at(self, handle: int, place: int, count: int, kind: str) -> NDArray[np.generic]:
        size = count * np.dtype(kind).itemsize
        content = bytearray()
        while len(content) < size and (
            part := os.pread(handle, min(size - len(content), 1 << 30), place + len(content))
        ):
            content += part
        if len(content) < size:
            raise DataError(f"{self.path} is truncated. Remove it and run the command again.")
        return np.frombuffer(content, dtype=kind)


def ordered(hashes: Halves) -> Halves:
    """Hashes as pairs of numbers that compare as their hex digits do."""
    return hashes.astype("<u8", copy=False).byteswap()
