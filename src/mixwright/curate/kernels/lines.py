"""What is counted of every text's lines and paragraphs.

lines    (L, 8) int64 as in ``scanning.py``; hashes (L,) uint64 of their bytes less outer white space
row      the counts of one text, in the order of ``counts.NAMES``
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mixwright.curate import counts as c
from mixwright.curate.compiled import compiled, inlined
from mixwright.curate.kernels.characters import SENTENCE, decode
from mixwright.curate.kernels.first_seen import bits_for, first_seen, new_slots, next_base
from mixwright.curate.kernels.hashing import SEED, absorbed, bytes_hash, finished
from mixwright.curate.kernels.phrases import JAVASCRIPT, LOREM_IPSUM, POLICY
from mixwright.curate.kernels.scanning import BRACE, CHARS, CLOSED, END, LONG_WORD, MARKS, SENTENCES, START, STOP, WORDS
from mixwright.curate.kernels.sentences import before

#: what may stand in the brackets of a citation, beside digits
_EDIT = np.frombuffer(b"edit", dtype=np.uint8)
_NEEDED = np.frombuffer(b"citation needed", dtype=np.uint8)


@inlined
def _chars(data: Any, start: Any, stop: Any, ascii_: Any) -> Any:
    """Characters in ``data[start:stop]``."""
    if ascii_:
        return stop - start
    count = 0
    for at in range(start, stop):
        count += data[at] & 0xC0 != 0x80
    return count


@compiled
def count_lines(data: Any, tail: Any, offsets: Any, first: Any, lines: Any, flags: Any, counts: Any) -> Any:
    """Add to the counts; returns the hashes of the lines."""
    hashes = np.empty(len(lines), np.uint64)
    address, end = np.int64(data.ctypes.data), np.int64(tail.ctypes.data)
    most = 0
    for i in range(len(offsets) - 1):
        most = max(most, first[i + 1] - first[i])
    slots, keys, base = new_slots(most), np.empty(most, np.uint64), 1
    for i in range(len(offsets) - 1):
        held = lines[first[i] : first[i + 1]]
        inner = hashes[first[i] : first[i + 1]]
        for k in range(len(held)):
            inner[k] = bytes_hash(address, end, len(data), held[k, START], held[k, STOP])
        _count(data, offsets[i], held, flags, counts[i])
        ascii_ = counts[i, c.CHARS] == offsets[i + 1] - offsets[i]
        base = _repeated(data, ascii_, held, inner, slots, keys, base, counts[i])
        base = _paragraphs(data, ascii_, held, inner, slots, keys, base, counts[i])
    return hashes


@compiled
def _count(data: Any, begin: Any, lines: Any, flags: Any, row: Any) -> Any:
    chars = words = 0
    for k in range(len(lines)):
        line = lines[k]
        length, line_words = line[CHARS] - chars, line[WORDS] - words
        chars, words = line[CHARS] + 1, line[WORDS]
        row[c.LONGEST_LINE] = max(row[c.LONGEST_LINE], length)
        row[c.SHORT_LINES] += length <= c.SHORT_LINE
        row[c.LONG_LINES] += length >= c.LONG_LINE
        if line[START] < line[STOP]:
            _count_line(data, line, line_words, flags, row)


@inlined
def _count_line(data: Any, line: Any, words: Any, flags: Any, row: Any) -> Any:
    """Count a line that is not blank."""
    start, stop = line[START], line[STOP]
    row[c.LINES] += 1
    row[c.BULLET_LINES] += data[start] == 45 or _ellipsis_or_bullet(data, start, stop, 0x2022)
    ellipsis = stop - start >= 3 and data[stop - 1] == 46 and data[stop - 2] == 46 and data[stop - 3] == 46
    row[c.ELLIPSIS_LINES] += ellipsis or (_ellipsis_or_bullet(data, stop - 3, stop, 0x2026) and stop - start >= 3)
    punctuated = _punctuated(data, start, stop, flags)
    row[c.PUNCTUATED_LINES] += punctuated and stop == line[END]
    sentences = line[SENTENCES] + (line[CLOSED] != stop)
    row[c.SENTENCES] += sentences
    cut = _without_citations(data, start, stop)
    if cut < stop:
        punctuated = _punctuated(data, start, cut, flags)
        ellipsis = cut - start >= 3 and data[cut - 1] == 46 and data[cut - 2] == 46 and data[cut - 3] == 46
    marks = line[MARKS]
    ended = punctuated and not ellipsis
    row[c.UNPUNCTUATED_LINES] += not ended
    row[c.FEW_WORD_LINES] += words < c.FEW_WORDS
    row[c.LONG_WORD_LINES] += marks & LONG_WORD != 0
    row[c.LOREM_IPSUM_LINES] += marks & LOREM_IPSUM != 0
    row[c.JAVASCRIPT_LINES] += marks & JAVASCRIPT != 0
    row[c.POLICY_LINES] += marks & POLICY != 0
    if ended and words >= c.FEW_WORDS and not marks & LONG_WORD:
        refused = marks & LOREM_IPSUM or (marks & BRACE and not marks & JAVASCRIPT)
        row[c.C4_REFUSED_LINES] += refused != 0
        if marks & (LOREM_IPSUM | JAVASCRIPT | BRACE | POLICY) == 0:
            row[c.C4_LINES] += 1
            row[c.C4_SENTENCES] += sentences


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


@compiled
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


@compiled
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


@compiled
def _repeated(data: Any, ascii_: Any, lines: Any, hashes: Any, slots: Any, keys: Any, base: Any, row: Any) -> Any:
    """Count lines that stood before and their characters; returns the next base."""
    bits = bits_for(len(lines))
    for k in range(len(lines)):
        if lines[k, START] < lines[k, STOP] and first_seen(slots, base, bits, keys, k, hashes[k]) < k:
            row[c.DUPLICATE_LINES] += 1
            row[c.DUPLICATE_LINE_CHARS] += _chars(data, lines[k, START], lines[k, STOP], ascii_)
    return next_base(slots, base, len(lines))


@compiled
def _paragraphs(data: Any, ascii_: Any, lines: Any, hashes: Any, slots: Any, keys: Any, base: Any, row: Any) -> Any:
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
                row[c.DUPLICATE_PARAGRAPH_CHARS] += _chars(data, lines[began, START], lines[k - 1, STOP], ascii_)
            began, at = -1, at + 1
    row[c.PARAGRAPHS] = at
    return next_base(slots, base, len(lines))
