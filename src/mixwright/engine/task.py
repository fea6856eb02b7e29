"""A task: a pure function of files, named so that it can run anywhere.

The function is given by its import path and its arguments by JSON, so a process on this machine and a node of a
cluster take the same task. It reads files, writes files, and returns a small JSON value.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mixwright.core.errors import DataError, ResourceError, RunsFailedError, StudyError

#: ``progress(fraction, **facts)``: how far a task is, 0..1, and what it wants to show (JSON values)
Progress = Callable[..., None]


@dataclass(frozen=True)
class Task:
    """``function`` (``package.module:name``) is called as ``function(progress, **arguments)``.

    ``cost`` is an estimate in CPU-seconds (dear tasks start first). ``threads`` and ``environment`` are set before the
    task's process starts.
    """

    name: str
    function: str
    arguments: Mapping[str, Any]
    cost: float = 1.0
    threads: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)

    def call(self, progress: Progress) -> Any:
        """Run it here."""
        module, _, name = self.function.partition(":")
        return getattr(importlib.import_module(module), name)(progress, **self.arguments)


@dataclass(frozen=True)
class Outcome:
    """How a task ended: a ``value``, or an ``error`` sentence of a ``kind``.

    ``kind`` is the exit code of the error's class (2, 3, 4, 5) for errors a user can act on, 1 for anything else; then
    ``trace`` holds the traceback.
    """

    task: Task
    value: Any = None
    error: str | None = None
    kind: int = 0
    trace: str = ""
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    def result(self) -> Any:
        """The value; or raises the error as the class its kind names, RuntimeError with the trace for kind 1."""
        if self.error is None:
            return self.value
        known = {error.exit_code: error for error in (StudyError, DataError, RunsFailedError, ResourceError)}
        if self.kind in known:
            raise known[self.kind](self.error)
        raise RuntimeError(f"{self.error}\n{self.trace}".strip())


class Engine(ABC):
    """Where tasks run."""

    @property
    @abstractmethod
    def slots(self) -> int:
        """How many one-thread tasks run at once."""

    @abstractmethod
    def run(
        self, tasks: Sequence[Task], on_progress: Callable[[str, float, dict[str, Any]], None] | None = None
    ) -> Iterator[Outcome]:
        """Run all tasks, dearest first; yield each outcome as it comes. ``on_progress(task name, fraction, facts)``.

        A task that fails or whose process dies yields an outcome with its error; the others go on. Closing the
        iterator stops what is running.
        """
