"""One pass over UTF-8 bytes, 64 at a time: words and their hashes, lines, and most counts of every text.

data     (B,) uint8, offsets (n + 1,) int64 as in ``texts.py``
masks    uint64, bit j about byte j of a block of 64 bytes, of which the text may end at any
lines    (L, 8) int64, here flat, a row per line, blank ones too; its columns are END ... MARKS
row      the counts of one text, in the order of ``counts.NAMES``
piece    what stands between white space; a *lone* character, of an unspaced script, is a word
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixwright.curate import counts as c
from mixwright.curate.compiled import borrowing, compiled, inlined
from mixwright.curate.kernels.addresses import frozen, place
from mixwright.curate.kernels.bits import highest, letter, lowest, ones, within
from mixwright.curate.kernels.characters import (
    ALPHA,
    CJK,
    DECIMAL,
    SENTENCE,
    SPACE,
    UNSPACED,
    UPPER,
    WORD,
    decode,
    folded,
    tables,
)
from mixwright.curate.kernels.hashing import hash_words_between, word_room
from mixwright.curate.kernels.phrases import phrase_at
from mixwright.curate.kernels.sentences import ends_sentence, past_closers

#: columns of ``lines``: where a line ends, and begins and ends less outer white space; characters, and words (pieces and
#: lone characters) of the text up to its end; its sentence ends, and where the last of them is (-1: none); MARKS
END, START, STOP, CHARS, WORDS, SENTENCES, CLOSED, MARKS = range(8)
#: flags in the column MARKS: 1, 2, 4 are those of ``phrases.py``
BRACE, LONG_WORD = 8, 16
_ALL = 0xFFFFFFFFFFFFFFFF
_WIDE = 0x3000
_ELLIPSIS = 0x2026


@cache
def stop_words() -> tuple[NDArray[np.uint64], int]:
    """A table of 64 places with the stop words' hashes, and by how much to shift a hash for its place in it."""
    listed = np.frombuffer(" ".join(c.STOP_WORD_LIST).encode(), dtype=np.uint8)
    hashes = hash_words(listed, np.array([0, len(listed)]))[1]
    shift = next(
        shift for shift in range(58) if len(set((hashes >> np.uint64(shift) & np.uint64(63)).tolist())) == len(hashes)
    )
    table = np.zeros(64, np.uint64)
    table[(hashes >> np.uint64(shift) & np.uint64(63)).astype(np.int64)] = hashes
    return table, shift


def find_words(data: NDArray[np.uint8], offsets: NDArray[np.int64]) -> tuple[Any, Any, Any, Any]:
    """The words alone: ``first`` (n + 1,), ``start``, ``stop``, ``hashes`` (W,), as ``counting.py`` finds them."""
    found: tuple[Any, Any, Any, Any] = _find(*frozen(data), offsets, tables()[0], folded())
    return found


def hash_words(data: NDArray[np.uint8], offsets: NDArray[np.int64]) -> tuple[Any, Any]:
    """``first`` (n + 1,) and ``hashes`` (W,) of the words, as ``find_words`` finds them in a third more time."""
    found: tuple[Any, Any] = _hash(*frozen(data), offsets, tables()[0], folded())
    return found


