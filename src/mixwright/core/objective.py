"""What better means and what is forbidden."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixwright.core.errors import DataError, StudyError
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
class Within:
    """How far a mixture w may be from a prior mixture p: ``kl`` nats of sum(w log(w / p)), ``l1`` of sum(|w - p|).

    ``prior`` is a mixture by its name (``natural``: in proportion to supply; ``current``: the one in use) or its weights
    themselves. With ``kl``, a domain the prior gives nothing gets nothing.
    """

    prior: str | Mapping[str, float] = "natural"
    kl: float | None = None
    l1: float | None = None

    def __post_init__(self) -> None:
        if self.kl is None and self.l1 is None:
            raise StudyError(
                "objective.within needs kl (nats) or l1 (0..2), the distance to the prior; it has neither."
            )
        for name, bound in (("kl", self.kl), ("l1", self.l1)):
            if bound is not None and not (np.isfinite(bound) and bound >= 0):
                raise StudyError(f"objective.within.{name} must be a finite distance of at least 0; got {bound:g}.")
        if not isinstance(self.prior, str):
            try:
                weights = Mixture.of(self.prior).to_dict()
            except DataError as error:
                raise StudyError(f"objective.within.prior is no mixture: {error}") from error
            object.__setattr__(self, "prior", MappingProxyType(weights))

    def over(self, domains: Sequence[str], named: Mapping[str, Mixture]) -> NDArray[np.float64]:
        """The prior's weights ``(D,)``; StudyError if it is a name not among ``named``, or has other domains."""
        if isinstance(self.prior, str):
            if self.prior not in named:
                known = ", ".join(named) or "none"
                raise StudyError(
                    f"objective.within.prior is {self.prior!r}, but the mixtures known here are: {known}. Give its weights "
                    "instead."
                )
            mixture = named[self.prior]
        else:
            mixture = Mixture.of(self.prior)
        try:
            return mixture.over(domains).weights
        except DataError as error:
            raise StudyError(f"objective.within.prior: {error}") from error

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        prior = self.prior if isinstance(self.prior, str) else dict(self.prior)
        return {"prior": prior, "kl": self.kl, "l1": self.l1}


@dataclass(frozen=True)
class Budget:
    """What a loss may become: ``nats`` or ``percent`` above its prediction at the reference mixture, or ``at_most`` so high.

    Exactly one of the three is given. ``metrics`` weights the metrics it is a mean of (normalized to sum to one); empty: the
    one metric it is named after.
    ``nats`` and ``percent`` may be negative, which asks for an improvement. All speak of predicted losses.
    """

    nats: float | None = None
    percent: float | None = None
    at_most: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        given = {k: v for k, v in self._kinds().items() if v is not None}
        if len(given) != 1 or not all(np.isfinite(v) for v in given.values()):
            said = ", ".join(f"{k} {v:g}" for k, v in given.items()) or "nothing"
            raise StudyError(
                f"A loss budget needs exactly one of nats, percent and at_most, a finite number; got {said}."
            )
        object.__setattr__(self, "metrics", _normalized(self.metrics, "A loss budget's weight"))

    def _kinds(self) -> dict[str, float | None]:
        return {"nats": self.nats, "percent": self.percent, "at_most": self.at_most}

    def limit(self, at_reference: float) -> float:
        """The highest loss allowed, given the predicted loss at the reference mixture."""
        if self.at_most is not None:
            return self.at_most
        return at_reference + (self.nats if self.nats is not None else abs(at_reference) * (self.percent or 0.0) / 100)

    def words(self, reference: str = "reference") -> str:
        """The budget as a person says it."""
        if self.at_most is not None:
            return f"at most {self.at_most:g}"
        amount = f"{self.nats:+g} nats" if self.nats is not None else f"{self.percent:+g} %"
        return f"its value at the {reference} mixture {amount}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {**self._kinds(), "metrics": dict(self.metrics)}


def _normalized(weights: Mapping[str, float], what: str) -> Mapping[str, float]:
    """Positive weights divided by their sum."""
    values = {str(name): float(weight) for name, weight in weights.items()}
    for name, weight in values.items():
        if not (np.isfinite(weight) and weight > 0):
            raise StudyError(f"{what} of {name} must be positive and finite; got {weight:g}.")
    total = sum(values.values())
    return MappingProxyType({k: v / total for k, v in values.items()})


