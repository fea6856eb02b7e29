"""The whole chain: 410M at 30k steps from runs of at most 305M and 20k steps, by the nested laws with their default settings.

Mixture unseen: its runs of every size are left out in turn. Mixture seen: nothing is left out, each mixture's own runs are
carried over steps and sizes (no mixing law is needed), and the ranks compete with the raw losses of the 305M runs at 20k
steps. Only checkpoints from 10k steps on are used.
"""

from typing import Any

import numpy as np
from benchmarks.laws import ours, published
from benchmarks.laws.published import PARAMS, STEP_TOKENS, Curves
from benchmarks.laws.scores import Array, Covered, Result, Row, Shown, mae, number, spearman, timed
from benchmarks.laws.work import Task, Workshop

from mixwright.core.rng import rng

TARGET, STEP, LAST = "410M", 30_000, 20_000
#: table -> goals (MAE, rank) for unseen mixtures; M4 and the best of the field notes; raw 305M rank for seen ones
CHECKS: dict[str, tuple[str, float, float, tuple[float, float], tuple[float, float]]] = {
    "redpajama": ("RedPajama", 0.0150, 0.88, (0.074, 0.36), (0.0158, 0.87)),
    "5mix": ("5-mix", 0.0105, 0.93, (0.0167, 0.86), (0.0112, 0.92)),
}


def rate() -> Any:
    """The schedule of the mixing-laws runs: cosine from 2k steps of warm-up to a tenth of the peak at step 100k."""
    from mixwright.laws.steps import LearningRate

    return LearningRate("cosine", total=100_000.0 * STEP_TOKENS, warmup=2_000.0 * STEP_TOKENS, final=0.1)


def step_law() -> Any:
    """Our step law with its default settings and the runs' schedule."""
    from mixwright.laws.steps import StepLaw

    return StepLaw(rate=rate())


def chain(law: str, params: float | None = None, tokens: float | None = None) -> Any:
    from mixwright.laws.nested import Nested

    return Nested(
        law=law, params=params or float(PARAMS[TARGET]), tokens=tokens or STEP * float(STEP_TOKENS), steps=step_law()
    )


def cheap(name: str) -> Curves:
    """Runs of at most 305M, 10k to 20k steps, without the special mixtures."""
    at = published.mixing(name)
    at = at.take(~np.isin(at.index, (998, 999, published.LEFT_OUT)))
    return at.take((at.params < PARAMS[TARGET]) & (at.step >= 10_000) & (at.step <= LAST))


def target(name: str) -> Curves:
    """The 410M runs at 30k steps."""
    at = published.mixing(name).at(TARGET, STEP)
    return at.take(~np.isin(at.index, (998, 999)))


def fit_ours(law: str, name: str, leave: int | None) -> dict[str, Any]:
    """Without the mixture ``leave``, asked for it; with None, all mixtures are seen and all asked for."""
    at, goal = cheap(name), target(name)
    if leave is not None:
        at, goal = at.take(at.index != leave), goal.take(goal.index == leave)
    fitted, seconds = timed(lambda: chain(law).fit(at.runs(), rng(0, "fit")))
    q = published.weights(goal.metrics)
    said, _ = ours.each(fitted, goal.mix)
    whole, sd = ours.weighted(fitted, goal.mix, q)
    return {
        "index": goal.index.tolist(),
        "each": said.tolist(),
        "whole": whole.tolist(),
        "sd": sd.tolist(),
        "CPU s": seconds,
    }


def fit_joint(name: str, leave: int) -> dict[str, Any]:
    """One joint law over mixture, tokens and size instead of the nested ones."""
    from mixwright.laws.joint import Joint

    at, goal = cheap(name), target(name)
    at, goal = at.take(at.index != leave), goal.take(goal.index == leave)
    law = Joint(steps=step_law())
    tokens, params = STEP * float(STEP_TOKENS), float(PARAMS[TARGET])
    fitted, seconds = timed(lambda: law.fit(at.runs(), rng(0, "fit")).at(tokens=tokens, params=params))
    whole, sd = ours.weighted(fitted, goal.mix, published.weights(goal.metrics))
    return {"whole": whole.tolist(), "sd": sd.tolist(), "CPU s": seconds}


def fit_curves(name: str) -> dict[str, Any]:
    """Steps and sizes alone, no mixing law: each seen mixture's overall loss at the target."""
    from mixwright.laws.sizes import SizeLaw

    at, goal = cheap(name), target(name)
    steps = step_law().fit(at.runs(), rng(0, "steps"))
    tokens = STEP * float(STEP_TOKENS)
    mean, members = steps.mean(tokens), steps.members(tokens)
    sizes = np.array(sorted(set(at.params.tolist())), dtype=float)
    place = {(at.index[n], at.params[n]): at.run[n] for n in range(len(at))}
    losses = np.full((len(goal), len(sizes), len(at.metrics)), np.nan)
    drawn = np.full((len(members), *losses.shape), np.nan)
    for k, index in enumerate(goal.index):
        for z, size in enumerate(sizes):
            if (index, int(size)) in place:
                row = steps.last.run_id.index(place[index, int(size)])
                losses[k, z], drawn[:, k, z] = mean[row], members[:, row]
    fit = SizeLaw().fit(sizes, losses, drawn, rng(0, "sizes"))
    q = published.weights(at.metrics)
    params = float(PARAMS[TARGET])
    sd = np.sqrt((fit.members(params) @ q).var(axis=0, ddof=1) + q @ steps.covariance @ q)
    return {"whole": (fit.mean(params) @ q).tolist(), "sd": sd.tolist()}


