"""The training loop: one run, on one process or several; killed at any step and started again it gives the same losses.

Nothing random happens after the weights are drawn: batches come from their position, dropout there is none. So the
state of a run is its weights, AdamW's moments and the step. On a CPU with one rank a resumed run is equal to the last
bit; what changes the order of sums (ranks, micro-batches, compilation, a GPU) changes losses by rounding, and data never
(``docs/training.md`` has the tolerances).
"""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mixwright.core.errors import StudyError
from mixwright.core.observation import DONE, FAILED, Observation
from mixwright.core.run import Run
from mixwright.store.tokens import TokenStore
from mixwright.stream.documents import documents
from mixwright.stream.loader import MixtureStream
from mixwright.stream.prefetch import Prefetch
from mixwright.train import saving, windows_log
from mixwright.train.compute import Compute
from mixwright.train.distributed import Ranks, unsynchronized
from mixwright.train.divergence import diverged, trimmed
from mixwright.train.evaluate import Metric, open_metrics, unigram, unigram_loss
from mixwright.train.learning_rate import annealed, factor
from mixwright.train.measuring import metric_loss
from mixwright.train.model import Model
from mixwright.train.optimizer import adamw, set_rate
from mixwright.train.trainer import checkpoint_name, write_results
from mixwright.train.trainers.builtin import Builtin

#: Training losses that ``facts.json`` keeps at most.
_KEPT_LOSSES = 2000


def train_task(
    progress: Callable[..., None],
    *,
    run: Mapping[str, Any],
    corpus: str | None,
    out: str,
    options: Mapping[str, Any],
    checkpoints: Sequence[int],
    parent: str | None,
) -> dict[str, Any]:
    """Train ``run`` on the tokens in ``corpus`` and leave its files in ``out`` (see ``trainer.py``).

    Where a group of ranks was joined (``distributed.join``), every rank calls this and rank 0 writes. A loss that is not
    finite, or that diverged, ends the run as failed, with the step in the reason. Raises StudyError for a checkpoint
    asked for outside the run, DataError for tokens or checkpoints that do not fit, ResourceError for a full disk.
    """
    if corpus is None:
        raise StudyError("The builtin trainer needs tokens: run mixwright tokenize first, or use another trainer.")
    torch.set_num_threads(1)
    training = Training(Run.from_dict(run), Path(corpus), Path(out), Builtin(**options), tuple(checkpoints))
    if not training.resume() and parent is not None:
        training.branch_from(Path(parent))
    return training.run_to_the_end(progress if training.ranks.first else _silent)


