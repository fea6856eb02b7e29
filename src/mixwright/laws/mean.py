"""The mean of all runs whatever the mixture, the baseline below which a law knows nothing: L(r) = a.

Notation: K problems, N runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mixwright.laws._fitting import FormLaw, Prior
from mixwright.laws._table import Table
from mixwright.laws.graph import Builder

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Mean(FormLaw):
    """No settings of its own."""

    shared: ClassVar[int] = 1
    blocks: ClassVar[int] = 0

    def evaluate(self, theta: Array, x: Array) -> tuple[Array, Array]:
        """The constant."""
        shape = (len(theta), len(x))
        return np.broadcast_to(theta, shape).copy(), np.ones((*shape, 1))

    def starts(self, table: Table, w: Array) -> Array:
        """The mean itself."""
        return table.spread(w)[0][None, :, None]

    def prior(self, table: Table, w: Array, theta: Array | None) -> Prior:
        """None at all."""
        count = table.y.shape[0]
        bound = np.full((count, 1), np.inf)
        return Prior(np.zeros((count, 1, 1)), np.zeros((count, 1)), -bound, bound)

    def write(self, build: Builder, theta: Array) -> int:
        """A list of constants."""
        return build.const(theta[:, 0])

    def describe(self, theta: Array, domains: Sequence[str]) -> dict[str, Any]:
        """The mean."""
        return {"a": float(theta[0])}
