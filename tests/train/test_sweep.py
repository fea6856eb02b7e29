from __future__ import annotations

import importlib
import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from mixwright.core.errors import DataError, Interrupted, RunsFailedError, StudyError
from mixwright.core.mixture import Mixture
from mixwright.core.run import ModelSize, Run
from mixwright.core.schedule import Schedule
from mixwright.engine.local import LocalEngine
from mixwright.store.artifact import Artifact, Workspace
from mixwright.train import sweep as module
from mixwright.train.branch import branch
from mixwright.train.costs import Costs
from mixwright.train.sweep import run_key, sweep
from mixwright.train.trainer import write_results
from mixwright.train.trainers.builtin import Builtin
from mixwright.train.trainers.toy import Toy

NAMES, THREADS, PROCESSES, TOY = ("a", "b", "c"), LocalEngine(2, "threads"), LocalEngine(2), Toy()


def runs_of(count: int, *, seed: int = 0) -> list[Run]:
    draw = np.random.default_rng(7)
    return [
        Run(
            f"run-{n}", Schedule.constant(Mixture(NAMES, draw.dirichlet(np.ones(3))), 10**6), ModelSize(48, 1), seed + n
        )
        for n in range(count)
    ]


def go(runs, workspace, trainer=TOY, engine=THREADS, **more):
    return sweep(runs, trainer, workspace=workspace, corpus=more.pop("corpus", None), engine=engine, **more)


def test_every_run_gives_an_artifact_in_the_order_asked(workspace) -> None:
    heard, done = [], []
    runs = runs_of(4)
    finished = go(
        runs, workspace, on_progress=lambda name, fraction, facts: heard.append((name, fraction)), on_done=done.append
    )
    assert [one.run for one in finished] == runs
    assert (
        {one.run.run_id for one in done} == {run.run_id for run in runs} == {name for name, part in heard if part == 1}
    )
    for one in finished:
        assert one.observation.run == one.run
        assert set(one.observation.losses) == set(Toy().metrics(NAMES))
        names = set(one.artifact.manifest["files"])
        assert names == {"observation.json", "trajectory.json", "facts.json"}


def test_finished_runs_are_found_also_under_another_name(workspace, monkeypatch) -> None:
    first = go(runs_of(3), workspace)
    monkeypatch.setattr(Toy, "task", lambda *_, **__: pytest.fail("a finished run was trained again"))
    renamed = [replace(run, run_id=f"again-{n}", role="verify") for n, run in enumerate(runs_of(3))]
    second = go(renamed, workspace)
    assert [one.artifact.key for one in second] == [one.artifact.key for one in first]
    assert [one.observation.run for one in second] == renamed
    assert [one.observation.losses for one in second] == [one.observation.losses for one in first]


def test_equal_runs_of_one_sweep_are_trained_once(workspace) -> None:
    run = runs_of(1)[0]
    one, two = go([run, replace(run, run_id="twin")], workspace)
    assert one.artifact.path == two.artifact.path
    assert (one.observation.run.run_id, two.observation.run.run_id) == ("run-0", "twin")
    assert len(workspace.all("runs")) == 1


def test_the_key_holds_what_decides_the_outcome_and_no_more(corpus) -> None:
    run = runs_of(1)[0]
    key = run_key(run, Toy())
    assert run_key(replace(run, run_id="x", role="verify"), Toy(seconds=9)) == key
    other_size, other_seed = replace(run, size=ModelSize(64, 1)), replace(run, seed=5)
    shifted = replace(run, schedule=Schedule.constant(Mixture.uniform(NAMES), 10**6))
    changed = [run_key(changed, Toy()) for changed in (other_size, other_seed, shifted)]
    changed += [run_key(run, Toy(noise=0.2)), run_key(run, Builtin()), run_key(run, Toy(), corpus=corpus)]
    changed += [run_key(run, Toy(), checkpoints=(5,)), run_key(run, Toy(), parent="p")]
    assert len({key, *changed}) == 9


