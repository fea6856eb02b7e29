"""What ``fit`` and ``optimize`` print: readable in 110 columns whatever the number of domains and metrics."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console, RenderableType

from mixwright.report import answers

Data = dict[str, Any]


def _text(table: RenderableType) -> str:
    console = Console(width=110, force_terminal=False)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def _score(mae: float, spearman: float | None = 0.97) -> Data:
    return {"mae": mae, "relative": mae / 4, "spearman": spearman, "coverage": 0.9}


@pytest.fixture
def answer() -> Data:
    """22 metrics and 17 domains, as a large table has them."""
    metrics, domains = [f"validation-set-{n}" for n in range(22)], [f"a_domain_of_text_{n}" for n in range(17)]
    scores = {m: _score(0.02) for m in metrics} | {"objective": _score(0.01)}
    gain = {"metric": "objective", "kind": "difference", "value": -0.05, "low": -0.08, "high": -0.02}
    price = {"kind": "floor", "name": "x", "stated": 0.1, "words": "The floor of x binds: 0.01 more room would help."}
    weights = [n / 136 for n in range(17)]
    return {
        "validation": {"scores": {"nested": scores, "mean": {"objective": _score(0.2, None)}}, "folds": 5, "repeats": 1,
                       "chosen": dict.fromkeys(metrics, "hierarchical"), "notes": []},
        "domains": domains, "metrics": metrics, "noise": {m: {"sd": 0.003} for m in metrics},
        "mixtures": {"mean": [1 / 17] * 17, "optimized": weights},
        "optimum": {"gain": gain, "ranges": {d: [0.0, 0.3] for d in domains}, "certificate": "Proven.", "notes": ["b", "Proven."],
                    "contrasts": [gain | {"reference": "uniform", "value": 0.0, "low": -0.03, "high": 0.03},
                                  gain | {"reference": "worst", "value": -3.0, "low": -4.0, "high": -2.0}],
                    "prices": [price | {"price": float(n), "words": price["words"] + f" {n}"} for n in range(7)]},
        "recipe": {"epochs": dict.fromkeys(domains, 1.5), "forecasts": [{"params": 10**9, "tokens": 10**11}]},
    }  # fmt: skip


def test_every_line_fits_and_nothing_is_cut(answer: Data) -> None:
    tables = (answers.fit_table(answer), answers.mixture_table(answer, "mean"), answers.contrast_table(answer, "mean"))
    for table in tables:
        text = _text(table)
        assert max(len(line.rstrip()) for line in text.splitlines()) <= 110
        assert "…" not in text
    assert all(metric in _text(tables[0]) for metric in answer["metrics"])
    assert all(domain in _text(tables[1]) for domain in answer["domains"])


def test_chance_and_verdict_follow_from_the_interval(answer: Data) -> None:
    text = _text(answers.contrast_table(answer, "mean"))
    lines = {line.split("  ")[0]: line for line in text.splitlines()}
    assert lines["mean"].split()[-2:] == ["%", "better"]
    assert "> 99.5 %" in lines["mean"]
    assert "50 %" in lines["uniform"]
    assert "cannot tell" in lines["uniform"]
    assert "> 99.5 %" in lines["the worst allowed"]
    assert "Use the proposed mixture: its objective is predicted −0.0500" in answers.headline(answer, "mean")
    assert "1.00 G parameters and 100 G tokens" in answers.headline(answer, "mean")
    unsure = answer | {"optimum": answer["optimum"] | {"gain": answer["optimum"]["gain"] | {"high": 0.01}}}
    assert "cannot tell the proposed mixture from mean" in answers.headline(unsure, "mean")


def test_the_dearest_limits_come_first_and_the_rest_is_counted(answer: Data) -> None:
    said = list(answers.reasons(answer))
    assert said[1].endswith(" 6")
    assert said[6] == "  and 2 more, in the report."
    assert said[7:] == ["Proven.", "b"], "the certificate is not said twice"


def test_a_weak_law_is_called_weak(answer: Data) -> None:
    assert answers.fit_verdict(answer).startswith("Good enough to choose by")
    answer["validation"]["scores"]["nested"]["objective"] = _score(0.01, 0.4)
    assert "rank correlation is below 0.8" in answers.fit_verdict(answer)
    answer["validation"]["scores"] = {}
    assert "not known" in answers.fit_verdict(answer)


def test_what_is_said_of_many_metrics_is_said_once() -> None:
    notes = [f"m{n}: fewer runs than domains." for n in range(5)] + [
        "x is missing in 1 of 4 runs: b.",
        "Another sentence.",
    ]
    notes += [
        "The best mixture lies outside: it is an extrapolation.",
        "The mean mixture lies outside: it is an extrapolation.",
    ]
    assert answers.grouped(notes, [*(f"m{n}" for n in range(5)), "x"]) == [
        "m0, m1, m2 and 2 more: fewer runs than domains.", "x is missing in 1 of 4 runs: b.", "Another sentence.", *notes[-2:],
    ]  # fmt: skip
