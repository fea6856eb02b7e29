"""Tables of runs on disk: CSV, TSV, Parquet and JSON lines, one row per run (or per run and step).

Columns, in our own tables: ``run_id, params, tokens, step, seed, status, role``; ``weight/<domain>`` (of the first phase),
``weight@2/<domain>`` and ``tokens@1``, ``tokens@2`` (tokens of each phase) where there are phases; ``loss/<metric>`` in
nats/token, ``bpb/<metric>`` in bits/byte, ``unigram/<metric>`` in nats/token. An empty cell is a value not measured.

Other tables are read through globs (``train/*``: the domain is what the star stands for) and names of columns. The
headers of the published tables of RegMix (``train/…``, ``valid/…``) and Data Mixing Laws (``mix_…``, ``loss_…``) are
recognised without, and so are long tables (``long_tables.py``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mixwright.core.errors import DataError, disk_error
from mixwright.core.observation import DONE, FAILED, Runs, checked_own
from mixwright.store.artifact import written_aside
from mixwright.store.long_tables import CLOCKS, LONG_COLUMNS, widened
from mixwright.store.tables import (
    ID_COLUMNS,
    KEY,
    Cells,
    check_known,
    count,
    form,
    guarded,
    load,
    match,
    named,
    numbers,
    short,
)

if TYPE_CHECKING:
    import polars as pl

#: globs tried in order where none is given
WEIGHT_GLOBS = ("weight/*", "train/*", "mix_*")
LOSS_GLOBS = ("loss/*", "valid/*", "loss_*")
#: columns of the published tables that look like weights and are none
NOT_WEIGHTS = frozenset({"mix_sum", "mix_index"})
SIZE_COLUMNS = ("params", "model_size")
#: columns that may be named in another way
NAMES = frozenset({"run_id", "params", "tokens", "step", "seed", "status", "role", *LONG_COLUMNS})
NATS, BITS = "nats/token", "bits/byte"
#: weights may miss one by this much and are then divided by their sum; printed tables round
ROUNDING = 0.01
#: a sum this close to one is one, and the weights are left as they are, to the last bit
SAME_SUM = 1e-9

Array = NDArray[np.float64]


@dataclass(frozen=True)
class RunTable:
    """The runs of a file and what a reader should know about how they were read: sentences."""

    runs: Runs
    notes: tuple[str, ...] = ()


def read_runs(
    path: Path | str,
    *,
    metrics_path: Path | str | None = None,
    weights: str | None = None,
    losses: str | None = None,
    columns: Mapping[str, str] | None = None,
    units: str | Mapping[str, str] | None = None,
    own: Mapping[str, str | Sequence[str]] | None = None,
    tokens_per_step: float | None = None,
    step: int | None = None,
    every_step: bool = False,
) -> RunTable:
    """The runs of a table, or of two joined by run id (weights in the first, losses in the second), wide or long.

    ``weights`` and ``losses`` are globs with one star; ``columns`` maps our name of any other column to the file's.
    ``units`` is the unit of the losses, or of some metrics. ``own`` maps metrics to the domains they belong to. Tokens that
    are not given are ``step`` times ``tokens_per_step``. Where runs have several rows, each run's last step is taken, or
    ``step``, or with ``every_step`` all of them. Raises DataError, with column, run and way out, for what cannot be
    read; what is left out or changed is counted in the notes. Cost: the file once, as text, in memory.
    """
    notes: list[str] = []
    paths = [Path(p) for p in (path, metrics_path) if p is not None]
    wide = [_wide(frame, p, weights) for frame, p in zip(_named(paths, columns or {}), paths, strict=True)]
    timed = ["step" in frame.columns for frame in wide]
    frames = [
        _moments(frame, p, step if has_steps or not any(timed) else None, every_step, notes)
        for frame, p, has_steps in zip(wide, paths, timed, strict=True)
    ]
    origin = {name: p for frame, p in reversed([*zip(frames, paths, strict=True)]) for name in frame.columns}
    frame = _joined(frames[0], frames[1], paths[0], paths[1], notes) if len(frames) > 1 else frames[0]
    meant = _Columns.of(frame.columns, weights, losses, paths[0])
    frame = _with_weights(frame, meant, paths[0], notes)
    mixture, phase_tokens = _mixtures(frame, meant, paths[0], notes)
    table = Cells(frame, origin)
    values = {
        kind: np.stack([table.numbers(name) if name else np.full(len(frame), np.nan) for name in names], axis=1)
        for kind, names in meant.metrics.items()
    }
    status = _status(table, values["loss"], meant.names, notes)
    values["loss"] = np.where(np.isfinite(values["loss"]), values["loss"], np.nan)
    runs = Runs(
        domains=meant.domains, metrics=meant.names, run_id=table.keys, weights=mixture, losses=values["loss"],
        phase_tokens=phase_tokens, tokens=_tokens(table, tokens_per_step, paths[0], notes), params=table.first(SIZE_COLUMNS),
        bpb=values["bpb"], unigram=values["unigram"], step=table.whole("step"), seed=table.whole("seed"), status=status,
        role=table.words("role"), units=_units(meant, units), own=checked_own(own or {}, meant.names, meant.domains),
    )  # fmt: skip
    runs, copies = runs.without_copies()
    notes += [copies] if copies else []
    unused = [name for name in frame.columns if name not in meant.used]
    if unused:
        notes.append(f"Columns not used: {short(unused, 20)}.")
    return RunTable(runs, (*notes, *remarks(runs)))


def _named(paths: Sequence[Path], columns: Mapping[str, str]) -> list[pl.DataFrame]:
    """The files' cells under our names; DataError for a name that we or the files do not know."""
    frames = [load(path) for path in paths]
    check_known(columns, sorted(NAMES), "column of a table of runs")
    there = list(dict.fromkeys(name for frame in frames for name in frame.columns))
    check_known(columns.values(), there, f"column of {' or '.join(path.name for path in paths)}")
    return [named(frame, columns, path) for frame, path in zip(frames, paths, strict=True)]


