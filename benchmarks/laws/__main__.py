"""`python -m benchmarks.laws`: all groups of checks, or some with ``--only``; prints tables, writes the result file."""

import argparse
import importlib
import time

from benchmarks.laws import ours, written
from benchmarks.laws.scores import Result
from benchmarks.laws.work import Workshop, clock

#: group -> minutes of two cores it takes when nothing is kept
GROUPS = {
    "regmix": 15.0,
    "unseen": 4.0,
    "solver": 1.0,
    "continual": 0.2,
    "transfer": 6.0,
    "steps": 1.0,
    "chain": 5.0,
    "forecast": 0.2,
    "choice": 1.5,
    "optimizer": 2.0,
}


def main() -> None:
    ask = argparse.ArgumentParser(prog="python -m benchmarks.laws", description=__doc__)
    ask.add_argument("--only", nargs="+", choices=tuple(GROUPS), default=list(GROUPS), help="groups of checks")
    ask.add_argument("--law", default=ours.default_law(), help="our law (default: %(default)s)")
    ask.add_argument(
        "--fast", action="store_true", help="fewer subsets, the slowest peers left out; nothing is written"
    )
    ask.add_argument("--ours", action="store_true", help="without peers; nothing is written")
    ask.add_argument("--fresh", action="store_true", help="do everything anew, whatever is kept from before")
    ask.add_argument("--jobs", type=int, default=2, help="processes (default: %(default)s)")
    given = ask.parse_args()
    shop = Workshop(given.jobs, given.fresh, given.law, given.fast, not given.ours)
    groups = []
    for at, name in enumerate(given.only):
        shop.ahead = 60.0 * shop.jobs * sum(GROUPS[later] for later in given.only[at + 1 :])
        result: Result = importlib.import_module(f"benchmarks.laws.{name}").run(shop)
        print("\n" + "\n\n".join(shown.text() for shown in result.tables) + "\n", flush=True)
        groups.append(written.as_json(name, result, shop))
    written.summary(groups)
    print(f"\n{clock(time.monotonic() - shop.began)} min on {shop.jobs} processes, law {shop.law}")
    if not (given.fast or given.ours):
        written.keep(groups, "make bench-laws", tuple(GROUPS))


if __name__ == "__main__":
    main()
