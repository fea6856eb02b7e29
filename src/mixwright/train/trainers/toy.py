"""The toy trainer: a made-up law in place of a model. It costs nothing, and its true optimum can be known.

Notation
    M, D     metrics, domains
    r        effective mixture of a run, ``(D,)``: token-weighted mean over its phases, late ones counting more by
             ``recency``
    n, N     training tokens, parameters outside embeddings

    L_m = c_m + (k_m exp(sum_d t_md r_d) + kink_m) (n / 10^6)^-tokens_power (N / 10^5)^-params_power

and on top of each run's losses normal noise that belongs to its seed and mixture. ``kind: exponential`` has no kink:
at one size it lies in the family of the exponential mixing law (Ye et al. 2024, arXiv:2403.16952, eq. 7).
``kind: kinked`` adds ``kink max(0, 1 - r_f / 0.2)`` for the metric's favourite domain f: flat once r_f is a fifth, so
it is neither smooth nor in that family.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Interval
from numpy.typing import NDArray

from mixwright.core.errors import DataError
from mixwright.core.observation import DONE, FAILED, Observation
from mixwright.core.rng import rng
from mixwright.core.run import Run
from mixwright.core.schedule import Schedule
from mixwright.engine.task import Task
from mixwright.store.artifact import read_json, write_json
from mixwright.train.trainer import HOW_ONLY, Trainer, checkpoint_name, task_arguments, write_results

Floats = NDArray[np.float64]

#: Weight of the favourite domain above which the kinked law is flat.
_ENOUGH = 0.2
#: Bytes a token stands for in the made-up world.
_BYTES_PER_TOKEN = 3.0


@dataclass(frozen=True, eq=False)
class Truth:
    """The law itself: ``c, k, kink (M,)``, ``t (M, D)``, and each metric's ``favourite`` domain ``(M,)``."""

    metrics: tuple[str, ...]
    domains: tuple[str, ...]
    c: Floats
    k: Floats
    t: Floats
    kink: Floats
    favourite: NDArray[np.int64]
    tokens_power: float
    params_power: float

    def losses(self, weights: Floats, tokens: float, params: float) -> Floats:
        """Losses without noise ``(..., M)``, nats/token, of runs with effective ``weights (..., D)``."""
        mixed = self.k * np.exp(weights @ self.t.T)
        mixed = mixed + self.kink * np.maximum(0.0, 1.0 - weights[..., self.favourite] / _ENOUGH)
        scale = (tokens / 1e6) ** -self.tokens_power * (params / 1e5) ** -self.params_power
        return np.asarray(self.c + mixed * scale)


@dataclass(frozen=True)
class Toy(Trainer):
    """Settings of the toy trainer.

    ``noise`` is the standard deviation of a loss over seeds, nats/token. ``targets`` names the targets where no corpus
    does. The law is drawn from ``law_seed``; ``c``, ``k`` (metric -> value) and ``t`` (metric -> domain -> value)
    replace what is drawn. Runs whose seed is in ``nan_seeds`` meet NaN half-way; the process of those in
    ``crash_seeds`` dies at its first attempt. ``seconds`` is how long a run takes.
    """

    kind: Literal["exponential", "kinked"] = "exponential"
    noise: Annotated[float, Ge(0)] = 0.01
    targets: tuple[str, ...] = ("one", "two", "three")
    law_seed: Annotated[int, Ge(0)] = 0
    tokens_power: Annotated[float, Ge(0)] = 0.1
    params_power: Annotated[float, Ge(0)] = 0.05
    kink: Annotated[float, Ge(0)] = 0.3
    recency: Annotated[float, Ge(0)] = 0.0
    c: Mapping[str, float] = field(default_factory=dict)
    k: Mapping[str, float] = field(default_factory=dict)
    t: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    trajectory_evals: Annotated[int, Interval(ge=0, le=1000)] = 20
    nan_seeds: tuple[int, ...] = ()
    crash_seeds: tuple[int, ...] = field(default=(), metadata=HOW_ONLY)
    seconds: Annotated[float, Ge(0)] = field(default=0.0, metadata=HOW_ONLY)

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
        return Task(run.run_id, "mixwright.train.trainers.toy:toy_task", arguments, self.cost(run))

    def cost(self, run: Run) -> float:
        """CPU-seconds."""
        return max(0.01, self.seconds)

    def metrics(self, domains: Sequence[str]) -> tuple[str, ...]:
        """The metrics it measures where no corpus says."""
        return (*(f"val:{name}" for name in domains), *(f"target:{name}" for name in self.targets))

    def truth(self, domains: Sequence[str], metrics: Sequence[str] | None = None) -> Truth:
        """The law over ``domains``; the same parameters for a metric whatever others there are."""
        names = tuple(metrics) if metrics is not None else self.metrics(domains)
        c, k, kink = (np.zeros(len(names)) for _ in range(3))
        t, favourite = np.zeros((len(names), len(domains))), np.zeros(len(names), dtype=np.int64)
        targets = [name for name in names if name.startswith("target:")]
        for m, name in enumerate(names):
            draw = rng(self.law_seed, "toy", name)
            c[m], k[m] = draw.uniform(2, 3), draw.uniform(1.5, 3)
            t[m] = draw.uniform(-0.5, 0.3, len(domains))
            own = name.removeprefix("val:")
            f = domains.index(own) if own in domains else (targets.index(name) if name in targets else m) % len(domains)
            t[m, f] = draw.uniform(-4, -2.5)
            favourite[m], kink[m] = f, self.kink if self.kind == "kinked" else 0.0
            c[m], k[m] = self.c.get(name, c[m]), self.k.get(name, k[m])
            for d, domain in enumerate(domains):
                t[m, d] = self.t.get(name, {}).get(domain, t[m, d])
        return Truth(names, tuple(domains), c, k, t, kink, favourite, self.tokens_power, self.params_power)

    def effective(self, schedule: Schedule) -> Floats:
        """The mixture a schedule amounts to, ``(D,)``: the mean of 1 + ``recency`` * (part of the run done) over it."""
        start, total = 0.0, np.zeros(len(schedule.domains))
        for phase in schedule.phases:
            end = start + phase.tokens / schedule.tokens
            total += (end - start + self.recency * (end**2 - start**2) / 2) * phase.mixture.weights
            start = end
        return np.asarray(total / total.sum())


