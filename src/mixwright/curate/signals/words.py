"""How long a text is, in words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mixwright.curate.signal import Floats, Signal, Texts


@dataclass(frozen=True)
class Words(Signal):
    """``words``: runs of letters, digits and ``_``; in scripts without spaces between words each character is one."""

    columns = ("words",)

    def measure(self, texts: Texts) -> dict[str, Floats]:
        return {"words": texts.counted("words").astype(np.float64)}
