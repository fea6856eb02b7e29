"""One task of ours in a process of its own: `python -m benchmarks.curate.ours TASK INPUT.parquet FOLDER [--workers 1]`.

    filters   read, and the complete statistics of Gopher quality and repetition, C4 and FineWeb for every document
    near      read, sign, find pairs, verify by exact Jaccard, decide greedily which of them go; no document is written
    exact     read, hash, decide; no document is written
    whole     the pipeline: Parquet in, all signals, presets gopher, c4, fineweb, exact and near dedup, Parquet and ledger out
    dedup     the pipeline without rules on signals: what is judged by brute force
    datatrove read, and the statistics of datatrove reproduced

FOLDER/removed.npz holds ``rows`` (from 0, in the order of the input) and the ``kept`` row each names; the printed RESULT says
seconds of this process behind its imports and its first batch, and what was counted.
"""

import argparse
import contextlib
import json
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mixwright.curate.dedup.options import Near
from mixwright.curate.dedup.options import Options as Dedup
from mixwright.curate.rules import Options
from mixwright.curate.shards import Shard
from mixwright.curate.signal import Signal, Texts
from mixwright.engine.local import LocalEngine
from mixwright.store.artifact import Draft
from mixwright.store.documents import SourceOptions

PRESETS = ("gopher", "c4", "fineweb")
#: shards of about 32 MB, so that two workers have something to share
SHARD = "32MB"


def source(path: Path) -> SourceOptions:
    return SourceOptions(str(path.resolve()))


def shards(path: Path) -> tuple[Shard, ...]:
    from mixwright.curate.pipeline import Plan

    return Plan.of({"corpus": source(path)}, {}, Options(shard=SHARD), path.parent).shards


def batches(path: Path) -> Iterator[Texts]:
    for shard in shards(path):
        for batch in shard.batches():
            yield Texts(batch.texts)


def filters(path: Path, folder: Path, workers: int, names: tuple[str, ...] = ()) -> dict[str, Any]:
    from mixwright.curate.signals.c4 import C4
    from mixwright.curate.signals.fineweb import Fineweb
    from mixwright.curate.signals.gopher_quality import GopherQuality
    from mixwright.curate.signals.gopher_repetition import GopherRepetition
    from mixwright.curate.signals.mean_word_length import MeanWordLength
    from mixwright.curate.signals.words import Words

    return _measured(path, [Words(), MeanWordLength(), GopherQuality(), GopherRepetition(), C4(), Fineweb()])


def datatrove(path: Path, folder: Path, workers: int) -> dict[str, Any]:
    from mixwright.curate.signals.datatrove import Datatrove

    return _measured(path, [Datatrove()])


def _measured(path: Path, signals: list[Signal]) -> dict[str, Any]:
    rows, sums = 0, 0.0
    for texts in batches(path):
        for signal in signals:
            sums += sum(float(column.sum()) for column in signal.measure(texts).values())
        rows += len(texts)
    return {"documents": rows, "sum": sums}


def near(path: Path, folder: Path, workers: int, options: Dedup | None = None) -> dict[str, Any]:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from mixwright.core.document import document_ids
    from mixwright.curate.dedup.signing import BandWriter
    from mixwright.curate.dedup.stage import Noted, dropped, find_pairs
    from mixwright.curate.hashing import hexes, text_hashes
    from mixwright.curate.text_copy import CopyWriter

    options = options or Dedup(exact=True, near=Near())
    noted, sizes = [], []
    for shard in shards(path):
        signals, bands = folder / f"{shard.number}.parquet", folder / f"{shard.number}.bands"
        tables = []
        copy = folder / f"{shard.number}.texts" if options.for_near else None
        with contextlib.ExitStack() as stack:
            writer = stack.enter_context(BandWriter(bands, options.for_near)) if options.for_near else None
            copied = stack.enter_context(CopyWriter(copy)) if copy else None
            for batch in shard.batches():
                texts = Texts(batch.texts)
                for one in (writer, copied):
                    if one is not None:
                        one.add(texts)
                ids = hexes(document_ids(shard.source, batch.path, batch.rows - 1))
                names = pa.repeat(pa.scalar(batch.path), len(texts))
                columns = [ids, names, pa.array(batch.rows), pa.array(texts.bytes), hexes(text_hashes(texts))]
                tables.append(pa.table(columns, ["id", "path", "row", "bytes", "text_hash"]))
        pq.write_table(pa.concat_tables(tables), signals, compression="none", use_dictionary=False)
        sizes.append(sum(table.num_rows for table in tables))
        noted.append(Noted(shard, signals, bands if options.for_near else None, copy=copy))
    facts = find_pairs(noted, folder / "dedup", options, engine=LocalEngine(workers, "threads"))
    table = dropped(folder / "dedup", [np.ones(size, dtype=bool) for size in sizes], options)
    first = np.concatenate([[0], np.cumsum(sizes)])
    rows = first[table["order"].to_numpy()] + table["index"].to_numpy()
    ids = pa.concat_tables([pq.read_table(one.signals, columns=["id"]) for one in noted])["id"]
    np.savez(folder / "removed.npz", rows=rows, kept=pc.index_in(table["kept"], ids).to_numpy())
    return {name: int(value) for name, value in facts.items()} | {"removed": table.num_rows}


