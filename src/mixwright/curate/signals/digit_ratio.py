"""How much of a text is digits."""

from __future__ import annotations

from dataclasses import dataclass

from mixwright.curate.signal import Floats, Signal, Texts, ratio


@dataclass(frozen=True)
class DigitRatio(Signal):
    """``digit_ratio``: decimal digits of any script / characters, 0 for an empty text."""

    columns = ("digit_ratio",)

    def measure(self, texts: Texts) -> dict[str, Floats]:
        return {"digit_ratio": ratio(texts.counted("decimal"), texts.counted("chars"))}
