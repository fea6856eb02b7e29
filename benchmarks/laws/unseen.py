"""Unseen mixtures of the mixing-laws runs at 30k steps: leave one out, and RedPajama's official 20 against its other 20.

We fit the 22 Pile subsets and sum them with the authors' weights (overall = sum of weight x loss over 22 subsets). MAE5 is
the mean absolute error over the paper's five groups, averaged from the 22. Peers are fitted to the same 22 losses.
"""

from typing import Any

import numpy as np
from benchmarks.laws import ours, peers, published
from benchmarks.laws.published import Curves
from benchmarks.laws.scores import Array, Covered, Result, Row, Shown, mae, number, spearman, timed
from benchmarks.laws.solver import exact
from benchmarks.laws.work import Task, Workshop

from mixwright.core.rng import rng

STEP = 30_000
#: check -> (table, size, MAE goal, rank goal, (reference, its MAE, its rank))
CHECKS: dict[str, tuple[str, str, float, float | None, tuple[str, float, float | None]]] = {
    "5-mix 70M, leave one out": ("5mix", "70M", 0.0080, None, ("best simple form, field notes", 0.0080, None)),
    "5-mix 410M, leave one out": ("5mix", "410M", 0.0054, None, ("best simple form, field notes", 0.0054, None)),
    "RedPajama 70M, 20 -> other 20": (
        "redpajama",
        "70M",
        0.0125,
        0.85,
        ("log-linear ridge, field notes", 0.0141, 0.83),
    ),
    "RedPajama 410M, leave one out": ("redpajama", "410M", 0.0150, 0.88, ("GP, field notes", 0.0153, 0.87)),
}
PEERS = ("mean", "linear", "LightGBM, 3 rows per leaf", "GP, ARD Matern, cube root")
#: the paper's law as it stands (no prior), at the exact optimum of the authors' Huber loss
M4 = "M4, its optimum"


def table(name: str, size: str) -> Curves:
    """The mixtures of a size at 30k steps: 26 of 5-mix, 20 to 40 of RedPajama (without the special runs)."""
    at = published.mixing(name).at(size, STEP)
    return at.take(~np.isin(at.index, (998, 999)))


def splits(name: str, size: str) -> list[tuple[Array, Array]]:
    """Rows to fit and rows to predict: each row alone, or the official 20 against the rest where a table has more."""
    at = table(name, size)
    rows = np.arange(len(at))
    if name == "redpajama" and size == "70M":
        return [(rows[at.fitted], rows[~at.fitted])]
    return [(np.delete(rows, n), rows[n : n + 1]) for n in rows]


def fit_ours(law: str, name: str, size: str, part: int, own: bool = True) -> dict[str, Any]:
    at = table(name, size)
    fit_rows, held = splits(name, size)[part]
    runs = at.take(fit_rows).runs(own)
    fitted, seconds = timed(lambda: ours.fit(law, runs))
    q = published.weights(at.metrics)
    said, sd = ours.each(fitted, at.mix[held])
    whole, whole_sd = ours.weighted(fitted, at.mix[held], q)
    return {
        "each": said.tolist(),
        "sd": sd.tolist(),
        "whole": whole.tolist(),
        "whole sd": whole_sd.tolist(),
        "CPU s": seconds,
    }


def fit_peer(peer: str, name: str, size: str) -> dict[str, Any]:
    at = table(name, size)
    law = peers.mean if peer == "mean" else peers.EVERY_RUN[peer]
    said = np.full(at.losses.shape, np.nan)

    def all_parts() -> None:
        for fit_rows, held in splits(name, size):
            for m in range(len(at.metrics)):
                said[held, m] = law(at.mix[fit_rows], at.losses[fit_rows, m], at.mix[held])

    _, seconds = timed(all_parts)
    return {"each": said.tolist(), "CPU s": seconds}


def fit_m4(name: str, size: str) -> dict[str, Any]:
    """The paper's law on all 22 losses, by our solver without its prior."""
    at = table(name, size)
    said = np.full(at.losses.shape, np.nan)

    def all_parts() -> None:
        for fit_rows, held in splits(name, size):
            said[held] = exact().fit(at.take(fit_rows).runs(), rng(0, "fit")).predict(at.mix[held]).mean

    _, seconds = timed(all_parts)
    return {"each": said.tolist(), "CPU s": seconds}