def _wide(frame: pl.DataFrame, path: Path, weights: str | None) -> pl.DataFrame:
    """One row per run and step, with step and tokens as numbers."""
    import polars as pl

    timed = [pl.Series(name, numbers(frame, name, path)).fill_nan(None) for name in CLOCKS if name in frame.columns]
    mixture = match(frame.columns, (weights,) if weights else WEIGHT_GLOBS, but=NOT_WEIGHTS).values()
    return widened(frame.with_columns(timed), path, {*mixture, *NAMES})


def _tokens(table: Cells, per_step: float | None, path: Path, notes: list[str]) -> Array:
    """Training tokens, from the steps where they are not given; DataError if there is no step either."""
    tokens = table.first(("tokens",))
    missing = np.isnan(tokens)
    if per_step is None or not missing.any():
        return tokens
    if "step" not in table.frame.columns:
        raise DataError(f"{path} has no column step, so tokens cannot be counted as steps of {per_step:g} tokens.")
    notes.append(f"Tokens are steps of {per_step:g} tokens in {count(int(missing.sum()), 'row')}.")
    return np.where(missing, table.numbers("step") * per_step, tokens)


def _units(meant: _Columns, given: str | Mapping[str, str] | None) -> tuple[str, ...]:
    """Each metric's unit: as the column's name says, unless it is given; DataError for a metric that is not there."""
    if isinstance(given, str):
        return (given,) * len(meant.names)
    given = given or {}
    check_known(given, meant.names, "metric of the table")
    return tuple(given.get(name, unit) for name, unit in zip(meant.names, meant.units, strict=True))


def remarks(runs: Runs) -> tuple[str, ...]:
    """What limits any law on these runs: too few mixtures, metrics that do not vary, different units. Sentences."""
    used = runs.usable()
    if not len(used):
        return ("No run of the table is done, so there is nothing to fit.",)
    out, domains = [], len(runs.domains)
    mixtures = _different(used.mixtures(), domains)
    if mixtures == 1:
        out.append(f"{count(len(used), 'run')} of one and the same mixture: nothing tells what another one would do.")
    elif mixtures < domains:
        out.append(
            f"{mixtures} different mixtures are fewer than the {domains} domains: what they do not tell comes from the law's "
            "prior, and the intervals are wide."
        )
    known = np.isfinite(used.losses)
    low, high = used.losses.min(0, initial=np.inf, where=known), used.losses.max(0, initial=-np.inf, where=known)
    flat = [name for name, same in zip(runs.metrics, low == high, strict=True) if same and len(used) > 1]
    if flat:
        out.append(f"The same loss in every run, so it tells mixtures not apart: {short(flat)}.")
    kinds = Counter(runs.units)
    if len(kinds) > 1:
        words = ", ".join(f"{unit} ({number})" for unit, number in kinds.items())
        out.append(f"The metrics are in different units, which a mean of them adds up: {words}.")
    return tuple(out)


