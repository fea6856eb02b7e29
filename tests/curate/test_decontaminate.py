"""Shared n-grams against a set of word tuples."""

import re
import time

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mixwright.core.rng import rng
from mixwright.curate.decontaminate import Growing, HashSet, ngrams, words


def tuples(text: str, n: int) -> list[tuple[str, ...]]:
    found = re.findall(r"\w+", text.lower())
    return [tuple(found[at : at + n]) for at in range(len(found) - n + 1)]


#: few words and odd separators, so that n-grams meet often; letters whose lower case is two characters or none
WORDS = st.sampled_from(["a", "A", "b", "ab", "ba", "_", "x1", "é", "É", "İ", "ß", "日本", "a" * 70])
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


def test_some_megabytes_take_a_second() -> None:
    text = " ".join(f"word{n % 977} and-more" for n in range(25_000))
    begun = time.process_time()
    ngrams([text[:20_000]] * 100, 13)
    assert time.process_time() - begun < 5


def test_a_growing_set() -> None:
    growing = Growing()
    batches = [rng(0, "batch", n).integers(0, 1 << 21, 600_000, dtype=np.uint64) for n in range(4)]
    for batch in batches:
        growing.add(batch)
        assert sum(map(len, growing.waiting)) <= max(1 << 20, len(growing.merged))
    assert growing.members().tolist() == np.unique(np.concatenate(batches)).tolist()
