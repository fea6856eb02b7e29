"""The ledger: one line for every dropped row, with everything it fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mixwright.core.document import document_id
from mixwright.curate.rules import UNREADABLE
from mixwright.store.documents import Unreadable

if TYPE_CHECKING:
    import pyarrow as pa

Floats = NDArray[np.float64]
Places = NDArray[np.int64]


def line_schema() -> pa.Schema:
    """The columns of ``ledger/<order>.parquet``: a line for every dropped row.

    ``row`` counts from 1 within ``path``; ``rules``, ``values`` (null: the rule has no number) and ``thresholds`` go in step
    and name everything the row fails, in the order of the waterfall. ``duplicate_of`` is the id of the kept row that a
    duplicate repeats, ``cluster`` the id of the row that its cluster is named after, ``similarity`` their exact Jaccard.
    """
    import pyarrow as pa

    names = pa.dictionary(pa.int32(), pa.string())
    return pa.schema(
        [
            ("id", pa.string()),
            ("source", names),
            ("domain", names),
            ("path", names),
            ("row", pa.int64()),
            ("rules", pa.list_(pa.string())),
            ("values", pa.list_(pa.float64())),
            ("thresholds", pa.list_(pa.string())),
            ("duplicate_of", pa.string()),
            ("cluster", pa.string()),
            ("similarity", pa.float64()),
            ("detail", pa.string()),
        ]
    )


@dataclass(frozen=True)
class Failures:
    """The rows of a shard that fail one rule: ``rows`` (k,) places among its readable rows, ascending and distinct.

    ``values`` (k,) are the numbers they have, None where the rule has no number; ``texts[threshold[i]]`` is what the number
    of row i had to be.
    """

    rule: str
    rows: Places
    values: Floats | None
    texts: tuple[str, ...]
    threshold: NDArray[np.int32]

    @classmethod
    def of(cls, rule: str, rows: Places, values: Floats | None = None, threshold: str = "") -> Failures:
        """Failures that share one threshold."""
        return cls(rule, rows, values, (threshold,), np.zeros(len(rows), dtype=np.int32))


@dataclass(frozen=True)
class Twins:
    """What the duplicates among a shard's rows repeat: ``rows`` (k,) ascending places among its readable rows, with the ids of
    the kept rows and of their clusters (k,), and their similarity (k,), 1 for equal texts."""

    rows: Places
    kept: pa.Array
    cluster: pa.Array
    similarity: Floats


def duplicates(table: pa.Table, thresholds: Mapping[str, str]) -> tuple[list[Failures], Twins]:
    """What ``dedup.keep.drops`` drops among the rows of one shard (``table`` holds that shard's lines alone), as failures
    and twins; ``thresholds`` says for each rule what the similarity had to be (``< 0.8``)."""

    rows, similarity = table["index"].to_numpy(), table["similarity"].to_numpy()
    names = np.array(table["rule"].to_pylist(), dtype=object)
    found = []
    for rule, threshold in thresholds.items():
        mine = names == rule
        if mine.any():
            found.append(Failures.of(rule, rows[mine], similarity[mine] if threshold else None, threshold))
    kept, cluster = (table[name].combine_chunks() for name in ("kept", "cluster"))
    return found, Twins(rows, kept, cluster, np.asarray(similarity, np.float64))


def dropped_rows(failures: Sequence[Failures]) -> Places:
    """The rows that fail anything, ascending."""
    rows = [one.rows for one in failures]
    return np.unique(np.concatenate(rows)) if rows else np.zeros(0, dtype=np.int64)


def ledger_table(
    rows: pa.Table,
    failures: Sequence[Failures],
    *,
    source: str,
    domain: str,
    twins: Twins | None = None,
    details: Mapping[int, str] | None = None,
) -> pa.Table:
    """The ledger's lines for the dropped readable rows of a shard, in reading order.

    ``rows`` are all readable rows of the shard (columns ``id``, ``path``, ``row``), ``failures`` everything they fail in the
    order of the waterfall, ``details`` what a person should read beside some. Cost: about 0.3 microseconds a failure.
    """
    import pyarrow as pa

    places = dropped_rows(failures)
    found = rows.select(["id", "path", "row"]).take(pa.array(places))
    lists = _lists(places, failures)
    count = len(places)
    columns = {
        "id": found["id"], "source": _same(source, count), "domain": _same(domain, count), "path": found["path"],
        "row": found["row"], **lists, **_twins(places, twins),
        "detail": pa.array([(details or {}).get(int(row), "") for row in places] if details else pa.repeat("", count)),
    }  # fmt: skip
    return pa.table(columns).cast(line_schema())


def _lists(places: Places, failures: Sequence[Failures]) -> dict[str, pa.Array]:
    """``rules``, ``values`` and ``thresholds`` of the dropped rows."""
    import pyarrow as pa

    at = [np.searchsorted(places, one.rows) for one in failures]
    count = np.zeros(len(places), dtype=np.int64)
    for rows in at:
        count[rows] += 1
    offsets = np.concatenate([[0], np.cumsum(count)])
    filled, total = offsets[:-1].copy(), int(offsets[-1])
    rule, text = np.zeros(total, dtype=np.int32), np.zeros(total, dtype=np.int32)
    value, null = np.full(total, np.nan), np.zeros(total, dtype=bool)
    texts: list[str] = []
    for number, (one, rows) in enumerate(zip(failures, at, strict=True)):
        cells = filled[rows]
        filled[rows] += 1
        rule[cells], text[cells] = number, one.threshold + len(texts)
        texts += one.texts
        if one.values is None:
            null[cells] = True
        else:
            value[cells] = one.values
    names = pa.array([one.rule for one in failures], pa.string())
    ends = pa.array(offsets.astype(np.int32))
    return {
        "rules": pa.ListArray.from_arrays(ends, names.take(pa.array(rule))),
        "values": pa.ListArray.from_arrays(ends, pa.array(value, mask=null)),
        "thresholds": pa.ListArray.from_arrays(ends, pa.array(texts, pa.string()).take(pa.array(text))),
    }


def _twins(places: Places, twins: Twins | None) -> dict[str, pa.Array]:
    import pyarrow as pa

    if twins is None or not len(twins.rows):
        nulls = {"duplicate_of": pa.string(), "cluster": pa.string(), "similarity": pa.float64()}
        return {name: pa.nulls(len(places), kind) for name, kind in nulls.items()}
    at = np.searchsorted(twins.rows, places)
    at[at == len(twins.rows)] = 0
    index = pa.array(at, mask=twins.rows[at] != places)
    similarity = pa.array(twins.similarity, mask=np.isnan(twins.similarity))
    return {
        "duplicate_of": twins.kept.take(index), "cluster": twins.cluster.take(index), "similarity": similarity.take(index)
    }  # fmt: skip


def unreadable_table(unreadable: Sequence[Unreadable], *, source: str, domain: str) -> pa.Table:
    """The ledger's lines for the unreadable rows of a shard, in order."""
    import pyarrow as pa

    count = len(unreadable)
    columns = {
        "id": pa.array([document_id(source, bad.path, bad.row - 1) for bad in unreadable], pa.string()),
        "source": _same(source, count),
        "domain": _same(domain, count),
        "path": pa.array([bad.path for bad in unreadable], pa.string()),
        "row": pa.array([bad.row for bad in unreadable], pa.int64()),
        "rules": pa.array([[UNREADABLE]] * count, pa.list_(pa.string())),
        "values": pa.array([[None]] * count, pa.list_(pa.float64())),
        "thresholds": pa.array([[""]] * count, pa.list_(pa.string())),
        **_twins(np.zeros(count, dtype=np.int64), None),
        "detail": pa.array([bad.reason for bad in unreadable], pa.string()),
    }
    return pa.table(columns).cast(line_schema())


def _same(text: str, count: int) -> pa.Array:
    import pyarrow as pa

    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, dtype=np.int32)), pa.array([text]))