def _different(points: Array, most: int) -> int:
    """How many different rows there are, counted no further than ``most``."""
    seen: set[bytes] = set()
    for point in points.round(9) + 0.0:
        seen.add(point.tobytes())
        if len(seen) >= most:
            break
    return len(seen)


def write_runs(path: Path | str, runs: Runs) -> None:
    """Write a table; the ending says the form. ``read_runs`` with ``every_step`` gives back the same, to the last bit.

    In CSV and TSV an apostrophe goes before text that a spreadsheet would run as a formula; ``read_runs`` takes it off.
    Raises DataError for a metric in neither nats/token nor bits/byte, since the columns promise these units.
    """
    import polars as pl

    path = Path(path)
    kind = form(path)
    other = [f"{m} in {u}" for m, u in zip(runs.metrics, runs.units, strict=True) if u not in (NATS, BITS)]
    if other:
        raise DataError(f"A table's columns are in {NATS} or {BITS}, but these metrics are not: {', '.join(other)}.")
    phases = runs.weights.shape[1]
    columns: dict[str, Any] = {
        "run_id": list(runs.run_id), "params": runs.params, "tokens": runs.tokens, "step": list(runs.step),
        "seed": list(runs.seed), "status": list(runs.status), "role": list(runs.role),
    }  # fmt: skip
    for phase in range(phases):
        if phases > 1 or np.any(runs.phase_tokens != 1):
            columns[f"tokens@{phase + 1}"] = runs.phase_tokens[:, phase]
        at = f"@{phase + 1}" if phase else ""
        columns |= {f"weight{at}/{name}": runs.weights[:, phase, d] for d, name in enumerate(runs.domains)}
    for m, name in enumerate(runs.metrics):
        columns[f"{'bpb' if runs.units[m] == BITS else 'loss'}/{name}"] = runs.losses[:, m]
    for kind_name, values in (("bpb", runs.bpb), ("unigram", runs.unigram)):
        if np.isfinite(values).any():
            for m, name in enumerate(runs.metrics):
                columns.setdefault(f"{kind_name}/{name}", values[:, m])
    frame = pl.DataFrame(columns, strict=False).fill_nan(None)
    if kind in ("csv", "tsv"):
        frame = frame.with_columns(guarded(frame[name]) for name in ("run_id", "status", "role"))
    try:
        with written_aside(path) as aside:
            if kind == "parquet":
                frame.write_parquet(aside, compression="zstd")
            elif kind == "jsonl":
                frame.write_ndjson(aside)
            else:
                frame.write_csv(aside, separator="\t" if kind == "tsv" else ",")
    except Exception as error:
        if full := disk_error(error, path):
            raise full from error
        raise


@dataclass(frozen=True)
class _Columns:
    """Which column is what; ``weights[p][d]`` and ``metrics[kind][m]`` are column names ("" where there is none)."""

    domains: tuple[str, ...]
    names: tuple[str, ...]
    weights: tuple[tuple[str, ...], ...]
    metrics: dict[str, tuple[str, ...]]
    units: tuple[str, ...]
    used: frozenset[str]

    @classmethod
    def of(cls, columns: Sequence[str], weights: str | None, losses: str | None, path: Path) -> _Columns:
        """From a header. DataError if it shows no weights or no losses."""
        domain = match(columns, (weights,) if weights else WEIGHT_GLOBS, but=NOT_WEIGHTS)
        if not domain:
            raise DataError(
                f"{path} has no column of weights ({weights or ', '.join(WEIGHT_GLOBS)}). Its columns: {short(columns)}. "
                "Name them with a glob, such as --weights 'train/*'."
            )
        metric, units = _metric_columns(columns, losses, set(domain.values()))
        if not metric:
            raise DataError(
                f"{path} has no column of losses ({losses or ', '.join(LOSS_GLOBS)}). Its columns: {short(columns)}. "
                "Name them with a glob, such as --losses 'valid/*', or give the file that has them as the second one."
            )
        phases = [tuple(domain.values())]
        while found := match(columns, (f"weight@{len(phases) + 1}/*",)):
            unknown = [name for name in found if name not in domain]
            if unknown:
                raise DataError(f"{path}: {found[unknown[0]]} is of a domain that phase 1 does not have.")
            phases.append(tuple(found.get(name, "") for name in domain))
        kinds = {"loss": tuple(metric.values())}
        for kind in ("bpb", "unigram"):
            found = match(columns, (f"{kind}/*",))
            kinds[kind] = tuple(found.get(name, "") for name in metric)
        known = {KEY, *ID_COLUMNS, *SIZE_COLUMNS, "tokens", "step", "seed", "status", "role", *NOT_WEIGHTS}
        known |= {f"tokens@{n + 1}" for n in range(len(phases))}
        used = known | {c for row in (*phases, *kinds.values()) for c in row}
        return cls(tuple(domain), tuple(metric), tuple(phases), kinds, units, frozenset(used))


