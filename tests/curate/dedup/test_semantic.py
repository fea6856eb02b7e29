"""Texts that mean the same: pairs by brute force over the same vectors, and the same greedy keep."""

import itertools
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from dedup_for_tests import HERE, found, noted, shards

from mixwright.core.rng import rng
from mixwright.curate.dedup.options import Options, Semantic
from mixwright.curate.dedup.semantic import DIMENSIONS, hashed_vectors, tables_for
from mixwright.curate.dedup.stage import find_pairs
from mixwright.curate.texts import Texts
from mixwright.engine.local import LocalEngine


def reordered(seed: int, documents: int = 40) -> list[str]:
    """Texts, and some again with their words in another order and a few others."""
    random = rng(seed, "reordered")
    made = []
    for _ in range(documents):
        words = [f"w{n}" for n in random.integers(0, 5000, size=100)]
        made.append(" ".join(words))
        if random.random() < 0.5:
            words[: int(random.integers(0, 8))] = []
            made.append(" ".join(random.permutation(words)))
    return made


def test_pairs_are_those_of_brute_force(tmp_path: Path) -> None:
    texts = reordered(0)
    counts, lines = found(tmp_path, {"a": [texts[::2], texts[1::2]]}, Options(semantic=Semantic(threshold=0.9)))
    vectors = [np.load(tmp_path / "dedup" / "semantic" / "vectors" / f"{n:05d}.npy").astype(float) for n in range(2)]
    whole = np.concatenate(vectors)
    assert np.allclose(np.linalg.norm(whole, axis=1), 1, atol=1e-6)
    expected = {(a, b) for a, b in itertools.combinations(range(len(texts)), 2) if whole[a] @ whole[b] >= 0.9}
    table = pq.read_table(tmp_path / "dedup" / "semantic.parquet")
    pairs = set(zip(table["a"].to_pylist(), table["b"].to_pylist(), strict=True))
    assert pairs == expected
    assert counts["semantic_pairs"] == len(expected) > 10
    assert table["cosine"].to_numpy() == pytest.approx([whole[a] @ whole[b] for a, b in sorted(pairs)])
    gone = {line["text"] for line in lines}
    assert all(line["twin"] not in gone and line["similarity"] >= 0.9 for line in lines)
    assert {line["rule"] for line in lines} == {"semantic_duplicate"}
    order = [*texts[::2], *texts[1::2]]
    assert all(order[a] in gone or order[b] in gone for a, b in pairs)


def test_workers_and_memory_change_no_byte(tmp_path: Path) -> None:
    options, texts = Options(semantic=Semantic(threshold=0.9)), reordered(1)
    notes = [
        noted(shard, tmp_path / "noted", options) for shard in shards(tmp_path / "t", {"a": [texts[:30], texts[30:]]})
    ]
    left = []
    for name, engine, memory in (("1", HERE, 1 << 30), ("2", LocalEngine(2, "threads"), 1 << 16)):
        find_pairs(notes, tmp_path / name, options, engine=engine, memory=memory)
        left.append((tmp_path / name / "semantic.parquet").read_bytes())
    assert left[0] == left[1]


def test_the_projection_keeps_cosines(tmp_path: Path) -> None:
    random = rng(2)
    for shared in (20, 60, 95):
        found = []
        for _ in range(40):
            words = [f"x{n}" for n in random.choice(100_000, size=200 - shared, replace=False)]
            texts = Texts([" ".join(words[:100]), " ".join(words[100 - shared :])])
            a, b = hashed_vectors(texts, np.ones(1 << 10, dtype=np.float32)).astype(float)
            found.append(a @ b)
        cosine = shared / 100
        assert abs(np.mean(found) - cosine) < 4 * (1 - cosine**2) / (DIMENSIONS * 40) ** 0.5
        assert np.std(found) < 2 * (1 - cosine**2) / DIMENSIONS**0.5


@pytest.mark.parametrize("rows", [10, 10_000, 10**6, 10**9])
@pytest.mark.parametrize("threshold", [0.9, 0.95, 1.0])
def test_tables_miss_few_pairs_at_the_threshold(rows: int, threshold: float) -> None:
    bits, tables = tables_for(rows, threshold)
    missed = (1 - (1 - np.arccos(threshold) / np.pi) ** bits) ** tables
    assert missed < 0.003 or tables == 512


def test_texts_without_words_mean_nothing(tmp_path: Path) -> None:
    _, lines = found(tmp_path, {"a": [["!!!", "???", "one word", "word one", ""]]}, Options(semantic=True))
    assert [line["rule"] for line in lines] == ["semantic_duplicate"]
