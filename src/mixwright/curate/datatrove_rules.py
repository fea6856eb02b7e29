"""The numbers that datatrove's filters compare with their thresholds, one text at a time, without early exit.

Definitions of datatrove 0.10 (``GopherQualityFilter``, ``GopherRepetitionFilter``, ``C4QualityFilter``, ``FineWebQualityFilter``,
English, default settings); where they differ from the papers the code counts. Words are ``datatrove_tokens.words``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from mixwright.curate.datatrove_tokens import STOPS, sentences, words

_STOP_WORDS = frozenset(["the", "be", "to", "of", "and", "that", "have", "with"])
#: what ends a line for the FineWeb filter: ends of sentences, and those of further scripts
_LINE_ENDS = tuple(
    STOPS
    | set(map(chr, (
        0x61D, 0x61E, 0x837, 0x839, 0x83D, 0x83E, 0x17D4, 0x17D5, 0x17D6, 0x17D9, 0x17DA, 0x1B7D, 0x1B7E, 0x2E53, 0x2E54, 0x10F55,
        0x10F56, 0x10F57, 0x10F58, 0x10F59, 0x10F86, 0x10F87, 0x10F88, 0x10F89, 0x11944, 0x11946, 0x11EF7, 0x11EF8, 0x11F43,
        0x11F44, 0x16E98,
    )))
)  # fmt: skip
#: a word of these alone is a symbol
_SYMBOLS = frozenset(
    chain(
        "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~«´»–—’“”„…∶━►、。〈〉《》「」【】！％（），．１：；？～",
        (chr(code) for code in chain(range(32), range(127, 160)) if chr(code) not in "\t\n"),
        _LINE_ENDS,
    )
)
_PARAGRAPHS, _LINES = re.compile(r"\n{2,}"), re.compile(r"\n+")
_CITATION = re.compile(r"\[\d*]|\[edit]|\[citation needed]")
_END = (".", "?", "!", '"', "'")
_POLICY = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")
#: prime multiplier of the hash of joined words, a polynomial in 64 bits
_BASE = 0x100000001B3
_TOP, _REPEATED = (2, 3, 4), (5, 6, 7, 8, 9, 10)
COLUMNS = (
    "dt_words", "dt_mean_word_length", "dt_hash_ratio", "dt_ellipsis_ratio", "dt_bullet_line_ratio",
    "dt_ellipsis_line_ratio", "dt_alpha_word_ratio", "dt_stop_words",
    "dt_dup_line_frac", "dt_dup_para_frac", "dt_dup_line_char_frac", "dt_dup_para_char_frac",
    *(f"dt_top_{n}_gram" for n in _TOP), *(f"dt_dup_{n}_gram" for n in _REPEATED),
    "dt_c4_lorem_ipsum", "dt_c4_curly_bracket", "dt_c4_sentences",
    "dt_line_punct_ratio", "dt_short_line_ratio", "dt_char_dup_ratio", "dt_list_ratio",
)  # fmt: skip


def statistics(text: str) -> list[float]:
    """The numbers of COLUMNS, in their order; all 0 for a text of white space alone."""
    found = words(text)
    if not found:
        return [0.0] * len(COLUMNS)
    return [*_quality(text, found), *_repetition(text, found), *_c4(text), *_fineweb(text, found)]


def _quality(text: str, found: Sequence[str]) -> list[float]:
    real = [word for word in found if not _SYMBOLS.issuperset(word)]
    lines = [line.strip() for line in text.splitlines()]
    return [
        len(real),
        # without words there datatrove has no mean, and no bound on it is broken: 3 keeps both
        sum(map(len, real)) / len(real) if real else 3.0,
        text.count("#") / len(found),
        (text.count("...") + text.count("…")) / len(found),
        sum(line.startswith(("•", "-")) for line in lines) / len(lines),
        sum(line.endswith(("...", "…")) for line in lines) / len(lines),
        sum(word.isalpha() or any(map(str.isalpha, word)) for word in found) / len(found),
        len(_STOP_WORDS.intersection(found)),
    ]


def _repeats(parts: Sequence[str]) -> tuple[int, int]:
    """How many parts stood before, and their characters."""
    seen = set[str]()
    count = characters = 0
    for part in parts:
        if part in seen:
            count, characters = count + 1, characters + len(part)
        else:
            seen.add(part)
    return count, characters


def _repetition(text: str, found: Sequence[str]) -> list[float]:
    paragraphs, lines = _PARAGRAPHS.split(text.strip()), _LINES.split(text)
    paragraph, paragraph_chars = _repeats(paragraphs)
    line, line_chars = _repeats(lines)
    parts = [line / len(lines), paragraph / len(paragraphs), line_chars / len(text), paragraph_chars / len(text)]
    hashes, sizes = _hashed(found)
    apart = hashes * np.uint64(_BASE) + np.uint64(ord(" ") + 1)
    top = [_top(_joined(apart, sizes + 1, n), sizes, n) / len(text) for n in _TOP]
    return [*parts, *top, *(_repeated(_joined(hashes, sizes, n), sizes, n) / len(text) for n in _REPEATED)]


def _hashed(found: Sequence[str]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """A hash of each word that can be joined (a polynomial of its characters), ``(n,)``, and its length."""
    known = {word: number for number, word in enumerate(dict.fromkeys(found))}
    sizes = np.fromiter(map(len, known), dtype=np.int64, count=len(known))
    codes = np.frombuffer("".join(known).encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(
        np.uint64
    ) + np.uint64(1)
    stop = np.cumsum(sizes)
    ahead = np.repeat(stop, sizes) - 1 - np.arange(len(codes))
    terms = codes * _powers(int(sizes.max()))[ahead]
    hashes = np.add.reduceat(terms, stop - sizes)
    numbers = np.fromiter(map(known.__getitem__, found), dtype=np.int64, count=len(found))
    return hashes[numbers], sizes[numbers]


_POWERS = np.ones(1, dtype=np.uint64)


def _powers(most: int) -> NDArray[np.uint64]:
    """``_BASE`` to the power of 0 to at least ``most``, modulo 2^64."""
    global _POWERS
    while len(_POWERS) <= most:
        step = np.uint64(pow(_BASE, len(_POWERS), 1 << 64))
        _POWERS = np.concatenate([_POWERS, _POWERS * step])
    return _POWERS


def _joined(hashes: NDArray[np.uint64], sizes: NDArray[np.int64], n: int) -> NDArray[np.uint64]:
    """The hash of every n words in a row, written without a gap, ``(max(0, words - n + 1),)``."""
    count = max(0, len(hashes) - n + 1)
    out = np.zeros(count, dtype=np.uint64)
    for at in range(n if count else 0):
        part = sizes[at : at + count]
        out = out * _powers(int(part.max()))[part] + hashes[at : at + count]
    return out


def _top(grams: NDArray[np.uint64], sizes: NDArray[np.int64], n: int) -> int:
    """Characters that the most frequent n-gram (of several the first) covers, blanks between its words counted."""
    if not len(grams):
        return 0
    _, first, counts = np.unique(grams, return_index=True, return_counts=True)
    at = int(first[counts == counts.max()].min())
    return int(counts.max() * (sizes[at : at + n].sum() + n - 1))


def _repeated(grams: NDArray[np.uint64], sizes: NDArray[np.int64], n: int) -> int:
    """Characters in n-grams that stood before; behind one the count goes on after its last word."""
    if len(np.unique(grams)) == len(grams):
        return 0
    listed, before = grams.tolist(), np.concatenate([[0], np.cumsum(sizes)]).tolist()
    seen = set[int]()
    characters = at = 0
    while at < len(listed):
        if listed[at] in seen:
            characters += before[at + n] - before[at]
            at += n
        else:
            seen.add(listed[at])
            at += 1
    return characters


def _c4(text: str) -> list[float]:
    """Lines with *lorem ipsum*, lines with ``{``, sentences, each counted in the lines that no earlier check leaves out."""
    lorem = curly = count = 0
    for line in map(str.strip, text.splitlines()):
        parts = line.split()
        if len(line) > 1000 and any(len(word) > 1000 for word in parts):
            continue
        line = _CITATION.sub("", line)
        if not line.endswith(_END) or line.endswith("...") or len(parts) < 3:
            continue
        small = line.lower()
        lorem += "lorem ipsum" in small
        if "javascript" in small:
            continue
        curly += "{" in line
        if not any(phrase in small for phrase in _POLICY):
            count += sentences(line)
    return [lorem, curly, count]


def _fineweb(text: str, found: Sequence[str]) -> list[float]:
    lines = [line for line in text.split("\n") if line.strip()]
    newlines = text.count("\n")
    return [
        sum(line.endswith(_LINE_ENDS) for line in lines) / len(lines),
        sum(len(line) <= 30 for line in lines) / len(lines),
        _repeats(lines)[1] / (len(text) - newlines),
        newlines / len(found),
    ]
