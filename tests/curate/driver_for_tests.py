"""Curates in a process of its own, to be killed: ``python driver_for_tests.py BASE WORK WORKERS KIND``."""

import sys
from pathlib import Path

from curation_for_tests import Processes, run

from mixwright.curate.dedup.options import Near
from mixwright.curate.dedup.options import Options as DedupOptions
from mixwright.curate.pipeline import Bounds, Options
from mixwright.engine.local import LocalEngine
from mixwright.store.documents import SourceOptions

#: shards so small that a few hundred kilobytes make many
OPTIONS = Options(
    rules={"words": Bounds(5, None)}, dedup=DedupOptions(near=Near(threshold=0.7)), shard="20kB", target_ngram=8
)
SOURCES = {"jsonl": SourceOptions("many.jsonl"), "parquet": SourceOptions("many.parquet", domain="both")}
TARGETS = {"goal": SourceOptions("goal.jsonl")}


def main() -> None:
    base, work, workers, kind = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
    engine = LocalEngine(workers, "threads") if kind == "threads" else Processes(workers)
    run(base, SOURCES, TARGETS, OPTIONS, engine=engine, work=work)


if __name__ == "__main__":
    main()
