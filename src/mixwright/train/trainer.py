"""What a trainer is: it turns a run into a task, and the task leaves the run's files in a folder.

A trainer is a frozen dataclass whose fields are its settings in the study file. The task it makes is called as
``function(progress, **arguments)`` in a process of its own and leaves, with ``write_results``:

    observation.json    the Observation at the end
    trajectory.json     [{"tokens", "losses": {metric: nats/token}}], fewer metrics and fewer tokens than at the end
    facts.json          what it cost, and the training losses
    checkpoint-<tokens>/    where one was asked for

Names that begin with a dot are the task's own, to go on from if it is killed; they are removed in the end.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from mixwright.core.mixture import Mixture
from mixwright.core.observation import Observation
from mixwright.core.run import Run
from mixwright.engine.task import Task
from mixwright.store.artifact import write_json

OBSERVATION, TRAJECTORY, FACTS = "observation.json", "trajectory.json", "facts.json"
#: ``field(metadata=HOW_ONLY)`` marks a setting that changes how a run is done, never what comes out.
HOW_ONLY: Mapping[str, Any] = {"how_only": True}


@dataclass(frozen=True)
class Job:
    """A run and where its files go; the rest as in ``Trainer.task``."""

    run: Run
    out: Path
    checkpoints: tuple[int, ...] = ()
    parent: Path | None = None


class Trainer(ABC):
    """Who trains a run. Subclasses are frozen dataclasses in ``train/trainers/``."""

    @abstractmethod
    def task(
        self,
        run: Run,
        *,
        corpus: Path | None,
        out: Path,
        checkpoints: tuple[int, ...] = (),
        parent: Path | None = None,
    ) -> Task:
        """The task that trains ``run`` and leaves its files in ``out``.

        ``corpus`` is the folder of a tokenize artifact, ``checkpoints`` the training tokens at which to keep one,
        ``parent`` the folder of the finished run that a branch starts from. Called again after the process was
        killed, the task goes on from what it finds in ``out`` and gives the same results to the last bit.
        """

    @abstractmethod
    def cost(self, run: Run) -> float:
        """CPU-seconds the run will take, roughly."""

    def groups(self, jobs: Sequence[Job], *, slots: int) -> list[tuple[Job, ...]]:
        """How ``jobs`` are best trained on ``slots`` workers: those of a group together, in one process (see ``together``)."""
        return [(job,) for job in jobs]

    def together(self, jobs: Sequence[Job], *, corpus: Path | None) -> Task:
        """The task that trains a group of runs at once, each with its files in its own ``out``, finished as each ends.

        The losses are those the runs would have alone, within the tolerance that the trainer states. Progress names the
        run: ``progress(fraction, run=run_id, **facts)``. Called again, it goes on with the runs that are not finished.
        """
        raise NotImplementedError(f"{type(self).__name__} trains one run at a time")

    def placed(self, folder: Path) -> Self:
        """The same trainer with the relative paths among its settings taken from ``folder``, the study file's."""
        return self

    def mixtures(self, domains: Sequence[str]) -> list[Mixture] | None:
        """The mixtures over ``domains`` it can train, where it cannot train any (None): a design must keep to them."""
        return None

    def identity(self) -> dict[str, Any]:
        """The settings that decide what comes out of a run, with the trainer's import path: part of a run's key."""
        assert dataclasses.is_dataclass(self)
        how = {field.name for field in dataclasses.fields(self) if field.metadata.get("how_only")}
        kept = {name: value for name, value in dataclasses.asdict(self).items() if name not in how}
        return {"trainer": f"{type(self).__module__}:{type(self).__qualname__}", **kept}


def task_arguments(
    trainer: Trainer, run: Run, corpus: Path | None, out: Path, checkpoints: Sequence[int], parent: Path | None
) -> dict[str, Any]:
    """What ``Trainer.task`` is asked for, as JSON values under the same names, with the trainer's settings as ``options``."""
    assert dataclasses.is_dataclass(trainer)
    return {
        "run": run.to_dict(),
        "corpus": str(corpus) if corpus is not None else None,
        "out": str(out),
        "options": dataclasses.asdict(trainer),
        "checkpoints": list(checkpoints),
        "parent": str(parent) if parent is not None else None,
    }


def checkpoint_name(tokens: int) -> str:
    """The folder of the checkpoint after ``tokens`` training tokens."""
    return f"checkpoint-{tokens}"


def write_results(
    out: Path, observation: Observation, trajectory: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]
) -> dict[str, Any]:
    """Write a run's files, the observation last; gives what the task returns."""
    write_json(out / FACTS, facts)
    write_json(out / TRAJECTORY, list(trajectory))
    write_json(out / OBSERVATION, observation.to_dict())
    return {"status": observation.status, "reason": observation.reason, "losses": dict(observation.losses)}
