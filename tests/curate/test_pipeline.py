"""Curation as a whole: what is kept, what the ledger says, and that nothing is lost or done twice."""

import importlib
import itertools
import json
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from curation_for_tests import HERE, Counting, Processes, Stopping, both, hashes, jsonl, measured_of, run
from hypothesis import given, settings
from hypothesis import strategies as st

from mixwright.core.document import COLUMNS, document_id, text_hash
from mixwright.core.errors import DataError, StudyError
from mixwright.curate.dedup.options import Exact
from mixwright.curate.dedup.options import Options as DedupOptions
from mixwright.curate.pipeline import Bounds, Options, decide_and_write, estimate, measuring_key
from mixwright.engine.local import LocalEngine
from mixwright.store.artifact import Workspace
from mixwright.store.documents import SourceOptions

Small = tuple[Path, dict[str, SourceOptions], dict[str, SourceOptions]]
RULES = Options(rules={"words": Bounds(3, None), "chars": Bounds(2, 1000)})


def rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file, or of the files of a folder in order; of one that is missing none."""
    return pq.read_table(path, partitioning=None).to_pylist() if path.exists() else []


def test_what_is_kept_and_why_the_rest_went(small: Small) -> None:
    base, sources, targets = small
    summary, draft = run(base, sources, targets, RULES)
    zoo, arks = rows(draft.path / "documents/zoo"), rows(draft.path / "documents/arks")
    assert [row["text"][:15] for row in zoo] == [
        "word0 word1 wor", "a short one", "the cat sat on ", "an animal story", "another animal ",
    ]  # fmt: skip
    assert [row["source"] for row in zoo] == ["zoo"] * 3 + ["more"] * 2
    assert [row["text"] for row in arks] == ["two by two they came"]
    assert tuple(zoo[0]) == COLUMNS
    assert zoo[0]["id"] == document_id("zoo", "zoo.jsonl", 0)
    goal = rows(draft.path / "targets/goal")
    assert [row["text"] for row in goal] == ["something else entirely"]

    ledger = {(row["source"], row["row"]): row for row in rows(draft.path / "ledger")}
    assert {place: row["rules"] for place, row in ledger.items()} == {
        ("arks", 5): ["unreadable"], ("arks", 6): ["unreadable"],
        ("zoo", 4): ["exact_duplicate"], ("arks", 1): ["exact_duplicate"], ("arks", 4): ["exact_duplicate"],
        ("arks", 3): ["words", "chars"],
        ("goal", 2): ["shares_13gram"], ("goal", 3): ["exact_duplicate"],
    }  # fmt: skip
    assert ledger["arks", 1]["duplicate_of"] == document_id("zoo", "zoo.jsonl", 2)
    assert ledger["goal", 3]["duplicate_of"] == document_id("arks", "arks.jsonl", 1)
    assert ledger["arks", 3]["values"] == [1.0, 1.0]
    assert ledger["arks", 3]["thresholds"] == [">= 3", ">= 2"]
    assert ledger["arks", 6]["detail"] == "the object has no field 'text'; it has 'body'"
    assert ledger["goal", 2]["values"] == [1.0]
    assert ledger["goal", 2]["detail"].endswith(" ".join(f"word{n}" for n in range(3, 16)))

    assert summary == json.loads((draft.path / "summary.json").read_text())
    assert summary["order"] == ["zoo", "arks", "more", "goal"]
    assert summary["domains"] == ["zoo", "arks"]
    assert summary["sources"]["arks"]["read"]["documents"] == 6
    assert summary["sources"]["arks"]["dropped"]["words"] == summary["sources"]["arks"]["dropped"]["chars"] == 1
    assert summary["first_dropped"]["arks"] == {
        "unreadable": 2, "words": 1, "chars": 0, "shares_13gram": 0, "exact_duplicate": 2
    }  # fmt: skip
    assert summary["sources"]["zoo"]["licence"] == "CC0-1.0"
    assert [rule["rule"] for rule in summary["rules"]] == [
        "unreadable", "words", "chars", "shares_13gram", "exact_duplicate"
    ]  # fmt: skip
    assert {key: summary["rules"][1][key] for key in ("rule", "signal", "min", "max")} == {
        "rule": "words", "signal": "words", "min": 3, "max": None
    }  # fmt: skip
    samples = {(row["source"], row["row"]): row["start"] for row in summary["samples"]}
    assert samples["arks", 5] == "not json"
    assert samples["arks", 3] == "x"
    measured = rows(measured_of(draft) / "signals/arks")
    assert len(measured) == 4
    assert measured[2]["words"] == 1


def test_the_first_declared_source_keeps(small: Small) -> None:
    base, sources, targets = small
    backwards = dict(reversed(sources.items()))
    _, draft = run(base, backwards, targets, RULES)
    texts = [row["text"] for row in rows(draft.path / "documents/arks")]
    assert "the cat sat on the mat" in texts
    assert len(texts) == 3


def test_without_dedup(small: Small) -> None:
    base, sources, targets = small
    summary, _ = run(base, sources, targets, Options(dedup=DedupOptions(exact=False)))
    assert summary["sources"]["zoo"]["kept"]["documents"] == 4
    assert summary["targets"]["goal"]["dropped"]["exact_duplicate"] == 0


def test_a_target_may_share_words_with_dropped_text(small: Small) -> None:
    base, sources, targets = small
    only_short = Options(rules={"chars": Bounds(max=100)})
    summary, _ = run(base, sources, targets, only_short)
    assert summary["targets"]["goal"]["dropped"]["shares_13gram"] == 0


@settings(max_examples=25, deadline=None)
@given(
    texts=st.lists(st.lists(st.text(alphabet="ab \n1", max_size=12), max_size=8), min_size=2, max_size=3),
    target=st.lists(st.text(alphabet="ab \n1", max_size=12), max_size=8),
    rules=st.dictionaries(
        st.sampled_from(["chars", "words", "digit_ratio", "longest_line"]),
        st.tuples(st.integers(0, 3), st.integers(3, 8)).map(lambda b: Bounds(*b)),
    ),
    dedup=st.booleans(),
)
def test_in_is_kept_and_dropped(
    tmp_path_factory: pytest.TempPathFactory,
    texts: list[list[str]],
    target: list[str],
    rules: dict[str, Bounds],
    dedup: bool,
) -> None:
    base = tmp_path_factory.mktemp("case")
    sources = {f"s{n}": jsonl(base / f"s{n}.jsonl", part) for n, part in enumerate(texts)}
    targets = {"t": jsonl(base / "t.jsonl", target)}
    options = Options(rules=rules, dedup=DedupOptions(exact=dedup), target_ngram=2)
    summary, draft = run(base, sources, targets, options)
    kept = {name: rows(draft.path / f"documents/{name}") for name in sources}
    kept["t"] = rows(draft.path / "targets/t")
    ledger = rows(draft.path / "ledger")
    given_texts = {**{f"s{n}": part for n, part in enumerate(texts)}, "t": target}
    ids = {row["id"] for part in kept.values() for row in part}
    for name, part in given_texts.items():
        dropped = [row for row in ledger if row["source"] == name]
        told = summary["targets" if name == "t" else "sources"][name]
        assert told["read"]["documents"] == len(part) == len(kept[name]) + len(dropped)
        assert told["kept"]["documents"] == len(kept[name])
        assert Counter(rule for row in dropped for rule in row["rules"]) == Counter(
            {rule: count for rule, count in told["dropped"].items() if count}
        )
        assert sum(summary["first_dropped"][name].values()) == len(dropped)
        by_row = {row["row"]: row for row in dropped}
        for number, text in enumerate(part, 1):
            failing = [
                n for n in ("chars", "words", "digit_ratio", "longest_line") if n in rules and breaks(n, rules[n], text)
            ]
            line = by_row.get(number)
            assert set(failing) == {rule for rule in (line["rules"] if line else []) if rule in rules}
            if line and "exact_duplicate" in line["rules"]:
                assert dedup
                assert line["duplicate_of"] in ids
                assert line["rules"] == ["exact_duplicate"]
    if dedup:
        every = [row["text"] for part in kept.values() for row in part]
        assert len(every) == len(set(every))
    grams = {pair for name in sources for row in kept[name] for pair in pairs(row["text"])}
    assert all(not grams & pairs(row["text"]) for row in kept["t"])
    shared = {row["row"] for row in ledger if row["source"] == "t" and "shares_2gram" in row["rules"]}
    assert shared == {number for number, text in enumerate(target, 1) if grams & pairs(text)}
    shutil.rmtree(base)


def pairs(text: str) -> set[tuple[str, str]]:
    words = re.findall(r"\w+", text.lower())
    return set(itertools.pairwise(words))


def breaks(name: str, bounds: Bounds, text: str) -> bool:
    value = {
        "chars": len(text),
        "words": len(re.findall(r"\w+", text)),
        "digit_ratio": sum(map(str.isdecimal, text)) / len(text) if text else 0.0,
        "longest_line": max(map(len, text.split("\n"))),
    }[name]
    assert isinstance(bounds.min, int | float)
    assert isinstance(bounds.max, int | float)
    return not bounds.min <= value <= bounds.max


TASKS = [
    *("goal/00000", "zoo/00000", "arks/00000", "more/00000"),
    *("write zoo/00000", "write arks/00000", "write more/00000", "write goal/00000"),
]


@pytest.mark.parametrize("finished", range(len(TASKS)))
def test_interrupted_between_shards(small: Small, finished: int) -> None:
    base, sources, targets = small
    _, whole = run(base, sources, targets, RULES, work="whole")
    with pytest.raises(KeyboardInterrupt):
        run(base, sources, targets, RULES, engine=Stopping(finished))
    engine = Counting()
    _, draft = run(base, sources, targets, RULES, engine=engine)
    assert engine.names == TASKS[finished:]
    assert both(draft) == both(whole)


@pytest.mark.parametrize(
    ("module", "file", "left"),
    [
        ("measuring", "shards/arks/00000.json", TASKS[2:]),
        ("pipeline", "measured.json", TASKS[4:]),
        ("writing", "written/00001.json", TASKS[5:]),
        ("pipeline", "summary.json", []),
    ],
)
def test_interrupted_before_what_comes_last(
    small: Small, module: str, file: str, left: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything of a shard is written but its marker, or everything but the summary."""
    base, sources, targets = small
    _, whole = run(base, sources, targets, RULES, work="whole")
    room = importlib.import_module(f"mixwright.curate.{module}")
    name = "write_atomic" if module == "writing" else "write_json"
    real = getattr(room, name)

    def stop(path: Path, value: Any) -> None:
        if path.as_posix().endswith(file):
            raise KeyboardInterrupt
        real(path, value)

    monkeypatch.setattr(room, name, stop)
    with pytest.raises(KeyboardInterrupt):
        run(base, sources, targets, RULES, engine=Counting())
    monkeypatch.undo()
    engine = Counting()
    _, draft = run(base, sources, targets, RULES, engine=engine)
    assert engine.names == left
    assert both(draft) == both(whole)


