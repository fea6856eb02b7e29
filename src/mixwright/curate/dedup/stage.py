"""Dedup from what measuring left of every shard to all pairs of duplicates, and from these to what is dropped.

Ids, hashes and sizes of all rows are put in one place, and rows of equal text found; ``near.py`` and ``semantic.py`` add
pairs of similar ones. Every task writes files of its own, the one that says it is done last; after a kill what is done is
not done again. What is left does not depend on the number of workers or on memory.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mixwright.curate.dedup.folder import Folder, opened, save_array
from mixwright.curate.dedup.index import open_index
from mixwright.curate.dedup.keep import NEAR, SEMANTIC, Relation, drops
from mixwright.curate.dedup.near import find_near
from mixwright.curate.dedup.options import Options
from mixwright.curate.dedup.rows import Part, gather, priorities, twins
from mixwright.curate.dedup.semantic import find_similar
from mixwright.curate.shards import Shard
from mixwright.engine.task import Engine
from mixwright.store.artifact import read_json, write_json

if TYPE_CHECKING:
    import pyarrow as pa

#: ``report(stage, fraction, facts)``
Report = Callable[[str, float, dict[str, Any]], None]
#: bytes that all tasks together may take where nothing is said
MEMORY = 1 << 30
#: bytes a row takes where equal ones are found
_ROW = 32


@dataclass(frozen=True)
class Noted:
    """What measuring left of a shard: its table of signals, its band keys (None where near-duplicates are kept), and the hashes
    by which rows are exact duplicates (``.npy`` (n, 2); None: those of their texts); ``copy``: where there
    may be one of its texts."""

    shard: Shard
    signals: Path
    bands: Path | None = None
    keys: Path | None = None
    copy: Path | None = None


def find_pairs(
    noted: Sequence[Noted], folder: Path, options: Options, *, engine: Engine, report: Report | None = None,
    memory: int = MEMORY, base: Path = Path(),
) -> dict[str, Any]:  # fmt: skip
    """Find all duplicates among the rows of ``noted`` shards (in their order) and leave them in ``folder``, for ``dropped``.

    ``memory`` (bytes) is what all tasks together may take beside 64 bytes a row; ``options.against`` begin at ``base``.
    Returns counts: ``rows``, ``distinct`` texts, ``candidates`` (pairs), ``screened`` ones, which were verified, ``pairs`` at
    or above the threshold, ``capped`` buckets, the ``largest`` of them. Called again after any interruption it does only
    what was not done. Raises StudyError and DataError in one sentence.
    """
    place = _planned(noted, folder, options, base)
    if place.file("found.json").is_file():
        return dict(read_json(place.file("found.json")))
    told = _Told(report or (lambda *_: None))
    own = max(1 << 22, memory // engine.slots)
    _gather(place, noted, options, own)
    own_rows, repeated = len(place.rows) - place.rows.settled, place.texts.pairs[:, 0] >= place.rows.settled
    facts = {"rows": own_rows, "distinct": own_rows - int(repeated.sum())}
    facts |= dict.fromkeys(("candidates", "screened", "pairs", "capped", "largest"), 0)
    if options.for_near:
        shards, copies = [one.shard for one in noted], [one.copy for one in noted]
        facts |= find_near(place, shards, copies, engine, own, told)
    if options.for_semantic:
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
        "bands": [str(path) for path in [*(one.bands for one in earlier), *(one.bands for one in noted)]]
        if near
        else [],
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
        save_array(place.file("key_twins.npy"), twins(place.rows, keys, parts))
    save_array(done, twins(place.rows, place.rows.hashes, parts))
