"""One pass over a domain's documents before they are encoded: sizes, what is held out, and where shards begin.

Documents lie in one Parquet file, or in the files of a folder in the order of their names; how many files and row groups
there are changes nothing.

Notation
    n        documents of all files
    keys     their text hashes, ``(n, 2)`` uint64, the first half of the 128 bits first

Memory is some 50 bytes a document while scanning; afterwards the arrays lie on disk and are mapped.
"""

from __future__ import annotations

import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixwright.engine.task import Progress
from mixwright.store.artifact import read_json, write_json, written_aside
from mixwright.text.tokenizer import Options

Keys = NDArray[np.uint64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

#: the greatest part of a domain's bytes that is held out
_MOST_HELD_OUT = 0.2
#: the file that is written last
_GROUPS = "groups.json"


def parts_of(documents: Path) -> tuple[Path, ...]:
    """The Parquet files of ``documents``, a file or a folder, in order; a folder that is missing has none."""
    if documents.is_file():
        return (documents,)
    return tuple(sorted(path for path in documents.glob("*.parquet") if not path.name.startswith(".")))


@dataclass(frozen=True)
class Scan:
    """What is known of the documents of ``files``: ``keys (n, 2)``, ``sizes (n,)`` in bytes, ``apart (n,)``: held out.

    ``groups`` are the documents of each row group of each file.
    """

    files: tuple[Path, ...]
    keys: Keys
    sizes: Ints
    apart: Flags
    groups: tuple[tuple[int, ...], ...]

    @classmethod
    def open(cls, folder: Path) -> Scan:
        """Open what ``scan_documents`` left."""
        found = read_json(folder / _GROUPS)
        keys, sizes, apart = (
            np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in ("keys", "sizes", "apart")
        )
        return cls(tuple(map(Path, found["files"])), keys, sizes, apart, tuple(map(tuple, found["groups"])))

    @staticmethod
    def is_there(folder: Path) -> bool:
        """Whether the scan in ``folder`` was finished."""
        return (folder / _GROUPS).is_file()

    @property
    def bytes(self) -> int:
        """UTF-8 bytes of all texts."""
        return int(self.sizes.sum())

    def shards(self, size: int) -> list[tuple[int, int]]:
        """Documents of each shard, from, to (exclusive): as many as bring it to ``size`` bytes of text; at least one shard."""
        ends = np.cumsum(self.sizes)
        bounds, first = [], 0
        while first < len(ends):
            before = int(ends[first - 1]) if first else 0
            last = min(int(np.searchsorted(ends, before + size)) + 1, len(ends))
            bounds.append((first, last))
            first = last
        return bounds or [(0, 0)]

    def texts(self, first: int, last: int) -> Iterator[str]:
        """The texts of the documents ``first`` to ``last`` (exclusive), in order."""
        import pyarrow.parquet as pq

        for file, group, begins, count in self._groups():
            if begins < last and begins + count > first:
                with pq.ParquetFile(file) as table:
                    at = begins
                    for batch in table.iter_batches(batch_size=256, row_groups=[group], columns=["text"]):
                        mine = batch.slice(max(0, first - at), max(0, min(last, at + batch.num_rows) - max(first, at)))
                        yield from mine["text"].to_pylist()
                        at += batch.num_rows

    def _groups(self) -> Iterator[tuple[Path, int, int, int]]:
        """Every row group: its file, number in it, first document and number of documents."""
        begins = 0
        for file, groups in zip(self.files, self.groups, strict=True):
            for number, count in enumerate(groups):
                yield file, number, begins, count
                begins += count

    def by_hash(self, rows: Ints) -> Ints:
        """``rows`` in the order of their text hashes, equal ones in that of the file."""
        keys = self.keys[rows]
        return np.asarray(rows[np.lexsort((rows, keys[:, 1], keys[:, 0]))], dtype=np.int64)

    def sample(self, size: int) -> Iterator[str]:
        """Training text of about ``size`` bytes: the documents of the greatest hashes in the file's order, one cut."""
        chosen = self.by_hash(np.flatnonzero(~self.apart))[::-1]
        before = np.cumsum(self.sizes[chosen]) - self.sizes[chosen]
        chosen, room = chosen[before < size], size - before[before < size]
        left = dict(zip(chosen.tolist(), room.tolist(), strict=True))
        for _, _, row, count in self._groups():
            if any(row <= at < row + count for at in left):
                for at, text in enumerate(self.texts(row, row + count), start=row):
                    if at in left:
                        yield text.encode()[: left[at]].decode("utf-8", "ignore")


def scan_documents(
    progress: Progress, *, documents: str, out: str, options: Mapping[str, Any], all_apart: bool
) -> None:
    """Read the hashes and sizes of documents (see ``parts_of``) and decide what is held out (``all_apart``: all of it)."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    keys, sizes = array.array("Q"), array.array("q")
    files, groups = parts_of(Path(documents)), []
    for done, file in enumerate(files):
        with pq.ParquetFile(file) as table:
            groups.append([table.metadata.row_group(number).num_rows for number in range(table.num_row_groups)])
            for number in range(table.num_row_groups):
                for batch in table.iter_batches(batch_size=1024, row_groups=[number], columns=["text_hash", "text"]):
                    keys.frombytes(as_keys(batch["text_hash"].to_pylist()).tobytes())
                    sizes.frombytes(np.asarray(pc.binary_length(batch["text"]), dtype=np.int64).tobytes())
                within = (number + 1) / (table.num_row_groups + 1)
                progress((done + within) / len(files), documents=len(sizes))
    found = np.array(keys, dtype=np.uint64).reshape(-1, 2)
    lengths = np.array(sizes, dtype=np.int64)
    apart = np.ones(len(lengths), dtype=bool) if all_apart else held_out(found, lengths, Options(**options))
    folder = Path(out)
    for name, values in (("keys", found), ("sizes", lengths), ("apart", apart)):
        with written_aside(folder / f"{name}.npy") as path, path.open("wb") as stream:
            np.save(stream, values)
    write_json(folder / _GROUPS, {"files": [str(file) for file in files], "groups": groups})


def as_keys(hashes: Sequence[str]) -> Keys:
    """Text hashes of 32 hex digits as numbers ``(n, 2)``, which sort as the digits do."""
    return np.frombuffer(bytes.fromhex("".join(hashes)), dtype=">u8").astype(np.uint64).reshape(-1, 2)


def held_out(keys: Keys, sizes: Ints, options: Options) -> Flags:
    """Which documents are held out, ``(n,)``: those of the smallest text hashes, equal texts together.

    ``keys (n, 2)`` are their hashes, ``sizes (n,)`` their bytes. A text that would make it more than a fifth of the bytes
    is passed over; if that leaves none, the smallest text is held out, unless there is only one.
    """
    order = np.lexsort((keys[:, 1], keys[:, 0]))
    fresh = np.ones(len(order), dtype=bool)
    fresh[1:] = (keys[order[1:]] != keys[order[:-1]]).any(axis=1)
    text = np.cumsum(fresh) - 1
    whole = np.bincount(text, weights=sizes[order], minlength=int(fresh.sum())).astype(np.int64)
    most = _MOST_HELD_OUT * float(sizes.sum())
    goal = min(max(options.held_out * float(sizes.sum()), options.held_out_bytes), most)
    chosen = np.zeros(len(whole), dtype=bool)
    total = 0
    for number, size in enumerate(whole.tolist()):
        if total >= goal:
            break
        if total + size <= most:
            chosen[number] = True
            total += size
    if not chosen.any() and len(whole) > 1:
        chosen[int(np.argmin(whole))] = True
    out = np.zeros(len(order), dtype=bool)
    out[order] = chosen[text]
    return out
