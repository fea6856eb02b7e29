"""Population training: many runs of one shape in one process, every product batched over them.

A proxy of some hundred thousand parameters cannot fill a GPU, and on a CPU much of its step goes into calling small
operations. Here the parameters of K runs are stacked (``stacked.py``) and one step trains them all; each run keeps its
own stream, seed, mixture, losses, checkpoints and files, which are those that ``loop.py`` writes.

Exactness. On a CPU in float32 every number is made by the operations of a run alone, in their order: losses are equal to
the last bit where the library's batched products add as its single ones do, as on the machines measured so far; in
bfloat16 and on a GPU they differ by rounding (``docs/population.md`` has both). A run that fails is written as failed and
takes no further part: its gradients are set to zero, and nothing of it reaches another run.

Interruption. Every run of a group keeps its own checkpoints to go on from, the last two of them, so a killed group goes
on from a step that all have, together or apart.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mixwright.core.errors import StudyError
from mixwright.core.run import Run
from mixwright.store.artifact import read_json
from mixwright.stream.prefetch import Prefetch
from mixwright.train import saving
from mixwright.train.grouping import fitting
from mixwright.train.head import CHUNK_BYTES
from mixwright.train.loop import Clock, Training
from mixwright.train.optimizer import set_rate
from mixwright.train.stacked import Stack
from mixwright.train.trainer import OBSERVATION
from mixwright.train.trainers.builtin import Builtin


def train_together(
    progress: Callable[..., None],
    *,
    members: Sequence[Mapping[str, Any]],
    corpus: str | None,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """Train the runs of a group; gives ``{"runs": {run_id: status, reason and losses}}``.

    ``members`` hold ``run``, ``out``, ``checkpoints`` and ``parent`` as ``train_task`` takes them; one that is finished is
    left as it is. ``progress(fraction, run=run_id, **facts)`` tells of one run a step, in turn. Raises what ``train_task``
    raises.
    """
    if corpus is None:
        raise StudyError("The builtin trainer needs tokens: run mixwright tokenize first, or use another trainer.")
    torch.set_num_threads(1)
    left = [member for member in members if not (Path(member["out"]) / OBSERVATION).is_file()]
    trainings = [
        Training(
            Run.from_dict(member["run"]), Path(corpus), Path(member["out"]), Builtin(**options), tuple(member["checkpoints"])
        )
        for member in left
    ]  # fmt: skip
    _begin(trainings, [member["parent"] for member in left])
    for alike in _alike(trainings):
        most = _fitting(alike[0]) or len(alike)
        for at in range(0, len(alike), most):
            Population(alike[at : at + most]).run_to_the_end(progress)
    return {"runs": {member["run"]["run_id"]: _result(Path(member["out"])) for member in members}}


def _begin(trainings: Sequence[Training], parents: Sequence[str | None]) -> None:
    """Let every run go on from the newest step that all have a checkpoint of, else from its own newest, its parent, or anew."""
    common = set.intersection(*(saving.left_at(training) for training in trainings)) if trainings else set()
    at = max(common) if common else None
    for training, parent in zip(trainings, parents, strict=True):
        if not saving.resume(training, at=at) and parent is not None:
            training.branch_from(Path(parent))


def _alike(trainings: Iterable[Training]) -> list[list[Training]]:
    """The runs that can make their steps together: of one shape, length and place, in one precision."""
    groups: dict[Any, list[Training]] = defaultdict(list)
    for training in trainings:
        compute = training.compute
        kind = (training.run.size, training.steps, training.step, training.since, compute.precision, compute.device)
        groups[kind].append(training)
    return list(groups.values())


def _fitting(training: Training) -> int | None:
    """How many runs like this the GPU holds at once; None on a CPU."""
    if training.compute.device == "cpu":
        return None
    free, _ = torch.cuda.mem_get_info()
    tokens = training.options.batch * training.options.seq_len
    return fitting(
        training.run.size, tokens, vocab=len(training.frequency), gpu_bytes=free, head_bytes=CHUNK_BYTES["cuda"]
    )


def _result(out: Path) -> dict[str, Any]:
    """What ``write_results`` gave for a finished run."""
    observation = read_json(out / OBSERVATION)
    return {name: observation[name] for name in ("status", "reason", "losses")}


class Population:
    """Runs of one shape at one step, trained together to their end. The first speaks for what all have in common."""

    def __init__(self, members: Sequence[Training]) -> None:
        self.members, self.first = list(members), members[0]
        self.left = set(range(len(members)))  # those that have not failed
        self.stack = Stack.of([member.model for member in members])
        self.optimizer = self._adamw()
        self.batches: list[Any] = [None] * len(members)
        for member in self.members:
            member.together = len(members)
        self.clocks = [Clock(m.seconds, m.cpu_seconds, part=1 / len(members)) for m in members]

    def _adamw(self) -> torch.optim.Optimizer:
        """AdamW over the stack with the first run's settings; each run's own optimizer holds views of its moments."""
        parameters, names = self.stack.parameters, self.first.names
        groups = [
            {**group, "params": [parameters[names[p]] for p in group["params"]]}
            for group in self.first.optimizer.param_groups
        ]
        optimizer = torch.optim.AdamW(groups, fused=True)
        for name, parameter in parameters.items():
            state: dict[str, Tensor] = {"step": torch.tensor(float(self.first.step), device=parameter.device)}
            for part in ("exp_avg", "exp_avg_sq"):
                own = [member.optimizer.state.get(member.model.get_parameter(name), {}) for member in self.members]
                state[part] = torch.stack([held.get(part, torch.zeros_like(parameter[0])) for held in own]).detach()
            optimizer.state[parameter] = state
            for k, member in enumerate(self.members):
                member.optimizer.state[member.model.get_parameter(name)] = {
                    part: value[k] if value.ndim else value for part, value in state.items()
                }
        return optimizer

    def run_to_the_end(self, progress: Callable[..., None]) -> None:
        """Every step that is left, then each run's evaluation; every run's files are there as soon as it ended."""
        begun = self.first.step
        with ExitStack() as stack:
            for member in self.members:
                if isinstance(member.batches, Prefetch):
                    stack.enter_context(member.batches)
            while self.left and self.first_left.step < self.first.steps:
                losses = self._step()
                if self.left:
                    self._tell(progress, begun, losses)
        for k in sorted(self.left):
            self.members[k].finish("", self.clocks[k])

    @property
    def first_left(self) -> Training:
        """The first run that has not failed."""
        return self.members[min(self.left)]

    def _step(self) -> list[float]:
        """One step of all runs; those that fail by it are written and left out. Gives the losses."""
        losses = self._learn(self.first_left.step)
        for k in sorted(self.left):
            reason = self.members[k].stepped(losses[k])
            if reason:
                self.left.remove(k)
                self.members[k].finish(reason, self.clocks[k])
        if self.left and self.first_left.step < self.first.steps:
            self._save_if_due()
        return losses

    def _save_if_due(self) -> None:
        if self.clocks[0].since_saved() <= self.first.options.checkpoint_seconds * len(self.left):
            return
        for k in sorted(self.left):
            saving.save_progress(self.members[k], self.clocks[k].seconds, self.clocks[k].cpu_seconds)
        self.clocks[0].saved()

    def _learn(self, step: int) -> list[float]:
        """One step of AdamW for every run; the losses before it, nats/token. It changes no run whose loss is not finite."""
        rows = self._rows()
        with self.first.compute.autocast():
            losses = self.stack.losses(rows[..., :-1], rows[..., 1:])
        values = losses.detach()
        losses.sum().backward()
        self._silence(values)
        self._clip()
        set_rate(self.optimizer, self.first.rate_factor(step))
        self.optimizer.step()
        self.optimizer.zero_grad()
        return [float(value) for value in values.tolist()]

    def _rows(self) -> Tensor:
        """The next batch of each run, ``(K, B, T + 1)``; those that failed read their last again."""
        for k in self.left:
            self.batches[k] = next(self.members[k].batches)
        return torch.from_numpy(np.stack(self.batches)).to(self.first.compute.device).long()

    def _silence(self, losses: Tensor) -> None:
        """No gradient for runs that failed, now or before."""
        lost = ~torch.isfinite(losses)
        lost[[k for k in range(len(losses)) if k not in self.left]] = True
        if bool(lost.any()):
            for parameter in self.stack.parameters.values():
                assert parameter.grad is not None
                parameter.grad[lost] = 0.0

    def _clip(self) -> None:
        """Bound the norm of each run's gradient, as ``torch.nn.utils.clip_grad_norm_`` does."""
        gradients = [parameter.grad for parameter in self.stack.parameters.values() if parameter.grad is not None]
        norms = torch.stack([torch.linalg.vector_norm(gradient.flatten(1), dim=1) for gradient in gradients], dim=1)
        factors = (self.first.options.clip / (torch.linalg.vector_norm(norms, dim=1) + 1e-6)).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(factors.view(-1, *(1,) * (gradient.ndim - 1)))

    def _tell(self, progress: Callable[..., None], begun: int, losses: Sequence[float]) -> None:
        """Progress of one run, another at every step."""
        left = sorted(self.left)
        k = left[self.first_left.step % len(left)]
        member = self.members[k]

        def named(fraction: float, **facts: Any) -> None:
            progress(fraction, run=member.run.run_id, **facts)

        member.tell(named, losses[k], begun, self.clocks[k])
