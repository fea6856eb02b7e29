"""One row asked for: kept or dropped, with every rule, its twin, and where its numbers stand; wrong names in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from curation_for_tests import jsonl, measured_of, run

from mixwright.core.document import document_id
from mixwright.core.errors import StudyError
from mixwright.curate.rules import Bounds, Options
from mixwright.curate.tracing import Traces

OPTIONS = Options(rules={"words": Bounds(2, 6)}, keep={"wide": "chars >= p50 and digit_ratio <= 0.5"})


@pytest.fixture
def traces(tmp_path: Path) -> Traces:
    texts = ["one two three four", "one", "a b", "one two three four", "1 2 3 4 5 6 7 8 9"]
    sources = {"s": jsonl(tmp_path / "s.jsonl", texts)}
    with (tmp_path / "s.jsonl").open("a") as stream:
        stream.write("not json\n")
    targets = {"goal": jsonl(tmp_path / "goal.jsonl", ["one two three four", "five six"])}
    _, draft = run(tmp_path, sources, targets, OPTIONS)
    return Traces(draft.path, measured_of(draft), OPTIONS)


def test_a_kept_row(traces: Traces) -> None:
    answer = traces.answer(document_id("s", "s.jsonl", 0))
    assert answer.kept
    assert (answer.place.source, answer.place.path, answer.place.row, answer.place.index) == ("s", "s.jsonl", 1, 0)
    told = {one.rule: one for one in answer.judgements}
    assert (told["words"].value, told["words"].threshold, told["words"].kept) == (4.0, ">= 2, <= 6", True)
    assert told["words"].percentile == pytest.approx(100 * (2 + 2 / 2) / 5)
    assert told["wide"].percentile is None
    assert answer.repeated == 2


def test_a_row_that_fails_several_rules(traces: Traces) -> None:
    answer = traces.answer("s.jsonl:2")
    assert not answer.kept
    assert [(one.rule, one.value, one.threshold, one.kept) for one in answer.judgements] == [
        ("words", 1.0, ">= 2", False), ("wide", 3.0, ">= 17 (p50)", False)
    ]  # fmt: skip
    assert answer.judgements[0].percentile == pytest.approx(10)
    assert answer.twin is None


def test_a_duplicate_and_its_twin(traces: Traces) -> None:
    answer = traces.answer("s.jsonl:4")
    assert [(one.rule, one.kept) for one in answer.judgements] == [
        ("words", True), ("wide", True), ("exact_duplicate", False)
    ]  # fmt: skip
    assert answer.twin is not None
    assert answer.twin.place is not None
    assert (answer.twin.id, answer.twin.place.row) == (document_id("s", "s.jsonl", 0), 1)
    assert answer.twin.members == 2
    of_target = traces.answer("goal.jsonl:1")
    assert of_target.place.order == 1
    assert of_target.twin is not None
    assert of_target.twin.place == answer.twin.place


def test_a_row_that_cannot_be_read(traces: Traces) -> None:
    answer = traces.answer("s.jsonl:6")
    assert [(one.rule, one.value) for one in answer.judgements] == [("unreadable", None)]
    assert answer.place.id == document_id("s", "s.jsonl", 5)
    assert traces.answer(answer.place.id) == answer
    assert answer.detail


def test_the_beginning_of_an_id_is_enough(traces: Traces) -> None:
    ident = document_id("s", "s.jsonl", 2)
    assert traces.find(ident[:12].upper()).row == 3


def test_wrong_names(traces: Traces) -> None:
    with pytest.raises(StudyError, match="neither an id"):
        traces.answer("row seven")
    with pytest.raises(StudyError, match=r"No row is 's.jsonl:99'\.$"):
        traces.answer("s.jsonl:99")
    ident = document_id("s", "s.jsonl", 2)
    wrong = ident[:8] + ("0" if ident[8] != "0" else "1") * 24
    with pytest.raises(StudyError, match=f"Ids that begin with '{ident[:8]}': {ident}"):
        traces.answer(wrong)
    shared = [n for n in range(16) if sum(document_id(s, f"{s}.jsonl", r)[0] == f"{n:x}" for s, r in _rows()) > 1]
    for digit in shared:
        with pytest.raises(StudyError, match=r"fits \d+ rows: .*; give more of the id"):
            traces.answer(f"{digit:x}")
    assert shared


def _rows() -> list[tuple[str, int]]:
    return [("s", row) for row in range(6)] + [("goal", row) for row in range(2)]
