"""Form M4 of the mixing laws (Ye et al. 2024, arXiv 2403.16952), by the paper's own name: the exponential law."""

from __future__ import annotations

from dataclasses import dataclass

from mixwright.laws.exponential import Exponential


@dataclass(frozen=True)
class M4(Exponential):
    """The same function, prior and settings as ``exponential``."""
