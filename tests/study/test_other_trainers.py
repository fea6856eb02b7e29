"""Studies whose runs are somebody else's: a published table in place of training, a program of one's own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from small_study import WORDS, documents, write_jsonl

from mixwright.core.errors import DataError, StudyError
from mixwright.core.observation import Runs
from mixwright.store.runs import write_runs
from mixwright.study.config import read_study
from mixwright.study.flow import Flow

STUDY = """\
sources:
  code: {path: data/code.jsonl}
  prose: {path: data/prose.jsonl}
  maths: {path: data/maths.jsonl}
tokenizer: {vocab: 320, held_out: 0.1}
trainer: TRAINER
proxy: {sizes: [16x1], tokens: 2560}
design: {runs: 20, repeats: 0}
law: {form: exponential, folds: 3, repeats: 1}
objective: {metrics: {"val:code": 1, "val:prose": 1, "val:maths": 1}}
budget: {tokens: 50000}
engine: {workers: 1}
verify: null
final_phase: null
"""
SLOPES = np.array([[-4.0, 0.2, 0.1], [0.1, -4.0, 0.2], [0.2, 0.1, -4.0]])


def study(folder: Path, trainer: str) -> Path:
    for seed, kind in enumerate(("code", "prose", "maths")):
        assert kind in WORDS
        write_jsonl(folder / "data" / f"{kind}.jsonl", documents(kind, 60, seed))
    (folder / "study.yaml").write_text(STUDY.replace("TRAINER", trainer))
    return folder / "study.yaml"


def table(folder: Path, domains: tuple[str, ...] = ("maths", "code", "prose")) -> None:
    """Thirty runs of an exponential law, as somebody may have published them."""
    weights = np.random.default_rng(0).dirichlet(np.ones(3), 30)
    losses = 2 + 2 * np.exp(weights @ SLOPES.T)
    write_runs(folder / "published.csv", Runs(domains, domains, tuple(f"run {n}" for n in range(30)), weights, losses))


def test_a_design_and_its_losses_come_from_the_published_table(tmp_path) -> None:
    table(tmp_path)
    flow = Flow(read_study(study(tmp_path, "{name: recorded, path: published.csv}")))
    optimized = json.loads((flow.make("optimize").path / "recipe.json").read_text())
    swept = flow.table
    assert len(swept) == 20
    assert set(swept.status) == {"done"}
    order = [("maths", "code", "prose").index(name) for name in swept.domains]
    wanted = 2 + 2 * np.exp(swept.mixtures()[:, np.argsort(order)] @ SLOPES.T)
    columns = [swept.metrics.index(f"val:{name}") for name in ("maths", "code", "prose")]
    assert np.allclose(swept.losses[:, columns], wanted, atol=1e-5)
    assert optimized["phases"][0]["weights"].values() == pytest.approx([1 / 3] * 3, abs=0.05)


def test_the_table_decides_the_design_and_so_its_key(tmp_path) -> None:
    table(tmp_path)
    file = study(tmp_path, "{name: recorded, path: published.csv}")
    before = Flow(read_study(file)).key("design")
    text = (tmp_path / "published.csv").read_text()
    (tmp_path / "published.csv").write_text(text.replace(text.splitlines()[-1] + "\n", ""))
    assert Flow(read_study(file)).key("design") != before
    table(tmp_path, ("maths", "code", "law"))
    with pytest.raises(
        DataError, match="has runs over maths, code, law; the runs that are wanted are over code, prose, maths"
    ):
        Flow(read_study(file)).key("design")


def test_a_program_is_written_in_the_study(tmp_path) -> None:
    (tmp_path / "train.py").write_text("")
    trainer = '{name: command, command: "python train.py --out {out}", names: {"val:*": "loss_*"}, retries: 1}'
    read = read_study(study(tmp_path, trainer))
    assert read.trainer.words == ("python", "train.py", "--out", "{out}")
    assert read.trainer.folder == str(tmp_path)
    assert len(read.trainer.identity()["files"]) == 1
    listed = read_study(study(tmp_path, '{name: command, command: [python, train.py, "{seed}"], time_limit: 60}'))
    assert listed.trainer.words == ("python", "train.py", "{seed}")


@pytest.mark.parametrize(
    ("trainer", "said"),
    [
        (
            '{name: command, command: "python {outt}"}',
            r"study.yaml:6: trainer.command has \{outt\}, which means nothing",
        ),
        ("{name: command}", "trainer lacks 'command'"),
        ("{name: command, command: x, unit: bits}", r"no setting 'unit' in trainer. Did you mean 'units'\?"),
        ("{name: command, command: x, units: bits}", r"trainer.units is 'bits'; it must be"),
        ("{name: recorded}", "trainer lacks 'path'"),
        ("{name: recorded, path: x.csv, tolerance: 2}", r"trainer.tolerance is 2; it must be less than or equal to 1"),
    ],
)
def test_a_wrong_setting_is_named(trainer: str, said: str, tmp_path) -> None:
    with pytest.raises(StudyError, match=said):
        read_study(study(tmp_path, trainer))
