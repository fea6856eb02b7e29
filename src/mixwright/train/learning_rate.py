"""Learning rates as pure functions of the step: linear, cosine, warm-up-stable-decay, and what a branch may do instead.

Every schedule begins with a linear warm-up, reaches 1 and ends near 0; the factor it gives multiplies the peak rate.
Since it depends on the step and the planned number of steps alone, a run resumed or branched at any step goes on with
the very rates the uninterrupted run would have had.
"""

from __future__ import annotations

import math
from typing import Literal

Kind = Literal["linear", "cosine", "wsd"]


def factor(kind: Kind, step: int, steps: int, *, warmup: float, decay: float) -> float:
    """What the peak rate is multiplied by at ``step`` (0..steps-1), in (0, 1].

    ``warmup`` and ``decay`` are fractions of ``steps``. ``linear`` falls from the end of the warm-up to 0, ``cosine``
    along half a cosine (Loshchilov and Hutter 2017, arXiv:1608.03983, eq. 5, without restarts), ``wsd`` stays at 1 and
    falls linearly over the last ``decay`` (Hu et al. 2024, arXiv:2404.06395, section 4; linear as in Hägele et al.
    2024, arXiv:2405.18392, section 3).
    """
    rising = round(warmup * steps)
    if step < rising:
        return (step + 1) / (rising + 1)
    if kind == "wsd":
        falling = max(1, round(decay * steps))
        return min(1.0, (steps - step) / (falling + 1))
    done = (step - rising) / (steps - rising)
    return 1 - done if kind == "linear" else 0.5 * (1 + math.cos(math.pi * done))


def annealed(kind: Kind, step: int, steps: int, *, since: int, warmup: float, decay: float) -> float:
    """As ``factor`` until step ``since``; from there on linearly from what it was then to 0 at the end, in (0, 1].

    This is how a branch anneals from its parent's rate, whatever the parent's own schedule (as continued pre-training
    on another mixture does: Blakeney et al. 2024, arXiv:2406.03476, section 3; linear to zero: Hägele et al. 2024,
    arXiv:2405.18392, section 3).
    """
    begun = factor(kind, min(step, since), steps, warmup=warmup, decay=decay)
    return begun if step <= since else begun * (steps - step) / (steps - since)
