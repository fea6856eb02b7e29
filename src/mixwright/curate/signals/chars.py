"""How long a text is, in characters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mixwright.curate.signal import Floats, Signal, Texts


@dataclass(frozen=True)
class Chars(Signal):
    """``chars``: code points."""

    columns = ("chars",)

    def measure(self, texts: Texts) -> dict[str, Floats]:
        return {"chars": texts.counted("chars").astype(np.float64)}
