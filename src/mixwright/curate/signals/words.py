"""How long a text is, in words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mixwright.curate.signal import Floats, Signal, Texts


@dataclass(frozen=True)
class Words(Signal):
    """``words``: runs of letters, digits and ``_``."""

    columns = ("words",)

    def measure(self, texts: Texts) -> dict[str, Floats]:
        return {"words": texts.count(texts.word_starts).astype(np.float64)}
