"""Where, between two mixtures, the loss meets a level: the critical weight of continual pre-training, with its interval.

Notation: s between 0 and 1 along the segment from one mixture to another.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mixwright.core.errors import DataError
from mixwright.laws._calibration import Z90
from mixwright.laws._fit import GraphFit

Array = NDArray[np.float64]
#: points of the segment that are looked at; between them the loss is taken as straight
_POINTS = 2001


@dataclass(frozen=True)
class Crossing:
    """``at``: the share of the second mixture at which the loss is the level; ``low`` to ``high``: where it may be, 90 %."""

    at: float
    low: float
    high: float


def crossing(
    fit: GraphFit, level: float, start: Array, end: Array, metric_weights: Array, *, noise: float = 0.0
) -> Crossing:
    """The first place on the way from mixture ``start (D,)`` to ``end (D,)`` where the weighted mean loss is ``level``.

    The interval goes as far to both sides as every place's own 90 % interval (spread and, in quadrature, ``noise`` of the level
    and of what is asked) contains the level. DataError if the loss does not meet the level.
    """
    s = np.linspace(0.0, 1.0, _POINTS)
    points = np.asarray(start)[None] + s[:, None] * (np.asarray(end) - np.asarray(start))[None]
    above = fit.mean(points, metric_weights) - level
    turns = np.flatnonzero(np.sign(above[1:]) * np.sign(above[:-1]) <= 0)
    if not turns.size:
        raise DataError(
            f"The predicted loss stays {'above' if above[0] > 0 else 'below'} {level:.4g} everywhere between the two mixtures "
            f"({above.min() + level:.4g} to {above.max() + level:.4g}): there is no crossing to find."
        )
    n = int(turns[0])
    fall = above[n] - above[n + 1]
    at = s[n] + (s[n + 1] - s[n]) * (above[n] / fall if fall else 0.0)
    half = Z90 * np.hypot(fit.spread(points, metric_weights), noise)
    outside = np.flatnonzero(np.abs(above) > half)
    before, after = outside[outside <= n], outside[outside > n]
    low = s[before[-1] + 1] if before.size else 0.0
    high = s[after[0] - 1] if after.size else 1.0
    return Crossing(float(at), float(min(low, at)), float(max(high, at)))
