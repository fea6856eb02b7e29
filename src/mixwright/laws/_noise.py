"""Seed noise: how far runs of the same mixture, size and tokens differ.

Notation: N runs, M metrics.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mixwright.core.observation import Runs

Array = NDArray[np.float64]
#: weights closer than this are the same mixture
SAME_MIXTURE = 1e-9


@dataclass(frozen=True)
class SeedNoise:
    """Per metric: the pooled standard deviation ``sd (M,)`` of repeated runs, NaN where there are none.

    ``covariance (M, M)`` between metrics (from repeats that measured both, NaN where there are none) tells the noise of a
    weighted mean. ``freedom (M,)`` are the degrees of freedom (runs less mixtures), ``runs (M,)`` the repeats counted.
    """

    sd: Array
    covariance: Array
    freedom: NDArray[np.int64]
    runs: NDArray[np.int64]


def mixture_groups(mixtures: Array) -> NDArray[np.int64]:
    """A number per row of ``mixtures (N, D)``, equal for equal mixtures, in order of first appearance."""
    points = np.asarray(mixtures, dtype=np.float64)
    order = np.argsort(
        points @ np.sqrt(np.arange(points.shape[1]) + 2.0), kind="stable"
    )  # equal ones become neighbours
    new = np.ones(len(points), dtype=bool)
    new[1:] = np.abs(np.diff(points[order], axis=0)).max(axis=1, initial=0.0) > SAME_MIXTURE
    label = np.empty(len(points), dtype=np.int64)
    label[order] = np.cumsum(new) - 1
    _, first = np.unique(label, return_index=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return np.asarray(rank[label])


def repeat_groups(runs: Runs) -> list[NDArray[np.int64]]:
    """Rows of the same schedule, size and tokens, where there are two or more.

    Steps stand for tokens where these are unknown. An exact copy (same seed and the same losses) is no second
    measurement and is left out, and so is a second row of the same run.
    """
    whole = np.concatenate(
        [
            runs.weights.reshape(len(runs), -1),
            runs.phase_tokens / np.maximum(runs.phase_tokens.sum(axis=1, keepdims=True), 1e-300),
        ],
        axis=1,
    )
    groups: dict[tuple[object, ...], list[int]] = {}
    seen: set[tuple[object, ...]] = set()
    for row, group in enumerate(mixture_groups(whole)):
        time = runs.step[row] if np.isnan(runs.tokens[row]) else float(runs.tokens[row])
        place = (int(group), time, _or(runs.params[row]))
        copy, again = (*place, runs.seed[row], runs.losses[row].tobytes()), (*place, runs.run_id[row])
        if copy not in seen and again not in seen:
            seen |= {copy, again}
            groups.setdefault(place, []).append(row)
    return [np.array(rows) for rows in groups.values() if len(rows) > 1]


def seed_noise(runs: Runs, losses: Array | None = None) -> SeedNoise:
    """The seed noise of ``runs``; ``losses (N, M')`` stands for other columns than theirs (a weighted mean, say)."""
    values = runs.losses if losses is None else losses
    width = values.shape[1]
    products, both, count = np.zeros((width, width)), np.zeros((width, width)), np.zeros(width)
    for rows in repeat_groups(runs):
        part = values[rows]
        known = np.isfinite(part)
        number = known.sum(axis=0)
        away = np.where(known, part - np.where(known, part, 0).sum(axis=0) / np.maximum(number, 1), 0.0)
        products += away.T @ away
        both += np.maximum(known.T.astype(float) @ known - 1, 0)
        count += np.where(number > 1, number, 0)
    covariance = np.divide(products, both, out=np.full((width, width), np.nan), where=both > 0)
    sd, freedom = np.sqrt(np.diag(covariance)), np.diag(both)
    return SeedNoise(sd, covariance, freedom.astype(np.int64), count.astype(np.int64))


def _or(value: float) -> float:
    """NaN compares unequal to itself; an unknown size is one size."""
    return -1.0 if np.isnan(value) else float(value)