class Training:
    """A run under way: model, optimizer, stream, and what has been measured so far."""

    def __init__(self, run: Run, corpus: Path, out: Path, options: Builtin, checkpoints: tuple[int, ...]) -> None:
        self.run, self.out, self.options, self.ranks = run, out, options, Ranks.current()
        self.ranks.check_batch(options.batch)
        self.compute = Compute.choose(
            run.size, options.cost(run), run.schedule.tokens, precision=options.precision, compiling=options.compile,
            device=options.device,
        )  # fmt: skip
        stores = {name: TokenStore.open(corpus / "train" / name) for name in run.schedule.domains}
        self.stream = self._open_stream(stores)
        self.end = next(iter(stores.values())).end if options.mask_documents else None
        self.step, self.steps = 0, self.stream.plan.steps
        self.keep = [(self._step_at(tokens), tokens) for tokens in checkpoints]
        self.since = self._step_at(run.parent_tokens) if run.rate == "anneal" else None
        self.frequency = unigram(stores, run.schedule.mixture())
        self._build()
        self.metrics = open_metrics(corpus, seq_len=options.seq_len, tokens=options.eval_tokens)
        self.watched = self._watched(corpus)
        self.losses: list[list[float]] = []
        self.recent: list[float] = []
        self.trajectory: list[dict[str, Any]] = []
        self.seconds = self.cpu_seconds = 0.0
        self.damaged: list[str] = []
        self.together = 1  # runs in this process

    def _open_stream(self, stores: Mapping[str, TokenStore]) -> MixtureStream:
        run, options = self.run, self.options
        return MixtureStream(
            stores, run.schedule, run.seed, seq_len=options.seq_len, batch=options.batch, subsample=run.subsample,
            rank=self.ranks.rank, world=self.ranks.world,
        )  # fmt: skip

    def _build(self) -> None:
        """Model and optimizer on this rank; a GPU reads a batch ahead, since its thread has nothing else to do."""
        run, options, compute = self.run, self.options, self.compute
        self.model = Model(
            run.size, self.frequency, run.seed, embedding_std=options.embedding_std,
            remember=not options.activation_checkpointing,
        ).to(compute.device)  # fmt: skip
        compute.compile(self.model)
        self.wrapped = self.ranks.wrap(
            self.model, options.parallel, params=run.size.params, device=compute.device
        )  # fmt: skip
        self.optimizer, self.names = adamw(self.model, options)
        self.batches = Prefetch(self.stream, 1) if compute.device == "cuda" else self.stream

    def _watched(self, corpus: Path) -> list[Metric]:
        options = self.options
        if not options.trajectory_evals:
            return []
        return open_metrics(
            corpus, seq_len=options.seq_len, tokens=options.trajectory_eval_tokens, only="target:"
        ) or open_metrics(corpus, seq_len=options.seq_len, tokens=options.trajectory_eval_tokens)

    def _step_at(self, tokens: int) -> int:
        """The step at whose end ``tokens`` have been seen, rounded as the plan rounds phases."""
        unit = self.stream.plan.batch_tokens
        step = (2 * tokens + unit) // (2 * unit)
        if not 0 < step <= self.steps:
            raise StudyError(
                f"Run {self.run.run_id}: a checkpoint is asked for at {tokens:,} tokens; the run goes from {unit:,} to "
                f"{self.steps * unit:,}."
            )
        return step

    # ---- steps -------------------------------------------------------------------------------------------------

    def run_to_the_end(self, progress: Callable[..., None]) -> dict[str, Any]:
        """Every step that is left, then the evaluation; writes the run's files."""
        clock = Clock(self.seconds, self.cpu_seconds)
        with self.batches if isinstance(self.batches, Prefetch) else nullcontext():
            reason = self._steps(progress, clock)
        return self.finish(reason, clock)

    def finish(self, reason: str, clock: Clock) -> dict[str, Any]:
        """The evaluation, or the ``reason`` why the run failed; writes the run's files."""
        losses = {} if reason else self._measure(self.metrics)
        bad = _not_finite(losses)
        if bad:
            losses, reason = {}, f"its loss on {bad} is not finite after step {self.steps}"
        return self._write(self._observation(FAILED if reason else DONE, reason, losses), clock)

    def _steps(self, progress: Callable[..., None], clock: Clock) -> str:
        """Every step that is left; gives the reason if the run failed."""
        first = self.step
        for batch in self.batches:
            due = self.ranks.first and clock.since_saved() > self.options.checkpoint_seconds
            loss, due = self._learn(batch, self.step, due)
            if reason := self.stepped(loss):
                return reason
            if due and self.step < self.steps:
                saving.save_progress(self, clock.seconds, clock.cpu_seconds)
                clock.saved()
            self.tell(progress, loss, first, clock)
        return ""

    def stepped(self, loss: float) -> str:
        """Keep what there is to know of the step just made, and the checkpoints asked for; gives the reason if the run is lost.

        A step whose loss is not finite was not made.
        """
        if not math.isfinite(loss):
            step = self.step + 1
            return f"its loss is {loss} at step {step} ({self._tokens(step):,} tokens)"
        self.step += 1
        if reason := self._note(loss, max(1, math.ceil(self.steps / _KEPT_LOSSES))):
            return reason
        for tokens in (tokens for at, tokens in self.keep if at == self.step):
            saving.save(self, self.out / checkpoint_name(tokens))
        return ""

    def _note(self, loss: float, every: int) -> str:
        if self.options.log_windows:
            parts = self.ranks.gather(self.batches.last)
            if self.ranks.first:
                windows_log.append(self.out, self.step, parts)
        if self.step % every == 0:
            self.losses.append([self.step, loss])
        self.recent = trimmed([*self.recent, loss])
        if lost := diverged(self.recent):
            return f"{lost} (step {self.step})"
        return self._watch() if self._is_watched(self.step) else ""

    def tell(self, progress: Callable[..., None], loss: float, first: int, clock: Clock) -> None:
        """Progress, for a process that began with step ``first``."""
        spent = max(clock.spent(), 1e-9)
        progress(
            self.step / self.steps,
            loss=loss,
            tokens_per_second=self._tokens(self.step - first) / spent,
            step=self.step,
            tokens=self._tokens(self.step),
            lr=self.options.lr * self.rate_factor(self.step - 1),
            seconds_left=spent / (self.step - first) * (self.steps - self.step),
        )

    def _learn(self, batch: NDArray[Any], step: int, due: bool) -> tuple[float, bool]:
        """One step of AdamW on this rank's rows of a batch.

        Gives the batch's loss before the step, nats/token, and whether rank 0 is ``due`` for a checkpoint; both are the
        same on all ranks. A loss that is not finite changes nothing.
        """
        own = self._gradients(batch)
        total, save = self.ranks.sum(own, float(due))
        loss = total / self.ranks.world
        if math.isfinite(loss):
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.options.clip)
            set_rate(self.optimizer, self.rate_factor(step))
            self.optimizer.step()
        self.optimizer.zero_grad()
        return loss, save > 0

    def _gradients(self, batch: NDArray[Any]) -> float:
        """Add up the gradients of this rank's rows, a micro-batch at a time; gives its part of the loss, nats/token."""
        rows = torch.from_numpy(batch).to(self.compute.device).long()
        weights = self._token_weights(batch)
        parts = rows.split(self.options.micro_batch or len(rows))
        total, at = torch.zeros((), device=rows.device), 0
        for number, part in enumerate(parts):
            here = slice(at, at + len(part))
            at = here.stop
            with unsynchronized(self.wrapped, number < len(parts) - 1):
                with self.compute.autocast():
                    if weights is None:
                        loss = self.wrapped(part[:, :-1], part[:, 1:], mean=True) * (len(part) / len(rows))
                    else:
                        loss = (self.wrapped(part[:, :-1], part[:, 1:]) * weights[here].flatten()).sum()
                loss.backward()
            total += loss.detach()
        return float(total)

    def _token_weights(self, batch: NDArray[Any]) -> torch.Tensor | None:
        """What each label counts in this rank's mean, ``(rows, seq_len)``, where some do not count; else None."""
        if self.end is None:
            return None
        counted = documents(batch, self.end).loss_mask
        (everywhere,) = self.ranks.sum(float(counted.sum()))
        weights = counted.astype(np.float32) * (self.ranks.world / max(1.0, everywhere))
        return torch.from_numpy(weights).to(self.compute.device)

    def rate_factor(self, step: int) -> float:
        """What peak rates are multiplied by at ``step``."""
        options = self.options
        shape = {"warmup": options.warmup, "decay": options.decay}
        if self.since is None:
            return factor(options.lr_schedule, step, self.steps, **shape)
        return annealed(options.lr_schedule, step, self.steps, since=self.since, **shape)

    def _tokens(self, step: int) -> int:
        return step * self.stream.plan.batch_tokens

    # ---- what is measured --------------------------------------------------------------------------------------

    def _is_watched(self, step: int) -> bool:
        """Whether one of the ``trajectory_evals`` equal parts of the run ends with this step."""
        parts = self.options.trajectory_evals
        return step * parts // self.steps > (step - 1) * parts // self.steps

    def _watch(self) -> str:
        """Add to the trajectory; gives the reason if a loss is not finite."""
        losses = self._measure(self.watched)
        if bad := _not_finite(losses):
            return f"its loss on {bad} is not finite after step {self.step}"
        self.trajectory.append({"tokens": self._tokens(self.step), "losses": losses})
        return ""

    def _measure(self, metrics: Sequence[Metric]) -> dict[str, float]:
        """The model's loss on each metric, nats/token."""
        with self.compute.autocast(), torch.compiler.set_stance("force_eager"):
            return {m.name: metric_loss(self.wrapped, m, self.ranks, self.compute.device) for m in metrics}

    def _observation(self, status: str, reason: str, losses: Mapping[str, float]) -> Observation:
        return Observation(
            self.run, self._tokens(self.step), self.step, losses,
            {m.name: m.bits_per_byte(losses[m.name]) for m in self.metrics if m.name in losses},
            {m.name: unigram_loss(m, self.frequency) for m in self.metrics},
            status, reason,
        )  # fmt: skip

    def _write(self, observation: Observation, clock: Clock) -> dict[str, Any]:
        facts = {
            "seconds": clock.seconds,
            "cpu_seconds": clock.cpu_seconds,
            "tokens_per_second": (observation.tokens - self.run.parent_tokens) / max(clock.seconds, 1e-9),
            "train_losses": self.losses,
            "rounding": list(self.stream.plan.rounding),
            "compute": {**self.compute.to_dict(), "ranks": self.ranks.world},
            "together": self.together,
            "damaged": self.damaged,
        }
        if not self.ranks.first:
            return {"status": observation.status, "reason": observation.reason, "losses": dict(observation.losses)}
        return write_results(self.out, observation, self.trajectory, facts)

    # ---- checkpoints (saving.py) -------------------------------------------------------------------------------

    def resume(self) -> bool:
        """Go on from the newest checkpoint an interrupted process left here that is whole; False if there is none."""
        return saving.resume(self)

    def branch_from(self, parent: Path) -> None:
        """Take over the state that the finished run in ``parent`` had at this run's ``parent_tokens``."""
        saving.branch_from(self, parent)


