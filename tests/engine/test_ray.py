"""The Ray engine against a real Ray of two workers: the same outcomes as the local engine, whatever dies."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mixwright.core.errors import StudyError
from mixwright.engine import ray as module
from mixwright.engine.ray import RayEngine
from mixwright.engine.task import Outcome, Task

ray = pytest.importorskip("ray")
HERE = str(Path(__file__).parent)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayEngine]:
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = HERE  # what a node's own environment holds: it must be there when Ray starts
    engine = RayEngine("local", 2, tmp_path_factory.mktemp("shared"))
    try:
        assert engine.slots == 2
        engine._cluster()
        yield engine
    finally:
        ray.shutdown()
        os.environ.pop("PYTHONPATH") if before is None else os.environ.update(PYTHONPATH=before)


def task(name: str, function: str, arguments: dict[str, Any] | None = None, **more: Any) -> Task:
    return Task(name, f"tasks_for_tests:{function}", arguments or {}, **more)


def run(engine: RayEngine, tasks: list[Task]) -> dict[str, Outcome]:
    return {outcome.task.name: outcome for outcome in engine.run(tasks)}


def _wait_for(path: Path) -> int:
    deadline = time.monotonic() + 60
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return int(path.read_text().split()[0])


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def test_tasks_run_are_added_and_report(engine: RayEngine) -> None:
    values = []
    with engine.session() as session:
        for n in range(4):
            session.submit(task(str(n), "square", {"number": n}))
        for outcome in session:
            values.append(outcome.value)
            if outcome.value == 9:
                session.submit(task("next", "square", {"number": 10}))
    assert sorted(values) == [0, 1, 4, 9, 100]


def test_progress_comes_while_the_task_runs(engine: RayEngine, tmp_path: Path) -> None:
    heard: list[tuple[float, float]] = []
    tasks = [task("s", "stamp", {"path": str(tmp_path / "s"), "seconds": 1.5})]
    outcome = next(iter(engine.run(tasks, lambda name, fraction, facts: heard.append((time.time(), fraction)))))
    assert outcome.value is not None
    assert [part for _, part in heard] == sorted(part for _, part in heard)
    assert heard[0][0] < outcome.value[1], "the first was heard before the task ended"


def test_threads_and_environment_are_set_before_the_process_starts(engine: RayEngine) -> None:
    tasks = [task("a", "environment", environment={"MARK": "1"}), task("b", "environment", threads=2)]
    outcomes = run(engine, tasks)
    assert (outcomes["a"].value["threads"], outcomes["a"].value["mark"]) == ("1", "1")
    assert (outcomes["b"].value["threads"], outcomes["b"].value["mark"]) == ("2", None)
    more_than_there_are = next(iter(engine.run([task("wide", "environment", threads=64)])))
    assert more_than_there_are.value["threads"] == "64"


def test_failures_are_the_sentences_of_the_local_engine(engine: RayEngine) -> None:
    tasks = [task(how, "wrong", {"how": how}) for how in ("data", "die", "bug")]
    outcomes = run(engine, [*tasks, task("fine", "square", {"number": 3})])
    assert (outcomes["data"].error, outcomes["data"].kind) == ("The file x is empty.", 3)
    assert "ended with code 9" in str(outcomes["die"].error)
    assert outcomes["bug"].kind == 1
    assert "KeyError" in outcomes["bug"].trace
    assert outcomes["fine"].value == 9


def test_a_task_whose_ray_worker_is_killed_is_done_elsewhere(engine: RayEngine, tmp_path: Path) -> None:
    mark, other = tmp_path / "mark", tmp_path / "other"
    tasks = [
        task("s", "stamp", {"path": str(mark), "seconds": 2.0}),
        task("o", "stamp", {"path": str(other), "seconds": 0.1}),
    ]
    with engine.session() as session:
        for one in tasks:
            session.submit(one)
        session._hand_over()  # type: ignore[attr-defined]  # what iterating does first
        child = _wait_for(mark)
        os.kill(_parent(child), signal.SIGKILL)
        outcomes = {outcome.task.name: outcome for outcome in session}
    assert outcomes["s"].error is None
    assert outcomes["o"].error is None
    assert _wait_for(mark) != child
    assert not Path(f"/proc/{child}").exists(), "the child of the killed worker is gone"


def test_a_task_whose_workers_always_die_has_an_outcome(engine: RayEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ELSEWHERE", 1)
    outcome = next(iter(engine.run([task("s", "kill_parent")])))
    assert outcome.kind == 1
    assert "The Ray worker of s died 2 times" in str(outcome.error)


def test_closing_stops_what_runs(engine: RayEngine, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    outcomes = engine.run([task("quick", "square", {"number": 2}, cost=9), task("s", "slow", {"path": str(mark)})])
    assert next(outcomes).task.name == "quick"
    child = _wait_for(mark)
    outcomes.close()  # type: ignore[attr-defined]
    deadline = time.monotonic() + 10
    while Path(f"/proc/{child}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_node_without_the_folder_or_with_another_version_says_so(
    engine: RayEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SEEN_WITHIN", 0.1)
    request = {"version": "0.0.0", "mark": None}
    assert "has mixwright" in str(module._unfit(request))
    from mixwright import __version__

    request = {"version": __version__, "mark": str(tmp_path / "nowhere" / ".ray-1"), "seen_within": 0.1}
    assert f"cannot see {tmp_path / 'nowhere'}" in str(module._unfit(request))
    with engine.session() as session:
        session._mark.unlink()  # type: ignore[attr-defined]
        session.submit(task("a", "square", {"number": 1}))
        outcome = next(iter(session))
    assert outcome.kind == 2
    assert "must lie on a file system that all nodes share" in str(outcome.error)


@pytest.mark.long
def test_ctrl_c_leaves_no_process_and_no_noise(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    code = (
        "from mixwright.engine.ray import RayEngine; from mixwright.engine.task import Task\n"
        f"engine = RayEngine('local', 1, __import__('pathlib').Path({str(tmp_path)!r}))\n"
        f"try: list(engine.run([Task('s', 'tasks_for_tests:slow', {{'path': {str(mark)!r}}})]))\n"
        "except KeyboardInterrupt: print('stopped')"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": HERE}, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    child = _wait_for(mark)
    os.killpg(process.pid, signal.SIGINT)
    assert process.communicate(timeout=60)[0] == "stopped\n"
    assert not Path(f"/proc/{child}").exists()
    assert not list(tmp_path.glob(".ray-*"))


class FakeRay:
    """What ``ray.init`` does where there is a cluster, was one, or is none."""

    def __init__(self, cluster: str) -> None:
        self.cluster, self.calls = cluster, []

    def is_initialized(self) -> bool:
        return bool(self.calls) and not isinstance(self.calls[-1], Exception)

    def init(self, **options: Any) -> None:
        error: Exception | None = None
        if options["address"] is None and "num_cpus" in options and self.cluster == "there":
            error = ValueError("When connecting to an existing cluster, num_cpus must not be provided.")
        if options["address"] is None and self.cluster == "gone":
            error = ConnectionError("It was here.")
        self.calls.append(error or options)
        if error is not None:
            raise error


@pytest.mark.parametrize(
    ("cluster", "address", "started"), [("there", None, False), ("gone", "local", True), ("none", None, True)]
)
def test_auto_joins_the_cluster_of_this_machine_or_starts_a_ray(
    monkeypatch: pytest.MonkeyPatch, cluster: str, address: str | None, started: bool
) -> None:
    fake = FakeRay(cluster)
    monkeypatch.setitem(sys.modules, "ray", fake)
    assert module._connected("auto", 3) is fake
    last = fake.calls[-1]
    assert (last["address"], last.get("num_cpus"), last["log_to_driver"]) == (address, 3 if started else None, False)


def test_what_cannot_be_reached_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StudyError, match=r"engine\.workers must be 0"):
        RayEngine(workers=-1)
    monkeypatch.setattr(module, "_CLUSTER", None)
    ray.shutdown()
    for address in ("127.0.0.1:1", "ray://127.0.0.1:1"):
        with pytest.raises(StudyError, match=f"answers at {address} .*Connection refused.*ray start --head"):
            RayEngine(address).session()
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(StudyError, match=r"needs ray, which is not installed: pip install 'mixwright\[ray\]'"):
        list(RayEngine().run([task("a", "square", {"number": 1})]))
