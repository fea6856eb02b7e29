"""From held-out errors to honest intervals: the misfit of a law, one factor on its ensemble, and what mixtures share.

Notation: N runs, M metrics, D domains; the errors are measured less predicted losses of runs the law was fitted without.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mixwright.laws._noise import mixture_groups
from mixwright.laws._table import Table

Array = NDArray[np.float64]
#: a normal variable lies within this many standard deviations in 90 % of cases
Z90 = 1.6448536269514722


def calibrate(residuals: Array, variance: Array, table: Table, scale: Array | None = None) -> tuple[float, Array]:
    """The factor on the members' deviations, and the misfit's standard deviation per metric ``(M,)`` (factor included).

    Misfit is what the mean square of held-out errors leaves after the members' variance and the seed noise. The factor
    then makes 90 % of all held-out errors lie within their intervals, with the finite-sample level of conformal
    prediction (Vovk et al. 2005): a little more than 90 % when mixtures are few, and never more than 96 %, since several metrics
    tell it. It stays within 1/2 and 4. ``scale (N, M)`` is how many times the typical misfit is expected at each run (None: 1).
    """
    seed = table.noise**2
    known = np.isfinite(residuals)
    if not known.any():
        return 1.0, table.spread(np.ones(table.x.shape[0]))[1]
    times = np.ones_like(residuals) if scale is None else scale**2
    misfit = typical_misfit(residuals, variance + seed, times)
    error, own, of_seed = (
        part[known] for part in (residuals**2, variance + misfit * times, np.broadcast_to(seed, residuals.shape))
    )
    mixtures = int(mixture_groups(table.x).max()) + 1
    level = min(0.96, 0.9 * (1 + 1 / mixtures))
    low, high = 0.5, 4.0
    for _ in range(40):
        factor = np.sqrt(low * high)
        ratio = error / np.maximum(factor**2 * own + of_seed, 1e-300)
        low, high = (factor, high) if np.quantile(ratio, level) > Z90**2 else (low, factor)
    return float(high), high * np.sqrt(misfit)


def typical_misfit(residuals: Array, explained: Array, times: Array) -> Array:
    """The misfit's variance ``(M,)`` where ``times (N, M)`` is 1: what errors leave after what is ``explained (N, M)``."""
    known = np.isfinite(residuals)
    left = np.where(known, residuals**2 - explained, 0.0).sum(axis=0)
    return np.asarray(np.maximum(left, 0.0) / np.maximum(np.where(known, times, 0.0).sum(axis=0), 1e-300))


def error_correlation(residuals: Array) -> Array:
    """Correlation ``(M, M)`` of held-out errors ``(R, M)`` between metrics, about zero, from rows that have both.

    Shrunk towards none as from 2 further rows without any, since few rows show large correlations by chance.
    """
    known = np.isfinite(residuals)
    e = np.where(known, residuals, 0.0)
    both = known.T.astype(float) @ known
    scale = np.sqrt((e**2).T @ known)
    product = scale * scale.T
    raw = np.divide(e.T @ e, product, out=np.zeros_like(product), where=product > 0) * both / (both + 2)
    np.fill_diagonal(raw, 1.0)
    return np.asarray(raw)


def reach(x: Array) -> float:
    """Half the median L1 distance between swept mixtures (of at most 500, evenly taken); 1 where there is one."""
    points = np.unique(x, axis=0)
    points = points[np.linspace(0, len(points) - 1, min(len(points), 500)).astype(int)]
    if len(points) < 2:
        return 1.0
    apart = np.abs(points[:, None] - points[None]).sum(axis=2)
    return float(np.median(apart[np.triu_indices(len(points), 1)])) / 2
