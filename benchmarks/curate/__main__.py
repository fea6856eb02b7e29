"""`python -m benchmarks.curate`: every tool in a process of its own, one after another; prints rows, writes the result file.

--only filters near exact whole redeciding memory cores   some parts; nothing is written
--ours          our side alone; the peers' figures of the last whole run are kept
--compat        instead: agreement with datatrove's decisions, rule by rule
--scale MB      instead: the whole pipeline on a corpus of so many MB, with its memory, disk and open files
"""

import argparse
import json
import os
from typing import Any

from benchmarks.curate import compat, corpus, measured, parts, written
from benchmarks.curate.slices import cut

PEERS = corpus.DATA / "peers.json"


def main() -> None:
    ask = argparse.ArgumentParser(prog="python -m benchmarks.curate", description=__doc__.splitlines()[0])
    ask.add_argument(
        "--only", nargs="+", choices=tuple(parts.PARTS), default=list(parts.PARTS), help="nothing is written"
    )
    ask.add_argument("--ours", action="store_true", help="keep the peers' figures of the last whole run")
    ask.add_argument("--peers", action="store_true", help="the peers alone, kept for --ours")
    ask.add_argument("--compat", action="store_true", help="agreement with datatrove's decisions, rule by rule")
    ask.add_argument("--scale", type=int, metavar="MB", help="the whole pipeline on a corpus of so many MB")
    ask.add_argument("--megabytes", type=int, default=400, help="size of the corpus (default: %(default)s)")
    ask.add_argument(
        "--rounds", type=int, default=3, help="times each is measured; the best counts (default: %(default)s)"
    )
    ask.add_argument("--workers", type=int, default=os.cpu_count(), help="of --scale")
    given = ask.parse_args()
    if given.scale:
        place = measured.apart(corpus.build, given.scale, 7, corpus.DATA)
        written.keep_scale(parts.scale(place, corpus.DATA / "runs", given.workers))
        return
    place = measured.apart(corpus.build, given.megabytes, 7, corpus.DATA)
    bench = parts.Bench(
        place, measured.apart(cut, place), corpus.DATA / "runs", given.rounds, _last(given.ours), given.peers
    )
    if given.compat:
        found = compat.compare(place / "corpus.parquet", corpus.DATA)
        print(compat.said(found))
        written.keep_compat(found)
        return
    for name in parts.DOING if given.peers else given.only:
        parts.PARTS[name](bench)
        for row in written.rows(bench.found):
            if row.part == name:
                print(row.line(), flush=True)
    if given.peers:
        PEERS.write_text(json.dumps(bench.found))
    elif set(given.only) == set(parts.PARTS):
        PEERS.write_text(json.dumps(bench.found))
        written.keep(bench)


def _last(wanted: bool) -> dict[str, Any]:
    """The peers' figures of the last run of theirs."""
    return dict(json.loads(PEERS.read_text())) if wanted and PEERS.is_file() else {}


if __name__ == "__main__":
    main()
