"""`python -m benchmarks.stream`: every system in a process of its own, in turn; prints a table, writes the result file."""

import argparse
import json
import os
import subprocess
import sys
from typing import Any

from benchmarks.stream import data, written
from benchmarks.stream.one import SYSTEMS

#: seconds a system may take, writing its data included
PATIENCE = 900


def measured(name: str) -> dict[str, Any]:
    """One system's figures, or why there are none."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.stream.one", name],
            capture_output=True, text=True, cwd=data.ROOT, env=environment, timeout=PATIENCE,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return {"system": name, "failed": f"not done in {PATIENCE} s"}
    found = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if not found:
        return {"system": name, "failed": (done.stderr.strip().splitlines() or ["no output"])[-1]}
    return dict(json.loads(found[-1].removeprefix("RESULT ")))


def best(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """The best of a system's rounds, figure by figure; the first of those that have a round at all."""
    good = [one for one in rounds if "failed" not in one]
    if not good:
        return rounds[0]
    out = dict(good[0])
    for key in out:
        values = [one[key] for one in good if isinstance(one.get(key), float)]
        if len(values) == len(good):
            out[key] = max(values) if key.startswith("tokens") else min(values)
    return out


def main() -> None:
    ask = argparse.ArgumentParser(prog="python -m benchmarks.stream", description=__doc__)
    ask.add_argument(
        "--only", nargs="+", choices=tuple(SYSTEMS), default=list(SYSTEMS), help="systems; nothing is written"
    )
    ask.add_argument("--rounds", type=int, default=2, help="times each is measured (default: %(default)s)")
    ask.add_argument("--free", action="store_true", help="remove the written tokens (5 GB) afterwards")
    given = ask.parse_args()
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in given.only}
    for _ in range(given.rounds):
        for name, found in rounds.items():
            found.append(measured(name))
            print(written.line(found[-1]), flush=True)
    results = [best(found) for found in rounds.values()]
    print("\n" + "\n".join(written.line(result) for result in results))
    if len(given.only) == len(SYSTEMS):
        written.keep(results, "make bench-stream")
    if given.free:
        data.free()


if __name__ == "__main__":
    main()