def _metric_columns(
    columns: Sequence[str], losses: str | None, weights: Collection[str]
) -> tuple[dict[str, str], tuple[str, ...]]:
    """The column of each metric's loss and its unit: ``bpb/`` columns where a metric has no other."""
    metric = {name: c for name, c in match(columns, (losses,) if losses else LOSS_GLOBS).items() if c not in weights}
    if not losses:
        metric = {**match(columns, ("bpb/*",)), **metric}
    place = {column: n for n, column in enumerate(columns)}
    metric = dict(sorted(metric.items(), key=lambda item: place[item[1]]))
    return metric, tuple(BITS if column.startswith("bpb") else NATS for column in metric.values())


def _moments(frame: pl.DataFrame, path: Path, step: int | None, every_step: bool, notes: list[str]) -> pl.DataFrame:
    """The rows that are wanted: those of ``step``, all of them, or the last (by step, or else tokens) of each run."""
    if step is not None:
        frame = _at_step(frame, path, step, notes)
    runs = frame[KEY].n_unique()
    if runs == len(frame):
        return frame
    clock, time = _times(frame, path)
    if not every_step:
        return _last_rows(frame, clock, time, path, notes)
    notes.append(
        f"{path.name} has {len(frame)} rows of {runs} runs, at up to {len(np.unique(time))} values of {clock}."
    )
    return frame


def _at_step(frame: pl.DataFrame, path: Path, step: int, notes: list[str]) -> pl.DataFrame:
    import polars as pl

    if "step" not in frame.columns:
        raise DataError(f"{path} has no column step, so step {step} cannot be taken from it.")
    chosen = frame.filter(pl.Series(numbers(frame, "step", path) == step))
    before, after = frame[KEY].n_unique(), chosen[KEY].n_unique()
    if not after:
        raise DataError(f"{path} has no run with a row at step {step}.")
    notes.append(f"Taken at step {step}: {after} of the {before} runs in {path.name} have it.")
    return chosen


def _times(frame: pl.DataFrame, path: Path) -> tuple[str, Array]:
    """The column that tells a run's rows apart, and its values. DataError if nothing tells them apart."""
    import polars as pl

    clock = next((name for name in ("step", "tokens") if name in frame.columns), "")
    time = numbers(frame, clock, path) if clock else np.zeros(len(frame))
    keyed = frame.select(KEY).with_columns(pl.Series("time", time))
    again = keyed.filter(keyed.is_duplicated())
    if len(again):
        place = f" at {clock} {again['time'][0]:g}" if clock else ""
        raise DataError(
            f"{path}: the run id {again[KEY][0]} stands more than once{place} ({len(again)} such rows in all). Give each "
            "run an id of its own, or each row of a run a step."
        )
    return clock, time


def _last_rows(frame: pl.DataFrame, clock: str, time: Array, path: Path, notes: list[str]) -> pl.DataFrame:
    import polars as pl

    several = int(frame[KEY].is_duplicated().sum())
    timed = frame.with_columns(pl.Series("_clock", time)).sort("_clock", maintain_order=True)
    last = timed.unique(KEY, keep="last", maintain_order=True)
    first_seen = frame.select(KEY).unique(maintain_order=True)
    last = first_seen.join(last, on=KEY, how="left", maintain_order="left")
    ends = Counter(last["_clock"].to_list())
    words = ", ".join(f"{value:g} ({count})" for value, count in ends.most_common(4))
    notes.append(
        f"{path.name} has {len(frame)} rows of {len(last)} runs ({several} rows are of runs with several): the last "
        f"{clock} of each run was taken; runs by last {clock}: {words}{', …' if len(ends) > 4 else ''}."
    )
    return last.drop("_clock").select(frame.columns)


