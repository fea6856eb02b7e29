"""Other thresholds over stored signals: `python -m benchmarks.curate.redeciding CORPUS.parquet FOLDER [--rows 5000000]`.

The signals of the corpus are measured by the pipeline; its shards are repeated until they hold so many rows. Then presets are
decided over them as ``curate --dry-run`` does: columns read, rules held, what each drops counted.
"""

import argparse
import json
import resource
import shutil
import time
from pathlib import Path

from benchmarks.curate.ours import PRESETS, source

from mixwright.curate.deciding import redecide
from mixwright.curate.pipeline import measure
from mixwright.curate.rules import Options
from mixwright.engine.local import LocalEngine


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ask.add_argument("corpus", type=Path)
    ask.add_argument("folder", type=Path)
    ask.add_argument("--rows", type=int, default=5_000_000)
    given = ask.parse_args()
    options, folder = Options(presets=PRESETS), given.folder / "measured"
    given.folder.mkdir(parents=True, exist_ok=True)
    engine = LocalEngine(1, "threads")
    measure({"corpus": source(given.corpus)}, {}, options, base=given.corpus.parent, folder=folder, engine=engine)
    told = json.loads((folder / "measured.json").read_text())
    shards = list(told["shards"])
    while sum(shard["rows"] for shard in told["shards"]) < given.rows:
        for shard in shards:
            name = f"corpus/{len(told['shards']):05d}"
            shutil.copy(folder / "signals" / f"{shard['name']}.parquet", folder / "signals" / f"{name}.parquet")
            told["shards"].append(shard | {"name": name})
    (folder / "measured.json").write_text(json.dumps(told))
    rows = sum(shard["rows"] for shard in told["shards"])
    times, before = [], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(3):
        began = time.process_time()
        found = redecide(folder, options)
        times.append(time.process_time() - began)
    print("RESULT " + json.dumps({
        "rows": rows, "shards": len(told["shards"]), "rules": len(options.conditions), "columns": len(options.columns_needed),
        "passing": sum(one["passing"] for one in found["domains"].values()), "rows_per_cpu_s": rows / min(times),
        "file_bytes": sum(path.stat().st_size for path in (folder / "signals").rglob("*.parquet")),
        "memory_before_mb": before / 1024, "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