def test_a_run_that_meets_nan_is_failed_and_not_tried_again(workspace, monkeypatch) -> None:
    trainer = Toy(nan_seeds=(1,))
    statuses = [one.observation.status for one in go(runs_of(3), workspace, trainer)]
    assert statuses == ["done", "failed", "done"]
    monkeypatch.setattr(Toy, "task", lambda *_, **__: pytest.fail("a failed run was trained again"))
    again = go(runs_of(3), workspace, trainer)[1]
    assert "nan at step" in again.observation.reason


def test_a_crashed_process_is_tried_once_more(workspace) -> None:
    finished = go(runs_of(3), workspace, Toy(crash_seeds=(0, 2)), PROCESSES)
    assert [one.observation.status for one in finished] == ["done"] * 3
    calm = go(runs_of(3), Workspace(workspace.root / "other"))
    assert [one.observation.losses for one in finished] == [one.observation.losses for one in calm]


def test_a_run_that_crashes_again_is_named_and_the_others_are_kept(workspace, monkeypatch) -> None:
    monkeypatch.setattr(module, "_RETRIES", 0)
    trainer = Toy(crash_seeds=(1,))
    with pytest.raises(
        RunsFailedError,
        match=r"Run run-1 crashed at every attempt: The process of run-1 ended with code 9\..* The other 2 are",
    ):
        go(runs_of(3), workspace, trainer, PROCESSES)
    assert len(workspace.all("runs")) == 2
    assert [one.observation.status for one in go(runs_of(3), workspace, trainer, PROCESSES)] == ["done"] * 3


def test_stopped_by_the_user_it_goes_on_where_it_was(workspace) -> None:
    def stop(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="1 of 4 runs are finished and kept"):
        go(runs_of(4), workspace, on_done=stop)
    assert len(workspace.all("runs")) == 1
    assert len(go(runs_of(4), workspace)) == 4


def test_a_run_killed_just_before_it_was_sealed_is_not_trained_again(workspace, monkeypatch) -> None:
    run = runs_of(1)[0]
    draft = workspace.draft("runs", run_key(run, Toy()))
    task = Toy().task(run, corpus=None, out=draft.path)
    task.call(lambda *_, **__: None)
    monkeypatch.setattr(Toy, "task", lambda *_, **__: pytest.fail("it was trained again"))
    assert go([run], workspace)[0].observation.status == "done"


def test_branches_come_after_their_parent_which_keeps_their_checkpoint(workspace) -> None:
    base = runs_of(1)[0]
    children = [branch(base, 10**5 * n, Mixture.uniform(NAMES), run_id=f"child-{n}") for n in (7, 8)]
    grandchild = branch(children[1], 9 * 10**5, Mixture.uniform(NAMES), run_id="grandchild")
    finished = go([grandchild, *children, base], workspace, checkpoints={"run-0": (10**6,)})
    assert [one.run.run_id for one in finished] == ["grandchild", "child-7", "child-8", "run-0"]
    kept = {path.name for path in finished[3].artifact.path.iterdir() if path.is_dir()}
    assert kept == {"checkpoint-700000", "checkpoint-800000", "checkpoint-1000000"}
    assert finished[0].artifact.manifest["inputs"]["parent"] == finished[2].artifact.key


def test_a_branch_of_a_failed_run_is_failed(workspace) -> None:
    base = runs_of(1)[0]
    child = branch(base, 5 * 10**5, Mixture.uniform(NAMES), run_id="child")
    finished = go([base, child], workspace, Toy(nan_seeds=(0,)))
    assert [one.observation.status for one in finished] == ["failed", "failed"]
    assert finished[1].observation.reason.startswith("its parent run-0 failed: its loss is nan")
    assert finished[1].artifact.json("trajectory.json") == []