def raw(name: str, size: str, step: int) -> Array:
    """Overall losses of a size at a step, in the order of the targets."""
    goal, at = target(name), published.mixing(name).at(size, step)
    row = {int(index): n for n, index in enumerate(at.index)}
    return at.overall()[[row[int(index)] for index in goal.index]]


def run(shop: Workshop) -> Result:
    tasks: list[tuple[str, str, Task]] = []
    for name in CHECKS:
        for index in target(name).index.tolist():
            tasks.append((name, "unseen", Task("chain:fit_ours", {"law": shop.law, "name": name, "leave": index}, 4.0)))
            tasks.append((name, "joint", Task("chain:fit_joint", {"name": name, "leave": index}, 4.0)))
        tasks.append((name, "seen", Task("chain:fit_ours", {"law": shop.law, "name": name, "leave": None}, 4.0)))
        tasks.append((name, "curves", Task("chain:fit_curves", {"name": name}, 4.0)))
    values = shop.do("chain", [task for *_, task in tasks])
    rows: list[Row] = []
    tables: list[Shown] = []
    covered: list[Covered] = []
    for name in CHECKS:
        kinds = ("unseen", "joint", "seen", "curves")
        found = {
            kind: [v for (n, k, _), v in zip(tasks, values, strict=True) if (n, k) == (name, kind)] for kind in kinds
        }
        more, cover, table = _table(name, found, shop.law)
        rows += more
        covered += cover
        tables.append(table)
    return Result(tuple(rows), tuple(tables), tuple(covered))


def _table(name: str, found: dict[str, list[dict[str, Any]]], law: str) -> tuple[list[Row], list[Covered], Shown]:
    """Rows, coverage and table of one set of runs; ``found`` by kind, each in the order of the targets."""
    label, goal, rank_goal, m4, best = CHECKS[name]
    truth = target(name).overall()
    whole, sd, error, rank = {}, {}, {}, {}
    for kind, parts in found.items():
        whole[kind] = np.concatenate([v["whole"] for v in parts])
        sd[kind] = np.concatenate([v["sd"] for v in parts])
        error[kind], rank[kind] = mae(whole[kind], truth), spearman(whole[kind], truth)
    words = {"unseen": "mixture unseen", "curves": "mixture seen"}
    covered = [Covered.of(f"whole chain, {label}, {words[k]}", whole[k], sd[k], truth, "overall") for k in words]
    raw_rank = {size: spearman(raw(name, size, LAST), truth) for size in ("305M", "70M")}
    what, notes = f"whole chain, {label}, mixture unseen", "best of the field notes"
    seen = f"steps and sizes alone; with the mixing law on top {rank['seen']:.3f}"
    rows = [
        Row(f"{what}: overall MAE", "nats/token", error["unseen"], ("<=", goal), notes, best[0], f"M4 {m4[0]}"),
        Row(f"{what}: rank", "Spearman", rank["unseen"], (">=", rank_goal), notes, best[1], f"M4 {m4[1]}"),
        Row(
            f"mixture seen, {label}: rank of 410M from <= 305M", "Spearman", rank["curves"],
            (">", round(raw_rank["305M"], 4)), "raw 305M losses at 20k", raw_rank["305M"], seen,
        ),
    ]  # fmt: skip
    lines = {
        f"ours, mixture unseen (nested, {law})": "unseen",
        "ours, mixture unseen, joint law instead": "joint",
        "ours, mixture seen (steps and sizes)": "curves",
        "ours, mixture seen, mixing law on top": "seen",
    }
    cells = [
        (
            words, number(error[k]), number(rank[k], 3), number(Covered.of("", whole[k], sd[k], truth).share, 3),
            number(float(np.mean([v.get("CPU s", np.nan) for v in found[k]])), 1),
        )
        for words, k in lines.items()
    ]  # fmt: skip
    cells += [
        ("M4 in the chain, unseen (field notes)", number(m4[0]), number(m4[1], 3), "-", "-"),
        ("best in the chain, unseen (field notes)", number(best[0]), number(best[1], 3), "-", "-"),
        *((f"raw {size} losses at 20k, seen", "-", number(value, 3), "-", "-") for size, value in raw_rank.items()),
        ("goal, unseen", f"<= {number(goal)}", f">= {number(rank_goal, 2)}", ".85-.95", ""),
    ]
    heads = ("method", "overall MAE", "rank", "90 % covers", "CPU s a fit")
    title = f"Whole chain, {label}: 410M at 30k from <= 305M and <= 20k steps, {len(truth)} mixtures"
    return rows, covered, Shown(title, heads, tuple(cells))
