"""The counts from which C4's rules decide."""

from __future__ import annotations

from dataclasses import dataclass

from mixwright.curate.signal import Floats, Signal, Texts, ratio


@dataclass(frozen=True)
class C4(Signal):
    """The counts of Raffel et al. 2020 (arXiv:1910.10683), section 2.2, and of the code published with it.

    ``lines``               lines that are not blank
    ``words_per_line``      words in them / lines, 0 without lines
    ``sentences``           sentences in them
    ``longest_word``        characters of the longest word
    ``curly_brackets``      ``{`` in the text
    ``unpunctuated_lines``  lines without terminal punctuation (``. ? ! " '`` or what ends sentences in other scripts), or
                            with ``...``; citations as ``[12]``, ``[edit]``, ``[citation needed]`` after it are overlooked
    ``few_word_lines``      lines of fewer than 3 words
    ``long_word_lines``     lines with a word of more than 1000 characters
    ``lorem_ipsum_lines``, ``javascript_lines``, ``policy_lines``  lines with *lorem ipsum*, *javascript*, or one of *terms of
                            use, privacy policy, cookie policy, uses cookies, use of cookies, use cookies*, in any case
    ``long_lines``          lines of at least 200 characters: Xue et al. 2021 (arXiv:2010.11934), section 3.1
    ``c4_lines``            lines that C4 keeps
    ``c4_sentences``        sentences in them: C4 keeps pages with at least 5
    ``c4_refused_lines``    lines that make C4 drop the page: not dropped themselves before, with *lorem ipsum* or ``{``

    Words here are what stands between white space, and in unspaced scripts each character as well (``longest_word`` passes
    over those). A sentence ends at ``. ! ?`` or a mark of another script, and quotes or brackets closing after it, before
    white space, unless a small ASCII letter follows, or at a full-width mark; what is left at a line's end is one more.
    datatrove finds sentences with trained models.
    """

    columns = (
        "lines",
        "words_per_line",
        "sentences",
        "longest_word",
        "curly_brackets",
        "unpunctuated_lines",
        "few_word_lines",
        "long_word_lines",
        "lorem_ipsum_lines",
        "javascript_lines",
        "policy_lines",
        "long_lines",
        "c4_lines",
        "c4_sentences",
        "c4_refused_lines",
    )

    def measure(self, texts: Texts) -> dict[str, Floats]:
        count = texts.counted
        other = {"longest_word": "longest_piece", "curly_brackets": "brace"}
        plain = [column for column in self.columns if column != "words_per_line"]
        measured = {column: count(other.get(column, column)).astype(float) for column in plain}
        return measured | {"words_per_line": ratio(count("line_words"), count("lines"))}
