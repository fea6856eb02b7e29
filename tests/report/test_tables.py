from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from made_up_study import report_data
from rich.console import Console, RenderableType

from mixwright.report import tables

Data = dict[str, Any]
ALL: dict[str, Callable[[Data], RenderableType]] = {
    name: getattr(tables, name) for name in dir(tables) if name.endswith("_table") and not name.startswith("_")
}


def _text(table: RenderableType, width: int = 100) -> str:
    console = Console(width=width, record=True, file=None, force_terminal=False, quiet=False)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


@pytest.mark.parametrize("name", sorted(ALL))
def test_fits_100_columns_and_cuts_no_number(data: Data, name: str) -> None:
    text = _text(ALL[name](data))
    assert max(len(line) for line in text.splitlines()) <= 100
    numbers = [line for line in text.splitlines() if "…" in line]
    assert not numbers or name == "sources_table"


@pytest.mark.parametrize("name", sorted(ALL))
def test_a_missing_section_says_so(name: str) -> None:
    assert _text(ALL[name]({"schema": "mixwright/report/1"})).startswith("No ")


@pytest.mark.parametrize("name", sorted(ALL))
def test_many_rows_are_summed_up_and_nothing_overflows(name: str) -> None:
    text = _text(ALL[name](report_data(60, 58)))
    assert max(len(line) for line in text.splitlines()) <= 100
    if name not in ("ledger_table", "verify_table"):
        assert "; all are in the report" in " ".join(text.split())


@pytest.mark.parametrize("name", sorted(ALL))
def test_names_are_text_not_markup(name: str) -> None:
    hostile = report_data(names=("[bold]x[/bold]", "[/]", "[red]", "a[link=http://x]b", "[[y]]"))
    text = _text(ALL[name](hostile), width=200)
    if name in ("sources_table", "corpus_table", "recipe_table"):
        for domain in hostile["domains"]:
            assert domain in text


def test_every_difference_has_its_noise_beside_it(data: Data) -> None:
    text = _text(tables.verify_table(data))
    assert "−0.233 (−0.244 to −0.222)     58×" in text
    assert "noise 0.0040" in " ".join(text.split())
    assert "+0.437   73×" in _text(tables.off_target_table(data))
    assert "8.9×      0.0060" in _text(tables.final_phase_table(data))


def test_the_ledger_says_when_it_does_not_add_up(data: Data) -> None:
    assert "read 32,288 = kept 22,327 + dropped 9,961" in _text(tables.ledger_table(data))
    source = {**data["sources"][0], "first_dropped": {}}
    broken = {**data, "sources": [source, *data["sources"][1:]]}
    assert "do not trust" in _text(tables.ledger_table(broken))


def test_a_failed_run_stands_with_its_reason(data: Data) -> None:
    assert "design-03 failed: the loss became NaN at step 212 of 600" in _text(tables.runs_table(data))


def test_epochs_are_unknown_without_supplies(data: Data) -> None:
    recipe = {**data["recipe"], "epochs": {}, "supply": {}}
    assert "unknown" in _text(tables.recipe_table({**data, "recipe": recipe}))
