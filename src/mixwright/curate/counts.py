"""What is counted of every text: names of the columns of ``Texts.counts``, an (n, len(NAMES)) int64 matrix.

Words, lines, pieces (words in the sense of ``str.split``) and sentences as ``Texts`` says.
"""

from __future__ import annotations

NAMES = (
    # characters
    "chars", "word_chars", "alnum", "decimal", "upper", "space", "cjk", "hash", "ellipsis", "brace",
    # words and pieces
    "words", "alpha_pieces", "pieces", "line_words", "longest_piece", "stop_words", "stop_word_count",
    # lines, blank ones among them, with outer white space
    "newlines", "longest_line", "short_lines", "punctuated_lines", "long_lines",
    # lines that are not blank, less outer white space
    "lines", "bullet_lines", "ellipsis_lines", "sentences", "unpunctuated_lines", "few_word_lines", "long_word_lines",
    "lorem_ipsum_lines", "javascript_lines", "policy_lines", "c4_lines", "c4_sentences", "c4_refused_lines",
    # what stood before in the text
    "duplicate_lines", "duplicate_line_chars", "paragraphs", "duplicate_paragraphs", "duplicate_paragraph_chars",
    "top_2gram", "top_3gram", "top_4gram",
    "duplicate_5gram", "duplicate_6gram", "duplicate_7gram", "duplicate_8gram", "duplicate_9gram", "duplicate_10gram",
)  # fmt: skip
(
    CHARS, WORD_CHARS, ALNUM, DECIMAL, UPPER, SPACE, CJK, HASH, ELLIPSIS, BRACE,
    WORDS, ALPHA_PIECES, PIECES, LINE_WORDS, LONGEST_PIECE, STOP_WORDS, STOP_WORD_COUNT,
    NEWLINES, LONGEST_LINE, SHORT_LINES, PUNCTUATED_LINES, LONG_LINES,
    LINES, BULLET_LINES, ELLIPSIS_LINES, SENTENCES, UNPUNCTUATED_LINES, FEW_WORD_LINES, LONG_WORD_LINES,
    LOREM_IPSUM_LINES, JAVASCRIPT_LINES, POLICY_LINES, C4_LINES, C4_SENTENCES, C4_REFUSED_LINES,
    DUPLICATE_LINES, DUPLICATE_LINE_CHARS, PARAGRAPHS, DUPLICATE_PARAGRAPHS, DUPLICATE_PARAGRAPH_CHARS,
    TOP_2GRAM, TOP_3GRAM, TOP_4GRAM,
    DUPLICATE_5GRAM, DUPLICATE_6GRAM, DUPLICATE_7GRAM, DUPLICATE_8GRAM, DUPLICATE_9GRAM, DUPLICATE_10GRAM,
) = range(len(NAMES))  # fmt: skip

#: Rae et al. 2021 (arXiv:2112.11446), section A.1.1
STOP_WORD_LIST = ("the", "be", "to", "of", "and", "that", "have", "with")
#: a line is short up to so many characters: Penedo et al. 2024 (arXiv:2406.17557), section 3.6
SHORT_LINE = 30
#: a line is long from so many characters on: Xue et al. 2021 (arXiv:2010.11934), section 3.1
LONG_LINE = 200
#: a piece of more characters is no word, a line of fewer words is dropped: code of C4 and Raffel et al. 2020
#: (arXiv:1910.10683), section 2.2
LONG_WORD, FEW_WORDS = 1000, 3
