"""The task of one source or target: read every row, measure it, note which n-grams of the targets its text holds.

What it leaves in the work folder, the marker last: ``<name>.rows.parquet`` (readable rows with text),
``<name>.unreadable.parquet``, ``<name>.grams.npy`` (a target: all its n-grams; a source: those of the targets' n-grams
that its passing rows hold; distinct hashes) and ``<name>.json``; and ``signals/<name>.parquet`` beside the work folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mixwright.core.document import document_id, text_hash
from mixwright.curate.decontaminate import Growing, Hashes, HashSet, ngrams
from mixwright.curate.rules import Options
from mixwright.curate.signal import Floats, load, measure
from mixwright.engine.task import Progress
from mixwright.store.artifact import read_json, write_json, written_aside
from mixwright.store.documents import Batch, SourceOptions, find_files, read_rows
from mixwright.store.parquet import TableWriter

if TYPE_CHECKING:
    import pyarrow as pa

#: where measured sources wait inside the draft; the leading dot keeps them out of the sealed artifact
WORK = ".work"


@dataclass(frozen=True)
class Measured:
    """What the task of one source left behind."""

    draft: Path
    name: str

    def file(self, ending: str) -> Path:
        """A file of the work folder."""
        return self.draft / WORK / f"{self.name}.{ending}"

    @property
    def done(self) -> bool:
        """Whether the source is measured to the end."""
        return self.file("json").is_file()

    @property
    def facts(self) -> Mapping[str, Any]:
        """``documents`` (rows, readable or not), ``bytes`` of readable text, ``files``, ``ignored`` files."""
        facts: Mapping[str, Any] = read_json(self.file("json"))
        return facts

    @property
    def grams(self) -> HashSet:
        """The distinct n-grams it noted."""
        return HashSet(np.load(self.file("grams.npy")))

    @property
    def signals(self) -> Path:
        """Its signals, a file of the artifact."""
        return self.draft / "signals" / f"{self.name}.parquet"


def rows_schema() -> pa.Schema:
    """Readable rows in the work folder."""
    import pyarrow as pa

    texts = [(name, pa.string()) for name in ("id", "path", "text_hash", "meta")]
    return pa.schema([*texts, ("row", pa.int64()), ("bytes", pa.int64()), ("text", pa.large_string())])


def unreadable_schema() -> pa.Schema:
    """Unreadable rows in the work folder."""
    import pyarrow as pa

    return pa.schema([("path", pa.string()), ("row", pa.int64()), ("reason", pa.string()), ("start", pa.string())])


def measure_source(
    progress: Progress,
    *,
    name: str,
    source: Mapping[str, Any],
    base: str,
    draft: str,
    options: Mapping[str, Any],
    targets: Sequence[str] | None,
) -> dict[str, Any]:
    """Read and measure one source; ``targets`` are the measured targets to compare with, None for a target itself."""
    import pyarrow as pa

    measured, given, rules = Measured(Path(draft), name), SourceOptions(**source), Options.from_dict(options)
    watched = None if targets is None else HashSet.of(*(Measured(Path(draft), t).grams.members for t in targets))
    files, ignored = find_files(given, Path(base))
    signal_schema = pa.schema([("id", pa.string()), *((column, pa.float64()) for column in load(rules.signals))])
    grams, size = Growing(), 0
    with (
        TableWriter(measured.file("rows.parquet"), rows_schema()) as rows,
        TableWriter(measured.file("unreadable.parquet"), unreadable_schema()) as unreadable,
        TableWriter(measured.signals, signal_schema) as signals,
    ):
        for batch in read_rows(given, Path(base)):
            values = measure([row.text for row in batch.rows], rules.signals)
            size += _put(batch, name, values, rows, signals)
            for bad in batch.unreadable:
                unreadable.add({"path": bad.path, "row": bad.row, "reason": bad.reason, "start": bad.start}, 200)
            grams.add(_noted(batch, values, rules, watched))
            progress(batch.fraction, documents=rows.rows, megabytes=round(size / 1e6, 1))
    with written_aside(measured.file("grams.npy")) as path, path.open("wb") as stream:
        np.save(stream, grams.members())
    facts = {"documents": rows.rows + unreadable.rows, "bytes": size, "files": len(files), "ignored": ignored}
    write_json(measured.file("json"), facts)
    return facts


def _put(batch: Batch, name: str, values: Mapping[str, Floats], rows: TableWriter, signals: TableWriter) -> int:
    """Write a batch's rows and signals; returns the bytes of its text."""
    total = 0
    for at, row in enumerate(batch.rows):
        ident, size = document_id(name, row.path, row.row - 1), len(row.text.encode())
        line = {"id": ident, "path": row.path, "text_hash": text_hash(row.text), "meta": row.meta, "row": row.row}
        rows.add({**line, "bytes": size, "text": row.text}, size + len(row.meta))
        signals.add({"id": ident, **{column: float(numbers[at]) for column, numbers in values.items()}})
        total += size
    return total


def _noted(batch: Batch, values: Mapping[str, Floats], rules: Options, watched: HashSet | None) -> Hashes:
    """The hashes to note: of a target (``watched`` None) all; of a source the watched ones in rows that pass."""
    if watched is None:
        return ngrams([row.text for row in batch.rows], rules.target_ngram).hashes
    if not len(watched.members):
        return watched.members
    passing = np.flatnonzero(~rules.failing(values, len(batch.rows)).any(axis=1))
    texts = [batch.rows[int(at)].text for at in passing]
    hashes = ngrams(texts, rules.target_ngram).hashes
    return hashes[watched.has(hashes)]
