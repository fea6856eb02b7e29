"""What dedup removed, held against brute force."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from benchmarks.curate.jaccard import grams, jaccard, nearest_kept
from numpy.typing import NDArray

#: near-duplicates are judged at the threshold of ours and at that of the field notes
LEVELS = (0.8, 0.7)


@dataclass(frozen=True)
class Texts:
    """A corpus or slice in its order, and the planted pairs of which both documents are in it."""

    ids: list[str]
    texts: list[str]
    pairs: NDArray[np.int64]
    jaccard: NDArray[np.float64]

    @classmethod
    def of(cls, path: Path, truth: Path) -> "Texts":
        table = pq.read_table(path, columns=["id", "text"])
        ids = table["id"].to_pylist()
        row = {ident: at for at, ident in enumerate(ids)}
        lines = [line for line in pq.read_table(truth).to_pylist() if line["id"] in row and line["of"] in row]
        pairs = np.array([(row[line["id"]], row[line["of"]]) for line in lines], dtype=np.int64).reshape(-1, 2)
        return cls(ids, table["text"].to_pylist(), pairs, np.array([line["jaccard"] for line in lines]))

    def found(self, removed: NDArray[np.int64], least: float) -> float:
        """Of the planted pairs with Jaccard ``least`` or more the share of which one is removed."""
        gone = np.zeros(len(self.ids), dtype=bool)
        gone[removed] = True
        there = self.pairs[self.jaccard >= least]
        return float(gone[there].any(axis=1).mean())


def _share(similarities: NDArray[np.float64], level: float) -> float:
    return float((similarities >= level - 1e-12).mean())


def judged(texts: Texts, removed: NDArray[np.int64]) -> dict[str, Any]:
    """Recall on planted pairs, and the share of removed rows with a kept twin, at each level; by brute force."""
    kept = np.ones(len(texts.ids), dtype=bool)
    kept[removed] = False
    nearest = nearest_kept(texts.texts, removed, kept)
    return {
        "removed": len(removed),
        **{f"planted_{level}": texts.found(removed, level) for level in LEVELS},
        **{f"twin_{level}": _share(nearest, level) for level in LEVELS},
    }


def named_twins(texts: Texts, removed: NDArray[np.int64], kept: NDArray[np.int64]) -> NDArray[np.float64]:
    """Exact Jaccard of each removed row with the kept row that it names; 0 where that one is removed itself."""
    gone = set(removed.tolist())
    sets: dict[int, Any] = {}

    def of(row: int) -> Any:
        if row not in sets:
            if len(sets) > 5000:
                sets.clear()
            sets[row] = grams(texts.texts[row])
        return sets[row]

    return np.array(
        [
            0.0 if twin in gone else jaccard(of(row), of(twin))
            for row, twin in zip(removed.tolist(), kept.tolist(), strict=True)
        ]
    )


def peer(which: str, folder: Path, path: Path, truth: Path) -> dict[str, Any]:
    """A peer's dedup of a slice, judged."""
    texts = Texts.of(path, truth)
    kept = _kept_by(which, folder)
    removed = np.array([row for row, ident in enumerate(texts.ids) if ident not in kept], dtype=np.int64)
    return judged(texts, removed)


def ours(folder: Path, path: Path, truth: Path) -> dict[str, Any]:
    """Ours on a slice, judged by brute force as the peers."""
    return judged(Texts.of(path, truth), np.load(folder / "removed.npz")["rows"])


def ours_named(folder: Path, path: Path, truth: Path) -> dict[str, Any]:
    """Ours on the whole corpus, by the twin that each removed row names."""
    texts, held = Texts.of(path, truth), np.load(folder / "removed.npz")
    twins = named_twins(texts, held["rows"], held["kept"])
    found = {f"planted_{level}": texts.found(held["rows"], level) for level in LEVELS}
    return {"removed": len(twins), **found, **{f"twin_{level}": _share(twins, level) for level in LEVELS}}


def _kept_by(which: str, folder: Path) -> set[str]:
    if which == "datatrove":
        tables = [pq.read_table(part, columns=["id"]) for part in (folder / "out").glob("*.parquet")]
        return {ident for table in tables for ident in table["id"].to_pylist()}
    if which == "juicer":
        with (folder / "out" / "kept.jsonl").open() as lines:
            return {json.loads(line)["id"] for line in lines}
    return set(json.loads((folder / "kept.json").read_text()))
