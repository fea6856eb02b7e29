"""The step law: fitted on the 5-mix checkpoints from 10k to 30k steps, asked for 40-80k and 90-100k of the eight long runs.

One rule for both sizes. Ours knows the runs' learning rate (cosine to a tenth at 100k steps, 2k steps of warm-up). The peers
are plain re-implementations with a power of the tokens, c + B / D^a, the exponent tied as named, least squares by a search over
a. Figures are of the overall loss, in nats/token.
"""

from dataclasses import replace
from typing import Any

import numpy as np
from benchmarks.laws import authors, published
from benchmarks.laws.published import STEP_TOKENS, Curves
from benchmarks.laws.scores import Array, Covered, Result, Row, Shown, mae, number, timed
from benchmarks.laws.work import Task, Workshop

from mixwright.core.rng import rng

FIRST, LAST = 10_000, 30_000
RANGES = {"40-80k": (40_000, 80_000), "90-100k": (90_000, 100_000)}
#: (size, range) -> goal, the authors' structure and the stretch goal (None: none is set)
GOALS = {
    ("70M", "40-80k"): (0.0066, 0.0141, 0.0038), ("70M", "90-100k"): (0.021, 0.0280, 0.0135),
    ("160M", "40-80k"): (0.0078, 0.0245, None), ("160M", "90-100k"): (0.024, 0.0426, None),
}  # fmt: skip
POWERS = np.linspace(0.02, 1.5, 149)
RULES = (
    "tied over groups per run (authors' structure)",
    "free per curve",
    "shared over all runs of a size",
    "fixed .5",
    "none (30k loss)",
)
#: what our law loses without a part of it: annealing counted for nothing, twice as much, or the schedule not known at all
VARIANTS: dict[str, dict[str, Any]] = {
    "ours, annealing takes nothing off": {"drop": 0.0, "width_drop": 0.0},
    "ours, annealing takes twice as much": {"drop": 0.084},
    "ours, schedule unknown": {"rate": None},
}
#: runs whose step law is fitted by the authors' starts, and how many of the 5,500
SLICE, STARTS = (("70M", 18), ("410M", 11)), 60


def early() -> Curves:
    """What is fitted: every 5-mix run of every size, 10k to 30k steps."""
    at = published.mixing("5mix")
    return at.take((at.step >= FIRST) & (at.step <= LAST))


def late(size: str) -> Curves:
    """What is predicted: the checkpoints of a size after 30k steps."""
    at = published.mixing("5mix").at(size)
    return at.take(at.step > LAST)


def fit_ours(variant: str = "") -> dict[str, Any]:
    """The overall loss of every late checkpoint, and its standard deviation with a checkpoint's noise; see ``VARIANTS``."""
    from benchmarks.laws.chain import step_law

    law = replace(step_law(), **VARIANTS.get(variant, {}))
    fitted, seconds = timed(lambda: law.fit(early().runs(), rng(0, "fit")))
    out: dict[str, Any] = {"CPU s": seconds}
    for size in ("70M", "160M"):
        at = late(size)
        q = published.weights(at.metrics)
        noise = float(q @ fitted.covariance @ q)
        mean, sd = np.empty(len(at)), np.empty(len(at))
        for tokens in np.unique(at.step) * float(STEP_TOKENS):
            said, members = fitted.mean(tokens) @ q, fitted.members(tokens) @ q
            for n in np.flatnonzero(at.step * float(STEP_TOKENS) == tokens):
                row = fitted.last.run_id.index(at.run[n])
                mean[n], sd[n] = said[row], np.sqrt(members[:, row].var(ddof=1) + noise)
        out[size] = {"mean": mean.tolist(), "sd": sd.tolist()}
    return out


