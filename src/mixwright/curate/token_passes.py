"""Which tokens a model reads, and which of them count.

b  begin: the ids before everything, one or none
c  what comes between the beginning and a target: a prompt, or nothing
t  the target, whose losses count
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mixwright.curate.language_model import Ids, Pass

#: characters of a text that are enough for one token of it: what lies behind is not encoded to be cut off again
_CHARS_A_TOKEN = 32


def cut_text(text: str, tokens: int) -> str:
    """A beginning of ``text`` that is surely longer than ``tokens`` tokens, unless these have 32 characters on average."""
    return text[: _CHARS_A_TOKEN * tokens]


def windows(begin: Sequence[int], ids: Ids, limit: int, stride: int) -> tuple[Pass, ...]:
    """Passes over a text of at most ``limit`` tokens that begin ``stride`` apart; each token counts in the first one that
    holds it. A token with nothing before it does not count; no pass where none counts.
    """
    whole = np.concatenate([np.array(begin, dtype=np.int32), ids])
    passes, scored = [], 1
    for start in range(0, len(whole), stride):
        stop = min(len(whole), start + limit)
        if stop > scored:
            passes.append(Pass(whole[start:stop], scored - start))
            scored = stop
        if stop == len(whole):
            break
    return tuple(passes)


def pair(begin: Sequence[int], context: Ids, bare: Ids, target: Ids, limit: int) -> tuple[Pass, Pass, bool] | None:
    """The target after its context, and after ``bare`` alone; whether its end was cut off. None where no token is left.

    The same tokens count in both passes: all of the target, or all but its first where nothing stands before it in the
    second; what makes the first pass longer than ``limit`` is cut off the target's end in both.
    """
    start = np.array(begin, dtype=np.int32)
    kept = target[: max(0, limit - len(start) - max(len(context), len(bare)))]
    unseen = 0 if len(start) + len(bare) else 1
    if len(kept) <= unseen or not len(start) + len(context) + unseen:
        return None
    given, alone = np.concatenate([start, context, kept]), np.concatenate([start, bare, kept])
    first = len(kept) - unseen
    return Pass(given, len(given) - first), Pass(alone, len(alone) - first), len(kept) < len(target)
