"""The task of one shard once everything is decided: read it again, write what is kept, and the ledger of the rest.

It leaves ``documents/<domain>/<order>.parquet`` (of a target ``targets/<name>/<order>.parquet``) if a row is kept,
``ledger/<order>.parquet`` if one is dropped, and its marker ``.work/written/<order>.json`` last.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mixwright.core.errors import DataError
from mixwright.curate.accounting import SAMPLES, SHOWN, Account, samples_wanted
from mixwright.curate.decontaminate import words
from mixwright.curate.dedup.lines import Cuts, told
from mixwright.curate.dedup.substring import Spans
from mixwright.curate.hashing import hexes, text_hashes
from mixwright.curate.judging import Judged, columns_of, rules_of, table_of
from mixwright.curate.ledger import (
    Failures,
    Twins,
    dropped_rows,
    duplicates,
    ledger_table,
    line_schema,
    unreadable_table,
)
from mixwright.curate.measuring import WORK, Measured
from mixwright.curate.rules import DUPLICATE, EARLIER, LINES, NEAR, SEMANTIC, SUBSTRING, UNREADABLE, Options
from mixwright.curate.shards import BATCH, Shard
from mixwright.curate.text_copy import TextCopy
from mixwright.curate.texts import Texts
from mixwright.engine.task import Progress
from mixwright.store.artifact import write_atomic
from mixwright.store.documents import Unreadable, document_schema
from mixwright.store.parquet import BatchWriter
from mixwright.store.row_batch import RowBatch, offsets

if TYPE_CHECKING:
    import pyarrow as pa

#: columns of documents with few different values
_REPEATED = ("source", "domain", "meta")


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

    @property
    def judged(self) -> Judged:
        """What writing tasks are told."""
        return Judged(self.folder / WORK / "judged")

    def marker(self, shard: Shard) -> Path:
        """What it counted; the file is there when the shard is written to the end."""
        return self.folder / WORK / "written" / f"{shard.order:05d}.json"


def write_shard(
    progress: Progress, *, shard: Mapping[str, Any], measured: str, folder: str, copy: str = ""
) -> dict[str, Any]:
    """Write the documents and the ledger of one shard; returns how many it ``kept``, and ``lines`` of the ledger.

    Texts come from the ``copy`` (text_copy.py) where there is one and nothing else of a row is needed with its text.

    Its marker holds the shard's ``account`` beside.

    Memory: a decoded row group or the largest row, a few batches, and two row groups of documents.
    """
    part, place, out = Shard.from_dict(shard), Measured(Path(measured)), Curated(Path(folder))
    verdict = Verdict.of(part, place, out.judged)
    texts = _Texts(part, verdict, progress, Path(copy) if copy else None)
    documents = texts.write(out.documents(part))
    account = Account.of_shard(
        verdict.options.waterfall, part.source, part.domain, verdict.sizes, verdict.failures, len(verdict.unreadable)
    )
    lines = _write_ledger(out.ledger(part), verdict, texts, account)
    facts = {"kept": documents, "lines": lines, "cut": texts.cut, "account": account.to_dict()}
    write_atomic(out.marker(part), json.dumps(facts))  # many numbers: in one line it is ten times as fast
    return {"kept": documents, "lines": lines}


@dataclass(frozen=True)
class Verdict:
    """What is decided about the n readable rows of a shard (``rows``: their ``id``, ``path``, ``row``, ``text_hash``).

    ``failures`` is everything they fail, ``twins`` what the duplicates among them repeat, ``met`` row -> first word of the
    first n-gram it shares with training text; ``sizes`` (n,) bytes of their texts, ``cuts`` the lines
    or substrings to cut out of what is kept.
    """

    shard: Shard
    options: Options
    rows: pa.Table
    sizes: NDArray[np.int64]
    failures: Sequence[Failures]
    twins: Twins | None
    met: Mapping[int, int]
    unreadable: Sequence[Unreadable]
    cuts: Cuts | Spans | None

    @classmethod
    def of(cls, shard: Shard, place: Measured, judged: Judged) -> Verdict:
        """From what was measured and judged."""
        import pyarrow.parquet as pq

        resolved, table = rules_of(judged), table_of(place, shard)
        options = resolved.options
        with pq.ParquetFile(place.signals(shard)) as file:
            rows = file.read(columns=["id", "path", "row", "bytes", "text_hash"], use_threads=False)
        target = shard.source if shard.target else ""
        failures = resolved.failures(columns_of(resolved, table), shard.domain, target=target) if resolved.rules else []
        shared, met = _shared(judged.shared(shard), options)
        repeated, twins = _repeated(judged.duplicates(shard), options)
        sizes, unreadable = rows["bytes"].to_numpy(), _unreadable(place.unreadable(shard))
        emptied = _emptied(judged.emptied(shard), LINES if options.dedup.lines else SUBSTRING)
        order = {rule: number for number, rule in enumerate(options.waterfall)}
        every = sorted([*failures, *shared, *repeated, *emptied], key=lambda one: order[one.rule])
        cuts: Cuts | Spans | None = Cuts.of(judged.cuts, shard.order) if options.dedup.lines else None
        if options.dedup.substring:
            cuts = Spans.of(judged.cuts, shard.order)
        return cls(shard, options, rows, sizes, every, twins, met, unreadable, cuts)

    @property
    def kept(self) -> NDArray[np.bool_]:
        """Which rows are kept, ``(n,)``."""
        kept = np.ones(len(self.sizes), dtype=bool)
        kept[dropped_rows(self.failures)] = False
        return kept


def _shared(path: Path, options: Options) -> tuple[list[Failures], dict[int, int]]:
    import pyarrow.parquet as pq

    if not path.is_file():
        return [], {}
    table = pq.read_table(path)
    rows = table["row"].to_numpy()
    failures = Failures.of(options.shares, rows, table["count"].to_numpy().astype(np.float64), "<= 0")
    return [failures], dict(zip(rows.tolist(), table["word"].to_pylist(), strict=True))


def _repeated(path: Path, options: Options) -> tuple[list[Failures], Twins | None]:
    import pyarrow.parquet as pq

    if not path.is_file():
        return [], None
    near, semantic = options.dedup.for_near, options.dedup.for_semantic
    thresholds = {
        DUPLICATE: "",
        NEAR: f"< {near.threshold:.10g}" if near else "",
        SEMANTIC: f"< {semantic.threshold:.10g}" if semantic else "",
        EARLIER: "",
    }
    return duplicates(pq.read_table(path), thresholds)


def _emptied(path: Path, rule: str) -> list[Failures]:
    return [Failures.of(rule, np.load(path))] if path.is_file() else []


def _unreadable(path: Path) -> list[Unreadable]:
    import pyarrow.parquet as pq

    return [Unreadable(**row) for row in pq.read_table(path).to_pylist()] if path.is_file() else []


@dataclass
class _Texts:
    """A shard read again: what is kept is written, and of what is dropped the starts of samples and shared words noted."""

    shard: Shard
    verdict: Verdict
    progress: Progress
    copy: Path | None = None
    wanted: dict[str, list[int]] = field(default_factory=dict)
    starts: dict[int, str] = field(default_factory=dict)
    details: dict[int, str] = field(default_factory=dict)
    cut: Counter[str] = field(default_factory=lambda: Counter(documents=0, characters=0))

    @cached_property
    def _held(self) -> TextCopy | None:
        """The copy of the texts, if there is one and it is enough."""
        enough = self.shard.meta_apart and self.verdict.cuts is None
        return TextCopy.find(self.copy, len(self.verdict.sizes)) if enough else None

    def write(self, path: Path) -> int:
        """Write the documents; returns how many. Raises DataError if other rows are read than were measured."""
        kept, verdict = self.verdict.kept, self.verdict
        self.wanted = samples_wanted(verdict.failures, verdict.rows["id"])
        shown = np.array(sorted({row for rows in self.wanted.values() for row in rows} | set(verdict.met)), np.int64)
        if not kept.any() and not len(shown):
            return 0
        schema = _schema(self.shard)
        with contextlib.ExitStack() as stack:
            writer = stack.enter_context(BatchWriter(path, schema, repeated=_REPEATED)) if kept.any() else None
            for at, batch in self._batches(kept, shown):
                stop = at + len(batch)
                mine = kept[at:stop]
                if writer is not None and mine.any():
                    hashes = verdict.rows["text_hash"].slice(at, len(mine)).combine_chunks()
                    left, hashes = self._without_cuts(batch, at, mine, hashes)
                    ids = verdict.rows["id"].slice(at, len(mine)).combine_chunks()
                    made = _documents(self.shard, left, ids, hashes, mine, schema)
                    self._check_texts(made)
                    writer.add(made)
                for row in shown[np.searchsorted(shown, at) : np.searchsorted(shown, stop)].tolist():
                    self._note(row, batch.texts[row - at].as_py())
                self.progress(min(1.0, stop / max(1, len(kept))), documents=stop)
        return int(kept.sum())

    def _batches(self, kept: NDArray[np.bool_], shown: NDArray[np.int64]) -> Iterator[tuple[int, RowBatch]]:
        """The rows that are kept or shown, and others beside, with the row of the first of each batch."""
        if self._held is not None:
            yield from self._copied(self._held, kept, shown)
            return
        at = 0
        for batch in self.shard.batches(BATCH, meta=True):
            self._check(batch, at, at + len(batch))
            yield at, batch
            at += len(batch)
        self._check(None, at, len(kept))

    def _copied(
        self, held: TextCopy, kept: NDArray[np.bool_], shown: NDArray[np.int64]
    ) -> Iterator[tuple[int, RowBatch]]:
        """The same from the copy; ``meta`` is that of the kept rows, and null of others."""
        import pyarrow as pa

        rows, wanted = self.verdict.rows, kept.copy()
        wanted[shown] = True
        numbers, paths = rows["row"].to_numpy(), rows["path"].combine_chunks()
        meta = _Feed(self.shard.meta(paths.take(pa.array(np.flatnonzero(kept))), numbers[kept]))
        for at, texts in held.spans(np.flatnonzero(wanted), BATCH):
            mine = kept[at : at + len(texts)]
            own = np.where(mine, np.cumsum(mine) - 1, -1)
            told = meta.next(int(mine.sum())).take(pa.array(own, mask=own < 0))
            yield at, RowBatch("", numbers[at : at + len(texts)], texts, told)

    def _without_cuts(
        self, batch: RowBatch, at: int, kept: NDArray[np.bool_], hashes: pa.Array
    ) -> tuple[RowBatch, pa.Array]:
        """The batch without what is to be cut, and the hashes of its texts."""
        if self.verdict.cuts is None:
            return batch, hashes
        texts, gone = self.verdict.cuts.cut(batch.texts, at)
        if not gone.any():
            return batch, hashes
        self.cut.update(told(gone[kept]))
        return dataclasses.replace(batch, texts=texts), hexes(text_hashes(Texts(texts)))

    def _check(self, batch: RowBatch | None, at: int, stop: int) -> None:
        rows = self.verdict.rows
        if batch is not None and stop <= rows.num_rows:
            if not stop - at:
                return
            first, last = rows["row"][at].as_py(), rows["row"][stop - 1].as_py()
            same = np.array_equal(np.diff(offsets(batch.texts)), self.verdict.sizes[at:stop])
            if same and (first, last) == (batch.rows[0], batch.rows[-1]):
                return
        elif batch is None and at == stop:
            return
        raise DataError(
            f"{self.shard.name}: other rows are read than were measured, so a file has changed since. Run curate again."
        )

    def _check_texts(self, made: pa.RecordBatch) -> None:
        """Whether texts of a copy, which is not synced when it is written, are those that were measured."""
        if self._held is not None and not hexes(text_hashes(Texts(made["text"]))).equals(made["text_hash"]):
            raise DataError(
                f"{self._held.path} is damaged: its texts are not those that were measured. Remove it and run curate again."
            )

    def _note(self, row: int, text: str) -> None:
        self.starts[row] = text[:SHOWN]
        if row in self.verdict.met:
            n = self.verdict.options.target_ngram
            found = words(text, self.verdict.met[row], n)
            self.details[row] = f"the first {n} words it shares with training text: {found}"


class _Feed:
    """Arrays as they come, given out in other lengths. ``next`` raises DataError where they end too early."""

    def __init__(self, arrays: Iterator[pa.Array]) -> None:
        self._arrays = arrays
        self._left: list[pa.Array] = []

    def next(self, count: int) -> pa.Array:
        """The next ``count`` values."""
        import pyarrow as pa

        while sum(map(len, self._left)) < count:
            more = next(self._arrays, None)
            if more is None:
                raise DataError("A file has fewer rows than were measured, so it has changed since. Run curate again.")
            self._left.append(more)
        whole = pa.concat_arrays(self._left) if self._left else pa.array([], pa.large_string())
        self._left = [whole.slice(count)]
        return whole.slice(0, count)


def _schema(shard: Shard) -> pa.Schema:
    import pyarrow as pa

    schema = document_schema()
    for name in ("prompt", "response") if shard.given.response is not None else ():
        schema = schema.append(pa.field(name, pa.large_string()))
    return schema


def _documents(
    shard: Shard, batch: RowBatch, ids: pa.Array, hashes: pa.Array, kept: NDArray[np.bool_], schema: pa.Schema
) -> pa.RecordBatch:
    """The kept rows of a batch as documents."""
    import pyarrow as pa

    count = len(kept)
    values = {
        "id": ids, "text_hash": hashes,
        "source": pa.repeat(pa.scalar(shard.source, pa.string()), count),
        "domain": pa.repeat(pa.scalar(shard.domain, pa.string()), count),
        "text": batch.texts, "meta": batch.meta, "prompt": batch.prompts, "response": batch.responses,
    }  # fmt: skip
    made = pa.record_batch([values[one.name].cast(one.type) for one in schema], schema=schema)
    return made if kept.all() else made.filter(pa.array(kept))


def _write_ledger(path: Path, verdict: Verdict, texts: _Texts, account: Account) -> int:
    """Write the ledger's lines, offer samples to the account; returns how many lines."""
    import pyarrow as pa

    names = {"source": verdict.shard.source, "domain": verdict.shard.domain}
    bad = unreadable_table(verdict.unreadable, **names)
    rest = ledger_table(verdict.rows, verdict.failures, twins=verdict.twins, details=texts.details, **names)
    order = np.argsort(np.array(bad["id"].to_pylist(), dtype=str), kind="stable")[:SAMPLES].tolist()
    shown = [bad.slice(row, 1).to_pylist()[0] | {"start": verdict.unreadable[row].start} for row in order]
    account.show(UNREADABLE, shown)
    places = dropped_rows(verdict.failures)
    for rule, rows in texts.wanted.items():
        at = np.searchsorted(places, rows)
        lines = rest.take(pa.array(at)).to_pylist()
        account.show(rule, [line | {"start": texts.starts[row]} for row, line in zip(rows, lines, strict=True)])
    table = pa.concat_tables([bad, rest])
    if table.num_rows:
        with BatchWriter(path, line_schema(), repeated=["source", "domain", "path"]) as writer:
            for batch in table.unify_dictionaries().combine_chunks().to_batches():
                writer.add(batch)
    return int(table.num_rows)