def test_what_cannot_be_is_refused_with_a_sentence(workspace) -> None:
    base = runs_of(1)[0]
    child = branch(base, 5 * 10**5, Mixture.uniform(NAMES), run_id="child")
    with pytest.raises(StudyError, match="branches from run-0, which is not in this sweep"):
        go([child], workspace)
    with pytest.raises(DataError, match="run-0 stands more than once"):
        go([base, base], workspace)
    with pytest.raises(DataError, match="Checkpoints are asked of nobody"):
        go([base], workspace, checkpoints={"nobody": (5,)})


def test_an_error_the_user_can_mend_is_passed_on(workspace) -> None:
    with pytest.raises(StudyError, match="Run run-0: The builtin trainer needs tokens"):
        go(runs_of(1), workspace, Builtin())


HERE = str(Path(__file__).parent)


@pytest.fixture
def grouped(monkeypatch):
    """The trainer that trains groups, importable here and in workers."""
    monkeypatch.setenv("PYTHONPATH", HERE)
    monkeypatch.syspath_prepend(HERE)
    return importlib.import_module("trainers_for_tests").Grouped


def outcomes(finished):
    return [one.observation.losses for one in finished]


@pytest.mark.parametrize("engine", [THREADS, PROCESSES])
def test_runs_that_are_trained_together_come_out_as_alone(workspace, grouped, engine) -> None:
    heard = []
    finished = go(
        runs_of(5), workspace, grouped(), engine, on_progress=lambda name, part, facts: heard.append((name, facts))
    )
    alone = go(runs_of(5), Workspace(workspace.root / "alone"), grouped(size=1), engine)
    assert [one.artifact.key for one in finished] == [one.artifact.key for one in alone]
    assert outcomes(finished) == outcomes(alone)
    assert {name for name, facts in heard if "loss" in facts} == {run.run_id for run in runs_of(5)}
    assert not any("run" in facts for _, facts in heard)


def test_a_group_that_dies_keeps_what_it_finished_and_goes_on_alone_in_the_end(workspace, grouped) -> None:
    again = []
    finished = go(
        runs_of(4), workspace, grouped(size=4, deadly_seeds=(2,)), PROCESSES,
        on_progress=lambda name, part, facts: again.append((name, facts["again"])) if "again" in facts else None,
    )  # fmt: skip
    assert outcomes(finished) == outcomes(go(runs_of(4), Workspace(workspace.root / "calm"), grouped()))
    assert [one.artifact.info for one in finished[:2]] == [{}, {}], "these had ended before"
    for one in finished[2:]:
        assert one.artifact.info["attempts"] == 3
        assert all("ended with code 9" in reason for reason in one.artifact.info["crashes"])
    assert [name for name, _ in again] == ["run-2", "run-3"] * 2


def test_a_refused_run_of_a_group_is_found_and_the_others_finish(workspace, grouped) -> None:
    with pytest.raises(DataError, match=r"Run run-1: The seed 1 is not liked\. The other 3 are finished and kept"):
        go(runs_of(4), workspace, grouped(size=4, refused_seeds=(1,)), PROCESSES)
    assert len(workspace.all("runs")) == 3


def test_a_refused_run_does_not_stop_the_others_once_one_has_ended(workspace, grouped) -> None:
    with pytest.raises(DataError, match=r"Run run-1: The seed 1 is not liked\. The other 3 are finished and kept"):
        go(runs_of(4), workspace, grouped(size=1, refused_seeds=(1,)), LocalEngine(1))


def test_what_every_run_would_meet_stops_the_sweep_at_once(workspace, grouped) -> None:
    with pytest.raises(DataError, match="Run run-0: The seed 0 is not liked"):
        go(runs_of(4), workspace, grouped(size=1, refused_seeds=(0, 1, 2, 3)), LocalEngine(1))
    assert workspace.all("runs") == []


