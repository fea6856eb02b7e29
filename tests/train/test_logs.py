"""Logs of runs, read back with the tools' own readers."""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path

import pytest

from mixwright.core.errors import missing_extra
from mixwright.core.mixture import Mixture
from mixwright.core.run import ModelSize, Run
from mixwright.core.schedule import Phase, Schedule
from mixwright.engine.local import LocalEngine
from mixwright.store.artifact import Workspace
from mixwright.train import logs
from mixwright.train.logs import RunLogs
from mixwright.train.metric_files import read_rows
from mixwright.train.sweep import Finished, sweep
from mixwright.train.trainers.toy import Toy

pytest.importorskip("tensorboard")
pytest.importorskip("mlflow")

FACTS = {"loss": 3.0, "lr": 0.01, "tokens_per_second": 1e4}


@pytest.fixture
def finished(tmp_path: Path) -> list[Finished]:
    """Three toy runs: one phase, two phases, one that diverges."""
    first, second = Mixture.of({"a": 0.25, "b": 0.75}), Mixture.of({"a": 0.5, "b": 0.5})
    size, one = ModelSize(16, 1), Schedule.constant(first, 51_200)
    runs = [
        Run("one", one, size, 0), Run("two", Schedule((Phase(25_600, first), Phase(25_600, second))), size, 1),
        Run("bad", one, size, 2),
    ]  # fmt: skip
    toy = Toy(nan_seeds=(2,), trajectory_evals=4, targets=("x",))
    return sweep(runs, toy, workspace=Workspace(tmp_path / "work"), corpus=None, engine=LocalEngine(1, "threads"))


@pytest.fixture(autouse=True)
def at_once(monkeypatch) -> None:
    monkeypatch.setattr(logs, "_EVERY", 0.0)


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    return {
        tag: [(e.step, round(e.value, 5)) for e in accumulator.Scalars(tag)] for tag in accumulator.Tags()["scalars"]
    }


def hparams(folder: Path) -> tuple[dict[str, object], int]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import metadata

    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    content = accumulator.PluginTagToContent(metadata.PLUGIN_NAME)
    begun = metadata.parse_session_start_info_plugin_data(content[metadata.SESSION_START_INFO_TAG])
    ended = metadata.parse_session_end_info_plugin_data(content[metadata.SESSION_END_INFO_TAG])
    return {key: getattr(value, value.WhichOneof("kind")) for key, value in begun.hparams.items()}, ended.status


def mlflow_runs(folder: Path) -> dict[str, object]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=folder.as_uri())
    experiment = client.get_experiment_by_name("mixwright")
    return {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}


def test_runs_are_in_both_tools_several_at_once(finished, tmp_path) -> None:
    with RunLogs(tmp_path / "logs", tensorboard=True, mlflow=True) as both:
        for step in (10, 20):
            for name in ("one", "two"):
                both.progress(name, step / 100, FACTS | {"step": step, "loss": 3 - step / 100, "seconds_left": 1})
        for one in finished:
            both.done(one)
    losses = finished[0].observation.losses
    seen = scalars(tmp_path / "logs" / "tensorboard" / "one")
    assert seen["train/loss"] == [(10, 2.9), (20, 2.8)]
    assert seen["train/lr"] == [(10, 0.01), (20, 0.01)]
    assert [step for step, _ in seen["loss/target:x"]] == [25, 50, 75, 100]
    assert {n: seen[f"loss/{n}"][-1] for n in losses} == {n: (100, round(v, 5)) for n, v in losses.items()}
    assert set(seen) >= {f"bpb/{name}" for name in losses}
    told, status = hparams(tmp_path / "logs" / "tensorboard" / "two")
    assert (told["weight/a"], told["weight@2/a"], told["size"], told["tokens@2"]) == (0.25, 0.5, "16x1", 25_600)
    assert status == 1
    assert hparams(tmp_path / "logs" / "tensorboard" / "bad")[1] == 2

    runs = mlflow_runs(tmp_path / "logs" / "mlflow")
    assert {name: run.info.status for name, run in runs.items()} == {
        "one": "FINISHED",
        "two": "FINISHED",
        "bad": "FAILED",
    }
    assert runs["one"].data.metrics["loss/val:a"] == losses["val:a"]
    assert runs["two"].data.params["weight_2/b"] == "0.5"
    assert "loss is nan" in runs["bad"].data.tags["reason"]
    rows = read_rows(tmp_path, f"logs/mlflow/*/{runs['one'].info.run_id}")
    assert [(row.step, row.values["train/loss"]) for row in rows if "train/loss" in row.values] == [
        (10, 2.9),
        (20, 2.8),
    ]


