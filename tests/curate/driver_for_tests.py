"""Curates in a process of its own, to be killed: ``python driver_for_tests.py BASE WORK WORKERS KIND``.

``BASE/WORK.log`` gets a line when a run starts, and when each task begins and ends.
"""

import dataclasses
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from curation_for_tests import Processes, run

from mixwright.curate.dedup.options import Near
from mixwright.curate.dedup.options import Options as DedupOptions
from mixwright.curate.pipeline import Bounds, Options
from mixwright.engine.local import LocalEngine
from mixwright.engine.task import OnProgress, Outcome, Progress, Task
from mixwright.store.documents import SourceOptions

#: shards so small that a few hundred kilobytes make many
OPTIONS = Options(
    rules={"words": Bounds(5, None)}, dedup=DedupOptions(near=Near(threshold=0.7)), shard="20kB", target_ngram=8
)
SOURCES = {"jsonl": SourceOptions("many.jsonl"), "parquet": SourceOptions("many.parquet", domain="both")}
TARGETS = {"goal": SourceOptions("goal.jsonl")}


class Logged(Processes):
    """An engine whose tasks say in a file that they begin and that they have ended."""

    def __init__(self, workers: int, kind: Any, log: Path) -> None:
        super().__init__(workers)
        self.engine, self.log = LocalEngine(workers, kind), log

    @property
    def slots(self) -> int:
        return self.engine.slots

    def run(self, tasks: Sequence[Task], on_progress: OnProgress | None = None) -> Iterator[Outcome]:
        return super().run([self._logged(task) for task in tasks], on_progress)

    def _logged(self, task: Task) -> Task:
        told = {"name": task.name, "log": str(self.log), "function": task.function, "arguments": dict(task.arguments)}
        return dataclasses.replace(task, function="driver_for_tests:logged", arguments=told)


def logged(progress: Progress, *, name: str, log: str, function: str, arguments: Mapping[str, Any]) -> Any:
    """Call the function of a task."""
    say(Path(log), f"begin {name}")
    value = Task(name, function, arguments).call(progress)
    say(Path(log), f"end {name}")
    return value


def say(log: Path, line: str) -> None:
    """Add a line, whole or not at all."""
    handle = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, f"{line}\n".encode())
    os.close(handle)


def main() -> None:
    base, work, workers, kind = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
    log = base / f"{work}.log"
    say(log, "run")
    run(base, SOURCES, TARGETS, OPTIONS, engine=Logged(workers, kind, log), work=work)


if __name__ == "__main__":
    main()
