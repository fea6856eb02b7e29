"""A task: a pure function of files, named so that it can run anywhere.

The function is given by its import path and its arguments by JSON, so a process on this machine and a node of a
cluster take the same task. It reads files, writes files, and returns a small JSON value.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from mixwright.core.errors import DataError, ResourceError, RunsFailedError, StudyError

#: ``progress(fraction, **facts)``: how far a task is, 0..1, and what it wants to show (JSON values)
Progress = Callable[..., None]
#: ``on_progress(task name, fraction, facts)``: what an engine tells while tasks run
OnProgress = Callable[[str, float, dict[str, Any]], None]


@dataclass(frozen=True)
class Task:
    """``function`` (``package.module:name``) is called as ``function(progress, **arguments)``.

    ``cost`` is an estimate in CPU-seconds (dear tasks start first). ``threads`` and ``environment`` are set before the
    task's process starts; it takes as many of the engine's slots as it has threads, and ``gpus`` GPUs where there are any.
    ``locks`` are files: no two processes are at tasks with the same one at a time, so that what a stopped or unreachable
    process may still be writing is left to it until it is gone.
    """

    name: str
    function: str
    arguments: Mapping[str, Any]
    cost: float = 1.0
    threads: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)
    gpus: int = 0
    locks: tuple[str, ...] = ()

    def call(self, progress: Progress) -> Any:
        """Run it here."""
        module, _, name = self.function.partition(":")
        return getattr(importlib.import_module(module), name)(progress, **self.arguments)


@dataclass(frozen=True)
class Outcome:
    """How a task ended: a ``value``, or an ``error`` sentence of a ``kind``.

    ``kind`` is the exit code of the error's class (2, 3, 4, 5) for errors a user can act on, 1 for anything else; then
    ``trace`` holds the traceback. ``died``: the process ended before the task did.
    """

    task: Task
    value: Any = None
    error: str | None = None
    kind: int = 0
    trace: str = ""
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    died: bool = False

    def result(self) -> Any:
        """The value; or raises the error as the class its kind names: ResourceError for a process that died, RuntimeError
        with the trace for anything else of kind 1."""
        if self.error is None:
            return self.value
        if self.died:
            raise ResourceError(
                f"{self.error} A process that is killed has often run out of memory: lower engine.workers, or use a machine "
                "with more. Finished work is kept, and the same command goes on from there."
            )
        known = {error.exit_code: error for error in (StudyError, DataError, RunsFailedError, ResourceError)}
        if self.kind in known:
            raise known[self.kind](self.error)
        raise RuntimeError(f"{self.error}\n{self.trace}".strip())


class Session(ABC):
    """Tasks on their way: ``submit`` some, then iterate over their outcomes and submit more as these come.

    The iteration ends when every task submitted has had its outcome. Of the tasks that wait, the dearest starts first. A
    task that fails or whose process dies has an outcome with its error; the others go on. Leaving the ``with`` block stops
    what is running.
    """

    @abstractmethod
    def submit(self, task: Task) -> None:
        """Let a task run as soon as there is room for it."""

    def revise(self, costs: Mapping[str, float]) -> None:  # noqa: B027  # an engine that runs one task at a time need not
        """Let tasks that still wait, by their names, start in the order of these costs."""

    @abstractmethod
    def _next(self) -> Outcome | None:
        """The next outcome, waited for; None when nothing is left."""

    @abstractmethod
    def close(self) -> None:
        """Stop what is running and forget what waits."""

    def __iter__(self) -> Iterator[Outcome]:
        while (outcome := self._next()) is not None:
            yield outcome

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Engine(ABC):
    """Where tasks run."""

    @property
    @abstractmethod
    def slots(self) -> int:
        """How many one-thread tasks run at once."""

    @property
    def gpus(self) -> int:
        """How many GPUs there are for tasks that want one."""
        return 0

    def room(self, task: Task) -> int:
        """How many tasks like this one run at once."""
        at_once = max(1, self.slots // task.threads)
        return min(at_once, max(1, self.gpus // task.gpus)) if task.gpus and self.gpus else at_once

    @abstractmethod
    def session(self, on_progress: OnProgress | None = None) -> Session:
        """A session of this engine; ``on_progress`` is called from the thread that iterates over the outcomes."""

    def run(self, tasks: Sequence[Task], on_progress: OnProgress | None = None) -> Iterator[Outcome]:
        """Run all tasks, dearest first; yield each outcome as it comes. One whose process died is run once more.

        A task that ended well has a fraction of 1. Closing the iterator stops what is running.
        """
        died: set[str] = set()
        with closing(self.session(on_progress)) as session:
            for task in tasks:
                session.submit(task)
            for outcome in session:
                if outcome.died and outcome.task.name not in died:
                    died.add(outcome.task.name)
                    session.submit(outcome.task)
                else:
                    if outcome.error is None and on_progress is not None:
                        on_progress(outcome.task.name, 1.0, {})
                    yield outcome
