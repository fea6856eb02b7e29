"""Runs the tasks of a group of checks in a few processes, keeps what is done on disk, and says how long the rest will take.

A task is a function of this package, named ``module:function``, with JSON arguments and a JSON result. Its result is kept
under a key made of the arguments and of the source it depends on: ours on all of mixwright, a peer's on this package. So a
stopped bench goes on where it was, and an edit recomputes what it touches.
"""

import hashlib
import importlib
import inspect
import json
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
KEPT = ROOT / "benchmarks" / ".envs" / "laws-kept"
#: the rooms of mixwright on which our results depend
ROOMS = ("core", "laws", "optimize", "store")
#: the modules of this package on which results depend, with the task's own
PEERS = ("published.py", "peers.py", "authors.py")
OURS = ("published.py", "ours.py", "peers.py", "authors.py")


@dataclass(frozen=True)
class Task:
    """``call`` is ``module:function`` in this package; ``seconds`` is what it is expected to take."""

    call: str
    arguments: dict[str, Any]
    seconds: float = 1.0
    peer: bool = False


@cache
def fingerprint(call: str, peer: bool) -> str:
    """Of the source that a task depends on."""
    module, _, function = call.partition(":")
    digest = hashlib.sha256()
    for name in PEERS if peer else (*OURS, f"{module}.py"):
        digest.update((HERE / name).read_bytes())
    if peer:  # its own lines, and how its module scores
        there = importlib.import_module(f"benchmarks.laws.{module}")
        for part in (function, "scored", "_rival", "_shrunken"):
            if hasattr(there, part):
                digest.update(inspect.getsource(getattr(there, part)).encode())
        return digest.hexdigest()[:16]
    for room in ROOMS:
        for path in sorted((ROOT / "src/mixwright" / room).rglob("*.py")):
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _place(task: Task) -> Path:
    text = json.dumps([task.call, task.arguments], sort_keys=True)
    source = fingerprint(task.call, task.peer)
    name = hashlib.sha256(f"{source} {text}".encode()).hexdigest()[:32]
    return KEPT / f"{name}.json"


def perform(task: Task) -> Any:
    """Do the task in this process."""
    module, _, function = task.call.partition(":")
    return getattr(importlib.import_module(f"benchmarks.laws.{module}"), function)(**task.arguments)


@dataclass
class Workshop:
    """``jobs`` processes; ``fresh`` believes nothing kept. ``ahead`` is the time the groups still to come will take."""

    jobs: int = 2
    fresh: bool = False
    law: str = "additive"
    fast: bool = False
    peers: bool = True
    ahead: float = 0.0
    began: float = field(default_factory=time.monotonic)

    def do(self, label: str, tasks: Sequence[Task]) -> list[Any]:
        """The results of the tasks, in their order. A task that raises is an error of the whole bench."""
        results: list[Any] = [None] * len(tasks)
        todo = []
        for n, task in enumerate(tasks):
            place = _place(task)
            if not self.fresh and place.exists():
                results[n] = json.loads(place.read_text())
            else:
                todo.append(n)
        self._say(f"{label}: {len(tasks)} tasks, {len(tasks) - len(todo)} kept from before")
        if not todo:
            return results
        KEPT.mkdir(parents=True, exist_ok=True)
        todo.sort(key=lambda n: -tasks[n].seconds)
        left = sum(tasks[n].seconds for n in todo)
        said = time.monotonic()
        with ProcessPoolExecutor(self.jobs, mp_context=get_context("spawn")) as pool:
            waiting = {pool.submit(perform, tasks[n]): n for n in todo}
            for done, future in enumerate(as_completed(waiting), 1):
                n = waiting[future]
                results[n] = future.result()
                aside = _place(tasks[n]).with_suffix(f".{os.getpid()}")
                aside.write_text(json.dumps(results[n]))
                aside.replace(_place(tasks[n]))
                left -= tasks[n].seconds
                if time.monotonic() - said > 10 or done == len(todo):
                    said = time.monotonic()
                    self._say(
                        f"{label}: {done} of {len(todo)} done, about {clock((left + self.ahead) / self.jobs)} left"
                    )
        return results

    def _say(self, text: str) -> None:
        print(f"[{clock(time.monotonic() - self.began)}] {text}", file=sys.stderr, flush=True)


def clock(seconds: float) -> str:
    return f"{int(max(seconds, 0)) // 60}:{int(max(seconds, 0)) % 60:02d}"
