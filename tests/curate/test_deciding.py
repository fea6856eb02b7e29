"""Rows held against rules: percentiles, ties, NaN, languages, votes; values and thresholds of failures; other rules later."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from curation_for_tests import jsonl, measured_of, run
from hypothesis import given, settings
from hypothesis import strategies as st

from mixwright.core.errors import DataError
from mixwright.curate import percentiles as room
from mixwright.curate.deciding import Resolved, redecide, resolve
from mixwright.curate.percentiles import percentiles
from mixwright.curate.rules import Bounds, Options, Overrides
from mixwright.curate.tables import SignalTable

SPECIAL = st.sampled_from([0.0, -0.0, 1.0, -1.0, 5e-324, -5e-324, 1e308, -1e308, np.nan])
NUMBERS = st.lists(
    st.one_of(st.integers(-4, 4).map(float), st.floats(allow_infinity=False, width=32), SPECIAL), max_size=30
)


@settings(max_examples=150, deadline=None)
@given(
    groups=st.lists(st.tuples(st.sampled_from("ab"), NUMBERS), max_size=6),
    percents=st.lists(st.floats(0, 100), min_size=1, max_size=4),
    gathered=st.sampled_from([0, 3, 1000]),
)
def test_percentiles_are_those_of_numpy(
    groups: list[tuple[str, list[float]]], percents: list[float], gathered: int
) -> None:
    before, room._GATHERED = room._GATHERED, gathered
    try:
        found = percentiles(lambda: ((name, np.array(values)) for name, values in groups), percents)
    finally:
        room._GATHERED = before
    for name in {name for name, _ in groups}:
        every = np.array([value for group, values in groups if group == name for value in values if value == value])
        for percent in percents:
            if not len(every):
                assert np.isnan(found[name][percent])
            else:
                wanted = np.percentile(every, percent)
                assert np.isclose(found[name][percent], wanted, rtol=1e-9, atol=1e-300)
                assert every.min() <= found[name][percent] <= every.max()


def test_percentiles_of_ties_and_infinities() -> None:
    values = np.array([1.0] * 10 + [np.inf, -np.inf])
    found = percentiles(lambda: [("a", values)], [0, 50, 75, 100])["a"]
    assert found == {0: -np.inf, 50: 1.0, 75: 1.0, 100: np.inf}


def decide(options: Options, columns: dict[str, list[float]], domain: str = "d", **more: Any) -> dict[str, list[bool]]:
    arrays = {name: np.array(values, dtype=float) for name, values in columns.items()}
    failing = Resolved(options, more).decide(arrays, domain)
    return {rule: failing.rule(rule).tolist() for rule in failing.rules}


def test_bounds_are_inclusive_and_nan_fails() -> None:
    rows = {"words": [1, 2, 5, 6, np.nan]}
    assert decide(Options(rules={"words": Bounds(2, 5)}), rows) == {"words": [True, False, False, True, True]}


def test_more_than_eight_rules() -> None:
    options = Options(keep=" and ".join(f"words > {n}" for n in range(11)))
    found = decide(options, {"words": [4.5, 20, -1]})
    assert [found[f"words > {n}"] for n in range(11)] == [[n > 4, False, True] for n in range(11)]
    failing = Resolved(options).decide({"words": np.array([4.5, 20, -1])}, "d")
    assert failing.any().tolist() == [True, False, True]
    assert failing.flags().sum(axis=1).tolist() == [1] * 5 + [2] * 6
    assert failing.counts().tolist() == [[1] * 5 + [2] * 6, [1, 0, 0, 0, 0, 1] + [0] * 5, [0] * 11]


def test_votes_count_a_missing_number_as_no_vote() -> None:
    options = Options(rules={"vote": Bounds(0.2, 0.9, columns=("digit_ratio", "alnum_ratio", "upper_ratio"))})
    rows = {"digit_ratio": [0.5, 0.5, 0.1], "alnum_ratio": [0.5, np.nan, 0.5], "upper_ratio": [0, 0, 0]}
    assert decide(options, rows) == {"vote": [False, True, True]}
    (failures,) = Resolved(options).failures({name: np.array(values, float) for name, values in rows.items()}, "d")
    assert failures.values is not None
    assert (failures.rows.tolist(), failures.values.tolist(), failures.texts) == ([1, 2], [1.0, 1.0], (">= 2",))


def test_rules_of_a_language_and_a_domain() -> None:
    languages = Options().languages_spoken
    options = Options(
        rules={"words": Bounds(5), "chars": Bounds(10)},
        domains={"code": Overrides(rules={"chars": None}, keep="digit_ratio < 1")},
        languages={"zh": Overrides(rules={"words": Bounds(2)}, keep={"zh": "chars > 100"})},
    )
    zh, en = float(languages.index("zh")), float(languages.index("en"))
    rows = {"words": [3, 3, 3], "chars": [5, 5, 5], "lang": [en, zh, -1], "digit_ratio": [0, 1, 1]}
    assert decide(options, rows) == {
        "words": [True, False, True], "chars": [True, True, True], "digit_ratio < 1": [False] * 3, "zh": [False, True, False],
    }  # fmt: skip
    assert decide(options, rows, "code") == {
        "words": [True, False, True], "chars": [False] * 3, "digit_ratio < 1": [False, True, True], "zh": [False, True, False],
    }  # fmt: skip
    arrays = {name: np.array(values, float) for name, values in rows.items()}
    told = {failures.rule: failures for failures in Resolved(options).failures(arrays, "d")}
    assert told["zh"].rows.tolist() == [1]
    assert told["zh"].texts == ("> 100",)
    assert [verdict.rule for verdict in Resolved(options).told({k: v[1:2] for k, v in arrays.items()}, "d")] == [
        "words", "chars", "zh"
    ]  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(*[st.one_of(st.integers(0, 6).map(float), st.just(np.nan))] * 2), min_size=1, max_size=12)
)
def test_failures_tell_the_number_and_the_threshold(rows: list[tuple[float, float]]) -> None:
    options = Options(rules={"words": Bounds(2, 4)}, keep={"both": "1 < chars < 5 and chars != 3"})
    columns = {"words": np.array([row[0] for row in rows]), "chars": np.array([row[1] for row in rows])}
    resolved = Resolved(options)
    failing = resolved.decide(columns, "d")
    told = {one.rule: one for one in resolved.failures(columns, "d")}
    for rule in resolved.rules:
        assert (np.flatnonzero(failing.rule(rule)).tolist()) == (told[rule].rows.tolist() if rule in told else [])
    for one in told.values():
        assert one.values is not None
        for row, value, text in zip(one.rows, one.values, one.threshold, strict=True):
            wanted = columns["words" if one.rule == "words" else "chars"][row]
            assert np.array_equal(value, wanted, equal_nan=True)
            assert not eval(f"{wanted} {one.texts[text]}", {"nan": np.nan}) or np.isnan(wanted)


def table(path: Path, **columns: Any) -> SignalTable:
    rows = len(next(iter(columns.values())))
    given = {"id": [f"{n:032x}" for n in range(rows)], "bytes": [10 * n for n in range(rows)], **columns}
    pq.write_table(pa.table(given), path)
    return SignalTable((path,), "s", "d")


def test_resolve_keeps_domains_targets_and_languages_apart(tmp_path: Path) -> None:
    one = table(tmp_path / "1", words=[1.0, 2, 3, np.nan], lang=[0.0, 0, 1, -1])
    two = table(tmp_path / "2", words=[10.0, 20, 30], lang=[1.0, 1, -1])
    goal = table(tmp_path / "3", words=[100.0], lang=[0.0])
    tables = [one, SignalTable(two.files, "t", "e"), SignalTable(goal.files, "goal", "d", target=True)]
    options = Options(keep="words >= p50 and words <= p100(words, all) and words >= p0(words, language)")
    resolved = resolve(options, tables)
    names = options.languages_spoken
    assert resolved.quantiles == {
        "p50(words, domain)": {"d": 2.0, "e": 20.0, "targets/goal": 100.0},
        "p100(words, all)": {"all": 30.0},
        "p0(words, language)": {names[0]: 1.0, names[1]: 3.0, "": 30.0},
    }
    assert Resolved.from_dict(json.loads(json.dumps(resolved.to_dict()))) == resolved
    columns = one.columns(options.columns_needed)
    assert resolved.decide(columns, "d").any().tolist() == [True, False, False, True]
    told = {one.rule: one for one in resolved.failures(columns, "d")}
    assert told["words >= p50"].texts == (">= 2 (p50)",)
    assert told["words >= p0(words, language)"].texts == (">= p0 per language",)
    goal_columns = goal.columns(options.columns_needed)
    assert resolved.decide(goal_columns, "d", target="goal").rule("words >= p50").tolist() == [False]
    assert resolved.decide(goal_columns, "d", target="goal").rule("words <= p100(words, all)").tolist() == [True]


def test_columns_of_several_files(tmp_path: Path) -> None:
    table(tmp_path / "a", words=[1, 2])
    table(tmp_path / "b", score=[0.5, 0.6])
    both = SignalTable((tmp_path / "a", tmp_path / "b"), "s", "d")
    assert {name: values.tolist() for name, values in both.columns(["score", "words"]).items()} == {
        "words": [1.0, 2.0], "score": [0.5, 0.6]
    }  # fmt: skip
    assert both.rows == 2
    with pytest.raises(DataError, match="no signal 'ppl'"):
        both.columns(["ppl"])
    table(tmp_path / "c", other=[1])
    with pytest.raises(DataError, match="not of one run"):
        _ = SignalTable((tmp_path / "a", tmp_path / "c"), "s", "d").rows
    (tmp_path / "d").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="no readable Parquet"):
        SignalTable((tmp_path / "d",), "s", "d").columns(["words"])


def test_other_rules_on_what_is_measured(tmp_path: Path) -> None:
    sources = {"a": jsonl(tmp_path / "a.jsonl", ["one two three", "one", "one two"])}
    targets = {"t": jsonl(tmp_path / "t.jsonl", ["four five six seven"])}
    _, draft = run(tmp_path, sources, targets, Options())
    found = redecide(measured_of(draft), Options(rules={"words": Bounds(2)}, keep="chars > 7 and words <= p50"))
    assert found["domains"] == {
        "a": {"documents": 3, "bytes": 23, "passing": 0, "passing_bytes": 0},
        "targets/t": {"documents": 1, "bytes": 19, "passing": 1, "passing_bytes": 19},
    }
    assert found["rules"] == {
        "words": {"failing": 1, "first": 1, "alone": 0},
        "chars > 7": {"failing": 2, "first": 1, "alone": 1},
        "words <= p50": {"failing": 1, "first": 1, "alone": 1},
    }
    with pytest.raises(DataError, match=r"no signal 'short_line_ratio'|not measured"):
        redecide(measured_of(draft), Options(keep="dt_words > 1"))
