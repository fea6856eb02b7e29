"""How much of a text is letters and digits."""

from __future__ import annotations

from dataclasses import dataclass

from mixwright.curate.signal import Floats, Signal, Texts, ratio


@dataclass(frozen=True)
class AlnumRatio(Signal):
    """``alnum_ratio``: letters and digits of any script / characters, 0 for an empty text."""

    columns = ("alnum_ratio",)

    def measure(self, texts: Texts) -> dict[str, Floats]:
        return {"alnum_ratio": ratio(texts.counted("alnum"), texts.counted("chars"))}
