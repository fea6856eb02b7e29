"""What other people's programs write about a run while it trains: JSON lines, TensorBoard events, MLflow runs.

Every form becomes rows in the order of time: a row is a step and the values known at it. A program that was interrupted
and went on says some steps twice; what it said last counts.

    *.jsonl, *.ndjson      an object a line, {"step": 10, "tokens": 5120, "val:web": 3.1}, or one value a line,
                           {"name": "val:web", "value": 3.1, "step": 10}; objects inside are flattened with "/"
    *.json                 a list of such objects, alone or as "log_history" (``trainer_state.json`` of transformers)
    events.out.tfevents.*  or a folder that holds some, at any depth: scalars
    an MLflow run          its folder (or one that holds a single run), or an ``mlflow.db`` with a single run
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mixwright.core.errors import DataError

EVENTS = "events.out.tfevents."
#: keys of a line that holds one value
_NAME, _VALUE = ("name", "metric", "tag"), "value"


@dataclass(frozen=True)
class Row:
    """The values known at a step (None: the file knows no steps)."""

    step: float | None
    values: Mapping[str, float]


def read_rows(folder: Path, pattern: str, *, step: str = "step") -> list[Row]:
    """The rows of all files and folders in ``folder`` that ``pattern`` (a glob, or an absolute path) names.

    ``step`` is the key of a JSON line's step. Rows of one step are joined, later ones over earlier ones, and sorted by
    it. DataError if there is nothing of that name, or it is none of the forms above.
    """
    found = [Path(pattern)] if Path(pattern).is_absolute() else sorted(folder.glob(pattern))
    found = [path for path in found if path.exists()]
    if not found:
        raise DataError(f"there is no {pattern} in {folder}")
    return _joined(row for path in found for row in _rows(path, step))


def _rows(path: Path, step: str) -> Iterable[Row]:
    if path.is_file():
        if path.suffix in (".jsonl", ".ndjson"):
            return _json_lines(path, step)
        if path.suffix == ".json":
            return _json(path, step)
        if path.suffix == ".db":
            return _mlflow_database(path)
        if path.name.startswith(EVENTS):
            return _events([path])
    events = sorted(path.rglob(f"{EVENTS}*")) if path.is_dir() else []
    runs = _mlflow_runs(path) if path.is_dir() else []
    if events:
        return _events(events)
    if len(runs) == 1:
        return _mlflow(runs[0])
    if runs:
        names = ", ".join(run.name for run in runs[:4])
        raise DataError(f"{path} holds {len(runs)} MLflow runs ({names}); name the one that is meant")
    raise DataError(f"{path} is neither JSON lines nor TensorBoard events nor an MLflow run")


def _joined(rows: Iterable[Row]) -> list[Row]:
    joined: dict[float | int, dict[str, float]] = {}
    steps: dict[float | int, float | None] = {}
    for number, row in enumerate(rows):
        key = -1 - number if row.step is None else row.step
        joined.setdefault(key, {}).update(row.values)
        steps[key] = row.step
    order = sorted(joined, key=lambda key: (steps[key] is not None, key if steps[key] is not None else -key))
    return [Row(steps[key], joined[key]) for key in order]


def _json_lines(path: Path, step: str) -> Iterator[Row]:
    """Lines as rows; a last line without its end is still being written."""
    with path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except ValueError as error:
                if not line.endswith(b"\n"):
                    return
                raise DataError(f"{path}:{number} is not JSON ({error})") from error
            yield _row(value, step, f"{path}:{number}")


def _json(path: Path, step: str) -> Iterator[Row]:
    try:
        values = json.loads(path.read_bytes())
    except ValueError as error:
        raise DataError(f"{path} is not JSON ({error})") from error
    rows = values.get("log_history", [values]) if isinstance(values, dict) else values
    for number, value in enumerate(rows if isinstance(rows, list) else [rows], 1):
        yield _row(value, step, f"{path}, entry {number}")


def _row(value: Any, step: str, place: str) -> Row:
    if not isinstance(value, dict):
        raise DataError(f"{place} holds no object of names and values")
    flat = dict(_flat(value, ""))
    at = flat.pop(step, None)
    name = next((value[key] for key in _NAME if isinstance(value.get(key), str)), None)
    if name is not None and _VALUE in flat:
        flat = {name: flat[_VALUE]}
    return Row(at, flat)


def _flat(value: Mapping[str, Any], before: str) -> Iterator[tuple[str, float]]:
    for key, item in value.items():
        if isinstance(item, dict):
            yield from _flat(item, f"{before}{key}/")
        elif isinstance(item, (int, float)) and not isinstance(item, bool):
            yield f"{before}{key}", float(item)


def _events(paths: Sequence[Path]) -> Iterator[Row]:
    """Scalars of event files, in the order in which they were written."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.util.tensor_util import make_ndarray

    for path in sorted(paths, key=lambda path: (path.stat().st_mtime, path.name)):
        for event in EventFileLoader(str(path)).Load():
            values = {
                value.tag: float(make_ndarray(value.tensor).item())
                for value in event.summary.value
                if value.HasField("tensor") and value.metadata.plugin_data.plugin_name == "scalars"
            }
            if values:
                yield Row(float(event.step), values)


def _mlflow_runs(folder: Path) -> list[Path]:
    """The run folders of MLflow's file store in or below ``folder``."""
    places = [folder, *(path for path in sorted(folder.glob("*")) + sorted(folder.glob("*/*")) if path.is_dir())]
    return [path for path in places if (path / "meta.yaml").is_file() and (path / "metrics").is_dir()]


def _mlflow(run: Path) -> Iterator[Row]:
    """A run of MLflow's file store: a file per metric, a line ``timestamp value step`` per value."""
    for file in sorted(path for path in (run / "metrics").rglob("*") if path.is_file()):
        name = file.relative_to(run / "metrics").as_posix()
        for number, line in enumerate(file.read_text("utf-8").splitlines(), 1):
            try:
                parts = line.split()
                value, step = float(parts[1]), float(parts[2]) if len(parts) > 2 else 0.0
            except (ValueError, IndexError) as error:
                raise DataError(f"{file}:{number} is no line of an MLflow metric") from error
            yield Row(step, {name: value})


def _mlflow_database(path: Path) -> Iterator[Row]:
    """The metrics of MLflow's SQLite store."""
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            found = connection.execute(
                "select run_uuid, key, value, is_nan, step from metrics order by step, timestamp"
            ).fetchall()
    except sqlite3.Error as error:
        raise DataError(f"{path} is no MLflow database ({error})") from error
    runs = {row[0] for row in found}
    if len(runs) > 1:
        raise DataError(f"{path} holds {len(runs)} MLflow runs; let the program write to one of its own")
    for _, name, value, is_nan, step in found:
        yield Row(float(step), {name: math.nan if is_nan else float(value)})
