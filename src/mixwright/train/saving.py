"""The checkpoints of a run under way: kept where asked, and for an interrupted run to go on from.

The files hold whole tensors whatever number of ranks wrote them, so any number of ranks goes on from them. Every rank
takes part in saving; rank 0 writes. Of the checkpoints to go on from the last two are kept: if the newest is damaged, the
one before is taken.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mixwright.core.errors import DataError
from mixwright.train import checkpoint, windows_log
from mixwright.train.distributed import placed
from mixwright.train.optimizer import moments
from mixwright.train.trainer import checkpoint_name

if TYPE_CHECKING:
    from mixwright.train.loop import Training

#: Where an interrupted run's checkpoints lie in its folder: ``<step>`` with ten digits.
_RESUME = ".resume"
_KEPT = 2


def save(training: Training, folder: Path, **more: Any) -> None:
    """Keep the run's state as ``folder``; every rank takes part. ResourceError, on rank 0, when its disk is full."""
    tensors = _gathered(training)
    state = {
        "run": training.run.to_dict(),
        "step": training.step,
        "stream": training.batches.state_dict(),
        "compute": training.compute.to_dict(),
        "losses": training.losses,
        "recent": training.recent,
        "trajectory": training.trajectory,
    }
    if training.ranks.first:
        checkpoint.save(folder, tensors, state | more)


def _gathered(training: Training) -> dict[str, dict[str, Any]]:
    """Weights and moments, whole, by name, in the memory of rank 0; the other ranks keep nothing of what they send."""
    if training.ranks.world == 1:
        weights = {name: parameter.detach() for parameter, name in training.names.items()}
        return {"model": weights, "optimizer": moments(training.optimizer, training.names)}
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict

    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    weights, optimizer = get_state_dict(training.model, training.optimizer, options=options)
    parts = ("exp_avg", "exp_avg_sq")
    held = {f"{part}.{name}": own[part] for name, own in optimizer.get("state", {}).items() for part in parts}
    return {"model": weights, "optimizer": held}


def save_progress(training: Training, seconds: float, cpu_seconds: float) -> None:
    """Save where the run is, then drop what was saved before the last two."""
    folder = training.out / _RESUME / f"{training.step:010d}"
    save(training, folder, seconds=seconds, cpu_seconds=cpu_seconds)
    if training.ranks.first:
        kept = _found(training)[-_KEPT:]
        for old in folder.parent.iterdir():
            if old not in kept:
                shutil.rmtree(old, ignore_errors=True)


def resume(training: Training, *, at: int | None = None) -> bool:
    """Go on from the newest checkpoint an interrupted process left that is whole, or from step ``at``; False if it left none.

    Raises DataError when it left some and none is whole.
    """
    found = training.ranks.told([folder for folder in _found(training) if at is None or int(folder.name) == at])
    for number, folder in enumerate(reversed(found)):
        try:
            tensors, state = checkpoint.load(folder)
        except checkpoint.Damaged as error:
            training.damaged.append(str(error))
            if number + 1 == len(found):
                raise
            continue
        _take(training, folder, tensors, state)
        training.seconds, training.cpu_seconds = state["seconds"], state["cpu_seconds"]
        break
    if training.ranks.first:
        windows_log.cut(training.out, training.step)
    return bool(found)


def branch_from(training: Training, parent: Path) -> None:
    """Take over the state that the finished run in ``parent`` had where ``training`` branches from it."""
    run = training.run
    folder = parent / checkpoint_name(run.parent_tokens)
    if not folder.is_dir():
        raise DataError(
            f"Run {run.run_id} branches at {run.parent_tokens:,} tokens, where run {run.parent} kept no checkpoint. Ask for "
            "one there when it is trained."
        )
    _take(training, folder, *checkpoint.load(folder))


def left_at(training: Training) -> set[int]:
    """The steps at which an interrupted process left checkpoints to go on from."""
    return {int(folder.name) for folder in _found(training)}


def _found(training: Training) -> list[Path]:
    """The checkpoints to go on from, oldest first."""
    folder = training.out / _RESUME
    return sorted(path for path in folder.iterdir() if path.name.isdigit()) if folder.is_dir() else []


def _take(training: Training, folder: Path, tensors: dict[str, dict[str, Any]], state: dict[str, Any]) -> None:
    """Take over a checkpoint's state. DataError when it does not fit this run."""
    training.batches.load_state_dict(state["stream"])
    own = {name: tuple(parameter.shape) for parameter, name in training.names.items()}
    if {name: tuple(tensor.shape) for name, tensor in tensors["model"].items()} != own:
        raise DataError(
            f"{folder} holds a model of another shape than {training.run.size} over {len(training.frequency)} ids. "
            "Branch from a run of the same size and tokenizer."
        )
    with torch.no_grad():
        for parameter, name in training.names.items():
            parameter.copy_(placed(tensors["model"][name], parameter))
            training.optimizer.state[parameter] = {
                "step": torch.tensor(float(state["step"]), device=_step_device(training)),
                **{
                    part: placed(tensors["optimizer"][f"{part}.{name}"].clone(), parameter)
                    for part in ("exp_avg", "exp_avg_sq")
                },
            }
    training.step, training.compute = int(state["step"]), training.compute.resumed(state["compute"])
    training.losses, training.recent = list(state["losses"]), list(state["recent"])
    training.trajectory = list(state["trajectory"])


def _step_device(training: Training) -> str:
    """Where AdamW's fused form keeps its step: beside the parameters."""
    return training.compute.device
