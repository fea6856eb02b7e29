"""datatrove as its examples set it up (examples/fineweb.py, minhash_deduplication.py, exact_substrings aside), one worker.

`python datatrove_run.py filters|near|exact|whole INPUT.parquet FOLDER`; kept documents stand in FOLDER/out.
"""

import sys
from pathlib import Path

from datatrove.data import Document
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import ExactDedupFilter, ExactDedupSignature, ExactFindDedups
from datatrove.pipeline.dedup.exact_dedup import ExactDedupConfig
from datatrove.pipeline.dedup.minhash import (
    MinhashConfig,
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)
from datatrove.pipeline.readers import ParquetReader
from datatrove.pipeline.writers import ParquetWriter

BANDS, ROWS = 14, 8


def content(doc: Document) -> str:
    return doc.text


def filters() -> list:
    return [GopherRepetitionFilter(), GopherQualityFilter(), C4QualityFilter(), FineWebQualityFilter()]


def main() -> None:
    task, source, folder = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    number = 0

    def run(*steps: object, tasks: int = 1) -> None:
        nonlocal number
        number += 1
        LocalPipelineExecutor(list(steps), tasks=tasks, workers=1, logging_dir=f"{folder}/logs/{number}").run()

    def reader() -> ParquetReader:
        return ParquetReader(str(source.parent), glob_pattern=source.name, id_key="id")

    out = ParquetWriter(f"{folder}/out", compression="zstd")
    if task == "filters":
        run(reader(), *filters())
    if task == "exact":
        config = ExactDedupConfig(content_getter=content)
        run(reader(), ExactDedupSignature(f"{folder}/sigs", config=config))
        run(ExactFindDedups(f"{folder}/sigs", f"{folder}/dups", config=config))
        run(reader(), ExactDedupFilter(f"{folder}/dups", config=config), out)
    if task in ("near", "whole"):
        config = MinhashConfig(n_grams=5, num_buckets=BANDS, hashes_per_bucket=ROWS)
        run(reader(), MinhashDedupSignature(f"{folder}/sigs", config=config))
        run(MinhashDedupBuckets(f"{folder}/sigs", f"{folder}/buckets", config=config), tasks=BANDS)
        run(MinhashDedupCluster(f"{folder}/buckets", f"{folder}/remove", config=config))
        run(reader(), MinhashDedupFilter(f"{folder}/remove"), *(filters() if task == "whole" else ()), out)


if __name__ == "__main__":
    main()
