"""What runs cost: a trainer's estimate, corrected by what finished runs really took.

The correction is the geometric mean of measured / estimated CPU-seconds, over runs of the same trainer, size and tokens
where there are any, else of the same trainer and size, else of the same trainer. It is kept in ``costs.json`` of the
workspace, so that the next sweep begins with it. Only the order of work and the time shown depend on it.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mixwright.core.errors import MixwrightError
from mixwright.core.run import Run
from mixwright.store.artifact import Workspace, read_json, write_json
from mixwright.train.trainer import Trainer

FILE = "costs.json"
#: Runs that the mean remembers: older ones fade, since machines and settings change.
_REMEMBERED = 50
#: CPU-seconds below which a measurement says nothing.
_TOO_SHORT = 0.05


class Costs:
    """The corrections of one workspace."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, list[float]] = {}  # key -> [runs, mean of log(measured / estimated)]
        with contextlib.suppress(MixwrightError, OSError):  # estimates are not worth stopping for
            self._known = {str(key): [float(n), float(mean)] for key, (n, mean) in read_json(path).items()}

    @classmethod
    def of(cls, workspace: Workspace) -> Costs:
        """Those kept in a workspace."""
        return cls(workspace.root / FILE)

    def cpu_seconds(self, trainer: Trainer, run: Run) -> float:
        """CPU-seconds the run will take by itself, as far as is known."""
        return self.corrected(trainer, run, trainer.cost(run))

    def corrected(self, trainer: Trainer, run: Run, estimate: float, *, together: bool = False) -> float:
        """An estimate for ``run``, or for a group of runs like it that are trained ``together``."""
        known = next((self._known[key] for key in _keys(trainer, run, together) if key in self._known), None)
        return estimate * math.exp(known[1]) if known is not None else estimate

    def measured(
        self, trainer: Trainer, run: Run, cpu_seconds: float, estimate: float, *, together: bool = False
    ) -> bool:
        """Take in what was measured; False where it was too short to say anything."""
        if cpu_seconds < _TOO_SHORT or estimate <= 0:
            return False
        ratio = math.log(cpu_seconds / estimate)
        for key in _keys(trainer, run, together):
            runs, mean = self._known.get(key, [0.0, 0.0])
            seen = min(runs + 1, _REMEMBERED)
            self._known[key] = [seen, mean + (ratio - mean) / seen]
        write_json(self._path, self._known)
        return True


def _keys(trainer: Trainer, run: Run, together: bool) -> Iterator[str]:
    """Under which names a measurement is kept, the closest first."""
    name = f"{type(trainer).__module__}:{type(trainer).__qualname__}{' together' if together else ''}"
    seen = run.schedule.tokens - run.parent_tokens
    yield f"{name} {run.size} {seen}"
    yield f"{name} {run.size}"
    yield name


def seconds_of(facts: Any) -> float:
    """The CPU-seconds that a run's facts state; 0 where they state none."""
    value = facts.get("cpu_seconds", 0.0) if isinstance(facts, dict) else 0.0
    return float(value) if isinstance(value, int | float) else 0.0
