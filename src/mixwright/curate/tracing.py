"""What became of one row, and why: read from the measured numbers and the ledger; no index is kept.

Cost: the ids of all rows are read once, 32 bytes each, and the columns of the rules for the row's domain.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mixwright.core.errors import DataError, StudyError
from mixwright.curate.deciding import Resolved, Verdict, resolve
from mixwright.curate.rules import Options
from mixwright.curate.tables import SignalTable, find_tables

if TYPE_CHECKING:
    import pyarrow as pa

#: rows named where a question fits several, and digits of an id below which nothing is guessed
_NAMED, _SHORTEST = 5, 4


@dataclass(frozen=True)
class Place:
    """A row: ``order`` is its shard's number in the whole, ``index`` its place among the shard's readable rows (-1: it cannot
    be read), ``row`` counts from 1 within ``path``."""

    id: str
    source: str
    domain: str
    path: str
    row: int
    order: int
    index: int


@dataclass(frozen=True)
class Judgement:
    """One rule on one row: ``percentile`` is where the number stands among those of the row's domain (0 to 100, ties half)."""

    rule: str
    value: float | None
    threshold: str
    kept: bool
    percentile: float | None = None


@dataclass(frozen=True)
class Twin:
    """The kept row that a duplicate repeats; ``place`` is None where it is of an earlier run, ``members`` are the rows of this
    run that were dropped in the same cluster."""

    id: str
    place: Place | None
    similarity: float | None
    cluster: str
    members: int


@dataclass(frozen=True)
class Answer:
    """What became of a row. ``repeated`` counts the rows that were dropped as its duplicates."""

    place: Place
    kept: bool
    judgements: tuple[Judgement, ...]
    detail: str = ""
    twin: Twin | None = None
    repeated: int = 0