def test_a_run_that_always_crashes_takes_its_branches_only(workspace, monkeypatch) -> None:
    monkeypatch.setattr(module, "_RETRIES", 0)
    bad, good = runs_of(2)
    child = branch(bad, 5 * 10**5, Mixture.uniform(NAMES), run_id="child")
    with pytest.raises(RunsFailedError, match=r"Run run-0 crashed at every attempt.* 1 that branch .* The other 1 are"):
        go([bad, child, good], workspace, Toy(crash_seeds=(0,)), PROCESSES)
    monkeypatch.undo()
    finished = go([bad, child, good], workspace, Toy(crash_seeds=(0,)), PROCESSES)
    assert [one.observation.status for one in finished] == ["done"] * 3
    assert finished[0].artifact.info == {"attempts": 2, "crashes": ["The process of run-0 ended with code 9."]}


def test_a_branch_begins_when_its_own_parent_is_done(workspace) -> None:
    quick, slow = runs_of(2)
    child = branch(quick, 5 * 10**5, Mixture.uniform(NAMES), run_id="child")
    order = []
    trainer = SlowSecond()
    go([slow, quick, child], workspace, trainer, THREADS, on_done=lambda one: order.append(one.run.run_id))
    assert order == ["run-0", "child", "run-1"]


class SlowSecond(Toy):
    """The toy; the run with seed 1 takes longer than all others together."""

    def task(self, run, **more):
        return Toy(seconds=1.0 if run.seed == 1 else 0.0).task(run, **more)


def test_what_others_wait_for_begins_first(workspace) -> None:
    runs = runs_of(3)
    chain = [branch(runs[2], 10**5 * n, Mixture.uniform(NAMES), run_id=f"child-{n}") for n in (7, 8)]
    order = []
    go([*runs, *chain], workspace, engine=LocalEngine(1, "threads"), on_done=lambda one: order.append(one.run.run_id))
    assert order[0] == "run-2"


def test_measured_costs_correct_the_estimates_of_this_sweep_and_the_next(workspace, monkeypatch) -> None:
    trainer = Toy(seconds=0.06)
    spent = iter([0.6] * 3 + [6.0] * 9)

    def results(folder, observation, trajectory, facts):
        return write_results(folder, observation, trajectory, facts | {"cpu_seconds": next(spent)})

    monkeypatch.setattr("mixwright.train.trainers.toy.write_results", results)
    told = {}
    go(runs_of(3), workspace, trainer, LocalEngine(1, "threads"), on_cost=told.__setitem__)
    assert told["run-2"] == pytest.approx(0.6), "0.06 by the trainer, ten times that by the first run"
    other = replace(runs_of(1)[0], size=ModelSize(64, 1), run_id="wider")
    longer = replace(runs_of(1)[0], schedule=Schedule.constant(Mixture.uniform(NAMES), 2 * 10**6), run_id="longer")
    costs = Costs.of(workspace)
    assert [costs.cpu_seconds(trainer, run) for run in (other, longer)] == pytest.approx([0.6, 0.6])
    go([other], workspace, trainer)
    known = [Costs.of(workspace).cpu_seconds(trainer, run) for run in (other, longer)]
    assert known == pytest.approx([6.0, 0.6]), "each size has its own"
    (workspace.root / "costs.json").write_text("{")
    assert Costs.of(workspace).cpu_seconds(trainer, other) == 0.06


def test_what_waits_is_ordered_anew_by_what_was_measured(workspace, monkeypatch) -> None:
    """Wide runs are said to be twice as dear as narrow ones; measured, they are not."""

    def results(folder, observation, trajectory, facts):
        wide = observation.run.size.width == 64
        return write_results(folder, observation, trajectory, facts | {"cpu_seconds": 0.1 if wide else 9.0})

    monkeypatch.setattr("mixwright.train.trainers.toy.write_results", results)
    monkeypatch.setattr(Toy, "cost", lambda self, run: 2.0 if run.size.width == 64 else 1.0)
    known, *narrow = runs_of(4)
    wide = [replace(run, size=ModelSize(64, 1), run_id=f"wide-{n}") for n, run in enumerate(runs_of(4))]
    go([known], workspace)
    order = []
    go([*narrow, *wide], workspace, engine=LocalEngine(1, "threads"), on_done=lambda one: order.append(one.run.run_id))
    assert order[0] == "wide-0"
    assert order[2:5] == ["run-1", "run-2", "run-3"], "one wide run was measured while the next began"


