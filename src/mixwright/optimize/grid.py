"""The double-diminishing grid of mixtures: few values per domain, each half of the one before, then none.

Notation: D domains; cap_d the most a domain may have; δ the step, 1/16 in Data Mixing Laws (Ye et al. 2024, arXiv:2403.16952).
A domain's values are top_d, top_d / 2, top_d / 4, ... while at least δ, then 0, where top_d is cap_d cut down to a multiple
of δ. Domains are laid out in falling order of their caps, and the scarcest takes what remains, up to its cap (as it is, not
cut down). All is counted in units of δ / 2^K, in which every value is a whole number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mixwright.core.errors import StudyError

Array = NDArray[np.float64]
#: more mixtures than this are not listed but drawn
LISTED = 100_000


@dataclass(frozen=True)
class Grid:
    """All mixtures of the grid under ``caps`` (one per domain, at most 1 counts) with δ = 1 / ``steps``.

    Equal caps keep the order in which they are given. StudyError where the caps leave no mixture.
    """

    caps: tuple[float, ...]
    steps: int = 16

    def __post_init__(self) -> None:
        if not len(self):
            raise StudyError(
                f"The grid of mixtures is empty: with steps of 1/{self.steps} the largest weights "
                f"{', '.join(f'{cap:.4g}' for cap in self.caps)} cannot sum to 1. Raise grid_steps, or loosen ceilings and caps."
            )

    @cached_property
    def _halvings(self) -> int:
        return int(np.ceil(np.log2(self.steps)))

    @cached_property
    def _total(self) -> int:
        """The sum of all weights, in units."""
        return self.steps << self._halvings

    @cached_property
    def _order(self) -> tuple[int, ...]:
        return tuple(sorted(range(len(self.caps)), key=lambda d: -self.caps[d]))

    @cached_property
    def _levels(self) -> tuple[tuple[int, ...], ...]:
        """The values of each domain but the scarcest, in the order they are laid out, in units."""
        return tuple(
            tuple(round(value * self._total) for value in values(self.caps[d], self.steps)) for d in self._order[:-1]
        )

    @cached_property
    def _last(self) -> int:
        """The most the scarcest domain may take, in units."""
        return int(np.floor(min(self.caps[self._order[-1]], 1.0) * self._total + 1e-9))

    @cached_property
    def _ways(self) -> tuple[tuple[int, ...], ...]:
        """``ways[d][rest]``: how many mixtures give domains d, d + 1, ... what ``rest`` units remain."""
        ways = [tuple(int(rest <= self._last) for rest in range(self._total + 1))]
        for levels in reversed(self._levels):
            after = ways[0]
            ways.insert(0, tuple(sum(after[rest - v] for v in levels if v <= rest) for rest in range(self._total + 1)))
        return tuple(ways)

    def __len__(self) -> int:
        return self._ways[0][self._total]

    def points(self, rng: np.random.Generator, limit: int = LISTED) -> Array:
        """Every mixture of the grid ``(len(self), D)``; where there are more than ``limit``, so many drawn evenly from them.

        Cost: microseconds a mixture. A listed grid does not depend on ``rng``.
        """
        count = len(self)
        if count <= limit:
            numbers: Sequence[int] = range(count)
        else:  # whole numbers of any size: the count may exceed 64 bits
            numbers = sorted({int(u * count) for u in rng.random(limit).tolist()})
        out = np.empty((len(numbers), len(self.caps)))
        for row, number in enumerate(numbers):
            out[row, list(self._order)] = self._mixture(number)
        return out / self._total

    def _mixture(self, number: int) -> list[int]:
        """The mixture of that number in the grid's own order, in units."""
        rest, found = self._total, []
        for d, levels in enumerate(self._levels):
            for value in levels:
                ways = self._ways[d + 1][rest - value] if value <= rest else 0
                if number < ways:
                    break
                number -= ways
            found.append(value)
            rest -= value
        return [*found, rest]


def values(cap: float, steps: int) -> list[float]:
    """The weights a domain takes on the grid: its cap cut down to a multiple of 1/steps, halved while it is one, then 0."""
    top = int(np.floor(min(cap, 1.0) * steps + 1e-9)) / steps
    out = []
    while top * steps >= 1 - 1e-12:
        out.append(top)
        top /= 2
    return [*out, 0.0]
