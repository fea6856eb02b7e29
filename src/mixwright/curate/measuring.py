"""The task of one shard: read every row, measure it in one pass, note what dedup and decontamination need.

What measuring leaves in its folder (a task leaves its marker last, ``measured.json`` comes when all shards are there):

    signals/<source>/<number>.parquet      a line per readable row, in reading order: id, path, row (from 1), bytes,
                                           text_hash, and every signal's columns
    unreadable/<source>/<number>.parquet   path, row, reason, start of each row that cannot be read; none: no file
    grams/<source>/<number>.parquet        n-grams of the targets that its rows hold (of a target: all): row (from 0 in
                                           the signals file), gram, word (the first, counted in the text); none: no file
    lines/<source>/<number>.lines, .npz    hashes of long lines, where repeated ones are to be cut out
    windows/<source>/<number>.windows, .npz    hashes of windows of words, where repeated ones are to be cut out
    dedup/                                 rows of equal text, pairs of similar ones (dedup/stage.py)
    measured.json                          shards and what was counted
    .work/                                 prepared/<signal>/, bands/<source>/<number>, targets.npy; of each shard that is
                                           measured shards/<source>/<number>.json
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mixwright.core.document import document_ids
from mixwright.curate.decontaminate import HashSet, ngrams
from mixwright.curate.dedup.fields import KeyWriter
from mixwright.curate.dedup.lines import LineWriter
from mixwright.curate.dedup.signing import BandWriter
from mixwright.curate.dedup.substring import MarkWriter
from mixwright.curate.entries import Entry
from mixwright.curate.hashing import hexes, text_hashes
from mixwright.curate.rewrites import rewriters
from mixwright.curate.rules import Options
from mixwright.curate.shards import BATCH, Shard
from mixwright.curate.signal import Floats, Signal
from mixwright.curate.text_copy import CopyWriter
from mixwright.curate.texts import Texts
from mixwright.engine.task import Progress
from mixwright.store.artifact import read_json, write_json
from mixwright.store.parquet import BatchWriter

if TYPE_CHECKING:
    import pyarrow as pa

    from mixwright.store.batches import RowBatch

#: where what is not kept lies; the leading dot keeps it out of the sealed artifact
WORK = ".work"
#: rows measured at once, whatever their size
_MOST_ROWS = 16_384
#: bytes of a row group of signals
_GROUP = 32 << 20
#: a batch, and what rewriting changed in each text: column -> ``(n,)``
Counted = tuple["RowBatch", Mapping[str, Floats]]


@dataclass(frozen=True)
class Measured:
    """The folder that measuring leaves; see above. ``shard`` is a shard or its name."""

    folder: Path

    def signals(self, shard: Shard | str) -> Path:
        """Its signals."""
        return self.folder / "signals" / f"{_name(shard)}.parquet"

    def unreadable(self, shard: Shard | str) -> Path:
        """Its rows that cannot be read; no file where there are none."""
        return self.folder / "unreadable" / f"{_name(shard)}.parquet"

    def grams(self, shard: Shard | str) -> Path:
        """Its n-grams of targets; no file where there are none."""
        return self.folder / "grams" / f"{_name(shard)}.parquet"

    def marker(self, shard: Shard | str) -> Path:
        """What its task counted; the file is there when the shard is measured to the end."""
        return self.folder / WORK / "shards" / f"{_name(shard)}.json"

    def bands(self, shard: Shard) -> Path:
        """Its MinHash band keys, by which similar texts are looked for."""
        return self.folder / WORK / "bands" / shard.name

    def lines(self, shard: Shard) -> Path:
        """The hashes of its long lines (dedup/lines.py), where repeated ones are cut out."""
        return self.folder / "lines" / f"{shard.name}.lines"

    def marks(self, shard: Shard) -> Path:
        """The marks of its windows of words (dedup/substring.py), by which repeated ones are looked for."""
        return self.folder / WORK / "marks" / shard.name

    def windows(self, shard: Shard) -> Path:
        """The hashes of its windows of words that may stand elsewhere, where repeated ones are cut out."""
        return self.folder / "windows" / f"{shard.name}.windows"

    def keys(self, shard: Shard) -> Path:
        """The hashes by which its rows are exact duplicates, where these are not those of texts."""
        return self.folder / WORK / "keys" / f"{shard.name}.npy"

    @property
    def dedup(self) -> Path:
        """Where dedup works."""
        return self.folder / "dedup"

    @property
    def prepared(self) -> Path:
        """A folder per signal with what it prepared."""
        return self.folder / WORK / "prepared"

    @property
    def targets(self) -> Path:
        """The distinct n-grams of all targets, sorted."""
        return self.folder / WORK / "targets.npy"

    @property
    def summary(self) -> Path:
        """Shards and counts; the file is there when everything is measured."""
        return self.folder / "measured.json"


def _name(shard: Shard | str) -> str:
    return shard if isinstance(shard, str) else shard.name


def signals_schema(columns: Sequence[str]) -> pa.Schema:
    """The columns of a file of signals."""
    import pyarrow as pa

    numbers = [pa.field(column, pa.float64(), nullable=False) for column in columns]
    return pa.schema([
        ("id", pa.string()), ("path", pa.string()), ("row", pa.int64()), pa.field("bytes", pa.int64(), nullable=False),
        ("text_hash", pa.string()), *numbers,
    ])  # fmt: skip


def unreadable_schema() -> pa.Schema:
    """The columns of a file of unreadable rows."""
    import pyarrow as pa

    return pa.schema([("path", pa.string()), ("row", pa.int64()), ("reason", pa.string()), ("start", pa.string())])


def grams_schema() -> pa.Schema:
    """The columns of a file of n-grams."""
    import pyarrow as pa

    return pa.schema([("row", pa.int64()), ("gram", pa.uint64()), ("word", pa.int64())])


def measure_shard(
    progress: Progress,
    *,
    shard: Mapping[str, Any],
    folder: str,
    options: Mapping[str, Any],
    watch: bool,
    copy: str = "",
) -> dict[str, Any]:
    """Measure one shard into ``folder``; ``watch``: note which n-grams of the targets a source's rows hold; ``copy``: where
    its texts are kept as well (text_copy.py), if anywhere.

    Returns ``rows`` (readable), ``unreadable``, ``bytes`` of readable text. Memory: a decoded row group or the largest
    row, some ten times a batch, and a row group of signals. Cost: see docs/curate.md.
    """
    part, place = Shard.from_dict(shard), Measured(Path(folder))
    whole_options, signals = opened(place, json.dumps(dict(options), sort_keys=True))
    with contextlib.ExitStack() as stack:
        out = _Files.open(part, place, signals, whole_options, watch, Path(copy) if copy else None, stack)
        whole, before = max(1, part.size), 0
        for group in together(part.counted_batches(BATCH, meta=out.keys is not None), BATCH):
            out.add(group)
            before += sum(int(batch.texts.nbytes) for batch, _ in group)
            progress(min(1.0, before / whole), documents=out.rows + out.bad, megabytes=round(out.bytes / 1e6, 1))
    facts = {"rows": out.rows, "unreadable": out.bad, "bytes": out.bytes}
    write_json(place.marker(part), facts)
    return facts


def together(found: Iterable[Counted], size: int) -> Iterator[list[Counted]]:
    """Batches that are measured at once: of small files as many as make about ``size`` bytes of text, others alone."""
    waiting: list[Counted] = []
    held = rows = 0
    for batch, changed in found:
        alike = not waiting or (batch.prompts is None) == (waiting[-1][0].prompts is None)
        if waiting and (held + batch.bytes > 2 * size or not alike):
            yield waiting
            waiting, held, rows = [], 0, 0
        waiting.append((batch, changed))
        held += batch.bytes
        rows += len(batch) + len(batch.unreadable)
        if 2 * held >= size or rows >= _MOST_ROWS:
            yield waiting
            waiting, held, rows = [], 0, 0
    if waiting:
        yield waiting


def texts_of(batches: Sequence[RowBatch]) -> Texts:
    """The texts of batches as those of one; a single batch is not copied."""
    import pyarrow as pa

    columns = ([getattr(batch, name) for batch in batches] for name in ("texts", "prompts", "responses"))
    texts, prompts, responses = (
        None if column[0] is None else column[0] if len(column) == 1 else pa.concat_arrays(column) for column in columns
    )
    return Texts(texts, prompts=prompts, responses=responses)


@dataclass
class _Files:
    """The files of a shard as they are written."""

    shard: Shard
    place: Measured
    signals: Sequence[tuple[Entry, Signal]]
    ngram: int
    watched: HashSet | None
    bands: BandWriter | None
    keys: KeyWriter | None
    lines: LineWriter | None
    marks: MarkWriter | None
    copy: CopyWriter | None
    stack: contextlib.ExitStack
    rows: int = 0
    bad: int = 0
    bytes: int = 0
    _writers: dict[Path, BatchWriter] = field(default_factory=dict)

    @classmethod
    def open(
        cls, shard: Shard, place: Measured, signals: Sequence[tuple[Entry, Signal]], options: Options, watch: bool,
        copy: Path | None, stack: contextlib.ExitStack,
    ) -> _Files:  # fmt: skip
        watched = HashSet(np.load(place.targets)) if watch and not shard.target else None
        near, exact = options.dedup.for_near, options.dedup.for_exact
        bands = stack.enter_context(BandWriter(place.bands(shard), near)) if near else None
        keys = stack.enter_context(KeyWriter(place.keys(shard), exact)) if exact and not exact.as_read else None
        lines = (
            stack.enter_context(LineWriter(place.lines(shard), given)) if (given := options.dedup.for_lines) else None
        )
        marks = (
            stack.enter_context(MarkWriter(place.marks(shard), wide)) if (wide := options.dedup.for_substring) else None
        )
        copied = stack.enter_context(CopyWriter(copy)) if copy else None
        made = cls(shard, place, signals, options.target_ngram, watched, bands, keys, lines, marks, copied, stack)
        made._writer(place.signals(shard), made._schema)
        return made

    @cached_property
    def _schema(self) -> pa.Schema:
        changed = rewriters(self.shard.rewrite).columns
        return signals_schema([*(column for entry, _ in self.signals for column in entry.columns), *changed])

    def add(self, group: Sequence[Counted]) -> None:
        """Measure batches together, and write what was found."""
        texts = texts_of([batch for batch, _ in group])
        if len(texts):
            self._writer(self.place.signals(self.shard), self._schema).add(self._measured(group, texts))
            self._note(texts)
            for writer in (self.bands, self.lines, self.marks, self.copy):
                if writer is not None:
                    writer.add(texts)
            self.rows += len(texts)
            self.bytes += len(texts.data)
        unreadable = [bad for batch, _ in group for bad in batch.unreadable]
        if unreadable:
            columns = [[getattr(bad, name) for bad in unreadable] for name in ("path", "row", "reason", "start")]
            self._put(self.place.unreadable(self.shard), unreadable_schema(), columns)
            self.bad += len(unreadable)

    def _measured(self, group: Sequence[Counted], texts: Texts) -> pa.RecordBatch:
        import pyarrow as pa

        batches = [batch for batch, _ in group]
        ids = [document_ids(self.shard.source, batch.path, batch.rows - 1) for batch in batches]
        if self.keys is not None:
            for batch, own in zip(batches, ids, strict=True):
                self.keys.add(batch, own)
        paths = [pa.repeat(pa.scalar(batch.path, pa.string()), len(batch)) for batch in batches]
        columns = [
            hexes(np.concatenate(ids)), pa.concat_arrays(paths), pa.array(np.concatenate([b.rows for b in batches])),
            pa.array(texts.bytes), hexes(text_hashes(texts)),
        ]  # fmt: skip
        real = pa.float64()  # told, not found out: a sixth of the time
        for entry, signal in self.signals:
            found = signal.measure(texts)
            columns += [pa.array(found[column], real) for column in entry.kind.columns]
        for name in group[0][1]:
            columns.append(pa.array(np.concatenate([changed[name] for _, changed in group]), real))
        return pa.record_batch(columns, schema=self._schema)

    def _note(self, texts: Texts) -> None:
        if self.shard.target:
            grams = ngrams(texts, self.ngram)
        elif self.watched is not None and len(self.watched.members):
            grams = self.watched.grams(texts, self.ngram)
        else:
            return
        if len(grams.hashes):
            self._put(self.place.grams(self.shard), grams_schema(), [grams.text + self.rows, grams.hashes, grams.word])

    def _put(self, path: Path, schema: pa.Schema, columns: Sequence[Any]) -> None:
        import pyarrow as pa

        arrays = [pa.array(values, kind) for values, kind in zip(columns, schema.types, strict=True)]
        self._writer(path, schema).add(pa.record_batch(arrays, schema=schema))

    def _writer(self, path: Path, schema: pa.Schema) -> BatchWriter:
        if path not in self._writers:
            numbers = [field.name for field in schema if not field.nullable]
            writer = BatchWriter(path, schema, group_bytes=_GROUP, repeated=["path"], light=numbers)
            self._writers[path] = self.stack.enter_context(writer)
        return self._writers[path]


_LOCK = threading.Lock()


def opened(place: Measured, options: str) -> tuple[Options, Sequence[tuple[Entry, Signal]]]:
    """``options``, which come as JSON, and the signals of the fused pass with what they prepared; kept for the next shard."""
    ready = place.prepared / "ready"
    with _LOCK:
        return _opened(place, options, ready.stat().st_mtime_ns if ready.exists() else 0)


@lru_cache(maxsize=2)
def _opened(place: Measured, options: str, prepared: int) -> tuple[Options, Sequence[tuple[Entry, Signal]]]:
    del prepared  # another time: other files
    held = Options.from_dict(json.loads(options))
    return held, [
        (entry, entry.signal().opened(place.prepared / entry.name)) for entry in held.measured if not entry.kind.scored
    ]


def merge_targets(place: Measured, shards: Sequence[Shard]) -> None:
    """Put the distinct n-grams of all targets' shards into one file."""
    import pyarrow.parquet as pq

    from mixwright.store.artifact import written_aside

    files = [path for shard in shards if (path := place.grams(shard)).is_file()]
    merged = HashSet.of(*(pq.read_table(path, columns=["gram"])["gram"].to_numpy() for path in files))
    with written_aside(place.targets) as aside, aside.open("wb") as stream:
        np.save(stream, merged.members)


def facts_of(place: Measured, shard: Shard) -> dict[str, Any]:
    """What the task of a shard counted."""
    found: dict[str, Any] = read_json(place.marker(shard))
    return found
