"""How much of a text repeats its own lines."""

from __future__ import annotations

from dataclasses import dataclass

from mixwright.curate.signal import Floats, Signal, Texts, ratio


@dataclass(frozen=True)
class DuplicateLineRatio(Signal):
    """``duplicate_line_ratio``: lines that stood before in the text / lines; blank ones and outer spaces do not count.

    0 for a text without lines. The line statistic of Rae et al. 2021 (arXiv:2112.11446), table A1.
    """

    columns = ("duplicate_line_ratio",)

    def measure(self, texts: Texts) -> dict[str, Floats]:
        return {"duplicate_line_ratio": ratio(texts.counted("duplicate_lines"), texts.counted("lines"))}
