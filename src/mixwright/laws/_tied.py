"""The step law as published (Ye et al. 2024, arXiv 2403.16952): ``L = c + (D0 / D)^α``, α tied over a few curves, exactly solved.

Notation: K problems, G curves each, T checkpoints; for one α every curve is linear in c and A = D0^α (variable projection,
Golub and Pereyra 1973), so what remains is a search over one number per problem; Huber's loss by reweighting.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
#: where α is looked for
_LOWEST, _HIGHEST, _GRID = 0.01, 3.0, 48
#: halvings of the bracket around the best of the grid, and rounds of reweighting
_SECTIONS, _REWEIGHTED = 26, 12
_GOLDEN = (np.sqrt(5) - 1) / 2


@dataclass(frozen=True, eq=False)
class TiedSteps:
    """``alpha (K,)``, ``c`` and ``gain (K, G)`` with ``L = c + gain (D / reference)^-alpha``, and the ``objective (K,)``.

    D0 is ``reference * gain^(1 / alpha)``.
    """

    alpha: Array
    c: Array
    gain: Array
    reference: float
    objective: Array


def solve_tied(tokens: Array, losses: Array, *, delta: float = 0.05) -> TiedSteps:
    """Minimize the sum of Huber's losses with threshold ``delta`` nats over c >= 0, D0 > 0 and α in 0.01 to 3.

    ``tokens (T,)``, ``losses (K, G, T)``, none missing. Cost: about 75 linear solutions per curve, all problems at once.
    """
    reference = float(np.exp(np.log(tokens).mean()))
    log_x = np.log(np.asarray(tokens, dtype=np.float64) / reference)
    grid = np.geomspace(_LOWEST, _HIGHEST, _GRID)
    scores = np.stack([_best(np.full(len(losses), a), log_x, losses, delta, rounds=3)[2] for a in grid])
    at = scores.argmin(axis=0)
    low, high = grid[np.maximum(at - 1, 0)], grid[np.minimum(at + 1, _GRID - 1)]
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    f_left, f_right = (_best(a, log_x, losses, delta)[2] for a in (left, right))
    for _ in range(_SECTIONS):
        lower = f_left <= f_right
        low, high = np.where(lower, low, left), np.where(lower, right, high)
        kept, f_kept = np.where(lower, left, right), np.where(lower, f_left, f_right)
        new = np.where(lower, high - _GOLDEN * (high - low), low + _GOLDEN * (high - low))
        f_new = _best(new, log_x, losses, delta)[2]
        left, right = np.where(lower, new, kept), np.where(lower, kept, new)
        f_left, f_right = np.where(lower, f_new, f_kept), np.where(lower, f_kept, f_new)
    alpha = np.where(f_left <= f_right, left, right)
    c, gain, objective = _best(alpha, log_x, losses, delta)
    return TiedSteps(alpha, c, gain, reference, objective)


def _best(
    alpha: Array, log_x: Array, losses: Array, delta: float, rounds: int = _REWEIGHTED
) -> tuple[Array, Array, Array]:
    """Floor and gain ``(K, G)`` for these α ``(K,)``, and the objective ``(K,)``."""
    fall = np.exp(-alpha[:, None] * log_x)[:, None, :]
    c, gain = _linear(fall, losses, np.ones_like(losses))
    for _ in range(rounds):
        off = np.abs(c[:, :, None] + gain[:, :, None] * fall - losses)
        if off.max(initial=0.0) <= delta:
            break
        c, gain = _linear(fall, losses, np.minimum(1.0, delta / np.maximum(off, 1e-300)))
    off = np.abs(c[:, :, None] + gain[:, :, None] * fall - losses)
    inside = np.minimum(off, delta)
    return c, gain, (inside * (off - inside / 2)).sum(axis=(1, 2))


def _linear(fall: Array, losses: Array, w: Array) -> tuple[Array, Array]:
    """Weighted least squares of each curve on 1 and ``fall``, both coefficients non-negative."""
    s, sx, sy = w.sum(axis=2), (w * fall).sum(axis=2), (w * losses).sum(axis=2)
    sxx, sxy = (w * fall * fall).sum(axis=2), (w * fall * losses).sum(axis=2)
    gain = (s * sxy - sx * sy) / np.maximum(s * sxx - sx * sx, 1e-300)
    c = (sy - gain * sx) / s
    gain, c = np.where(c < 0, sxy / sxx, gain), np.maximum(c, 0.0)
    return np.where(gain < 0, sy / s, c), np.maximum(gain, 0.0)
