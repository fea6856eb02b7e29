"""Characters in tags, code, fenced blocks and LaTeX commands, counted in UTF-8 bytes; compiled by numba.

data     (B,) uint8, offsets (n + 1,) int64 as in ``texts.py``
at, end  where a line, or what is left of a text, begins and ends
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixwright.curate.compiled import compiled

#: what a line of code begins with, white space before it aside
OPENINGS = (
    "def ", "class ", "import ", "from ", "return ", "return;", "if (", "for (", "while (", "switch (", "else {", "} else",
    "elif ", "except ", "try:", "with open", "public ", "private ", "protected ", "static ", "const ", "let ", "var ",
    "function ", "func ", "fn ", "struct ", "enum ", "typedef ", "template", "namespace ", "using ", "package ", "#include",
    "#define", "#ifdef", "#ifndef", "#endif", "#!/", "//", "/*", "*/", "@Override", "$ ", ">>> ", "... ",
)  # fmt: skip


@cache
def _openings() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    offsets = np.zeros(len(OPENINGS) + 1, dtype=np.int64)
    np.cumsum([len(one) for one in OPENINGS], out=offsets[1:])
    return np.frombuffer("".join(OPENINGS).encode(), dtype=np.uint8), offsets


def count_markup(data: NDArray[np.uint8], offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Characters in tags, in lines of code, in fenced blocks and in LaTeX commands of every text, ``(4, n)``."""
    view = np.ascontiguousarray(data).view()
    view.flags.writeable = False
    counts: NDArray[np.int64] = _count_markup(view, offsets, *_openings())
    return counts


@compiled
def _letter(byte: Any) -> Any:
    return 97 <= byte | 0x20 <= 122


@compiled
def _characters(data: Any, at: Any, end: Any) -> Any:
    """How many characters begin in ``data[at:end]``."""
    count = 0
    for place in range(at, end):
        count += data[place] & 0xC0 != 0x80
    return count


@compiled
def _tags(data: Any, at: Any, end: Any) -> Any:
    """Characters in tags, comments, declarations and instructions of HTML and XML."""
    count = 0
    open_comments = True  # whether a comment that begins may end
    while at + 2 < end:
        if data[at] != 60:
            at += 1
            continue
        stop = at + 1
        if data[stop] == 33 and data[stop + 1] == 45 and open_comments and at + 6 < end and data[at + 3] == 45:
            stop = at + 4
            while stop + 2 < end and not (data[stop] == 45 and data[stop + 1] == 45 and data[stop + 2] == 62):
                stop += 1
            if stop + 2 < end:
                count += _characters(data, at, stop + 3)
                at = stop + 3
                continue
            open_comments = False
            stop = at + 1
        if data[stop] == 47 or data[stop] == 33 or data[stop] == 63:
            stop += 1
        if _letter(data[stop]):
            while stop < end and data[stop] != 60 and data[stop] != 62:
                stop += 1
            if stop < end and data[stop] == 62:
                count += _characters(data, at, stop + 1)
                at = stop
        at += 1
    return count


@compiled
def _commands(data: Any, at: Any, end: Any) -> Any:
    """Characters in LaTeX commands: a backslash and two letters or more."""
    count = 0
    while at < end:
        if data[at] == 92:
            stop = at + 1
            while stop < end and _letter(data[stop]):
                stop += 1
            if stop - at > 2:
                count += stop - at
            at = stop
        else:
            at += 1
    return count


@compiled
def _is_code(data: Any, at: Any, end: Any, openings: Any, opening_offsets: Any) -> Any:
    """Whether the line ``data[at:end]``, without white space around it, looks like code."""
    last = data[end - 1]
    if last == 123 or last == 125 or last == 59:  # { } ;
        return True
    if end - at >= 2 and ((last == 58 and data[end - 2] == 41) or (last == 40 and data[end - 2] != 32)):  # ): f(
        return True
    for number in range(len(opening_offsets) - 1):
        begin, size = opening_offsets[number], opening_offsets[number + 1] - opening_offsets[number]
        if data[at] == openings[begin] and size <= end - at:
            same = True
            for step in range(1, size):
                if data[at + step] != openings[begin + step]:
                    same = False
                    break
            if same:
                return True
    return False


@compiled
def _fence(data: Any, at: Any, end: Any) -> Any:
    """How many marks (``` or ~~~) a fence at the beginning of the line ``data[at:end]`` has, and where they begin; else 0."""
    first = at
    while first < end and first - at < 4 and data[first] == 32:
        first += 1
    if first - at > 3 or first >= end or (data[first] != 96 and data[first] != 126):
        return 0, first
    stop = first
    while stop < end and data[stop] == data[first]:
        stop += 1
    if data[first] == 96:
        for place in range(stop, end):
            if data[place] == 96:
                return 0, first
    return (stop - first if stop - first >= 3 else 0), first


@compiled
def _count_markup(data: Any, offsets: Any, openings: Any, opening_offsets: Any) -> Any:
    counts = np.zeros((4, len(offsets) - 1), np.int64)
    for i in range(len(offsets) - 1):
        at, end = offsets[i], offsets[i + 1]
        counts[0, i] = _tags(data, at, end)
        counts[3, i] = _commands(data, at, end)
        marks, mark = 0, 0
        while at < end:
            stop = at
            while stop < end and data[stop] != 10:
                stop += 1
            size, first = _fence(data, at, stop)
            whole = min(stop + 1, end)
            if marks:
                counts[2, i] += _characters(data, at, whole)
                if size >= marks and data[first] == mark:
                    after = first + size
                    while after < stop and (data[after] == 32 or data[after] == 9 or data[after] == 13):
                        after += 1
                    if after == stop:
                        marks = 0
            elif size:
                counts[2, i] += _characters(data, at, whole)
                marks, mark = size, data[first]
            begin, finish = at, stop
            while begin < finish and (data[begin] == 32 or 9 <= data[begin] <= 13):
                begin += 1
            while finish > begin and (data[finish - 1] == 32 or 9 <= data[finish - 1] <= 13):
                finish -= 1
            if finish > begin and _is_code(data, begin, finish, openings, opening_offsets):
                counts[1, i] += _characters(data, at, whole)
            at = whole
    return counts
