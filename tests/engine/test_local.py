"""The local engine: every task has an outcome, whatever happens to it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mixwright.core.errors import ResourceError
from mixwright.engine.local import LocalEngine, gpus
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
    assert {name for name, _ in seen} == {name for name, fraction in seen if fraction == 1} == set("01234")


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


def test_a_task_whose_process_died_is_run_once_more(tmp_path: Path) -> None:
    outcomes = run(
        LocalEngine(1), [task("s", "die_once", {"mark": str(tmp_path / "mark")}), task("d", "wrong", {"how": "die"})]
    )
    assert outcomes["s"].value == "alive"
    assert outcomes["d"].died
    with pytest.raises(ResourceError, match=r"ended with code 9.* has often run out of memory"):
        outcomes["d"].result()


@pytest.mark.parametrize("kind", ["processes", "threads"])
def test_tasks_are_added_while_others_run(kind: Any) -> None:
    found = []
    with LocalEngine(2, kind).session() as session:
        for n in range(3):
            session.submit(task(str(n), "square", {"number": n}))
        for outcome in session:
            found.append(outcome.value)
            if outcome.value is not None and 1 < outcome.value < 1000:
                session.submit(task("next", "square", {"number": outcome.value}))
    assert sorted(found) == [0, 1, 4, 16, 256, 65536]


def test_the_dearest_of_those_that_wait_starts_first() -> None:
    costs = {"cheap": 1, "dear": 9, "middle": 5}
    outcomes = LocalEngine(1).run([task(name, "square", {"number": 1}, cost=cost) for name, cost in costs.items()])
    assert [outcome.task.name for outcome in outcomes] == ["dear", "middle", "cheap"]


def test_costs_of_what_waits_may_change() -> None:
    with LocalEngine(1).session() as session:
        for name, cost in {"first": 9, "a": 5, "b": 3, "c": 1}.items():
            session.submit(task(name, "square", {"number": 1}, cost=cost))
        order = []
        for outcome in session:
            order.append(outcome.task.name)
            session.revise({"c": 7.0, "gone": 1.0})
    assert order == ["first", "a", "c", "b"], "a was begun before the first change was known"


def overlap(one: list[float], other: list[float]) -> bool:
    return max(one[0], other[0]) < min(one[1], other[1])


def test_a_task_takes_as_many_slots_as_it_has_threads(tmp_path: Path) -> None:
    def stamp(name: str, **more: Any) -> Task:
        return task(name, "stamp", {"path": str(tmp_path / name), "seconds": 0.3}, **more)

    outcomes = run(
        LocalEngine(2), [stamp("wide", threads=2, cost=9), stamp("a"), stamp("b"), stamp("wider", threads=5, cost=0)]
    )
    wide, a, b, wider = (outcomes[name].value for name in ("wide", "a", "b", "wider"))
    assert not overlap(wide, a)
    assert not overlap(wide, b)
    assert not any(overlap(wider, other) for other in (wide, a, b)), (
        "it has more threads than there are slots: it runs alone"
    )


def test_tasks_that_want_a_gpu_get_one_each_of_those_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    assert gpus() == ("4", "7")
    outcomes = run(LocalEngine(4), [*(task(str(n), "gpus", gpus=1) for n in range(3)), task("all", "gpus", gpus=9)])
    assert {outcomes[str(n)].value for n in range(3)} <= {"4", "7"}
    assert outcomes["all"].value == "4,7"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert gpus() == ()


def test_room_is_what_runs_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    engine = LocalEngine(8)
    one, wide, large, both = (task("t", "square", **more) for more in ({}, {"threads": 3}, {"gpus": 1}, {"gpus": 2}))
    assert [engine.room(like) for like in (one, wide, large, both)] == [8, 2, 2, 1]
    assert LocalEngine(1).room(wide) == 1
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert engine.room(large) == 8, "where there are none, none is waited for"


def test_two_tasks_with_one_lock_are_not_at_work_together(tmp_path: Path) -> None:
    lock = str(tmp_path / "folder" / ".lock")
    tasks = [task(name, "stamp", {"path": str(tmp_path / name), "seconds": 0.2}, locks=(lock,)) for name in "ab"]
    outcomes = run(LocalEngine(2), tasks)
    assert not overlap(outcomes["a"].value, outcomes["b"].value)


def test_closing_ends_threads_at_their_next_word_of_progress(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    outcomes = LocalEngine(2, "threads").run(
        [task("a", "square", {"number": 2}), task("s", "slow", {"path": str(mark)})]
    )
    assert next(outcomes).value == 4
    outcomes.close()  # type: ignore[attr-defined]
    ended = int(mark.read_text().split()[1]) if mark.exists() else 0
    assert ended < 599
