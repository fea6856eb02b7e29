"""How long the longest line of a text is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mixwright.curate.signal import Floats, Signal, Texts


@dataclass(frozen=True)
class LongestLine(Signal):
    """``longest_line``: characters of the longest run without a line feed."""

    columns = ("longest_line",)

    def measure(self, texts: Texts) -> dict[str, Floats]:
        return {"longest_line": texts.counted("longest_line").astype(np.float64)}
