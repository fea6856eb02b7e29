"""Gopher's quality statistics."""

from __future__ import annotations

from dataclasses import dataclass

from mixwright.curate.signal import Floats, Signal, Texts, ratio


@dataclass(frozen=True)
class GopherQuality(Signal):
    """The statistics of Rae et al. 2021 (arXiv:2112.11446), section A.1.1, beside ``words`` and ``mean_word_length``.

    ``hash_word_ratio``      ``#`` / words
    ``ellipsis_word_ratio``  ``...`` and ``…`` / words
    ``bullet_line_ratio``    lines that begin with ``•`` or ``-`` / lines
    ``ellipsis_line_ratio``  lines that end with ``...`` or ``…`` / lines
    ``alpha_word_ratio``     of what stands between white space, the share with a letter
    ``stop_words``           how many of *the, be, to, of, and, that, have, with* there are (0 to 8)
    ``stop_word_count``      how often they stand there

    All are 0 where there is nothing to divide by. A line ends at a line feed; blank lines and outer white space do not count
    (datatrove counts blank lines and breaks at further characters). Stop words are found in any case (datatrove: small only);
    words are those of ``Texts``, so punctuation is none of them (datatrove counts it).
    """

    columns = (
        "hash_word_ratio",
        "ellipsis_word_ratio",
        "bullet_line_ratio",
        "ellipsis_line_ratio",
        "alpha_word_ratio",
        "stop_words",
        "stop_word_count",
    )

    def measure(self, texts: Texts) -> dict[str, Floats]:
        count = texts.counted
        return {
            "hash_word_ratio": ratio(count("hash"), count("words")),
            "ellipsis_word_ratio": ratio(count("ellipsis"), count("words")),
            "bullet_line_ratio": ratio(count("bullet_lines"), count("lines")),
            "ellipsis_line_ratio": ratio(count("ellipsis_lines"), count("lines")),
            "alpha_word_ratio": ratio(count("alpha_pieces"), count("pieces")),
            "stop_words": count("stop_words").astype(float),
            "stop_word_count": count("stop_word_count").astype(float),
        }