def test_same_bytes_with_two_threads_and_two_processes(small: Small) -> None:
    base, sources, targets = small
    _, one = run(base, sources, targets, RULES, work="one")
    _, two = run(base, sources, targets, RULES, work="two", engine=LocalEngine(2))
    assert both(one) == both(two)
    _, apart = run(base, sources, targets, RULES, work="apart", engine=Processes(2))
    assert both(one) == both(apart)
    assert not any(name.startswith(".") for name in both(one))


def test_sealed_without_the_work_folder(small: Small) -> None:
    base, sources, targets = small
    _, draft = run(base, sources, targets, RULES)
    sealed = draft.seal(settings={}, inputs={})
    assert sorted(sealed.manifest["files"]) == [
        "documents/arks/00001.parquet", "documents/zoo/00000.parquet", "documents/zoo/00002.parquet",
        "ledger/00000.parquet", "ledger/00001.parquet", "ledger/00003.parquet", "summary.json",
        "targets/goal/00003.parquet",
    ]  # fmt: skip


def test_other_thresholds_measure_nothing_again(small: Small) -> None:
    base, sources, targets = small
    _, draft = run(base, sources, targets, RULES)
    engine = Counting()
    again = Workspace(base / "work").draft("curate", "other")
    other = Options(rules={"words": Bounds(4, None)})
    assert measuring_key(other) == measuring_key(RULES)
    assert measuring_key(Options(target_ngram=5)) != measuring_key(RULES)
    summary = decide_and_write(measured_of(draft), sources, targets, other, base=base, draft=again, engine=engine)
    assert all(name.startswith("write ") for name in engine.names)
    assert summary["sources"]["zoo"]["dropped"]["words"] == 1
    fresh, whole = run(base, sources, targets, other, work="fresh")
    assert summary == fresh
    assert hashes(again.path) == hashes(whole.path)


