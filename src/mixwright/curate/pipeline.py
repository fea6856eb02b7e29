"""The whole of curation over shards: plan, prepare, measure, decide, write, and the account that nothing is missing.

``measure`` reads and measures every shard (``measuring.py``); no threshold is part of it. ``decide_and_write`` decides
over all of them from the numbers alone (``deciding.py``) and reads again only to write (``writing.py``). What depends on
a shard is a task of its own, whose marker is written last: after a kill, shards that have one are not done again.
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mixwright.core.errors import StudyError
from mixwright.curate.accounting import Account, check_balance
from mixwright.curate.agreement import of_votes
from mixwright.curate.dedup.options import Near
from mixwright.curate.judging import judge, looks_for_duplicates, table_of
from mixwright.curate.measuring import WORK, Measured, facts_of, merge_targets
from mixwright.curate.rules import Bounds, Options
from mixwright.curate.shards import Shard, bytes_of, cut
from mixwright.curate.warming import warm
from mixwright.curate.writing import Curated
from mixwright.engine.local import LocalEngine
from mixwright.engine.task import Engine, Task
from mixwright.store.artifact import Draft, content_key, file_hash, read_json, write_atomic, write_json
from mixwright.store.documents import SourceOptions, find_files, fingerprint
from mixwright.store.pieces import units

__all__ = ["Bounds", "Options", "curate", "decide_and_write", "estimate", "fingerprint", "measure", "measuring_key"]

SCHEMA = "mixwright/curation/2"
MEASURED = "mixwright/measured/1"
#: (source, target or stage; fraction 0..1; facts)
OnProgress = Callable[[str, float, dict[str, Any]], None]
#: megabytes a second one core reads and measures, and reads and writes, for the cost of a task
_MEASURED_MB, _WRITTEN_MB = 100.0, 200.0
#: what the tasks of dedup hold together, with the process, where nothing is said; the workers are then as many as the engine's
_MEMORY = 1_500_000_000
#: bytes the process takes that starts the workers (measured: 340 MB), and a worker that measures (measured: 50 MB where texts
#: are of 7 kB, 100 MB where they are of 300 bytes, whose band keys are many)
_OWN_BYTES, _WORKER_BYTES = 400_000_000, 150_000_000
#: free disk, as a multiple of the text, that is wanted where it is copied unasked
_ROOM = 4
#: the least that dedup is given
_LEAST_BYTES = 64_000_000
#: the least time between two messages of one source, seconds
_SAID_EVERY = 0.2
#: options that only deciding needs: changing them measures nothing again
_DECIDING = ("presets", "rules", "keep", "domains", "languages")
Named = Mapping[str, SourceOptions]


@dataclass(frozen=True)
class Plan:
    """The shards of all sources, then those of all targets, and per source how many files it has and ignores."""

    shards: tuple[Shard, ...]
    files: Mapping[str, tuple[int, int]]

    @classmethod
    def of(cls, sources: Named, targets: Named, options: Options, base: Path) -> Plan:
        """Cut the files; raises DataError as ``find_files``. Cost: see ``shards.cut``."""
        shards: list[Shard] = []
        files = {}
        for named in (sources, targets):
            for name, given in named.items():
                found, ignored = find_files(given, base.resolve())
                files[name] = (len(found), ignored)
                shards += cut(name, given, found, options, order=len(shards), target=named is targets)
        return cls(tuple(shards), files)


def curate(
    sources: Named, targets: Named, options: Options, *, base: Path, draft: Draft, engine: Engine,
    on_progress: OnProgress | None = None, measured: Draft | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Write the curate artifact into ``draft.path`` (the caller seals it) and return its summary.

    ``measured`` is the draft of what is measured, to be kept for other thresholds; without one it is part of this
    artifact. Relative paths start at ``base``. Called again on the same draft after any interruption it does only
    the shards that were not finished and writes the same bytes, whatever the engine's workers. Raises StudyError for names
    that cannot name files, DataError for sources that cannot be found or opened.
    """
    folder = measured.path if measured is not None else draft.path
    more: dict[str, Any] = {"base": base, "engine": engine, "on_progress": on_progress}
    more["copies"] = folder / WORK / "texts"
    measure(sources, targets, options, folder=folder, **more)
    return decide_and_write(folder, sources, targets, options, draft=draft, **more)