def _joined(first: pl.DataFrame, second: pl.DataFrame, path: Path, other: Path, notes: list[str]) -> pl.DataFrame:
    """Both files' columns for the runs that both have; where both have a column the first file's counts."""
    for frame, name in ((first, path), (second, other)):
        if not any(column in frame.columns for column in ID_COLUMNS):
            raise DataError(f"{name} has no column {' or '.join(ID_COLUMNS)}, by which two files are joined.")
    first, on = _join_keys(first, second)
    new = [c for c in second.columns if c not in first.columns]
    both = first.join(second.select(*on, *new), on=on, how="inner", maintain_order="left_right")
    if not len(both):
        raise DataError(f"{path} and {other} have no run id in common, such as {first[KEY][0]} and {second[KEY][0]}.")
    for frame, name in ((first, path), (second, other)):
        alone = frame.join(both.select(KEY), on=KEY, how="anti", maintain_order="left")[KEY].unique(maintain_order=True)
        if len(alone):
            notes.append(
                f"Left out for standing in {name.name} only: {count(len(alone), 'run')} ({short(alone.to_list())})."
            )
        lost = len(frame.join(both, on=on, how="anti")) - len(frame.join(both, on=KEY, how="anti"))
        if lost:
            notes.append(
                f"Left out for standing in {name.name} only: {count(lost, 'row')} of runs that both files have."
            )
    return both


