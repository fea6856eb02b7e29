"""What the study says about curation: bounds on signals, dedup, how far targets are kept apart."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Gt
from numpy.typing import NDArray

from mixwright.core.errors import StudyError
from mixwright.curate.dedup.options import Options as DedupOptions
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
class Overrides:
    """Rules for some rows: ``presets`` add theirs; ``rules`` and ``keep`` replace those of the same name, or add theirs."""

    presets: tuple[str, ...] = ()
    rules: Mapping[str, Bounds] = field(default_factory=dict)
    keep: str | Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Options:
    """What is kept.

    ``presets`` are named sets of rules (``presets/``), ``rules`` bounds per signal column, ``keep`` expressions over
    columns, each a rule of its own (one without a name is called ``keep``); their order is the order in which drops are
    told. ``domains`` and ``languages`` replace or add to them for rows of a domain, or of a language (column ``lang``).
    A target's document that shares ``target_ngram`` words in a row with a kept training document is dropped. ``measure``
    lists signals that are not always measured, with their options; an entry may have another name and say which
    ``signal`` it is, and its columns then begin with that name. ``signals`` are further ones, ``package.module:Class``.
    ``rewrite`` lists what changes texts as they are read, before anything is measured, with options.

    ``memory`` (bytes, ``1.5GB``) bounds what all workers together hold, beside 64 bytes a document; ``shard`` is about how
    much text a task holds. A compressed file may unpack to at most ``max_inflation`` times its size. ``compat``
    ``datatrove`` measures as that tool does, so that the same thresholds decide the same.
    """

    presets: tuple[str, ...] = ()
    rules: Mapping[str, Bounds] = field(default_factory=dict)
    keep: str | Mapping[str, str] = field(default_factory=dict)
    domains: Mapping[str, Overrides] = field(default_factory=dict)
    languages: Mapping[str, Overrides] = field(default_factory=dict)
    measure: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    rewrite: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    dedup: DedupOptions = field(default_factory=DedupOptions)
    target_ngram: Annotated[int, Ge(1)] = 13
    signals: tuple[str, ...] = ()
    compat: Literal["none", "datatrove"] = "none"
    memory: str | None = None
    shard: str = "64MB"
    max_inflation: Annotated[float, Gt(1)] = 1000.0

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
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Options:
        """The inverse of ``to_dict``."""
        from pydantic import TypeAdapter

        return TypeAdapter(cls).validate_python(dict(values))
