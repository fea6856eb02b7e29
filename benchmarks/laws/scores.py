"""What is counted and how: scores, intervals of counts, CPU time, and the rows of the result file."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
#: half width of a normal's central 90 %
Z90 = 1.6448536269514722


def spearman(first: Array, second: Array) -> float:
    """Rank correlation, ties sharing their mean rank; 0 where one side is constant (it ranks nothing)."""
    a, b = _ranks(first), _ranks(second)
    return float(np.corrcoef(a, b)[0, 1]) if np.ptp(a) > 0 and np.ptp(b) > 0 else 0.0


def _ranks(values: Array) -> Array:
    _, inverse, number = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(number) - (number - 1) / 2)[inverse])


def mae(predicted: Array, truth: Array) -> float:
    return float(np.mean(np.abs(np.asarray(predicted) - truth)))


@dataclass(frozen=True)
class Covered:
    """Of ``total`` measured losses ``inside`` lay in their 90 % interval; ``what`` names the check.

    ``pool`` says with which others they are counted: overall losses, losses of single validation sets ("subsets"), or none.
    """

    what: str
    inside: int
    total: int
    pool: str = ""

    @classmethod
    def of(cls, what: str, mean: Array, sd: Array, truth: Array, pool: str = "") -> "Covered":
        known = np.isfinite(truth)
        hit = np.abs(np.asarray(mean) - truth)[known] <= Z90 * np.asarray(sd)[known]
        return cls(what, int(hit.sum()), int(known.sum()), pool)

    @property
    def share(self) -> float:
        return self.inside / max(self.total, 1)

    def interval(self) -> tuple[float, float]:
        """The exact 90 % binomial interval of the share (Clopper and Pearson 1934)."""
        from scipy.stats import beta

        low = float(beta.ppf(0.05, self.inside, self.total - self.inside + 1)) if self.inside else 0.0
        high = float(beta.ppf(0.95, self.inside + 1, self.total - self.inside)) if self.inside < self.total else 1.0
        return low, high


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """What ``call`` gives, and the CPU-seconds of this process it took."""
    before = time.process_time()
    value = call()
    return value, time.process_time() - before


@dataclass(frozen=True)
class Row:
    """One line of the result file. ``goal`` is a number with its direction (">", ">=", "<=", "<", "in"), or None.

    ``ours`` is None where a check could not be made; it then counts as missed and ``note`` says why.
    """

    what: str
    unit: str
    ours: float | None
    goal: tuple[Any, ...] | None
    peer: str = ""
    peer_value: float | None = None
    note: str = ""

    @property
    def met(self) -> bool | None:
        if self.goal is None:
            return None
        if self.ours is None or not np.isfinite(self.ours):
            return False
        kind, *bounds = self.goal
        x = float(self.ours)
        tests: dict[str, Callable[[], bool]] = {
            ">": lambda: x > bounds[0], ">=": lambda: x >= bounds[0], "<": lambda: x < bounds[0],
            "<=": lambda: x <= bounds[0], "in": lambda: bounds[0] <= x <= bounds[1],
        }  # fmt: skip
        return bool(tests[kind]())

    def to_dict(self) -> dict[str, Any]:
        ratio = None
        if self.ours is not None and self.peer_value:
            ratio = _short(self.ours / self.peer_value)
        out = {
            "what": self.what, "unit": self.unit, "ours": _short(self.ours), "peer": self.peer or None,
            "peer_value": _short(self.peer_value), "ratio": ratio,
            "goal": " ".join(str(part) for part in self.goal) if self.goal else None, "met": self.met,
        }  # fmt: skip
        return out | ({"note": self.note} if self.note else {})


def _short(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(f"{value:.5g}")


@dataclass(frozen=True)
class Shown:
    """A table for people: a title, column heads, rows of cells already in words."""

    title: str
    heads: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]

    def text(self) -> str:
        lines = [self.heads, *self.cells]
        widths = [max(len(line[n]) for line in lines) for n in range(len(self.heads))]
        out = [self.title]
        for line in lines:
            first, *rest = (
                cell.ljust(w) if n == 0 else cell.rjust(w) for n, (cell, w) in enumerate(zip(line, widths, strict=True))
            )
            out.append("  ".join(["  " + first, *rest]).rstrip())
        return "\n".join(out)


@dataclass(frozen=True)
class Result:
    """What a group of checks gives."""

    rows: tuple[Row, ...] = ()
    tables: tuple[Shown, ...] = ()
    covered: tuple[Covered, ...] = ()


def number(value: float | None, digits: int = 4) -> str:
    """A figure without its leading zero, as the tables of the field print it; a dash where there is none."""
    if value is None or not np.isfinite(value):
        return "-"
    if abs(value) >= 1e4:
        return f"{value:.1e}"
    text = f"{value:.{digits}f}"
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text
