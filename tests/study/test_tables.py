"""A study that starts from tables of runs: their settings, older tables with what changed, and flags that write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from mixwright.cli import app
from mixwright.core.errors import DataError, StudyError
from mixwright.study.config import read_study
from mixwright.study.flow import Flow


def saved(path: Path, domains: tuple[str, ...], count: int, seed: int, **names: str) -> None:
    draw = np.random.default_rng(seed)
    weights = draw.dirichlet(np.ones(len(domains)), count)
    losses = 2 + np.exp(-weights[:, :2]) + 0.01 * draw.normal(size=(count, 2))
    frame = pl.DataFrame(
        {
            "run_id": [f"r{n}" for n in range(count)],
            "step": [10] * count,
            **{f"weight/{domain}": weights[:, n] for n, domain in enumerate(domains)},
            "loss/m": losses[:, 0],
            "loss/val:code": losses[:, 1],
        }
    )
    frame.rename(names).write_csv(path)


STUDY = """\
schema: mixwright/study/1
runs:
  path: new.csv
  columns: {run_id: experiment}
  own: {m: [web, hq]}
  units: {m: nats/token}
  tokens_per_step: 512
  older:
    - path: old.csv
      tokens_per_step: 512
      changes: {revised: {code: code}, added: [hq]}
law: {forms: [additive]}
"""


@pytest.fixture
def study(tmp_path: Path) -> Path:
    saved(tmp_path / "new.csv", ("web", "code", "hq"), 6, 1, run_id="experiment")
    saved(tmp_path / "old.csv", ("web", "code"), 12, 2)
    (tmp_path / "study.yaml").write_text(STUDY)
    return tmp_path / "study.yaml"


def test_older_tables_are_fitted_with_the_new_one(study: Path) -> None:
    flow = Flow(read_study(study))
    assert flow.table.domains == ("web", "code", "hq")
    assert len(flow.table) == 18
    assert flow.fitted_on.domains == ("web", "code", "hq", "code (before)")
    assert flow.fitted_on.related == {"code": "code (before)"}
    assert flow.fitted_on.own == {"m": ("web", "hq"), "val:code": ("code", "code (before)")}
    assert set(flow.table.tokens) == {5120}
    np.testing.assert_allclose(flow.table.mixtures().sum(axis=1), 1)
    assert flow.table.mixtures()[6:, 1].min() > 0, "the earlier version's weight is shown under the name of today"
    flow.make("fit")
    assert flow.law_fit.domains == ("web", "code", "hq")
    assert flow.law_fit.swept.shape[1] == 3
    notes = flow.make("fit").json("validation.json")["notes"]
    assert "Taken as added, with no weight in older table 1: hq." in notes


def test_an_older_table_that_changes_makes_another_fit(study: Path) -> None:
    before = Flow(read_study(study)).key("fit")
    saved(study.parent / "old.csv", ("web", "code"), 12, 3)
    assert Flow(read_study(study)).key("fit") != before
    (study.parent / "old.csv").unlink()
    with pytest.raises(DataError, match=r"no table of runs at .*old\.csv"):
        Flow(read_study(study)).key("fit")


@pytest.mark.parametrize(
    ("old", "new", "error", "words"),
    [
        (
            "tokens_per_step: 512\n  older",
            "tokens_per_setp: 512\n  older",
            StudyError,
            "study.yaml:7: .*'tokens_per_step'",
        ),
        (
            "added: [hq]",
            "aded: [hq]",
            StudyError,
            r"study.yaml:11: .*'aded' in runs.older.0.changes. Did you mean 'added'",
        ),
        (
            "added: [hq]",
            "removed: [cod]",
            DataError,
            "domain 'cod', which the older runs do not have. Did you mean 'code'",
        ),
        ("    - path", "    - paht", StudyError, r"study.yaml:9: .*'paht' in runs.older.0. Did you mean 'path'"),
        ("{m: [web, hq]}", "{m: [web, qh]}", DataError, "domain 'qh', which the table does not have"),
        (
            "{m: nats/token}",
            "{n: nats/token}",
            DataError,
            "'n' is no metric of the table. Did you mean 'm'|'n' is no metric",
        ),
        ("experiment}", "experimant}", DataError, "'experimant' is no column of new.csv. Did you mean 'experiment'"),
        ("split", "split", StudyError, "must sum to one; they sum to 0.8"),
    ],
)
def test_slips_are_named(study: Path, old: str, new: str, error: type[Exception], words: str) -> None:
    text = (
        STUDY.replace(old, new) if old != "split" else STUDY.replace("added: [hq]", "split: {web: {web: 0.5, hq: 0.3}}")
    )
    study.write_text(text)
    with pytest.raises(error, match=words):
        assert Flow(read_study(study)).table


def test_flags_are_written_into_the_study_and_may_be_given_again(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(study.parent)
    flags = [
        "fit", "--runs", "new.csv", "--study", "other.yaml", "--column", "run_id=experiment", "--own", "m=web", "--own", "m=hq",
        "--own", "val:code=code", "--tokens-per-step", "512", "--units", "perplexity",
    ]  # fmt: skip
    for _ in range(2):
        assert CliRunner().invoke(app, flags, catch_exceptions=False).exit_code == 0
    table = read_study(Path("other.yaml")).runs
    assert table is not None
    assert table.own == {"m": ("web", "hq"), "val:code": ("code",)}
    assert table.columns == {"run_id": "experiment"}
    assert (table.tokens_per_step, table.units, table.step) == (512.0, "perplexity", None)
    with pytest.raises(StudyError, match=r"other\.yaml already says which runs to fit"):
        CliRunner().invoke(app, [*flags, "--step", "10"], catch_exceptions=False)
    with pytest.raises(StudyError, match="--own is written NAME=VALUE; got 'm'"):
        CliRunner().invoke(app, ["fit", "--runs", "new.csv", "--own", "m"], catch_exceptions=False)
