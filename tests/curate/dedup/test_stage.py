"""From shards to what is dropped: exact by brute force, complete, the same in any order, with any memory, after any stop."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from dedup_for_tests import HERE, check_promises, found, jaccard, noted, planted, shards

from mixwright.core.errors import StudyError
from mixwright.curate.dedup import near, stage
from mixwright.curate.dedup.options import Near, Options
from mixwright.engine.local import LocalEngine
from mixwright.engine.task import Engine, Outcome, Task


def said(lines: Sequence[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """What is dropped and for what, without places."""
    return sorted((line["text"], line["rule"], line["twin"], line["similarity"]) for line in lines)


def spread(texts: Sequence[str], files: int) -> list[list[str]]:
    return [list(texts[number::files]) for number in range(files)]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("threshold", [0.7, 0.8])
def test_what_is_dropped_has_a_kept_twin_and_no_two_kept_are_twins(tmp_path: Path, seed: int, threshold: float) -> None:
    texts = planted(seed)
    counts, lines = found(tmp_path, {"a": spread(texts, 3)}, Options(near=Near(threshold=threshold)))
    check_promises(texts, lines, threshold)
    assert counts["rows"] == len(texts)
    assert len(lines) > 20
    pairs = pq.read_table(tmp_path / "dedup" / "pairs.parquet")
    distinct = set(texts)
    above = sum(jaccard(a, b) >= threshold for a, b in itertools.combinations(distinct, 2))
    assert pairs.num_rows == counts["pairs"] == above
    places = list(zip(*(pairs[name].to_pylist() for name in ("order_a", "index_a", "order_b", "index_b")), strict=True))
    assert places == sorted(places)


def test_order_of_files_and_rows_changes_nothing(tmp_path: Path) -> None:
    texts = planted(7)
    options = Options(near=True)
    first = found(tmp_path / "1", {"a": spread(texts, 2)}, options)[1]
    second = found(tmp_path / "2", {"a": spread(texts[::-1], 5)}, options)[1]
    ranked = [line for line in said(first) if line[1] == "near_duplicate"]
    assert ranked == [line for line in said(second) if line[1] == "near_duplicate"]
    assert said(first) == said(second)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.parquet")}


def test_workers_and_memory_change_no_byte(tmp_path: Path) -> None:
    options, texts = Options(near=True), planted(3)
    parts = shards(tmp_path / "texts", {"a": spread(texts, 3), "b": spread(planted(4), 2)})
    notes = [noted(shard, tmp_path / "noted", options) for shard in parts]
    left = []
    for name, engine, memory in (
        ("1", HERE, 1 << 30),
        ("2", LocalEngine(2, "threads"), 1),
        ("3", LocalEngine(2), 1 << 30),
    ):
        stage.find_pairs(notes, tmp_path / name, options, engine=engine, memory=memory)
        left.append(files(tmp_path / name))
    assert left[0] == left[1] == left[2]
    assert "pairs.parquet" in left[0]


def test_small_memory_means_many_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near, "_ENTRY", 1 << 15)
    monkeypatch.setattr(near, "_PAIR", 1 << 22)
    texts = planted(5)
    _, lines = found(tmp_path, {"a": spread(texts, 3)}, Options(near=True), memory=1 << 22)
    check_promises(texts, lines, 0.8)
    assert len(list((tmp_path / "dedup" / "candidates").glob("*.npy"))) > 10
    assert len(list((tmp_path / "dedup" / "verified").glob("*.npz"))) == 3


class Stopping(Engine):
    """Stops after some tasks."""

    def __init__(self, left: int) -> None:
        self.left, self.done = left, 0

    @property
    def slots(self) -> int:
        return 1

    def session(self, on_progress: Any = None) -> Any:
        raise NotImplementedError

    def run(self, tasks: Sequence[Task], on_progress: Any = None) -> Any:
        for task in tasks:
            if self.done == self.left:
                raise KeyboardInterrupt
            self.done += 1
            yield Outcome(task, task.call(lambda *_, **__: None))


def test_stopped_anywhere_it_goes_on_and_leaves_the_same(tmp_path: Path) -> None:
    options = Options(near=True)
    parts = shards(tmp_path / "texts", {"a": spread(planted(6), 3)})
    notes = [noted(shard, tmp_path / "noted", options) for shard in parts]
    whole = Stopping(1000)
    stage.find_pairs(notes, tmp_path / "whole", options, engine=whole)
    steps = 0
    for _ in range(100):
        one = Stopping(1)
        try:
            stage.find_pairs(notes, tmp_path / "stopped", options, engine=one)
        except KeyboardInterrupt:
            steps += one.done
        else:
            steps += one.done
            break
    assert steps == whole.done == 6
    assert files(tmp_path / "stopped") == files(tmp_path / "whole")


def test_other_options_begin_anew(tmp_path: Path) -> None:
    texts = {"a": spread(planted(8), 2)}
    more = found(tmp_path, texts, Options(near=Near(threshold=0.6)))[0]
    less = found(tmp_path, texts, Options(near=Near(threshold=0.9)))[0]
    assert less["pairs"] < more["pairs"]


def test_a_higher_threshold_is_decided_from_the_pairs_there_are(tmp_path: Path) -> None:
    texts = planted(9)
    parts = shards(tmp_path / "texts", {"a": [texts]})
    notes = [noted(parts[0], tmp_path / "noted", Options(near=True))]
    stage.find_pairs(notes, tmp_path / "dedup", Options(near=Near(threshold=0.6)), engine=HERE)
    mask = [np.ones(len(texts), dtype=bool)]
    table = stage.dropped(tmp_path / "dedup", mask, Options(near=Near(threshold=0.85)))
    again = found(tmp_path / "again", {"a": [texts]}, Options(near=Near(threshold=0.85)))[1]
    assert table["index"].to_pylist() == [line["index"] for line in again]


def test_a_row_that_fails_keeps_none_from_being_kept(tmp_path: Path) -> None:
    long = " ".join(f"w{n}" for n in range(50))
    short = " ".join(f"w{n}" for n in range(48))
    _, lines = found(tmp_path / "1", {"a": [[short, long]]}, Options(near=True))
    assert [(line["text"], line["twin"]) for line in lines] == [(short, long)]
    _, lines = found(tmp_path / "2", {"a": [[short, long]]}, Options(near=True), failing=[long])
    assert lines == []


def test_a_chain_loses_only_what_has_a_kept_twin(tmp_path: Path) -> None:
    chain = [" ".join(f"w{n}" for n in range(start, start + 60 - start // 6)) for start in (0, 6, 12)]
    assert [jaccard(chain[0], chain[1]) >= 0.7, jaccard(chain[1], chain[2]) >= 0.7] == [True, True]
    assert jaccard(chain[0], chain[2]) < 0.7
    _, lines = found(tmp_path, {"a": [chain]}, Options(near=Near(threshold=0.7)))
    assert [line["text"] for line in lines] == [chain[1]]
    assert lines[0]["twin"] in (chain[0], chain[2])


def test_the_source_named_first_survives(tmp_path: Path) -> None:
    long, short = " ".join(f"w{n}" for n in range(50)), " ".join(f"w{n}" for n in range(48))
    sources = {"a": [[long, "the same thing"]], "b": [[short, "the same thing"]]}
    _, lines = found(tmp_path / "1", sources, Options(near=True))
    assert [line["order"] for line in lines] == [1, 1]
    _, lines = found(tmp_path / "2", sources, Options(near=True, priority=("b",)))
    assert [line["order"] for line in lines] == [0, 0]
    _, lines = found(tmp_path / "3", {"a": [[short, long]]}, Options(near=True, prefer="first"))
    assert [line["text"] for line in lines] == [long]
    with pytest.raises(StudyError, match=r"dedup\.priority names 'c', which is no source; there are: a, b"):
        found(tmp_path / "4", sources, Options(near=True, priority=("c",)))


def test_texts_without_words_are_no_near_duplicates(tmp_path: Path) -> None:
    _, lines = found(tmp_path, {"a": [["", "!!!", "...", "", "?", "one", "one!", "One"]]}, Options(near=True))
    assert said(lines) == [
        ("", "exact_duplicate", "", 1.0),
        ("One", "near_duplicate", "one!", 1.0),
        ("one", "near_duplicate", "one!", 1.0),
    ]


def test_scripts_without_spaces_are_compared_by_characters(tmp_path: Path) -> None:
    text = "".join(chr(0x4E00 + (n * 37) % 500) for n in range(120))
    _, lines = found(tmp_path, {"a": [[text, text[:-6], text[60:]]]}, Options(near=True))
    assert said(lines) == [(text[:-6], "near_duplicate", text, jaccard(text, text[:-6]))]


@pytest.mark.parametrize("near", [True, False])
def test_equal_texts_are_dropped_once(tmp_path: Path, near: bool) -> None:
    same = "five words and one more here"
    _, lines = found(tmp_path, {"a": [[same, "else", same], [same]]}, Options(near=near))
    assert [line["rule"] for line in lines] == ["exact_duplicate"] * 2
    _, lines = found(tmp_path / "off", {"a": [[same, "else", same], [same]]}, Options(exact=False, near=near))
    assert [line["rule"] for line in lines] == ["near_duplicate"] * 2 * near


def test_a_copy_of_a_near_duplicate_names_what_is_kept(tmp_path: Path) -> None:
    long, short = " ".join(f"w{n}" for n in range(50)), " ".join(f"w{n}" for n in range(48))
    _, lines = found(tmp_path, {"a": [[short, long, short]]}, Options(near=True))
    assert [(line["index"], line["rule"], line["twin"]) for line in lines] == [
        (0, "near_duplicate", long), (2, "near_duplicate", long),
    ]  # fmt: skip
    assert len({line["cluster"] for line in lines}) == 1


def test_a_template_is_compared_with_its_best_ranked_texts(tmp_path: Path) -> None:
    head = " ".join(f"w{n}" for n in range(100))
    texts = [f"{head} {'x' * (n % 7 + 1)}{n}" for n in range(60)]
    few = Near(representatives=4)
    counts, lines = found(tmp_path / "1", {"a": spread(texts, 3)}, Options(near=few))
    assert counts["largest"] == 60
    assert counts["capped"] > 0
    assert counts["candidates"] < 60 * 59 / 2
    assert len(lines) == 59
    other = found(tmp_path / "2", {"a": spread(texts[::-1], 2)}, Options(near=few))
    assert other[0] == counts
    assert said(other[1]) == said(lines)


def test_nothing_at_all(tmp_path: Path) -> None:
    counts, lines = found(tmp_path, {"a": [[], []]}, Options(near=True))
    assert (counts["rows"], counts["pairs"], lines) == (0, 0, [])
