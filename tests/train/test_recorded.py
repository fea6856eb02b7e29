"""The recorded trainer: rows of tables in place of training, made up here and published ones."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from mixwright.core.errors import DataError, StudyError
from mixwright.core.mixture import Mixture
from mixwright.core.observation import FAILED, Observation, Runs
from mixwright.core.run import ModelSize, Run
from mixwright.core.schedule import Phase, Schedule
from mixwright.engine.local import LocalEngine
from mixwright.store.artifact import Workspace
from mixwright.store.runs import read_runs, write_runs
from mixwright.testing import check_trainer
from mixwright.train.sweep import sweep
from mixwright.train.trainers.recorded import Recorded, distances, recorded_task

DOMAINS = ("a", "b", "c")
WEIGHTS = np.array([[0.5, 0.3, 0.2], [0.2, 0.2, 0.6], [1 / 3, 1 / 3, 1 / 3]])
SIZE = ModelSize(48, 1)
PUBLISHED = Path(
    os.environ.get("MIXWRIGHT_PUBLISHED_RUNS", Path(__file__).parents[2] / ".." / "shared" / "published-runs")
)


def table(path: Path, **changes) -> Path:
    """Three mixtures, each with a row at a quarter, half and the whole of 1,000 tokens."""
    ids = tuple(f"run{n}" for n in range(3) for _ in range(3))
    weights = np.repeat(WEIGHTS, 3, axis=0)
    tokens = np.tile([250.0, 500.0, 1000.0], 3)
    losses = np.stack([2 + weights[:, 0] + 100 / tokens, 3 - weights[:, 1] + 50 / tokens], axis=1)
    values = {
        "domains": DOMAINS, "metrics": ("a", "target:x"), "run_id": ids, "weights": weights, "losses": losses,
        "tokens": tokens, "params": np.full(9, float(SIZE.params)), "step": tuple(int(t) // 10 for t in tokens),
    } | changes  # fmt: skip
    write_runs(path, Runs(**values))
    return path


@pytest.fixture
def recorded(tmp_path: Path) -> Recorded:
    return Recorded(str(table(tmp_path / "runs.csv")))


def wanted(weights=WEIGHTS[0], *, tokens: int = 1000, size: ModelSize = SIZE, seed: int = 0, run_id: str = "r") -> Run:
    return Run(run_id, Schedule.constant(Mixture.normalized(DOMAINS, weights), tokens), size, seed)


def replay(recorded: Recorded, run: Run, out: Path) -> tuple[Observation, list, dict]:
    task = recorded.task(run, corpus=None, out=out)
    recorded_task(lambda *_, **__: None, **json.loads(json.dumps(task.arguments)))
    read = {name: json.loads((out / f"{name}.json").read_text()) for name in ("observation", "trajectory", "facts")}
    return Observation.from_dict(read["observation"]), read["trajectory"], read["facts"]


def test_a_run_of_the_table_gives_its_row_and_the_checkpoints_before_it(recorded, tmp_path) -> None:
    observation, trajectory, facts = replay(recorded, wanted(), tmp_path / "out")
    assert dict(observation.losses) == {"val:a": 2.6, "target:x": 2.75}
    assert (observation.tokens, observation.step) == (1000, 100)
    assert [(p["tokens"], p["losses"]["val:a"]) for p in trajectory] == [(250, 2.9), (500, 2.7), (1000, 2.6)]
    assert facts["row"] == "run0"


def test_a_shorter_run_gives_the_checkpoint_at_its_tokens(recorded, tmp_path) -> None:
    observation, trajectory, _ = replay(recorded, wanted(tokens=500), tmp_path / "out")
    assert dict(observation.losses) == pytest.approx({"val:a": 2.7, "target:x": 2.8})
    assert [p["tokens"] for p in trajectory] == [250, 500]


def test_domains_may_stand_in_another_order(recorded, tmp_path) -> None:
    schedule = Schedule.constant(Mixture.of({"c": 0.2, "a": 0.5, "b": 0.3}), 1000)
    assert replay(recorded, Run("r", schedule, SIZE), tmp_path / "out")[0].losses["val:a"] == 2.6


def test_a_run_that_is_not_there_fails_and_names_the_nearest_row(recorded, tmp_path) -> None:
    observation, trajectory, _ = replay(recorded, wanted([0.2, 0.25, 0.55]), tmp_path / "out")
    assert observation.status == FAILED
    assert trajectory == []
    assert "the nearest row is run1: its schedule is 0.05 away, more than trainer.tolerance 0.001" in observation.reason
    near = Recorded(recorded.path, nearest=True)
    taken, _, facts = replay(near, wanted([0.2, 0.25, 0.55]), tmp_path / "near")
    assert taken.losses["val:a"] == pytest.approx(2.3)
    assert facts["distance"] == pytest.approx(0.05)
    loose = Recorded(recorded.path, tolerance=0.06)
    assert replay(loose, wanted([0.2, 0.25, 0.55]), tmp_path / "loose")[0].losses == taken.losses


def test_another_size_or_length_is_another_run(recorded, tmp_path) -> None:
    large = replay(recorded, wanted(size=ModelSize(96, 2)), tmp_path / "large")[0]
    assert "the nearest row is run0: it has 28,368 params" in large.reason.replace(f"{SIZE.params:,}", "28,368")
    assert "trainer.scale_tolerance 0.1" in large.reason
    assert replay(recorded, wanted(tokens=700), tmp_path / "long")[0].status == FAILED
    whatever = Recorded(recorded.path, scale_tolerance=None)
    found = replay(whatever, wanted(size=ModelSize(96, 2), tokens=7_000), tmp_path / "whatever")[0]
    assert found.losses["val:a"] == 2.6


def test_of_runs_with_one_mixture_the_seed_chooses(tmp_path) -> None:
    weights = np.repeat(WEIGHTS[:1], 3, axis=0)
    losses = np.array([[1.0], [2.0], [3.0]])
    path = tmp_path / "seeds.csv"
    write_runs(path, Runs(DOMAINS, ("a",), ("x", "y", "z"), weights, losses, seed=(5, 6, 7)))
    recorded = Recorded(str(path))
    assert replay(recorded, wanted(seed=6), tmp_path / "o")[0].losses["val:a"] == 2
    assert replay(recorded, wanted(seed=6, run_id="z"), tmp_path / "o")[0].losses["val:a"] == 3
    others = {replay(recorded, wanted(seed=n), tmp_path / "o")[0].losses["val:a"] for n in range(20, 40)}
    assert others == {1.0, 2.0, 3.0}


def test_schedules_of_several_phases_are_compared_over_time(tmp_path) -> None:
    late = np.array([[[0.5, 0.5], [0.0, 1.0]], [[0.5, 0.5], [0.5, 0.5]]])
    runs = Runs(
        ("a", "b"), ("a",), ("switch", "flat"), late, np.array([[1.0], [2.0]]), np.array([[80.0, 20], [100, 0]])
    )
    half, other = Mixture.of({"a": 0.5, "b": 0.5}), Mixture.of({"a": 0.0, "b": 1.0})
    assert distances(Schedule((Phase(800, half), Phase(200, other))), runs) == pytest.approx([0.0, 0.1])
    assert distances(Schedule((Phase(600, half), Phase(400, other))), runs) == pytest.approx([0.1, 0.2])
    assert distances(Schedule.constant(Mixture.of({"b": 0.5, "a": 0.5}), 10), runs) == pytest.approx([0.1, 0.0])
    path = tmp_path / "phases.csv"
    write_runs(path, runs)
    run = Run("r", Schedule((Phase(800, half), Phase(200, other))), SIZE)
    assert replay(Recorded(str(path)), run, tmp_path / "o")[0].losses["val:a"] == 1


def test_a_row_marked_as_failed_is_a_failed_run(tmp_path) -> None:
    path = table(tmp_path / "runs.csv", status=("done",) * 8 + ("failed",))
    assert "run2" in replay(Recorded(str(path)), wanted(WEIGHTS[2]), tmp_path / "o")[0].reason


def test_what_cannot_be_replayed_is_told(recorded, tmp_path) -> None:
    other = Run("r", Schedule.constant(Mixture.uniform(("a", "z")), 1000), SIZE)
    with pytest.raises(DataError, match="has runs over a, b, c; the runs that are wanted are over a, z"):
        replay(recorded, other, tmp_path / "o")
    with pytest.raises(StudyError, match=r"trainer\.names gives the metric 'nothing'"):
        replay(Recorded(recorded.path, names={"val:a": "nothing"}), wanted(), tmp_path / "o")
    with pytest.raises(DataError, match="There is no table of recorded runs at"):
        Recorded(str(tmp_path / "none.csv")).identity()
    with pytest.raises(DataError, match=r"must be in nats/token; it has a in bits/byte"):
        replay(Recorded(recorded.path, units={"a": "bits/byte"}), wanted(), tmp_path / "o")


def test_its_identity_is_what_the_file_holds_wherever_it_lies(recorded, tmp_path) -> None:
    (tmp_path / "elsewhere").mkdir()
    copy = tmp_path / "elsewhere" / "copy.csv"
    copy.write_bytes(Path(recorded.path).read_bytes())
    assert Recorded("copy.csv").placed(copy.parent).identity() == recorded.identity()
    copy.write_text(copy.read_text().replace("2.6", "2.7"))
    assert Recorded(str(copy)).identity() != recorded.identity()


def test_a_design_can_come_from_the_table(recorded, tmp_path) -> None:
    found = recorded.mixtures(("c", "b", "a"))
    assert [m.to_dict() for m in found] == [
        Mixture.normalized(DOMAINS, w).over(("c", "b", "a")).to_dict() for w in WEIGHTS
    ]
    runs = recorded.runs()
    assert [run.run_id for run in runs] == ["run0", "run1", "run2"]
    assert runs[0].size.params == pytest.approx(SIZE.params, rel=0.06)
    finished = sweep(runs, recorded, workspace=Workspace(tmp_path), corpus=None, engine=LocalEngine(1, "threads"))
    again = Runs.from_observations(one.observation for one in finished)
    read = read_runs(recorded.path).runs
    assert np.array_equal(again.losses, read.losses)
    assert np.array_equal(again.tokens, read.tokens)


def test_the_kit(tmp_path) -> None:
    size = ModelSize(16, 1)
    path = tmp_path / "kit.csv"
    tokens, params = np.array([4096.0, 8192.0]), np.full(2, float(size.params))
    runs = Runs(
        ("a", "b"), ("a", "b"), ("k", "k"), np.full((2, 2), 0.5), np.array([[3.0, 4], [2, 3]]), tokens=tokens,
        params=params, step=(1, 2),
    )  # fmt: skip
    write_runs(path, runs)
    check_trainer(Recorded(str(path)), tmp_path / "kit")


@pytest.mark.parametrize(
    ("name", "count", "metric"), [("regmix/train_1m.csv", 512, "val:github"), ("mixing-laws/2mix.csv", 10, "Github")]
)
def test_published_runs_replay_as_they_stand(name: str, count: int, metric: str, tmp_path) -> None:
    path = PUBLISHED / name
    if not path.is_file():
        pytest.skip(f"no published runs at {PUBLISHED}; set MIXWRIGHT_PUBLISHED_RUNS to the folder that holds {name}")
    recorded = Recorded(str(path))
    runs = recorded.runs(tokens=10**9)
    assert len(runs) >= count
    read = read_runs(path).runs
    for row in (0, len(runs) // 2, len(runs) - 1):
        observation = replay(recorded, runs[row], tmp_path / str(row))[0]
        assert observation.status == "done", observation.reason
        at = read.run_id.index(recorded_id(read, runs[row]))
        assert observation.losses[metric] == read.losses[at, read.metrics.index(metric.removeprefix("val:"))]


def recorded_id(read: Runs, run: Run) -> str:
    return next(name for name in read.run_id if name.replace("/", "_") == run.run_id)
