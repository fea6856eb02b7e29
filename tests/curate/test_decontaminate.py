"""Shared n-grams against a set of word tuples."""

import itertools
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixwright.core.rng import rng
from mixwright.curate.decontaminate import Growing, HashSet, ngrams, words
from mixwright.curate.kernels import UNSPACED_BLOCKS
from mixwright.curate.texts import Texts


def unspaced(character: str) -> bool:
    return any(start <= ord(character) <= stop for start, stop in UNSPACED_BLOCKS)


def lower(word: str) -> str:
    return "".join(c.lower() if len(c.lower()) == 1 else c for c in word)


def plain_words(text: str) -> list[str]:
    found = []
    for run in re.findall(r"\w+", text):
        for alone, group in itertools.groupby(run, unspaced):
            part = list(group)
            found += part if alone else [lower("".join(part))]
    return found


def tuples(text: str, n: int) -> list[tuple[str, ...]]:
    found = plain_words(text)
    return [tuple(found[at : at + n]) for at in range(len(found) - n + 1)]


#: few words and odd separators, so that n-grams meet often; letters whose lower case is two characters or none
WORDS = st.sampled_from(["a", "A", "b", "ab", "ba", "_", "x1", "é", "É", "İ", "ß", "日本", "本", "x日", "a" * 70])
TEXTS = st.lists(
    st.lists(st.tuples(WORDS, st.sampled_from([" ", "  ", "-", "\n", "́"])), max_size=12).map(
        lambda parts: "".join(word + gap for word, gap in parts)
    ),
    max_size=6,
)


@settings(max_examples=150, deadline=None)
@given(TEXTS, TEXTS, st.integers(1, 4))
def test_as_a_set_of_tuples(training: list[str], target: list[str], n: int) -> None:
    seen = {gram for text in training for gram in tuples(text, n)}
    known = HashSet.of(ngrams(training, n).hashes)
    grams = ngrams(target, n)
    found = known.has(grams.hashes)
    assert [(int(t), int(w)) for t, w in zip(grams.text, grams.word, strict=True)] == [
        (number, at) for number, text in enumerate(target) for at in range(len(tuples(text, n)))
    ]
    assert found.tolist() == [gram in seen for text in target for gram in tuples(text, n)]
    assert len(known.members) == len(seen)
    for at in range(len(grams.hashes)):
        number, first = int(grams.text[at]), int(grams.word[at])
        assert words(target[number], first, n).split(" ") == list(tuples(target[number], n)[first])


def test_order_of_letters_and_words_counts() -> None:
    hashes = ngrams(["stop pots", "pots stop", "opts tops", "st oppots"], 2).hashes
    assert len(set(hashes.tolist())) == 4


@settings(max_examples=100, deadline=None)
@given(TEXTS, TEXTS, st.integers(1, 4))
def test_members_alone(training: list[str], target: list[str], n: int) -> None:
    known, every = HashSet.of(ngrams(training, n).hashes), ngrams(Texts(target), n)
    some, inside = known.grams(Texts(target), n), known.has(every.hashes)
    for name in ("hashes", "text", "word"):
        assert getattr(some, name).tolist() == getattr(every, name)[inside].tolist()


@pytest.mark.parametrize("size", [0, 1, 5, 70_000])
def test_a_set_knows_its_members(size: int) -> None:
    values = rng(0, "members").integers(0, 1 << 63, size, dtype=np.uint64)
    near = np.concatenate([values + np.uint64(1), values ^ np.uint64(1 << 40), np.zeros(1, dtype=np.uint64)])
    known = HashSet.of(values)
    assert known.has(values).all()
    assert known.members[known.numbers(values)].tolist() == values.tolist()
    assert known.has(near).tolist() == np.isin(near, values).tolist()


def test_rearranged_words_do_not_meet() -> None:
    """Rearrangements of few words are the worst case of a polynomial hash."""
    texts = [" ".join(f"w{(n >> k) & 1}" for k in range(16)) for n in range(1 << 16)]
    assert len(np.unique(ngrams(texts, 16).hashes)) == len(texts)


def test_a_growing_set() -> None:
    growing = Growing()
    batches = [rng(0, "batch", n).integers(0, 1 << 21, 600_000, dtype=np.uint64) for n in range(4)]
    for batch in batches:
        growing.add(batch)
        assert sum(map(len, growing.waiting)) <= max(1 << 20, len(growing.merged))
    assert growing.members().tolist() == np.unique(np.concatenate(batches)).tolist()
