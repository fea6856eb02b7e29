"""Where sentences end.

At ``.``, ``!``, ``?`` or a sentence mark of another script, and quotes and brackets closing after it, before white space,
unless a small ASCII letter is next in the line; and at a wide mark (of Chinese or Japanese), whatever follows but a mark.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mixwright.curate.compiled import borrowing, inlined
from mixwright.curate.kernels.characters import SENTENCE, decode

#: what may close after a sentence mark; of those beyond ASCII the last bytes are 0x99, 0x9D, 0xBB before white space
CLOSERS = "\"')]’”»"
#: and after a wide mark
WIDE_CLOSERS = CLOSERS + "」』）】》〉"
_CLOSERS = np.array([ord(mark) for mark in CLOSERS], dtype=np.uint32)
_WIDE_CLOSERS = np.array([ord(mark) for mark in WIDE_CLOSERS], dtype=np.uint32)


@inlined
def before(data: Any, begin: Any, at: Any) -> Any:
    """Where the character before ``at`` begins, ``begin`` at least and three bytes back at most."""
    back = at - 1
    while back > begin and back > at - 4 and data[back] & 0xC0 == 0x80:
        back -= 1
    return back


@inlined
def _is_one_of(code: Any, marks: Any) -> Any:
    for mark in marks:  # noqa: SIM110  # kernels know no generators
        if code == mark:
            return True
    return False


@borrowing
def ends_sentence(data: Any, begin: Any, at: Any, last: Any, flags: Any) -> Any:
    """Whether a sentence ends at ``at``, behind which there is white space or the end of the text."""
    back = at
    while back > begin:
        back = before(data, begin, back)
        code, _ = decode(data, back, last)
        if not _is_one_of(code, _CLOSERS):
            break
    else:
        return False
    if not (flags[code] & SENTENCE and code < 0x3000):
        return False
    while at < last and (data[at] == 32 or data[at] == 9):
        at += 1
    return not (at < last and 97 <= data[at] <= 122)


@borrowing
def past_closers(data: Any, at: Any, last: Any, flags: Any) -> Any:
    """Behind the wide mark at ``at`` and what closes after it; and whether a sentence ends there, not at a further mark."""
    at += 3
    if at < last and flags[decode(data, at, last)[0]] & SENTENCE:
        return at, False
    while at < last:
        code, width = decode(data, at, last)
        if not _is_one_of(code, _WIDE_CLOSERS):
            break
        at += width
    return at, True
