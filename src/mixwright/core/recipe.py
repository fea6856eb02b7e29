"""The answer, with its reasons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mixwright.core.errors import DataError
from mixwright.core.objective import Objective
from mixwright.core.schedule import Schedule

SCHEMA = "mixwright/recipe/1"


@dataclass(frozen=True)
class Forecast:
    """One predicted number with its 90 % interval.

    ``kind`` is ``difference`` (loss minus that of the reference mixture) or ``loss``. It holds for models of
    ``params`` non-embedding parameters after ``tokens`` training tokens (None: as in the table of runs).
    """

    metric: str
    kind: str
    value: float
    low: float
    high: float
    unit: str = "nats/token"
    reference: str = ""
    params: int | None = None
    tokens: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in ("difference", "loss"):
            raise DataError(f"A forecast is a 'difference' or a 'loss'; got {self.kind!r}.")
        if not self.low <= self.value <= self.high:
            raise DataError(
                f"Forecast of {self.metric}: {self.value:g} lies outside its interval {self.low:g}..{self.high:g}."
            )


@dataclass(frozen=True)
class Recipe:
    """What to train on: the mixture of every phase, the tokens, the epochs, what to expect, and from what it follows.

    ``epochs`` maps domains to passes over their unique tokens (empty where supplies are unknown); ``supply`` holds the
    unique tokens. ``forecasts`` state the size and tokens they hold for. ``fingerprints`` name every input by its hash.
    ``notes`` are sentences a person should read. ``verified`` is what larger runs measured, when there were any.
    """

    schedule: Schedule
    objective: Objective
    forecasts: tuple[Forecast, ...] = ()
    supply: Mapping[str, int] = field(default_factory=dict)
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    verified: tuple[Mapping[str, Any], ...] = ()
    params: int | None = None

    @property
    def epochs(self) -> dict[str, float]:
        """Passes over each domain's unique tokens; empty where supplies are unknown."""
        if not self.supply:
            return {}
        amount = [float(self.supply.get(name, 0)) for name in self.schedule.domains]
        return {name: float(e) for name, e in zip(self.schedule.domains, self.schedule.epochs(amount), strict=True)}

    def to_dict(self) -> dict[str, Any]:
        """Plain values for YAML and JSON."""
        return {
            "schema": SCHEMA,
            "tokens": self.schedule.tokens,
            "params": self.params,
            "phases": self.schedule.to_dict(),
            "epochs": {name: round(value, 4) for name, value in self.epochs.items()},
            "supply": dict(self.supply),
            "forecasts": [forecast.__dict__ for forecast in self.forecasts],
            "verified": [dict(row) for row in self.verified],
            "objective": self.objective.to_dict(),
            "notes": list(self.notes),
            "fingerprints": dict(self.fingerprints),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """The inverse of ``to_dict``; DataError if the schema is another or a field is missing."""
        if values.get("schema") != SCHEMA:
            raise DataError(
                f"This is not a recipe this version can read: its schema is {values.get('schema')!r}, wanted {SCHEMA!r}."
            )
        try:
            return cls(
                schedule=Schedule.from_dict(values["phases"]),
                objective=Objective.from_dict(values["objective"]),
                forecasts=tuple(Forecast(**forecast) for forecast in values["forecasts"]),
                supply=values["supply"],
                fingerprints=values["fingerprints"],
                notes=tuple(values["notes"]),
                verified=tuple(values["verified"]),
                params=values["params"],
            )
        except (KeyError, TypeError) as error:
            raise DataError(f"This recipe lacks or misnames a field: {error}.") from error
