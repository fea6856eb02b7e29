"""Small corpora as shards on disk, dedup of them, and plain readings of what it promises."""

import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mixwright.core.document import document_ids
from mixwright.core.rng import rng
from mixwright.curate.dedup.index import open_index
from mixwright.curate.dedup.options import Options
from mixwright.curate.dedup.signing import BandWriter
from mixwright.curate.dedup.stage import Noted, dropped, find_pairs
from mixwright.curate.hashing import hexes, text_hashes
from mixwright.curate.shards import Shard
from mixwright.curate.texts import Texts
from mixwright.engine.local import LocalEngine
from mixwright.engine.task import Engine
from mixwright.store.documents import SourceOptions, find_files
from mixwright.store.pieces import Piece

HERE = LocalEngine(1, "threads")


def shingles(text: str, n: int) -> set[tuple[str, ...]]:
    words = re.findall(r"[\u4e00-\u9fff]|[^\W\u4e00-\u9fff]+", text.lower())
    return {tuple(words[i : i + n]) for i in range(max(1, len(words) - n + 1))} if words else set()


def jaccard(one: str, other: str, n: int = 5) -> float:
    a, b = shingles(one, n), shingles(other, n)
    return len(a & b) / len(a | b) if a or b else 0.0


def _table(rows: Sequence[str | Mapping[str, object]]) -> pa.Table:
    if not rows or isinstance(rows[0], str):
        return pa.table({"text": pa.array(rows, pa.string())})
    names = dict.fromkeys(name for row in rows for name in row)
    return pa.table({name: [row.get(name) for row in rows] for name in names})


def shards(base: Path, sources: Mapping[str, Sequence[Sequence[Any]]]) -> list[Shard]:
    """Sources of a file per shard, of texts or of rows with several fields."""
    made: list[Shard] = []
    for name, files in sources.items():
        for number, texts in enumerate(files):
            path = base / name / f"{number:03d}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(_table(texts), path)
        given = SourceOptions(str(base / name))
        for file in find_files(given, base)[0]:
            number = sum(shard.source == name for shard in made)
            made.append(Shard(name, number, len(made), name, False, given, (Piece(file, size=file.bytes),), (0,)))
    return made


def noted(shard: Shard, folder: Path, options: Options) -> Noted:
    """What measuring leaves of a shard, as far as dedup needs it."""
    signals, bands = folder / f"{shard.order}.parquet", folder / f"{shard.order}.bands"
    rows = [
        pa.table(
            {"id": pa.array([], pa.string()), "bytes": pa.array([], pa.int64()), "text_hash": pa.array([], pa.string())}
        )
    ]
    folder.mkdir(parents=True, exist_ok=True)
    with (
        BandWriter(bands, options.for_near)
        if options.for_near
        else BandWriter(None, Options(near=True).for_near) as writer
    ):  # type: ignore[arg-type]
        for batch in shard.batches(300):
            texts = Texts(batch.texts)
            writer.add(texts)
            ids = document_ids(shard.source, batch.path, batch.rows - 1)
            rows.append(pa.table({"id": hexes(ids), "bytes": texts.bytes, "text_hash": hexes(text_hashes(texts))}))
    pq.write_table(pa.concat_tables(rows), signals)
    return Noted(shard, signals, bands if options.for_near else None)


def found(
    base: Path, sources: Mapping[str, Sequence[Sequence[str]]], options: Options, *, engine: Engine = HERE,
    memory: int = 1 << 30, failing: Sequence[str] = (),
) -> tuple[dict[str, Any], list[dict[str, Any]]]:  # fmt: skip
    """Counts, and what is dropped with its ``text`` and that of its ``twin``, among texts that are not ``failing``."""
    parts = shards(base / "texts", sources)
    notes = [noted(shard, base / "noted", options) for shard in parts]
    counts = find_pairs(notes, base / "dedup", options, engine=engine, memory=memory)
    texts = [[text.as_py() for batch in shard.batches() for text in batch.texts] for shard in parts]
    passing = [np.array([text not in failing for text in some], dtype=bool) for some in texts]
    table = dropped(base / "dedup", passing, options)
    ids = [pq.read_table(one.signals)["id"].to_pylist() for one in notes]
    for path in options.against:
        for one in open_index(Path(path), None):
            ids.append(hexes(one.load()[0]).to_pylist())
            texts.append([text for some in one.texts() for text in some.to_pylist()])
    by_id = {name: text for some, named in zip(texts, ids, strict=True) for text, name in zip(some, named, strict=True)}
    lines = [
        line | {"text": texts[line["order"]][line["index"]], "twin": by_id[line["kept"]]} for line in table.to_pylist()
    ]
    return counts, lines


def planted(seed: int, documents: int = 60, words: int = 80) -> list[str]:
    """Texts of random words, and copies of some of them with a few words changed, cut off or added."""
    random = rng(seed, "planted")
    vocabulary = [f"w{n}" for n in range(3000)]
    base = [random.choice(vocabulary, size=int(random.integers(8, words))).tolist() for _ in range(documents)]
    made = [" ".join(some) for some in base]
    for some in base[: documents // 2]:
        for _ in range(int(random.integers(1, 4))):
            copy = list(some)
            for _ in range(int(random.integers(0, 3))):
                copy[int(random.integers(len(copy)))] = str(random.choice(vocabulary))
            made.append(" ".join(copy[int(random.integers(0, 2)) :]))
    return [made[at] for at in random.permutation(len(made))]


def check_promises(texts: Sequence[str], lines: Sequence[Mapping[str, Any]], threshold: float, n: int = 5) -> None:
    """Every dropped row has a kept twin at or above the threshold, the most similar one; no two kept ones are that similar."""
    gone = {(line["order"], line["index"]) for line in lines}
    assert len(gone) == len(lines)
    dropped_ids = {line["id"] for line in lines}
    left = list(texts)
    for line in lines:
        left.remove(line["text"])
    for line in lines:
        assert line["kept"] not in dropped_ids
        if line["text"] == line["twin"]:
            assert line["similarity"] == 1
        else:
            assert line["similarity"] == jaccard(line["text"], line["twin"], n) >= threshold
            better = [kept for kept in left if len(kept.encode()) >= len(line["text"].encode())]
            assert line["similarity"] == max(jaccard(line["text"], kept, n) for kept in better)
    for one, other in itertools.combinations(left, 2):
        assert one != other
        assert jaccard(one, other, n) < threshold