def test_a_source_of_unreadable_rows_only(tmp_path: Path) -> None:
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe")
    good = jsonl(tmp_path / "good.jsonl", ["fine"])
    summary, draft = run(tmp_path, {"bad": SourceOptions("bad.txt"), "good": good}, {}, Options())
    assert summary["sources"]["bad"]["kept"] == {"documents": 0, "bytes": 0}
    assert summary["sources"]["bad"]["dropped"]["unreadable"] == 1
    assert rows(draft.path / "documents/bad") == []


def test_progress_names_the_sources(small: Small) -> None:
    from mixwright.curate.pipeline import curate
    from mixwright.store.artifact import Workspace

    base, sources, targets = small
    heard: list[tuple[str, float]] = []
    curate(
        sources, targets, RULES, base=base, draft=Workspace(base / "w").draft("curate", "k"), engine=HERE,
        on_progress=lambda name, fraction, facts: heard.append((name, fraction)),
    )  # fmt: skip
    compiling = "compiling kernels (once on a machine)"
    assert {name for name, _ in heard} == {*sources, *targets, compiling, "dedup", "decide"}
    assert heard[0] == (compiling, 0.0)
    assert {(name, 1.0) for name, _ in heard} <= set(heard)


def test_wrong_settings() -> None:
    with pytest.raises(StudyError, match=r"No signal measures 'wrods'.* Did you mean 'words'\?"):
        Options(rules={"wrods": Bounds(1)})
    with pytest.raises(StudyError, match=r"min must not be above its max; got 3\.0 and 2\.0"):
        Bounds(3, 2)
    with pytest.raises(StudyError, match="needs a finite min"):
        Bounds()
    with pytest.raises(StudyError, match="needs a finite min"):
        Bounds(float("nan"))