def fit_rule(rule: str) -> dict[str, list[float]]:
    """The same by one rule for the exponent, on the five groups, summed."""
    out = {}
    for size in ("70M", "160M"):
        at, target = early().at(size), late(size)
        share, group_weights = _groups(at)
        names = sorted(set(target.run) if "shared" not in rule else set(at.run))
        parts = {name: at.take(np.array(at.run) == name) for name in names}
        curves = {name: (part.step / 1e4, part.losses @ share) for name, part in parts.items()}
        curves = {
            name: (t[np.isfinite(y).all(axis=1)], y[np.isfinite(y).all(axis=1)]) for name, (t, y) in curves.items()
        }
        powers = _exponents(rule, curves)
        said = []
        for name, step in zip(target.run, target.step, strict=True):
            t, y = curves[name]
            if rule.startswith("none"):
                said.append(float(y[-1] @ group_weights))
                continue
            each = [_curve(t, y[:, g], powers[name][g], np.array([step / 1e4]))[0] for g in range(5)]
            said.append(float(np.array(each) @ group_weights))
        out[size] = said
    return out


def _groups(at: Curves) -> tuple[Array, Array]:
    """The averaging matrix ``(V, 5)`` and the groups' weights ``(5,)`` in the overall loss."""
    _, share = published.groups(at.metrics)
    q = published.weights(at.metrics)
    return share, np.array([q[share[:, g] > 0].sum() for g in range(5)])


def _exponents(rule: str, curves: dict[str, tuple[Array, Array]]) -> dict[str, list[float]]:
    if rule.startswith(("fixed", "none")):
        return {name: [0.5] * 5 for name in curves}
    each = {
        name: np.array([[_squares(t, y[:, g], p) for p in POWERS] for g in range(5)]) for name, (t, y) in curves.items()
    }
    if rule.startswith("shared"):
        best = float(POWERS[int(sum(v.sum(axis=0) for v in each.values()).argmin())])
        return {name: [best] * 5 for name in curves}
    if rule.startswith("tied"):
        return {name: [float(POWERS[int(v.sum(axis=0).argmin())])] * 5 for name, v in each.items()}
    return {name: [float(POWERS[n]) for n in v.argmin(axis=1)] for name, v in each.items()}


def _curve(t: Array, y: Array, power: float, at: Array) -> Array:
    columns = np.stack([np.ones_like(t), t**-power], axis=1)
    beta = np.linalg.lstsq(columns, y, rcond=None)[0]
    return np.asarray(beta[0] + beta[1] * at**-power)


def _squares(t: Array, y: Array, power: float) -> float:
    return float(np.sum((_curve(t, y, power, t) - y) ** 2))


def _run(size: str, index: int) -> tuple[Array, Array]:
    """Tokens ``(S,)`` and the five pipeline groups' losses ``(5, S)`` of one RedPajama run, 10k to 30k."""
    at = published.mixing("redpajama").at(size)
    at = at.take((at.index == index) & (at.step >= FIRST) & (at.step <= LAST))
    at = at.take(np.argsort(at.step))
    return at.step * float(STEP_TOKENS), (at.losses @ published.pipeline_groups(at.metrics)).T


def search_authors(size: str, index: int, starts: int) -> dict[str, float]:
    tokens, y = _run(size, index)
    authors.step_law(tokens, y, 1)
    (_, value), seconds = timed(lambda: authors.step_law(tokens, y, starts))
    return {"objective": value, "CPU s": seconds}


def search_ours(size: str, index: int) -> dict[str, float]:
    """The same structure and points, solved exactly (``laws/_tied.py``)."""
    from mixwright.laws._tied import solve_tied

    tokens, y = _run(size, index)
    fitted = slice(0, len(tokens) - authors.STEP_HELD)

    def solve() -> float:
        return (
            float(solve_tied(tokens[fitted], y[None, :, fitted], delta=authors.STEP_HUBER).objective[0])
            / y[:, fitted].size
        )

    solve()
    tries = [timed(solve) for _ in range(5)]
    return {"objective": tries[0][0], "CPU s": float(np.median([seconds for _, seconds in tries]))}


