"""``design --next``: a batch with its advice in words, as JSON and as a table of runs, from the study's fit or a file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from mixwright.cli import app
from mixwright.core.errors import DataError
from mixwright.store.artifact import read_json, write_json
from mixwright.study.config import read_study
from mixwright.study.flow import Flow
from mixwright.study.proposals import propose, table

STUDY = """\
schema: mixwright/study/1
runs: {path: runs.csv}
law: {forms: [additive]}
objective: {floors: 0.05, ceilings: {web: 0.6}}
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of fourteen runs over three domains, fitted."""
    folder = tmp_path_factory.mktemp("study")
    w = np.random.default_rng(0).dirichlet(np.ones(3), 14)
    losses = 2 + 1 / (np.maximum(w, 3e-4) ** 0.5 @ np.array([[1.0, 0.2], [0.3, 1.0], [0.5, 0.4]]))
    columns = {f"weight/{name}": w[:, n] for n, name in enumerate(("web", "code", "books"))}
    frame = pl.DataFrame(
        {"run_id": [f"r{n}" for n in range(14)], "params": [1e6] * 14, "tokens": [1e9] * 14, **columns,
         "loss/a": losses[:, 0], "loss/b": losses[:, 1]}
    )  # fmt: skip
    frame.write_csv(folder / "runs.csv")
    (folder / "study.yaml").write_text(STUDY)
    Flow(read_study(folder / "study.yaml")).make("fit")
    return folder / "study.yaml"


def test_a_batch_is_printed_and_written_within_the_bounds(study: Path) -> None:
    answer = CliRunner().invoke(app, ["design", "--next", "3", "--study", str(study)], catch_exceptions=False)
    assert answer.exit_code == 0
    assert "change the decision" in answer.stdout
    assert answer.stdout.count("exploit ") + answer.stdout.count("explore ") == 3
    rows = pl.read_csv(study.parent / "next_runs.csv")
    w = rows.select("weight/web", "weight/code", "weight/books").to_numpy()
    assert w.shape == (3, 3)
    assert np.abs(w.sum(axis=1) - 1).max() < 1e-9
    assert w.min() >= 0.05 - 1e-7
    assert w[:, 0].max() <= 0.6 + 1e-7
    assert rows["run_id"].to_list() == ["next-014", "next-015", "next-016"]
    assert rows["params"].to_list() == [1e6] * 3
    written = read_json(study.parent / "next_runs.json")
    assert written["schema"] == "mixwright/next-runs/1"
    assert written["advice"]["sentence"] in answer.stdout


def test_a_fit_in_a_file_is_read_and_the_proposals_lie_beside_it(study: Path, tmp_path: Path) -> None:
    flow = Flow(read_study(study))
    write_json(tmp_path / "fit.json", flow.law_fit.to_dict())
    given = ["design", "--next", "2", "--fit", str(tmp_path / "fit.json"), "--study", str(study), "--json"]
    answer = CliRunner().invoke(app, given, catch_exceptions=False)
    said = json.loads(answer.stdout)
    own, place = propose(flow, 2)
    assert said["runs"] == own.to_dict()["runs"]
    assert (tmp_path / "next_runs.csv").read_text() == place.read_text()
    inside = flow.make("fit").path / "fit.json"
    assert propose(flow, 2, inside)[1].resolve() == (study.parent / "next_runs.csv").resolve()
    assert "best so far: " in table(own)


def test_fits_of_other_studies_and_lone_flags_are_sentences(study: Path, tmp_path: Path) -> None:
    flow = Flow(read_study(study))
    values = flow.law_fit.to_dict()
    text = json.dumps(values).replace('"web"', '"forum"')
    (tmp_path / "other.json").write_text(text)
    with pytest.raises(DataError, match="but this study over web"):
        propose(flow, 2, tmp_path / "other.json")
    with pytest.raises(DataError, match="no fit at"):
        propose(flow, 2, tmp_path / "none.json")
    lone = CliRunner().invoke(app, ["design", "--fit", "fit.json", "--study", str(study)])
    assert "say how many with --next N" in str(lone.exception)
