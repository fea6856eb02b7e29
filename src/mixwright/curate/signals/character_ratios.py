"""What kinds of characters a text is made of."""

from __future__ import annotations

from dataclasses import dataclass

from mixwright.curate.signal import Floats, Signal, Texts, ratio


@dataclass(frozen=True)
class CharacterRatios(Signal):
    """Characters of a kind / characters, 0 for an empty text; beside ``alnum_ratio`` and ``digit_ratio``.

    ``upper_ratio``       capital letters of any script
    ``whitespace_ratio``  white space
    ``symbol_ratio``      neither letters, digits nor white space: punctuation, symbols, marks, control characters
    ``cjk_ratio``         letters of Chinese, Japanese and Korean
    """

    columns = ("upper_ratio", "whitespace_ratio", "symbol_ratio", "cjk_ratio")

    def measure(self, texts: Texts) -> dict[str, Floats]:
        count = texts.counted
        chars = count("chars")
        return {
            "upper_ratio": ratio(count("upper"), chars),
            "whitespace_ratio": ratio(count("space"), chars),
            "symbol_ratio": ratio(chars - count("alnum") - count("space"), chars),
            "cjk_ratio": ratio(count("cjk"), chars),
        }
