"""Phrases that C4 looks for, in any case, found from two letters in a row that each of them has and little else.

The phrases are those of the code published with C4 (Raffel et al. 2020, arXiv:1910.10683, section 2.2).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mixwright.curate.compiled import borrowing

JAVASCRIPT, LOREM_IPSUM, POLICY = 1, 2, 4


def _coded(phrase: str) -> Any:
    return np.frombuffer(phrase.encode(), dtype=np.uint8)


_JAVASCRIPT, _LOREM_IPSUM, _TERMS = _coded("javascript"), _coded("lorem ipsum"), _coded("terms of use")
_PRIVACY, _COOKIE = _coded("privacy policy"), _coded("cookie policy")
_USES, _USE_OF, _USE = _coded("uses cookies"), _coded("use of cookies"), _coded("use cookies")


@borrowing
def _stands(data: Any, begin: Any, at: Any, last: Any, phrase: Any) -> Any:
    """Whether a phrase stands at ``at``, letters in any case, inside ``data[begin:last]``."""
    if at < begin or at + len(phrase) > last:
        return False
    for m in range(len(phrase)):
        byte = data[at + m]
        if phrase[m] != (byte if byte < 64 else byte | 0x20):
            return False
    return True


@borrowing
def phrase_at(data: Any, begin: Any, at: Any, last: Any) -> Any:
    """Which phrases' ``ja``, ``ps``, ``ms``, ``ok`` or ``cy`` has its second letter at ``at``: flags."""
    second = data[at] | 0x20
    if second == 97:
        return JAVASCRIPT * _stands(data, begin, at - 1, last, _JAVASCRIPT)
    if second == 115:
        found = LOREM_IPSUM * _stands(data, begin, at - 8, last, _LOREM_IPSUM)
        return found + POLICY * _stands(data, begin, at - 4, last, _TERMS)
    if second == 121:
        return POLICY * _stands(data, begin, at - 6, last, _PRIVACY)
    if _stands(data, begin, at - 3, last, _COOKIE) or _stands(data, begin, at - 8, last, _USES):
        return POLICY
    return POLICY * (_stands(data, begin, at - 10, last, _USE_OF) or _stands(data, begin, at - 7, last, _USE))
