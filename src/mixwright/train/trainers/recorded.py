"""The recorded trainer: runs that others have published, in place of training.

A run is looked up in a table by its mixture, and by params and tokens where the table states them; what stands in the
row is what the run gives. Design, fit, optimize and report then work on published runs as if they were trained here.

Notation
    N, P, D   rows of the table, its phases, domains
    t         part of a run that is done, 0..1

The distance of two schedules is the mean over t of the total variation of the mixtures in force, ``1/2 sum_d |w_d -
w'_d|``: 0 for the same schedule, 1 for schedules that share no domain at any moment.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Gt, Interval
from numpy.typing import NDArray

from mixwright.core.errors import DataError, StudyError
from mixwright.core.mixture import Mixture
from mixwright.core.observation import DONE, FAILED, Observation, Runs
from mixwright.core.rng import derive_seed
from mixwright.core.run import ModelSize, Run
from mixwright.core.schedule import Phase, Schedule
from mixwright.engine.task import Task
from mixwright.store.artifact import file_hash, write_json
from mixwright.store.runs import NATS, read_runs
from mixwright.train.trainer import Trainer, checkpoint_name, task_arguments, write_results

Floats = NDArray[np.float64]

#: two weights that print alike are one mixture: published tables round to three or four places
_SAME_PLACES = 6


@dataclass(frozen=True)
class Recorded(Trainer):
    """Settings of the recorded trainer.

    ``path`` is the table (CSV, TSV, Parquet, JSON lines), ``losses_path`` a second one with its losses; ``weights``,
    ``losses``, ``columns``, ``units`` and ``tokens_per_step`` say how they are read, as in a study's ``runs`` section.
    ``names`` maps this study's metrics to the table's (``{"val:web": "web"}``); a metric that is named after a domain is
    that domain's ``val:`` metric without being told. A row answers a run whose schedule lies within ``tolerance`` of
    its own (see the notation), and whose params and tokens, where the table states them, within the fraction
    ``scale_tolerance`` (null: whatever they are; a size from the dial misses its params by up to 5 %). ``nearest`` takes
    the nearest row where none does.
    """

    path: str
    losses_path: str | None = None
    weights: str | None = None
    losses: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    units: str | Mapping[str, str] | None = None
    tokens_per_step: Annotated[float, Gt(0)] | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    tolerance: Annotated[float, Interval(ge=0, le=1)] = 1e-3
    scale_tolerance: Annotated[float, Gt(0)] | None = 0.1
    nearest: bool = False

    def placed(self, folder: Path) -> Recorded:
        """See ``Trainer.placed``."""
        second = None if self.losses_path is None else str(folder / self.losses_path)
        return replace(self, path=str(folder / self.path), losses_path=second)

    def task(
        self,
        run: Run,
        *,
        corpus: Path | None,
        out: Path,
        checkpoints: tuple[int, ...] = (),
        parent: Path | None = None,
    ) -> Task:
        arguments = task_arguments(self.placed(Path.cwd()), run, corpus, out, checkpoints, parent)
        return Task(run.run_id, "mixwright.train.trainers.recorded:recorded_task", arguments, self.cost(run))

    def cost(self, run: Run) -> float:
        """CPU-seconds: the table is read once a run."""
        return 0.05

    def identity(self) -> dict[str, Any]:
        """With the files' checksums in place of their names. DataError if one is not there."""
        files = [Path(name) for name in (self.path, self.losses_path) if name]
        for file in files:
            if not file.is_file():
                raise DataError(f"There is no table of recorded runs at {file}. Set trainer.path.")
        told = {name: value for name, value in super().identity().items() if name not in ("path", "losses_path")}
        return told | {"files": [file_hash(file) for file in files]}

    def table(self) -> Runs:
        """The table's runs at all their moments. DataError for what cannot be read, or losses in other units than ours."""
        return self._read(every_step=True)

    def mixtures(self, domains: Sequence[str]) -> list[Mixture]:
        """The mixtures of the table's finished runs over ``domains``, each once, in the order of the rows."""
        table = self._read(every_step=False).usable()
        _check_domains(domains, table, self.path)
        found: dict[bytes, Mixture] = {}
        for row in range(len(table)):
            mixture = table.mixture(row).over(domains)
            found.setdefault((mixture.weights.round(_SAME_PLACES) + 0.0).tobytes(), mixture)
        return list(found.values())

    def runs(self, size: ModelSize | None = None, *, tokens: int = 1_000_000_000) -> list[Run]:
        """The table's own runs, as a design that this trainer can train.

        Each bears the row's id (characters that no file name may hold become ``_``), schedule and seed. ``size`` is the
        model's (None: by ``ModelSize.dial`` from the row's params), ``tokens`` those of a row that states none.
        """
        table = self._read(every_step=False)
        return [_run_of(table, row, size, tokens) for row in range(len(table))]

    def _read(self, *, every_step: bool) -> Runs:
        table = read_runs(
            self.path, metrics_path=self.losses_path, weights=self.weights, losses=self.losses, columns=self.columns,
            units=self.units, tokens_per_step=self.tokens_per_step, every_step=every_step,
        ).runs  # fmt: skip
        other = [f"{name} in {unit}" for name, unit in zip(table.metrics, table.units, strict=True) if unit != NATS]
        if other:
            raise DataError(
                f"{self.path}: recorded losses must be in {NATS}; it has {', '.join(other[:5])}. Set trainer.units if they are, "
                "or give the table as the study's runs, which may be in any unit."
            )
        return table