class Clock:
    """Seconds and CPU-seconds of a run, with what earlier processes spent on it.

    ``part`` of this process' CPU-seconds are the run's, where it trains several.
    """

    def __init__(self, seconds: float, cpu_seconds: float, *, part: float = 1.0) -> None:
        self._before, self._part = (seconds, cpu_seconds), part
        self._begun = time.monotonic(), _cpu_seconds()
        self._saved = self._begun[1]

    @property
    def seconds(self) -> float:
        """Seconds in all."""
        return self._before[0] + self.spent()

    @property
    def cpu_seconds(self) -> float:
        """CPU-seconds in all."""
        return self._before[1] + (_cpu_seconds() - self._begun[1]) * self._part

    def spent(self) -> float:
        """Seconds of this process."""
        return time.monotonic() - self._begun[0]

    def since_saved(self) -> float:
        """CPU-seconds since the last checkpoint."""
        return _cpu_seconds() - self._saved

    def saved(self) -> None:
        """A checkpoint has been written."""
        self._saved = _cpu_seconds()


def _not_finite(losses: Mapping[str, float]) -> str:
    return next((name for name, loss in losses.items() if not math.isfinite(loss)), "")


def _silent(*_: Any, **__: Any) -> None:
    """Progress of ranks that do not speak."""


def _cpu_seconds() -> float:
    """CPU time of this process so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
