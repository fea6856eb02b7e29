"""What is decided over all shards at once, from the measured numbers alone, and what each writing task is told of it.

    thresholds    which rows of each shard keep every rule on signals (``deciding.py``)
    targets       which rows of a target share n-grams with training text that keeps them
    duplicates    which of the rows that pass both repeat one that is kept (``dedup/``)

N rows of all shards, in order; a shard's own are n. Memory: 64 bytes a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mixwright.core.errors import DataError
from mixwright.curate.accounting import told_duplicates
from mixwright.curate.deciding import Resolved, resolve
from mixwright.curate.decontaminate import HashSet
from mixwright.curate.dedup.folder import save_array
from mixwright.curate.dedup.options import Options as Dedup
from mixwright.curate.measuring import Measured
from mixwright.curate.rules import Options
from mixwright.curate.shards import Shard
from mixwright.curate.tables import SignalTable
from mixwright.engine.task import Engine
from mixwright.store.artifact import read_json, write_json, written_aside

if TYPE_CHECKING:
    import pyarrow as pa

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Judged:
    """The folder in which writing tasks find what is decided: the rules with their numbers, and two tables a shard."""

    folder: Path

    @property
    def rules(self) -> Path:
        """``deciding.Resolved`` as JSON."""
        return self.folder / "rules.json"

    @property
    def told(self) -> Path:
        """``accounting.told_duplicates`` as JSON; no file where none were looked for."""
        return self.folder / "duplicates.json"

    def duplicates(self, shard: Shard) -> Path:
        """``index`` (row of the shard), ``rule``, ``kept``, ``similarity``, ``cluster`` of each duplicate; none: no file."""
        return self.folder / f"{shard.order:05d}.duplicates.parquet"

    @property
    def cuts(self) -> Path:
        """The lines (dedup/lines.py) or substrings (dedup/substring.py) to cut out of what is kept."""
        return self.folder / "cuts"

    def emptied(self, shard: Shard) -> Path:
        """Rows of which cutting leaves nothing; none: no file."""
        return self.folder / f"{shard.order:05d}.emptied.npy"

    def shared(self, shard: Shard) -> Path:
        """``row``, ``count`` of shared n-grams, first ``word`` of the first, of rows of a target; none: no file."""
        return self.folder / f"{shard.order:05d}.shared.parquet"


def judge(
    place: Measured, shards: Sequence[Shard], options: Options, out: Judged, *, engine: Engine, memory: int
) -> Resolved:
    """Decide and write what ``out`` names; returns the rules with their numbers. ``memory`` is for what is cut out alone."""
    tables = [table_of(place, shard) for shard in shards]
    resolved = resolve(options, tables)
    passing = [_passing(resolved, table) for table in tables]
    _mark_shared(place, shards, passing, out)
    if looks_for_duplicates(options):
        _mark_duplicates(place, shards, passing, options, out)
    if options.dedup.lines or options.dedup.substring:
        _mark_cuts(place, shards, passing, options.dedup, out, engine, memory)
    write_json(out.rules, resolved.to_dict())
    return resolved


def rules_of(out: Judged) -> Resolved:
    """The rules that ``judge`` wrote, kept for the next shard."""
    return _rules_of(out.rules, out.rules.stat().st_mtime_ns)


@lru_cache(maxsize=1)
def _rules_of(path: Path, written: int) -> Resolved:
    del written  # another time: other rules
    return Resolved.from_dict(read_json(path))


def looks_for_duplicates(options: Options) -> bool:
    """Whether any kind of duplicates is dropped."""
    dedup = options.dedup
    return bool(dedup.exact or dedup.near or dedup.lines or dedup.substring or dedup.semantic or dedup.against)


def table_of(place: Measured, shard: Shard) -> SignalTable:
    """The signals of a shard, with what models scored."""
    own = place.signals(shard)
    scored = sorted(own.parent.glob(f"{own.stem}.*.parquet"))
    return SignalTable((own, *scored), shard.source, shard.domain, shard.target)


def columns_of(resolved: Resolved, table: SignalTable) -> dict[str, NDArray[np.float64]]:
    """The columns that deciding needs; one of zeros where it needs none, since they say how many rows there are."""
    return table.columns(resolved.options.columns_needed) or {"": np.zeros(table.rows)}


def _passing(resolved: Resolved, table: SignalTable) -> Flags:
    """Which rows keep every rule on signals, ``(n,)``."""
    if not resolved.rules:
        return np.ones(table.rows, dtype=bool)
    target = table.source if table.target else ""
    return ~resolved.decide(columns_of(resolved, table), table.domain, target=target).any()


def _mark_shared(place: Measured, shards: Sequence[Shard], passing: list[Flags], out: Judged) -> None:
    """Write which rows of targets share n-grams with training text that passes, and take them out of ``passing``."""
    import pyarrow as pa

    training = HashSet.of(
        *(_grams(place, shard, keep) for shard, keep in zip(shards, passing, strict=True) if not shard.target)
    )
    for shard, keep in zip(shards, passing, strict=True):
        if not (shard.target and len(training.members) and place.grams(shard).is_file()):
            continue
        table = _read(place.grams(shard))
        meets = training.has(table["gram"].to_numpy())
        rows, words = table["row"].to_numpy()[meets], table["word"].to_numpy()[meets]
        found, first, count = np.unique(rows, return_index=True, return_counts=True)
        if len(found):
            _write(out.shared(shard), pa.table({"row": found, "count": count, "word": words[first]}))
            keep[found] = False


def _grams(place: Measured, shard: Shard, keep: Flags) -> NDArray[np.uint64]:
    """The targets' n-grams that the rows of a shard that pass hold."""
    if not place.grams(shard).is_file():
        return np.zeros(0, dtype=np.uint64)
    table = _read(place.grams(shard))
    found: NDArray[np.uint64] = table["gram"].to_numpy()[keep[table["row"].to_numpy()]]
    return found


