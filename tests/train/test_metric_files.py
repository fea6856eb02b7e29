"""Metrics of other people's programs, in every form they come in."""

from __future__ import annotations

import json
import math
import sqlite3
from pathlib import Path

import pytest

from mixwright.core.errors import DataError
from mixwright.train.metric_files import Row, read_rows


def written(folder: Path, name: str, *lines: object) -> Path:
    (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_lines_are_joined_by_step_and_what_was_said_last_counts(tmp_path) -> None:
    written(
        tmp_path, "m.jsonl", {"step": 2, "x": 1}, {"step": 1, "x": 5, "y": {"z": 2}}, {"step": 2, "w": True, "v": None},
        {"step": 2, "x": 3, "note": "text"}, {"name": "q", "value": 7, "step": 1},
    )  # fmt: skip
    assert read_rows(tmp_path, "m.jsonl") == [Row(1, {"x": 5, "y/z": 2, "q": 7}), Row(2, {"x": 3})]


def test_without_steps_the_order_of_lines_is_that_of_time(tmp_path) -> None:
    written(tmp_path, "m.jsonl", {"x": 1, "tokens": 10}, {"x": 2}, {"x": float("nan")})
    rows = read_rows(tmp_path, "*.jsonl")
    assert [row.values.get("tokens") for row in rows] == [10, None, None]
    assert [row.step for row in rows] == [None] * 3
    assert math.isnan(rows[-1].values["x"])


def test_the_state_of_a_transformers_trainer(tmp_path) -> None:
    history = [{"loss": 3.5, "step": 10, "epoch": 0.1}, {"eval_web_loss": 3.0, "step": 10}]
    (tmp_path / "trainer_state.json").write_text(json.dumps({"global_step": 10, "log_history": history}))
    assert read_rows(tmp_path, "trainer_state.json") == [Row(10, {"loss": 3.5, "epoch": 0.1, "eval_web_loss": 3.0})]


def test_the_step_may_bear_another_name(tmp_path) -> None:
    written(tmp_path, "m.jsonl", {"iteration": 4, "x": 1})
    assert read_rows(tmp_path, "m.jsonl", step="iteration") == [Row(4, {"x": 1})]


def test_a_line_that_is_still_being_written_waits(tmp_path) -> None:
    (tmp_path / "m.jsonl").write_text('{"step": 1, "x": 1}\n{"step": 2, "x"')
    assert read_rows(tmp_path, "m.jsonl") == [Row(1, {"x": 1})]


def database(path: Path, *rows: tuple) -> None:
    """MLflow's table of metrics, as its SQLite store makes it."""
    connection = sqlite3.connect(path)
    connection.execute(
        "create table metrics (key text, value float, timestamp bigint, run_uuid text, step bigint, is_nan boolean)"
    )
    connection.executemany("insert into metrics values (?, ?, ?, ?, ?, ?)", rows)
    connection.commit()
    connection.close()


def test_an_mlflow_database(tmp_path) -> None:
    database(tmp_path / "mlflow.db", ("x", 2.0, 2, "r", 5, 0), ("x", 3.0, 1, "r", 1, 0), ("y", 0.0, 3, "r", 5, 1))
    first, second = read_rows(tmp_path, "mlflow.db")
    assert first == Row(1, {"x": 3})
    assert second.values["x"] == 2
    assert math.isnan(second.values["y"])
    database(tmp_path / "two.db", ("x", 2.0, 2, "r", 5, 0), ("x", 3.0, 1, "s", 1, 0))
    with pytest.raises(DataError, match="holds 2 MLflow runs"):
        read_rows(tmp_path, "two.db")


def test_torch_writes_events_that_are_read(tmp_path) -> None:
    tensorboard = pytest.importorskip("torch.utils.tensorboard")
    with tensorboard.SummaryWriter(str(tmp_path / "tb" / "eval")) as writer:
        writer.add_scalar("loss/web", 1.5, 3)
        writer.add_scalar("loss/web", 1.25, 4)
        writer.add_text("note", "text", 4)
    assert read_rows(tmp_path, "tb") == [Row(3, {"loss/web": 1.5}), Row(4, {"loss/web": 1.25})]
    assert read_rows(tmp_path, "tb/**/events.*") == read_rows(tmp_path, str(tmp_path / "tb"))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("m.jsonl", "nonsense\n", "m.jsonl:1 is not JSON"),
        ("m.jsonl", "[1]\n", "m.jsonl:1 holds no object"),
        ("m.json", "{", "m.json is not JSON"),
        ("m.db", "nonsense", "m.db is no MLflow database"),
        ("m.txt", "x", "m.txt is neither JSON lines nor TensorBoard events nor an MLflow run"),
    ],
)
def test_a_file_of_no_known_form_is_named(name: str, content: str, said: str, tmp_path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=said):
        read_rows(tmp_path, name)


def test_nothing_there_and_too_much_there(tmp_path) -> None:
    with pytest.raises(DataError, match=r"there is no m\*\.jsonl in"):
        read_rows(tmp_path, "m*.jsonl")
    for run in ("a", "b"):
        (tmp_path / "mlruns" / "1" / run / "metrics").mkdir(parents=True)
        (tmp_path / "mlruns" / "1" / run / "meta.yaml").touch()
        (tmp_path / "mlruns" / "1" / run / "metrics" / "x").write_text("1 2.5 3\n")
    with pytest.raises(DataError, match=r"holds 2 MLflow runs \(a, b\)"):
        read_rows(tmp_path, "mlruns")
    assert read_rows(tmp_path, "mlruns/1/a") == [Row(3, {"x": 2.5})]
    (tmp_path / "mlruns" / "1" / "a" / "metrics" / "x").write_text("1\n")
    with pytest.raises(DataError, match="x:1 is no line of an MLflow metric"):
        read_rows(tmp_path, "mlruns/1/a")
