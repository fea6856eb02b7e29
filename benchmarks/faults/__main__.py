"""`python -m benchmarks.faults`: kill -9 at random moments, run again, compare; prints a table, writes the result."""

import argparse
import json
import platform
import random
import shutil
import time
from dataclasses import asdict
from pathlib import Path

from benchmarks.faults.checks import Counts
from benchmarks.faults.scenarios import SCENARIOS, Bench

HERE = Path(__file__).parents[1]
RESULT, PAGE = HERE / "results" / "faults.json", HERE.parent / "docs" / "reliability.md"
MARKS = ("<!-- faults -->", "<!-- /faults -->")


def main() -> None:
    ask = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    names = [scenario.name for scenario in SCENARIOS]
    ask.add_argument("--kills", type=int, default=50, help="in all, shared among the scenarios (default: %(default)s)")
    ask.add_argument("--only", nargs="+", choices=names, default=names, help="scenarios; then nothing is written")
    ask.add_argument("--seed", type=int, default=0, help="of the moments (default: %(default)s)")
    given = ask.parse_args()
    found, begun = measure(given.only, given.kills, given.seed)
    print("\n" + table(found))
    minutes = (time.monotonic() - begun) / 60
    print(f"\n{sum(counts.kills for counts in found.values())} kills in {minutes:.1f} min")
    if given.only == names:
        write(found, given.kills, given.seed, minutes)
    if not all(counts.sound for counts in found.values()):
        raise SystemExit(1)


def measure(only: list[str], kills: int, seed: int) -> tuple[dict[str, Counts], float]:
    """The counts of every scenario, and when it began."""
    begun, found = time.monotonic(), {}
    bench = Bench.new(lambda text: print(text, flush=True))
    try:
        chosen = [scenario for scenario in SCENARIOS if scenario.name in only]
        left, share = kills, sum(scenario.share for scenario in chosen)
        for scenario in chosen:
            mine = round(left * scenario.share / share)
            left, share = left - mine, share - scenario.share
            found[scenario.name] = bench.run(scenario, mine, random.Random(f"{seed} {scenario.name}"))
    finally:
        shutil.rmtree(bench.root, ignore_errors=True)
    return found, begun


def table(found: dict[str, Counts]) -> str:
    """Markdown, a row a scenario."""
    what = {scenario.name: scenario.what for scenario in SCENARIOS}
    head = ("command", "kills", "finished runs at the kills", "lost", "trained again", "windows compared",
            "repeated or skipped", "results compared", "different", "processes left")  # fmt: skip
    rows = [head, ("---", *["---:"] * (len(head) - 1))]
    total = Counts()
    for name, counts in found.items():
        rows.append((what[name], *numbers(counts)))
        for key, value in asdict(counts).items():
            setattr(total, key, getattr(total, key) + value)
    rows.append(("all", *numbers(total)))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def numbers(counts: Counts) -> tuple[str, ...]:
    values = (counts.kills, counts.finished_at_kills, counts.lost, counts.trained_again, counts.windows,
              counts.wrong_windows, counts.results, counts.different, counts.left_behind)  # fmt: skip
    return tuple(f"{value:,}" for value in values)


def write(found: dict[str, Counts], kills: int, seed: int, minutes: float) -> None:
    """The result file, and the table between the marks of the page."""
    values = {
        "command": f"python -m benchmarks.faults --kills {kills} --seed {seed}",
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "minutes": round(minutes, 1),
        "scenarios": {name: asdict(counts) for name, counts in found.items()},
    }
    RESULT.write_text(json.dumps(values, indent=1) + "\n")
    text = PAGE.read_text()
    before, after = text.split(MARKS[0])[0], text.split(MARKS[1])[1]
    PAGE.write_text(f"{before}{MARKS[0]}\n{table(found)}\n{MARKS[1]}{after}")


if __name__ == "__main__":
    main()
