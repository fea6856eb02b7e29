"""Small convex quadratic programs, exactly: the Newton step inside a region, and the nearest point of it.

Notation: D variables s, K directions of free movement, y ``(K,)`` the position along them, C inequalities ``A y >= h``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
#: what counts as zero, against numbers of order one
_TINY = 1e-11


def quadratic(H: Array, slope: Array, basis: Array, G: Array, h: Array) -> Array:
    """The ``s (D,)`` that minimizes ``s · H s / 2 + slope · s`` over ``s`` in the span of ``basis (K, D)`` with ``G s >= h``.

    H ``(D, D)`` is positive definite on that span, and ``s = 0`` is allowed (``h <= 0``). A primal active-set method
    (Nocedal and Wright 2006, algorithm 16.3): every step stays allowed, and the end is exact up to rounding. Cost: about
    (K + active inequalities)^3 operations per inequality met.
    """
    A = G @ basis.T
    size = np.sqrt((A**2).sum(axis=1))
    kept = size > 1e-9  # the others do not depend on where one goes
    A, h = A[kept] / size[kept, None], np.minimum(h[kept] / size[kept], 0.0)
    H, slope = basis @ H @ basis.T, basis @ slope
    scale = max(float(np.abs(slope).max(initial=0.0)), _TINY)
    y, active = np.zeros(len(basis)), list[int]()
    for _ in range(50 + 10 * len(A)):
        step, prices = _equality(H, H @ y + slope, A[active])
        if np.abs(step).max(initial=0.0) <= _TINY:
            if not active or prices.min() >= -_TINY * scale:
                break
            active.pop(int(prices.argmin()))
            continue
        along = A @ step
        met = along < -_TINY * max(1.0, float(np.abs(step).max()))
        met[active] = False
        share = np.full(len(A), np.inf)
        share[met] = np.maximum(h[met] - A[met] @ y, -np.inf) / along[met]
        first = int(share.argmin()) if len(A) else 0
        if not len(A) or share[first] >= 1:
            y = y + step
        else:
            y = y + max(share[first], 0.0) * step
            active.append(first)
    return np.asarray(y @ basis)


def _equality(H: Array, slope: Array, A: Array) -> tuple[Array, Array]:
    """The step that minimizes the quadratic with ``A step = 0``, and the price of each row of A (its multiplier)."""
    count, width = A.shape
    system, right = np.zeros((width + count, width + count)), np.zeros(width + count)
    system[:width, :width], system[:width, width:], system[width:, :width] = H, A.T, A
    right[:width] = -slope
    found = np.linalg.solve(system, right)
    return found[:width], -found[width:]
