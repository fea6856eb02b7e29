"""Active choice: 8 random runs of the pool of 512, then batches that ``next_runs`` picks from it; the target is the mean loss.

Seeds 3000 to 3009 draw the starts. Every measured loss is looked up in the table. The advisor is asked before each batch.
"""

from typing import Any

import numpy as np
from benchmarks.laws import ours, published
from benchmarks.laws.scores import Result, Row, Shown, number
from benchmarks.laws.work import Task, Workshop

from mixwright.core.objective import Objective
from mixwright.core.rng import rng

STARTS, BATCH, MOST, WITHIN = 8, 4, 24, 16
SEEDS = range(3000, 3010)


def play(law: str, seed: int) -> dict[str, Any]:
    """Regret (nats, of the best run so far to the pool's best) after 8, 12, ... 24 runs, and where the advisor stops."""
    from mixwright.optimize.next_runs import next_runs

    runs = published.regmix("train_1m")
    pool, loss = runs.mixtures(), runs.losses.mean(axis=1)
    taken = np.random.default_rng(seed).permutation(len(runs))[:STARTS].tolist()
    regret, stop = [], None
    while True:
        regret.append(float(loss[taken].min() - loss.min()))
        seen = runs.take(taken)
        fit = ours.fit(law, seen)
        said = next_runs(fit, seen, Objective(), count=BATCH, candidates=pool, rng=rng(seed, "next", len(taken)))
        if said.advice.stop and stop is None:
            stop = len(taken)
        if len(taken) >= MOST:
            return {"regret": regret, "stop": stop, "taken": taken}
        taken += [run.candidate for run in said.runs]


def at_random(seed: int) -> list[float]:
    """Regrets of random choice after the same numbers of runs."""
    loss = published.regmix("train_1m").losses.mean(axis=1)
    order = np.random.default_rng(seed).permutation(len(loss))
    return [float(loss[order[:n]].min() - loss.min()) for n in range(STARTS, MOST + 1, BATCH)]


def run(shop: Workshop) -> Result:
    seeds = SEEDS[:3] if shop.fast else SEEDS
    games = shop.do("choice", [Task("choice:play", {"law": shop.law, "seed": s}, 12.0) for s in seeds])
    numbers = list(range(STARTS, MOST + 1, BATCH))
    regret = np.array([game["regret"] for game in games])
    chance = np.array([at_random(s) for s in range(4000, 4200)])
    found = int((regret[:, numbers.index(WITHIN)] <= 0).sum())
    stopped = sum(game["stop"] is not None for game in games)
    stops = ", ".join(str(game["stop"] or "-") for game in games)
    missed = [game["regret"][numbers.index(game["stop"])] for game in games if game["stop"]]
    goal = round(0.9 * len(games))
    what = f"active choice, pool of 512, {STARTS} random starts"
    rows = (
        Row(
            f"{what}: best found within {WITHIN} runs",
            f"of {len(games)} seeds",
            float(found),
            (">=", goal),
            "random choice, expected",
            len(games) * WITHIN / 512,
        ),
        Row(
            f"{what}: advisor stops within {MOST} runs",
            f"of {len(games)} seeds",
            float(stopped),
            (">=", len(games)),
            note=f"at {stops}",
        ),
        Row(f"{what}: largest regret where the advisor stops", "nats/token", max(missed, default=None), None),
    )
    cells = [
        (f"ours ({shop.law})", *(number(v) for v in regret.mean(axis=0))),
        ("  best found, seeds", *(str(int((regret[:, n] <= 0).sum())) for n in range(len(numbers)))),
        ("random choice (200 seeds)", *(number(v) for v in chance.mean(axis=0))),
    ]
    table = Shown(
        f"Active choice: mean regret to the pool's best, {len(games)} seeds",
        ("after", *(f"{n} runs" for n in numbers)),
        tuple(cells),
    )
    return Result(rows, (table,))
