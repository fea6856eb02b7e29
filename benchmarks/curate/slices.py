"""The slices of the corpus that peers are measured on, small enough for the slowest of them."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mixwright.core.rng import rng

#: name -> bytes of text: as in the field notes, and a few documents for what a tool's start costs
SLICES = {"dedup": 29_600_000, "filters": 6_400_000, "start": 100_000}


def cut(place: Path, seed: int = 7) -> dict[str, Path]:
    """The slices beside the corpus: documents drawn at random, each with all its planted near-duplicates."""
    paths = {name: place / f"slice-{name}.parquet" for name in SLICES}
    if all(path.is_file() for path in paths.values()):
        return paths
    table = pq.read_table(place / "corpus.parquet")
    groups = np.array([ident.partition("~")[0] for ident in table["id"].to_pylist()])
    names, group = np.unique(groups, return_inverse=True)
    sizes = np.bincount(group, np.fromiter(map(len, (t.encode() for t in table["text"].to_pylist())), dtype=float))
    for name, wanted in SLICES.items():
        order = rng(seed, "slice", name).permutation(len(names))
        chosen = np.zeros(len(names), dtype=bool)
        chosen[order[: int(np.searchsorted(np.cumsum(sizes[order]), wanted))]] = True
        pq.write_table(table.filter(pa.array(chosen[group])), paths[name], compression="zstd", compression_level=3)
    facts = {path.stem: _counted(path) for path in (place / "corpus.parquet", *paths.values())}
    (place / "slices.json").write_text(json.dumps(facts, indent=1) + "\n")
    return paths


def bytes_of(path: Path) -> dict[str, int]:
    """Documents and UTF-8 bytes of text of the corpus or a slice."""
    facts: dict[str, dict[str, int]] = json.loads((path.parent / "slices.json").read_text())
    return facts[path.stem]


def _counted(path: Path) -> dict[str, int]:
    import pyarrow.compute as pc

    total = documents = 0
    with pq.ParquetFile(path) as table:
        for batch in table.iter_batches(columns=["text"]):
            documents += len(batch)
            total += pc.sum(pc.binary_length(batch.column(0))).as_py() or 0
    return {"documents": documents, "bytes": int(total)}
