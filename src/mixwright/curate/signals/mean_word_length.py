"""How long the words of a text are."""

from __future__ import annotations

from dataclasses import dataclass

from mixwright.curate.signal import Floats, Signal, Texts, ratio


@dataclass(frozen=True)
class MeanWordLength(Signal):
    """``mean_word_length``: characters in words / words, 0 for a text without words."""

    columns = ("mean_word_length",)

    def measure(self, texts: Texts) -> dict[str, Floats]:
        return {"mean_word_length": ratio(texts.counted("word_chars"), texts.counted("words"))}