def test_a_flipped_bit_is_found_before_anything_is_trained(workspace, corpus, make_run, tmp_path) -> None:
    copied = Artifact(tmp_path / "corpus", corpus.manifest)
    shutil.copytree(corpus.path, copied.path)
    assert go([make_run()], workspace, corpus=copied)[0].observation.status == "done"
    file = copied.path / "train" / "b" / "000.bin"
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"train/b/000\.bin has changed since it was written"):
        go([make_run(seed=1)], workspace, corpus=copied)
    assert go([make_run()], workspace, corpus=copied)[0].observation.status == "done", "what is done needs no tokens"


def test_tasks_are_told_absolute_places(tmp_path, monkeypatch, grouped) -> None:
    monkeypatch.chdir(tmp_path)
    seen = []
    monkeypatch.setattr(module, "replace", lambda task, **more: seen.append((task, more)) or replace(task, **more))
    go(runs_of(1), Workspace(Path("work")))
    arguments, locks = seen[0][0].arguments, seen[0][1]["locks"]
    assert Path(arguments["out"]).is_absolute()
    assert all(Path(lock).parent == Path(arguments["out"]) for lock in locks)


TINY = Builtin(
    seq_len=16, batch=2, eval_tokens=128, trajectory_evals=5, trajectory_eval_tokens=32, checkpoint_seconds=0.1
)
SCRIPT = """
import json, sys
from pathlib import Path
from mixwright.core.run import Run
from mixwright.engine.local import LocalEngine
from mixwright.store.artifact import Artifact, Workspace, read_json
from mixwright.train.sweep import sweep
from mixwright.train.trainer import write_results
from mixwright.train.trainers.builtin import Builtin

work, corpus, runs, options = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]), json.loads(sys.argv[4])
sweep(
    [Run.from_dict(values) for values in runs], Builtin(**options), workspace=Workspace(work), engine=LocalEngine(1),
    corpus=Artifact(corpus, read_json(corpus / "manifest.json")), on_done=lambda one: print(one.run.run_id, flush=True),
)
"""


def test_killed_with_all_its_workers_it_finishes_with_the_same_losses_to_the_bit(tmp_path, corpus, make_run) -> None:
    runs = [make_run("short", tokens=32 * 20), make_run("long", (0.1, 0.2, 0.7), tokens=32 * 150)]
    given = [json.dumps(value) for value in ([run.to_dict() for run in runs], asdict(TINY))]

    def start() -> subprocess.Popen[str]:
        command = [sys.executable, "-c", SCRIPT, str(tmp_path / "killed"), str(corpus.path), *given]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    killed = start()
    while not list((tmp_path / "killed" / "runs").glob(".*.partial/.resume/*")):
        assert killed.poll() is None
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    assert killed.communicate()[0] == ""
    again = start()
    assert again.communicate()[0].split() == ["long", "short"]
    assert again.returncode == 0
    calm = go(runs, Workspace(tmp_path / "calm"), TINY, corpus=corpus)
    for one in calm:
        other = Workspace(tmp_path / "killed").find("runs", one.artifact.key)
        assert other is not None
        for name in ("observation.json", "trajectory.json"):
            assert (one.artifact.path / name).read_bytes() == (other.path / name).read_bytes()
        assert one.artifact.json("facts.json")["train_losses"] == other.json("facts.json")["train_losses"]
