"""Repeated n-grams against counting them one by one."""

import math
import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixwright.core.errors import StudyError
from mixwright.curate.signal import Texts
from mixwright.curate.signals.ngram_repetition import NgramRepetition
from mixwright.testing import check_signal


def counts(members: list[str], n: int) -> list[int]:
    return sorted(Counter(tuple(members[at : at + n]) for at in range(len(members) - n + 1)).values(), reverse=True)


def characters(text: str, n: int) -> float:
    found = counts(list(text), n)
    if not found:
        return 0.0
    most = min(math.isqrt(len(found)), len(found) - found.count(1))
    return sum(found[:most]) / sum(found)


def words(text: str, n: int) -> float:
    found = counts(re.findall(r"\w+", text.lower()), n)
    return sum(count for count in found if count > 1) / sum(found) if found else 0.0


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.text(alphabet=st.sampled_from("aAb \n.é"), max_size=60), max_size=4),
    st.integers(1, 4),
    st.integers(1, 3),
)
def test_as_counted_one_by_one(texts: list[str], n: int, m: int) -> None:
    found = NgramRepetition(n, m).measure(Texts(texts))
    np.testing.assert_allclose(found["char_ngram_repetition"], [characters(text, n) for text in texts])
    np.testing.assert_allclose(found["word_ngram_repetition"], [words(text, m) for text in texts])


def test_it_keeps_the_promises_of_a_signal() -> None:
    check_signal(NgramRepetition())
    measured = NgramRepetition().measure(Texts(["abcdefghijk" * 20, "".join(map(chr, range(100, 400)))]))
    assert measured["char_ngram_repetition"][0] > 0.2
    assert measured["char_ngram_repetition"][1] == 0
    with pytest.raises(StudyError, match="at least one"):
        NgramRepetition(char_ngram=0)
