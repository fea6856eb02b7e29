"""What better means and what is forbidden."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixwright.core.errors import StudyError
from mixwright.core.mixture import Mixture


@dataclass(frozen=True)
class Group:
    """Bounds on the summed weight of some domains."""

    domains: tuple[str, ...]
    floor: float = 0.0
    ceiling: float = 1.0

    def __post_init__(self) -> None:
        if not self.domains:
            raise StudyError("A group of domains needs at least one domain; it was given none.")
        if not 0 <= self.floor <= self.ceiling <= 1:
            raise StudyError(
                f"A group's bounds must satisfy 0 <= floor <= ceiling <= 1; got {self.floor:g} and {self.ceiling:g}."
            )


@dataclass(frozen=True)
class Objective:
    """Minimize the weighted mean of some metrics' losses, within bounds.

    ``metrics`` maps metric names to positive weights (normalized to sum to one); empty means the mean of all
    metrics of the table at hand. ``floors`` and ``ceilings`` bound single weights, ``epoch_cap`` how often a
    domain's unique tokens may be seen in the run the recipe is for, ``groups`` sums of weights.
    """

    metrics: Mapping[str, float] = field(default_factory=dict)
    floors: Mapping[str, float] = field(default_factory=dict)
    ceilings: Mapping[str, float] = field(default_factory=dict)
    epoch_cap: float | None = None
    groups: Mapping[str, Group] = field(default_factory=dict)

    def __post_init__(self) -> None:
        weights = {str(name): float(weight) for name, weight in self.metrics.items()}
        for name, weight in weights.items():
            if not (np.isfinite(weight) and weight > 0):
                raise StudyError(f"The objective's weight of {name} must be positive and finite; got {weight:g}.")
        total = sum(weights.values())
        object.__setattr__(self, "metrics", MappingProxyType({k: v / total for k, v in weights.items()}))
        for kind in ("floors", "ceilings"):
            bounds = {str(name): float(bound) for name, bound in getattr(self, kind).items()}
            for name, bound in bounds.items():
                if not 0 <= bound <= 1:
                    raise StudyError(f"The {kind[:-1]} of {name} must lie in 0..1; got {bound:g}.")
            object.__setattr__(self, kind, MappingProxyType(bounds))
        object.__setattr__(self, "groups", MappingProxyType(dict(self.groups)))
        if self.epoch_cap is not None and not self.epoch_cap > 0:
            raise StudyError(f"epoch_cap must be positive; got {self.epoch_cap:g}. Leave it out for no cap.")

    def metric_weights(self, metrics: Sequence[str]) -> NDArray[np.float64]:
        """Weights ``(M,)`` over the metrics of a table, summing to one; StudyError if one named is not in it."""
        if not self.metrics:
            return np.full(len(metrics), 1.0 / len(metrics))
        missing = [name for name in self.metrics if name not in metrics]
        if missing:
            raise StudyError(f"The objective names {', '.join(missing)}, but the runs have only {', '.join(metrics)}.")
        return np.array([self.metrics.get(name, 0.0) for name in metrics])

    def bounds(
        self, domains: Sequence[str], tokens: float | None = None, supply: Sequence[float] | NDArray[Any] | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Lowest and highest weight of each domain, ``(D,)`` each, from floors, ceilings and the epoch cap.

        The cap needs the ``tokens`` of the run and the ``supply`` (unique tokens) per domain; without either it
        binds nothing. Raises StudyError for a bound on an unknown domain, and when no mixture satisfies them all.
        """
        for kind in ("floors", "ceilings"):
            unknown = [name for name in getattr(self, kind) if name not in domains]
            if unknown:
                raise StudyError(
                    f"objective.{kind} names {', '.join(unknown)}, which is no domain; domains: {', '.join(domains)}."
                )
        low = np.array([self.floors.get(name, 0.0) for name in domains])
        high = np.array([self.ceilings.get(name, 1.0) for name in domains])
        if self.epoch_cap is not None and tokens and supply is not None:
            high = np.minimum(high, self.epoch_cap * np.asarray(supply, dtype=np.float64) / tokens)
        for n, name in enumerate(domains):
            if low[n] > high[n] + 1e-12:
                raise StudyError(
                    f"No mixture satisfies the objective: {name} has the floor {low[n]:.4g} but may have at most {high[n]:.4g} "
                    "(its ceiling, or the epoch cap at this budget and supply). Lower the floor or raise the other."
                )
        if low.sum() > 1 + 1e-9:
            raise StudyError(
                f"No mixture satisfies the objective: the floors sum to {low.sum():.4g}, more than 1. Lower some."
            )
        if high.sum() < 1 - 1e-9:
            raise StudyError(
                f"No mixture satisfies the objective: the highest weights allowed sum to {high.sum():.4g}, less than 1 "
                "(ceilings, or the epoch cap at this budget and supply). Raise one, or lower the budget's tokens."
            )
        return low, high

    def allows(self, mixture: Mixture, *, tokens: float | None = None, supply: Sequence[float] | None = None) -> bool:
        """Whether a mixture satisfies every bound (within 1e-9)."""
        low, high = self.bounds(mixture.domains, tokens, supply)
        inside = bool(np.all(mixture.weights >= low - 1e-9) and np.all(mixture.weights <= high + 1e-9))
        sums = [(g, sum(mixture[d] for d in g.domains)) for g in self.groups.values()]
        return inside and all(g.floor - 1e-9 <= total <= g.ceiling + 1e-9 for g, total in sums)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON and YAML."""
        return {
            "metrics": dict(self.metrics),
            "floors": dict(self.floors),
            "ceilings": dict(self.ceilings),
            "epoch_cap": self.epoch_cap,
            "groups": {
                n: {"domains": list(g.domains), "floor": g.floor, "ceiling": g.ceiling} for n, g in self.groups.items()
            },
        }
