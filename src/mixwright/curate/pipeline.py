"""measure -> decide -> dedup -> keep targets apart from training text, with a ledger line for every dropped row.

A task per source reads and measures it (``measuring.py``); what needs all sources at once is decided afterwards
(``deciding.py``) and written here. A measured source stays measured when the process is killed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mixwright.core.document import document_id
from mixwright.core.errors import StudyError
from mixwright.curate import ledger as account
from mixwright.curate.deciding import Part, decide
from mixwright.curate.ledger import Failure, Ledger, Place
from mixwright.curate.measuring import Measured
from mixwright.curate.rules import UNREADABLE, Bounds, Options
from mixwright.engine.task import Engine, Task
from mixwright.store.artifact import Draft, write_json
from mixwright.store.documents import SourceOptions, document_schema, find_files, fingerprint
from mixwright.store.parquet import TableWriter

__all__ = ["Bounds", "Options", "curate", "fingerprint"]

SCHEMA = "mixwright/curation/1"
#: (source, target or stage; fraction 0..1; facts)
OnProgress = Callable[[str, float, dict[str, Any]], None]
#: megabytes a second one core reads and measures, for the cost of a task
_MB_PER_SECOND = 6.0


def curate(
    sources: Mapping[str, SourceOptions],
    targets: Mapping[str, SourceOptions],
    options: Options,
    *,
    base: Path,
    draft: Draft,
    engine: Engine,
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Write the curate artifact into ``draft.path`` (the caller seals it) and return its summary.

    Relative paths start at ``base``. Called again on the same draft after any interruption it measures only what was
    not measured and writes the same bytes, whatever the engine's workers. Raises StudyError for names that cannot name
    files, DataError for sources that cannot be found or opened. Cost: about 6 MB/s a core.
    """
    _check_names(sources, targets)
    report = on_progress or (lambda *_: None)
    common = {"base": str(base.resolve()), "draft": str(draft.path.resolve()), "options": options.to_dict()}
    _measure(targets, common | {"targets": None}, draft.path, base, engine, report)
    _measure(sources, common | {"targets": list(targets)}, draft.path, base, engine, report)
    parts = [
        Part.load(Measured(draft.path, name), given.domain or name, options, target=named is targets)
        for named in (sources, targets)
        for name, given in named.items()
    ]
    report("decide", 0.0, {})
    decide(parts, options)
    written = Ledger(options.waterfall)
    kept = _write(parts, options, draft.path, written, report)
    summary = _summary({**sources, **targets}, parts, options, written, kept)
    write_json(draft.path / "summary.json", summary)
    report("decide", 1.0, {})
    return summary


def _check_names(sources: Mapping[str, SourceOptions], targets: Mapping[str, SourceOptions]) -> None:
    if not sources:
        raise StudyError("There is no source: name at least one under sources.")
    for name in sorted(set(sources) & set(targets)):
        raise StudyError(f"{name!r} is both a source and a target. A target is never trained on: rename one.")
    domains = {given.domain for given in sources.values() if given.domain is not None}
    for name in [*sources, *targets, *sorted(domains)]:
        if not name or name.startswith(".") or any(mark in name for mark in "/\\\0"):
            raise StudyError(
                f"{name!r} cannot name a source, target or domain: it is empty, begins with '.' or holds a slash."
            )


def _measure(
    named: Mapping[str, SourceOptions], common: Mapping[str, Any], draft: Path, base: Path, engine: Engine,
    on_progress: OnProgress,
) -> None:  # fmt: skip
    """Run the tasks of those that are not measured yet."""
    waiting = {name: given for name, given in named.items() if not Measured(draft, name).done}
    tasks = []
    for name, given in waiting.items():
        size = sum(file.bytes for file in find_files(given, base)[0])
        arguments = {**common, "name": name, "source": dataclasses.asdict(given)}
        tasks.append(Task(name, "mixwright.curate.measuring:measure_source", arguments, size / 1e6 / _MB_PER_SECOND))
    for outcome in list(engine.run(tasks, on_progress)) if tasks else []:
        outcome.result()


def _write(
    parts: Sequence[Part], options: Options, folder: Path, ledger: Ledger, on_progress: OnProgress
) -> dict[str, dict[str, int]]:
    """Write documents, targets and ledger, and check that nothing is missing; returns what was kept per source."""
    places: dict[Path, list[Part]] = {}
    for part in parts:
        place = folder / "targets" / part.name if part.target else folder / "documents" / part.domain
        places.setdefault(place.with_name(f"{place.name}.parquet"), []).append(part)
    kept: dict[str, dict[str, int]] = {}
    with TableWriter(folder / "ledger.parquet", account.schema()) as lines:
        for number, (path, members) in enumerate(places.items()):
            with TableWriter(path, document_schema()) as documents:
                for part in members:
                    kept[part.name] = _write_part(part, options, documents, lines, ledger)
            on_progress("decide", (number + 1) / (len(places) + 1), {})
    read = {part.name: int(part.measured.facts["documents"]) for part in parts}
    account.check_balance(folder / "ledger.parquet", list(places), read, ledger)
    return kept


def _write_part(
    part: Part, options: Options, documents: TableWriter, lines: TableWriter, ledger: Ledger
) -> dict[str, int]:
    import pyarrow.parquet as pq

    for bad in pq.read_table(part.measured.file("unreadable.parquet")).to_pylist():
        place = Place(document_id(part.name, bad["path"], bad["row"] - 1), part.name, bad["path"], bad["row"])
        failures = [Failure(UNREADABLE, None, "")]
        lines.add(ledger.line(place, failures, detail=bad["reason"], start=bad["start"]), 200)
    kept = {"documents": 0, "bytes": 0}
    for row, line in part.texts(["id", "path", "row", "bytes", "text_hash", "meta", "text"]):
        failures = part.failures(row, options)
        if failures:
            place = Place(line["id"], part.name, line["path"], line["row"])
            twin, detail = part.duplicate_of.get(row), part.detail(row, options)
            lines.add(ledger.line(place, failures, duplicate_of=twin, detail=detail, start=line["text"]), 200)
        else:
            names = {"source": part.name, "domain": part.domain}
            documents.add({**names, **{key: line[key] for key in ("id", "text", "text_hash", "meta")}}, line["bytes"])
            kept["documents"] += 1
            kept["bytes"] += line["bytes"]
    return kept


def _summary(
    given: Mapping[str, SourceOptions], parts: Sequence[Part], options: Options, ledger: Ledger,
    kept: Mapping[str, Mapping[str, int]],
) -> dict[str, Any]:  # fmt: skip
    def told(part: Part) -> dict[str, Any]:
        facts, source = part.measured.facts, given[part.name]
        return {
            "domain": part.domain,
            "rule": source.rule,
            "licence": source.licence,
            "files": facts["files"],
            "ignored_files": facts["ignored"],
            "read": {"documents": facts["documents"], "bytes": facts["bytes"]},
            "kept": dict(kept[part.name]),
            "dropped": ledger.counts(ledger.dropped, part.name),
        }

    return {
        "schema": SCHEMA,
        "order": [part.name for part in parts],
        "domains": list(dict.fromkeys(part.domain for part in parts if not part.target)),
        "sources": {part.name: told(part) for part in parts if not part.target},
        "targets": {part.name: told(part) for part in parts if part.target},
        "rules": options.told(),
        "first_dropped": {part.name: ledger.counts(ledger.first, part.name) for part in parts},
        "samples": ledger.samples,
    }
