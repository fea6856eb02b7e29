"""Dedup as tasks: from what measuring left of every shard to the verified pairs, and from these to what is dropped.

    rows        ids, hashes and sizes of all rows in one place; rows of equal text                  one table at a time
    candidates  a task per run of keys: rows that agree in a band                                   one run of keys
    sets        a task per shard with suspects: read again, shingle sets of these alone             a batch
    verified    a task per block of shards: exact Jaccard of its pairs                              a block's pairs
    pairs       ``pairs.parquet``: every pair at or above the threshold, by place

Every task writes files of its own, the one that says it is done last; after a kill what is done is not done again. What
is left does not depend on the number of workers or on memory.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mixwright.curate.dedup.candidates import Buckets, rows_of
from mixwright.curate.dedup.index import Indexed, open_index
from mixwright.curate.dedup.keep import NEAR, SEMANTIC, Equals, Relation, drops
from mixwright.curate.dedup.options import Near, Options
from mixwright.curate.dedup.rows import Part, Rows, gather, priorities, twins
from mixwright.curate.dedup.signing import BUCKETS, Bands, Hashes
from mixwright.curate.dedup.verify import Sets, verify, write_sets
from mixwright.curate.hashing import hexes
from mixwright.curate.shards import Shard
from mixwright.curate.texts import Counts
from mixwright.engine.task import Engine, Progress, Task
from mixwright.store.artifact import read_json, write_json, written_aside

if TYPE_CHECKING:
    import pyarrow as pa

#: ``report(stage, fraction, facts)``
Report = Callable[[str, float, dict[str, Any]], None]
#: bytes that all tasks together may take where nothing is said
MEMORY = 1 << 30
#: bytes a task takes per entry of band keys, and per pair it verifies; bytes a row takes where equal ones are found
_ENTRY, _PAIR, _ROW = 48, 48, 32
#: pairs read at once where they are counted or written
_READ = 1 << 20
#: bytes of text a second, for the cost of a task
_SPEED = 3e8
_HERE = "mixwright.curate.dedup.stage"


@dataclass(frozen=True)
class Noted:
    """What measuring left of a shard: its table of signals, its band keys (None where near-duplicates are kept), and the hashes
    by which rows are exact duplicates (``.npy`` (n, 2); None: those of their texts)."""

    shard: Shard
    signals: Path
    bands: Path | None = None
    keys: Path | None = None


@dataclass(frozen=True)
class Folder:
    """Where dedup works. ``found.json`` comes last."""

    path: Path

    def file(self, *names: str) -> Path:
        """A file of it."""
        return self.path.joinpath(*names)

    @cached_property
    def plan(self) -> Mapping[str, Any]:
        """What was asked for: files and options."""
        found: Mapping[str, Any] = read_json(self.file("plan.json"))
        return found

    @cached_property
    def earlier(self) -> list[Indexed]:
        """The files of earlier runs, which are the first shards."""
        near = Near(**self.plan["near"]) if self.plan["near"] else None
        return [one for path in self.plan["against"] for one in open_index(Path(path), near)]

    @cached_property
    def rows(self) -> Rows:
        """All rows."""
        return Rows.open(self.file("rows"), longest=self.plan["longest"], settled=self.plan["settled"])

    @cached_property
    def texts(self) -> Equals:
        """Rows of equal text."""
        return Equals(np.load(self.file("twins.npy")))

    @property
    def keys(self) -> Equals | None:
        """Rows that are exact duplicates; None where these are kept."""
        if not self.plan["exact"]:
            return None
        return Equals(np.load(self.file("key_twins.npy"))) if any(self.plan["keys"]) else self.texts

    @property
    def pairs(self) -> Path:
        """The verified pairs."""
        return self.file("pairs.parquet")


@lru_cache(maxsize=2)
def _folder(path: str, written: int) -> Folder:
    del written  # another time: another plan
    return Folder(Path(path))


def opened(path: str | Path) -> Folder:
    """The folder, what it read kept for the next task."""
    return _folder(str(path), Path(path, "plan.json").stat().st_mtime_ns)


def find_pairs(
    noted: Sequence[Noted], folder: Path, options: Options, *, engine: Engine, report: Report | None = None,
    memory: int = MEMORY, base: Path = Path(),
) -> dict[str, Any]:  # fmt: skip
    """Find all duplicates among the rows of ``noted`` shards (in their order) and leave them in ``folder``, for ``dropped``.

    ``memory`` (bytes) is what all tasks together may take beside 64 bytes a row; ``options.against`` begin at ``base``.
    Returns counts: ``rows``, ``distinct`` texts, ``candidates`` (pairs verified), ``pairs`` at or above the threshold,
    ``capped`` buckets, the ``largest`` of them. Called again after any interruption it does only what was not done. Raises
    StudyError and DataError in one sentence.
    """
    place = _planned(noted, folder, options, base)
    if place.file("found.json").is_file():
        return dict(read_json(place.file("found.json")))
    told = _Told(report or (lambda *_: None))
    own = max(1 << 22, memory // engine.slots)
    _gather(place, noted, options, own)
    own_rows, repeated = len(place.rows) - place.rows.settled, place.texts.pairs[:, 0] >= place.rows.settled
    facts = {"rows": own_rows, "distinct": own_rows - int(repeated.sum())}
    facts |= dict.fromkeys(("candidates", "pairs", "capped", "largest"), 0)
    if options.for_near:
        facts |= _find_near(place, noted, engine, own, told)
    if options.for_semantic:
        from mixwright.curate.dedup.semantic import find_similar

        shards = [one.shard for one in noted]
        facts |= find_similar(shards, place.path, options.for_semantic, engine=engine, memory=memory)
    write_json(place.file("found.json"), facts)
    told("pairs", 1.0)
    return facts


def dropped(folder: Path, passing: Sequence[NDArray[np.bool_]], options: Options) -> pa.Table:
    """What ``drops`` says of the rows that pass everything else, one mask per shard of ``find_pairs``, in its order.

    ``options`` may have a higher near threshold than the pairs were found with. Reads no text.
    """
    place = opened(folder)
    mask = np.concatenate([np.zeros(place.rows.settled, dtype=bool), *passing])
    relations = []
    if options.for_near:
        relations.append(near_pairs(place).at_least(options.for_near.threshold))
    if options.for_semantic:
        relations.append(semantic_pairs(place).at_least(options.for_semantic.threshold))
    return drops(place.rows, mask, texts=place.texts, keys=place.keys, relations=relations)


def near_pairs(place: Folder) -> Relation:
    """The verified pairs as row numbers."""
    import pyarrow.parquet as pq

    table = pq.read_table(place.pairs, columns=["a", "b", "jaccard"])
    return Relation(NEAR, *(table[name].to_numpy() for name in ("a", "b", "jaccard")))


def semantic_pairs(place: Folder) -> Relation:
    """The pairs that mean the same as row numbers."""
    import pyarrow.parquet as pq

    table = pq.read_table(place.file("semantic.parquet"))
    return Relation(SEMANTIC, *(table[name].to_numpy() for name in ("a", "b", "cosine")))


@dataclass(frozen=True)
class _Told:
    """Progress of the stages, as that of one."""

    report: Report

    def __call__(self, stage: str, fraction: float, **facts: Any) -> None:
        self.report(f"dedup: {stage}", fraction, facts)


def _planned(noted: Sequence[Noted], folder: Path, options: Options, base: Path) -> Folder:
    """Write down what is asked for; what was made for anything else is removed."""
    near = options.for_near
    against = [(base / path).resolve() for path in options.against]
    earlier = [one for path in against for one in open_index(path, near)]
    plan = {
        "against": [str(path) for path in against],
        "shards": [one.shard.name for one in noted],
        "signals": [str(one.signals) for one in noted],
        "bands": [str(one.bands) for one in (*earlier, *noted)] if near else [],
        "keys": [str(one.keys) if one.keys else "" for one in noted],
        "near": dataclasses.asdict(near) if near else None,
        "semantic": dataclasses.asdict(options.for_semantic) if options.for_semantic else None,
        "exact": bool(options.exact),
        "priority": list(options.priority),
        "longest": options.prefer == "longest",
        "settled": sum(one.rows for one in earlier),
    }
    path = folder / "plan.json"
    if not path.is_file() or read_json(path) != json.loads(json.dumps(plan)):
        shutil.rmtree(folder, ignore_errors=True)
        write_json(path, plan)
    return opened(folder)


def _gather(place: Folder, noted: Sequence[Noted], options: Options, memory: int) -> None:
    done = place.file("twins.npy")
    if done.is_file():
        return
    earlier = place.earlier
    before = np.full(len(earlier), -1)
    orders = np.concatenate([before, [one.shard.order for one in noted]]).astype(np.int64)
    ranks = np.concatenate([before, priorities([one.shard for one in noted], options.priority)])
    tables = [Part.of_table(one.signals) for one in noted]
    gather([*(Part(one.rows, one.load) for one in earlier), *tables], orders, ranks, place.file("rows"))
    parts = max(1, -(-len(place.rows) * _ROW // memory))
    if any(one.keys for one in noted):
        keys = np.concatenate([place.rows.ids[: place.rows.settled], *(np.load(one.keys) for one in noted if one.keys)])
        _save(place.file("key_twins.npy"), twins(place.rows, keys, parts))
    _save(done, twins(place.rows, place.rows.hashes, parts))


def _save(path: Path, values: NDArray[Any]) -> None:
    with written_aside(path) as aside, aside.open("wb") as stream:
        np.save(stream, values)


def _find_near(place: Folder, noted: Sequence[Noted], engine: Engine, memory: int, told: _Told) -> dict[str, int]:
    """Candidates, sets, verified pairs, and the table of these."""
    parts = _parts(place, memory)
    common = {"folder": str(place.path)}
    numbers = [number for number in range(parts) if not _candidates(place, number).with_suffix(".json").is_file()]
    tasks = [
        Task(f"candidates {number}", f"{_HERE}:candidates", {**common, "number": number, "parts": parts})
        for number in numbers
    ]
    _run(engine, tasks, told, "candidates")
    blocks = _suspects(place, parts, memory)
    suspects = np.load(place.file("suspects.npy"), mmap_mode="r")
    rows, tasks = place.rows, []
    shards = [None] * len(place.earlier) + [one.shard for one in noted]
    for number, shard in enumerate(shards):
        wanted = suspects[rows.starts[number] : rows.starts[number + 1]]
        if wanted.any() and not _sets(place, number).with_suffix(".npz").is_file():
            arguments = {**common, "number": number, "shard": shard.to_dict() if shard else None}
            tasks.append(Task(f"sets {number}", f"{_HERE}:sets", arguments, shard.size / _SPEED if shard else 1.0))
    _run(engine, tasks, told, "sets")
    tasks = [
        Task(f"verified {at}", f"{_HERE}:verified", {**common, "number": at, "block": block, "parts": parts})
        for at, block in enumerate(blocks)
        if not _verified(place, at).is_file()
    ]
    _run(engine, tasks, told, "verified")
    found = _write_pairs(place, len(blocks))
    facts = [read_json(_candidates(place, number).with_suffix(".json")) for number in range(parts)]
    return found | {
        "capped": sum(one["capped"] for one in facts),
        "largest": max((one["largest"] for one in facts), default=0),
    }


def _run(engine: Engine, tasks: Sequence[Task], told: _Told, stage: str) -> None:
    done: dict[str, float] = {}

    def progress(name: str, fraction: float, facts: dict[str, Any]) -> None:
        done[name] = fraction
        told(stage, min(0.999, sum(done.values()) / len(tasks)))

    for outcome in list(engine.run(tasks, progress)) if tasks else []:
        outcome.result()


def _parts(place: Folder, memory: int) -> int:
    """How many tasks the keys are shared out to; once said it stays, whatever the memory of a later call."""
    path = place.file("parts.json")
    if not path.is_file():
        entries = sum(Bands(Path(path)).count for path in place.plan["bands"])
        write_json(path, min(BUCKETS, max(1, -(-entries * _ENTRY // memory))))
    return int(read_json(path))


def _candidates(place: Folder, number: int) -> Path:
    return place.file("candidates", f"{number:05d}.npy")


def _sets(place: Folder, number: int) -> Path:
    return place.file("sets", f"{number:05d}.hashes")


def _verified(place: Folder, number: int) -> Path:
    return place.file("verified", f"{number:05d}.npz")


def candidates(progress: Progress, *, folder: str, number: int, parts: int) -> None:
    """The task of a run of keys: one slice of every shard's band keys, one file open at a time."""
    place = opened(folder)
    start, stop = (BUCKETS * at // parts for at in (number, number + 1))
    keys, members = [np.zeros(0, dtype=np.uint64)], [np.zeros(0, dtype=np.int64)]
    repeated = place.texts.pairs[:, 0]
    for shard, path in enumerate(place.plan["bands"]):
        some, rows = Bands(Path(path)).read(start, stop)
        numbers = rows.astype(np.int64) + place.rows.starts[shard]
        own = slice(*np.searchsorted(repeated, place.rows.starts[shard : shard + 2]).tolist())
        distinct = ~np.isin(numbers, repeated[own]) if own.stop > own.start else np.ones(len(numbers), dtype=bool)
        keys.append(some[distinct])
        members.append(numbers[distinct])
        progress((shard + 1) / len(place.plan["bands"]) / 2)
    buckets = Buckets.of(
        np.concatenate(keys), np.concatenate(members), place.rows, Near(**place.plan["near"]).representatives
    )
    path, runs = _candidates(place, number), [0]
    with written_aside(path) as aside, aside.open("wb") as stream:
        for pairs in buckets.pairs():
            stream.write(pairs.astype("<u8", copy=False).data)
            runs.append(runs[-1] + len(pairs))
    write_json(path.with_suffix(".json"), {"runs": runs, "capped": buckets.capped, "largest": buckets.largest})


def _runs(place: Folder, number: int) -> Iterator[Hashes]:
    """The ascending runs of pairs that a task of candidates left, mapped into memory."""
    path = _candidates(place, number)
    runs = read_json(path.with_suffix(".json"))["runs"]
    if runs[-1]:
        whole = np.memmap(path, dtype="<u8", mode="r")
        for start, stop in itertools.pairwise(runs):
            yield whole[start:stop]


def _suspects(place: Folder, parts: int, memory: int) -> list[tuple[int, int]]:
    """Note which rows stand in a pair, and cut the shards into blocks of as many pairs as a task may hold."""
    path = place.file("blocks.json")
    if not path.is_file():
        rows = place.rows
        suspects = np.zeros(len(rows), dtype=bool)
        per_shard = np.zeros(len(rows.orders), dtype=np.int64)
        for number in range(parts):
            for run in _runs(place, number):
                for start in range(0, len(run), _READ):
                    lower, higher = rows_of(np.array(run[start : start + _READ]))
                    suspects[lower] = suspects[higher] = True
                    per_shard += np.bincount(rows.shards(lower), minlength=len(per_shard))
        _save(place.file("suspects.npy"), suspects)
        write_json(path, _blocks(per_shard, memory // _PAIR))
    return [(int(start), int(stop)) for start, stop in read_json(path)]


def _blocks(counts: Counts, most: int) -> list[tuple[int, int]]:
    """Runs of shards (first, stop) of at most ``most`` pairs, or of one shard; those without pairs at the ends are left out."""
    blocks: list[tuple[int, int]] = []
    held = 0
    for shard in np.flatnonzero(counts).tolist():
        if blocks and held + counts[shard] <= most:
            blocks[-1] = (blocks[-1][0], shard + 1)
            held += int(counts[shard])
        else:
            blocks.append((shard, shard + 1))
            held = int(counts[shard])
    return blocks


def sets(progress: Progress, *, folder: str, number: int, shard: Mapping[str, Any] | None) -> None:
    """The task of a shard (None: a file of an earlier run): the shingle sets of its suspects."""
    place = opened(folder)
    starts = place.rows.starts
    wanted = np.load(place.file("suspects.npy"), mmap_mode="r")[starts[number] : starts[number + 1]]
    if shard is None:
        batches = place.earlier[number].texts()
    else:
        batches = (batch.texts for batch in Shard.from_dict(shard).batches())
    write_sets(_sets(place, number), batches, np.array(wanted), place.plan["near"]["ngram"])


def verified(progress: Progress, *, folder: str, number: int, block: Sequence[int], parts: int) -> None:
    """The task of a block of shards: the pairs whose lower row is in it."""
    place = opened(folder)
    first, stop = (np.uint64(place.rows.starts[at]) << np.uint64(32) for at in block)
    found = [np.zeros(0, dtype=np.uint64)]
    for part in range(parts):
        for run in _runs(place, part):
            start, end = np.searchsorted(run, np.array([first, stop]))
            found.append(np.array(run[start:end]))
    pairs = np.unique(np.concatenate(found))
    held, jaccard = verify(
        pairs, place.rows, lambda shard: Sets.open(_sets(place, shard)), place.plan["near"]["threshold"]
    )
    with written_aside(_verified(place, number)) as aside, aside.open("wb") as stream:
        np.savez(stream, pairs=held, jaccard=jaccard, candidates=len(pairs))


def _write_pairs(place: Folder, blocks: int) -> dict[str, int]:
    """Put the verified pairs into one table: ``a`` and ``b`` (row numbers), their places and ids, ``jaccard``; by place."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    numbers = [(f"{name}{which}", pa.int64()) for which in "ab" for name in ("", "order_", "index_")]
    schema = pa.schema([*numbers, ("id_a", pa.string()), ("id_b", pa.string()), ("jaccard", pa.float64())])
    counts = {"candidates": 0, "pairs": 0}
    with written_aside(place.pairs) as aside, pq.ParquetWriter(aside, schema, compression="zstd") as writer:
        for number in range(blocks):
            with np.load(_verified(place, number)) as held:
                pairs, jaccard = held["pairs"], held["jaccard"]
                counts["candidates"] += int(held["candidates"])
            counts["pairs"] += len(pairs)
            for start in range(0, len(pairs), _READ):
                some = slice(start, start + _READ)
                writer.write_table(_pair_table(place.rows, pairs[some], jaccard[some], schema))
    return counts


def _pair_table(rows: Rows, pairs: Hashes, jaccard: NDArray[np.float64], schema: pa.Schema) -> pa.Table:
    import pyarrow as pa

    columns: list[Any] = []
    for numbers in rows_of(pairs):
        shards = rows.shards(numbers)
        columns += [numbers, rows.orders[shards], numbers - rows.starts[shards]]
    ids = [hexes(np.array(rows.ids[numbers])) for numbers in rows_of(pairs)]
    return pa.table([*columns, *ids, jaccard], schema=schema)
