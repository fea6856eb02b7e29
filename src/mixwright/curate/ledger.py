"""The ledger: one line for every dropped row, and the account that nothing is missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

#: dropped rows shown per rule
_SAMPLES = 3
#: characters of a text that are shown
_SHOWN = 120


def schema() -> pa.Schema:
    """The columns of ``ledger.parquet``; ``row`` counts from 1; ``rules``, ``values``, ``thresholds`` go in step."""
    import pyarrow as pa

    return pa.schema(
        [
            ("id", pa.string()),
            ("source", pa.string()),
            ("path", pa.string()),
            ("row", pa.int64()),
            ("rules", pa.list_(pa.string())),
            ("values", pa.list_(pa.float64())),
            ("thresholds", pa.list_(pa.string())),
            ("duplicate_of", pa.string()),
            ("detail", pa.string()),
        ]
    )


@dataclass(frozen=True)
class Failure:
    """One rule a row fails: the value it has (None: the rule has no number) and the threshold it had to keep."""

    rule: str
    value: float | None
    threshold: str


@dataclass(frozen=True)
class Place:
    """Where a row stands: ``row`` counts from 1 within ``path``, a file of ``source``."""

    id: str
    source: str
    path: str
    row: int


@dataclass
class Ledger:
    """Collects what is dropped and counts it; ``rules`` is the order of the waterfall."""

    rules: Sequence[str]
    dropped: dict[str, Counter[str]] = field(default_factory=dict)
    first: dict[str, Counter[str]] = field(default_factory=dict)
    samples: list[dict[str, Any]] = field(default_factory=list)
    _shown: Counter[str] = field(default_factory=Counter)

    def line(
        self,
        place: Place,
        failures: Sequence[Failure],
        *,
        duplicate_of: str | None = None,
        detail: str = "",
        start: str = "",
    ) -> dict[str, Any]:
        """The ledger's line for a dropped row, counted; ``failures`` are all it fails, in the waterfall's order."""
        names = [failure.rule for failure in failures]
        self.dropped.setdefault(place.source, Counter()).update(names)
        self.first.setdefault(place.source, Counter())[names[0]] += 1
        line = {
            "id": place.id,
            "source": place.source,
            "path": place.path,
            "row": place.row,
            "rules": names,
            "values": [failure.value for failure in failures],
            "thresholds": [failure.threshold for failure in failures],
            "duplicate_of": duplicate_of,
            "detail": detail,
        }
        wanting = next((name for name in names if self._shown[name] < _SAMPLES), None)
        if wanting is not None:
            self._shown[wanting] += 1
            self.samples.append({**line, "start": start[:_SHOWN]})
        return line

    def counts(self, which: Mapping[str, Counter[str]], source: str) -> dict[str, int]:
        """Documents per rule of one source, every rule named, in the order of the waterfall."""
        found = which.get(source, Counter())
        return {rule: int(found[rule]) for rule in self.rules}


def check_balance(ledger: Path, kept: Sequence[Path], read: Mapping[str, int], counted: Ledger) -> None:
    """Compare the written files with what was read: in = kept + dropped, per source and per rule, no row twice.

    ``kept`` are the Parquet files of documents, ``read`` the rows read per source. Raises AssertionError with the first
    figure that does not agree: that is a fault of mixwright, not of the data.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    lines = pq.read_table(ledger, columns=["id", "source", "rules"])
    rows = [pq.read_table(path, columns=["id", "source"]) for path in kept]
    ids = pa.concat_tables([lines.select(["id"]), *(table.select(["id"]) for table in rows)])["id"]
    _equal("distinct rows", len(pc.unique(ids)), len(ids))
    dropped = Counter(lines["source"].to_pylist())
    remaining = Counter(source for table in rows for source in table["source"].to_pylist())
    for source, count in read.items():
        _equal(f"{source}: kept + dropped", remaining[source] + dropped[source], count)
    _equal("sources", set(dropped) | set(remaining), {source for source, count in read.items() if count})
    entering = dict(read)
    by_rule: Counter[tuple[str, str]] = Counter()
    by_first: Counter[tuple[str, str]] = Counter()
    for source, rules in zip(lines["source"].to_pylist(), lines["rules"].to_pylist(), strict=True):
        by_rule.update((source, rule) for rule in rules)
        by_first[source, rules[0]] += 1
    for source in read:
        for rule in counted.rules:
            _equal(f"{source}: failing {rule}", by_rule[source, rule], counted.counts(counted.dropped, source)[rule])
            _equal(f"{source}: dropped at {rule}", by_first[source, rule], counted.counts(counted.first, source)[rule])
            entering[source] -= by_first[source, rule]
        _equal(f"{source}: left after all rules", entering[source], remaining[source])


def _equal(what: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise AssertionError(f"The ledger does not balance: {what} is {found}, but {wanted} was counted.")