@pytest.mark.parametrize(
    ("sources", "targets", "sentence"),
    [
        ({}, {}, "There is no source"),
        ({"a": SourceOptions("x")}, {"a": SourceOptions("x")}, "both a source and a target"),
        ({".a": SourceOptions("x")}, {}, "cannot name a source"),
        ({"a": SourceOptions("x", domain="b/c")}, {}, "'b/c' cannot name"),
    ],
)
def test_wrong_names(tmp_path: Path, sources: dict[str, Any], targets: dict[str, Any], sentence: str) -> None:
    with pytest.raises(StudyError, match=sentence):
        run(tmp_path, sources, targets, Options())


def test_a_missing_source(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no file or folder"):
        run(tmp_path, {"a": SourceOptions("nowhere")}, {}, Options())


def test_options_survive_json() -> None:
    options = Options(
        rules={"words": Bounds(1, 5.5), "chars": Bounds(max=3)}, dedup=DedupOptions(exact=False), target_ngram=8
    )
    again = Options.from_dict(json.loads(json.dumps(options.to_dict())))
    assert again == options
    assert list(again.rules) == ["words", "chars"]


@pytest.mark.parametrize("count", [500, pytest.param(10_000, marks=pytest.mark.long)])
def test_many_files_are_few_shards(tmp_path: Path, count: int) -> None:
    folder = tmp_path / "many files"
    folder.mkdir()
    for number in range(count):
        (folder / f"{number % 100} of {number}\n.txt").write_text(f"text number {number}")
    engine = Counting()
    summary, draft = run(tmp_path, {"many": SourceOptions("many files")}, {}, Options(), engine=engine)
    assert engine.names == ["many/00000", "write many/00000"]
    assert summary["sources"]["many"]["kept"]["documents"] == summary["sources"]["many"]["files"] == count
    kept = rows(draft.path / "documents/many")
    assert len({row["id"] for row in kept}) == count
    assert kept[0]["id"] == document_id("many", "0 of 0\n.txt", 0)


def test_lines_of_a_file_that_is_cut_keep_their_numbers(tmp_path: Path) -> None:
    texts = [f"text {number} " + "x" * (number % 90) for number in range(400)]
    given = {"s": jsonl(tmp_path / "s.jsonl", texts)}
    engine = Counting()
    _, whole = run(tmp_path, given, {}, Options(rules={"chars": Bounds(30)}), work="whole")
    _, cut = run(tmp_path, given, {}, Options(rules={"chars": Bounds(30)}, shard="3kB"), work="cut", engine=engine)
    assert len(engine.names) > 10
    for part in ("documents/s", "ledger"):
        one, many = rows(whole.path / part), rows(cut.path / part)
        assert one == many
    assert [row["row"] for row in rows(cut.path / "ledger")] == [n for n, text in enumerate(texts, 1) if len(text) < 30]


def test_instruction_rows_keep_both_halves(tmp_path: Path) -> None:
    lines = [{"q": "What is it?", "hint": "short", "a": f"It is {n}, write to a{n}@example.org."} for n in range(3)]
    (tmp_path / "qa.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    given = {"qa": SourceOptions("qa.jsonl", prompt=("q", "hint"), response="a")}
    _, draft = run(tmp_path, given, {}, Options(rewrite={"mask": {}}))
    kept = rows(draft.path / "documents/qa")
    assert [tuple(row)[-2:] for row in kept] == [("prompt", "response")] * 3
    assert [row["prompt"] for row in kept] == ["What is it?\nshort"] * 3
    assert [row["response"] for row in kept] == [f"It is {n}, write to <email>." for n in range(3)]
    assert [row["text"] for row in kept] == [f"{row['prompt']}\n{row['response']}" for row in kept]
    assert [row["mask_emails"] for row in rows(measured_of(draft) / "signals/qa")] == [1, 1, 1]


def test_what_an_earlier_run_kept_is_dropped(tmp_path: Path) -> None:
    first = {"old": jsonl(tmp_path / "old.jsonl", ["a text that is there", "another one of these"])}
    _, earlier = run(tmp_path, first, {}, Options(), work="first")
    second = {"new": jsonl(tmp_path / "new.jsonl", ["a text that is there", "a new text"])}
    options = Options(dedup=DedupOptions(against=(str(earlier.path),)))
    summary, draft = run(tmp_path, second, {}, options, work="second")
    assert [row["text"] for row in rows(draft.path / "documents/new")] == ["a new text"]
    line = rows(draft.path / "ledger")[0]
    assert line["rules"] == ["earlier_run"]
    assert line["duplicate_of"] == document_id("old", "old.jsonl", 0)
    assert summary["sources"]["new"]["dropped"]["earlier_run"] == 1


def test_duplicates_by_a_field(tmp_path: Path) -> None:
    lines = [{"text": f"text {n}", "url": f"u{n % 2}"} for n in range(4)]
    (tmp_path / "s.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    options = Options(dedup=DedupOptions(exact=Exact("url"), prefer="first"))
    _, draft = run(tmp_path, {"s": SourceOptions("s.jsonl")}, {}, options)
    assert [row["text"] for row in rows(draft.path / "documents/s")] == ["text 0", "text 1"]


def test_workers_that_memory_has_room_for() -> None:
    from mixwright.curate.pipeline import _engine

    assert _engine(LocalEngine(8), Options()) == LocalEngine(8, "threads")
    assert _engine(LocalEngine(8), Options(memory="1.5GB")) == LocalEngine(7, "threads")
    assert _engine(LocalEngine(8), Options(memory="2GB")) == LocalEngine(8, "threads")
    assert _engine(LocalEngine(8), Options(memory="10MB")) == LocalEngine(1, "threads")
    assert _engine(HERE, Options()) == HERE


def test_a_file_that_changes_in_between_is_told(tmp_path: Path) -> None:
    given = {"s": jsonl(tmp_path / "s.jsonl", ["one", "two", "three"])}
    _, draft = run(tmp_path, given, {}, Options())
    (tmp_path / "s.jsonl").write_text('{"text": "one"}\n')
    again = Workspace(tmp_path / "work").draft("curate", "again")
    with pytest.raises(DataError, match="s/00000: other rows are read than were measured"):
        decide_and_write(measured_of(draft), given, {}, Options(), base=tmp_path, draft=again, engine=HERE)


def test_costs_are_known_before(small: Small) -> None:
    base, sources, targets = small
    assert set(estimate(sources, targets, RULES, base)) == {*sources, *targets}
    model = Options(measure={"perplexity": {"model": "folder"}})
    assert estimate(sources, targets, model, base)["zoo"] > 100 * estimate(sources, targets, RULES, base)["zoo"]


def test_runs_of_words_of_many_documents_are_cut(tmp_path: Path) -> None:
    footer = " ".join(f"word{n}" for n in range(50))
    texts = [f"page{n} of{n} its{n} own. {footer}. The{n} end" for n in range(3)] + [footer]
    given = {"s": jsonl(tmp_path / "s.jsonl", texts)}
    targets = {"goal": jsonl(tmp_path / "goal.jsonl", [f"a goal {footer}"])}
    options = Options(dedup=DedupOptions(substring=True, prefer="first"), target_ngram=51)
    summary, draft = run(tmp_path, given, targets, options)
    kept = rows(draft.path / "documents/s")
    assert [row["text"] for row in kept] == [texts[0], "page1 of1 its1 The1 end", "page2 of2 its2 The2 end"]
    assert [row["text_hash"] for row in kept] == [text_hash(row["text"]) for row in kept]
    assert [row["text"] for row in rows(draft.path / "targets/goal")] == [f"a goal {footer}"]
    assert [(row["row"], row["rules"]) for row in rows(draft.path / "ledger")] == [(4, ["duplicate_substring"])]
    assert summary["substrings_cut"]["s"] == {"documents": 2, "characters": 2 * len(f"own. {footer}. ")}


def test_lines_of_many_documents_are_cut(tmp_path: Path) -> None:
    footer = "This is the footer that stands under each page of the site."
    texts = [f"page {n} has words of its own\n{footer}" for n in range(4)] + [footer]
    given = {"s": jsonl(tmp_path / "s.jsonl", texts), "qa": SourceOptions("qa.jsonl", prompt=("q",), response="a")}
    (tmp_path / "qa.jsonl").write_text(json.dumps({"q": "What?", "a": footer}) + "\n")
    targets = {"goal": jsonl(tmp_path / "goal.jsonl", [f"a goal\n{footer}"])}
    options = Options(dedup=DedupOptions(lines=True, prefer="first"), target_ngram=50)
    summary, draft = run(tmp_path, given, targets, options)
    kept = rows(draft.path / "documents/s")
    assert [row["text"].count(footer) for row in kept] == [1, 0, 0, 0]
    assert [row["text_hash"] for row in kept] == [text_hash(row["text"]) for row in kept]
    assert [row["text"] for row in rows(draft.path / "documents/qa")] == [f"What?\n{footer}"]
    assert [row["text"] for row in rows(draft.path / "targets/goal")] == [f"a goal\n{footer}"]
    assert [(row["row"], row["rules"]) for row in rows(draft.path / "ledger")] == [(5, ["duplicate_lines"])]
    assert summary["lines_cut"]["s"]["documents"] == 3
    assert summary["lines_cut"]["qa"] == summary["lines_cut"]["goal"] == {"documents": 0, "characters": 0}


def test_small_files_are_measured_together_as_if_each_were_alone(tmp_path: Path) -> None:
    """Ids, paths, rows and every column, those of rewriting too, are those of shards of a file each."""
    for number in range(8):
        text = f"Text {number} is short, and has {number} words or so. Write to one{number}@two.org. " * 20
        jsonl(tmp_path / f"in/{number}.jsonl", [text, "\n" + text[: 100 * number], ""])
    (tmp_path / "in/5.jsonl").write_text("no JSON\n")
    found = []
    for shard in ("64MB", "1kB"):
        options = Options(shard=shard, rewrite={"mask": {}}, dedup=DedupOptions(exact=True, near=True))
        _, draft = run(tmp_path, {"s": SourceOptions("in")}, {}, options, work=shard)
        places = [measured_of(draft) / part for part in ("signals", "unreadable")]
        shards = sorted((measured_of(draft) / "signals/s").glob("*"))
        assert (len(shards) == 1) == (shard == "64MB")
        found.append([str(pq.read_table(place, partitioning=None).to_pylist()) for place in places])
        read = pq.read_table(places[0], partitioning=None, columns=["path", "row"]).to_pylist()
        assert [(one["path"], one["row"]) for one in read] == [
            (f"{number}.jsonl", row) for number in range(8) if number != 5 for row in (1, 2, 3)
        ]
    assert found[0] == found[1]


@pytest.mark.parametrize(("size", "groups"), [(1 << 20, [8]), (300, [3, 3, 2]), (1, [1] * 8)])
def test_batches_that_are_measured_together(tmp_path: Path, size: int, groups: list[int]) -> None:
    from mixwright.curate.measuring import texts_of, together
    from mixwright.curate.pipeline import Plan

    for number in range(8):
        jsonl(tmp_path / f"in/{number}.jsonl", [f"text {number} " * 10])
    (shard,) = Plan.of({"s": SourceOptions("in")}, {}, Options(), tmp_path).shards
    made = list(together(shard.counted_batches(), size))
    assert [len(group) for group in made] == groups
    joined = [text for group in made for text in texts_of([batch for batch, _ in group])]
    assert joined == [f"text {number} " * 10 for number in range(8)]
