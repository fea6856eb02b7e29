"""The local engine: every task has an outcome, whatever happens to it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mixwright.engine.local import LocalEngine
from mixwright.engine.task import Outcome, Task

HERE = str(Path(__file__).parent)


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", HERE)
    monkeypatch.syspath_prepend(HERE)


def task(name: str, function: str, arguments: dict[str, Any] | None = None, **more: Any) -> Task:
    return Task(name, f"tasks_for_tests:{function}", arguments or {}, **more)


def run(engine: LocalEngine, tasks: list[Task]) -> dict[str, Outcome]:
    return {outcome.task.name: outcome for outcome in engine.run(tasks)}


@pytest.mark.parametrize("kind", ["processes", "threads"])
def test_all_tasks_run_and_report(kind: Any) -> None:
    seen: list[tuple[str, float]] = []
    tasks = [task(str(n), "square", {"number": n}, cost=n) for n in range(5)]
    outcomes = list(LocalEngine(2, kind).run(tasks, lambda name, fraction, facts: seen.append((name, fraction))))
    assert {o.task.name: o.value for o in outcomes} == {str(n): n * n for n in range(5)}
    assert {name for name, _ in seen} == set("01234")


def test_threads_and_environment_are_set_before_the_process_starts() -> None:
    outcomes = run(
        LocalEngine(1), [task("a", "environment", environment={"MARK": "1"}), task("b", "environment", threads=2)]
    )
    assert outcomes["a"].value["threads"] == "1"
    assert outcomes["a"].value["mark"] == "1"
    assert outcomes["b"].value["threads"] == "2"
    assert outcomes["b"].value["pid"] != outcomes["a"].value["pid"]


def test_failures_are_sentences_and_the_others_go_on() -> None:
    tasks = [task(how, "wrong", {"how": how}) for how in ("data", "full", "die", "bug")]
    outcomes = run(LocalEngine(1), [*tasks, task("fine", "square", {"number": 3})])
    assert outcomes["data"].error == "The file x is empty."
    assert outcomes["data"].kind == 3
    assert outcomes["full"].kind == 5
    assert "No space left" in str(outcomes["full"].error)
    assert "ended with code 9" in str(outcomes["die"].error)
    assert outcomes["bug"].kind == 1
    assert "KeyError" in outcomes["bug"].trace
    assert outcomes["fine"].value == 9


def test_workers_die_with_a_killed_parent(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    code = (
        "from mixwright.engine.local import LocalEngine; from mixwright.engine.task import Task\n"
        f"list(LocalEngine(1).run([Task('s', 'tasks_for_tests:slow', {{'path': {str(mark)!r}}})]))"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": HERE})
    deadline = time.monotonic() + 20
    while not mark.exists() or not mark.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    time.sleep(1.0)
    before = mark.read_text()
    time.sleep(0.5)
    assert mark.read_text() == before


def test_closing_the_iterator_stops_what_runs(tmp_path: Path) -> None:
    marks = [tmp_path / "a", tmp_path / "b"]
    tasks = [task("quick", "square", {"number": 2}, cost=9), *(task(m.name, "slow", {"path": str(m)}) for m in marks)]
    outcomes = LocalEngine(2).run(tasks)
    assert next(outcomes).task.name == "quick"
    outcomes.close()  # type: ignore[attr-defined]
    time.sleep(0.2)
    before = [m.read_text() if m.exists() else "" for m in marks]
    time.sleep(0.3)
    assert [m.read_text() if m.exists() else "" for m in marks] == before