@dataclass(frozen=True)
class Traces:
    """A finished curation: the folder it wrote, and the one in which it was measured."""

    curated: Path
    measured: Path
    options: Options

    @cached_property
    def tables(self) -> list[SignalTable]:
        """The signals of every shard, in order."""
        return find_tables(self.measured)

    @cached_property
    def resolved(self) -> Resolved:
        """The rules with numbers for percentiles."""
        return resolve(self.options, self.tables)

    def answer(self, wanted: str) -> Answer:
        """What became of the row that ``wanted`` names: an id, the beginning of one, or ``path:row``.

        Raises StudyError, in one sentence, where it names none (with the nearest ids) or several.
        """
        place = self.find(wanted)
        line = self._line(place)
        judgements = [] if place.index < 0 else self._judged(place)
        if line is not None:
            known = {judgement.rule for judgement in judgements}
            failed = zip(line["rules"], line["values"], line["thresholds"], strict=True)
            judgements += [Judgement(rule, value, text, False) for rule, value, text in failed if rule not in known]
        twin = self._twin(line) if line is not None and line["duplicate_of"] else None
        detail, repeated = (line or {}).get("detail", ""), self._count("duplicate_of", place.id)
        return Answer(place, line is None, tuple(judgements), detail, twin, repeated)

    def find(self, wanted: str) -> Place:
        """The one row that ``wanted`` names; raises as ``answer``."""
        named = re.fullmatch(r"(?P<path>.+):(?P<row>\d+)", wanted)
        prefix = wanted.lower()
        if not named and not re.fullmatch(r"[0-9a-f]{1,32}", prefix):
            raise StudyError(f"{wanted!r} is neither an id (32 hex digits, or the first of them) nor path:row.")
        found = list(self._at(named["path"], int(named["row"])) if named else self._starting(prefix))
        if len({place.id for place in found}) > 1:
            ids = ", ".join(f"{place.id} ({place.source} {place.path}:{place.row})" for place in found[:_NAMED])
            more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
            raise StudyError(f"{wanted!r} fits {len(found)} rows: {ids}{more}; give more of the id.")
        if not found:
            raise StudyError(f"No row is {wanted!r}.{'' if named else self._nearest(prefix)}")
        return found[0]

    # ---- rows --------------------------------------------------------------------------------------------------------

    def _starting(self, prefix: str) -> Iterator[Place]:
        import pyarrow.compute as pc

        yield from self._places(["id"], lambda table: pc.starts_with(table["id"], prefix))

    def _at(self, path: str, row: int) -> Iterator[Place]:
        import pyarrow.compute as pc

        def mine(table: pa.Table) -> Any:
            names = table["path"].cast("string")
            same = pc.or_(pc.equal(names, path), pc.ends_with(names, f"/{path}"))
            return pc.and_(same, pc.equal(table["row"], row))

        yield from self._places(["path", "row"], mine)

    def _places(self, columns: Sequence[str], which: Any) -> Iterator[Place]:
        """Rows of all shards for which ``which`` of a table with ``columns`` is true: readable ones, then the others."""
        for order, table in enumerate(self.tables):
            read = _read(table.files[0], columns)
            for index in np.flatnonzero(which(read).to_numpy()):
                yield self._place(order, int(index))
        for order, table in enumerate(self.tables):
            lines = self._lines(order, ["id", "path", "row", "rules"])
            if lines is None or not len(lines):
                continue
            for line in lines.filter(which(lines)).to_pylist():
                if line["rules"] == ["unreadable"]:
                    yield Place(line["id"], table.source, table.domain, line["path"], line["row"], order, -1)

    def _place(self, order: int, index: int) -> Place:
        table = self.tables[order]
        (line,) = _read(table.files[0], ["id", "path", "row"]).slice(index, 1).to_pylist()
        return Place(line["id"], table.source, table.domain, line["path"], line["row"], order, index)

    def _nearest(self, prefix: str) -> str:
        """A sentence on the rows whose ids begin as ``prefix`` does, for as long as any does."""
        for length in range(len(prefix) - 1, _SHORTEST - 1, -1):
            found = [place for place, _ in zip(self._starting(prefix[:length]), range(_NAMED), strict=False)]
            if found:
                return f" Ids that begin with {prefix[:length]!r}: {', '.join(place.id for place in found)}."
        return ""

    # ---- what became of one --------------------------------------------------------------------------------------------

    def _judged(self, place: Place) -> list[Judgement]:
        table = self.tables[place.order]
        columns = {name: values[place.index : place.index + 1] for name, values in
                   table.columns(self.options.columns_needed).items()}  # fmt: skip
        verdicts = self.resolved.told(columns, table.domain, target=table.source if table.target else "")
        signals = {rule["rule"]: rule["signal"] for rule in self.options.told()}
        shown: dict[str, Judgement] = {}
        for verdict in verdicts:
            judgement = self._judgement(verdict, signals[verdict.rule], table.group)
            before = shown.get(verdict.rule)
            if before is None or (before.kept and not verdict.kept):
                shown[verdict.rule] = judgement
            elif before.kept and verdict.kept and before.value is not None and before.value == verdict.value:
                shown[verdict.rule] = Judgement(
                    before.rule, before.value, f"{before.threshold}, {verdict.threshold}", True, before.percentile
                )
        return list(shown.values())

    def _judgement(self, verdict: Verdict, signal: str | None, group: str) -> Judgement:
        percentile = None
        if signal is not None and verdict.value is not None and verdict.value == verdict.value:
            percentile = self._percentile(signal, verdict.value, group)
        return Judgement(verdict.rule, verdict.value, verdict.threshold, verdict.kept, percentile)

    def _percentile(self, signal: str, value: float, group: str) -> float | None:
        below = same = count = 0
        for table in self.tables:
            if table.group == group:
                values = table.columns([signal])[signal]
                below += int((values < value).sum())
                same += int((values == value).sum())
                count += int((values == values).sum())
        return 100 * (below + same / 2) / count if count else None

    def _twin(self, line: dict[str, Any]) -> Twin:
        place = next((place for place in self._starting(line["duplicate_of"])), None)
        members = self._count("cluster", line["cluster"])
        return Twin(line["duplicate_of"], place, line["similarity"], line["cluster"], members)

    # ---- the ledger ----------------------------------------------------------------------------------------------------

    def _lines(self, order: int, columns: Sequence[str] | None = None) -> pa.Table | None:
        path = self.curated / "ledger" / f"{order:05d}.parquet"
        return _read(path, columns) if path.is_file() else None

    def _line(self, place: Place) -> dict[str, Any] | None:
        import pyarrow.compute as pc

        lines = self._lines(place.order)
        found = lines.filter(pc.equal(lines["id"], place.id)).to_pylist() if lines is not None else []
        return found[0] if found else None

    def _count(self, column: str, value: str) -> int:
        """The lines of the whole ledger with a value."""
        import pyarrow.compute as pc

        every = (self._lines(order, [column]) for order in range(len(self.tables)))
        return sum(pc.sum(pc.equal(lines[column], value)).as_py() or 0 for lines in every if lines is not None)


def _read(path: Path, columns: Sequence[str] | None) -> pa.Table:
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path).read(columns=columns, use_threads=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is no readable Parquet file ({error}); curate again.") from error
