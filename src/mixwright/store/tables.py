"""Tables on disk, before anyone knows what their columns mean: cells as numbers and words, errors that name the place.

CSV, TSV, Parquet and JSON lines. CSV cells stay text until a column is asked for as numbers, so that a wrong cell can
be named with its row.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mixwright.core.errors import DataError, StudyError

if TYPE_CHECKING:
    import polars as pl

#: columns that name a row, tried in order; what they hold is put in the column ``KEY`` as text
ID_COLUMNS = ("run_id", "run", "id", "name")
KEY = "\x00id"
_ENDINGS = {".csv": "csv", ".tsv": "tsv", ".parquet": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl"}

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Cells:
    """The cells of a frame as numbers and words; errors name column, row and file (``origin``: column -> file)."""

    frame: pl.DataFrame
    origin: Mapping[str, Path]

    @property
    def keys(self) -> tuple[str, ...]:
        """The ids of the rows."""
        return tuple(self.frame[KEY].to_list())

    def numbers(self, column: str) -> Array:
        """A column as float64, NaN where empty."""
        return numbers(self.frame, column, self.origin.get(column))

    def first(self, columns: Sequence[str]) -> Array:
        """The first of these columns that exists; NaN where none does."""
        for column in columns:
            if column in self.frame.columns:
                return self.numbers(column)
        return np.full(len(self.frame), np.nan)

    def whole(self, column: str) -> tuple[int, ...]:
        """A column as whole numbers, 0 where empty or absent."""
        return tuple(int(v) for v in np.nan_to_num(self.first((column,)), nan=0.0, posinf=0.0, neginf=0.0))

    def words(self, column: str) -> tuple[str, ...]:
        """A column as text, empty where absent."""
        if column not in self.frame.columns:
            return ("",) * len(self.frame)
        return tuple("" if value is None else str(value) for value in self.frame[column].to_list())


def form(path: Path) -> str:
    """``csv``, ``tsv``, ``parquet`` or ``jsonl``, from the file's ending; DataError for any other."""
    if path.suffix.lower() not in _ENDINGS:
        raise DataError(
            f"{path}: a table of runs ends in {', '.join(_ENDINGS)}; this one in {path.suffix or 'nothing'}."
        )
    return _ENDINGS[path.suffix.lower()]


def load(path: Path) -> pl.DataFrame:
    """A file's cells, CSV as text, with the rows' ids in the column ``KEY``. DataError if it cannot be read or is empty."""
    import polars as pl

    kind = form(path)
    if not path.is_file():
        raise DataError(f"There is no table of runs at {path}.")
    try:
        if kind == "parquet":
            frame = pl.read_parquet(path)
        elif kind == "jsonl":
            frame = _load_jsonl(path)
        else:
            frame = pl.read_csv(path, separator="\t" if kind == "tsv" else ",", infer_schema=False)
    except (pl.exceptions.PolarsError, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as {kind}: {str(error).splitlines()[0]}") from error
    if not len(frame):
        raise DataError(f"{path} holds no runs.")
    name = next((column for column in ID_COLUMNS if column in frame.columns), None)
    if name is None:
        ids = pl.Series(KEY, [f"row-{n}" for n in range(1, len(frame) + 1)])
        return frame.with_columns(ids)
    ids = frame[name].cast(pl.String)
    if ids.null_count() or (ids == "").any():
        row = int((ids.is_null() | (ids == "")).arg_max() or 0) + 1
        raise DataError(f"{path}: row {row} has no {name}. Give every run an id of its own.")
    return frame.with_columns(ids.alias(KEY))


def _load_jsonl(path: Path) -> pl.DataFrame:
    import polars as pl

    rows = []
    with path.open(encoding="utf-8") as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise DataError(f"{path}: line {number} is not JSON ({error}). Correct or remove the line.") from error
            if not isinstance(row, dict):
                raise DataError(f"{path}: line {number} is no JSON object with the columns as keys.")
            rows.append(row)
    return pl.DataFrame(rows, infer_schema_length=None, strict=False) if rows else pl.DataFrame()


def numbers(frame: pl.DataFrame, column: str, path: Path | None) -> Array:
    """A column as float64, NaN where empty; DataError names the first cell that is no number."""
    import polars as pl

    cells = frame[column]
    if cells.dtype == pl.String:
        cells = cells.str.strip_chars()
        cells = cells.set(cells == "", None)
    values = cells.cast(pl.Float64, strict=False)
    wrong = values.is_null() & cells.is_not_null()
    if wrong.any():
        row = int(wrong.arg_max() or 0)
        raise DataError(
            f"{path or 'The table'}: {column} must be a number; run {frame[KEY][row]} has {cells[row]!r}. Correct the cell, "
            "or leave it empty if it was not measured."
        )
    return values.fill_null(float("nan")).to_numpy().astype(np.float64)


def match(columns: Sequence[str], globs: Sequence[str], *, but: Collection[str] = ()) -> dict[str, str]:
    """What the star of the first glob that matches any column stands for -> that column, ``but`` for some columns.

    StudyError for a glob without exactly one star.
    """
    for glob in globs:
        if glob.count("*") != 1:
            raise StudyError(f"A glob for columns has exactly one *, which stands for the name; got {glob!r}.")
        head, tail = (re.escape(part) for part in glob.split("*"))
        pattern = re.compile(f"{head}(.+){tail}", re.DOTALL)
        found = {m[1]: column for column in columns if column not in but and (m := pattern.fullmatch(column))}
        if found:
            return found
    return {}


def short(names: Sequence[str], most: int = 6) -> str:
    """The first few of a list of names."""
    return ", ".join(str(name) for name in names[:most]) + (f", … ({len(names)} in all)" if len(names) > most else "")


def count(number: int, noun: str) -> str:
    """``1 run``, ``2 runs``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
