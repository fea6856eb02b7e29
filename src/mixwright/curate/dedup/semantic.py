"""Texts that mean the same: pairs of vectors at or above a cosine, found by random hyperplanes, verified exactly.

Without a model a text's vector is the hashed TF-IDF of its words (1 + log of the count, times log of all texts over those with
the word) under a projection of random signs to ``DIMENSIONS`` numbers (Achlioptas 2003): a cosine c of the whole vectors is kept
with a standard error of (1 - c^2) / sqrt(DIMENSIONS), .006 at .95. With one it is ``embedding.embedder``'s.

Candidates agree in all ``bits`` sides of hyperplanes of one of the ``tables`` (Charikar 2002): two vectors at angle a agree
in one side with probability 1 - a / pi. Bits grow with the rows, so that tables stay sparse; there are as many tables as miss
no more than ``_MISSED`` of pairs at the threshold.

    counts    a task per shard: in how many texts each word stands           (without a model)
    vectors   a task per shard: (n, d) float32, and keys of its tables
    cosines   a task per run of keys: candidates and their cosines
    semantic.parquet: a, b (row numbers), cosine
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixwright.core.rng import rng
from mixwright.curate.dedup.candidates import Buckets, by_shards, rows_of
from mixwright.curate.dedup.folder import Folder, opened, save_array
from mixwright.curate.dedup.options import Near, Semantic
from mixwright.curate.dedup.rows import Rows
from mixwright.curate.dedup.signing import BUCKETS, Bands, Hashes, write_bands
from mixwright.curate.shards import Shard
from mixwright.curate.signal import Floats
from mixwright.curate.texts import Texts
from mixwright.engine.task import Engine, Progress, Task
from mixwright.store.artifact import read_json, write_json, written_aside

Vectors = NDArray[np.float32]
DIMENSIONS = 256
#: hashed words whose texts are counted: two of 10^5 words share a count with probability .1
_WORDS = 1 << 20
#: of pairs at the threshold so many may be missed
_MISSED = 0.002
#: bytes a task takes per entry; texts embedded at once
_ENTRY, _TEXTS = 64, 512
_HERE = "mixwright.curate.dedup.semantic"
FILE = "semantic.parquet"


def find_similar(
    shards: Sequence[Shard], folder: Path, semantic: Semantic, *, engine: Engine, memory: int
) -> dict[str, int]:
    """Find the pairs among the rows of ``shards`` and leave them in ``folder``, that of ``find_pairs`` over the same shards.

    Only texts of this run are compared. Resumed as ``find_pairs``. Returns ``semantic_candidates``, ``semantic_pairs`` and
    ``semantic_capped`` buckets.
    """
    place, own = opened(folder), folder / "semantic"
    if (folder / FILE).is_file():
        return dict(read_json(own / "found.json"))
    rows = place.rows
    bits, tables = tables_for(len(rows), semantic.threshold)
    plan = dataclasses.asdict(semantic) | {"bits": bits, "tables": tables, "first": len(rows.orders) - len(shards)}
    plan["parts"] = min(BUCKETS, max(1, -(-len(rows) * tables * _ENTRY * engine.slots // memory)))
    if not (own / "plan.json").is_file():
        write_json(own / "plan.json", plan)
    plan = read_json(own / "plan.json")
    numbered = [(number, shard.to_dict()) for number, shard in enumerate(shards)]
    if semantic.model is None:
        _run(engine, "counts", folder, [(n, s) for n, s in numbered if not _counts(own, n).is_file()])
        _sum_counts(own, len(shards))
    _run(engine, "vectors", folder, [(n, s) for n, s in numbered if not _keys(own, n).is_file()])
    parts = range(plan["parts"])
    _run(engine, "cosines", folder, [(part, None) for part in parts if not _cosines(own, part).is_file()])
    facts = _write(place, own, plan["parts"])
    return facts


def tables_for(rows: int, threshold: float) -> tuple[int, int]:
    """``bits`` and ``tables``: a bucket holds about 8 of unrelated vectors."""
    bits = max(8, min(32, round(math.log2(max(rows, 2))) - 3))
    agree = (1 - math.acos(min(1.0, threshold)) / math.pi) ** bits
    tables = 1 if agree >= 1 else math.ceil(math.log(_MISSED) / math.log(1 - agree))
    return bits, min(512, max(1, tables))


def hashed_vectors(texts: Texts, weights: NDArray[np.float32]) -> Vectors:
    """The vectors of texts by their words, ``(n, DIMENSIONS)``; ``weights`` (a power of two) are those of hashed words."""
    from mixwright.curate.dedup.semantic_kernels import projected

    first, hashes = texts.word_hashes
    vectors: Vectors = projected(hashes, first, weights, DIMENSIONS // 64)
    return vectors


def _run(engine: Engine, name: str, folder: Path, numbers: Sequence[tuple[int, Any]]) -> None:
    tasks = [
        Task(f"{name} {number}", f"{_HERE}:{name}", {"folder": str(folder), "number": number, "shard": shard})
        for number, shard in numbers
    ]
    for outcome in list(engine.run(tasks)) if tasks else []:
        outcome.result()


def _counts(own: Path, number: int) -> Path:
    return own / "counts" / f"{number:05d}.npy"


def _keys(own: Path, number: int) -> Path:
    return own / "vectors" / f"{number:05d}.keys"


def _cosines(own: Path, number: int) -> Path:
    return own / "cosines" / f"{number:05d}.npz"


def counts(progress: Progress, *, folder: str, number: int, shard: Mapping[str, Any]) -> None:
    """The task of a shard: in how many of its texts each hashed word stands."""
    from mixwright.curate.dedup.semantic_kernels import count_texts

    found = np.zeros(_WORDS, dtype=np.int64)
    for batch in Shard.from_dict(shard).batches():
        first, words = Texts(batch.texts).word_hashes
        count_texts(words, first, found)
    save_array(_counts(Path(folder, "semantic"), number), found)


def _sum_counts(own: Path, shards: int) -> None:
    if not (own / "counts.npy").is_file():
        whole = np.zeros(_WORDS, dtype=np.int64)
        for number in range(shards):
            whole += np.load(_counts(own, number))
        save_array(own / "counts.npy", whole)


def vectors(progress: Progress, *, folder: str, number: int, shard: Mapping[str, Any]) -> None:
    """The task of a shard: the vectors of its rows, and the keys of its distinct texts."""
    from mixwright.curate.dedup.semantic_kernels import table_keys

    place, own = opened(folder), Path(folder, "semantic")
    plan = read_json(own / "plan.json")
    made = [np.zeros((0, DIMENSIONS), dtype=np.float32)]
    made = list(_vectors(Shard.from_dict(shard), own, plan, len(place.rows))) or made
    held = np.concatenate(made)
    save_array(_keys(own, number).with_suffix(".npy"), held)
    start, stop = place.rows.starts[plan["first"] + number :][:2]
    distinct = ~np.isin(np.arange(start, stop), place.texts.pairs[:, 0]) & held.any(axis=1)
    planes = rng(0, "hyperplanes", held.shape[1]).standard_normal(
        (held.shape[1], plan["tables"] * plan["bits"]), np.float32
    )
    rows = np.flatnonzero(distinct)
    blocks = [
        table_keys(held[rows[at : at + _TEXTS]] @ planes > 0, plan["tables"]) for at in range(0, len(rows), _TEXTS)
    ]
    keys = np.concatenate([np.zeros((0, plan["tables"]), dtype=np.uint64), *blocks]).ravel()
    order = np.argsort(keys, kind="stable")
    write_bands(_keys(own, number), keys[order], np.repeat(rows, plan["tables"]).astype(np.uint32)[order])


def _vectors(shard: Shard, own: Path, plan: Mapping[str, Any], rows: int) -> Iterator[Vectors]:
    if plan["model"] is None:
        weights = np.log((1 + rows) / (1 + np.load(own / "counts.npy"))).astype(np.float32) + np.float32(1e-3)
        for batch in shard.batches():
            yield hashed_vectors(Texts(batch.texts), weights)
        return
    embed = _embedder(plan["model"])
    for batch in shard.batches():
        yield embed(batch.texts.to_pylist())


@lru_cache(maxsize=1)
def _embedder(model: str) -> Callable[[Sequence[str]], Vectors]:
    from mixwright.curate.embedding import embedder

    return embedder(model)


def cosines(progress: Progress, *, folder: str, number: int, shard: None) -> None:
    """The task of a run of keys: candidates, and those at or above the threshold with their cosines."""
    place, own = opened(folder), Path(folder, "semantic")
    plan = read_json(own / "plan.json")
    start, stop = (BUCKETS * at // plan["parts"] for at in (number, number + 1))
    keys, members = [np.zeros(0, dtype=np.uint64)], [np.zeros(0, dtype=np.int64)]
    for at in range(len(place.rows.orders) - plan["first"]):
        some, rows = Bands(_keys(own, at)).read(start, stop)
        keys.append(some)
        members.append(rows.astype(np.int64) + place.rows.starts[plan["first"] + at])
    buckets = Buckets.of(np.concatenate(keys), np.concatenate(members), place.rows, Near().representatives)
    pairs, cosine, count = [np.zeros(0, dtype=np.uint64)], [np.zeros(0)], 0
    for run in buckets.pairs():
        similar = cosines_of(run, place.rows, own, plan["first"])
        kept = similar >= plan["threshold"]
        pairs.append(run[kept])
        cosine.append(similar[kept])
        count += len(run)
    with written_aside(_cosines(own, number)) as aside, aside.open("wb") as stream:
        similar = np.concatenate(cosine)
        np.savez(stream, pairs=np.concatenate(pairs), cosine=similar, candidates=count, capped=buckets.capped)


def cosines_of(pairs: Hashes, rows: Rows, own: Path, first: int) -> Floats:
    """The cosine of each pair, in float64 over the stored vectors, a pair of shards at a time."""
    lower, higher = rows_of(pairs)
    found = np.zeros(len(pairs))
    for a, b, group in by_shards(pairs, rows):
        left, right = (np.load(_keys(own, at - first).with_suffix(".npy"), mmap_mode="r") for at in (a, b))
        for at in range(0, len(group), _TEXTS):
            some = group[at : at + _TEXTS]
            u = left[lower[some] - rows.starts[a]].astype(np.float64)
            v = right[higher[some] - rows.starts[b]].astype(np.float64)
            found[some] = np.minimum(1.0, np.einsum("ij,ij->i", u, v))
    return found


def _write(place: Folder, own: Path, parts: int) -> dict[str, int]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    facts = {"semantic_candidates": 0, "semantic_pairs": 0, "semantic_capped": 0}
    pairs, cosine = [], []
    for part in range(parts):
        with np.load(_cosines(own, part)) as held:
            pairs.append(held["pairs"])
            cosine.append(held["cosine"])
            facts["semantic_candidates"] += int(held["candidates"])
            facts["semantic_capped"] += int(held["capped"])
    distinct, index = np.unique(np.concatenate(pairs), return_index=True)
    facts["semantic_pairs"] = len(distinct)
    write_json(own / "found.json", facts)
    lower, higher = rows_of(distinct)
    table = pa.table({"a": lower, "b": higher, "cosine": np.concatenate(cosine)[index]})
    with written_aside(place.file(FILE)) as aside:
        pq.write_table(table, aside, compression="zstd")
    return facts
