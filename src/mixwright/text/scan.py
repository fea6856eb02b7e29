"""One pass over a file of documents before it is encoded: sizes, what is held out, and where its shards begin.

Notation
    n        documents of the file
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


@dataclass(frozen=True)
class Scan:
    """What is known of the documents of ``file``: ``keys (n, 2)``, ``sizes (n,)`` in bytes, ``apart (n,)``: held out.

    ``groups`` are the documents of each of its row groups.
    """

    file: Path
    keys: Keys
    sizes: Ints
    apart: Flags
    groups: tuple[int, ...]

    @classmethod
    def open(cls, folder: Path) -> Scan:
        """Open what ``scan_documents`` left."""
        found = read_json(folder / _GROUPS)
        keys, sizes, apart = (
            np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in ("keys", "sizes", "apart")
        )
        return cls(Path(found["file"]), keys, sizes, apart, tuple(found["groups"]))

    @staticmethod
    def is_there(folder: Path) -> bool:
        """Whether the scan in ``folder`` was finished."""
        return (folder / _GROUPS).is_file()

    @property
    def bytes(self) -> int:
        """UTF-8 bytes of all texts."""
        return int(self.sizes.sum())

    def rows(self, first: int, last: int) -> tuple[int, int]:
        """The rows of the row groups ``first`` to ``last`` (exclusive): from, to (exclusive)."""
        return sum(self.groups[:first]), sum(self.groups[:last])

    def shards(self, size: int) -> list[tuple[int, int]]:
        """Row groups of each shard: as many as bring it to ``size`` bytes of text; at least one shard."""
        bounds, first, row, held = [], 0, 0, 0
        for number, count in enumerate(self.groups):
            held += int(self.sizes[row : row + count].sum())
            row += count
            if held >= size:
                bounds.append((first, number + 1))
                first, held = number + 1, 0
        return [*bounds, (first, len(self.groups))] if first < len(self.groups) or not bounds else bounds

    def texts(self, first: int, last: int) -> Iterator[str]:
        """The texts of the row groups ``first`` to ``last`` (exclusive), in order."""
        import pyarrow.parquet as pq

        with pq.ParquetFile(self.file) as table:
            for batch in table.iter_batches(batch_size=256, row_groups=list(range(first, last)), columns=["text"]):
                yield from batch["text"].to_pylist()

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
        row = 0
        for number, count in enumerate(self.groups):
            if any(row <= at < row + count for at in left):
                for at, text in enumerate(self.texts(number, number + 1), start=row):
                    if at in left:
                        yield text.encode()[: left[at]].decode("utf-8", "ignore")
            row += count


def scan_documents(
    progress: Progress, *, documents: str, out: str, options: Mapping[str, Any], all_apart: bool
) -> None:
    """Read the hashes and sizes of a Parquet file of documents and decide what is held out (``all_apart``: all of it)."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    keys, sizes = array.array("Q"), array.array("q")
    with pq.ParquetFile(documents) as table:
        groups = [table.metadata.row_group(number).num_rows for number in range(table.num_row_groups)]
        for number in range(table.num_row_groups):
            for batch in table.iter_batches(batch_size=1024, row_groups=[number], columns=["text_hash", "text"]):
                keys.frombytes(as_keys(batch["text_hash"].to_pylist()).tobytes())
                sizes.frombytes(np.asarray(pc.binary_length(batch["text"]), dtype=np.int64).tobytes())
            progress((number + 1) / (table.num_row_groups + 1), documents=len(sizes))
    found = np.array(keys, dtype=np.uint64).reshape(-1, 2)
    lengths = np.array(sizes, dtype=np.int64)
    apart = np.ones(len(lengths), dtype=bool) if all_apart else held_out(found, lengths, Options(**options))
    folder = Path(out)
    for name, values in (("keys", found), ("sizes", lengths), ("apart", apart)):
        with written_aside(folder / f"{name}.npy") as path, path.open("wb") as stream:
            np.save(stream, values)
    write_json(folder / _GROUPS, {"file": documents, "groups": groups})


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