@dataclass(frozen=True)
class Objective:
    """Minimize the weighted mean of some metrics' losses, within bounds.

    ``metrics`` maps metric names to positive weights (normalized to sum to one); empty means the mean of all
    metrics of the table at hand. ``floors`` and ``ceilings`` bound single weights, ``fixed`` sets them, ``epoch_cap`` bounds
    how often a domain's unique tokens may be seen in the run the recipe is for, ``groups`` sums of weights, ``within`` the
    distance to a prior mixture, ``cost_cap`` the mean of ``costs`` (per token, in any one currency; a domain not named
    costs 0), ``budgets`` other losses, and ``trust`` how far outside the hull of the swept mixtures one may go (L1).

    ``risk`` replaces what is minimized: not the expected loss but the quantile of that level (0.9: the loss that is exceeded
    in one world of ten) of its difference to the reference mixture. A mixture then has to be better surely, not only on
    average.
    """

    metrics: Mapping[str, float] = field(default_factory=dict)
    floors: Mapping[str, float] = field(default_factory=dict)
    ceilings: Mapping[str, float] = field(default_factory=dict)
    epoch_cap: float | None = None
    groups: Mapping[str, Group] = field(default_factory=dict)
    fixed: Mapping[str, float] = field(default_factory=dict)
    within: Within | None = None
    costs: Mapping[str, float] = field(default_factory=dict)
    cost_cap: float | None = None
    budgets: Mapping[str, Budget] = field(default_factory=dict)
    risk: float | None = None
    trust: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "metrics", _normalized(self.metrics, "The objective's weight"))
        for kind, what in (("floors", "floor"), ("ceilings", "ceiling"), ("fixed", "fixed weight")):
            bounds = {str(name): float(bound) for name, bound in getattr(self, kind).items()}
            for name, bound in bounds.items():
                if not 0 <= bound <= 1:
                    raise StudyError(f"The {what} of {name} must lie in 0..1; got {bound:g}.")
            object.__setattr__(self, kind, MappingProxyType(bounds))
        object.__setattr__(self, "groups", MappingProxyType(dict(self.groups)))
        object.__setattr__(self, "budgets", MappingProxyType(dict(self.budgets)))
        object.__setattr__(self, "costs", MappingProxyType({str(k): float(v) for k, v in self.costs.items()}))
        self._check_numbers()

    def _check_numbers(self) -> None:
        if self.epoch_cap is not None and not self.epoch_cap > 0:
            raise StudyError(f"epoch_cap must be positive; got {self.epoch_cap:g}. Leave it out for no cap.")
        for name, cost in self.costs.items():
            if not (np.isfinite(cost) and cost >= 0):
                raise StudyError(f"The cost of {name} must be a finite number of at least 0; got {cost:g}.")
        if self.cost_cap is not None and not (self.costs and np.isfinite(self.cost_cap) and self.cost_cap >= 0):
            raise StudyError(
                f"cost_cap must be a finite number of at least 0 with costs beside it; got {self.cost_cap:g} and "
                f"{len(self.costs)} costs."
            )
        if self.risk is not None and not 0.5 < self.risk < 1:
            raise StudyError(
                f"risk must lie between 0.5 and 1, the level of the quantile to minimize; got {self.risk:g}. Leave it out "
                "to minimize the expected loss."
            )
        if self.trust is not None and not (np.isfinite(self.trust) and self.trust >= 0):
            raise StudyError(f"trust must be a finite L1 distance of at least 0; got {self.trust:g}.")

    def metric_weights(self, metrics: Sequence[str]) -> NDArray[np.float64]:
        """Weights ``(M,)`` over the metrics of a table, summing to one; StudyError if one named is not in it."""
        if not self.metrics:
            return np.full(len(metrics), 1.0 / len(metrics))
        return _over(self.metrics, metrics, "The objective")

    def budget_weights(self, metrics: Sequence[str]) -> NDArray[np.float64]:
        """Per budget its weights over the metrics of a table, ``(K, M)``; StudyError if one named is not in it."""
        rows = [
            _over(budget.metrics or {name: 1.0}, metrics, f"objective.budgets.{name}")
            for name, budget in self.budgets.items()
        ]
        return np.array(rows).reshape(-1, len(metrics))

    def check_domains(self, domains: Sequence[str]) -> None:
        """StudyError for a bound on a domain that is none of ``domains``."""
        named: dict[str, Iterable[str]] = {
            kind: getattr(self, kind) for kind in ("floors", "ceilings", "fixed", "costs")
        }
        named |= {f"groups.{name}": group.domains for name, group in self.groups.items()}
        for kind, names in named.items():
            unknown = [name for name in names if name not in domains]
            if unknown:
                raise StudyError(
                    f"objective.{kind} names {', '.join(unknown)}, which is no domain; domains: {', '.join(domains)}."
                )

    def epoch_caps(
        self, domains: Sequence[str], tokens: float | None, supply: Sequence[float] | NDArray[Any] | None
    ) -> NDArray[np.float64]:
        """The highest weight of each domain ``(D,)`` that the epoch cap allows; inf where it binds nothing."""
        if self.epoch_cap is None or not tokens or supply is None:
            return np.full(len(domains), np.inf)
        return np.asarray(self.epoch_cap * np.asarray(supply, dtype=np.float64) / tokens)

    def bounds(
        self, domains: Sequence[str], tokens: float | None = None, supply: Sequence[float] | NDArray[Any] | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Lowest and highest weight of each domain, ``(D,)`` each, from floors, ceilings, fixed weights and the epoch cap.

        The cap needs the ``tokens`` of the run and the ``supply`` (unique tokens) per domain; without either it
        binds nothing. Raises StudyError for a bound on an unknown domain, and when no mixture satisfies them all.
        """
        self.check_domains(domains)
        low = np.array([max(self.floors.get(name, 0.0), self.fixed.get(name, 0.0)) for name in domains])
        high = np.array([min(self.ceilings.get(name, 1.0), self.fixed.get(name, 1.0)) for name in domains])
        high = np.minimum(high, self.epoch_caps(domains, tokens, supply))
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

    def allows(
        self,
        mixture: Mixture,
        *,
        tokens: float | None = None,
        supply: Sequence[float] | None = None,
        named: Mapping[str, Mixture] | None = None,
    ) -> bool:
        """Whether a mixture satisfies every bound on weights (within 1e-9); a prior by name is looked up in ``named``.

        ``budgets`` and ``trust`` need a fit and are not looked at.
        """
        w = mixture.weights
        low, high = self.bounds(mixture.domains, tokens, supply)
        inside = bool(np.all(w >= low - 1e-9) and np.all(w <= high + 1e-9))
        sums = [(g, sum(mixture[d] for d in g.domains)) for g in self.groups.values()]
        inside = inside and all(g.floor - 1e-9 <= total <= g.ceiling + 1e-9 for g, total in sums)
        if self.cost_cap is not None:
            inside = inside and self.cost(mixture) <= self.cost_cap * (1 + 1e-9)
        if self.within is not None:
            prior = self.within.over(mixture.domains, named or {})
            inside = inside and (self.within.l1 is None or float(np.abs(w - prior).sum()) <= self.within.l1 + 1e-9)
            inside = inside and (self.within.kl is None or float(divergence(w, prior)) <= self.within.kl + 1e-9)
        return inside

    def cost(self, mixture: Mixture) -> float:
        """The mean cost of a token of a mixture."""
        return float(sum(self.costs.get(name, 0.0) * weight for name, weight in mixture.to_dict().items()))

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
            "fixed": dict(self.fixed),
            "within": self.within.to_dict() if self.within else None,
            "costs": dict(self.costs),
            "cost_cap": self.cost_cap,
            "budgets": {name: budget.to_dict() for name, budget in self.budgets.items()},
            "risk": self.risk,
            "trust": self.trust,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Objective:
        """The inverse of ``to_dict``; keys may be missing. TypeError or KeyError for a key that is none."""
        groups = {n: Group(tuple(g["domains"]), g["floor"], g["ceiling"]) for n, g in values.get("groups", {}).items()}
        budgets = {name: Budget(**budget) for name, budget in values.get("budgets", {}).items()}
        within = Within(**values["within"]) if values.get("within") else None
        return cls(**{**values, "groups": groups, "budgets": budgets, "within": within})


def divergence(weights: NDArray[np.float64], prior: NDArray[np.float64]) -> NDArray[np.float64]:
    """The Kullback-Leibler divergence sum(w log(w / p)) in nats of mixtures ``(..., D)``; inf where w > 0 and p is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(weights > 0, weights * np.log(weights / prior), 0.0).sum(axis=-1))


def _over(weights: Mapping[str, float], metrics: Sequence[str], what: str) -> NDArray[np.float64]:
    missing = [name for name in weights if name not in metrics]
    if missing:
        raise StudyError(f"{what} names {', '.join(missing)}, but the runs have only {', '.join(metrics)}.")
    return np.array([weights.get(name, 0.0) for name in metrics])
