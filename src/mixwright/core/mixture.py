"""A mixture: one weight per domain, a point on the simplex."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixwright.core.errors import DataError

#: How far a sum of weights may be from one before it is an error; double rounding over 10,000 domains stays far below.
SUM_TOLERANCE = 1e-6
#: Sums this close to one are one: what double rounding leaves after a division by the sum.
_ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class Mixture:
    """Weights ``(D,)`` over ``domains``: the fraction of *training tokens* drawn from each.

    Weights are finite, non-negative and sum to one within ``SUM_TOLERANCE``; they are then divided by their
    sum. Raises DataError otherwise. ``Mixture.normalized`` takes counts.
    """

    domains: tuple[str, ...]
    weights: NDArray[np.float64]

    def __post_init__(self) -> None:
        domains = tuple(str(name) for name in self.domains)
        weights = np.array(self.weights, dtype=np.float64)
        if not domains:
            raise DataError("A mixture needs at least one domain; it was given none.")
        if len(set(domains)) != len(domains):
            twice = sorted({name for name in domains if domains.count(name) > 1})
            raise DataError(f"A mixture names each domain once; {', '.join(twice)} stands twice.")
        if weights.shape != (len(domains),):
            raise DataError(f"A mixture over {len(domains)} domains needs {len(domains)} weights, not {weights.size}.")
        if not np.all(np.isfinite(weights)) or np.any(weights < 0):
            bad = next(d for d, w in zip(domains, weights, strict=True) if not (np.isfinite(w) and w >= 0))
            value = weights[domains.index(bad)]
            raise DataError(f"Weights must be finite and non-negative; {bad} has {value:g}.")
        total = float(weights.sum())
        if abs(total - 1.0) > SUM_TOLERANCE:
            raise DataError(
                f"Weights must sum to 1; they sum to {total:.6g}. Use Mixture.normalized(...) if these are counts."
            )
        if abs(total - 1.0) > _ROUNDING:  # dividing again what is already normalized would change last bits, and keys
            weights = weights / total
        weights.setflags(write=False)
        object.__setattr__(self, "domains", domains)
        object.__setattr__(self, "weights", weights)

    @classmethod
    def of(cls, weights: Mapping[str, float]) -> Mixture:
        """From ``{domain: weight}``; the weights must sum to one."""
        return cls(tuple(weights), np.array(list(weights.values()), dtype=np.float64))

    @classmethod
    def normalized(cls, domains: Iterable[str], counts: Sequence[float] | NDArray[Any]) -> Mixture:
        """From non-negative counts of any sum, divided by it."""
        names = tuple(domains)
        values = np.asarray(counts, dtype=np.float64)
        total = float(values.sum()) if values.size else 0.0
        if not np.isfinite(total) or total <= 0:
            raise DataError(f"Counts must have a positive, finite sum to become a mixture; the sum is {total:g}.")
        return cls(names, values / total)

    @classmethod
    def uniform(cls, domains: Iterable[str]) -> Mixture:
        """The same weight for every domain."""
        names = tuple(domains)
        return cls.normalized(names, np.ones(len(names)))

    def __getitem__(self, domain: str) -> float:
        return float(self.weights[self.domains.index(domain)])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mixture):
            return NotImplemented
        return self.domains == other.domains and bool(np.array_equal(self.weights, other.weights))

    def __hash__(self) -> int:
        return hash((self.domains, self.weights.tobytes()))

    def over(self, domains: Sequence[str]) -> Mixture:
        """The same mixture with its axis in the order of ``domains``; domains it lacks get 0, none may be lost."""
        missing = [name for name in self.domains if name not in domains and self[name] > 0]
        if missing:
            raise DataError(
                f"The mixture gives weight to {', '.join(missing)}, which is not among the domains asked for."
            )
        return Mixture(tuple(domains), np.array([self[n] if n in self.domains else 0.0 for n in domains]))

    def l1(self, other: Mixture) -> float:
        """The sum of absolute differences of weights, from 0 (equal) to 2 (disjoint)."""
        return float(np.abs(self.weights - other.over(self.domains).weights).sum())

    def blend(self, other: Mixture, share: float) -> Mixture:
        """``(1 - share)`` of this mixture and ``share`` of the other."""
        return Mixture(self.domains, (1 - share) * self.weights + share * other.over(self.domains).weights)

    def to_dict(self) -> dict[str, float]:
        """``{domain: weight}`` in the order of the axis."""
        return {name: float(weight) for name, weight in zip(self.domains, self.weights, strict=True)}

    def __repr__(self) -> str:
        inside = ", ".join(f"{name} {weight:.3g}" for name, weight in self.to_dict().items())
        return f"Mixture({inside})"
