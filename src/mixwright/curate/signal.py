"""What a signal is: it measures numbers for every text, and never decides."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from mixwright.core.errors import StudyError
from mixwright.core.find import find, names
from mixwright.curate.texts import Flags, Texts

__all__ = ["Flags", "Floats", "Signal", "Texts", "bare", "kinds", "load", "measure", "ratio"]

Floats = NDArray[np.float64]


class Signal(ABC):
    """Numbers for every text; subclasses are frozen dataclasses in ``signals/``, named as their file.

    ``columns`` are the names under which thresholds and tables know the numbers. A signal that is ``always`` measured is
    cheap and has no options without a default; another is measured where the study lists it under ``curate.measure``, or
    where a rule names a column of it and every option has a default. Its fields are its options. One that is ``scored``
    is no part of the fused pass: it is a model, run in tasks of its own on long batches (``scoring.py``). One that
    ``may_fail`` gives NaN where it could not measure; others give finite numbers.
    """

    columns: ClassVar[tuple[str, ...]]
    always: ClassVar[bool] = True
    scored: ClassVar[bool] = False
    may_fail: ClassVar[bool] = False
    #: whether measuring holds the GIL for long: then workers are processes
    holds_gil: ClassVar[bool] = False
    #: column that holds code numbers -> their names: number k is called ``labels[column][k]``, -1 is unknown; options may
    #: give an instance others
    labels: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    @abstractmethod
    def measure(self, texts: Texts) -> dict[str, Floats]:
        """One float64 array ``(n,)`` per column, a pure function of each text alone."""

    def prepare(self, base: Path, folder: Path) -> None:  # noqa: B027  # most signals need nothing
        """Once, before any task: check the options, read the files they name (relative to ``base``), and leave in the
        existing ``folder`` what ``opened`` reads. Raises StudyError or DataError in one sentence."""

    def opened(self, folder: Path) -> Signal:
        """In a task, before its first batch: the signal with what ``prepare`` left in ``folder``."""
        return self

    def identity(self, base: Path) -> str:
        """What its numbers depend on beside its options and its code: a hash of the files that the options name."""
        return ""


def ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> Floats:
    """``part / whole``, 0 where ``whole`` is 0."""
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)


def bare(kind: type[Signal]) -> bool:
    """Whether every option of a signal has a default, so that it can be measured without being set up."""
    if not dataclasses.is_dataclass(kind):
        return True
    missing = dataclasses.MISSING
    return all(f.default is not missing or f.default_factory is not missing for f in dataclasses.fields(kind))


@cache
def kinds(extra: tuple[str, ...] = ()) -> dict[str, type[Signal]]:
    """Every built-in or registered signal, and ``extra`` ones (``package.module:Class``): column -> class.

    Raises StudyError if a plug-in is not a signal, or two measure the same column.
    """
    columns: dict[str, type[Signal]] = {}
    for name in (*names("signals"), *extra):
        found = find("signals", name)
        if not (isinstance(found, type) and issubclass(found, Signal)):
            raise StudyError(f"The signal {name!r} is not a mixwright.curate.signal.Signal.")
        for column in found.columns:
            if column in columns:
                raise StudyError(f"Two signals measure {column!r}; rename a column of {name!r}.")
            columns[column] = found
    return columns


@cache
def load(extra: tuple[str, ...] = ()) -> dict[str, Signal]:
    """The signals that are always measured, ``extra`` ones among them: column -> signal. Raises as ``kinds``."""
    made = {kind: kind() for kind in dict.fromkeys(kinds(extra).values()) if kind.always}
    return {column: made[kind] for column, kind in kinds(extra).items() if kind in made}


def measure(texts: Sequence[str], extra: tuple[str, ...] = ()) -> dict[str, Floats]:
    """Every signal that is always measured, of every text: column -> ``(n,)``."""
    shared = Texts(texts)
    measured: dict[str, Floats] = {}
    for signal in dict.fromkeys(load(extra).values()):
        measured |= signal.measure(shared)
    return measured
