"""The reproduction of datatrove against what datatrove itself gave (`datatrove_golden.json`), and against plain Python."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixwright.curate.datatrove_rules import COLUMNS, statistics
from mixwright.curate.datatrove_tokens import chunk_tokens, sentences, words
from mixwright.curate.expressions import holds
from mixwright.curate.rules import Options
from mixwright.curate.signals.datatrove import Datatrove
from mixwright.curate.texts import Texts
from mixwright.testing import check_signal

GOLDEN = json.loads(Path(__file__).with_name("datatrove_golden.json").read_text())
TEXT = st.text(st.one_of(st.characters(codec="utf-8"), st.sampled_from("ab'.,:)(-\n \t1$…")), max_size=80)


@pytest.mark.parametrize("case", GOLDEN["texts"], ids=range(len(GOLDEN["texts"])))
def test_words_and_sentences_as_there(case: dict[str, Any]) -> None:
    assert words(case["text"]) == case["words"]
    if case["text"]:
        assert max(1, sentences(case["text"])) == max(1, case["sentences"])


@pytest.mark.parametrize("case", GOLDEN["documents"], ids=[case["name"] for case in GOLDEN["documents"]])
def test_rules_as_there(case: dict[str, Any]) -> None:
    columns = Datatrove().measure(Texts([case["text"]]))
    rules = Options(presets=("datatrove",)).ruleset()
    failed = [name.partition(".")[2] for name, rule in rules.items() if not np.all(holds(rule.keep, columns))]
    assert sorted(failed) == sorted(case["dropped_by"])


def test_every_column_has_a_rule_and_most_rules_drop_something_here() -> None:
    assert set(Options(presets=("datatrove",)).columns_needed) == set(COLUMNS)
    dropping = {rule for case in GOLDEN["documents"] for rule in case["dropped_by"]}
    assert len(dropping) >= 25


@settings(max_examples=100, deadline=None)
@given(TEXT)
def test_no_character_is_lost(text: str) -> None:
    assert "".join(words(text)) == "".join(text.split())
    assert all(chunk_tokens(chunk) and all(chunk_tokens(chunk)) for chunk in text.split())


def plain_repeated(found: list[str], n: int) -> int:
    seen, characters, at = set(), 0, 0
    while at < len(found) - n + 1:
        gram = "".join(found[at : at + n])
        if gram in seen:
            characters, at = characters + len(gram), at + n
        else:
            seen.add(gram)
            at += 1
    return characters


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["a", "b", "ab", "ba", "é", "the"]), min_size=1, max_size=60))
def test_repetition_as_in_plain_python(found: list[str]) -> None:
    text = " ".join(found)
    found = words(text)
    measured = dict(zip(COLUMNS, statistics(text), strict=True))
    for n in range(5, 11):
        assert measured[f"dt_dup_{n}_gram"] == pytest.approx(plain_repeated(found, n) / len(text))
    for n in (2, 3, 4):
        counts = Counter(" ".join(found[at : at + n]) for at in range(len(found) - n + 1))
        most = counts.most_common(1)
        assert measured[f"dt_top_{n}_gram"] == pytest.approx(len(most[0][0]) * most[0][1] / len(text) if most else 0)


def test_is_a_signal() -> None:
    check_signal(Datatrove())
