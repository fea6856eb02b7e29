"""Other thresholds over stored signals: `python -m benchmarks.curate.redeciding CORPUS.parquet FOLDER [--rows 5000000]`.

The signals of a part of the corpus are measured by the pipeline; their table is repeated until it has so many rows and written
as the pipeline writes it. Then presets are decided over it: columns read, rules held, one bit a rule and row left.
"""

import argparse
import json
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from benchmarks.curate.ours import PRESETS, source

from mixwright.curate.deciding import resolve
from mixwright.curate.pipeline import measure
from mixwright.curate.rules import Options
from mixwright.curate.tables import SignalTable
from mixwright.engine.local import LocalEngine
from mixwright.store.parquet import BatchWriter


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ask.add_argument("corpus", type=Path)
    ask.add_argument("folder", type=Path)
    ask.add_argument("--rows", type=int, default=5_000_000)
    given = ask.parse_args()
    options = Options(presets=PRESETS)
    given.folder.mkdir(parents=True, exist_ok=True)
    small = given.corpus.parent / "slice-dedup.parquet"
    measure(
        {"corpus": source(small)},
        {},
        options,
        base=small.parent,
        folder=given.folder / "measured",
        engine=LocalEngine(1, "threads"),
    )
    table = pa.concat_tables(
        pq.read_table(path) for path in sorted((given.folder / "measured" / "signals").rglob("*.parquet"))
    )
    table, path, rows = table.combine_chunks(), given.folder / "many.parquet", 0
    with BatchWriter(path, table.schema) as out:
        while rows < given.rows:
            for batch in table.to_batches():
                out.add(batch)
            rows += table.num_rows
    signals = SignalTable((path,), "corpus", "corpus")
    times, decided = [], []
    for _ in range(3):
        began = time.process_time()
        columns = signals.columns(options.columns_needed)
        read = time.process_time()
        failing = resolve(options, [signals]).decide(columns, "corpus").any()
        decided.append(time.process_time() - read)
        times.append(time.process_time() - began)
    print("RESULT " + json.dumps({
        "rows": rows, "rules": len(options.conditions), "columns": len(options.columns_needed), "dropped": int(failing.sum()),
        "rows_per_cpu_s": rows / min(times), "deciding_alone": rows / min(decided), "file_bytes": path.stat().st_size,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
