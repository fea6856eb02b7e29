"""FineWeb's own statistics."""

from __future__ import annotations

from dataclasses import dataclass

from mixwright.curate.signal import Floats, Signal, Texts, ratio


@dataclass(frozen=True)
class Fineweb(Signal):
    """The statistics of Penedo et al. 2024 (arXiv:2406.17557), section 3.6, and of the code published with it.

    ``punctuated_line_ratio``     lines that end with ``. ? ! " '`` or what ends sentences in other scripts / lines
    ``short_line_ratio``          lines of at most 30 characters / lines
    ``repeated_line_char_ratio``  characters in lines that stood before / characters that are no line feed
    ``newline_word_ratio``        line feeds / words

    All are 0 where there is nothing to divide by. Blank lines and outer white space count in the first two, as there, and
    not in the third (there outer white space does). Words are those of ``Texts``, punctuation is none of them (there it is).
    """

    columns = ("punctuated_line_ratio", "short_line_ratio", "repeated_line_char_ratio", "newline_word_ratio")

    def measure(self, texts: Texts) -> dict[str, Floats]:
        count = texts.counted
        lines = count("newlines") + 1
        return {
            "punctuated_line_ratio": ratio(count("punctuated_lines"), lines),
            "short_line_ratio": ratio(count("short_lines"), lines),
            "repeated_line_char_ratio": ratio(count("duplicate_line_chars"), count("chars") - count("newlines")),
            "newline_word_ratio": ratio(count("newlines"), count("words")),
        }
