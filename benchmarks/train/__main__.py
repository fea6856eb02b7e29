"""`python -m benchmarks.train`: our loop beside ``transformers.Trainer``, populations beside single processes, a GPU.

Pairs are interleaved: every round runs each case once, and ratios are taken within a round; shown are their median and range.
"""

import argparse
import time

from benchmarks.laws.scores import Row
from benchmarks.train import alone, gpu, many, written

#: group -> minutes of an idle machine with two cores
GROUPS = {"trainer": 14.0, "population": 4.0, "gpu": 15.0}


def main() -> None:
    ask = argparse.ArgumentParser(prog="python -m benchmarks.train", description=__doc__)
    ask.add_argument("--only", nargs="+", choices=tuple(GROUPS), default=list(GROUPS), help="groups of checks")
    ask.add_argument("--rounds", type=int, default=3, help="rounds (default: %(default)s)")
    ask.add_argument("--minutes", type=float, default=20.0, help="no new case after these (default: %(default)s)")
    given = ask.parse_args()
    until = time.monotonic() + 60 * given.minutes
    groups: dict[str, list[Row]] = {}
    for name in given.only:
        groups[name] = {"trainer": alone.rows, "population": many.rows, "gpu": gpu.rows}[name](given.rounds, until)
        for row in groups[name]:
            met = {True: "met", False: "MISSED", None: ""}[row.met]
            print(
                f"{row.what}: {row.ours} {row.unit} against {row.peer_value} ({row.peer}) {met} {row.note}", flush=True
            )
    written.keep(groups)


if __name__ == "__main__":
    main()
