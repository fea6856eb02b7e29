"""Sixteen proxies on two cores: two groups of eight by population training, beside sixteen single-thread processes at once."""

import time
from dataclasses import replace

from benchmarks.laws.scores import Row
from benchmarks.train.case import Case
from benchmarks.train.work import crowd

RUNS, CORES = 16, 2
#: what it is -> (one run of it, timed steps)
PROXIES = {
    "0.4M in all (48x1, vocab 4,096), 4 x 128": Case(
        "ours", "48x1", vocab=4096, seq_len=128, batch=4, steps=100, warm=5
    ),
    "0.4M in all (48x1, vocab 4,096), 1 x 64": Case("ours", "48x1", vocab=4096, seq_len=64, batch=1, steps=300, warm=5),
    "0.4M outside the embeddings (128x2), 4 x 128": Case(
        "ours", "128x2", vocab=4096, seq_len=128, batch=4, steps=30, warm=3
    ),
}


def rows(rounds: int, until: float) -> list[Row]:
    """Tokens a CPU-second of all processes of a side; processes' start-up is not in it, and is said in the note."""
    out = []
    for what, single in PROXIES.items():
        pairs, theirs, walls = [], [], []
        for _ in range(rounds):
            if time.monotonic() > until:
                break
            speeds, wall = {}, {}
            for side, case, count in (
                ("together", replace(single, models=RUNS // CORES), CORES),
                ("alone", single, RUNS),
            ):
                results, wall[side] = crowd([case] * count)
                # equal tokens in every process: the whole's speed is the harmonic mean
                speeds[side] = len(results) / sum(1 / one["per_cpu_second"] for one in results)
            pairs.append(speeds["together"] / speeds["alone"])
            theirs.append(speeds["alone"])
            walls.append(wall["alone"] / wall["together"])
        if not pairs:
            continue
        pairs.sort()
        middle, base = pairs[len(pairs) // 2], sorted(theirs)[len(theirs) // 2]
        note = (
            f"ratio {middle:.2f} ({pairs[0]:.2f} to {pairs[-1]:.2f} in {len(pairs)} rounds); by the wall with every process' "
            f"start {sorted(walls)[len(walls) // 2]:.2f}"
        )
        out.append(
            Row(f"16 proxies of {what}", "tokens/CPU-s", middle * base, None, "16 processes of one thread", base, note)
        )
    return out
