"""Near-duplicates as tasks: from band keys to the table of verified pairs.

candidates  a task per run of keys: rows that agree in a band                                   one run of keys
screened    a task per block of shards: its distinct pairs whose sketches agree enough          a block's pairs
sets        a task per shard with suspects: read again, shingle sets of these alone             a batch
verified    a task per block of shards: exact Jaccard                                           a block's pairs
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mixwright.core.errors import DataError
from mixwright.curate.dedup.candidates import Buckets, distinct, rows_of
from mixwright.curate.dedup.folder import Folder, opened, save_array
from mixwright.curate.dedup.rows import Rows
from mixwright.curate.dedup.signing import BUCKETS, Bands, Hashes
from mixwright.curate.dedup.verify import Sets, screen, verify, write_sets
from mixwright.curate.hashing import hexes
from mixwright.curate.shards import Shard
from mixwright.curate.text_copy import texts_again
from mixwright.curate.texts import Counts
from mixwright.engine.task import Engine, Progress, Task
from mixwright.store.artifact import read_json, write_json, written_aside

if TYPE_CHECKING:
    import pyarrow as pa

#: bytes a task takes per entry of band keys, and per pair it screens and verifies
_ENTRY, _PAIR = 48, 48
#: entries, or pairs, that are worth a task of their own
_WORTH = 20_000
#: pairs read at once where they are counted or written
_READ = 1 << 20
#: bytes of text a second, for the cost of a task
_SPEED = 3e8
_HERE = "mixwright.curate.dedup.near"
#: ``told(stage, fraction)``
Told = Callable[[str, float], None]


def find_near(
    place: Folder, shards: Sequence[Shard], copies: Sequence[Path | None], engine: Engine, memory: int, told: Told
) -> dict[str, int]:
    """Find and verify the pairs among the rows of earlier runs and of ``shards``, and write ``pairs.parquet``.

    ``copies`` (text_copy.py) are read where there are any. ``memory`` is what one task may take. Returns ``candidates``,
    ``screened`` and verified ``pairs``, ``capped`` buckets and the ``largest``.
    """
    parts = _parts(place, memory, engine.slots)
    _run(place, engine, "candidates", [(n, {"parts": parts}) for n in range(parts)], told)
    blocks = list(enumerate(_blocks_of(place, parts, memory, engine.slots)))
    _run(place, engine, "screened", [(n, {"parts": parts, "block": block}) for n, block in blocks], told)
    suspects, rows = _suspects(place, len(blocks)), place.rows
    every = [*(None for _ in place.earlier), *shards]
    suspected = [n for n in range(len(every)) if suspects[rows.starts[n] : rows.starts[n + 1]].any()]
    held = [*(None for _ in place.earlier), *copies]
    given = [(n, {"shard": shard.to_dict() if (shard := every[n]) else None, "copy": str(held[n] or "")}) for n in
             suspected]  # fmt: skip
    _run(place, engine, "sets", given, told, {n: shard.size / _SPEED for n, shard in enumerate(every) if shard})
    _run(place, engine, "verified", [(n, {}) for n, _ in blocks], told)
    found = _write_pairs(place, len(blocks))
    facts = [read_json(_candidates(place, number).with_suffix(".json")) for number in range(parts)]
    found["capped"] = sum(one["capped"] for one in facts)
    found["largest"] = max((one["largest"] for one in facts), default=0)
    return found


def _run(
    place: Folder, engine: Engine, stage: str, given: Sequence[tuple[int, Mapping[str, Any]]], told: Told,
    costs: Mapping[int, float] | None = None,
) -> None:  # fmt: skip
    """Run the tasks of a stage that are not done: their numbers and what they are given."""
    tasks = [
        Task(
            f"{stage} {number}",
            f"{_HERE}:{stage}",
            {"folder": str(place.path), "number": number, **more},
            (costs or {}).get(number, 1.0),
        )
        for number, more in given
        if not _DONE[stage](place, number).is_file()
    ]
    fractions: dict[str, float] = {}

    def progress(name: str, fraction: float, facts: dict[str, Any]) -> None:
        fractions[name] = fraction
        told(stage, min(0.999, sum(fractions.values()) / len(tasks)))

    for outcome in list(engine.run(tasks, progress)) if tasks else []:
        outcome.result()


def _parts(place: Folder, memory: int, slots: int) -> int:
    """How many tasks the keys are shared out to; once said it stays, whatever the memory and the workers of a later call."""
    path = place.file("parts.json")
    if not path.is_file():
        entries = sum(Bands(Path(path)).count for path in place.plan["bands"])
        write_json(path, min(BUCKETS, max(1, -(-entries * _ENTRY // memory), min(slots, entries // _WORTH))))
    return int(read_json(path))


def _candidates(place: Folder, number: int) -> Path:
    return place.file("candidates", f"{number:05d}.npy")


def _screened(place: Folder, number: int) -> Path:
    return place.file("screened", f"{number:05d}.npz")


def _sets(place: Folder, number: int) -> Path:
    return place.file("sets", f"{number:05d}.hashes")


def _verified(place: Folder, number: int) -> Path:
    return place.file("verified", f"{number:05d}.npz")


#: the file by which a task of each stage is done
_DONE: dict[str, Callable[[Folder, int], Path]] = {
    "candidates": lambda place, number: _candidates(place, number).with_suffix(".json"),
    "screened": _screened,
    "sets": lambda place, number: _sets(place, number).with_suffix(".npz"),
    "verified": _verified,
}


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
    buckets = Buckets.of(np.concatenate(keys), np.concatenate(members), place.rows, place.near.representatives)
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


def _blocks_of(place: Folder, parts: int, memory: int, slots: int) -> list[tuple[int, int]]:
    """The shards in blocks of as many pairs, by their lower row, as a task may hold; a block for every worker."""
    path = place.file("blocks.json")
    if not path.is_file():
        counts = np.zeros(len(place.rows.orders), dtype=np.int64)
        for run in itertools.chain.from_iterable(_runs(place, number) for number in range(parts)):
            for start in range(0, len(run), _READ):
                lower, _ = rows_of(np.array(run[start : start + _READ]))
                counts += np.bincount(place.rows.shards(lower), minlength=len(counts))
        write_json(path, _blocks(counts, min(memory // _PAIR, max(_WORTH, -(-int(counts.sum()) // slots)))))
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


def screened(progress: Progress, *, folder: str, number: int, block: Sequence[int], parts: int) -> None:
    """The task of a block of shards: the distinct pairs whose lower row is in it, without those whose sketches differ."""
    place = opened(folder)
    first, stop = (np.uint64(place.rows.starts[at]) << np.uint64(32) for at in block)
    found = [np.zeros(0, dtype=np.uint64)]
    for part in range(parts):
        for run in _runs(place, part):
            start, end = np.searchsorted(run, np.array([first, stop]))
            found.append(np.array(run[start:end]))
    pairs = distinct(np.concatenate(found))
    bands = place.plan["bands"]
    kept = screen(pairs, place.rows, lambda shard: Bands(Path(bands[shard])).sketches(place.near), place.near.threshold)
    with written_aside(_screened(place, number)) as aside, aside.open("wb") as stream:
        np.savez(stream, pairs=kept, candidates=len(pairs))


def _suspects(place: Folder, blocks: int) -> NDArray[np.bool_]:
    """Which rows stand in a pair that is to be verified."""
    path = place.file("suspects.npy")
    if not path.is_file():
        suspects = np.zeros(len(place.rows), dtype=bool)
        for number in range(blocks):
            with np.load(_screened(place, number)) as held:
                for rows in rows_of(held["pairs"]):
                    suspects[rows] = True
        save_array(path, suspects)
    found: NDArray[np.bool_] = np.load(path, mmap_mode="r")
    return found


def sets(progress: Progress, *, folder: str, number: int, shard: Mapping[str, Any] | None, copy: str = "") -> None:
    """The task of a shard (None: a file of an earlier run): the shingle sets of its suspects."""
    place = opened(folder)
    starts = place.rows.starts
    wanted = np.array(np.load(place.file("suspects.npy"), mmap_mode="r")[starts[number] : starts[number + 1]])
    if shard is None:
        found = _numbered(place.earlier[number].texts(), len(wanted))
    else:
        found = texts_again(
            Shard.from_dict(shard), Path(copy) if copy else None, np.flatnonzero(wanted), of=len(wanted)
        )
    write_sets(_sets(place, number), found, wanted, place.near.ngram)


def _numbered(batches: Iterable[pa.Array], rows: int) -> Iterator[tuple[int, pa.Array]]:
    """The row of the first text of each batch beside it. Raises DataError if there are other than ``rows``."""
    at = 0
    for texts in batches:
        yield at, texts
        at += len(texts)
    if at != rows:
        raise DataError(f"{rows} rows of an earlier run were indexed, but {at} were read: a file of it has changed.")


def verified(progress: Progress, *, folder: str, number: int) -> None:
    """The task of a block of shards: the Jaccard similarity of its pairs."""
    place = opened(folder)
    with np.load(_screened(place, number)) as held:
        pairs, candidates = held["pairs"], int(held["candidates"])
    kept, jaccard = verify(pairs, place.rows, lambda shard: Sets.open(_sets(place, shard)), place.near.threshold)
    with written_aside(_verified(place, number)) as aside, aside.open("wb") as stream:
        np.savez(stream, pairs=kept, jaccard=jaccard, candidates=candidates, screened=len(pairs))


def _write_pairs(place: Folder, blocks: int) -> dict[str, int]:
    """Put the verified pairs into one table: ``a`` and ``b`` (row numbers), their places and ids, ``jaccard``; by place."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    numbers = [(f"{name}{which}", pa.int64()) for which in "ab" for name in ("", "order_", "index_")]
    schema = pa.schema([*numbers, ("id_a", pa.string()), ("id_b", pa.string()), ("jaccard", pa.float64())])
    counts = {"candidates": 0, "screened": 0, "pairs": 0}
    with written_aside(place.pairs) as aside, pq.ParquetWriter(aside, schema, compression="zstd") as writer:
        for number in range(blocks):
            with np.load(_verified(place, number)) as held:
                pairs, jaccard = held["pairs"], held["jaccard"]
                counts["candidates"] += int(held["candidates"])
                counts["screened"] += int(held["screened"])
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
