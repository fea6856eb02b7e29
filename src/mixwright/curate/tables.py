"""The numbers of the rows of shards on disk, as deciding reads them: only the columns it needs, a row group at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mixwright.core.errors import DataError
from mixwright.store.plain_columns import read_numbers

if TYPE_CHECKING:
    import pyarrow.parquet as pq

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SignalTable:
    """The signals of one shard: ``files`` are Parquet files of the same rows, the first with ``id`` and all that is always
    measured, others with what models scored. ``domain`` is what its documents are of; of a target, ``target`` is true."""

    files: tuple[Path, ...]
    source: str
    domain: str
    target: bool = False

    @property
    def group(self) -> str:
        """Over whose rows its percentiles are taken: the domain's, or those of a target alone."""
        return f"targets/{self.source}" if self.target else self.domain

    @cached_property
    def rows(self) -> int:
        """How many rows it has. DataError if its files do not agree."""
        counts = [_open(file).metadata.num_rows for file in self.files]
        if len(set(counts)) > 1:
            raise DataError(
                f"{self.files[0]} has {counts[0]} rows and {self.files[-1]} {counts[-1]}: they are not of one run; "
                "curate again."
            )
        return int(counts[0])

    def columns(self, names: Sequence[str]) -> dict[str, Floats]:
        """The named columns, ``(n,)`` each. Memory: 8 bytes a row and column."""
        found: dict[str, Floats] = {}
        for file in self.files:
            if len(found) < len(names):
                found |= _read(file, [name for name in names if name not in found])
        missing = [name for name in names if name not in found]
        if missing:
            raise DataError(f"{self.files[0].parent} has no signal {missing[0]!r}: it was not measured; curate again.")
        return found


def _open(file: Path) -> pq.ParquetFile:
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(file, pre_buffer=False)
    except (OSError, ValueError) as error:
        raise _unreadable(file, error) from error


def _read(file: Path, names: Sequence[str]) -> dict[str, Floats]:
    """Those of the named columns that a file has."""
    try:
        found = read_numbers(file, names)
    except (OSError, ValueError) as error:
        raise _unreadable(file, error) from error
    return {name: values.astype(np.float64, copy=False) for name, values in found.items()}


def _unreadable(file: Path, error: Exception) -> DataError:
    return DataError(f"{file} is no readable Parquet file ({error}); curate again.")


def find_tables(measured: Path) -> list[SignalTable]:
    """The tables of all shards in a folder that was measured to the end (``measuring.Measured``), in order."""
    from mixwright.store.artifact import read_json

    if not (measured / "measured.json").is_file():
        raise DataError(f"{measured} holds no finished measurement (measured.json); run the curation first.")
    found, beside = [], _beside(measured / "signals")
    for shard in read_json(measured / "measured.json")["shards"]:
        own = measured / "signals" / f"{shard['name']}.parquet"
        scored = beside.get(own, [])
        found.append(SignalTable((own, *scored), own.parent.name, shard["domain"], shard["target"]))
    return found


def _beside(folder: Path) -> dict[Path, list[Path]]:
    """Per table of shards those that models wrote beside it (``<number>.<entry>.parquet``), sorted; the folder is listed once."""
    found: dict[Path, list[Path]] = {}
    for path in sorted(folder.glob("*/*.*.parquet")):
        found.setdefault(path.with_name(f"{path.name.split('.', 1)[0]}.parquet"), []).append(path)
    return found
