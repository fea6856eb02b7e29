"""Whether further runs can still change the decision: the expected regret of the present best mixture.

Notation: C candidate mixtures, S worlds (see ``worlds``); L ``(C, S)`` the objective in each.

The regret of a choice in a world is what the best candidate of that world would save. Its mean over worlds bounds what any
number of further runs can bring on average (the expected value of perfect information, Raiffa and Schlaifer 1961), so
runs may stop where it is below what matters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
#: regrets below this part of what the choice is worth do not matter
PART = 0.05
#: nor do those below this part of the seed noise, or of the loss itself
_PART_OF_NOISE, _PART_OF_LOSS = 0.5, 1e-3


@dataclass(frozen=True)
class Advice:
    """``stop``: further runs will not change the decision; ``sentence`` says so, or not, with the numbers.

    ``regret`` is the expected regret of the present best, ``tolerance`` what does not matter, both in the objective's unit;
    ``chance`` the probability that another mixture is better by more than the tolerance.
    """

    stop: bool
    regret: float
    tolerance: float
    chance: float
    sentence: str


def tolerance(worth: float, noise: float, loss: float) -> float:
    """What regret does not matter: 5 % of what the choice is ``worth``, half the seed noise, or 0.1 % of the loss.

    The largest of the three; ``noise`` may be NaN or 0 where unknown.
    """
    parts = (PART * worth, _PART_OF_NOISE * noise, _PART_OF_LOSS * abs(loss))
    return float(max(part for part in parts if np.isfinite(part)))


def advise(losses: Array, best: int, *, worth: float, noise: float) -> Advice:
    """Advice on the choice of candidate ``best`` among the rows of ``losses (C, S)``.

    ``worth`` is what the choice gains over the mixture it is compared with, ``noise`` the seed noise.
    """
    regrets = losses[best] - losses.min(axis=0)
    limit = tolerance(worth, noise, float(losses[best].mean()))
    regret, chance = float(regrets.mean()), float((regrets > limit).mean())
    stop = regret <= limit
    head = "Further runs will not change the decision" if stop else "Further runs may still change the decision"
    sentence = (
        f"{head}: another mixture would save {regret:.2g} nats on average, {'no more' if stop else 'more'} than the "
        f"{limit:.2g} that matter here, and in {chance:.0%} of the worlds these runs allow one is better by more than that."
    )
    return Advice(stop, regret, limit, chance, sentence)
