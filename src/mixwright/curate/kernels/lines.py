"""What is counted of every text's lines and paragraphs.

lines    (L, 8) int64 as in ``scanning.py``, of a text; hashes (L,) uint64 of their bytes less outer white space
row      the counts of one text, in the order of ``counts.NAMES``
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mixwright.curate import counts as c
from mixwright.curate.compiled import borrowing, compiled, inlined
from mixwright.curate.kernels.addresses import characters
from mixwright.curate.kernels.characters import SENTENCE, decode
from mixwright.curate.kernels.first_seen import bits_for, first_seen, new_slots, next_base
from mixwright.curate.kernels.hashing import SEED, absorbed, bytes_hash, finished
from mixwright.curate.kernels.phrases import JAVASCRIPT, LOREM_IPSUM, POLICY
from mixwright.curate.kernels.scanning import BRACE, CHARS, CLOSED, END, LONG_WORD, MARKS, SENTENCES, START, STOP, WORDS
from mixwright.curate.kernels.sentences import before

#: what may stand in the brackets of a citation, beside digits
_EDIT = np.frombuffer(b"edit", dtype=np.uint8)
_NEEDED = np.frombuffer(b"citation needed", dtype=np.uint8)
#: what a line's last byte says: a mark that ends it, what ``_punctuated`` and ``_without_citations`` have to look at
_MARK, _OTHER = 1, 2
_ENDS = np.array(
    [_MARK * (chr(byte) in ".?!\"'") or _OTHER * (byte > 127 or byte == 93) for byte in range(256)], np.uint8
)


@inlined
def _chars(source: Any, start: Any, stop: Any, ascii_: Any) -> Any:
    """Characters from ``start`` to ``stop``; ``source`` is base, tail and size as in ``addresses.py``."""
    return stop - start if ascii_ else characters(source[0], source[1], source[2], start, stop)


@compiled
def line_space(most: Any) -> Any:
    """Room for texts of up to ``most`` lines: hashes, keys, and slots, which begin with number 1."""
    return np.empty(most, np.uint64), np.empty(most, np.uint64), new_slots(most)


@borrowing
def count_lines(source: Any, data: Any, lines: Any, flags: Any, space: Any, number: Any, row: Any) -> Any:
    """Add what is counted of the lines (L, 8) of a text; returns the number of the next.

    ``source`` is base, tail and size as in ``addresses.py``, and whether a character is a byte.
    """
    base, end, size, ascii_ = source
    hashes, keys, slots = space
    for k in range(len(lines)):
        hashes[k] = bytes_hash(base, end, size, lines[k, START], lines[k, STOP])
    _count(data, lines, flags, row)
    number = _repeated(source, ascii_, lines, hashes, slots, keys, number, row)
    return _paragraphs(source, ascii_, lines, hashes, slots, keys, number, row)


@borrowing
def _count(data: Any, lines: Any, flags: Any, row: Any) -> Any:
    """Count lines; what is common is counted without branches that a processor could guess wrong."""
    chars = words = longest = short = long = full = bullets = ellipses = 0
    punctuated = sentences = ended = few = kept = kept_sentences = 0
    for k in range(len(lines)):
        line = lines[k]
        start, stop, marks = line[START], line[STOP], line[MARKS]
        length, line_words = line[CHARS] - chars, line[WORDS] - words
        chars, words = line[CHARS] + 1, line[WORDS]
        longest = max(longest, length)
        short += length <= c.SHORT_LINE
        long += length >= c.LONG_LINE
        if start == stop:
            continue
        full += 1
        bullets += data[np.uint64(start)] == 45 or _ellipsis_or_bullet(data, start, stop, 0x2022)
        kind = _ENDS[data[np.uint64(stop - 1)]]
        dots = _dots(data, start, stop)
        ends = (kind == _MARK) & (not dots)
        ellipses += dots
        marked = kind == _MARK
        if kind > _MARK:
            marked = _punctuated(data, start, stop, flags)
            ellipses += stop - start >= 3 and _ellipsis_or_bullet(data, stop - 3, stop, 0x2026)
            cut = _without_citations(data, start, stop)
            ends = _punctuated(data, start, cut, flags) and not _dots(data, start, cut)
        punctuated += marked & (stop == line[END])
        inside = line[SENTENCES] + (line[CLOSED] != stop)
        sentences += inside
        ended += ends
        few += line_words < c.FEW_WORDS
        keeps = ends & (line_words >= c.FEW_WORDS)
        if marks != 0:
            keeps = _count_marks(marks, keeps, row)
        kept += keeps
        kept_sentences += inside if keeps else 0
    row[c.LONGEST_LINE], row[c.SHORT_LINES], row[c.LONG_LINES] = longest, short, long
    row[c.LINES], row[c.BULLET_LINES], row[c.ELLIPSIS_LINES] = full, bullets, ellipses
    row[c.PUNCTUATED_LINES], row[c.SENTENCES] = punctuated, sentences
    row[c.UNPUNCTUATED_LINES], row[c.FEW_WORD_LINES] = full - ended, few
    row[c.C4_LINES], row[c.C4_SENTENCES] = kept, kept_sentences


@borrowing
def _count_marks(marks: Any, keeps: Any, row: Any) -> Any:
    """Count what a line holds that C4 looks for; returns whether C4 keeps the line, ``keeps`` but for that."""
    row[c.LONG_WORD_LINES] += marks & LONG_WORD != 0
    row[c.LOREM_IPSUM_LINES] += marks & LOREM_IPSUM != 0
    row[c.JAVASCRIPT_LINES] += marks & JAVASCRIPT != 0
    row[c.POLICY_LINES] += marks & POLICY != 0
    keeps = keeps and marks & LONG_WORD == 0
    refused = marks & LOREM_IPSUM != 0 or (marks & BRACE != 0 and marks & JAVASCRIPT == 0)
    row[c.C4_REFUSED_LINES] += keeps and refused
    return keeps and marks & (LOREM_IPSUM | JAVASCRIPT | BRACE | POLICY) == 0


@inlined
def _dots(data: Any, start: Any, stop: Any) -> Any:
    """Whether what is not empty ends with three dots."""
    one, two, three = stop - 1, max(stop - 2, start), max(stop - 3, start)
    found = (data[np.uint64(one)] == 46) & (data[np.uint64(two)] == 46) & (data[np.uint64(three)] == 46)
    return found & (stop - start >= 3)


@inlined
def _ellipsis_or_bullet(data: Any, at: Any, stop: Any, code: Any) -> Any:
    """Whether U+2022 or U+2026, of three bytes, stands at ``at``."""
    return at >= 0 and data[at] == 0xE2 and decode(data, at, stop)[0] == code


@inlined
def _punctuated(data: Any, start: Any, stop: Any, flags: Any) -> Any:
    """Whether what ends at ``stop`` ends with ``. ? ! " '`` or what ends sentences in other scripts."""
    if stop <= start:
        return False
    byte = data[stop - 1]
    if byte < 128:
        return byte == 46 or byte == 63 or byte == 33 or byte == 34 or byte == 39
    return flags[decode(data, before(data, start, stop), stop)[0]] & SENTENCE != 0


