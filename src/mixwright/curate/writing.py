"""The task of one shard once everything is decided: read it again, write what is kept, and the ledger of the rest.

It leaves ``documents/<domain>/<order>.parquet`` (of a target ``targets/<name>/<order>.parquet``) if a row is kept,
``ledger/<order>.parquet`` if one is dropped, and its marker ``.work/written/<order>.json`` last.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mixwright.core.document import document_id
from mixwright.curate import ledger as account
from mixwright.curate.decontaminate import words
from mixwright.curate.first_decisions import Decided
from mixwright.curate.ledger import Failure, Ledger, Place
from mixwright.curate.measuring import BATCH, WORK, Measured
from mixwright.curate.rules import UNREADABLE, Options
from mixwright.curate.shards import Shard
from mixwright.engine.task import Progress
from mixwright.store.artifact import write_json
from mixwright.store.documents import document_schema
from mixwright.store.parquet import BatchWriter, TableWriter

if TYPE_CHECKING:
    import pyarrow as pa

    from mixwright.store.batches import RowBatch


@dataclass(frozen=True)
class Curated:
    """The folder that curation writes."""

    folder: Path

    def documents(self, shard: Shard) -> Path:
        """What a shard keeps; no file where that is nothing."""
        kind, name = ("targets", shard.source) if shard.target else ("documents", shard.domain)
        return self.folder / kind / name / f"{shard.order:05d}.parquet"

    def ledger(self, shard: Shard) -> Path:
        """Why the rest went; no file where nothing did."""
        return self.folder / "ledger" / f"{shard.order:05d}.parquet"

    def decided(self, shard: Shard) -> Path:
        """What the writing task is told."""
        return self.folder / WORK / "decided" / f"{shard.order:05d}"

    def marker(self, shard: Shard) -> Path:
        """What it counted; the file is there when the shard is written to the end."""
        return self.folder / WORK / "written" / f"{shard.order:05d}.json"


def write_shard(
    progress: Progress, *, shard: Mapping[str, Any], measured: str, folder: str, options: Mapping[str, Any]
) -> dict[str, Any]:
    """Write the documents and the ledger of one shard; returns what was kept and dropped, and samples of it.

    Memory: a decoded row group or the largest row, a few batches, and two row groups of documents.
    """
    part, place, out = Shard.from_dict(shard), Measured(Path(measured)), Curated(Path(folder))
    decided, rules = Decided.load(out.decided(part), part), Options.from_dict(options)
    told = Ledger(rules.waterfall)
    facts = _write_documents(part, out, decided, rules.target_ngram, progress)
    shown = facts.pop("shown")
    facts["dropped"] = _write_ledger(part, place, out, decided, rules, told, shown)
    facts |= {"by_rule": told.counts(told.dropped, part.source), "first": told.counts(told.first, part.source)}
    facts["samples"] = told.samples
    write_json(out.marker(part), facts)
    return facts


def _write_documents(part: Shard, out: Curated, decided: Decided, ngram: int, progress: Progress) -> dict[str, Any]:
    import pyarrow as pa

    schema = _schema(part)
    ids, hashes, kept = pa.array(decided.ids, pa.string()), pa.array(decided.hashes, pa.string()), decided.kept
    documents = size = at = 0
    shown: list[tuple[str, str]] = []
    with contextlib.ExitStack() as stack:
        writer: BatchWriter | None = None
        for batch in part.batches(BATCH):
            rows = slice(at, at + len(batch.rows))
            at += len(batch.rows)
            mine = kept[rows]
            for row in np.flatnonzero(~mine).tolist():
                text, met = batch.texts[row].as_py(), decided.shared.get(rows.start + row)
                detail = (
                    f"the first {ngram} words it shares with training text: {words(text, met[1], ngram)}" if met else ""
                )
                shown.append((text[:120], detail))
            if mine.any():
                if writer is None:
                    writer = stack.enter_context(
                        BatchWriter(out.documents(part), schema, repeated=["source", "domain", "meta"])
                    )
                chosen = _columns(part, batch, schema, ids[rows.start : rows.stop], hashes[rows.start : rows.stop])
                chosen = chosen.filter(pa.array(mine))
                writer.add(chosen)
                documents += chosen.num_rows
                size += int(np.diff(_offsets(chosen.column("text"))).sum())
            progress(min(1.0, at / max(1, len(kept))), documents=documents, megabytes=round(size / 1e6, 1))
    return {"documents": documents, "bytes": size, "shown": shown}


def _schema(part: Shard) -> pa.Schema:
    import pyarrow as pa

    schema = document_schema()
    for name in ("prompt", "response") if part.given.response is not None else ():
        schema = schema.append(pa.field(name, pa.large_string()))
    return schema


def _columns(part: Shard, batch: RowBatch, schema: pa.Schema, ids: pa.Array, hashes: pa.Array) -> pa.RecordBatch:
    import pyarrow as pa

    def same(value: str) -> pa.Array:
        return pa.repeat(pa.scalar(value, pa.string()), len(batch.rows))

    values = {
        "id": ids, "source": same(part.source), "domain": same(part.domain), "text": batch.texts, "text_hash": hashes,
        "meta": batch.meta, "prompt": batch.prompts, "response": batch.responses,
    }  # fmt: skip
    return pa.record_batch([values[field.name].cast(field.type) for field in schema], schema=schema)


def _offsets(texts: pa.Array) -> Any:
    return np.frombuffer(texts.buffers()[1], dtype=np.int64)[texts.offset : texts.offset + len(texts) + 1]


def _write_ledger(
    part: Shard,
    place: Measured,
    out: Curated,
    decided: Decided,
    rules: Options,
    told: Ledger,
    shown: list[tuple[str, str]],
) -> int:
    lines: Iterator[dict[str, Any]] = _lines(part, place, decided, rules, told, shown)
    first = next(lines, None)
    if first is None:
        return 0
    with TableWriter(out.ledger(part), account.schema()) as writer:
        writer.add(first, 200)
        for line in lines:
            writer.add(line, 200)
    return writer.rows


def _lines(
    part: Shard, place: Measured, decided: Decided, rules: Options, told: Ledger, shown: list[tuple[str, str]]
) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet as pq

    if place.unreadable(part).is_file():
        for bad in pq.read_table(place.unreadable(part)).to_pylist():
            where = Place(document_id(part.source, bad["path"], bad["row"] - 1), part.source, bad["path"], bad["row"])
            yield told.line(where, [Failure(UNREADABLE, None, "")], detail=bad["reason"], start=bad["start"])
    dropped = np.flatnonzero(~decided.kept)
    table = pq.read_table(place.signals(part), columns=["id", "path", "row"]).take(dropped)
    for row, line, (start, detail) in zip(dropped.tolist(), table.to_pylist(), shown, strict=True):
        failures = [Failure(*failure) for failure in decided.failures(row, rules)]
        where = Place(line["id"], part.source, line["path"], line["row"])
        yield told.line(where, failures, duplicate_of=decided.duplicate_of.get(row), detail=detail, start=start)