def run(shop: Workshop) -> Result:
    tasks = [Task("steps:fit_ours", {"variant": variant}, 8.0) for variant in ("", *VARIANTS)]
    tasks += [Task("steps:search_ours", {"size": s, "index": n}, 1.0) for s, n in SLICE]
    if shop.peers:
        tasks += [
            Task("steps:search_authors", {"size": s, "index": n, "starts": STARTS}, 8.0, peer=True) for s, n in SLICE
        ]
        tasks += [Task("steps:fit_rule", {"rule": rule}, 6.0, peer=True) for rule in RULES]
    mine, *rest = shop.do("steps", tasks)
    varied, rest = dict(zip(VARIANTS, rest, strict=False)), rest[len(VARIANTS) :]
    ours_found, rest = rest[: len(SLICE)], rest[len(SLICE) :]
    authors_found, ruled = rest[: len(SLICE)], dict(zip(RULES, rest[len(SLICE) :], strict=False))
    rows, covered, cells = [], [], {name: [] for name in ("ours", *varied, *ruled)}
    for (size, span), (goal, reference, stretch) in GOALS.items():
        at = late(size)
        low, high = RANGES[span]
        part = (at.step >= low) & (at.step <= high)
        truth = at.overall()[part]
        mean, sd = np.array(mine[size]["mean"])[part], np.array(mine[size]["sd"])[part]
        value = mae(mean, truth)
        note = f"stretch {stretch}: {'met' if value <= stretch else 'missed'}" if stretch else ""
        rows.append(
            Row(
                f"step law, 5-mix {size}, 10-30k -> {span}: overall MAE",
                "nats/token",
                value,
                ("<=", goal),
                "authors' structure, field notes",
                reference,
                note,
            )
        )
        covered.append(Covered.of(f"step law, 5-mix {size} {span}", mean, sd, truth, "overall"))
        cells["ours"].append(value)
        for name, other in varied.items():
            cells[name].append(mae(np.array(other[size]["mean"])[part], truth))
        for rule, said in ruled.items():
            cells[rule].append(mae(np.array(said[size])[part], truth))
    heads = ("exponent", *(f"{size} {span}" for size, span in GOALS))
    lines = [(name, *(number(v) for v in values)) for name, values in cells.items()]
    lines.append(("goal", *(f"<= {number(goal)}" for goal, *_ in GOALS.values())))
    tables = [Shown("Step law, 5-mix, fitted on 10k-30k steps: overall MAE of later checkpoints", heads, tuple(lines))]
    if authors_found:
        more, table = _searched(ours_found, authors_found)
        rows += more
        tables.append(table)
    return Result(tuple(rows), tuple(tables), tuple(covered))


def _searched(mine: list[dict[str, float]], theirs: list[dict[str, float]]) -> tuple[list[Row], Shown]:
    """Objectives and times on the slice; the rest is arithmetic."""
    rows, cells = [], []
    for (size, index), a, b in zip(SLICE, mine, theirs, strict=True):
        whole = b["CPU s"] / STARTS * authors.STEP_STARTS
        label, peer = f"step law search, RedPajama {size} mixture {index}", "authors' starts (own)"
        note = f"ours {a['CPU s']:.4f} s; {STARTS} starts {b['CPU s']:.2f} s; x {authors.STEP_STARTS} / {STARTS} = {whole:.0f} s"
        better = a["objective"] / b["objective"]
        rows.append(Row(f"{label}: objective over theirs", "ratio", better, ("<=", 1.0), peer, 1.0))
        rows.append(
            Row(f"{label}: part of their CPU time", "ratio", a["CPU s"] / whole, ("<=", 0.001), peer, 1.0, note)
        )
        cells.append(
            (
                f"{size}, mixture {index}",
                f"{a['objective']:.4e}",
                f"{b['objective']:.4e}",
                f"{a['CPU s']:.4f}",
                f"{b['CPU s']:.2f}",
                f"{whole:.0f}",
                f"{whole / a['CPU s']:.0f}",
            )
        )
    heads = (
        "run",
        "ours, mean Huber",
        "theirs (lowest)",
        "ours CPU s",
        f"{STARTS} starts CPU s",
        f"{authors.STEP_STARTS} starts CPU s",
        "x",
    )
    return rows, Shown(
        "Step law of one run, authors' structure: our search against a slice of their starts (own)", heads, tuple(cells)
    )
