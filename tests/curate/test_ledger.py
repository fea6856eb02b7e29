"""The ledger's lines and the account of what was dropped: everything that fails stands there, and accounts add up."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixwright.core.document import document_id
from mixwright.curate.accounting import Account, check_balance, samples_wanted, told_duplicates
from mixwright.curate.ledger import (
    Failures,
    Twins,
    dropped_rows,
    duplicates,
    ledger_table,
    line_schema,
    unreadable_table,
)  # fmt: skip
from mixwright.store.documents import Unreadable

RULES = ("unreadable", "words", "chars", "exact_duplicate", "near_duplicate")
ROW = st.tuples(st.sets(st.sampled_from(RULES[1:])), st.integers(0, 5000))


def rows_of(count: int) -> pa.Table:
    ids = [f"{(n * 7919) % 1009:032x}" for n in range(count)]
    return pa.table({"id": ids, "path": ["a.jsonl"] * count, "row": np.arange(1, count + 1), "bytes": [1] * count})


def failures_of(failed: list[set[str]]) -> list[Failures]:
    found = []
    for number, rule in enumerate(RULES[1:], 1):
        rows = np.array([at for at, rules in enumerate(failed) if rule in rules], dtype=np.int64)
        texts = np.arange(len(rows), dtype=np.int32) % 2
        values = None if rule == "exact_duplicate" else rows + number / 10
        found.append(Failures(rule, rows, values, (f">= {rule}", f"<= {rule}"), texts))
    return found


@settings(max_examples=60, deadline=None)
@given(st.lists(ROW, max_size=25))
def test_every_failure_stands_in_the_ledger(given_rows: list[tuple[set[str], int]]) -> None:
    failed = [rules for rules, _ in given_rows]
    failures = failures_of(failed)
    table = ledger_table(rows_of(len(failed)), failures, source="s", domain="d")
    assert table.schema == line_schema()
    lines = table.to_pylist()
    assert [line["row"] - 1 for line in lines] == [at for at, rules in enumerate(failed) if rules]
    thresholds = {(one.rule, int(row)): one.texts[text] for one in failures
                  for row, text in zip(one.rows, one.threshold, strict=True)}  # fmt: skip
    for line in lines:
        at = line["row"] - 1
        named = [rule for rule in RULES if rule in failed[at]]
        assert line["rules"] == named
        assert line["values"] == [None if rule == "exact_duplicate" else at + RULES.index(rule) / 10 for rule in named]
        assert line["thresholds"] == [thresholds[rule, at] for rule in named]
        assert (line["source"], line["domain"], line["path"], line["duplicate_of"]) == ("s", "d", "a.jsonl", None)
        assert line["id"] == f"{(at * 7919) % 1009:032x}"


def test_a_number_that_is_missing_is_not_a_rule_without_a_number() -> None:
    failures = [
        Failures.of("words", np.array([0]), np.array([np.nan]), ">= 3"),
        Failures.of("exact_duplicate", np.array([0])),
    ]
    table = ledger_table(rows_of(1), failures, source="s", domain="d", details={0: "read this"})
    values = table["values"].combine_chunks().flatten()
    assert values.is_null().to_pylist() == [False, True]
    assert np.isnan(values[0].as_py())
    assert table["detail"].to_pylist() == ["read this"]


def test_duplicates_name_their_twins() -> None:
    dropped = pa.table({
        "index": [1, 3], "rule": ["near_duplicate", "exact_duplicate"], "kept": ["a" * 32, "b" * 32],
        "cluster": ["c" * 32, "d" * 32], "similarity": pa.array([0.875, None]),
    })  # fmt: skip
    failures, twins = duplicates(dropped, {"exact_duplicate": "", "near_duplicate": "< 0.8"})
    assert [(one.rule, one.rows.tolist()) for one in failures] == [("exact_duplicate", [3]), ("near_duplicate", [1])]
    words = Failures.of("words", np.array([0, 3]), np.array([1.0, 2.0]), ">= 3")
    lines = ledger_table(rows_of(4), [words, *failures], source="s", domain="d", twins=twins).to_pylist()
    assert [line["rules"] for line in lines] == [["words"], ["near_duplicate"], ["words", "exact_duplicate"]]
    assert [line["values"] for line in lines] == [[1.0], [0.875], [2.0, None]]
    assert [line["duplicate_of"] for line in lines] == [None, "a" * 32, "b" * 32]
    assert [line["cluster"] for line in lines] == [None, "c" * 32, "d" * 32]
    assert [line["similarity"] for line in lines] == [None, 0.875, None]
    assert isinstance(twins, Twins)


def test_unreadable_rows_have_lines() -> None:
    (line,) = unreadable_table([Unreadable("b.jsonl", 4, "not JSON", "{")], source="s", domain="d").to_pylist()
    assert line["id"] == document_id("s", "b.jsonl", 3)
    assert (line["rules"], line["values"], line["thresholds"]) == (["unreadable"], [None], [""])
    assert (line["row"], line["detail"]) == (4, "not JSON")
    assert unreadable_table([], source="s", domain="d").schema == line_schema()


def test_nothing_dropped() -> None:
    assert not len(dropped_rows([]))
    assert ledger_table(rows_of(3), [], source="s", domain="d").num_rows == 0


@settings(max_examples=60, deadline=None)
@given(st.lists(ROW, max_size=25), st.integers(0, 3))
def test_the_account_counts_what_failed(given_rows: list[tuple[set[str], int]], unreadable: int) -> None:
    failed, sizes = [rules for rules, _ in given_rows], np.array([size for _, size in given_rows], dtype=np.int64)
    account = Account.of_shard(RULES, "s", "d", sizes, failures_of(failed), unreadable)
    tally = account.sources["s"]
    kept = [size for (rules, size) in given_rows if not rules]
    assert tally.read.tolist() == [len(failed) + unreadable, sizes.sum()]
    assert tally.kept.tolist() == [len(kept), sum(kept)]
    first = [next((rule for rule in RULES if rule in rules), "kept") for rules in failed]
    for number, rule in enumerate(RULES):
        extra = unreadable if rule == "unreadable" else 0
        assert tally.failing[number] == sum(rule in rules for rules in failed) + extra
        assert tally.alone[number] == sum(rules == {rule} for rules in failed) + extra
        assert tally.first[number] == first.count(rule) + extra
        assert tally.first_bytes[number] == sum(size for name, size in zip(first, sizes, strict=True) if name == rule)
        for other, name in enumerate(RULES):
            assert tally.overlap[number, other] == sum({rule, name} <= rules for rules in failed)
    stages = account.stages("s")
    assert stages[0]["entering"]["documents"] == len(failed) + unreadable
    assert stages[-1]["entering"]["documents"] == len(kept)
    for before, after in itertools.pairwise(stages):
        assert after["entering"]["documents"] == before["entering"]["documents"] - before["dropped"]["documents"]
        assert after["entering"]["bytes"] == before["entering"]["bytes"] - before["dropped"]["bytes"]
    if kept:
        middle = sorted(kept)[(len(kept) - 1) // 2]
        assert abs(stages[-1]["entering"]["median_bytes"] - middle) <= max(1, 0.07 * middle)
    else:
        assert stages[-1]["entering"]["median_bytes"] is None
    check_balance(
        account, {"s": len(failed) + unreadable}, {"s": len(kept)}, {"s": len(failed) + unreadable - len(kept)}
    )


@settings(max_examples=30, deadline=None)
@given(st.lists(ROW, min_size=2, max_size=20), st.integers(1, 19))
def test_accounts_add_up(given_rows: list[tuple[set[str], int]], cut: int) -> None:
    def account(rows: list[tuple[set[str], int]]) -> Account:
        sizes = np.array([size for _, size in rows], dtype=np.int64)
        made = Account.of_shard(RULES, "s", "d", sizes, failures_of([rules for rules, _ in rows]))
        return Account.from_dict(json.loads(json.dumps(made.to_dict())))

    parts = [account(given_rows[:cut]), account(given_rows[cut:])]
    one, other = Account(RULES), Account(RULES)
    for part in parts:
        one.add(part)
    for part in reversed(parts):
        other.add(part)
    assert one.to_dict() == other.to_dict() == account(given_rows).to_dict()
    with pytest.raises(AssertionError, match="other rules"):
        one.add(Account(RULES[:3]))


def test_samples_are_those_of_the_smallest_ids() -> None:
    rows = rows_of(40)
    failures = [Failures.of("words", np.arange(40)), Failures.of("chars", np.array([3, 5]))]
    wanted = samples_wanted(failures, rows["id"].combine_chunks())
    ids = rows["id"].to_pylist()
    assert sorted(ids[at] for at in wanted["words"]) == sorted(ids)[:3]
    assert sorted(wanted["chars"]) == [3, 5]
    lines = [{"id": ids[at], "start": "x" * 500} for at in range(40)]
    one, other = Account(RULES), Account(RULES)
    one.show("words", lines)
    for line in reversed(lines):
        other.show("words", [line])
    assert one.samples == other.samples
    assert [line["id"] for line in one.told_samples()] == sorted(ids)[:3]
    assert all(len(line["start"]) == 120 for line in one.told_samples())


@pytest.mark.parametrize(
    ("read", "kept", "lines", "figure"),
    [(3, 1, 1, "rows read"), (2, 2, 1, "documents kept"), (2, 1, 0, "lines in the ledger")],
)
def test_a_ledger_that_does_not_balance_is_refused(read: int, kept: int, lines: int, figure: str) -> None:
    account = Account.of_shard(RULES, "s", "d", np.array([5, 6]), failures_of([{"words"}, set()]))
    check_balance(account, {"s": 2}, {"s": 1}, {"s": 1})
    with pytest.raises(AssertionError, match=f"does not balance: s: {figure}"):
        check_balance(account, {"s": read}, {"s": kept}, {"s": lines})
    account.sources["s"].first[1] += 1
    with pytest.raises(AssertionError, match="does not balance"):
        check_balance(account, {"s": 2}, {"s": 1}, {"s": 1})
    with pytest.raises(AssertionError, match="t: rows read"):
        check_balance(Account(RULES), {"t": 2}, {}, {})


def test_duplicates_in_numbers() -> None:
    kinds = ["exact_duplicate"] * 2 + ["near_duplicate"] * 4
    table = pa.table({
        "rule": kinds, "cluster": ["a", "a", "a", "b", "c", "c"], "similarity": pa.array([1.0, None, 0.8, 0.95, 1.0, 0.84]),
    })  # fmt: skip
    told = told_duplicates(table)
    assert told["dropped"] == {"exact_duplicate": 2, "near_duplicate": 4}
    assert (told["clusters"], told["sizes"]) == (3, [[1, 1], [2, 1], [4, 1]])
    near = told["similarity"]["near_duplicate"]
    assert (near[16], near[19], sum(near)) == (2, 2, 4)
    empty = told_duplicates(table.slice(0, 0))
    assert empty == {"dropped": {}, "clusters": 0, "sizes": [], "similarity": {}}
