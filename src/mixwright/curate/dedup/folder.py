"""The folder in which dedup works, as its tasks find it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixwright.curate.dedup.index import Indexed, open_index
from mixwright.curate.dedup.keep import Equals
from mixwright.curate.dedup.options import Near
from mixwright.curate.dedup.rows import Rows
from mixwright.store.artifact import read_json, written_aside


@dataclass(frozen=True)
class Folder:
    """Where dedup works. ``found.json`` comes last."""

    path: Path

    def file(self, *names: str) -> Path:
        """A file of it."""
        return self.path.joinpath(*names)

    @cached_property
    def plan(self) -> Mapping[str, Any]:
        """What was asked for: files and options."""
        found: Mapping[str, Any] = read_json(self.file("plan.json"))
        return found

    @property
    def near(self) -> Near:
        """How similar texts are found."""
        return Near(**self.plan["near"])

    @cached_property
    def earlier(self) -> list[Indexed]:
        """The files of earlier runs, which are the first shards."""
        near = Near(**self.plan["near"]) if self.plan["near"] else None
        return [one for path in self.plan["against"] for one in open_index(Path(path), near)]

    @cached_property
    def rows(self) -> Rows:
        """All rows."""
        return Rows.open(self.file("rows"), longest=self.plan["longest"], settled=self.plan["settled"])

    @cached_property
    def texts(self) -> Equals:
        """Rows of equal text."""
        return Equals(np.load(self.file("twins.npy")))

    @property
    def keys(self) -> Equals | None:
        """Rows that are exact duplicates; None where these are kept."""
        if not self.plan["exact"]:
            return None
        return Equals(np.load(self.file("key_twins.npy"))) if any(self.plan["keys"]) else self.texts

    @property
    def pairs(self) -> Path:
        """The verified pairs."""
        return self.file("pairs.parquet")


@lru_cache(maxsize=2)
def _folder(path: str, written: int) -> Folder:
    del written  # another time: another plan
    return Folder(Path(path))


def opened(path: str | Path) -> Folder:
    """The folder, what it read kept for the next task."""
    return _folder(str(path), Path(path, "plan.json").stat().st_mtime_ns)


def save_array(path: Path, values: NDArray[Any]) -> None:
    """Write a ``.npy``, whole or not at all."""
    with written_aside(path) as aside, aside.open("wb") as stream:
        np.save(stream, values)