@compiled
def _hash(data: Any, tail: Any, offsets: Any, flags: Any, fold: Any) -> Any:
    n = len(offsets) - 1
    base, end = np.int64(data.ctypes.data), np.int64(tail.ctypes.data)
    longest = 0
    for i in range(n):
        longest = max(longest, offsets[i + 1] - offsets[i])
    first, row = np.zeros(n + 1, np.int64), np.zeros(len(c.NAMES), np.int64)
    # where words are is written over by the next text, so that it stays in the processor's cache
    start, stop = np.empty(longest // 2 + 5, np.int64), np.empty(longest // 2 + 5, np.int64)
    hashes, room = np.empty((len(data) + n) // 2 + 4, np.uint64), word_room()  # as in _find
    for i in range(n):
        w = first[i]
        own = hashes[w:]
        first[i + 1] = w + _find_in_text(
            data, base, end, offsets[i], offsets[i + 1], flags, fold, row, start, stop, own, room, 0
        )
    return first, hashes[: first[n]]


@compiled
def _find(data: Any, tail: Any, offsets: Any, flags: Any, fold: Any) -> Any:
    n = len(offsets) - 1
    base, end = np.int64(data.ctypes.data), np.int64(tail.ctypes.data)
    most = (len(data) + n) // 2 + 4  # two words are a byte apart, or their characters take three bytes each
    first, row = np.zeros(n + 1, np.int64), np.zeros(len(c.NAMES), np.int64)
    start, stop, hashes = np.empty(most, np.int64), np.empty(most, np.int64), np.empty(most, np.uint64)
    room, w = word_room(), 0
    for i in range(n):
        w = _find_in_text(data, base, end, offsets[i], offsets[i + 1], flags, fold, row, start, stop, hashes, room, w)
        first[i + 1] = w
    return first, start[:w], stop[:w], hashes[:w]


@borrowing
def _find_in_text(
    data: Any,
    base: Any,
    end: Any,
    begin: Any,
    last: Any,
    flags: Any,
    fold: Any,
    row: Any,
    start: Any,
    stop: Any,
    hashes: Any,
    room: Any,
    w: Any,
) -> Any:
    """Write words and their hashes from ``w`` on; returns how many there are then. ``row`` is written to, not read."""
    zero, one = np.uint64(0), np.uint64(1)
    began, ended, over, kind = w, w, 0, 0
    in_word = zero
    for at in range(begin, last + 1, 64):
        address = place(base, end, len(data), at)
        size = min(64, last - at)
        valid = np.uint64(_ALL) >> np.uint64(64 - size) if size > 0 else zero
        word = within(address, np.uint8(65), np.uint8(25)) | within(address, np.uint8(97), np.uint8(25))
        word |= within(address, np.uint8(48), np.uint8(9)) | within(address, np.uint8(95), np.uint8(0))
        high = within(address, np.uint8(128), np.uint8(127)) & valid
        word &= valid
        cut = zero
        if high != zero or kind != 0:
            more = _foreign(data, at, last, flags, high, over, kind, row)
            word, cut, over, kind = word | more[0], more[7], more[10], more[11]
        before = word << one | in_word
        began = _put(word & (~before | cut), at, start, began)
        ended = _put(before & (~word | cut), at, stop, ended)
        in_word = word >> np.uint64(63)
    hash_words_between(data, base, end, start, stop, w, ended, fold, hashes, room)
    return ended


@borrowing
def line_feeds(data: Any, base: Any, end: Any, begin: Any, last: Any) -> Any:
    """How many line feeds stand in bytes ``begin`` to ``last``."""
    count = 0
    for at in range(begin, last, 64):
        found = within(place(base, end, len(data), at), np.uint8(10), np.uint8(0))
        count += ones(found & (np.uint64(_ALL) >> np.uint64(max(0, at + 64 - last))))
    return count


@borrowing
def hash_of_words(
    data: Any,
    base: Any,
    end: Any,
    start: Any,
    stop: Any,
    first: Any,
    last: Any,
    fold: Any,
    hashes: Any,
    room: Any,
    stops: Any,
    shift: Any,
    row: Any,
) -> Any:
    """Write the hashes of a text's words; count them and its stop words."""
    seen, hits = np.uint64(0), 0
    hash_words_between(data, base, end, start, stop, first, last, fold, hashes, room)
    for w in range(first, last):
        value = hashes[np.uint64(w)]
        slot = (value >> np.uint64(shift)) & np.uint64(63)
        hit = stops[slot] == value
        hits += hit
        seen |= np.uint64(hit) << slot
    row[c.WORDS], row[c.STOP_WORDS], row[c.STOP_WORD_COUNT] = last - first, ones(seen), hits


@inlined
def _below(j: Any) -> Any:
    """The mask of the bits under j, 0 to 63."""
    return (np.uint64(1) << np.uint64(j)) - np.uint64(1)


@inlined
def _put(mask: Any, at: Any, places: Any, count: Any) -> Any:
    """Write where the bits of a mask are from ``count`` on; returns how many there are then.

    Four at a time, whether there are so many or not: what is written too much is written over.
    """
    past = count + ones(mask)
    while mask != np.uint64(0):
        for m in range(4):
            places[np.uint64(count + m)] = at + lowest(mask)
            mask &= mask - np.uint64(1)
        count += 4
    return past


@inlined
def _part(kind: Any, flag: Any, run: Any) -> Any:
    """``run`` where the kind has the flag, else nothing."""
    return run if kind & flag else np.uint64(0)


@borrowing
def _foreign(data: Any, at: Any, last: Any, flags: Any, high: Any, over: Any, kind: Any, row: Any) -> Any:
    """What the characters beyond ASCII in a block are.

    ``high`` are their bytes; ``over`` bytes of the block belong to a character of ``kind`` that began before it. Returns masks
    of bytes in words and in white space, of first bytes of letters, capitals, decimals, CJK and lone characters, of bytes at
    which a word is cut, of sentence marks (at their last byte, and wide ones at their first), and the next over and kind.
    """
    one = np.uint64(1)
    run = (one << np.uint64(over)) - one
    word, space = _part(kind, WORD, run), _part(kind, SPACE, run)
    cut = _part(kind, UNSPACED, one << np.uint64(over))
    mark = _part(kind, SENTENCE, run & ~(run >> one))
    alpha = upper = decimal = cjk = lone = wide = np.uint64(0)
    high &= ~run
    over = kind = 0
    while high != np.uint64(0):
        j = lowest(high)
        code, width = decode(data, at + j, last)
        bit = one << np.uint64(j)
        run = ((one << np.uint64(width)) - one) << np.uint64(j)
        high &= ~run
        now = np.int64(flags[code])
        word, space = word | _part(now, WORD, run), space | _part(now, SPACE, run)
        alpha, upper = alpha | _part(now, ALPHA, bit), upper | _part(now, UPPER, bit)
        decimal, cjk = decimal | _part(now, DECIMAL, bit), cjk | _part(now, CJK, bit)
        lone = lone | _part(now, UNSPACED, bit)
        past = j + width - 64
        if past < 0:
            cut |= _part(now, UNSPACED, bit | one << np.uint64(j + width))
        else:
            cut |= _part(now, UNSPACED, bit)
            over, kind = past, now
        if now & SENTENCE:
            if code >= _WIDE:
                wide |= bit
                kind &= ~SENTENCE
            elif past <= 0:
                mark |= one << np.uint64(j + width - 1)
        row[c.ELLIPSIS] += code == _ELLIPSIS
    return word, space, alpha, upper, decimal, cjk, lone, cut, mark, wide, over, kind


@borrowing
def _ellipses(dots: Any, run: Any, row: Any) -> Any:
    """Count every three dots in a row, the first ``run`` of them before the block; returns the run at its end."""
    previous = -1
    while dots != np.uint64(0):
        j = lowest(dots)
        run = run + 1 if previous == j - 1 else 1
        if run == 3:
            row[c.ELLIPSIS] += 1
            run = 0
        previous = j
        dots &= dots - np.uint64(1)
    return run if previous == 63 else 0


@borrowing
def _longest_inside(pieces: Any, counted: Any) -> Any:
    """The most counted characters in a run of the mask ``pieces``."""
    most = 0
    while pieces != np.uint64(0):
        j = lowest(pieces)
        run = lowest(~(pieces >> np.uint64(j)))
        here = _below(run) << np.uint64(j) if run < 64 else np.uint64(_ALL)
        most = max(most, ones(counted & here))
        pieces &= ~here
    return most


@inlined
def _has_run(mask: Any, need: Any) -> Any:
    """Whether ``need`` (1 to 63) bits in a row are set somewhere."""
    held = 1
    while 2 * held <= need:
        mask &= mask >> np.uint64(held)
        held *= 2
    return (mask & (mask >> np.uint64(need - held))) != np.uint64(0)


@inlined
def _longest(pieces: Any, counted: Any, run: Any, newline: Any, lines: Any, k: Any, row: Any) -> Any:
    """Keep the longest piece; ``run`` characters of the first one stand before the block. Returns those of the last one."""
    if ~pieces == np.uint64(0):
        return run + ones(counted)
    first, last = lowest(~pieces), highest(~pieces)
    run += ones(counted & _below(first))
    row[c.LONGEST_PIECE] = max(row[c.LONGEST_PIECE], run)
    if run > c.LONG_WORD:
        lines[np.uint64(8 * (k + ones(newline & _below(first))) + MARKS)] |= LONG_WORD
    tail = ~(np.uint64(_ALL) >> np.uint64(63 - last))
    inner = pieces & ~tail & ~_below(first)
    most = row[c.LONGEST_PIECE]
    if most < 62 and _has_run(inner, most + 1):
        row[c.LONGEST_PIECE] = max(most, _longest_inside(inner, counted))
    return ones(counted & tail)


@inlined
def _new_line(lines: Any, k: Any) -> Any:
    lines[np.uint64(8 * k + SENTENCES)], lines[np.uint64(8 * k + CLOSED)], lines[np.uint64(8 * k + MARKS)] = 0, -1, 0


@inlined
def _touched(begun: Any, done: Any, at: Any, begins: Any, ends: Any) -> Any:
    """Where a line's first piece begins (-1: nowhere yet) and its last one ends, after a further part of a block."""
    begun = at + lowest(begins) if begun < 0 and begins != np.uint64(0) else begun
    return begun, at + highest(ends) if ends != np.uint64(0) else done


@inlined
def _end_line(lines: Any, k: Any, stop: Any, begun: Any, done: Any, chars: Any, words: Any) -> Any:
    lines[np.uint64(8 * k + END)], lines[np.uint64(8 * k + CHARS)], lines[np.uint64(8 * k + WORDS)] = stop, chars, words
    lines[np.uint64(8 * k + START)] = stop if begun < 0 else begun
    lines[np.uint64(8 * k + STOP)] = stop if begun < 0 else done


@inlined
def _split_lines(
    newline: Any,
    at: Any,
    begins: Any,
    piece_begins: Any,
    piece_ends: Any,
    lone: Any,
    lines: Any,
    k: Any,
    begun: Any,
    done: Any,
    chars: Any,
    words: Any,
) -> Any:
    """End lines at a block's line feeds; returns the line that goes on, and where its pieces begin and end so far."""
    rest = np.uint64(_ALL)
    while newline != np.uint64(0):
        upto = newline ^ (newline - np.uint64(1))
        low = upto >> np.uint64(1)
        begun, done = _touched(begun, done, at, piece_begins & rest & low, piece_ends & rest & upto)
        here = words + ones(piece_begins & low) + ones(lone & low)
        _end_line(lines, k, at + lowest(newline), begun, done, chars + ones(begins & low), here)
        k, begun = k + 1, -1
        _new_line(lines, k)
        rest = ~upto
        newline &= newline - np.uint64(1)
    begun, done = _touched(begun, done, at, piece_begins & rest, piece_ends & rest)
    return k, begun, done


@inlined
def _close(lines: Any, k: Any, at: Any) -> Any:
    """A sentence of line k ends at ``at``."""
    lines[np.uint64(8 * k + SENTENCES)] += 1
    lines[np.uint64(8 * k + CLOSED)] = max(at, lines[np.uint64(8 * k + CLOSED)])


@borrowing
def scan_text(
    data: Any,
    base: Any,
    end: Any,
    begin: Any,
    last: Any,
    flags: Any,
    row: Any,
    start: Any,
    stop: Any,
    w: Any,
    lines: Any,
    k: Any,
) -> Any:
    """Write words from ``w`` and lines from ``k`` on, add to the counts; returns how many words and lines there are then."""
    zero, one = np.uint64(0), np.uint64(1)
    began, ended, over, kind, run = w, w, 0, 0, 0
    dots: Any = 0
    in_word = in_piece = unsure = was_mark = was_closer = zero
    was_j = was_mp = was_o = was_c = zero
    _new_line(lines, k)
    begun = done = -1
    at = begin
    while True:
        address = place(base, end, len(data), at)
        size = min(64, last - at)
        valid = np.uint64(_ALL) >> np.uint64(64 - size) if size > 0 else zero
        upper = within(address, np.uint8(65), np.uint8(25)) & valid
        alpha = within(address, np.uint8(97), np.uint8(25)) & valid | upper
        decimal = within(address, np.uint8(48), np.uint8(9)) & valid
        under = within(address, np.uint8(95), np.uint8(0)) & valid
        word = alpha | decimal | under
        space = (within(address, np.uint8(9), np.uint8(4)) | within(address, np.uint8(28), np.uint8(4))) & valid
        newline = within(address, np.uint8(10), np.uint8(0)) & valid
        begins = ~within(address, np.uint8(128), np.uint8(63)) & valid
        high = within(address, np.uint8(128), np.uint8(127)) & valid
        dot = within(address, np.uint8(46), np.uint8(0)) & valid
        mark = (dot | within(address, np.uint8(33), np.uint8(0)) | within(address, np.uint8(63), np.uint8(0))) & valid
        closer = within(address, np.uint8(34), np.uint8(0)) | within(address, np.uint8(39), np.uint8(0))
        closer |= within(address, np.uint8(41), np.uint8(0)) | within(address, np.uint8(93), np.uint8(0))
        cut = lone = wide = zero
        if high != zero or kind != 0:
            closer |= within(address, np.uint8(0x99), np.uint8(0)) | within(address, np.uint8(0x9D), np.uint8(0))
            closer |= within(address, np.uint8(0xBB), np.uint8(0))
            more = _foreign(data, at, last, flags, high, over, kind, row)
            word, space, alpha, upper = word | more[0], space | more[1], alpha | more[2], upper | more[3]
            decimal, lone, cut, mark, wide, over, kind = (
                decimal | more[4],
                more[6],
                more[7],
                mark | more[8],
                more[9],
                more[10],
                more[11],
            )
            row[c.CJK] += ones(more[5])
        closer &= valid

        # words
        before = word << one | in_word
        began = _put(word & (~before | cut), at, start, began)
        ended = _put(before & (~word | cut), at, stop, ended)
        in_word = word >> np.uint64(63)

        # pieces; behind the end of the text there is white space
        piece = ~space & valid
        before = piece << one | in_piece
        piece_begins, piece_ends = piece & ~before, before & ~piece
        in_piece = piece >> np.uint64(63)
        seeking = piece_begins | piece & unsure
        other = piece & ~alpha
        carried = other + (seeking & other)
        unsure = one if carried < other else zero
        row[c.ALPHA_PIECES] += ones(seeking & alpha) + ones(carried & ~other & alpha)
        run = _longest(piece, begins & ~lone, run, newline, lines, k, row)

        # lines
        here = k
        k, begun, done = _split_lines(
            newline, at, begins, piece_begins, piece_ends, lone, lines, k, begun, done, row[c.CHARS], row[c.LINE_WORDS]
        )
        row[c.CHARS] += ones(begins)
        row[c.WORD_CHARS] += ones(word & begins)
        row[c.ALNUM] += ones(word & begins & ~under)
        row[c.DECIMAL] += ones(decimal)
        row[c.UPPER] += ones(upper)
        row[c.SPACE] += ones(space & begins)
        row[c.HASH] += ones(within(address, np.uint8(35), np.uint8(0)) & valid)
        row[c.PIECES] += ones(piece_begins)
        row[c.LINE_WORDS] += ones(piece_begins) + ones(lone)

        # sentences
        hits = ((mark | closer) << one | was_mark | was_closer) & piece_ends
        was_mark, was_closer = mark >> np.uint64(63), closer >> np.uint64(63)
        while hits != zero:
            j = lowest(hits)
            if ends_sentence(data, begin, at + j, last, flags):
                _close(lines, here + ones(newline & _below(j)), at + j)
            hits &= hits - one
        while wide != zero:
            j = lowest(wide)
            after, ends = past_closers(data, at + j, last, flags)
            if ends:
                _close(lines, here + ones(newline & _below(j)), after)
            wide &= wide - one

        # dots, brackets, phrases
        if dot & (dot << one | np.uint64(dots > 0)) != zero:
            dots = _ellipses(dot, dots, row)
        else:
            dots = np.int64(dot >> np.uint64(63))
        hits = within(address, np.uint8(123), np.uint8(0)) & valid
        row[c.BRACE] += ones(hits)
        while hits != zero:
            lines[8 * (here + ones(newline & _below(lowest(hits)))) + MARKS] |= BRACE
            hits &= hits - one
        j_, mp = letter(address, np.uint8(106)), letter(address, np.uint8(109)) | letter(address, np.uint8(112))
        o, c_ = letter(address, np.uint8(111)), letter(address, np.uint8(99))
        hits = (j_ << one | was_j) & letter(address, np.uint8(97)) | (mp << one | was_mp) & letter(
            address, np.uint8(115)
        )
        hits |= (o << one | was_o) & letter(address, np.uint8(107)) | (c_ << one | was_c) & letter(
            address, np.uint8(121)
        )
        hits &= valid
        was_j, was_mp, was_o, was_c = j_ >> np.uint64(63), mp >> np.uint64(63), o >> np.uint64(63), c_ >> np.uint64(63)
        while hits != zero:
            j = lowest(hits)
            lines[8 * (here + ones(newline & _below(j))) + MARKS] |= phrase_at(data, begin, at + j, last)
            hits &= hits - one
        row[c.NEWLINES] += ones(newline)
        at += 64
        if at > last:
            break
    _end_line(lines, k, last, begun, done, row[c.CHARS], row[c.LINE_WORDS])
    return began, k + 1