def _join_keys(first: pl.DataFrame, second: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
    """The first file as it is to be joined, and the columns by which: the run id, and the step where both have several rows.

    If only the second file has several rows of a run, its steps and tokens count.
    """
    if second[KEY].n_unique() == len(second):
        return first, [KEY]
    if first[KEY].n_unique() == len(first):
        return first.drop([c for c in ("step", "tokens") if c in first.columns and c in second.columns]), [KEY]
    clock = next((name for name in ("step", "tokens") if name in first.columns and name in second.columns), "")
    if clock and first[clock].dtype != second[clock].dtype:
        raise DataError(
            f"The two files hold {clock} as {first[clock].dtype} and {second[clock].dtype}; make them the same."
        )
    return first, [KEY, clock] if clock else [KEY]


def _with_weights(frame: pl.DataFrame, columns: _Columns, path: Path, notes: list[str]) -> pl.DataFrame:
    """Without the rows whose weights are all empty."""
    import polars as pl

    given = np.isfinite(np.stack([numbers(frame, name, path) for name in columns.weights[0]]))
    empty: NDArray[np.bool_] = ~np.any(given, axis=0)
    if empty.all():
        raise DataError("Every run's weights are empty, so there is nothing to fit.")
    if empty.any():
        names = [name for name, out in zip(frame[KEY].to_list(), empty.tolist(), strict=True) if out]
        notes.append(f"Left out for having no weights: {count(len(names), 'run')} ({short(names)}).")
    return frame.filter(pl.Series(~empty))


def _mixtures(frame: pl.DataFrame, columns: _Columns, path: Path, notes: list[str]) -> tuple[Array, Array]:
    """Weights ``(N, P, D)``, renormalized, and the phases' tokens ``(N, P)`` (1 each where none are given)."""
    ids = frame[KEY].to_list()
    phases, used = [], []
    total = numbers(frame, "tokens", path) if "tokens" in frame.columns else np.full(len(frame), np.nan)
    for phase, names in enumerate(columns.weights, 1):
        cells = [numbers(frame, name, path) if name else np.zeros(len(frame)) for name in names]
        weights = np.nan_to_num(np.stack(cells, axis=1), nan=0.0, posinf=np.inf, neginf=-np.inf)
        bad = np.argwhere(~np.isfinite(weights) | (weights < 0))
        if bad.size:
            row, d = (int(place) for place in bad[0])
            raise DataError(
                f"{path}: weights must be finite and not negative; run {ids[row]} has {weights[row, d]:g} in {names[d]}."
            )
        phases.append(weights)
        used.append(_phase_tokens(frame, columns, path, phase, total))
    tokens = np.stack(used, axis=1)
    if len(phases) > 1 and not np.all(np.isfinite(tokens)):
        row = int(np.argwhere(~np.isfinite(tokens))[0][0])
        raise DataError(
            f"{path}: run {ids[row]} has several phases but not the tokens of each; add tokens@1, tokens@2."
        )
    weights = _renormalized(np.stack(phases, axis=1), np.nan_to_num(tokens, nan=1.0), ids, path, notes)
    given = np.isfinite(tokens).all() and (len(phases) > 1 or "tokens@1" in frame.columns)
    return weights, tokens if given else np.ones(tokens.shape)


def _phase_tokens(frame: pl.DataFrame, columns: _Columns, path: Path, phase: int, total: Array) -> Array:
    if f"tokens@{phase}" in frame.columns:
        return np.nan_to_num(numbers(frame, f"tokens@{phase}", path), nan=0.0)
    if phase == 1 and len(columns.weights) > 1:
        later = [f"tokens@{n}" for n in range(2, len(columns.weights) + 1) if f"tokens@{n}" in frame.columns]
        return np.asarray(total - sum(np.nan_to_num(numbers(frame, name, path), nan=0.0) for name in later))
    return np.full(len(frame), np.nan)


def _renormalized(weights: Array, tokens: Array, ids: Sequence[str], path: Path, notes: list[str]) -> Array:
    """Each mixture divided by its sum, which must be within ``ROUNDING`` of one (phases without tokens excepted)."""
    sums = weights.sum(axis=2)
    off = np.abs(sums - 1)
    bad = np.argwhere((tokens > 0) & ~(off <= ROUNDING))
    if bad.size:
        row, phase = (int(place) for place in bad[0])
        place = f" in phase {phase + 1}" if weights.shape[1] > 1 else ""
        raise DataError(
            f"{path}: the weights of run {ids[row]}{place} sum to {sums[row, phase]:.6g}, not to 1 (up to {ROUNDING:.0%} is "
            f"taken for rounding; {len({int(r) for r, _ in bad})} runs are further off). Correct them or take the run out."
        )
    change = np.where((tokens > 0) & (off > SAME_SUM), off, 0.0)
    if change.any():
        row = int(change.max(axis=1).argmax())
        notes.append(
            f"The weights of {int(change.any(axis=1).sum())} of {count(len(ids), 'run')} were divided by their sum; the "
            f"largest change is {change.max():.2g} (run {ids[row]})."
        )
    return np.where(change[:, :, None] > 0, weights / np.where(sums > 0, sums, 1)[:, :, None], weights)


def _status(table: Cells, losses: Array, metrics: Sequence[str], notes: list[str]) -> tuple[str, ...]:
    """Each run's status; a run with an infinite loss or none at all has failed. Missing values are counted."""
    ids = table.keys
    status = [word or DONE for word in table.words("status")]
    unknown = [n for n, word in enumerate(status) if word not in (DONE, FAILED)]
    if unknown:
        n = unknown[0]
        raise DataError(f"The status of a run is {DONE!r} or {FAILED!r}; run {ids[n]} has {status[n]!r}.")
    done = np.array([word == DONE for word in status])
    infinite, missing = np.isinf(losses).any(axis=1) & done, np.isnan(losses)
    none = missing.all(axis=1) & done
    for rows, what in ((infinite, "an infinite loss"), (none, "no loss at all")):
        if rows.any():
            names = [ids[n] for n in np.flatnonzero(rows)]
            notes.append(f"Taken as failed, and in no fit, for {what}: {count(len(names), 'run')} ({short(names)}).")
    partly = missing & (done & ~none & ~infinite)[:, None]
    for m in np.flatnonzero(partly.any(axis=0)).tolist():
        names = [ids[n] for n in np.flatnonzero(partly[:, m])]
        shown = short(list(dict.fromkeys(names)))
        notes.append(f"{metrics[m]} is missing in {len(names)} of {count(int(done.sum()), 'run')}: {shown}.")
    return tuple(FAILED if bad else word for bad, word in zip(infinite | none, status, strict=True))
