"""A sweep on Ray gives the bytes of a sweep on this machine, whatever dies meanwhile."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mixwright.core.mixture import Mixture
from mixwright.engine.local import LocalEngine
from mixwright.engine.ray import RayEngine
from mixwright.store.artifact import Workspace
from mixwright.train.branch import branch
from mixwright.train.sweep import Finished, sweep
from mixwright.train.trainers.builtin import Builtin
from mixwright.train.trainers.toy import Toy

ray = pytest.importorskip("ray")
TINY = Builtin(
    seq_len=16, batch=2, eval_tokens=128, trajectory_evals=5, trajectory_eval_tokens=32, checkpoint_seconds=0.1
)


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    yield RayEngine("local", 2, tmp_path_factory.mktemp("shared"))
    ray.shutdown()


def go(runs, root: Path, trainer, engine, **more) -> list[Finished]:
    return sweep(runs, trainer, workspace=Workspace(root), engine=engine, corpus=more.pop("corpus", None), **more)


def same_bytes(one: Finished, other: Finished) -> None:
    assert one.artifact.key == other.artifact.key
    for name in ("observation.json", "trajectory.json"):
        assert (one.artifact.path / name).read_bytes() == (other.artifact.path / name).read_bytes()
    assert one.artifact.json("facts.json")["train_losses"] == other.artifact.json("facts.json")["train_losses"]


def test_the_toy_with_branches_and_a_run_that_meets_nan(engine, tmp_path, make_run) -> None:
    runs = [make_run(f"run-{n}", (n + 1, 2, 1), tokens=10**6, seed=n) for n in range(4)]
    child = branch(runs[0], 5 * 10**5, Mixture.uniform(runs[0].schedule.domains), run_id="child")
    trainer = Toy(nan_seeds=(2,), crash_seeds=(3,))
    there = go([child, *runs], tmp_path / "ray", trainer, engine)
    here = go([child, *runs], tmp_path / "here", trainer, LocalEngine(2))
    for one, other in zip(there, here, strict=True):
        same_bytes(one, other)
    assert [one.observation.status for one in there] == ["done", "done", "done", "failed", "done"]
    assert "ended with code 9" in there[4].artifact.info["crashes"][0]


def test_the_builtin_trainer_with_a_ray_worker_killed_in_the_middle(engine, tmp_path, corpus, make_run) -> None:
    runs = [make_run("long", (0.1, 0.2, 0.7), tokens=32 * 150), make_run("short", tokens=32 * 20)]
    killed: list[int] = []

    def kill_once(name: str, fraction: float, facts: dict) -> None:
        resume = list((tmp_path / "ray" / "runs").glob(".*.partial/.resume/*"))
        if name == "long" and 0 < fraction < 1 and resume and not killed:
            killed.extend(workers_at_work())
            for worker in killed:
                os.kill(worker, signal.SIGKILL)

    there = go(runs, tmp_path / "ray", replace(TINY), engine, corpus=corpus, on_progress=kill_once)
    assert killed, "nothing was killed"
    for one, other in zip(there, go(runs, tmp_path / "here", TINY, LocalEngine(1), corpus=corpus), strict=True):
        same_bytes(one, other)
    assert not any(alive(pid) for pid in killed)


def workers_at_work() -> list[int]:
    """The Ray workers of this process's Ray that have a child at work."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except (OSError, IndexError):
                continue
            if "mixwright.engine.worker" in line:
                parents[int(entry.name)] = parent
    return [parent for parent in parents.values() if is_ours(parent)]


def is_ours(pid: int) -> bool:
    """Whether ``pid`` belongs to the Ray that this process started: raylet's child, raylet being ours."""
    try:
        raylet = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
        return int(Path(f"/proc/{raylet}/stat").read_text().rsplit(")", 1)[1].split()[1]) == os.getpid()
    except OSError:
        return False


def alive(pid: int) -> bool:
    deadline = time.monotonic() + 5
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    return Path(f"/proc/{pid}").exists()
