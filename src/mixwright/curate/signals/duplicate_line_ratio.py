"""How much of a text repeats its own lines."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mixwright.curate.signal import Floats, Signal, Texts


@dataclass(frozen=True)
class DuplicateLineRatio(Signal):
    """``duplicate_line_ratio``: lines that stood before in the text / lines; blank ones and outer spaces do not count.

    0 for a text without lines. The line statistic of Rae et al. 2021 (arXiv:2112.11446), table A1.
    """

    columns = ("duplicate_line_ratio",)

    def measure(self, texts: Texts) -> dict[str, Floats]:
        return {"duplicate_line_ratio": np.array([_duplicates(text) for text in texts], dtype=np.float64)}


def _duplicates(text: str) -> float:
    lines = [stripped for line in text.split("\n") if (stripped := line.strip())]
    return 1 - len(set(lines)) / len(lines) if lines else 0.0
