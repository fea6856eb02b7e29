"""What importing mixwright and `mixwright --help` cost, as ratios to importing numpy: `make bench`.

Interpreters are started in turn, A B C A B C ..., so that a machine whose speed drifts slows all alike; the medians
of CPU seconds (user + system) are compared.
"""

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

RUNS = 15
WHAT = {
    "python": [sys.executable, "-c", "pass"],
    "import numpy": [sys.executable, "-c", "import numpy"],
    "import mixwright": [sys.executable, "-c", "import mixwright"],
    "mixwright --help": [sys.executable, "-m", "mixwright", "--help"],
}


def cpu_seconds(command: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    for command in WHAT.values():
        cpu_seconds(command)  # warm the page cache and the bytecode
    times: dict[str, list[float]] = {name: [] for name in WHAT}
    for _ in range(RUNS):
        for name, command in WHAT.items():
            times[name].append(cpu_seconds(command))
    medians = {name: statistics.median(values) for name, values in times.items()}
    numpy = medians["import numpy"]
    rows = [
        {
            "what": name, "unit": "CPU-seconds, whole process, median of 15", "ours": round(seconds, 4), "peer": "import numpy",
            "peer_value": round(numpy, 4), "ratio": round(seconds / numpy, 2), "goal": None, "met": None,
        }
        for name, seconds in medians.items()
    ]  # fmt: skip
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    result = {
        "name": "import", "command": "make bench", "commit": commit, "date": datetime.now(UTC).date().isoformat(),
        "versions": {"python": platform.python_version()}, "cores": os.cpu_count(), "rows": rows,
    }  # fmt: skip
    path = Path(__file__).parent / "results" / "import.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(f"{'':18} {'CPU s':>7} {'/ numpy':>8}")
    for row in rows:
        print(f"{row['what']:18} {row['ours']:7.3f} {row['ratio']:8.2f}")


if __name__ == "__main__":
    main()
