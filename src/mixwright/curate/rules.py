"""What the study says about curation: bounds on signals, dedup, how far targets are kept apart."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge
from numpy.typing import NDArray

from mixwright.core.errors import StudyError
from mixwright.curate.signal import load

#: the rules that are no bound on a signal: a row that cannot be read, a text that was kept before
UNREADABLE = "unreadable"
DUPLICATE = "exact_duplicate"


@dataclass(frozen=True)
class Bounds:
    """What a signal must keep: ``min <= value <= max``; None is no bound. A value that is no number fails."""

    min: float | None = None
    max: float | None = None

    def __post_init__(self) -> None:
        given = [bound for bound in (self.min, self.max) if bound is not None]
        if not given or not all(math.isfinite(bound) for bound in given):
            raise StudyError(f"A rule needs a finite min, max or both; got min {self.min}, max {self.max}.")
        if len(given) == 2 and given[0] > given[1]:
            raise StudyError(f"A rule's min must not be above its max; got {self.min} and {self.max}.")

    def failing(self, values: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which values lie outside, ``(n,)``."""
        low = -np.inf if self.min is None else self.min
        high = np.inf if self.max is None else self.max
        outside: NDArray[np.bool_] = ~((values >= low) & (values <= high))
        return outside

    def broken(self, value: float) -> str:
        """The bound that a failing value breaks, as ``>= 200``."""
        above = self.max is not None and (self.min is None or value > self.max)
        return f"<= {self.max:.10g}" if above else f">= {self.min:.10g}"


@dataclass(frozen=True)
class Options:
    """What is kept.

    ``rules`` gives bounds per signal column; their order is the order in which drops are told. ``exact_dedup`` keeps
    the first of equal texts, in the order of sources, then of rows. A target's document that shares ``target_ngram``
    words in a row with a kept training document is dropped. ``signals`` are further ones, ``package.module:Class``; the
    built-in ones are always measured.
    """

    exact_dedup: bool = True
    rules: Mapping[str, Bounds] = field(default_factory=dict)
    target_ngram: Annotated[int, Ge(1)] = 13
    signals: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        known = load(self.signals)
        for name in self.rules:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f" Did you mean {near[0]!r}?" if near else ""
                raise StudyError(f"No signal measures {name!r}, named in rules.{hint} Known: {', '.join(known)}.")

    @property
    def shares(self) -> str:
        """The rule that drops a target's document for sharing words with training text."""
        return f"shares_{self.target_ngram}gram"

    @property
    def waterfall(self) -> tuple[str, ...]:
        """Every rule a row can fail, in the order in which drops are told."""
        return (UNREADABLE, *self.rules, self.shares, DUPLICATE)

    def failing(self, values: Mapping[str, NDArray[np.float64]], rows: int) -> NDArray[np.bool_]:
        """Which of ``rows`` rows fail which bounds, ``(rows, len(rules))``."""
        columns = [bounds.failing(values[name]) for name, bounds in self.rules.items()]
        return np.stack(columns, axis=1) if columns else np.zeros((rows, 0), dtype=bool)

    def told(self) -> list[dict[str, Any]]:
        """Every rule as a row of a table, in the order of the waterfall; ``signal`` is None for those without one."""
        bounds = {name: (given.min, given.max) for name, given in self.rules.items()}
        return [
            {"rule": name, "signal": name if name in bounds else None, "min": low, "max": high}
            for name in self.waterfall
            for low, high in [bounds.get(name, (None, None))]
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        rules = {name: {"min": bounds.min, "max": bounds.max} for name, bounds in self.rules.items()}
        return {
            "exact_dedup": self.exact_dedup,
            "rules": rules,
            "target_ngram": self.target_ngram,
            "signals": list(self.signals),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Options:
        """The inverse of ``to_dict``."""
        rules = {name: Bounds(**bounds) for name, bounds in values["rules"].items()}
        return cls(values["exact_dedup"], rules, values["target_ngram"], tuple(values["signals"]))