def recorded_task(
    progress: Callable[..., None],
    *,
    run: Mapping[str, Any],
    corpus: str | None,
    out: str,
    options: Mapping[str, Any],
    checkpoints: Sequence[int],
    parent: str | None,
) -> dict[str, Any]:
    """What ``Recorded.task`` runs; a run that the table does not hold ends as failed, with its nearest row named."""
    wanted, folder, recorded = Run.from_dict(run), Path(out), Recorded(**options)
    table = recorded.table()
    _check_domains(wanted.schedule.domains, table, recorded.path)
    found = _Lookup(recorded, table, wanted)
    row, reason = found.row()
    progress(1.0)
    if row is None:
        return write_results(folder, Observation(wanted, 0, 0, {}, status=FAILED, reason=reason), [], _facts())
    moments = found.moments(row)
    trajectory: list[dict[str, Any]] = [
        {"tokens": found.tokens(n, moments), "losses": found.measured(table.losses, n)} for n in moments
    ]
    for tokens in checkpoints:
        before = [point for point in trajectory if point["tokens"] <= tokens]
        losses = before[-1]["losses"] if before else {}
        write_json(folder / checkpoint_name(tokens) / "state.json", {"tokens": tokens, "losses": losses})
    if table.status[row] != DONE:
        reason = f"row {table.run_id[row]} of {recorded.path} is marked as failed"
        seen = trajectory[-1]["tokens"]
        return write_results(folder, Observation(wanted, seen, 0, {}, status=FAILED, reason=reason), [], _facts())
    losses, bpb, unigram = (found.measured(values, row) for values in (table.losses, table.bpb, table.unigram))
    observation = Observation(wanted, trajectory[-1]["tokens"], table.step[row], losses, bpb, unigram)
    measured = [point for point in trajectory if set(point["losses"]) <= set(observation.losses)]
    return write_results(
        folder, observation, measured, _facts() | {"row": table.run_id[row], "distance": found.apart[row]}
    )


class _Lookup:
    """A run in a table: which row answers it. ``apart (N,)`` is each row's distance to the run's schedule."""

    def __init__(self, recorded: Recorded, table: Runs, run: Run) -> None:
        self.recorded, self.table, self.run = recorded, table, run
        self.apart = distances(run.schedule, table)
        # how far params and tokens are off, as a fraction; 0 where the table states none
        wanted = {"params": run.size.params, "tokens": run.schedule.tokens}
        self.off = {
            name: np.nan_to_num(np.abs(getattr(table, name) / value - 1), nan=0.0) for name, value in wanted.items()
        }
        self._names = metric_names(recorded.names, table.metrics, run.schedule.domains)

    def row(self) -> tuple[int | None, str]:
        """The row that answers the run, or None and the sentence that says which is nearest and why it does not.

        Of several that do, the one of the run's own id is taken, else of its seed, else one that its seed chooses; of
        several moments of a run the last.
        """
        near = self.apart <= self.recorded.tolerance
        fits = near & self._fits()
        if not fits.any():
            best = self._nearest(near)
            return (best, "") if self.recorded.nearest else (None, self._sentence(best))
        rows = np.flatnonzero(fits)
        last: dict[str, int] = {}
        for row in rows[np.argsort(self._clock()[rows], kind="stable")].tolist():
            last[self.table.run_id[row]] = row
        same_id = [row for name, row in last.items() if _file_name(name) == self.run.run_id]
        same_seed = [row for row in last.values() if self.table.seed[row] == self.run.seed]
        chosen = same_id or same_seed or [last[name] for name in sorted(last)]
        return chosen[derive_seed(self.run.seed, "recorded") % len(chosen)], ""

    def moments(self, row: int) -> list[int]:
        """The rows of the same run up to ``row``, in time; ``row`` is the last."""
        clock = self._clock()
        same = [
            n for n, name in enumerate(self.table.run_id) if name == self.table.run_id[row] and clock[n] <= clock[row]
        ]
        return sorted((n for n in same if n == row or clock[n] > 0), key=lambda n: (clock[n], n == row))

    def tokens(self, row: int, moments: Sequence[int]) -> int:
        """The run's tokens at a moment: the table's, else the part that its step is of the last one's."""
        last = moments[-1]
        if np.isfinite(self.table.tokens[row]):
            return round(float(self.table.tokens[row]))
        steps = self.table.step[last]
        return round(self.run.schedule.tokens * self.table.step[row] / steps) if steps else self.run.schedule.tokens

    def measured(self, values: Floats, row: int) -> dict[str, float]:
        """A row of ``values (N, M)`` under this study's names, without what was not measured."""
        cells = zip(self.table.metrics, values[row].tolist(), strict=True)
        return {self._names[name]: value for name, value in cells if math.isfinite(value)}

    def _fits(self) -> NDArray[np.bool_]:
        limit = self.recorded.scale_tolerance
        if limit is None:
            return np.ones(len(self.apart), dtype=bool)
        return np.asarray((self.off["params"] <= limit) & (self.off["tokens"] <= limit))

    def _clock(self) -> Floats:
        known = np.isfinite(self.table.tokens).all()
        return self.table.tokens if known else np.asarray(self.table.step, dtype=np.float64)

    def _nearest(self, near: NDArray[np.bool_]) -> int:
        """The row nearest in mixture, then in scale, then the latest."""
        scale = self.off["params"] + self.off["tokens"]
        apart = np.where(near, 0.0, self.apart)
        return int(np.lexsort((-self._clock(), scale, apart))[0])

    def _sentence(self, row: int) -> str:
        table, recorded = self.table, self.recorded
        size = [
            f"{_count(value)} {name}"
            for name, value in (("params", table.params[row]), ("tokens", table.tokens[row]))
            if np.isfinite(value)
        ]
        wanted = f"{_count(self.run.size.params)} params, {_count(self.run.schedule.tokens)} tokens"
        if self.apart[row] > recorded.tolerance:
            why = f"its schedule is {self.apart[row]:.3g} away, more than trainer.tolerance {recorded.tolerance:g}"
        else:
            limit = recorded.scale_tolerance
            why = f"it has {', '.join(size)} and the run {wanted}: off by more than trainer.scale_tolerance {limit:g}"
        return (
            f"{recorded.path} holds no run of this mixture and scale; the nearest row is {table.run_id[row]}: {why} "
            "(nearest: true takes it all the same)"
        )


