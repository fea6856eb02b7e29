"""LLaMA's default RedPajama mixture against the optimized one: predicted loss curves of a 1B model to 100k steps.

From the published runs of 70M to 410M, 10k to 30k steps (the default mixture: 70M and 160M only), by the step and the size law.
The optimized mixture is the paper's, which is one of the trained ones. The paper's 1B runs reached the default's final loss in
73 % of the steps; their losses are not among the published runs, so no goal is set.
"""

from typing import Any

import numpy as np
from benchmarks.laws import published
from benchmarks.laws.chain import step_law
from benchmarks.laws.published import STEP_TOKENS
from benchmarks.laws.scores import Result, Row, Shown, timed
from benchmarks.laws.work import Task, Workshop

from mixwright.core.rng import rng

#: non-embedding parameters of 16 layers of width 2,048: 12 d² + 13 d a layer and 2 d at the end
PARAMS_1B = 16 * (12 * 2048**2 + 13 * 2048) + 2 * 2048
DEFAULT, OPTIMIZED = 999, 18
PAPER = 0.73
STEPS = np.arange(5_000, 100_001, 1_000)
SHOWN = (10_000, 30_000, 50_000, 73_000, 100_000)


def predict() -> dict[str, Any]:
    """Overall losses of both mixtures along the run, their difference, all with 90 % bounds; the share of steps."""
    from mixwright.laws.nested import Nested

    at = published.mixing("redpajama")
    at = at.take(~np.isin(at.index, (998, published.LEFT_OUT)) & (at.step >= 10_000) & (at.step <= 30_000))
    law = Nested(params=float(PARAMS_1B), steps=step_law())
    tokens = (STEPS * float(STEP_TOKENS)).tolist()
    said, seconds = timed(lambda: law.forecast(at.runs(), tokens, rng(0, "forecast")))
    row = {index: _row(said.mixtures, at.mix[at.index == index][0]) for index in (DEFAULT, OPTIMIZED)}
    weight = dict(zip(at.metrics, published.weights(at.metrics).tolist(), strict=True))
    q = np.array([weight[m] for m in said.metrics])
    curves = {index: (said.mean[:, k] @ q, said.members[:, :, k] @ q) for index, k in row.items()}
    share = said.catches_up(row[OPTIMIZED], row[DEFAULT], weight)
    gap = curves[OPTIMIZED][0] - curves[DEFAULT][0], curves[OPTIMIZED][1] - curves[DEFAULT][1]
    out: dict[str, Any] = {"share": list(share), "CPU s": seconds, "rows": {}}
    for step in SHOWN:
        n = int(np.flatnonzero(step == STEPS)[0])
        every = (curves[DEFAULT], curves[OPTIMIZED], gap)
        out["rows"][str(step)] = [[float(m[n]), *np.quantile(b[:, n], [0.05, 0.95]).tolist()] for m, b in every]
    return out


def _row(mixtures: Any, mix: Any) -> int:
    """The row of the forecast that has this mixture."""
    return int(np.abs(mixtures - mix).sum(axis=1).argmin())


def run(shop: Workshop) -> Result:
    (found,) = shop.do("forecast", [Task("forecast:predict", {}, 5.0)])
    share, low, high = found["share"]
    note = f"90 % interval {low:.3f} to {high:.3f}; from runs of at most 410M and 30k steps"
    what = "1B, optimized against default mixture: share of steps to the default's final loss"
    rows = (Row(what, "share", share, None, "paper, measured", PAPER, note),)
    cells = [
        (f"{int(step):,}", *(f"{m:.3f} [{a:.3f}, {b:.3f}]" for m, a, b in values))
        for step, values in found["rows"].items()
    ]
    cells.append(("share of steps", "", "", f"{share:.3f} [{low:.3f}, {high:.3f}]; paper {PAPER}"))
    heads = ("step", "default", "optimized", "optimized less default")
    return Result(
        rows, (Shown("Predicted overall loss of a 1B model, nats/token, with 90 % intervals", heads, tuple(cells)),)
    )