def exact(path: Path, folder: Path, workers: int) -> dict[str, Any]:
    return near(path, folder, workers, Dedup(exact=True, near=False))


def whole(path: Path, folder: Path, workers: int, presets: tuple[str, ...] = PRESETS) -> dict[str, Any]:
    import pyarrow.parquet as pq

    from mixwright.curate.pipeline import decide_and_write, measure

    options = Options(presets=presets, dedup=Dedup(exact=True, near=Near()), shard=SHARD)
    engine, sources = LocalEngine(workers, "threads"), {"corpus": source(path)}
    draft = Draft(folder / "out", folder / "sealed", "curate", "bench")
    draft.path.mkdir(parents=True, exist_ok=True)
    more: dict[str, Any] = {"base": path.parent, "engine": engine, "copies": folder / "texts"}
    times, began = [_clock()], time.perf_counter()
    measure(sources, {}, options, folder=folder / "measured", **more)
    times.append(_clock())
    summary = decide_and_write(folder / "measured", sources, {}, options, draft=draft, **more)
    times.append(_clock())
    told, took = summary["sources"]["corpus"], time.perf_counter() - began
    lines = [pq.read_metadata(part).num_rows for part in sorted((draft.path / "ledger").glob("*"))]
    sizes = {
        name: sum(part.stat().st_size for part in place.rglob("*") if part.is_file())
        for name, place in (("output", draft.path / "documents"), ("ledger", draft.path / "ledger"),
                            ("measured", folder / "measured"))
    }  # fmt: skip
    return {
        "measure_s": times[1] - times[0], "write_s": times[2] - times[1], "took_s": took, "kept": told["kept"],
        "read": told["read"], "ledger_lines": sum(lines), "disk": sizes,
    }  # fmt: skip


def dedup(path: Path, folder: Path, workers: int) -> dict[str, Any]:
    """The pipeline without rules on signals, and which row each removed one repeats."""
    import pyarrow.parquet as pq

    facts = whole(path, folder, workers, ())
    columns = ["row", "duplicate_of"]
    lines = [pq.read_table(part, columns=columns) for part in sorted((folder / "out" / "ledger").glob("*"))]
    named = [
        pq.read_table(part, columns=["id", "row"])
        for part in sorted((folder / "measured" / "signals").rglob("*.parquet"))
    ]
    row_of = {
        ident: row - 1
        for part in named
        for ident, row in zip(*(part[n].to_pylist() for n in ("id", "row")), strict=True)
    }
    twins = [(row - 1, row_of[twin]) for part in lines
             for row, twin in zip(*(part[n].to_pylist() for n in columns), strict=True) if twin]  # fmt: skip
    rows = np.array(twins, dtype=np.int64).reshape(-1, 2)
    np.savez(folder / "removed.npz", rows=rows[:, 0], kept=rows[:, 1])
    return facts


TASKS: dict[str, Callable[[Path, Path, int], dict[str, Any]]] = {
    "filters": filters, "near": near, "exact": exact, "whole": whole, "dedup": dedup, "datatrove": datatrove,
}  # fmt: skip


def _clock() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + used.ru_utime + used.ru_stime


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ask.add_argument("task", choices=tuple(TASKS))
    ask.add_argument("input", type=Path)
    ask.add_argument("folder", type=Path)
    ask.add_argument("--workers", type=int, default=1)
    given = ask.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    began, wall = _clock(), time.perf_counter()
    facts = TASKS[given.task](given.input, given.folder, given.workers)
    facts |= {"cpu_s": _clock() - began, "wall_s": time.perf_counter() - wall}
    print("RESULT " + json.dumps(facts, default=str))


if __name__ == "__main__":
    main()
