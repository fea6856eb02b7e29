"""One model on a recipe: the verb ``train``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from mixwright.core.errors import DataError, RunsFailedError
from mixwright.core.observation import DONE
from mixwright.core.recipe import Recipe
from mixwright.core.run import ModelSize, Run
from mixwright.core.schedule import Phase, Schedule
from mixwright.study.epochs import held_to_cap
from mixwright.train.ranks_engine import follow, leading

__all__ = ["follow", "read_recipe", "scaled", "train_recipe"]

if TYPE_CHECKING:
    from mixwright.engine.task import Engine
    from mixwright.study.flow import Flow


def read_recipe(path: Path) -> Recipe:
    """A recipe from its YAML file; DataError when there is none or it is not one."""
    if not path.is_file():
        raise DataError(f"There is no recipe at {path}. Make one with mixwright optimize, or give --recipe PATH.")
    try:
        values = yaml.safe_load(path.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not valid YAML: {error}.") from error
    if not isinstance(values, dict):
        raise DataError(f"{path} is not a recipe: it holds no mapping.")
    return Recipe.from_dict(values)


def scaled(schedule: Schedule, tokens: int) -> Schedule:
    """The same phases over another number of tokens; the last phase takes the rounding."""
    lengths = [round(phase.tokens * tokens / schedule.tokens) for phase in schedule.phases[:-1]]
    lengths.append(tokens - sum(lengths))
    return Schedule(tuple(Phase(n, p.mixture) for n, p in zip(lengths, schedule.phases, strict=True)))


def train_recipe(flow: Flow, recipe: Path, *, size: str, tokens: int | None) -> dict[str, Any]:
    """Train one model on the recipe with the study's corpus and trainer; found as it was if it has been trained before.

    Under torchrun rank 0 calls this, and all ranks train the model together (``ranks_engine.follow`` on the others).
    """
    with leading(flow.engine) as engine:
        return _train(flow, engine, recipe, size=size, tokens=tokens)


def _train(flow: Flow, engine: Engine, recipe: Path, *, size: str, tokens: int | None) -> dict[str, Any]:
    schedule = read_recipe(recipe).schedule
    total = tokens or schedule.tokens
    domains = flow.corpus.names
    if set(schedule.domains) != set(domains):
        raise DataError(
            f"The recipe is for {', '.join(schedule.domains)}; the study's corpus has {', '.join(domains)}."
        )
    allowed, said = held_to_cap(flow, scaled(schedule, total))
    for sentence in said:
        flow.listener.note(sentence)
    run = Run("train", allowed, ModelSize.parse(size), flow.study.seed, "train")
    flow.listener.begin("train", f"one {size} model on {recipe}", {"train": float(flow.study.trainer.cost(run))})
    finished = flow.trainings.sweep([run], {"train": (total,)}, engine)[0]
    if finished.observation.status != DONE:
        raise RunsFailedError(f"The run failed: {finished.observation.reason}. Lower trainer.lr and run again.")
    return {
        "verb": "train",
        "artifact": os.path.relpath(finished.artifact.path),
        "losses": dict(finished.observation.losses),
        "bpb": dict(finished.observation.bpb),
    }
