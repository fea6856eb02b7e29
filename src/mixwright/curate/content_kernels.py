"""Finds URLs, e-mail addresses, phone numbers, IP addresses and key-like secrets in UTF-8 bytes, compiled by numba.

Blocks of 64 bytes are looked at as bit masks, 48 bytes apart; where an anchor stands (``@``, ``://``, ``www.``, a dot
between digits, 16 characters of a token in a row ...) the exact form is matched byte by byte. Only ASCII belongs to a
match. What the forms are is told in ``signals/contacts_and_secrets.py``.

data     (B,) uint8, offsets (n + 1,) int64 as in ``texts.py``
low      where the text begins, or the match before ends: a match begins there at the earliest
end      where the text ends
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixwright.curate.compiled import compiled
from mixwright.curate.kernels.addresses import frozen, place
from mixwright.curate.kernels.bits import lowest, within

#: kinds, as bits
URL, EMAIL, PHONE, IP, SECRET = 1, 2, 4, 8, 16
_STEP = 48
#: classes of bytes
DIGIT, ALPHA, HEX, TOKEN, LOCAL, IN_URL, TRAILING, SEPARATOR = 1, 2, 4, 8, 16, 32, 64, 128
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_DIGITS = "0123456789"
_CLASSES = (
    (DIGIT, _DIGITS), (ALPHA, _LETTERS), (HEX, _DIGITS + "abcdefABCDEF"), (TOKEN, _LETTERS + _DIGITS + "_-"),
    (LOCAL, _LETTERS + _DIGITS + "._%+-"), (IN_URL, _LETTERS + _DIGITS + "-._~:/?#@!$&()*+,;=%"),
    (TRAILING, ".,;:!?*~"), (SEPARATOR, " .-()"),
)  # fmt: skip
#: what a token begins with, how many bytes follow at least and at most, and of which kind: 0 any of a token, 1 letters and
#: digits, 2 A-Z and 2-7. From the vendors' own descriptions, and the rules of gitleaks 8 where those say nothing of length
PREFIXES = (
    ("AKIA", 16, 16, 2), ("ASIA", 16, 16, 2), ("ghp_", 36, 255, 1), ("gho_", 36, 255, 1), ("ghu_", 36, 255, 1),
    ("ghs_", 36, 255, 1), ("ghr_", 36, 255, 1), ("github_pat_", 60, 255, 0), ("glpat-", 20, 255, 0),
    ("xoxa-", 12, 255, 0), ("xoxb-", 12, 255, 0), ("xoxe-", 12, 255, 0), ("xoxp-", 12, 255, 0), ("xoxr-", 12, 255, 0),
    ("xoxs-", 12, 255, 0), ("sk_live_", 16, 255, 1), ("rk_live_", 16, 255, 1), ("sk_test_", 16, 255, 1),
    ("rk_test_", 16, 255, 1), ("AIza", 35, 35, 0), ("hf_", 34, 34, 1), ("npm_", 36, 36, 1),
)  # fmt: skip
#: a quoted token is a secret behind such a name and ``:`` or ``=``, if its bytes have so much entropy (bits): the rule
#: generic-api-key of gitleaks 8
NAMES = ("secret", "token", "passw", "apikey", "api_key", "api-key", "access_key", "accesskey", "auth", "credential")
ENTROPY = 3.5
#: how long the name before a quoted token, and the body of a private key, may be
_NEAR, _KEY = 48, 1 << 14


@cache
def classes() -> NDArray[np.uint8]:
    """The classes of each byte."""
    table = np.zeros(256, dtype=np.uint8)
    for flag, members in _CLASSES:
        table[list(members.encode())] |= np.uint8(flag)
    return table


@cache
def _strings(strings: tuple[str, ...]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    offsets = np.zeros(len(strings) + 1, dtype=np.int64)
    np.cumsum([len(one) for one in strings], out=offsets[1:])
    return frozen(np.frombuffer("".join(strings).encode(), dtype=np.uint8))[0], offsets


@cache
def _tables() -> tuple[Any, ...]:
    prefixes = _strings(tuple(name for name, _, _, _ in PREFIXES))
    rules = np.array([rule for _, *rule in PREFIXES], dtype=np.int64)
    return classes(), *prefixes, rules, *_strings(NAMES)


def find_spans(data: NDArray[np.uint8], offsets: NDArray[np.int64], kinds: int) -> NDArray[np.int64]:
    """The matches of ``kinds`` (bits), ``(4, M)``: text, kind, start and stop in data; in order, none over another."""
    spans: NDArray[np.int64] = _find_spans(*frozen(data), offsets, kinds, *_tables())
    return spans


@compiled
def _same(data: Any, at: Any, end: Any, text: Any, begin: Any, stop: Any) -> Any:
    """Whether ``text[begin:stop]`` stands at ``at``."""
    if at + stop - begin > end:
        return False
    for step in range(stop - begin):  # noqa: SIM110  # a generator does not compile
        if data[at + step] != text[begin + step]:
            return False
    return True


@compiled
def _run(data: Any, at: Any, end: Any, table: Any, flag: Any) -> Any:
    """Where a run of bytes of a class that begins at ``at`` ends."""
    while at < end and table[data[at]] & flag:
        at += 1
    return at


@compiled
def _in_word(data: Any, at: Any, low: Any, end: Any, table: Any) -> Any:
    """Whether an ASCII letter, digit or ``_`` stands at ``at``; no within ``low`` to ``end``."""
    return low <= at < end and (table[data[at]] & (DIGIT | ALPHA) != 0 or data[at] == 95)


@compiled
def _url_end(data: Any, at: Any, end: Any, table: Any) -> Any:
    """Where the URL ends whose rest begins at ``at``: without marks that close a sentence or an open bracket around it."""
    stop = _run(data, at, end, table, IN_URL)
    opened = 0
    for place_ in range(at, stop):
        opened += (1 if data[place_] == 40 else 0) - (1 if data[place_] == 41 else 0)
    while stop > at:
        last = data[stop - 1]
        if last == 41 and opened < 0:
            opened += 1
        elif not table[last] & TRAILING:
            break
        stop -= 1
    return stop


@compiled
def _email(data: Any, at: Any, low: Any, end: Any, table: Any) -> Any:
    """Start and stop of the address whose ``@`` stands at ``at``; stop is 0 if there is none."""
    start = at
    while start > low and table[data[start - 1]] & LOCAL:
        start -= 1
    if at - start > 64:
        return start, 0
    while start < at and not table[data[start]] & (DIGIT | ALPHA):
        start += 1
    if start == at or data[at - 1] == 46:
        return start, 0
    stop, label, letters, labels = at + 1, at + 1, True, 0
    while stop < end:
        flags = table[data[stop]]
        if flags & (DIGIT | ALPHA):
            letters = letters and flags & ALPHA != 0
            stop += 1
        elif data[stop] == 45 and stop > label and _alnum_after(data, stop, end, table):
            letters = False
            stop += 1
        elif data[stop] == 46 and stop > label and stop + 1 < end and table[data[stop + 1]] & (DIGIT | ALPHA):
            labels += 1
            stop += 1
            label, letters = stop, True
        else:
            break
    return start, (stop if labels and letters and stop - label >= 2 else 0)


@compiled
def _alnum_after(data: Any, at: Any, end: Any, table: Any) -> Any:
    """Whether the run of ``-`` at ``at`` is followed by a letter or digit."""
    while at < end and data[at] == 45:
        at += 1
    return at < end and table[data[at]] & (DIGIT | ALPHA) != 0


@compiled
def _four(data: Any, at: Any, low: Any, end: Any, table: Any) -> Any:
    """Start and stop of the IPv4 address whose first dot stands at ``at``; stop is 0 if there is none."""
    start = at
    while start > low and at - start < 4 and table[data[start - 1]] & DIGIT:
        start -= 1
    if _in_word(data, start - 1, low, end, table) or (start > low and data[start - 1] == 46):
        return start, 0
    stop = start
    for part in range(4):
        if part:
            if stop >= end or data[stop] != 46:
                return start, 0
            stop += 1
        value, digits, first = 0, 0, stop
        while stop < end and digits < 4 and table[data[stop]] & DIGIT:
            value = 10 * value + data[stop] - 48
            digits += 1
            stop += 1
        if digits == 0 or digits > 3 or value > 255 or (digits > 1 and data[first] == 48):
            return start, 0
    if _in_word(data, stop, low, end, table):
        return start, 0
    if stop + 1 < end and data[stop] == 46 and table[data[stop + 1]] & DIGIT:
        return start, 0
    return start, stop


@compiled
def _six(data: Any, at: Any, low: Any, end: Any, table: Any) -> Any:
    """Start and stop of the IPv6 address whose first colon stands at ``at``; stop is 0 if there is none."""
    start = at
    while start > low and at - start < 5 and table[data[start - 1]] & HEX:
        start -= 1
    if at - start > 4 or _in_word(data, start - 1, low, end, table):
        return start, 0
    if start > low and (data[start - 1] == 58 or data[start - 1] == 46):
        return start, 0
    stop, groups, gaps, size, digit, telling = start, 0, 0, 0, False, False
    while stop < end and stop - start < 40:
        if table[data[stop]] & HEX:
            size += 1
            digit = digit or table[data[stop]] & DIGIT != 0
            if size > 4:
                return start, 0
            stop += 1
        elif data[stop] == 58:
            double = stop + 1 < end and data[stop + 1] == 58
            if stop == start and not double:
                return start, 0
            if not double and (stop + 1 >= end or not table[data[stop + 1]] & HEX):
                break  # a colon of the sentence
            groups += 1 if size else 0
            telling = telling or (size >= 3 and digit)
            gaps += 1 if double else 0
            size, digit = 0, False
            stop += 2 if double else 1
            if double and stop < end and data[stop] == 58:
                return start, 0
        else:
            break
    groups += 1 if size else 0
    telling = telling or (size >= 3 and digit)
    if _in_word(data, stop, low, end, table) or (stop < end and stop - start >= 40):
        return start, 0
    good = (gaps == 0 and groups == 8) or (gaps == 1 and groups <= 7 and telling)
    return start, (stop if good else 0)


@compiled
def _international(data: Any, at: Any, low: Any, end: Any, table: Any) -> Any:
    """Where the phone number ends whose ``+`` stands at ``at``; 0 if there is none."""
    if _in_word(data, at - 1, low, end, table) or (at > low and data[at - 1] == 43):
        return 0
    if at + 1 >= end or data[at + 1] == 48:
        return 0
    place_, digits, stop = at + 1, 0, 0
    while place_ < end and digits < 15:
        gap = 0
        while digits and gap < 2 and place_ + gap < end and table[data[place_ + gap]] & SEPARATOR:
            gap += 1
        if place_ + gap >= end or not table[data[place_ + gap]] & DIGIT:
            break
        place_ += gap + 1
        digits += 1
        if digits >= 8 and (place_ >= end or not table[data[place_]] & DIGIT):
            stop = place_
    return stop


@compiled
def _american(data: Any, at: Any, low: Any, end: Any, table: Any) -> Any:
    """Start and stop of the North American phone number whose area code stands at ``at``; stop is 0 if there is none."""
    stop = at + 3
    if data[stop] == 41:
        stop += 1
        if stop < end and data[stop] == 32:
            stop += 1
    else:
        stop += 1
    if stop + 8 > end or data[at] < 50 or data[stop] < 50:
        return at, 0
    for step in range(8):
        if step == 3:
            if data[stop + step] != 32 and data[stop + step] != 46 and data[stop + step] != 45:
                return at, 0
        elif not table[data[stop + step]] & DIGIT:
            return at, 0
    stop += 8
    if _in_word(data, stop, low, end, table):
        return at, 0
    if stop + 1 < end and (data[stop] == 46 or data[stop] == 45) and table[data[stop + 1]] & DIGIT:
        return at, 0
    bracket = at - 1 if at > low and data[at - 1] == 40 else at
    one = bracket
    if bracket - 2 >= low and data[bracket - 2] == 49 and table[data[bracket - 1]] & SEPARATOR:
        one = bracket - 2 if data[bracket - 1] != 40 and data[bracket - 1] != 41 else bracket
    for start in (one, bracket, at):
        before = data[start - 1] if start > low else 32
        if not (_in_word(data, start - 1, low, end, table) or before == 46 or before == 45 or before == 43):
            return start, stop
    return at, 0


@compiled
def _fits(data: Any, at: Any, stop: Any, table: Any, kind: Any) -> Any:
    """Whether bytes are of the kind that ``PREFIXES`` asks for."""
    for place_ in range(at, stop):
        byte = data[place_]
        if kind == 1 and not table[byte] & (DIGIT | ALPHA):
            return False
        if kind == 2 and not (65 <= byte <= 90 or 50 <= byte <= 55):
            return False
    return True


@compiled
def _token(
    data: Any, at: Any, end: Any, table: Any, prefixes: Any, prefix_offsets: Any, rules: Any
) -> Any:  # fmt: skip
    """Where the secret ends whose token begins at ``at``, by what it begins with; 0 if it is none."""
    stop = _run(data, at, end, table, TOKEN)
    if data[at] == 101 and data[at + 1] == 121 and data[at + 2] == 74:  # eyJ: a JSON web token, three parts
        two = stop + 1
        if stop + 4 < end and data[stop] == 46 and data[two] == 101 and data[two + 1] == 121 and data[two + 2] == 74:
            three = _run(data, two, end, table, TOKEN)
            if three - two >= 8 and three < end and data[three] == 46:
                last = _run(data, three + 1, end, table, TOKEN)
                if last - three > 8:
                    return last
        return 0
    for number in range(len(rules)):
        begin, finish = prefix_offsets[number], prefix_offsets[number + 1]
        if data[at] == prefixes[begin] and _same(data, at, stop, prefixes, begin, finish):
            body = at + finish - begin
            if rules[number, 0] <= stop - body <= rules[number, 1] and _fits(data, body, stop, table, rules[number, 2]):
                return stop
    return 0


@compiled
def _quoted(data: Any, at: Any, low: Any, end: Any, table: Any, names: Any, name_offsets: Any) -> Any:
    """Where the token ends that stands quoted at ``at`` behind ``name = ``; 0 if it is none or no secret."""
    quote = data[at - 1] if at > low else 32
    if quote != 34 and quote != 39:
        return 0
    stop, seen, digits, letters = at, np.zeros(128, np.int64), 0, 0
    while stop < end and stop - at < 256:
        byte = data[stop]
        if not (table[byte] & TOKEN or byte == 43 or byte == 47 or byte == 61 or byte == 46):
            break
        seen[byte] += 1
        digits += 1 if table[byte] & DIGIT else 0
        letters += 1 if table[byte] & ALPHA else 0
        stop += 1
    if stop >= end or data[stop] != quote or not digits or not letters:
        return 0
    entropy = 0.0
    for count in seen:
        if count:
            entropy -= count / (stop - at) * math.log2(count / (stop - at))
    if entropy < ENTROPY:
        return 0
    before = at - 2
    while before >= low and (data[before] == 32 or data[before] == 61 or data[before] == 58 or data[before] == 62):
        before -= 1
    if before == at - 2 or before < low:
        return 0
    assigned = False
    for place_ in range(before + 1, at - 1):
        assigned = assigned or data[place_] == 61 or data[place_] == 58
    if not assigned:
        return 0
    while before > low and (data[before] == 34 or data[before] == 39 or data[before] == 93):  # "name"] =
        before -= 1
    line = before + 1
    while line > low and before - line < _NEAR and table[data[line - 1]] & TOKEN:
        line -= 1
    for begin in range(line, before + 1):
        for number in range(len(name_offsets) - 1):
            one, two = name_offsets[number], name_offsets[number + 1]
            if begin + two - one > before + 1 or data[begin] | 0x20 != names[one]:
                continue
            same = True
            for step in range(two - one):
                byte = data[begin + step]
                same = same and (byte | 0x20 if 65 <= byte <= 90 else byte) == names[one + step]
            if same:
                return stop
    return 0


@compiled
def _private_key(data: Any, at: Any, low: Any, end: Any) -> Any:
    """Start and stop of the private key in PEM whose ``-----BEGIN`` has its last dash at ``at``; stop is 0 if none."""
    start = at - 4
    if start < low:
        return at, 0
    for place_ in range(start, at):
        if data[place_] != 45:
            return at, 0
    stop = at + 1
    while stop < end and stop - at < 64 and (65 <= data[stop] <= 90 or data[stop] == 32):
        stop += 1
    if stop + 5 > end or stop - at < 18:
        return at, 0
    for step in range(5):
        if data[stop + step] != 45:
            return at, 0
    if not (data[stop - 1] == 89 and data[stop - 3] == 75 and data[stop - 11] == 80 and data[stop - 5] == 69):
        return at, 0  # ...PRIVATE KEY
    header = stop + 5
    stop = header
    while stop < min(end, header + _KEY) and data[stop] != 45:
        stop += 1
    if stop + 5 <= end and data[stop] == 45 and data[stop + 4] == 45:
        stop += 5
        while stop < end and stop - header < _KEY and data[stop] != 45 and data[stop] != 10:
            stop += 1
        while stop < end and data[stop] == 45:
            stop += 1
        return start, stop
    return start, header


@compiled
def _anchors(address: Any, kinds: Any) -> Any:
    """The bits at which something of ``kinds`` may stand; those of the last 16 bytes see less than they need."""
    u8 = np.uint8
    dot, colon, dash = within(address, u8(46), u8(0)), within(address, u8(58), u8(0)), within(address, u8(45), u8(0))
    digit = within(address, u8(48), u8(9))
    alnum = digit | within(address, u8(97), u8(25)) | within(address, u8(65), u8(25))
    one, two, three, four = np.uint64(1), np.uint64(2), np.uint64(3), np.uint64(4)
    found = np.uint64(0)
    if kinds & URL:
        slash, w = within(address, u8(47), u8(0)), within(address, u8(119), u8(0))
        found |= (colon & slash >> one & slash >> two) | (w & w >> one & w >> two & dot >> three)
    if kinds & EMAIL:
        found |= within(address, u8(64), u8(0))
    if kinds & IP:
        found |= (dot & digit >> one) | (colon & (alnum | colon) >> one)
    if kinds & PHONE:
        triple = digit & digit >> one & digit >> two
        mark = within(address, u8(32), u8(0)) | dot | dash
        closed = within(address, u8(41), u8(0))
        rest = triple & mark >> three & (triple >> four) & digit >> np.uint64(7)
        found |= triple & ((mark | closed) >> three & rest >> four | (closed >> three & rest >> np.uint64(5)))
        found |= within(address, u8(43), u8(0)) & digit >> one
    if kinds & SECRET:
        run = alnum | dash | within(address, u8(95), u8(0))
        begins = ~(run << one)
        run &= run >> one
        run &= run >> two
        run &= run >> four
        run &= run >> np.uint64(8)
        found |= (run & (begins | one)) | (dash & within(address, u8(66), u8(0)) >> one)
    return found


@compiled
def _matched(
    data: Any, at: Any, low: Any, end: Any, kinds: Any, table: Any, prefixes: Any, prefix_offsets: Any, rules: Any,
    names: Any, name_offsets: Any,
) -> Any:  # fmt: skip
    """Kind, start and stop of the match whose anchor stands at ``at``; kind is 0 if there is none."""
    byte = data[at]
    flags = table[byte]
    if kinds & SECRET and flags & TOKEN:
        if byte == 45 and at + 1 < end and data[at + 1] == 66:
            start, stop = _private_key(data, at, low, end)
            if stop:
                return SECRET, start, stop
        elif at == low or not table[data[at - 1]] & TOKEN:
            stop = _token(data, at, end, table, prefixes, prefix_offsets, rules)
            if stop == 0:
                stop = _quoted(data, at, low, end, table, names, name_offsets)
            if stop:
                return SECRET, at, stop
    if kinds & URL and byte == 58 and at + 3 < end and data[at + 1] == 47 and data[at + 2] == 47:
        start = at
        while start > low and table[data[start - 1]] & ALPHA:
            start -= 1
        first = data[at + 3]
        if at - start >= 2 and (table[first] & (DIGIT | ALPHA) or first == 47):
            stop = _url_end(data, at + 3, end, table)
            if stop > at + 3:
                return URL, start, stop
    if kinds & URL and byte == 119 and at + 4 < end and table[data[at + 4]] & (DIGIT | ALPHA):
        dotted = data[at + 1] == 119 and data[at + 2] == 119 and data[at + 3] == 46
        if dotted and not _in_word(data, at - 1, low, end, table):
            return URL, at, _url_end(data, at + 4, end, table)
    if kinds & EMAIL and byte == 64:
        start, stop = _email(data, at, low, end, table)
        if stop:
            return EMAIL, start, stop
    if kinds & IP and byte == 46:
        start, stop = _four(data, at, low, end, table)
        if stop:
            return IP, start, stop
    if kinds & IP and byte == 58:
        start, stop = _six(data, at, low, end, table)
        if stop:
            return IP, start, stop
    if kinds & PHONE and byte == 43:
        stop = _international(data, at, low, end, table)
        if stop:
            return PHONE, at, stop
    if kinds & PHONE and flags & DIGIT and at + 12 <= end:
        start, stop = _american(data, at, low, end, table)
        if stop:
            return PHONE, start, stop
    return 0, at, at


@compiled
def _find_spans(
    data: Any, tail: Any, offsets: Any, kinds: Any, table: Any, prefixes: Any, prefix_offsets: Any, rules: Any, names: Any,
    name_offsets: Any,
) -> Any:  # fmt: skip
    spans = np.empty((4, 64), np.int64)
    count = 0
    base, end_base = data.ctypes.data, tail.ctypes.data
    one, zero = np.uint64(1), np.uint64(0)
    for i in range(len(offsets) - 1):
        at, end = offsets[i], offsets[i + 1]
        low = at
        while at < end:
            left = min(_STEP, end - at)
            anchors = _anchors(place(base, end_base, len(data), at), kinds) & (~zero >> np.uint64(64 - left))
            while anchors != zero:
                spot = at + lowest(anchors)
                anchors &= anchors - one
                if spot < low:
                    continue
                kind, start, stop = _matched(
                    data, spot, low, end, kinds, table, prefixes, prefix_offsets, rules, names, name_offsets
                )
                if kind:
                    if count == spans.shape[1]:
                        more = np.empty((4, 2 * count), np.int64)
                        for row in range(4):
                            for column in range(count):
                                more[row, column] = spans[row, column]
                        spans = more
                    spans[0, count], spans[1, count], spans[2, count], spans[3, count] = i, kind, start, stop
                    count += 1
                    low = stop
            at += _STEP
    return spans[:, :count].copy()