def _mark_duplicates(
    place: Measured, shards: Sequence[Shard], passing: Sequence[Flags], options: Options, out: Judged
) -> None:
    """Write which rows that pass repeat one that is kept, a table a shard, and take them out of ``passing``."""
    from mixwright.curate.dedup.stage import dropped

    table = dropped(place.dedup, passing, options.dedup)
    write_json(out.told, told_duplicates(table))
    orders = table["order"].to_numpy()
    for shard in shards:
        start, stop = np.searchsorted(orders, [shard.order, shard.order + 1]).tolist()
        if stop > start:
            _write(out.duplicates(shard), table.slice(start, stop - start))
            passing[shard.order][table["index"].to_numpy()[start:stop]] = False


def _mark_cuts(
    place: Measured, shards: Sequence[Shard], passing: Sequence[Flags], dedup: Dedup, out: Judged, engine: Engine,
    memory: int,
) -> None:  # fmt: skip
    """Find the lines or substrings to cut out of what is kept of plain training text, and write which rows that empties.
    Targets and instruction rows, whose halves stand beside the text, stay whole."""
    from mixwright.curate.dedup.lines import find_cuts
    from mixwright.curate.dedup.substring import find_spans

    whole = [keep & (not shard.target and shard.given.response is None) for shard, keep in
             zip(shards, passing, strict=True)]  # fmt: skip
    emptied: Sequence[NDArray[np.int64]] = []
    if dedup.for_lines:
        noted = [place.lines(shard) for shard in shards]
        emptied = find_cuts(place.dedup, noted, whole, out.cuts, dedup.for_lines, engine=engine, memory=memory)
    elif dedup.for_substring:
        noted = [place.windows(shard) for shard in shards]
        emptied = find_spans(place.dedup, noted, whole, out.cuts, dedup.for_substring, engine=engine, memory=memory)
    for shard, rows in zip(shards, emptied, strict=True):
        if len(rows):
            save_array(out.emptied(shard), rows)


def _read(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path).read(columns=columns, use_threads=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is no readable Parquet file ({error}); remove its folder and curate again.") from error


def _write(path: Path, table: pa.Table) -> None:
    import pyarrow.parquet as pq

    with written_aside(path) as aside:
        pq.write_table(table, aside, compression="zstd", compression_level=1)
