"""The language of keep: against Python's own evaluation, its errors and their places, percentiles, names."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixwright.core.errors import StudyError
from mixwright.curate.expressions import (
    DEEPEST,
    LONGEST,
    Labelled,
    Number,
    Quantile,
    Vocabulary,
    bound,
    columns_of,
    holds,
    links,
    number_of,
    parse,
    quantiles_of,
    said,
)

KNOWN = Vocabulary(
    frozenset({"chars", "words", "ppl", "lang", "lang_score", "one.ifd", "two.ifd", "odd-name"}), {"lang": ("en", "zh")}
)
NAMES = ("chars", "words", "ppl")
VALUES = st.one_of(st.integers(-3, 3).map(float), st.floats(-4, 4), st.sampled_from([math.inf, -math.inf, 0.0, -0.0]))


def numbers(depth: int) -> st.SearchStrategy[str]:
    leaf = st.one_of(
        st.sampled_from(NAMES), st.integers(0, 5).map(str), st.sampled_from(["0.5", "2.", ".25", "1e1", "1_0"])
    )
    if not depth:
        return leaf
    inner = numbers(depth - 1)
    return st.one_of(
        leaf,
        st.tuples(inner, st.sampled_from(["+", "-", "*"]), inner).map(lambda t: f"{t[0]} {t[1]} {t[2]}"),
        inner.map(lambda t: f"({t})"),
        inner.map(lambda t: f"-{t}"),
        inner.map(lambda t: f"+ {t}"),
        truths(depth - 1).map(lambda t: f"({t})"),
    )


def truths(depth: int) -> st.SearchStrategy[str]:
    signs = st.sampled_from(["<", "<=", ">", ">=", "==", "!="])
    inner = numbers(depth)
    leaf = st.one_of(
        st.tuples(inner, signs, inner).map(lambda t: f"{t[0]} {t[1]} {t[2]}"),
        st.tuples(inner, signs, inner, signs, inner).map(lambda t: " ".join(t)),
    )
    if not depth:
        return leaf
    below = truths(depth - 1)
    return st.one_of(
        leaf,
        st.tuples(below, st.sampled_from(["and", "or"]), below).map(lambda t: f"{t[0]} {t[1]} {t[2]}"),
        below.map(lambda t: f"not {t}"),
        below.map(lambda t: f"({t})"),
    )


@settings(max_examples=400, deadline=None)
@given(text=truths(3), rows=st.lists(st.tuples(VALUES, VALUES, VALUES), min_size=1, max_size=4))
def test_as_python_evaluates_it(text: str, rows: list[tuple[float, float, float]]) -> None:
    node = parse(text, KNOWN)
    columns = {name: np.array(values) for name, values in zip(NAMES, zip(*rows, strict=True), strict=True)}
    with np.errstate(all="ignore"):
        found = np.broadcast_to(holds(node, columns), len(rows))
    for at, row in enumerate(rows):
        names = dict(zip(NAMES, row, strict=True))
        wanted = eval(text, {"__builtins__": {}}, names)
        if not _meets_nan(node, {name: np.array([value]) for name, value in names.items()}):
            assert bool(found[at]) == bool(wanted), (text, row)


def _meets_nan(node: object, columns: dict[str, np.ndarray]) -> bool:
    """Whether an infinity less an infinity, or times 0, comes up: there Python's != says true."""
    with np.errstate(all="ignore"):
        parts = [part for part in node.all() if type(part).__name__ in ("Arithmetic", "Column")]
        return any(np.isnan(number_of(part, columns)).any() for part in parts)


@given(text=truths(2))
def test_what_is_said_means_the_same(text: str) -> None:
    node = parse(text, KNOWN)
    assert parse(said(node), KNOWN) == node


@given(text=truths(2), rows=st.lists(st.tuples(VALUES, VALUES, VALUES), min_size=1, max_size=3))
def test_a_rule_fails_where_a_link_fails(text: str, rows: list[tuple[float, float, float]]) -> None:
    node = parse(text, KNOWN)
    columns = {name: np.array(values) for name, values in zip(NAMES, zip(*rows, strict=True), strict=True)}
    with np.errstate(all="ignore"):
        every = np.all([np.broadcast_to(holds(link.keep, columns), len(rows)) for link in links(node)], axis=0)
        assert (every == np.broadcast_to(holds(node, columns), len(rows))).all()


@pytest.mark.parametrize("sign", ["<", "<=", ">", ">=", "==", "!="])
def test_nan_fails_every_comparison(sign: str) -> None:
    columns = {"ppl": np.array([np.nan, 1.0])}
    assert not holds(parse(f"ppl {sign} 1", KNOWN), columns)[0]
    assert not holds(parse(f"1 {sign} ppl", KNOWN), columns)[0]
    assert not holds(parse(f"ppl {sign} ppl", KNOWN), columns)[0]


def test_missing_is_asked_for() -> None:
    columns = {"ppl": np.array([np.nan, 1.0, 9.0])}
    assert holds(parse("is_missing(ppl) or ppl < 5", KNOWN), columns).tolist() == [True, True, False]
    assert holds(parse("not is_missing(ppl * 2)", KNOWN), columns).tolist() == [False, True, True]


