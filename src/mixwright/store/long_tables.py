"""Long tables, one row per value, turned into wide ones, one row per run (and step).

Three kinds, told by their columns; a file may mix the first two, and hold weights in wide columns beside the first:

    run_id, metric, loss (or value, bpb, unigram)   one row per run and metric
    run_id, domain, weight (or value)               one row per run and domain
    run_id, kind, name, value                       kind is weight, weight@2, loss, bpb or unigram

Columns such as params, tokens, step and seed may stand beside; where there is a step (or tokens), losses are kept apart by it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mixwright.core.errors import DataError
from mixwright.store.tables import ID_COLUMNS, KEY, numbers

if TYPE_CHECKING:
    import polars as pl

#: what a metric's value may be called, and the kind it then is
_METRIC_VALUES = {"loss": "loss", "value": "loss", "bpb": "bpb", "unigram": "unigram"}
_KINDS = re.compile(r"weight(@[2-9]\d*)?|loss|bpb|unigram")
#: told by these columns; none of them is of the wide table
LONG_COLUMNS = ("metric", "domain", "kind", "name", "value", "weight", "loss", "bpb", "unigram")
#: columns that tell a run's moments apart, the first that is there
CLOCKS = ("step", "tokens")
#: one kind of value: its name, the names of what it is of, the rows, and the values
_Part = tuple[str, "pl.Series", "pl.DataFrame", NDArray[np.float64]]


def is_long(columns: Sequence[str]) -> bool:
    """Whether a header is that of a long table."""
    has = frozenset(columns)
    by_metric = "metric" in has and bool(has & _METRIC_VALUES.keys())
    by_domain = "domain" in has and bool(has & {"weight", "value"})
    return by_metric or by_domain or has >= {"kind", "name", "value"}


def widened(frame: pl.DataFrame, path: Path, of_runs: Collection[str]) -> pl.DataFrame:
    """One row per run (and step): columns ``weight/<domain>``, ``loss/<metric>`` and so on in order of appearance.

    ``of_runs`` are the columns that hold one value per run or step and are refused where they contradict themselves; of
    others the first value stays. DataError where a run has two different values of one thing. A frame that is not long
    is given back as it is. Cost: a few sorts of the rows.
    """
    if not is_long(frame.columns):
        return frame
    if not any(name in frame.columns for name in ID_COLUMNS if not (name == "name" and "kind" in frame.columns)):
        raise DataError(f"{path} has one row per value, so it needs a column run_id that says of which run.")
    parts = _parts(frame, path)
    clock = next((name for name in CLOCKS if name in frame.columns), None)
    timed = clock and any(not kind.startswith("weight") for kind, *_ in parts)
    keys = [KEY, clock] if clock and timed else [KEY]
    out = _constant(frame, keys, of_runs, path)
    for kind, names, rows, values in parts:
        on = [KEY] if kind.startswith("weight") else keys
        out = out.join(
            _spread(rows.select(on), kind, names, values, path),
            on=on,
            how="left",
            maintain_order="left",
            nulls_equal=True,
        )
    return _without_rows_of_weights_only(out, keys)


def _parts(frame: pl.DataFrame, path: Path) -> list[_Part]:
    """(kind, names, the rows, their values) for each kind of value in a long table."""
    import polars as pl

    columns = frame.columns
    out = []
    if {"kind", "name", "value"} <= frozenset(columns):
        unknown = [
            kind for kind in frame["kind"].unique(maintain_order=True).to_list() if not _KINDS.fullmatch(str(kind))
        ]
        if unknown:
            raise DataError(f"{path}: the kind of a value is weight, loss, bpb or unigram; there is {unknown[0]!r}.")
        for kind in frame["kind"].unique(maintain_order=True).to_list():
            rows = frame.filter(pl.col("kind") == kind)
            out.append((str(kind), _names(rows, "name", path), rows, numbers(rows, "value", path)))
        return out
    weight = "weight" if "weight" in columns else "value"
    if "domain" in columns:
        rows = frame.filter(_filled("domain") if weight in columns else False)
        if weight == "value" and "metric" in columns:
            rows = rows.filter(~_filled("metric"))
        out.append(("weight", _names(rows, "domain", path), rows, numbers(rows, weight, path)))
    if "metric" in columns:
        rows = frame.filter(_filled("metric"))
        for column, kind in _METRIC_VALUES.items():
            if column in columns and not (column == "value" and "loss" in columns):
                out.append((kind, _names(rows, "metric", path), rows, numbers(rows, column, path)))
    return [part for part in out if len(part[1])]


def _filled(column: str) -> pl.Expr:
    import polars as pl

    return pl.col(column).is_not_null() & (pl.col(column).cast(pl.String).str.strip_chars() != "")


def _names(rows: pl.DataFrame, column: str, path: Path) -> pl.Series:
    """The names in a column, as text; DataError for an empty one."""
    import polars as pl

    names = rows[column].cast(pl.String).str.strip_chars()
    if names.null_count() or (names == "").any():
        row = int((names.is_null() | (names == "")).arg_max() or 0)
        raise DataError(f"{path}: a value of run {rows[KEY][row]} has no {column}.")
    return names.alias("name")


def _spread(keys: pl.DataFrame, kind: str, names: pl.Series, values: NDArray[np.float64], path: Path) -> pl.DataFrame:
    """One row per key, one column ``kind/name`` per name, empty where there is no value."""
    import polars as pl

    cells = keys.with_columns(names, pl.Series("cell", values)).unique(maintain_order=True)
    on = keys.columns
    twice = cells.filter(cells.select(*on, "name").is_duplicated())
    if len(twice):
        run, name = twice[KEY][0], twice["name"][0]
        same = twice.filter((pl.col(KEY) == run) & (pl.col("name") == name))["cell"].to_list()
        at = f" at {on[1]} {twice[on[1]][0]:.12g}" if len(on) > 1 else ""
        raise DataError(
            f"{path}: run {run} has {kind} {name}{at} more than once, as {same[0]:g} and {same[1]:g}. Keep one of them."
        )
    places = cells.select(on).unique(maintain_order=True)
    columns = cells["name"].unique(maintain_order=True)
    row = cells.join(places.with_row_index("row"), on=on, how="left", maintain_order="left", nulls_equal=True)[
        "row"
    ].to_numpy()
    number = {name: n for n, name in enumerate(columns.to_list())}
    column = cells["name"].replace_strict(number, return_dtype=pl.Int64).to_numpy()
    grid = np.full((len(places), len(columns)), np.nan)
    grid[row, column] = cells["cell"].to_numpy()
    return places.with_columns(pl.Series(f"{kind}/{name}", grid[:, n]) for name, n in number.items())


def _constant(frame: pl.DataFrame, keys: list[str], of_runs: Collection[str], path: Path) -> pl.DataFrame:
    """The columns that are not long, one row per key; DataError where those of ``of_runs`` contradict themselves."""
    import polars as pl

    others = [c for c in frame.columns if c not in LONG_COLUMNS and c not in keys]
    checked = [c for c in others if c in of_runs]
    found = frame.group_by(keys, maintain_order=True).agg(
        *(pl.col(c).drop_nulls().first() for c in others),
        *(pl.col(c).drop_nulls().n_unique().alias(f"\x00{c}") for c in checked),
    )
    for name in checked:
        several = found.filter(pl.col(f"\x00{name}") > 1)
        if len(several):
            raise DataError(
                f"{path}: run {several[KEY][0]} has several values of {name}, of which a run has one"
                f"{f' at each {keys[1]}' if len(keys) > 1 else ''}. Correct them, or take the column out."
            )
    return found.select(*keys, *others)


def _without_rows_of_weights_only(out: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    """Rows that only said the weights of a run, at no step, are no observation where losses stand at steps."""
    import polars as pl

    if len(keys) == 1:
        return out
    measured = pl.any_horizontal(
        pl.col(name).is_not_null() for name in out.columns if name.split("/")[0] in ("loss", "bpb", "unigram")
    )
    return out.filter(measured | pl.col(keys[1]).is_not_null())
