"""Predicted against measured: what larger runs say about the mixtures, with the noise beside every difference.

Notation: K mixtures, S seeds, M metrics; w the objective's metric weights ``(M,)``; all losses in nats/token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from mixwright.core.law import Fit
from mixwright.core.mixture import Mixture
from mixwright.core.observation import Observation

#: intervals everywhere hold 90 %
LEVEL = 0.90

Trajectory = Sequence[tuple[float, Mapping[str, float]]]


@dataclass(frozen=True)
class Trained:
    """One finished run with the losses along its way."""

    observation: Observation
    #: (tokens, {metric: loss}) at each intermediate evaluation, the end included
    trajectory: Trajectory


def objective_loss(losses: Mapping[str, float], weights: Mapping[str, float]) -> float:
    """The weighted mean loss of the objective's metrics."""
    return float(sum(weight * losses[name] for name, weight in weights.items()))


def pooled_noise(groups: Sequence[NDArray[np.float64]]) -> tuple[float, int]:
    """Standard deviation within groups, pooled, and its degrees of freedom; (nan, 0) without a group of two."""
    squares = sum(float(((group - group.mean()) ** 2).sum()) for group in groups if len(group) > 1)
    freedom = sum(len(group) - 1 for group in groups)
    return (float(np.sqrt(squares / freedom)), freedom) if freedom else (float("nan"), 0)


def half_width(sd: float, freedom: int) -> float:
    """Half of the 90 % interval of a normal mean whose standard deviation was estimated with ``freedom`` degrees."""
    quantile = stats.t.ppf((1 + LEVEL) / 2, freedom) if freedom > 0 else stats.norm.ppf((1 + LEVEL) / 2)
    return float(quantile * sd)


def steps_share(trajectory: Trajectory, weights: Mapping[str, float], goal: float) -> float | None:
    """The share of the run at which its objective first reaches ``goal`` (linear between evaluations), None if never."""
    points = [(tokens, objective_loss(losses, weights)) for tokens, losses in trajectory]
    end = points[-1][0]
    for (t0, l0), (t1, l1) in zip([points[0], *points], points, strict=False):
        if l1 <= goal:
            return float((t1 if l0 <= goal or l0 == l1 else t0 + (t1 - t0) * (l0 - goal) / (l0 - l1)) / end)
    return None


def compare(
    trained: Mapping[str, Sequence[Trained]],
    mixtures: Mapping[str, Mixture],
    reference: str,
    weights: Mapping[str, float],
    fit: Fit,
    *,
    fallback_noise: float,
) -> dict[str, Any]:
    """The report's ``verify`` section (without size and seeds): every mixture against ``reference``.

    Measured differences are means over seeds; their interval uses the seed scatter pooled over all mixtures (or
    ``fallback_noise``, from the proxies, where each mixture has one seed). Predicted ones come from the fit, at proxy
    size.
    """
    names = list(trained)
    objective = {n: np.array([objective_loss(t.observation.losses, weights) for t in trained[n]]) for n in names}
    noise, freedom = pooled_noise(list(objective.values()))
    if not freedom:
        noise = fallback_noise
    metrics = list(trained[reference][0].observation.losses)
    per_metric = {
        m: pooled_noise([np.array([t.observation.losses[m] for t in trained[n]]) for n in names])[0] for m in metrics
    }
    metric_weights = np.array([weights.get(m, 0.0) for m in fit.metrics])
    predicted, spread = fit.difference(
        np.stack([mixtures[n].over(fit.domains).weights for n in names]),
        mixtures[reference].over(fit.domains).weights,
        metric_weights,
    )
    goal = [objective_loss(t.trajectory[-1][1], weights) for t in trained[reference]]
    rows = []
    for k, name in enumerate(names):
        runs = trained[name]
        difference = float(objective[name].mean() - objective[reference].mean())
        half = half_width(noise * np.sqrt(1 / len(runs) + 1 / len(trained[reference])), freedom)
        reached = [steps_share(t.trajectory, weights, goal[i % len(goal)]) for i, t in enumerate(runs)]
        known = [share for share in reached if share is not None]
        itself = name == reference
        rows.append(
            {
                "mixture": name,
                "weights": mixtures[name].weights.tolist(),
                "predicted": None if itself else _interval(float(predicted[k]), half_width(float(spread[k]), 0)),
                "measured": None if itself else _interval(difference, half),
                "objective": float(objective[name].mean()),
                "steps_share": float(np.mean(known)) if len(known) == len(reached) else None,
                "losses": _means(runs, "losses"),
                "bpb": _means(runs, "bpb"),
                "per_seed": [dict(t.observation.losses) for t in runs],
                "verdict": "the reference" if itself else _against(difference, half, reference),
            }
        )
    _ranks(rows, names, predicted, objective)
    return {
        "noise": {m: _plain(sd) for m, sd in per_metric.items()},
        "objective_noise": _plain(noise),
        "noise_freedom": freedom,
        "rows": rows,
        "trajectories": [
            {"mixture": n, "seed": t.observation.run.seed, "points": objective_points(t.trajectory, weights)}
            for n in names
            for t in trained[n]
        ],
    }