def test_a_vote_is_a_sum() -> None:
    node = parse("(0.2 <= one.ifd <= 0.9) + (0.2 <= two.ifd <= 0.9) + (lang_score > .5) >= 2", KNOWN)
    columns = {
        "one.ifd": np.array([0.5, 0.5, np.nan]),
        "two.ifd": np.array([0.5, 1.0, 0.5]),
        "lang_score": np.array([0.0, 0.6, 0.4]),
    }
    assert holds(node, columns).tolist() == [True, True, False]
    assert columns_of(node) == ("one.ifd", "two.ifd", "lang_score")
    (link,) = links(node)
    assert number_of(link.value, columns).tolist() == [2, 2, 1]
    assert link.threshold == ">= 2"


def test_languages_by_name() -> None:
    codes = {"lang": np.array([0.0, 1.0, -1.0, np.nan])}
    assert holds(parse('lang == "zh"', KNOWN), codes).tolist() == [False, True, False, False]
    assert holds(parse("lang != 'zh'", KNOWN), codes).tolist() == [True, False, True, False]
    assert holds(parse('lang in ("en", "zh")', KNOWN), codes).tolist() == [True, True, False, False]
    assert isinstance(parse('lang in ("en")', KNOWN), Labelled)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("ppl between p25 and p75 per domain", [(25, "ppl", "domain"), (75, "ppl", "domain")]),
        ("p5 <= ppl <= p99.5(ppl, all)", [(5, "ppl", "domain"), (99.5, "ppl", "all")]),
        ("ppl * 2 > p50 per language", [(50, "ppl", "language")]),
        ("ppl > p50(words)", [(50, "words", "domain")]),
        ("`odd-name` < p10", [(10, "odd-name", "domain")]),
    ],
)
def test_percentiles(text: str, wanted: list[tuple[float, str, str]]) -> None:
    node = parse(text, KNOWN)
    assert [(one.percent, one.column, one.scope) for one in quantiles_of(node)] == wanted
    filled = bound(node, lambda found: Number(found.percent, text=f"p{found.percent:g}"))
    assert not quantiles_of(filled)
    assert not any(isinstance(part, Quantile) for part in filled.all())


def test_between_two_percentiles() -> None:
    node = bound(parse("ppl between p25 and p75 per domain", KNOWN), lambda found: Number(found.percent, text="p"))
    assert holds(node, {"ppl": np.array([24.9, 25, 75, 75.1, np.nan])}).tolist() == [False, True, True, False, False]
    assert [link.threshold for link in links(node)] == [">= 25 (p)", "<= 75 (p)"]


@pytest.mark.parametrize(
    ("text", "place", "sentence"),
    [
        ("lang_scor > 1", 1, "no signal measures 'lang_scor'; did you mean 'lang_score'?"),
        ("words > 1 and wrds > 2", 15, "did you mean 'words'?"),
        ("chars", 1, "a number stands where a comparison must"),
        ("chars > 1 and words", 15, "a number stands where a comparison must"),
        ("not chars", 5, "a number stands where a comparison must"),
        ("chars >", 8, "the end stands where a number or a column must"),
        ("chars > 3 chars", 11, "'chars' stands where 'and', 'or' or the end must"),
        ("len(chars) > 1", 1, "there is no function 'len'"),
        ("chars.__class__ > 1", 1, "no signal measures 'chars.__class__'"),
        ("chars[0] > 1", 6, "is no number, name or sign"),
        ("20chars > 1", 1, "is no number, name or sign"),
        ("chars = 2", 7, "is no number, name or sign"),
        ("lambda: 1", 7, "is no number, name or sign"),
        ("(chars > 1", 11, "the end stands where ')' must"),
        ('lang == "zhh"', 9, "lang is never 'zhh'; did you mean 'zh'?"),
        ('chars == "zh"', 10, "names in quotes are for columns of names: lang"),
        ('lang < "zh"', 8, "only be compared by == or !="),
        ("chars > p25 + ppl", 9, "p25 is of which column?"),
        ("p101(chars) > 1", 1, "p101 is above the 100th percentile"),
        ("chars > p5 per planet", 16, "'planet' stands where one of domain, language, all must"),
        ("chars > p5(chars, page)", 19, "'page' stands where one of domain, language, all must"),
        ("is_missing(p5) or chars > 1", 12, "a quantile is never missing"),
        ("chars > 1e999", 9, "too large a number"),
        ("and > 1", 1, "'and' stands where a number or a column must"),
        ("", 1, "the end stands where"),
    ],
)
def test_errors_say_where(text: str, place: int, sentence: str) -> None:
    with pytest.raises(StudyError) as error:
        parse(text, KNOWN, "domains.code.keep")
    assert f"domains.code.keep: {text!r}, at character {place}: " in str(error.value)
    assert sentence in str(error.value)


@pytest.mark.parametrize(
    "text",
    ["(" * 300, "not " * 300 + "chars > 1", "- " * 200 + "1 > 0", "1" + " + 1" * LONGEST + " > 0", "(" * DEEPEST + "("],
)
def test_no_expression_is_too_much(text: str) -> None:
    with pytest.raises(StudyError):
        parse(text, KNOWN)


def test_the_longest_expression_is_evaluated() -> None:
    node = parse("1" + " + 1" * (LONGEST // 2 - 3) + " > chars", KNOWN)
    assert holds(node, {"chars": np.array([0.0, 1000.0])}).tolist() == [True, False]


@given(st.text(alphabet="chars wod<>=!()+-*/.\"'`5p1,_and not", max_size=40))
def test_any_text_parses_or_is_refused(text: str) -> None:
    try:
        node = parse(text, KNOWN)
    except StudyError:
        return
    filled = bound(node, lambda _: Number(1.0))
    np.broadcast_to(holds(filled, {name: np.zeros(2) for name in KNOWN.columns}), 2)