def collect(name: str, size: str, parts: list[dict[str, Any]]) -> dict[str, Array]:
    """The parts' predictions over all rows of the table, NaN where none was made."""
    at = table(name, size)
    out = {k: np.full(at.losses.shape, np.nan) for k in ("each", "sd")} | {
        k: np.full(len(at), np.nan) for k in ("whole", "whole sd")
    }
    for (_, held), part in zip(splits(name, size), parts, strict=True):
        for key in out:
            out[key][held] = part[key]
    return out


def scored(name: str, size: str, said: Array) -> dict[str, float]:
    """Scores of per-metric predictions ``(N, 22)`` on the rows that were predicted."""
    at = table(name, size)
    rows = np.isfinite(said).all(axis=1)
    truth, predicted = at.losses[rows], said[rows]
    q, (_, average) = published.weights(at.metrics), published.groups(at.metrics)
    whole = predicted @ q
    error = whole - truth @ q
    return {
        "rows": int(rows.sum()), "MAE22": mae(predicted, truth), "MAE5": mae(predicted @ average, truth @ average),
        "overall MAE": float(np.abs(error).mean()), "rank": spearman(whole, truth @ q),
        "R2": float(1 - (error**2).sum() / ((truth @ q - (truth @ q).mean()) ** 2).sum()),
    }  # fmt: skip


def run(shop: Workshop, own: bool = True) -> Result:
    wanted: list[tuple[str, str, Task]] = []
    for check, (name, size, *_) in CHECKS.items():
        for part in range(len(splits(name, size))):
            arguments = {"law": shop.law, "name": name, "size": size, "part": part, "own": own}
            wanted.append((check, "ours", Task("unseen:fit_ours", arguments, 2.0)))
        wanted.append((check, M4, Task("unseen:fit_m4", {"name": name, "size": size}, 5.0)))
        for peer in PEERS if shop.peers else ():
            wanted.append(
                (check, peer, Task("unseen:fit_peer", {"peer": peer, "name": name, "size": size}, 15.0, peer=True))
            )
    values = shop.do("unseen", [task for *_, task in wanted])
    rows: list[Row] = []
    tables: list[Shown] = []
    covered: list[Covered] = []
    for check, (name, size, goal, rank_goal, (reference, known_mae, known_rank)) in CHECKS.items():
        mine = [v for (c, who, _), v in zip(wanted, values, strict=True) if c == check and who == "ours"]
        at, found = table(name, size), collect(name, size, mine)
        seconds = float(np.mean([v["CPU s"] for v in mine]))
        scores = scored(name, size, found["each"])
        here = [
            Covered.of(
                f"{check}, 22 subsets",
                found["each"],
                found["sd"],
                np.where(np.isfinite(found["each"]), at.losses, np.nan),
                "subsets",
            ),
            Covered.of(
                f"{check}, overall",
                found["whole"],
                found["whole sd"],
                np.where(np.isfinite(found["whole"]), at.overall(), np.nan),
                "overall",
            ),
        ]
        covered += here
        rows.append(
            Row(f"{check}: overall MAE", "nats/token", scores["overall MAE"], ("<=", goal), reference, known_mae)
        )
        if rank_goal:
            rows.append(Row(f"{check}: rank", "Spearman", scores["rank"], (">=", rank_goal), reference, known_rank))
        cells = [_line(f"ours ({shop.law})", scores, here[1].share, seconds)]
        for (c, who, _), value in zip(wanted, values, strict=True):
            if c == check and who != "ours":
                cells.append(_line(who, scored(name, size, np.array(value["each"])), None, value["CPU s"] / len(mine)))
        cells.append(
            ("goal", "", "", f"<= {number(goal)}", f">= {number(rank_goal, 2)}" if rank_goal else "", "", ".85-.95", "")
        )
        heads = ("method", "MAE22", "MAE5", "overall MAE", "rank", "R2", "90 % covers", "CPU s a fit")
        tables.append(Shown(f"{check}: {scores['rows']} mixtures, overall summed over 22 subsets", heads, tuple(cells)))
    return Result(tuple(rows), tuple(tables), tuple(covered))


def _line(name: str, scores: dict[str, float], share: float | None, seconds: float) -> tuple[str, ...]:
    keys = ("MAE22", "MAE5", "overall MAE", "rank", "R2")
    shown = {
        k: v for k, v in scores.items() if not (name == "mean" and k == "rank")
    }  # the mean of the others ranks nothing
    return (name, *(number(shown.get(k), 4 if "MAE" in k else 3) for k in keys), number(share, 3), number(seconds, 2))