def duel(section: Mapping[str, Any], first: str, second: str) -> str:
    """One sentence: whether ``first`` beats ``second`` by more than the noise, or ties with it."""
    rows = {row["mixture"]: row for row in section["rows"]}
    difference = rows[first]["objective"] - rows[second]["objective"]
    seeds = len(rows[first]["per_seed"])
    half = half_width((section["objective_noise"] or 0.0) * np.sqrt(2 / seeds), section["noise_freedom"])
    return f"{first} against {second}: {_against(difference, half, second)}"


def objective_points(trajectory: Trajectory, weights: Mapping[str, float]) -> list[list[float]]:
    """``[[tokens, objective loss], ...]``."""
    return [[float(tokens), objective_loss(losses, weights)] for tokens, losses in trajectory]


def final_phase_rows(
    pairs: Sequence[tuple[Trained, Trained]], noise: Mapping[str, float | None], targets: Mapping[str, float]
) -> list[dict[str, Any]]:
    """What the upsampled branches gained and paid per metric, against those that went on: means over (base, branch) pairs.

    ``differences`` holds one value per pair: both have the same past, so they scatter less than separate runs do.
    """
    rows = []
    for metric in pairs[0][0].observation.losses:
        before, after = (np.array([pair[side].observation.losses[metric] for pair in pairs]) for side in (0, 1))
        rows.append(
            {
                "metric": metric,
                "continued": float(before.mean()),
                "upsampled": float(after.mean()),
                "difference": float((after - before).mean()),
                "differences": (after - before).tolist(),
                "noise": noise.get(metric),
                "kind": "target" if metric in targets else "val",
            }
        )
    return rows


def _against(difference: float, half: float, other: str) -> str:
    if abs(difference) <= half:
        return f"a tie with {other}: {difference:+.3f} ± {half:.3f} nats/token, within the noise"
    word = "better" if difference < 0 else "worse"
    return f"{word} than {other} by {abs(difference):.3f} ± {half:.3f} nats/token"


def _ranks(rows: list[dict[str, Any]], names: list[str], predicted: Any, objective: Mapping[str, Any]) -> None:
    by_prediction = np.argsort(np.argsort(predicted)) + 1
    by_measure = np.argsort(np.argsort([objective[n].mean() for n in names])) + 1
    for row, p, m in zip(rows, by_prediction, by_measure, strict=True):
        row["rank_predicted"], row["rank_measured"] = int(p), int(m)


def _interval(value: float, half: float) -> dict[str, float]:
    return {"value": value, "low": value - half, "high": value + half}


def _means(runs: Sequence[Trained], field: str) -> dict[str, float]:
    tables = [getattr(t.observation, field) for t in runs]
    return {name: float(np.mean([table[name] for table in tables])) for name in tables[0]}


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
