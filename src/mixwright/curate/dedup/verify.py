"""Exact Jaccard similarity of candidate pairs, from the sets of shingle hashes of the rows that stand in any.

Two different shingles have one hash with probability 2^-64: among all pairs of two texts of a million words each, 5 in 10^8.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mixwright.core.errors import DataError
from mixwright.curate.dedup.candidates import rows_of
from mixwright.curate.dedup.rows import Rows
from mixwright.curate.dedup.signing import Hashes, shingle_sets
from mixwright.curate.signal import Floats
from mixwright.curate.texts import Counts, Texts
from mixwright.store.artifact import written_aside

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Sets:
    """The shingle sets of some rows of a shard: ``rows`` (m,) ascending, counted from 0 in the shard; set i is
    ``hashes[begins[i]:begins[i + 1]]``, ascending."""

    rows: Counts
    begins: Counts
    hashes: Hashes

    def find(self, rows: Counts) -> Counts:
        """Which set is that of each row, all of which must be here."""
        found: Counts = np.searchsorted(self.rows, rows)
        return found

    @classmethod
    def open(cls, path: Path) -> Sets:
        """What ``write_sets`` wrote, the hashes mapped into memory."""
        with np.load(path.with_suffix(".npz")) as held:
            rows, begins = held["rows"], held["begins"]
        if not begins[-1]:
            return cls(rows, begins, np.zeros(0, dtype=np.uint64))
        # copied where it is written to, which is nowhere: compiled code has one version, for arrays that are not read-only
        mapped = np.memmap(path, dtype="<u8", mode="c", shape=(int(begins[-1]),))
        return cls(rows, begins, np.asarray(mapped))


def write_sets(path: Path, batches: Iterable[pa.Array], wanted: NDArray[np.bool_], ngram: int) -> None:
    """Write the sets of the ``wanted`` rows (n,) of a shard, whose texts come in ``batches`` of Arrow strings; the ``.npz``
    beside comes last.

    Raises DataError if there are not n texts. Memory: a batch. Cost: that of finding words, of the wanted texts alone.
    """
    import pyarrow as pa

    lengths = [np.zeros(1, dtype=np.int64)]
    at = 0
    with written_aside(path) as aside, aside.open("wb") as stream:
        for texts in batches:
            chosen = np.flatnonzero(wanted[at : at + len(texts)])
            at += len(texts)
            if len(chosen):
                hashes, begins = shingle_sets(Texts(texts.take(pa.array(chosen))), ngram)
                lengths.append(np.diff(begins))
                stream.write(hashes.astype("<u8", copy=False).data)
        if at != len(wanted):
            raise DataError(
                f"{path.stem}: {len(wanted)} rows were measured, but {at} were read again: a file has changed."
            )
    with written_aside(path.with_suffix(".npz")) as aside, aside.open("wb") as out:
        np.savez(out, rows=np.flatnonzero(wanted), begins=np.cumsum(np.concatenate(lengths)))


def verify(pairs: Hashes, rows: Rows, sets: Callable[[int], Sets], threshold: float) -> tuple[Hashes, Floats]:
    """Of ascending ``pairs`` those of at least ``threshold``, and the Jaccard similarity of each. ``sets`` opens a shard's.

    Memory: 40 bytes a pair, and the pages in use of two shards' sets at a time.
    """
    from mixwright.curate.dedup.kernels import jaccards

    lower, higher = rows_of(pairs)
    one, other = rows.shards(lower), rows.shards(higher)
    found = np.zeros(len(pairs))
    order = np.lexsort((other, one))
    cuts = np.flatnonzero((np.diff(one[order]) != 0) | (np.diff(other[order]) != 0)) + 1
    opened: tuple[int, Sets] | None = None
    for start, stop in itertools.pairwise([0, *cuts.tolist(), len(pairs)]):
        inside = order[start:stop]
        if not len(inside):
            continue
        a, b = int(one[inside[0]]), int(other[inside[0]])
        if opened is None or opened[0] != a:
            opened = a, sets(a)
        left = opened[1]
        right = left if a == b else sets(b)
        places = np.stack(
            [left.find(lower[inside] - rows.starts[a]), right.find(higher[inside] - rows.starts[b])], axis=1
        )
        found[inside] = jaccards(left.hashes, left.begins, right.hashes, right.begins, places, threshold)
    kept = found >= threshold
    return pairs[kept], found[kept]
