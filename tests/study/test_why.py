"""Why a row was dropped, asked of a study: the answer, its words on a terminal, and what has to be there first."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from mixwright.core.errors import StudyError
from mixwright.study.config import read_study
from mixwright.study.flow import Flow
from mixwright.study.why import explain, shown

STUDY = """
sources:
  prose: {path: prose.jsonl}
curate:
  rules:
    words: {min: 2}
"""


@pytest.fixture
def flow(tmp_path: Path) -> Flow:
    texts = ["it was a [bold]dark[/] and stormy night", "no", "it was a [bold]dark[/] and stormy night"]
    (tmp_path / "prose.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    (tmp_path / "study.yaml").write_text(STUDY)
    return Flow(read_study(tmp_path / "study.yaml"))


def words(flow: Flow, wanted: str) -> str:
    console = Console(width=100, record=True, force_terminal=False)
    with console.capture() as capture:
        console.print(shown(explain(flow, wanted)), highlight=False)
    return capture.get()


def test_what_a_terminal_says(flow: Flow) -> None:
    with pytest.raises(StudyError, match="has not been curated: run mixwright curate first"):
        explain(flow, "prose.jsonl:1")
    flow.make("curate")
    kept = words(flow, "prose.jsonl:1")
    assert "kept" in kept
    assert "1 row dropped as its duplicate." in kept
    assert "[bold]dark[/]" in kept
    short = words(flow, "prose.jsonl:2")
    assert "dropped: it fails 1 rule" in short
    assert ">= 2" in short
    assert "16.7" in short  # the least of three numbers: half of one below it
    again = words(flow, "prose.jsonl:3")
    assert "exact_duplicate" in again
    assert "It repeats" in again
    assert "prose.jsonl:1, similarity 1.0000" in " ".join(again.split())
    assert again.count("stormy night") == 2
    assert all(len(line) <= 100 for line in (kept + short + again).splitlines())


def test_as_plain_values(flow: Flow) -> None:
    flow.make("curate")
    told = json.loads(json.dumps(explain(flow, "prose.jsonl:3").to_dict()))
    assert told["kept"] is False
    assert told["twin"]["place"]["row"] == 1
    assert told["start"] == told["twin_start"] != ""


def test_text_that_has_gone(flow: Flow) -> None:
    flow.make("curate")
    flow.root.joinpath("prose.jsonl").unlink()
    reason = explain(flow, "prose.jsonl:1")
    assert reason.answer.kept
    assert reason.start == ""


def test_what_a_text_shares_with_an_evaluation(tmp_path: Path) -> None:
    shared = "the quick brown fox jumps over the lazy dog while nobody is looking at all today"
    (tmp_path / "prose.jsonl").write_text(json.dumps({"text": f"Once {shared}, they said."}) + "\n")
    (tmp_path / "exam.jsonl").write_text(json.dumps({"text": shared}) + "\n")
    study = "sources: {prose: {path: prose.jsonl}}\ncurate: {measure: {contamination: {paths: [exam.jsonl]}}}\n"
    (tmp_path / "study.yaml").write_text(study)
    flow = Flow(read_study(tmp_path / "study.yaml"))
    flow.make("curate")
    said = " ".join(words(flow, "prose.jsonl:1").split())
    assert "contamination: shares 4 of 4 evaluation n-grams with exam.jsonl" in said
    assert "the quick brown fox" in said
