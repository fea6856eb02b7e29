"""The builtin trainer: a small decoder-only model in plain torch, one process and one thread a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Interval

from mixwright.core.run import Run
from mixwright.engine.task import Task
from mixwright.train.grouping import Choice, has_gpu, split, wants_gpu
from mixwright.train.learning_rate import Kind
from mixwright.train.trainer import HOW_ONLY, Job, Trainer, task_arguments

#: A step over a 4,096-id vocabulary frees its logits (8 MB) and would fault them in again: a quarter of the time of a
#: small model would go into page faults unless the allocator keeps what was freed (LOG.md has the measurement).
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "4000000000", "MALLOC_TRIM_THRESHOLD_": "8000000000"}


@dataclass(frozen=True)
class Builtin(Trainer):
    """Settings of the builtin trainer.

    ``seq_len`` tokens a window, ``batch`` windows a step. ``lr`` is the peak learning rate of AdamW for the embedding
    and norms; matrices inside the model get ``lr * lr_width / width`` (muP, see ``optimizer.py``). ``lr_schedule``,
    ``warmup`` and ``decay`` (fractions of the run; ``decay`` for wsd) are those of ``learning_rate.py``. ``beta2`` is
    near one because most ids are rare: the second moment must remember them over many small batches.
    ``weight_decay`` applies to matrices inside the model, ``clip`` bounds the norm of the gradient,
    ``embedding_std`` is the embedding's spread at the start. ``eval_tokens`` of each metric are read at the end;
    ``trajectory_evals`` times on the way ``trajectory_eval_tokens`` of each target. ``checkpoint_seconds`` of work
    lie between two checkpoints that an interrupted run goes on from.

    ``mask_documents`` leaves the first token of a document, which nothing predicts, out of the loss. ``precision``,
    ``compile`` and ``device`` are explained in ``compute.py``. The rest changes how a run is computed, and what comes
    out by the order of sums at most: ``micro_batch`` windows go through the model at once (0: all of a rank's),
    ``activation_checkpointing`` computes again what it does not keep, ``parallel`` says how several ranks share a
    model, ``population`` whether small runs of one shape are trained together in one process (``auto``: where that was
    measured to be faster, see ``docs/population.md``). ``log_windows`` writes down what every step drew (``windows_log.py``).
    """

    seq_len: Annotated[int, Interval(ge=8, le=8192)] = 128
    batch: Annotated[int, Ge(1)] = 4
    lr: Annotated[float, Interval(gt=0, le=1)] = 0.015
    lr_width: Annotated[int, Ge(1)] = 16
    lr_schedule: Kind = "linear"
    warmup: Annotated[float, Interval(ge=0, lt=1)] = 0.02
    decay: Annotated[float, Interval(gt=0, le=1)] = 0.2
    weight_decay: Annotated[float, Ge(0)] = 0.1
    clip: Annotated[float, Gt(0)] = 1.0
    beta1: Annotated[float, Interval(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Interval(ge=0, lt=1)] = 0.98
    embedding_std: Annotated[float, Gt(0)] = 0.5
    eval_tokens: Annotated[int, Ge(1)] = 8192
    trajectory_evals: Annotated[int, Interval(ge=0, le=1000)] = 20
    trajectory_eval_tokens: Annotated[int, Ge(1)] = 4096
    mask_documents: bool = False
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    compile: Literal["auto", "on", "off"] = field(default="auto", metadata=HOW_ONLY)
    device: Literal["auto", "cpu", "cuda"] = field(default="auto", metadata=HOW_ONLY)
    micro_batch: Annotated[int, Ge(0)] = field(default=0, metadata=HOW_ONLY)
    activation_checkpointing: bool = field(default=False, metadata=HOW_ONLY)
    parallel: Literal["auto", "ddp", "fsdp"] = field(default="auto", metadata=HOW_ONLY)
    population: Choice = field(default="auto", metadata=HOW_ONLY)
    log_windows: bool = field(default=False, metadata=HOW_ONLY)
    checkpoint_seconds: Annotated[float, Gt(0)] = field(default=10.0, metadata=HOW_ONLY)

    def task(
        self,
        run: Run,
        *,
        corpus: Path | None,
        out: Path,
        checkpoints: tuple[int, ...] = (),
        parent: Path | None = None,
    ) -> Task:
        arguments = task_arguments(self, run, corpus, out, checkpoints, parent)
        return Task(
            run.run_id, "mixwright.train.loop:train_task", arguments, self.cost(run), environment=ALLOCATOR,
            gpus=int(wants_gpu(self.device)),
        )  # fmt: skip

    def groups(self, jobs: Sequence[Job], *, slots: int) -> list[tuple[Job, ...]]:
        """Groups by ``grouping.py``, unless something is asked for that only runs alone can do."""
        if self.population == "off" or self.micro_batch or self.mask_documents or self.activation_checkpointing:
            return [(job,) for job in jobs]
        tokens = self.batch * self.seq_len
        return split(jobs, slots=slots, tokens=tokens, gpu=has_gpu(self.device), choice=self.population)

    def together(self, jobs: Sequence[Job], *, corpus: Path | None) -> Task:
        """As alone: losses equal to the last bit on a CPU in float32, else within rounding (``population.py``)."""
        own = [task_arguments(self, job.run, corpus, job.out, job.checkpoints, job.parent) for job in jobs]
        members = [{name: one[name] for name in ("run", "out", "checkpoints", "parent")} for one in own]
        arguments = {"members": members, "corpus": own[0]["corpus"], "options": own[0]["options"]}
        cost = sum(self.cost(job.run) for job in jobs)
        return Task(
            jobs[0].run.run_id, "mixwright.train.population:train_together", arguments, cost, environment=ALLOCATOR,
            gpus=int(wants_gpu(self.device)),
        )  # fmt: skip

    def cost(self, run: Run, vocab: int = 4096) -> float:
        """CPU-seconds on one core of a 2024 server processor, evaluation included; see ``LOG.md``."""
        millions = 6e-6 * (run.size.params + run.size.width * vocab)
        per_token = 2e-6 + 6e-6 * vocab / 4096 + 16e-6 * millions
        seen = run.schedule.tokens - run.parent_tokens
        read = 8 * self.eval_tokens + 2 * self.trajectory_evals * self.trajectory_eval_tokens
        return 1.5 + per_token * (seen + read / 3)
