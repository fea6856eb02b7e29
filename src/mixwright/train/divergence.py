"""When a run is lost: a pure function of its training losses.

The model starts at the unigram prediction (``model.py``), so the first losses say what a model that has learnt nothing
loses. A run that stays far above them, and does not come down, has diverged; spikes that heal, noise of small batches and
a phase on harder text are no reason to stop.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

#: Losses at the start that say what an untrained model loses, and losses at the end that are judged.
FIRST, LAST = 10, 100
#: Nats/token above the worst first loss in which nine in ten judged losses must lie. A healthy model that meets text of another
#: phase is at most about as far off as word frequencies of the wrong language, and comes down within some dozen steps.
MARGIN = 1.0
#: A run comes down if its excess over the worst first loss fell by this part from the first half of LAST to the second.
_HEALING = 0.1


def diverged(losses: Sequence[float]) -> str:
    """Why a run with these training losses (nats/token, one per step, or ``trimmed``) is lost; "" while it is not."""
    if losses and not math.isfinite(losses[-1]):
        return f"its loss is {losses[-1]}"
    if len(losses) < FIRST + LAST:
        return ""
    worst, judged = max(losses[:FIRST]), losses[-LAST:]
    low = sorted(judged)[LAST // 10]
    if low <= worst + MARGIN:
        return ""
    before, after = (sum(half) / len(half) - worst for half in (judged[: LAST // 2], judged[LAST // 2 :]))
    if after < (1 - _HEALING) * before:
        return ""
    return f"it diverged: nine in ten of its last {LAST} losses are above {low:.2f}, while it began at {worst:.2f}"


def trimmed(losses: Sequence[float]) -> list[float]:
    """As much of the losses as ``diverged`` looks at: the first and the last ones."""
    return list(losses) if len(losses) <= FIRST + LAST else [*losses[:FIRST], *losses[-LAST:]]
