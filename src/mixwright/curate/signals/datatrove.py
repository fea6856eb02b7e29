"""The statistics of datatrove's filters, exactly as that tool counts them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mixwright.curate.datatrove_rules import COLUMNS, statistics
from mixwright.curate.signal import Floats, Signal, Texts


@dataclass(frozen=True)
class Datatrove(Signal):
    """What the preset ``datatrove`` bounds, so that each rule drops the documents that datatrove 0.10 drops for it.

    The Gopher quality, Gopher repetition, C4 and FineWeb filters with their default settings for English, whatever the
    language of a text; its words are spaCy's, reproduced (``datatrove_tokens.py``). Every rule is measured on the text as it
    is: the lines that C4's filter would cut out are still there for the others. ``dt_...`` counts and ratios are named as
    the reason that datatrove gives. A text of white space alone has 0 everywhere. About 1 MB/s; holds the GIL.
    """

    columns = COLUMNS
    always = False
    holds_gil = True

    def measure(self, texts: Texts) -> dict[str, Floats]:
        table = np.array([statistics(text) for text in texts], dtype=np.float64).reshape(len(texts), len(COLUMNS))
        return {name: np.ascontiguousarray(table[:, at]) for at, name in enumerate(COLUMNS)}
