"""Which signals are measured under which names: those of ``curate.measure``, and the others as they are."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mixwright.core.errors import StudyError
from mixwright.core.find import find
from mixwright.curate.signal import Signal, bare, kinds

_SIGNAL = "signal"


@dataclass(frozen=True)
class Entry:
    """A signal to measure: its class, its options, and the name its columns begin with where it has one of its own.

    ``wanted``: always measured or listed by the study; others are measured where a rule names a column of theirs.
    """

    name: str
    kind: type[Signal]
    options: Mapping[str, Any] = field(default_factory=dict)
    prefix: str = ""
    wanted: bool = True

    @property
    def columns(self) -> tuple[str, ...]:
        """Its columns as rules name them."""
        return tuple(self.prefix + column for column in self.kind.columns)

    @property
    def labels(self) -> dict[str, tuple[str, ...]]:
        """The names of its columns' code numbers."""
        labels = self.signal().labels if self.options else self.kind.labels  # options may change them
        return {self.prefix + column: names for column, names in labels.items()}

    def check(self) -> None:
        """StudyError if its options are wrong, or lack one that has no default."""
        known: list[str] = (
            [one.name for one in dataclasses.fields(self.kind)] if dataclasses.is_dataclass(self.kind) else []
        )
        for option in self.options:
            if option not in known:
                raise StudyError(
                    f"measure.{self.name}: the signal {_called(self.kind)} has no option {option!r}."
                    f"{_near(option, known)} It has: {', '.join(known) or 'none'}."
                )
        if not self.options and not bare(self.kind):
            raise StudyError(
                f"{', '.join(self.columns)}: the signal {_called(self.kind)} needs options; list it under curate.measure "
                f"({', '.join(known)})."
            )

    def signal(self) -> Signal:
        """The signal, its options checked. Raises StudyError in one sentence."""
        from pydantic import TypeAdapter, ValidationError

        self.check()
        try:
            made: Signal = TypeAdapter(self.kind).validate_python(dict(self.options)) if self.options else self.kind()
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, ("measure", self.name, *first["loc"])))
            said = first["msg"].replace("Input should be", "must be").replace("Value error, ", "")
            raise StudyError(f"{where} is {first['input']!r}; it {said}.") from error
        return made


def entries(measure: Mapping[str, Mapping[str, Any]], extra: tuple[str, ...]) -> tuple[Entry, ...]:
    """The entries of ``measure``, and every other signal under its own name. StudyError for a name that is no signal."""
    every = tuple(dict.fromkeys(kinds(extra).values()))
    listed = [_listed(name, options) for name, options in measure.items()]
    plain = {entry.kind for entry in listed if not entry.prefix}
    others = [Entry(_called(kind), kind, wanted=kind.always) for kind in every if kind not in plain]
    return (*others, *listed)


def _listed(name: str, options: Mapping[str, Any]) -> Entry:
    signal = options.get(_SIGNAL, name)
    if not re.fullmatch(r"[^\W\d]\w*", name):
        raise StudyError(f"measure: {name!r} cannot name an entry: letters, digits and _ only, no digit first.")
    try:
        kind = find("signals", signal)
    except StudyError as error:
        raise StudyError(f"measure.{name}: {error}") from error
    entry = Entry(
        name,
        kind,
        {key: value for key, value in options.items() if key != _SIGNAL},
        "" if signal == name else f"{name}.",
    )
    entry.check()
    return entry


def names_of_codes(entries: Sequence[Entry]) -> dict[str, tuple[str, ...]]:
    """The names of code numbers of all entries' columns."""
    return {column: names for entry in entries for column, names in entry.labels.items()}


def _called(kind: type[Signal]) -> str:
    """``GopherQuality`` -> ``gopher_quality``."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()


def _near(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f" Did you mean {near[0]!r}?" if near else ""