def distances(schedule: Schedule, table: Runs) -> Floats:
    """How far the schedule of each row lies from ``schedule``, ``(N,)``; see the notation. Domains in any order.

    Cost: O(N P D) for P phases of both.
    """
    order = [table.domains.index(name) for name in schedule.domains]
    mine = np.stack([phase.mixture.weights for phase in schedule.phases])
    ends = np.cumsum([phase.tokens for phase in schedule.phases]) / schedule.tokens
    theirs = table.weights[:, :, order]
    spent = np.cumsum(table.phase_tokens, axis=1)
    bounds = np.clip(spent / np.where(spent[:, -1:] > 0, spent[:, -1:], 1.0), 0.0, 1.0)
    begins, starts = np.r_[0.0, ends[:-1]], np.c_[np.zeros(len(bounds)), bounds[:, :-1]]
    total = np.zeros(len(theirs))
    for p in range(len(mine)):
        for q in range(theirs.shape[1]):
            overlap = np.minimum(ends[p], bounds[:, q]) - np.maximum(begins[p], starts[:, q])
            total += np.clip(overlap, 0.0, None) * 0.5 * np.abs(mine[p] - theirs[:, q]).sum(axis=1)
    return total


def metric_names(named: Mapping[str, str], metrics: Sequence[str], domains: Sequence[str]) -> dict[str, str]:
    """The study's name of each of the table's metrics. StudyError for a name that the table does not have."""
    theirs = {table: ours for ours, table in named.items()}
    unknown = sorted(set(theirs) - set(metrics))
    if unknown:
        raise StudyError(
            f"trainer.names gives the metric {unknown[0]!r}, which the table does not have. It has: {', '.join(metrics[:20])}."
        )
    return {name: theirs.get(name, f"val:{name}" if name in domains else name) for name in metrics}


def _check_domains(domains: Sequence[str], table: Runs, path: str) -> None:
    if set(domains) != set(table.domains):
        raise DataError(
            f"{path} has runs over {', '.join(table.domains)}; the runs that are wanted are over {', '.join(domains)}. A "
            "recorded run has the table's domains: name the sources after them."
        )


def _run_of(table: Runs, row: int, size: ModelSize | None, tokens: int) -> Run:
    total = int(table.tokens[row]) if np.isfinite(table.tokens[row]) and table.tokens[row] > 0 else tokens
    spent = table.phase_tokens[row]
    lengths = np.diff(np.round(np.r_[0.0, np.cumsum(spent)] / spent.sum() * total)).astype(int)
    phases = [
        Phase(int(length), Mixture.normalized(table.domains, table.weights[row, p]))
        for p, length in enumerate(lengths)
        if length > 0
    ]
    if size is None:
        params = table.params[row]
        size = ModelSize.dial(min(max(float(params), 1e4), 1e11)) if np.isfinite(params) else ModelSize(64, 2)
    return Run(_file_name(table.run_id[row]), Schedule(tuple(phases)), size, int(table.seed[row]))


def _file_name(run_id: str) -> str:
    return "".join(letter if letter.isascii() and (letter.isalnum() or letter in "._@+-") else "_" for letter in run_id)


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _facts() -> dict[str, Any]:
    return {"seconds": 0.0, "cpu_seconds": 0.0, "tokens_per_second": 0.0, "train_losses": [], "rounding": []}
