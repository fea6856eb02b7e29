"""Exact Jaccard similarity of candidate pairs, from the sets of shingle hashes of the rows that stand in any.

Two different shingles have one hash with probability 2^-64: among all pairs of two texts of a million words each, 5 in 10^8.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mixwright.curate.dedup.candidates import by_shards, rows_of
from mixwright.curate.dedup.rows import Rows
from mixwright.curate.dedup.signing import Hashes, Sketches, shingle_sets
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


def write_sets(
    path: Path, batches: Iterable[tuple[int, pa.Array]], wanted: NDArray[np.bool_], ngram: int
) -> None:  # fmt: skip
    """Write the sets of the ``wanted`` rows (n,) of a shard, which stand in ``batches``: the row of the first text, and texts
    as Arrow strings. The ``.npz`` beside comes last. Memory: a batch. Cost: that of finding words, of the wanted texts alone.
    """
    import pyarrow as pa

    lengths = [np.zeros(1, dtype=np.int64)]
    with written_aside(path) as aside, aside.open("wb") as stream:
        for at, texts in batches:
            chosen = np.flatnonzero(wanted[at : at + len(texts)])
            if len(chosen):
                hashes, begins = shingle_sets(Texts(texts.take(pa.array(chosen))), ngram)
                lengths.append(np.diff(begins))
                stream.write(hashes.astype("<u8", copy=False).data)
    with written_aside(path.with_suffix(".npz")) as aside, aside.open("wb") as out:
        np.savez(out, rows=np.flatnonzero(wanted), begins=np.cumsum(np.concatenate(lengths)))


def screen(pairs: Hashes, rows: Rows, sketches: Callable[[int], Sketches], threshold: float) -> Hashes:
    """Without pairs that are hardly at the threshold: each byte of two sketches agrees with probability J + (1 - J) / 256, and
    fewer than ``least_agreeing`` do. ``sketches`` opens a shard's. Memory: 40 bytes a pair. Cost: some 30 ns a pair.
    """
    from mixwright.curate.dedup.kernels import agreeing

    lower, higher = rows_of(pairs)
    kept = np.ones(len(pairs), dtype=bool)
    for a, b, group in by_shards(pairs, rows):
        left = sketches(a)
        right = left if a == b else sketches(b)
        places = np.stack([lower[group] - rows.starts[a], higher[group] - rows.starts[b]], axis=1)
        kept[group] = agreeing(left, right, places) >= least_agreeing(left.shape[1], threshold)
    return pairs[kept]


def least_agreeing(values: int, threshold: float) -> int:
    """So many bytes of sketches of ``values`` agree of a pair at the threshold, but for 3 in 10^5, fewer than bands miss: four
    standard deviations below what is expected."""
    agree = threshold + (1 - threshold) / 256
    return math.floor(values * agree - 4 * math.sqrt(values * agree * (1 - agree)) + 1e-9)


def verify(pairs: Hashes, rows: Rows, sets: Callable[[int], Sets], threshold: float) -> tuple[Hashes, Floats]:
    """Of ascending ``pairs`` those of at least ``threshold``, and the Jaccard similarity of each. ``sets`` opens a shard's.

    Memory: 40 bytes a pair, and the pages in use of two shards' sets at a time.
    """
    from mixwright.curate.dedup.kernels import jaccards

    lower, higher = rows_of(pairs)
    found = np.zeros(len(pairs))
    opened: tuple[int, Sets] | None = None
    for a, b, group in by_shards(pairs, rows):
        if opened is None or opened[0] != a:
            opened = a, sets(a)
        left = opened[1]
        right = left if a == b else sets(b)
        places = np.stack(
            [left.find(lower[group] - rows.starts[a]), right.find(higher[group] - rows.starts[b])], axis=1
        )
        found[group] = jaccards(left.hashes, left.begins, right.hashes, right.begins, places, threshold)
    kept = found >= threshold
    return pairs[kept], found[kept]
