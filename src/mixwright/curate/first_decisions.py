"""What is decided from the measured numbers alone, until ``deciding.py`` does it: bounds, n-grams, equal texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mixwright.curate.decontaminate import HashSet
from mixwright.curate.dedup.exact import first_of_equals
from mixwright.curate.measuring import Measured
from mixwright.curate.rules import DUPLICATE, Options
from mixwright.curate.shards import Shard


@dataclass
class Decided:
    """What is decided about the rows of a shard."""

    shard: Shard
    ids: list[str]
    hashes: list[str]
    values: NDArray[np.float64]
    failing: NDArray[np.bool_]
    shared: dict[int, tuple[int, int]] = field(default_factory=dict)
    duplicate_of: dict[int, str] = field(default_factory=dict)

    @property
    def passing(self) -> NDArray[np.int64]:
        """Rows that fail nothing decided so far."""
        free = ~self.failing.any(axis=1)
        free[list(self.shared)] = False
        return np.flatnonzero(free)

    @property
    def kept(self) -> NDArray[np.bool_]:
        """Which rows are kept."""
        kept = ~self.failing.any(axis=1)
        kept[[*self.shared, *self.duplicate_of]] = False
        return kept

    def failures(self, row: int, options: Options) -> Iterator[tuple[str, float | None, str]]:
        """Rule, value, threshold of everything a row fails, in the order of the waterfall."""
        for at, (name, bounds) in enumerate(options.rules.items()):
            if self.failing[row, at]:
                value = float(self.values[row, at])
                yield name, value, bounds.broken(value)
        if row in self.shared:
            yield options.shares, float(self.shared[row][0]), "<= 0"
        if row in self.duplicate_of:
            yield DUPLICATE, None, ""

    @classmethod
    def load(cls, path: Path, shard: Shard) -> Decided:
        """What ``save`` wrote."""
        import pickle  # until deciding.py

        ids, hashes, values, failing, shared, twins = pickle.loads(path.read_bytes())  # noqa: S301
        return cls(shard, ids, hashes, values, failing, shared, twins)

    def save(self, path: Path) -> None:
        """Write it for the task that writes."""
        import pickle  # until deciding.py

        from mixwright.store.artifact import write_atomic

        parts = (self.ids, self.hashes, self.values, self.failing, self.shared, self.duplicate_of)
        write_atomic(path, pickle.dumps(parts))


def decide(place: Measured, shards: Sequence[Shard], options: Options) -> list[Decided]:
    """One ``Decided`` per shard."""
    import pyarrow.parquet as pq

    parts = []
    for shard in shards:
        table = pq.read_table(place.signals(shard), columns=["id", "text_hash", *options.rules])
        values: Mapping[str, NDArray[np.float64]] = {name: table[name].to_numpy() for name in options.rules}
        matrix = np.stack(list(values.values()), axis=1) if values else np.zeros((table.num_rows, 0))
        failing = options.failing(values, table.num_rows)
        parts.append(Decided(shard, table["id"].to_pylist(), table["text_hash"].to_pylist(), matrix, failing))
    training = HashSet.of(*(_grams(place, part) for part in parts if not part.shard.target))
    for part in parts:
        if part.shard.target and len(training.members) and place.grams(part.shard).is_file():
            table = pq.read_table(place.grams(part.shard))
            meets = training.has(table["gram"].to_numpy())
            rows, words = table["row"].to_numpy()[meets], table["word"].to_numpy()[meets]
            for row, word in zip(rows.tolist(), words.tolist(), strict=True):
                count, first = part.shared.get(row, (0, word))
                part.shared[row] = (count + 1, first)
    if options.dedup.exact:
        places = [(part, int(row)) for part in parts for row in part.passing]
        first = first_of_equals([part.hashes[row] for part, row in places])
        for number in np.flatnonzero(first != np.arange(len(places))):
            part, row = places[number]
            kept, kept_row = places[first[number]]
            part.duplicate_of[row] = kept.ids[kept_row]
    return parts


def _grams(place: Measured, part: Decided) -> NDArray[np.uint64]:
    """The targets' n-grams that rows of a shard that pass hold."""
    import pyarrow.parquet as pq

    if not place.grams(part.shard).is_file():
        return np.zeros(0, dtype=np.uint64)
    table = pq.read_table(place.grams(part.shard), columns=["row", "gram"])
    free = ~part.failing.any(axis=1)
    found: NDArray[np.uint64] = table["gram"].to_numpy()[free[table["row"].to_numpy()]]
    return found
