"""What each code point is, as tables for compiled loops; and decoding of UTF-8 in them."""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixwright.curate.compiled import inlined

#: flags of a code point: what ``\\w``, ``isspace``, ``isalpha``, ``isupper`` and ``isdecimal`` say of it in Python; words
#: of a script without spaces; letters of Chinese, Japanese and Korean; marks that end a sentence, a line in C4's sense
WORD, SPACE, UNSPACED, ALPHA, UPPER, DECIMAL, CJK, SENTENCE = 1, 2, 4, 8, 16, 32, 64, 128
#: code points of scripts that are written without spaces between words (Unicode 15 blocks)
UNSPACED_BLOCKS = (
    (0x0E00, 0x0EFF), (0x0F00, 0x0FFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x1950, 0x19DF), (0x1A20, 0x1AAF),
    (0x2E80, 0x2FDF), (0x3005, 0x3007), (0x3021, 0x3029), (0x3031, 0x3035), (0x3040, 0x30FF), (0x31F0, 0x31FF),
    (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xAA60, 0xAA7F), (0xF900, 0xFAFF), (0xFF66, 0xFF9F), (0x1AFF0, 0x1B16F),
    (0x20000, 0x3FFFF),
)  # fmt: skip
#: code points of Chinese, Japanese and Korean: Han, Kana, Bopomofo, Hangul (Unicode 15 blocks)
CJK_BLOCKS = (
    (0x1100, 0x11FF), (0x2E80, 0x2FDF), (0x3005, 0x3007), (0x3021, 0x3029), (0x3031, 0x3035), (0x3038, 0x303C),
    (0x3040, 0x318F), (0x31A0, 0x31BF), (0x31F0, 0x31FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xA960, 0xA97F),
    (0xAC00, 0xD7FF), (0xF900, 0xFAFF), (0xFF66, 0xFFDC), (0x1AFF0, 0x1B16F), (0x20000, 0x3FFFF),
)  # fmt: skip
#: marks that end a sentence (of Unicode's property Sentence_Terminal those of scripts in wide use)
SENTENCE_MARKS = ".!?؟۔।॥።፧။។៕‼‽⁇⁈⁉。．！？｡"
#: no code point from here on is a letter, a digit or a space, nor will be soon: planes 4 to 16
_PLAIN = 0x40000
REPLACEMENT = 0xFFFD


@cache
def tables() -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
    """Flags and the lower-case code point of every code point (itself where lower case is several).

    They follow the Unicode version of the running Python. Once per process, 0.1 s.
    """
    flags = np.zeros(sys.maxunicode + 1, dtype=np.uint8)
    lower = np.arange(sys.maxunicode + 1, dtype=np.uint32)
    characters = [chr(code) for code in range(_PLAIN)]

    def mark(flag: int, kind: Any) -> None:
        flags[:_PLAIN] |= np.fromiter(map(kind, characters), dtype=bool, count=_PLAIN).astype(np.uint8) * np.uint8(flag)

    for flag, kind in (
        (WORD, str.isalnum),
        (SPACE, str.isspace),
        (ALPHA, str.isalpha),
        (UPPER, str.isupper),
        (DECIMAL, str.isdecimal),
    ):
        mark(flag, kind)
    flags[ord("_")] |= WORD
    for flag, blocks in ((UNSPACED, UNSPACED_BLOCKS), (CJK, CJK_BLOCKS)):
        for start, stop in blocks:
            block = flags[start : stop + 1]
            block[(block & WORD) > 0] |= np.uint8(flag)
    flags[[ord(mark) for mark in SENTENCE_MARKS]] |= np.uint8(SENTENCE)
    small = [character.lower() for character in characters]
    lower[:_PLAIN] = [ord(one) if len(one) == 1 else code for code, one in enumerate(small)]
    return flags, lower


@cache
def folded() -> NDArray[np.uint32]:
    """For every code point the UTF-8 bytes of its lower case, the first byte lowest; of ASCII ``byte | 0x20``.

    So the digits, letters and ``_`` of ASCII, all that words hold of it, are folded 8 bytes at a time by one ``or``.
    """
    code = tables()[1]
    tail = [(code >> shift & 0x3F) | 0x80 for shift in (0, 6, 12)]
    packed = np.where(code < 0x80, code | 0x20, (code >> 6) | 0xC0 | tail[0] << 8)
    packed = np.where(code < 0x800, packed, (code >> 12) | 0xE0 | tail[1] << 8 | tail[0] << 16)
    return np.where(code < 0x10000, packed, (code >> 18) | 0xF0 | tail[2] << 8 | tail[1] << 16 | tail[0] << 24).astype(
        np.uint32
    )


@inlined
def decode(data: Any, at: int, stop: int) -> Any:
    """The code point at ``at`` and its length in bytes; U+FFFD of length 1 where no code point of valid form begins."""
    first = data[np.uint64(at)]
    if first < 0x80:
        return np.uint32(first), 1
    if at + 1 >= stop or first < 0xC0 or first >= 0xF5 or data[np.uint64(at + 1)] & 0xC0 != 0x80:
        return np.uint32(REPLACEMENT), 1
    if first < 0xE0:
        return np.uint32(np.uint32(first & 0x1F) << 6 | np.uint32(data[np.uint64(at + 1)] & 0x3F)), 2
    if at + 2 >= stop or data[np.uint64(at + 2)] & 0xC0 != 0x80:
        return np.uint32(REPLACEMENT), 1
    code = np.uint32(np.uint32(data[np.uint64(at + 1)] & 0x3F) << 6 | np.uint32(data[np.uint64(at + 2)] & 0x3F))
    if first < 0xF0:
        return np.uint32(np.uint32(first & 0x0F) << 12 | code), 3
    if at + 3 >= stop or data[np.uint64(at + 3)] & 0xC0 != 0x80:
        return np.uint32(REPLACEMENT), 1
    code = np.uint32(np.uint32(first & 0x07) << 18 | code << 6 | np.uint32(data[np.uint64(at + 3)] & 0x3F))
    return np.uint32(min(code, np.uint32(0x10FFFF))), 4