def toy_task(
    progress: Callable[..., None],
    *,
    run: Mapping[str, Any],
    corpus: str | None,
    out: str,
    options: Mapping[str, Any],
    checkpoints: Sequence[int],
    parent: str | None,
) -> dict[str, Any]:
    """What ``Toy.task`` runs; writes the files every trainer writes."""
    wanted, folder, toy = Run.from_dict(run), Path(out), Toy(**options)
    if parent is not None and not (Path(parent) / checkpoint_name(wanted.parent_tokens)).is_dir():
        raise DataError(f"Run {wanted.parent} kept no checkpoint at {wanted.parent_tokens:,} tokens.")
    _take_time(progress, toy, wanted, folder)
    metrics = list(read_json(Path(corpus) / "metrics.json")) if corpus is not None else None
    truth = toy.truth(wanted.schedule.domains, metrics)
    noise = toy.noise * _draws(toy, wanted, len(truth.metrics))
    total, params = wanted.schedule.tokens, wanted.size.params

    def measured(tokens: int) -> dict[str, float]:
        weights = toy.effective(wanted.schedule.until(tokens))
        return dict(zip(truth.metrics, (truth.losses(weights, tokens, params) + noise).tolist(), strict=True))

    for tokens in checkpoints:
        write_json(folder / checkpoint_name(tokens) / "state.json", {"tokens": tokens, "losses": measured(tokens)})
    diverged = wanted.seed in toy.nan_seeds
    parts = [total * n // toy.trajectory_evals for n in range(1, toy.trajectory_evals + 1)]
    trajectory = [
        {"tokens": tokens, "losses": {m: v for m, v in measured(tokens).items() if m.startswith("target:")}}
        for tokens in parts
        if 0 < tokens <= (total // 2 if diverged else total)
    ]
    unigram = truth.losses(toy.effective(wanted.schedule), total / 1e4, params)
    losses = {} if diverged else measured(total)
    seen = total // 2 if diverged else total
    observation = Observation(
        wanted, seen, seen // 512, losses,
        {name: value / _BYTES_PER_TOKEN / math.log(2) for name, value in losses.items()},
        dict(zip(truth.metrics, unigram.tolist(), strict=True)),
        FAILED if diverged else DONE,
        f"its loss is nan at step {seen // 512} ({seen:,} tokens)" if diverged else "",
    )  # fmt: skip
    facts = {"seconds": toy.seconds, "cpu_seconds": 0.0, "tokens_per_second": 0.0, "train_losses": [], "rounding": []}
    return write_results(folder, observation, trajectory, facts)


def _draws(toy: Toy, run: Run, count: int) -> Floats:
    """Standard normal values that belong to the run's seed, size and effective mixture."""
    weights = ",".join(f"{weight:.9f}" for weight in toy.effective(run.schedule))
    return rng(toy.law_seed, "noise", run.seed, str(run.size), run.schedule.tokens, weights).standard_normal(count)


def _take_time(progress: Callable[..., None], toy: Toy, run: Run, folder: Path) -> None:
    """Pass ``seconds``, and die at the first attempt where the settings say so."""
    folder.mkdir(parents=True, exist_ok=True)
    mark = folder / ".crashed"
    if run.seed in toy.crash_seeds and not mark.exists():
        mark.touch()
        os._exit(9)
    begun = time.monotonic()
    while (spent := time.monotonic() - begun) < toy.seconds:
        progress(spent / toy.seconds)
        time.sleep(min(0.05, toy.seconds - spent))
    progress(1.0)
