"""Tables on disk, before anyone knows what their columns mean: cells as numbers and words, errors that name the place.

CSV, TSV, Parquet and JSON lines. CSV cells stay text until a column is asked for as numbers, so that a wrong cell can
be named with its row. A CSV may have semicolons between cells (a comma in a number is then the decimal comma), a byte
order mark, any line ends and blank lines.
"""

from __future__ import annotations

import csv
import difflib
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
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
#: columns other than ids that hold text
TEXT_COLUMNS = ("role", "status", "metric", "domain", "kind")
#: text cells that a spreadsheet would take for a formula are written to CSV behind one more apostrophe (``guarded``)
_FORMULA = r"^'*[=+\-@\t\r]"
#: and when read lose it again
_GUARDED = r"^'+[=+\-@\t\r]"
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
    """A file's cells, CSV as text; blank rows are left out. DataError if it cannot be read or holds no rows."""
    import polars as pl

    kind = form(path)
    if not path.is_file():
        raise DataError(f"There is no table of runs at {path}.")
    if not path.stat().st_size:
        raise DataError(f"{path} is empty; a table of runs has a header and one row per run.")
    try:
        if kind == "parquet":
            frame = pl.read_parquet(path)
        elif kind == "jsonl":
            frame = _load_jsonl(path)
        else:
            frame = _load_csv(path, "\t" if kind == "tsv" else "")
    except (pl.exceptions.PolarsError, OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as {kind}: {str(error).splitlines()[0]}") from error
    if len(frame):
        frame = frame.filter(~pl.all_horizontal(pl.all().is_null()))
    if not len(frame):
        raise DataError(f"{path} holds no runs.")
    return frame


def named(frame: pl.DataFrame, names: Mapping[str, str], path: Path) -> pl.DataFrame:
    """With our ``names`` for the file's own where it has those, and the rows' ids, as text, in the column ``KEY``.

    A column that bore our name without being meant is set aside. A table without ids numbers its rows.
    """
    import polars as pl

    here = {theirs: ours for ours, theirs in names.items() if theirs in frame.columns}
    aside = {ours: f"{ours} (not used)" for ours in here.values() if ours in frame.columns and ours not in here}
    frame = frame.rename({**aside, **here})
    frame = frame if form(path) in ("parquet", "jsonl") else _unguarded(frame)
    name = next((column for column in ID_COLUMNS if column in frame.columns), None)
    if name is None:
        return frame.with_columns(pl.Series(KEY, [f"row-{n}" for n in range(1, len(frame) + 1)]))
    ids = frame[name].cast(pl.String).str.strip_chars()
    if ids.null_count() or (ids == "").any():
        row = int((ids.is_null() | (ids == "")).arg_max() or 0) + 1
        raise DataError(f"{path}: row {row} has no {name}. Give every run an id of its own.")
    return frame.with_columns(ids.alias(KEY))


def check_known(given: Iterable[str], known: Sequence[str], what: str) -> None:
    """DataError for the first name that is not among the ``known`` ones, with the nearest of them."""
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise DataError(f"{name!r} is no {what}.{hint} There are: {short(known, 20)}.")


def guarded(cells: pl.Series) -> pl.Series:
    """Text as it is written to CSV: an apostrophe goes before what a spreadsheet would run as a formula."""
    import polars as pl

    return pl.select(
        pl.when(cells.str.contains(_FORMULA)).then("'" + cells).otherwise(cells).alias(cells.name)
    ).to_series()


def _unguarded(frame: pl.DataFrame) -> pl.DataFrame:
    """The inverse of ``guarded``, for the columns of a CSV that hold text."""
    import polars as pl

    held = [column for column in (*ID_COLUMNS, *TEXT_COLUMNS) if column in frame.columns]
    cell = pl.col(held)
    return (
        frame.with_columns(pl.when(cell.str.contains(_GUARDED)).then(cell.str.slice(1)).otherwise(cell))
        if held
        else frame
    )


def _load_csv(path: Path, separator: str) -> pl.DataFrame:
    """Cells as text under the header's names; DataError for another encoding, or a name that stands twice."""
    import polars as pl

    with path.open("rb") as stream:
        if stream.read(2) in (b"\xff\xfe", b"\xfe\xff"):
            raise DataError(f"{path} is UTF-16 text, as spreadsheets write it; save it as UTF-8.")
    with path.open(encoding="utf-8-sig", newline="") as text:
        first = text.readline()
        counts = {mark: first.count(mark) for mark in (",", ";", "\t")}
        separator = separator or max(counts, key=lambda mark: (counts[mark], mark == ","))
        text.seek(0)
        header = [name.strip() for name in next(csv.reader(text, delimiter=separator), [])]
    held = [f"c{n}" for n in range(len(header))]
    frame = pl.read_csv(path, separator=separator, infer_schema=False, new_columns=held)
    unnamed = [c for c, name in zip(held, header, strict=True) if not name]
    for column in unnamed:
        if frame[column].is_not_null().any():
            raise DataError(f"{path}: column {held.index(column) + 1} holds values but has no name; give it one.")
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise DataError(f"{path} has {short(twice)} more than once in its header; give every column a name of its own.")
    frame = frame.drop(unnamed).rename({c: name for c, name in zip(held, header, strict=True) if name})
    return _with_points(frame) if separator == ";" else frame


def _with_points(frame: pl.DataFrame) -> pl.DataFrame:
    """Decimal commas as points: cells such as 0,25."""
    import polars as pl

    number = r"^\s*([+-]?\d*),(\d+(?:[eE][+-]?\d+)?)\s*$"
    return frame.with_columns(pl.col(pl.String).exclude(*ID_COLUMNS).str.replace(number, "${1}.${2}"))


def _load_jsonl(path: Path) -> pl.DataFrame:
    """One object per line, keys in the order of the first line, then by name.

    The slow way, which names a wrong line and reads NaN, only where the fast one fails.
    """
    import polars as pl

    try:
        frame = pl.read_ndjson(path, infer_schema_length=None)
        with path.open(encoding="utf-8") as stream:
            first = list(json.loads(next(line for line in stream if line.strip())))
    except (pl.exceptions.PolarsError, ValueError, StopIteration):
        return _load_jsonl_slowly(path)
    return frame.select(*first, *sorted(name for name in frame.columns if name not in first))


def _load_jsonl_slowly(path: Path) -> pl.DataFrame:
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
