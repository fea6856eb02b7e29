"""``windows.log``: which window of which domain each step drew, to be compared with the order's pure function.

One JSON line per step: ``{"step": n, "windows": [[domain, epoch, window], ...]}`` in the order of the global batch's rows.
Lines after the step that an interrupted run goes on from are cut off, so the log of a run that was killed any number of
times is that of one that was not.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

NAME = "windows.log"
Rows = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


def cut(folder: Path, step: int) -> None:
    """Keep the lines of steps 1 to ``step``; a line that a killed process left unfinished goes, too."""
    path = folder / NAME
    if not path.exists():
        return
    kept = 0
    with path.open("rb") as stream:
        for line in stream:
            if not line.endswith(b"\n") or json.loads(line)["step"] > step:
                break
            kept += len(line)
    os.truncate(path, kept)


def append(folder: Path, step: int, parts: Sequence[Rows]) -> None:
    """Add what step ``step`` drew; ``parts`` are the rows of rank 0, 1, ..., which took every R-th row of the batch."""
    rows = np.stack([np.stack(part, axis=1) for part in parts], axis=1).reshape(-1, 3)
    with (folder / NAME).open("a", encoding="utf-8") as stream:
        stream.write(json.dumps({"step": step, "windows": rows.tolist()}) + "\n")


def read(folder: Path) -> list[tuple[int, list[list[int]]]]:
    """Every step's number and rows ``[domain, epoch, window]``."""
    lines = (folder / NAME).read_text("utf-8").splitlines()
    return [(entry["step"], entry["windows"]) for entry in map(json.loads, lines)]
