"""Continual pre-training: the Pile share at which the overall Pile loss after 10k steps is what it was at the start.

Four mixtures of The Pile and Python (Pile share .125, .25, .375, .5) are fitted; the authors' check run at .28515625 is not.
With it, interpolation puts the crossing at .280.
"""

from functools import cache
from typing import Any

import numpy as np
from benchmarks.laws import authors, ours, published
from benchmarks.laws.published import Curves
from benchmarks.laws.scores import Array, Covered, Result, Row, Shown, number
from benchmarks.laws.work import Task, Workshop

from mixwright.core.observation import Runs
from mixwright.core.rng import rng
from mixwright.laws.crossing import crossing as meet
from mixwright.laws.exponential import Exponential

STEP = 10_000
CHECK = 0.28515625
PAPER, TRUE = 0.2862, 0.280
#: shares between the smallest and the largest fitted
GRID = np.linspace(0.125, 0.5, 3751)


def fitted() -> Curves:
    """The four mixtures at 10k steps."""
    at = published.mixing("continual").at(None, STEP)
    return at.take(np.abs(at.mix[:, 0] - CHECK) > 1e-6)


@cache
def start() -> tuple[float, float]:
    """The overall Pile loss of the start point, and that of the check run at 10k steps."""
    import csv

    with (published.folder() / "mixing-laws" / "continual.csv").open(newline="") as file:
        base = next(row for row in csv.DictReader(file) if row["step"] == "0")
    at = published.mixing("continual").at(None, STEP)
    q = published.weights(at.metrics)
    begin = sum(w * float(base[f"loss_{m}"]) for m, w in zip(at.metrics, q, strict=True) if w)
    check = at.take(np.abs(at.mix[:, 0] - CHECK) < 1e-6)
    return float(begin), float((np.nan_to_num(check.losses) @ q)[0])


def crossing(share: Array, loss: Array, level: float) -> float:
    """The first share at which a falling loss meets the level, linear between points; NaN if it never does."""
    below = np.flatnonzero(loss <= level)
    if not below.size or below[0] == 0:
        return float("nan")
    n = int(below[0])
    part = (loss[n - 1] - level) / (loss[n - 1] - loss[n])
    return float(share[n - 1] + part * (share[n] - share[n - 1]))


def fit_paper() -> dict[str, float]:
    """The law c + k exp(t r) on the overall loss: by the authors' recipe, and at the exact optimum of its Huber loss."""
    at = fitted()
    whole = at.losses @ np.nan_to_num(published.weights(at.metrics))
    c, level, slope = authors.pilot(at.mix[:, 0], whole)
    runs = Runs(domains=at.domains, metrics=("overall",), run_id=at.run, weights=at.mix, losses=whole[:, None])
    fit = Exponential(shrinkage=0.0, huber=0.02, members=2, folds=2).fit(runs, rng(0, "fit"))
    exact = fit.predict(np.stack([GRID, 1 - GRID], axis=1)).mean[:, 0]
    return {"share": float((np.log(start()[0] - c) - level) / slope), "exact": crossing(GRID, exact, start()[0])}


def fit_default(law: str) -> dict[str, Any]:
    """Our default on all metrics: the share, and the shares at which the start's loss lies within the 90 % interval."""
    at = fitted()
    fit = ours.fit(law, at.runs())
    q = published.weights(at.metrics)
    first, last = GRID[0], GRID[-1]
    noise = float(np.nan_to_num(fit.seed_noise(q), nan=0.0))
    found = meet(fit, start()[0], np.array([first, 1 - first]), np.array([last, 1 - last]), q, noise=noise)
    share, low, high = (first + part * (last - first) for part in (found.at, found.low, found.high))
    check, check_sd = ours.weighted(fit, np.array([[CHECK, 1 - CHECK]]), q)
    return {
        "share": float(share),
        "low": float(low),
        "high": float(high),
        "check": float(check[0]), "check sd": float(check_sd[0]),
    }  # fmt: skip


def run(shop: Workshop) -> Result:
    paper, mine = shop.do(
        "continual", [Task("continual:fit_paper", {}), Task("continual:fit_default", {"law": shop.law})]
    )
    low, high = mine["low"], mine["high"]
    share = "critical Pile share at 10k steps"
    rows = (
        Row(
            f"{share}: paper's form and recipe, 4 runs",
            "share",
            paper["share"],
            ("in", 0.284, 0.288),
            "authors' prediction",
            PAPER,
        ),
        Row(
            f"{share}: 90 % interval holds .280",
            "share inside",
            float(low <= TRUE <= high),
            (">=", 1.0),
            note=f"{low:.4f} to {high:.4f}",
        ),
        Row(f"{share}: width of that interval", "share", high - low, None),
    )
    table = Shown(
        share,
        ("method", "share", "90 % from", "to", "width"),
        (
            ("paper's form, authors' recipe (own)", number(paper["share"]), "-", "-", "-"),
            ("paper's form, exact optimum (exponential, shrinkage 0)", number(paper["exact"]), "-", "-", "-"),
            (f"ours ({shop.law})", number(mine["share"]), number(low), number(high), number(high - low)),
            ("crossing with the check run", number(TRUE, 3), "", "", ""),
        ),
    )
    mean, sd, truth = (np.array([value]) for value in (mine["check"], mine["check sd"], start()[1]))
    check = Covered.of("continual, check run at 10k", mean, sd, truth, "overall")
    return Result(rows, (table,), (check,))
