"""`python -m benchmarks.faults`: kill -9 at random moments, run again, compare; prints a table, writes the result."""

import argparse
import json
import os
import platform
import random
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

from benchmarks.faults.checks import Counts
from benchmarks.faults.scenarios import SCENARIOS, Bench, Scenario

HERE = Path(__file__).parents[1]
RESULT, PAGE = HERE / "results" / "faults.json", HERE.parent / "docs" / "reliability.md"
MARKS = ("<!-- faults -->", "<!-- /faults -->")


def main() -> None:
    ask = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    names = [scenario.name for scenario in SCENARIOS]
    ask.add_argument("--kills", type=int, default=50, help="in all, shared among all scenarios (default: %(default)s)")
    ask.add_argument("--only", nargs="+", choices=names, default=names, help="do these scenarios' part of the kills")
    ask.add_argument("--seed", type=int, default=0, help="of the moments (default: %(default)s)")
    given = ask.parse_args()
    found = measure(given.only, given.kills, given.seed, keep)
    print("\n" + table(found))
    if not all(counts.sound for counts in found.values()):
        raise SystemExit(1)


def measure(
    only: list[str], kills: int, seed: int, done: Callable[[str, Counts], None] = lambda *_: None
) -> dict[str, Counts]:
    """The counts of these scenarios, each with its share of so many kills; ``done`` hears of each."""
    found = {}
    bench = Bench.new(lambda text: print(text, flush=True))
    try:
        for scenario, mine in shares(kills):
            if scenario.name in only and mine:
                counts = bench.run(scenario, mine, random.Random(f"{seed} {scenario.name}"))
                found[scenario.name] = counts
                done(scenario.name, counts)
    finally:
        shutil.rmtree(bench.root, ignore_errors=True)
    return found


def shares(kills: int) -> Iterator[tuple[Scenario, int]]:
    """Every scenario with its whole number of kills; they sum to ``kills``."""
    left, share = kills, sum(scenario.share for scenario in SCENARIOS)
    for scenario in SCENARIOS:
        mine = round(left * scenario.share / share)
        left, share = left - mine, share - scenario.share
        yield scenario, mine


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


def keep(name: str, counts: Counts) -> None:
    """Write a scenario into the result file, and the table of what is there between the marks of the page."""
    kept = json.loads(RESULT.read_text())["scenarios"] if RESULT.is_file() else {}
    kept[name] = {
        **asdict(counts), "date": time.strftime("%Y-%m-%d"), "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
    }  # fmt: skip
    RESULT.write_text(json.dumps({"command": "make bench-faults", "scenarios": kept}, indent=1) + "\n")
    known = {scenario.name: kept[scenario.name] for scenario in SCENARIOS if scenario.name in kept}
    shown = {name: Counts(**{key: values[key] for key in asdict(Counts())}) for name, values in known.items()}
    text = PAGE.read_text()
    before, after = text.split(MARKS[0])[0], text.split(MARKS[1])[1]
    PAGE.write_text(f"{before}{MARKS[0]}\n{table(shown)}\n{MARKS[1]}{after}")


if __name__ == "__main__":
    main()