def measure(
    sources: Named, targets: Named, options: Options, *, base: Path, folder: Path, engine: Engine,
    on_progress: OnProgress | None = None, cache: Path | None = None, copies: Path | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Measure every row of all sources and targets into ``folder``; returns what ``measured.json`` says.

    Thresholds change nothing of it: see ``measuring_key``. ``cache`` keeps what models scored for other runs; ``copies`` the
    texts (text_copy.py), for what reads them again here and in ``decide_and_write``, if the options say so.
    Resumed, raises and reads paths as ``curate``.
    """
    _check_names(sources, targets)
    place = Measured(folder.resolve())
    if place.summary.is_file():
        return dict(read_json(place.summary))
    plan = Plan.of(sources, targets, options, base)
    _prepare(place, options, base)
    given, engine = engine, _engine(engine, options)
    report = on_progress or (lambda *_: None)
    report("compiling kernels (once on a machine)", 0.0, {})
    warm(place, options)
    report("compiling kernels (once on a machine)", 1.0, {})
    told = _Told([shard for shard in plan.shards if not place.marker(shard).is_file()], report)
    common = {"folder": str(place.folder), "options": options.to_dict()}
    held = _Copies.of(copies, plan, options, engine)
    mine = [shard for shard in plan.shards if shard.target]
    if mine and not place.targets.is_file():
        _run(
            engine,
            [_measuring(shard, common, False, held) for shard in mine if not place.marker(shard).is_file()],
            told,
        )
        merge_targets(place, mine)
    rest = [shard for shard in plan.shards if not place.marker(shard).is_file()]
    _run(engine, [_measuring(shard, common, bool(mine), held) for shard in rest], told)
    scored = _score(place, plan, options, given, cache or folder.parent / ".scores", on_progress)
    if looks_for_duplicates(options):
        _find_duplicates(place, plan, options, base, engine, held, on_progress)
    summary = {
        "schema": MEASURED,
        "sources": {name: {"files": count, "ignored": ignored} for name, (count, ignored) in plan.files.items()},
        "shards": [
            {"name": shard.name, "domain": shard.domain, "target": shard.target, **facts_of(place, shard)}
            for shard in plan.shards
        ],
        "scored": scored,
    }
    write_json(place.summary, summary)
    return summary


def _score(
    place: Measured, plan: Plan, options: Options, engine: Engine, cache: Path, on_progress: OnProgress | None
) -> dict[str, dict[str, int]]:
    """Let models score every row; returns per entry how many rows could not be scored, by reason."""
    from mixwright.curate import scoring

    entries = scoring.scored_entries(options)
    if not entries:
        return {}
    tasks = scoring.scoring_tasks(plan.shards, options, draft=place.folder, prepared=place.prepared, cache=cache)
    _run(engine, tasks, on_progress or (lambda *_: None))
    failed: dict[str, Counter[str]] = {entry.name: Counter() for entry in entries}
    for entry in entries:
        for shard in plan.shards:
            failed[entry.name].update(scoring.facts(scoring.place(place.folder, shard, entry.name))["failed"])
    return {name: dict(sorted(reasons.items())) for name, reasons in failed.items()}


def _find_duplicates(
    place: Measured, plan: Plan, options: Options, base: Path, engine: Engine, held: _Copies,
    on_progress: OnProgress | None,
) -> None:  # fmt: skip
    """Leave in ``place.dedup`` what deciding needs of duplicates, and nothing else."""
    from mixwright.curate.dedup.stage import Noted, find_pairs
    from mixwright.curate.dedup.substring import note_windows

    near, exact = options.dedup.for_near, options.dedup.for_exact
    bands = [place.bands(shard) if near else None for shard in plan.shards]
    keys = [place.keys(shard) if exact and not exact.as_read else None for shard in plan.shards]
    copies = [held.path(shard) for shard in plan.shards]
    noted = [Noted(*one) for one in zip(plan.shards, map(place.signals, plan.shards), bands, keys, copies, strict=True)]
    against = tuple(str(_indexed(base / path, place, number, near, engine)) for number, path in
                    enumerate(options.dedup.against))  # fmt: skip
    wanted = dataclasses.replace(options.dedup, against=against)
    find_pairs(
        noted, place.dedup, wanted, engine=engine, report=_dedup_told(on_progress), memory=_dedup_memory(options)
    )
    if options.dedup.for_substring:
        note_windows(
            plan.shards, [*map(place.marks, plan.shards)], [*map(place.windows, plan.shards)],
            place.folder / WORK / "shared", options.dedup.for_substring, engine=engine, memory=_dedup_memory(options),
            copies=copies,
        )  # fmt: skip
    _tidy(place)


def _indexed(path: Path, place: Measured, number: int, near: Near | None, engine: Engine) -> Path:
    """The index of an earlier run: ``path`` itself, or of a curated folder one that is made now."""
    from mixwright.curate.dedup.index import build_index

    files = sorted((path / "documents").glob("*/*.parquet"))
    if (path / "index.json").is_file() or not files:
        return path.resolve()
    folder = place.folder / WORK / "against" / str(number)
    build_index([file.resolve() for file in files], folder, near, engine=engine)
    return folder


#: where each stage of dedup lies within it
_STAGES = {
    "rows": (0.0, 0.1),
    "candidates": (0.1, 0.3),
    "screened": (0.3, 0.4),
    "sets": (0.4, 0.7),
    "verified": (0.7, 0.99),
    "pairs": (0.99, 1.0),
}


def _dedup_told(report: OnProgress | None) -> OnProgress | None:
    """The stages of dedup told as one."""

    def told(name: str, fraction: float, facts: dict[str, Any]) -> None:
        start, stop = _STAGES.get(name.removeprefix("dedup: "), (0.0, 1.0))
        if report is not None:
            report("dedup", start + (stop - start) * fraction, facts)

    return told


def _tidy(place: Measured) -> None:
    """Remove from ``dedup`` what deciding does not read, and where on this machine its files were."""
    for path in place.dedup.iterdir():
        if path.name in ("candidates", "screened", "sets", "verified", "semantic"):
            shutil.rmtree(path)
        elif path.name in ("suspects.npy", "blocks.json", "parts.json"):
            path.unlink()
    plan = read_json(place.dedup / "plan.json")
    names = {
        kind: [name.removeprefix(f"{place.folder}/") for name in plan[kind]] for kind in ("signals", "bands", "keys")
    }
    write_json(place.dedup / "plan.json", plan | names | {"against": []})


def decide_and_write(
    measured: Path, sources: Named, targets: Named, options: Options, *, base: Path, draft: Draft, engine: Engine,
    on_progress: OnProgress | None = None, copies: Path | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Decide from what is measured, and write documents, targets, ledger and summary into ``draft.path``.

    Texts come from ``copies`` where ``measure`` left them, which are removed in the end, otherwise from the sources. Resumed
    and raises as ``curate``.
    """
    _check_names(sources, targets)
    place, out = Measured(measured.resolve()), Curated(draft.path.resolve())
    counted = {facts["name"]: facts for facts in read_json(place.summary)["shards"]}
    plan = Plan.of(sources, targets, options, base)
    report = on_progress or (lambda *_: None)
    report("decide", 0.0, {})
    inner = _engine(engine, options)
    judge(place, plan.shards, options, out.judged, engine=inner, memory=_dedup_memory(options))
    common = {"measured": str(place.folder), "folder": str(out.folder)}
    held = _Copies(copies)
    waiting = [shard for shard in plan.shards if not out.marker(shard).is_file()]
    told = _Deciding(plan.shards, report)
    _run(inner, [_writing(shard, common, held) for shard in waiting], told)
    account = _balanced(plan, out, counted, options)
    summary = _summary({**sources, **targets}, plan, options, account)
    if options.dedup.lines:
        summary["lines_cut"] = _cut(plan, out)
    if options.dedup.substring:
        summary["substrings_cut"] = _cut(plan, out)
    summary["duplicates"] = read_json(out.judged.told) if out.judged.told.is_file() else None
    votes = of_votes([table_of(place, shard) for shard in plan.shards], options)
    summary["votes"] = {name: found.to_dict() for name, found in votes.items()}
    write_json(draft.path / "summary.json", summary)
    held.remove()
    report("decide", 1.0, {})
    return summary


def measuring_key(options: Options, base: Path = Path()) -> dict[str, Any]:
    """What measuring depends on beside the files: all options but those of deciding, and the signals' files."""
    plain = {name: value for name, value in options.to_dict().items() if name not in _DECIDING}
    signals = {
        entry.name: [f"{entry.kind.__module__}:{entry.kind.__qualname__}", entry.signal().identity(base)]
        for entry in options.measured
    }
    return plain | {"signals": signals, "against": [_identity(base / path) for path in options.dedup.against]}


def _identity(path: Path) -> str:
    """What says which documents an earlier run, or its index, holds; empty where there is none."""
    known = [path / name for name in ("index.json", "manifest.json") if (path / name).is_file()]
    return content_key([file_hash(file) for file in known]) if known else ""


def estimate(sources: Named, targets: Named, options: Options, base: Path) -> dict[str, float]:
    """CPU-seconds per source and target, from the sizes of its files alone: measuring, writing, and what models score."""
    from mixwright.curate.scoring import scored_entries, scoring_cost

    scored = len(scored_entries(options))
    found = {}
    for name, given in {**sources, **targets}.items():
        files = find_files(given, base)[0]
        size = sum(piece.size for unit in units(files, 1 << 40) for piece in unit)
        found[name] = size / 1e6 * (1 / _MEASURED_MB + 1 / _WRITTEN_MB) + scored * scoring_cost(size)
    return found


def _check_names(sources: Named, targets: Named) -> None:
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


def _prepare(place: Measured, options: Options, base: Path) -> None:
    """Let every signal prepare, once."""
    ready = place.prepared / "ready"
    if ready.is_file():
        return
    for entry in options.measured:
        folder = place.prepared / entry.name
        folder.mkdir(parents=True, exist_ok=True)
        entry.signal().prepare(base, folder)
    write_atomic(ready, "")


def _engine(engine: Engine, options: Options) -> Engine:
    """Threads where every signal lets other threads work and is our own, the engine as given elsewhere; of local workers
    only as many as ``options.memory``, where it is given, has room for."""
    if not isinstance(engine, LocalEngine):
        return engine
    workers = engine.slots
    if options.memory is not None:
        workers = max(1, min(workers, (_memory(options) - _OWN_BYTES) // _WORKER_BYTES))
    outside = bool(options.signals) or any(entry.kind.holds_gil for entry in options.measured)
    return LocalEngine(workers, engine.kind if outside else "threads")


def _memory(options: Options) -> int:
    """Bytes that everything may take together, beside 64 a document."""
    return _MEMORY if options.memory is None else bytes_of(options.memory, "curate.memory")


def _dedup_memory(options: Options) -> int:
    """Bytes that the tasks of dedup may take together."""
    return max(_LEAST_BYTES, _memory(options) - _OWN_BYTES)


@dataclass(frozen=True)
class _Copies:
    """Where texts are kept until they are written; nowhere where ``folder`` is None."""

    folder: Path | None

    @classmethod
    def of(cls, folder: Path | None, plan: Plan, options: Options, engine: Engine) -> _Copies:
        """There, if the options say so; where they say nothing, if this machine works alone and has four times the disk."""
        wanted = options.text_copy
        if folder is None or wanted is False:
            return cls(None)
        folder.mkdir(parents=True, exist_ok=True)
        if wanted is None:
            room = _ROOM * sum(shard.size for shard in plan.shards) <= shutil.disk_usage(folder).free
            wanted = room and isinstance(engine, LocalEngine)
        return cls(folder.resolve() if wanted else None)

    def path(self, shard: Shard) -> Path | None:
        """The copy of a shard."""
        return None if self.folder is None else self.folder / f"{shard.name}.texts"

    def remove(self) -> None:
        """Remove them all."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


def _measuring(shard: Shard, common: Mapping[str, Any], watch: bool, held: _Copies) -> Task:
    arguments = {**common, "shard": shard.to_dict(), "watch": watch, "copy": str(held.path(shard) or "")}
    cost = shard.size / 1e6 / _MEASURED_MB
    return Task(shard.name, "mixwright.curate.measuring:measure_shard", arguments, cost)


def _writing(shard: Shard, common: Mapping[str, Any], held: _Copies) -> Task:
    arguments = {**common, "shard": shard.to_dict(), "copy": str(held.path(shard) or "")}
    return Task(
        f"write {shard.name}", "mixwright.curate.writing:write_shard", arguments, shard.size / 1e6 / _WRITTEN_MB
    )


def _run(engine: Engine, tasks: Sequence[Task], on_progress: OnProgress) -> None:
    for outcome in list(engine.run(tasks, on_progress)) if tasks else []:
        outcome.result()


@dataclass
class _Source:
    """How far a source is: ``size`` of all its shards, ``done`` of that, shards ``left``, and what they told, summed up."""

    size: int = 0
    left: int = 0
    done: float = 0.0
    last: float = 0.0
    facts: Counter[str] = field(default_factory=Counter)


@dataclass
class _Told:
    """Progress of shards, told as that of their sources, with documents, megabytes and megabytes a second."""

    shards: Sequence[Shard]
    report: OnProgress
    _facts: dict[str, tuple[float, Mapping[str, Any]]] = field(default_factory=dict)
    _begun: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self._of = {shard.name: shard for shard in self.shards}
        self._sources: dict[str, _Source] = {}
        for shard in self.shards:
            source = self._sources.setdefault(shard.source, _Source())
            source.size += max(1, shard.size)
            source.left += 1

    def __call__(self, name: str, fraction: float, facts: dict[str, Any]) -> None:
        """A shard is at ``fraction``. Cost: the same however many shards there are."""
        shard = self._of[name]
        source, now = self._sources[shard.source], time.monotonic()
        before, told = self._facts.get(name, (0.0, {}))
        fraction, facts = max(before, fraction), {**told, **facts}
        source.done += (fraction - before) * max(1, shard.size)
        source.left -= before < 1 <= fraction
        for key in ("documents", "megabytes"):
            source.facts[key] += facts.get(key, 0) - told.get(key, 0)
        self._facts[name] = fraction, facts
        if not source.left or now - source.last > _SAID_EVERY:
            source.last = now
            seconds = max(1e-3, now - self._begun)
            read = {"documents": source.facts["documents"], "megabytes": round(source.facts["megabytes"], 1)}
            done = 1.0 if not source.left else min(source.done / source.size, 0.999)
            self.report(shard.source, done, {**read, "MB/s": round(source.facts["megabytes"] / seconds, 1)})


@dataclass
class _Deciding:
    """Progress of shards that are written, told as that of deciding."""

    shards: Sequence[Shard]
    report: OnProgress
    _done: dict[str, float] = field(default_factory=dict)

    def __call__(self, name: str, fraction: float, facts: dict[str, Any]) -> None:
        """A shard is at ``fraction``."""
        self._done[name] = fraction
        self.report("decide", 0.99 * sum(self._done.values()) / len(self.shards), {})


def _balanced(plan: Plan, out: Curated, counted: Mapping[str, Mapping[str, Any]], options: Options) -> Account:
    """The account of the whole, checked against what was measured and what was written."""
    account, read, kept, lines = Account(options.waterfall), Counter(), Counter(), Counter()  # type: ignore[var-annotated]
    for shard in plan.shards:
        facts = read_json(out.marker(shard))
        account.add(Account.from_dict(facts["account"]))
        read[shard.source] += counted[shard.name]["rows"] + counted[shard.name]["unreadable"]
        kept[shard.source] += facts["kept"]
        lines[shard.source] += facts["lines"]
    check_balance(account, read, kept, lines)
    return account


def _cut(plan: Plan, out: Curated) -> dict[str, dict[str, int]]:
    """Per source of how many documents lines or substrings were cut out, and how many characters."""
    found = {shard.source: {"documents": 0, "characters": 0} for shard in plan.shards}
    for shard in plan.shards:
        for key, count in read_json(out.marker(shard))["cut"].items():
            found[shard.source][key] += count
    return found


def _summary(given: Named, plan: Plan, options: Options, account: Account) -> dict[str, Any]:
    targets = {shard.source for shard in plan.shards if shard.target}

    def told(name: str) -> dict[str, Any]:
        tally, source = account.sources[name], given[name]
        return {
            "domain": source.domain or name,
            "rule": source.rule,
            "licence": source.licence,
            "files": plan.files[name][0],
            "ignored_files": plan.files[name][1],
            "read": dict(zip(("documents", "bytes"), tally.read.tolist(), strict=True)),
            "kept": dict(zip(("documents", "bytes"), tally.kept.tolist(), strict=True)),
            "dropped": account.counts("failing", name),
        }

    return {
        "schema": SCHEMA,
        "order": list(given),
        "domains": list(dict.fromkeys(given[name].domain or name for name in given if name not in targets)),
        "sources": {name: told(name) for name in given if name not in targets},
        "targets": {name: told(name) for name in given if name in targets},
        "rules": options.told(),
        **account.summary(),
    }
