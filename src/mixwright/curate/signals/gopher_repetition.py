"""Gopher's repetition statistics."""

from __future__ import annotations

from dataclasses import dataclass

from mixwright.curate.signal import Floats, Signal, Texts, ratio


@dataclass(frozen=True)
class GopherRepetition(Signal):
    """The statistics of Rae et al. 2021 (arXiv:2112.11446), table A1, beside ``duplicate_line_ratio``.

    ``duplicate_line_char_ratio``       characters in lines that stood before / characters
    ``duplicate_paragraph_ratio``       paragraphs that stood before / paragraphs
    ``duplicate_paragraph_char_ratio``  characters in them / characters
    ``top_2gram_ratio`` to ``top_4gram_ratio``  characters of the most frequent n words in a row, joined by spaces, times
                                        how often they stand there / characters; of equally frequent ones the first
    ``duplicate_5gram_ratio`` to ``duplicate_10gram_ratio``  characters of the words in n-grams that stood before, read from
                                        left to right so that none is counted twice / characters

    All are 0 for an empty text. Lines are those of ``gopher_quality``; paragraphs are lines between blank ones (datatrove: a
    line of spaces is not blank). Words are those of ``Texts``: the hash of a word is taken for the word, and small and
    capital letters are the same. As in datatrove, n-grams that occur once have a most frequent one, the first.
    """

    columns = (
        "duplicate_line_char_ratio",
        "duplicate_paragraph_ratio",
        "duplicate_paragraph_char_ratio",
        "top_2gram_ratio",
        "top_3gram_ratio",
        "top_4gram_ratio",
        "duplicate_5gram_ratio",
        "duplicate_6gram_ratio",
        "duplicate_7gram_ratio",
        "duplicate_8gram_ratio",
        "duplicate_9gram_ratio",
        "duplicate_10gram_ratio",
    )

    def measure(self, texts: Texts) -> dict[str, Floats]:
        count = texts.counted
        measured = {
            "duplicate_line_char_ratio": ratio(count("duplicate_line_chars"), count("chars")),
            "duplicate_paragraph_ratio": ratio(count("duplicate_paragraphs"), count("paragraphs")),
            "duplicate_paragraph_char_ratio": ratio(count("duplicate_paragraph_chars"), count("chars")),
        }
        grams = [column for column in self.columns if column.endswith("gram_ratio")]
        return measured | {column: ratio(count(column.removesuffix("_ratio")), count("chars")) for column in grams}
