"""The training loop: one run, one process; killed at any step and started again it gives the same losses to the bit.

Nothing random happens after the weights are drawn: batches come from their position, dropout there is none. So the
state of a run is its weights, AdamW's moments and the step.

Learning rate and width. Embedding, head, biases and norms learn at ``lr`` whatever the width; matrices inside the model
at ``lr * lr_width / width``, since under Adam the changes a matrix makes to its output add up over its fan-in (muP:
Yang et al. 2022, arXiv:2203.03466, table 3, hidden weights). ``LOG.md`` has the check at widths 48, 64 and 96.
"""

from __future__ import annotations

import math
import resource
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from mixwright.core.errors import DataError, StudyError
from mixwright.core.observation import DONE, FAILED, Observation
from mixwright.core.run import Run
from mixwright.store.tokens import TokenStore
from mixwright.stream.loader import MixtureStream
from mixwright.train import checkpoint
from mixwright.train.evaluate import Metric, model_loss, open_metrics, unigram, unigram_loss
from mixwright.train.learning_rate import factor
from mixwright.train.model import Model
from mixwright.train.trainer import checkpoint_name, write_results
from mixwright.train.trainers.builtin import Builtin

#: Where an interrupted run's checkpoints lie in its folder: ``<step>`` with ten digits.
_RESUME = ".resume"
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

    A loss that is not finite ends the run as failed, with the step in the reason. Raises StudyError for a checkpoint
    asked for outside the run, DataError for tokens or checkpoints that do not fit.
    """
    if corpus is None:
        raise StudyError("The builtin trainer needs tokens: run mixwright tokenize first, or use another trainer.")
    torch.set_num_threads(1)
    training = Training(Run.from_dict(run), Path(corpus), Path(out), Builtin(**options), tuple(checkpoints))
    if not training.resume() and parent is not None:
        training.branch_from(Path(parent))
    return training.run_to_the_end(progress)


class Training:
    """A run under way: model, optimizer, stream, and what has been measured so far."""

    def __init__(self, run: Run, corpus: Path, out: Path, options: Builtin, checkpoints: tuple[int, ...]) -> None:
        self.run, self.out, self.options = run, out, options
        stores = {name: TokenStore.open(corpus / "train" / name) for name in run.schedule.domains}
        self.stream = MixtureStream(stores, run.schedule, run.seed, seq_len=options.seq_len, batch=options.batch)
        self.steps = self.stream.plan.steps
        self.keep = [(self._step_at(tokens), tokens) for tokens in checkpoints]
        self.frequency = unigram(stores, run.schedule.mixture())
        self.model = Model(run.size, self.frequency, run.seed, embedding_std=options.embedding_std)
        self.optimizer, self.names = _optimizer(self.model, options)
        self.metrics = open_metrics(corpus, seq_len=options.seq_len, tokens=options.eval_tokens)
        self.watched = self._watched(corpus)
        self.losses: list[list[float]] = []
        self.trajectory: list[dict[str, Any]] = []
        self.seconds = self.cpu_seconds = 0.0

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

    def run_to_the_end(self, progress: Callable[..., None]) -> dict[str, Any]:
        """Every step that is left, then the evaluation; writes the run's files."""
        begun, cpu, saved = time.monotonic(), _cpu_seconds(), _cpu_seconds()
        first, every = self.stream.step, max(1, math.ceil(self.steps / _KEPT_LOSSES))
        for batch in self.stream:
            step = self.stream.step
            loss = self._learn(batch, step - 1)
            if not math.isfinite(loss):
                return self._failed(f"its loss is {loss} at step {step} ({self._tokens(step):,} tokens)", begun, cpu)
            if step % every == 0:
                self.losses.append([step, loss])
            bad = self._watch(step) if self._is_watched(step) else None
            if bad is not None:
                return self._failed(f"its loss on {bad} is not finite after step {step}", begun, cpu)
            for tokens in (tokens for at, tokens in self.keep if at == step):
                self._save(self.out / checkpoint_name(tokens))
            if _cpu_seconds() - saved > self.options.checkpoint_seconds and step < self.steps:
                self._save_progress(step, time.monotonic() - begun, _cpu_seconds() - cpu)
                saved = _cpu_seconds()
            spent = time.monotonic() - begun
            progress(step / self.steps, loss=loss, tokens_per_second=self._tokens(step - first) / max(spent, 1e-9))
        losses = {metric.name: model_loss(self.model, metric) for metric in self.metrics}
        bad = next((name for name, loss in losses.items() if not math.isfinite(loss)), None)
        if bad is not None:
            return self._failed(f"its loss on {bad} is not finite after step {self.steps}", begun, cpu)
        return self._write(self._observation(DONE, "", losses), begun, cpu)

    def _learn(self, batch: Any, step: int) -> float:
        """One step of AdamW on ``batch``; its loss before the step, nats/token. A loss that is not finite changes nothing."""
        rows = torch.from_numpy(batch.astype("int64"))
        loss = self.model(rows[:, :-1], rows[:, 1:], mean=True)
        value = float(loss.detach())
        if not math.isfinite(value):
            return value
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.options.clip)
        rate = factor(
            self.options.lr_schedule, step, self.steps, warmup=self.options.warmup, decay=self.options.decay
        )  # fmt: skip
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * rate
        self.optimizer.step()
        self.optimizer.zero_grad()
        return value

    def _tokens(self, step: int) -> int:
        return step * self.stream.plan.batch_tokens

    def _is_watched(self, step: int) -> bool:
        """Whether one of the ``trajectory_evals`` equal parts of the run ends with this step."""
        parts = self.options.trajectory_evals
        return step * parts // self.steps > (step - 1) * parts // self.steps

    def _watch(self, step: int) -> str | None:
        """Add to the trajectory; gives the name of a metric whose loss is not finite, if there is one."""
        losses = {metric.name: model_loss(self.model, metric) for metric in self.watched}
        bad = next((name for name, loss in losses.items() if not math.isfinite(loss)), None)
        if bad is None:
            self.trajectory.append({"tokens": self._tokens(step), "losses": losses})
        return bad

    def _observation(self, status: str, reason: str, losses: Mapping[str, float]) -> Observation:
        step = self.stream.step
        return Observation(
            self.run, self._tokens(step), step, losses,
            {m.name: m.bits_per_byte(losses[m.name]) for m in self.metrics if m.name in losses},
            {m.name: unigram_loss(m, self.frequency) for m in self.metrics},
            status, reason,
        )  # fmt: skip

    def _failed(self, reason: str, begun: float, cpu: float) -> dict[str, Any]:
        return self._write(self._observation(FAILED, reason, {}), begun, cpu)

    def _write(self, observation: Observation, begun: float, cpu: float) -> dict[str, Any]:
        seconds = self.seconds + time.monotonic() - begun
        cpu_seconds = self.cpu_seconds + _cpu_seconds() - cpu
        facts = {
            "seconds": seconds,
            "cpu_seconds": cpu_seconds,
            "tokens_per_second": (observation.tokens - self.run.parent_tokens) / max(seconds, 1e-9),
            "train_losses": self.losses,
            "rounding": list(self.stream.plan.rounding),
        }
        return write_results(self.out, observation, self.trajectory, facts)

    # ---- checkpoints -------------------------------------------------------------------------------------------

    def _save(self, folder: Path, **more: Any) -> None:
        moments = self.optimizer.state
        optimizer = {
            f"{part}.{name}": moments[parameter][part]
            for parameter, name in self.names.items()
            for part in ("exp_avg", "exp_avg_sq")
        }
        state = {"run": self.run.to_dict(), "step": self.stream.step, "stream": self.stream.state_dict()}
        measured = {"losses": self.losses, "trajectory": self.trajectory}
        checkpoint.save(
            folder, {"model": dict(self.model.named_parameters()), "optimizer": optimizer}, state | measured | more
        )

    def _load(self, folder: Path) -> dict[str, Any]:
        """Take over a checkpoint's state; returns its JSON part. DataError when it does not fit this run."""
        tensors, state = checkpoint.load(folder)
        self.stream.load_state_dict(state["stream"])
        own = dict(self.model.named_parameters())
        if {n: tuple(t.shape) for n, t in tensors["model"].items()} != {n: tuple(p.shape) for n, p in own.items()}:
            raise DataError(
                f"{folder} holds a model of another shape than {self.run.size} over {len(self.frequency)} ids. "
                "Branch from a run of the same size and tokenizer."
            )
        with torch.no_grad():
            for parameter, name in self.names.items():
                parameter.copy_(tensors["model"][name])
                self.optimizer.state[parameter] = {
                    "step": torch.tensor(float(state["step"])),
                    "exp_avg": tensors["optimizer"][f"exp_avg.{name}"].clone(),
                    "exp_avg_sq": tensors["optimizer"][f"exp_avg_sq.{name}"].clone(),
                }
        self.losses, self.trajectory = list(state["losses"]), list(state["trajectory"])
        return state

    def _save_progress(self, step: int, seconds: float, cpu_seconds: float) -> None:
        """Save where the run is, then drop what was saved before."""
        folder = self.out / _RESUME / f"{step:010d}"
        self._save(folder, seconds=self.seconds + seconds, cpu_seconds=self.cpu_seconds + cpu_seconds)
        for old in folder.parent.iterdir():
            if old != folder:
                shutil.rmtree(old)

    def resume(self) -> bool:
        """Go on from the newest checkpoint an interrupted process left here; False if there is none."""
        folder = self.out / _RESUME
        found = sorted(path for path in folder.iterdir() if path.name.isdigit()) if folder.is_dir() else []
        if not found:
            return False
        state = self._load(found[-1])
        self.seconds, self.cpu_seconds = state["seconds"], state["cpu_seconds"]
        return True

    def branch_from(self, parent: Path) -> None:
        """Take over the state that the finished run in ``parent`` had at this run's ``parent_tokens``."""
        folder = parent / checkpoint_name(self.run.parent_tokens)
        if not folder.is_dir():
            raise DataError(
                f"Run {self.run.run_id} branches at {self.run.parent_tokens:,} tokens, where run {self.run.parent} kept no "
                "checkpoint. Ask for one there when it is trained."
            )
        self._load(folder)


def _optimizer(model: Model, options: Builtin) -> tuple[torch.optim.Optimizer, dict[Any, str]]:
    """AdamW with the width's learning rates, and each parameter's name."""
    inner = options.lr * options.lr_width / model.size.width
    groups: dict[bool, dict[str, Any]] = {
        True: {"params": [], "peak": inner, "weight_decay": options.weight_decay},
        False: {"params": [], "peak": options.lr, "weight_decay": 0.0},
    }
    names = {parameter: name for name, parameter in model.named_parameters()}
    for parameter, name in names.items():
        groups[name.startswith("blocks.") and parameter.ndim == 2]["params"].append(parameter)
    betas = (options.beta1, options.beta2)
    return torch.optim.AdamW(list(groups.values()), lr=options.lr, betas=betas, fused=True), names


def _cpu_seconds() -> float:
    """CPU time of this process so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
