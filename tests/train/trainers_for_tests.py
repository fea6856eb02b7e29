"""Trainers that train runs together, die or refuse: for the tests of the sweep."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mixwright.core.errors import DataError
from mixwright.core.run import Run
from mixwright.engine.task import Task
from mixwright.train.trainer import HOW_ONLY, Job, task_arguments
from mixwright.train.trainers.toy import Toy, toy_task


@dataclass(frozen=True)
class Grouped(Toy):
    """The toy, ``size`` runs in a process. A process that comes to one of ``deadly_seeds`` in a group ends there; one that
    comes to ``refused_seeds`` says that its data is wrong."""

    size: int = field(default=3, metadata=HOW_ONLY)
    deadly_seeds: tuple[int, ...] = field(default=(), metadata=HOW_ONLY)
    refused_seeds: tuple[int, ...] = field(default=(), metadata=HOW_ONLY)

    def task(
        self, run: Run, *, corpus: Path | None, out: Path, checkpoints: tuple[int, ...] = (), parent: Path | None = None
    ) -> Task:
        return self.together([Job(run, out, checkpoints, parent)], corpus=corpus)

    def groups(self, jobs: Sequence[Job], *, slots: int) -> list[tuple[Job, ...]]:
        return [tuple(jobs[at : at + self.size]) for at in range(0, len(jobs), self.size)]

    def together(self, jobs: Sequence[Job], *, corpus: Path | None) -> Task:
        given = [task_arguments(self, job.run, corpus, job.out, job.checkpoints, job.parent) for job in jobs]
        name = jobs[0].run.run_id if len(jobs) == 1 else "a group"
        return Task(
            name, "trainers_for_tests:train_group", {"jobs": given}, cost=sum(self.cost(job.run) for job in jobs)
        )


def train_group(progress: Callable[..., None], *, jobs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    results = {}
    for number, job in enumerate(jobs):
        name, seed, out, options = job["run"]["run_id"], job["run"]["seed"], Path(job["out"]), dict(job["options"])
        own = {key: options.pop(key) for key in ("size", "deadly_seeds", "refused_seeds")}
        if (out / "observation.json").is_file():
            continue
        out.mkdir(parents=True, exist_ok=True)
        (out / f".pid-{os.getpid()}").touch()
        if seed in own["refused_seeds"]:
            raise DataError(f"The seed {seed} is not liked.")
        if seed in own["deadly_seeds"] and len(jobs) > 1:
            os._exit(9)
        results[name] = toy_task(lambda *_, **__: None, **{**job, "options": options})
        progress((number + 1) / len(jobs), run=name, loss=1.0)
        time.sleep(0.25)  # the worker passes on five messages a second
    return {"runs": results}