def events(folder: Path) -> int:
    return sum(1 for _ in folder.rglob("events.*"))


def test_a_run_that_is_only_found_again_is_not_logged_again(finished, tmp_path) -> None:
    for _ in range(2):
        with RunLogs(tmp_path / "logs", tensorboard=True, mlflow=False) as board:
            for one in finished:
                board.progress(one.run.run_id, 1.0, {"status": "done"})
                board.done(one)
    assert events(tmp_path / "logs") == 3
    with RunLogs(tmp_path / "logs", tensorboard=True, mlflow=True) as both:  # asked for later: it gets them all
        for one in finished:
            both.done(one)
    assert set(mlflow_runs(tmp_path / "logs" / "mlflow")) == {"one", "two", "bad"}


def test_an_interrupted_run_goes_on_in_its_log_and_a_new_training_gets_its_own(finished, tmp_path) -> None:
    folder = tmp_path / "logs"
    with RunLogs(folder, tensorboard=True, mlflow=True) as first:
        for step in (10, 20, 30):
            first.progress("one", step / 100, FACTS | {"step": step})
    time.sleep(1.1)  # event files are told apart, and ordered, by the second of their making
    with RunLogs(folder, tensorboard=True, mlflow=True) as second:
        second.progress("one", 0.3, FACTS | {"step": 25, "loss": 2.0})
        second.done(finished[0])
    assert scalars(folder / "tensorboard" / "one")["train/loss"] == [(10, 3.0), (20, 3.0), (25, 2.0)]
    assert set(mlflow_runs(folder / "mlflow")) == {"one"}
    with RunLogs(folder, tensorboard=True, mlflow=True) as third:
        third.progress("one", 0.1, FACTS | {"step": 5})
    assert scalars(folder / "tensorboard" / "one@2")["train/loss"] == [(5, 3.0)]
    assert set(mlflow_runs(folder / "mlflow")) == {"one", "one@2"}


def test_points_come_at_most_once_a_second_and_only_with_steps(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(logs, "_EVERY", math.inf)
    with RunLogs(tmp_path, tensorboard=True, mlflow=False) as board:
        board.progress("one", 0.1, {"loss": 1.0})
        for step in range(1, 6):
            board.progress("one", 0.1, FACTS | {"step": step})
    assert scalars(tmp_path / "tensorboard" / "one")["train/loss"] == [(1, 3.0)]


def test_a_run_nobody_heard_of_has_its_training_losses_from_its_facts(corpus, make_run, tmp_path) -> None:
    from mixwright.train.trainers.builtin import Builtin

    trainer = Builtin(seq_len=16, batch=2, eval_tokens=64, trajectory_evals=0)
    found = sweep(
        [make_run()], trainer, workspace=Workspace(tmp_path), corpus=corpus, engine=LocalEngine(1, "threads")
    )[0]
    with RunLogs(tmp_path / "logs", tensorboard=True, mlflow=False) as board:
        board.done(found)
    seen = scalars(tmp_path / "logs" / "tensorboard" / "run")["train/loss"]
    assert seen == [(step, round(loss, 5)) for step, loss in found.artifact.json("facts.json")["train_losses"]]


@pytest.mark.parametrize("package", ["tensorboard", "mlflow"])
def test_a_package_that_is_missing_is_named_with_its_extra(package: str, tmp_path, monkeypatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModuleNotFoundError) as caught:
        RunLogs(tmp_path, tensorboard=package == "tensorboard", mlflow=package == "mlflow")
    assert "pip install 'mixwright[logs]'" in str(missing_extra(caught.value))
