"""Contamination against sets of word tuples; items, their fields, and which of them is named."""

import itertools
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixwright.core.errors import DataError, StudyError
from mixwright.curate.signals.contamination import SHORTEST, Contamination
from mixwright.curate.texts import Texts
from mixwright.testing import check_signal


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def prepared(folder: Path, items: list[str], n: int = 13) -> Contamination:
    write(folder / "eval.jsonl", [{"text": text} for text in items])
    signal = Contamination(paths=("eval.jsonl",), n=n)
    (folder / "out").mkdir(exist_ok=True)
    signal.prepare(folder, folder / "out")
    return signal.opened(folder / "out")


def grams(words: list[str], length: int) -> list[tuple[str, ...]]:
    return [tuple(words[at : at + length]) for at in range(len(words) - length + 1)]


def plain(text: str, items: list[str], n: int) -> tuple[int, float]:
    words = text.split()
    looked_for = set()
    for item in map(str.split, items):
        if len(item) >= SHORTEST:
            looked_for |= set(grams(item, min(n, len(item))))
    shared = {gram for length in range(SHORTEST, n + 1) for gram in grams(words, length)} & looked_for
    covered = set()
    for gram in shared:
        for at in range(len(words)):
            if tuple(words[at : at + len(gram)]) == gram:
                covered |= set(range(at, at + len(gram)))
    return len(shared), len(covered) / len(words) if words else 0.0


SENTENCES = st.lists(st.sampled_from(["a", "b", "c"]), max_size=12).map(" ".join)


@settings(max_examples=60, deadline=None)
@given(st.lists(SENTENCES, max_size=4), st.lists(SENTENCES, max_size=4), st.integers(5, 8))
def test_as_with_sets(tmp_path_factory: pytest.TempPathFactory, items: list[str], texts: list[str], n: int) -> None:
    items = [*items, "d e f g h"]  # one that can be looked for
    signal = prepared(tmp_path_factory.mktemp("eval"), items, n)
    found = signal.measure(Texts(texts))
    expected = [plain(text, items, n) for text in texts]
    assert found["contaminated_ngrams"].tolist() == [count for count, _ in expected]
    assert found["contamination_ratio"].tolist() == pytest.approx([share for _, share in expected])
    assert signal.not_checkable == sum(len(item.split()) < SHORTEST for item in items)


QUESTION = "How many eggs does the baker use when she makes two cakes and seven pies?"


def test_the_item_that_is_shared_most(tmp_path: Path) -> None:
    other = "A completely different question about trains that leave two stations at the same time of day."
    signal = prepared(tmp_path, [other, "hi", QUESTION, "the sum of two and two"])
    text = f"Yesterday somebody asked: {QUESTION.upper()} And: the sum of two and two"
    assert signal.explain(text) == (
        "shares 3 of 4 evaluation n-grams with eval.jsonl row 3, the first: how many eggs does the baker use when she makes "
        "two cakes and"
    )
    assert signal.explain("the sum of two") == ""
    assert signal.measure(Texts([text, "x"]))["contaminated_ngrams"].tolist() == [4, 0]
    assert signal.not_checkable == 1


def test_fields_and_formats(tmp_path: Path) -> None:
    folder = tmp_path / "evals"
    folder.mkdir()
    row = {"question": "One two three", "choices": ["four five", "six seven"], "answer": 8, "more": None}
    write(folder / "a.jsonl", [row])
    pq.write_table(pa.Table.from_pylist([row | {"question": "Ten nine eight"}]), folder / "b.parquet")
    fields = ("question", "choices", "answer", "more", "absent")
    signal = Contamination(paths=("evals",), fields=fields, n=8)
    signal.prepare(tmp_path, tmp_path)
    opened = signal.opened(tmp_path)
    assert opened.explain("one two three four five six seven 8").startswith(
        "shares 1 of 1 evaluation n-grams with a.jsonl"
    )
    assert opened.explain("ten nine eight four five six seven 8").startswith(
        "shares 1 of 1 evaluation n-grams with b.par"
    )


def test_characters_are_words_where_there_are_no_spaces(tmp_path: Path) -> None:
    signal = prepared(tmp_path, ["猫は椅子の上で寝ていて、子供たちは外で"])
    found = signal.measure(Texts(["昨日、猫は椅子の上で寝ていて、子供たちと", "猫は椅子の上"]))
    assert found["contaminated_ngrams"].tolist() == [3, 0]
    assert found["contamination_ratio"][0] == pytest.approx(15 / 18)


def test_the_kit_and_its_identity(tmp_path: Path) -> None:
    signal = prepared(tmp_path, [QUESTION, "word " * 20])
    check_signal(signal)
    before = signal.identity(tmp_path)
    write(tmp_path / "eval.jsonl", [{"text": "changed"}])
    assert signal.identity(tmp_path) != before


def test_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="paths and fields must not be empty"):
        Contamination(paths=()).prepare(tmp_path, tmp_path)
    with pytest.raises(StudyError, match=r"contamination\.n is 3"):
        Contamination(paths=("x",), n=3)
    with pytest.raises(DataError, match="There is no file or folder"):
        Contamination(paths=("nowhere",)).prepare(tmp_path, tmp_path)
    write(tmp_path / "eval.jsonl", [{"text": "fine"}, {"body": "no text"}])
    with pytest.raises(DataError, match=r"row 2 of eval\.jsonl cannot be read: the object has no field 'text'"):
        Contamination(paths=("eval.jsonl",)).prepare(tmp_path, tmp_path)
    write(tmp_path / "eval.jsonl", [{"text": "fine"}])
    with pytest.raises(DataError, match="none of 1 items has 5 words or more"):
        Contamination(paths=("eval.jsonl",)).prepare(tmp_path, tmp_path)


def test_every_item_of_a_large_evaluation_is_found(tmp_path: Path) -> None:
    items = [" ".join(f"w{number}x{at}" for at in range(13)) for number in range(5000)]
    signal = prepared(tmp_path, items)
    found = signal.measure(Texts(items[::97]))
    assert set(found["contaminated_ngrams"]) == {1.0}
    assert set(found["contamination_ratio"]) == {1.0}
    names = [signal.explain(item).split(" with ")[1].split(",")[0] for item in items[::997]]
    assert names == [f"eval.jsonl row {number + 1}" for number in itertools.islice(itertools.count(0, 997), len(names))]