@borrowing
def _without_citations(data: Any, start: Any, stop: Any) -> Any:
    """Where a line ends without ``[12]``, ``[]``, ``[edit]`` and ``[citation needed]`` at its end."""
    while stop - start >= 2 and data[stop - 1] == 93:
        at = stop - 2
        while at > start and stop - at < 20 and data[at] != 91:
            at -= 1
        if data[at] != 91 or not _citation(data, at + 1, stop - 1):
            break
        stop = at
    return stop


@borrowing
def _citation(data: Any, start: Any, stop: Any) -> Any:
    digits = True
    for at in range(start, stop):
        digits = digits and 48 <= data[at] <= 57
    return digits or _is(data, start, stop, _EDIT) or _is(data, start, stop, _NEEDED)


@inlined
def _is(data: Any, start: Any, stop: Any, text: Any) -> Any:
    if stop - start != len(text):
        return False
    for m in range(len(text)):  # noqa: SIM110  # kernels know no generators
        if data[start + m] != text[m]:
            return False
    return True


@borrowing
def _repeated(source: Any, ascii_: Any, lines: Any, hashes: Any, slots: Any, keys: Any, base: Any, row: Any) -> Any:
    """Count lines that stood before and their characters; returns the next base."""
    bits = bits_for(len(lines))
    for k in range(len(lines)):
        if lines[k, START] < lines[k, STOP] and first_seen(slots, base, bits, keys, k, hashes[k]) < k:
            row[c.DUPLICATE_LINES] += 1
            row[c.DUPLICATE_LINE_CHARS] += _chars(source, lines[k, START], lines[k, STOP], ascii_)
    return next_base(slots, base, len(lines))


@borrowing
def _paragraphs(source: Any, ascii_: Any, lines: Any, hashes: Any, slots: Any, keys: Any, base: Any, row: Any) -> Any:
    """Count paragraphs, those that stood before, and their characters; returns the next base."""
    bits = bits_for(len(lines))
    began, state, at = -1, np.uint64(0), 0
    for k in range(len(lines) + 1):
        if k < len(lines) and lines[k, START] < lines[k, STOP]:
            began, state = (k, np.uint64(SEED)) if began < 0 else (began, state)
            state = absorbed(state, hashes[k])
        elif began >= 0:
            if first_seen(slots, base, bits, keys, at, finished(state)) < at:
                row[c.DUPLICATE_PARAGRAPHS] += 1
                row[c.DUPLICATE_PARAGRAPH_CHARS] += _chars(source, lines[began, START], lines[k - 1, STOP], ascii_)
            began, at = -1, at + 1
    row[c.PARAGRAPHS] = at
    return next_base(slots, base, len(lines))
