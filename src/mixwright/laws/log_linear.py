"""Olmix's log-linear law (arXiv 2602.12237), L(r) = exp(a) + exp(b · r): on the simplex the very function of the exponential law.

As Olmix fits it: without a prior, with Huber's loss at 0.02.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt

from mixwright.laws.exponential import Exponential


@dataclass(frozen=True)
class LogLinear(Exponential):
    """``exponential`` with ``huber`` 0.02 nats and ``shrinkage`` 0 by default; its bounds remain."""

    huber: Annotated[float, Gt(0)] | None = 0.02
    shrinkage: Annotated[float, Ge(0)] = 0.0
