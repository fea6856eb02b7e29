"""Loss budgets: other losses that may not rise too far; and what to say when no mixture keeps them.

Notation: K budgets, M metrics, D domains; w a mixture, p the reference mixture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixwright.core.errors import StudyError
from mixwright.core.objective import Group, Objective
from mixwright.laws import GraphFit
from mixwright.optimize.measures import Expected
from mixwright.optimize.rules import Rule, listed
from mixwright.optimize.search import KEPT, Limit, Search
from mixwright.optimize.simplex import Region

Array = NDArray[np.float64]
#: rules of the region that are tried, one by one, for whether a contradiction needs them
_TRIED = 40


@dataclass(frozen=True, eq=False)
class Nothing:
    """A measure that wants nothing: what is left of a search is to keep the budgets."""

    def value(self, points: Array) -> Array:
        """Zeros."""
        return np.zeros(len(points))

    def value_and_slope(self, points: Array) -> tuple[Array, Array]:
        """Zeros."""
        return np.zeros(len(points)), np.zeros_like(points)


def limits(fit: GraphFit, objective: Objective, reference: Array, values: GraphFit | None = None) -> tuple[Limit, ...]:
    """The objective's budgets for a fit; ``values`` (default: the fit) predicts the losses at the reference ``(D,)``.

    StudyError for a budget on an unknown metric.
    """
    values = values or fit
    rows = zip(objective.budget_weights(fit.metrics), objective.budget_weights(values.metrics), strict=True)
    out = []
    for (name, budget), (q, all_q) in zip(objective.budgets.items(), rows, strict=True):
        at_reference = float(values.mean(reference[None], all_q)[0])
        words = budget.words()
        if budget.at_most is None:
            words += f", {budget.limit(at_reference):.4g}"
        out.append(Limit(name, Expected(fit, q), budget.limit(at_reference), words))
    return tuple(out)


def refuse(
    search: Search, objective: Objective, first: Sequence[Array], region_of: Callable[[Objective], Region]
) -> StudyError:
    """Why the budgets cannot be kept: which contradict one another and which bounds, and the least change that helps.

    What is named is irreducible: without any one of them a mixture was found that keeps the others (of laws that are not
    convex: found by the same search). The change is the least sum of nats by which budgets must rise.
    """
    least = _violation(search.region, search.budgets, search, first)
    names = [budget.name for budget in search.budgets]
    for name in list(names):
        fewer = [other for other in names if other != name]
        if _violation(search.region, _of(search, fewer), search, first).sum() > KEPT:
            names = fewer
    kept = _of(search, names)
    bounds = _needed_bounds(search, kept, objective, first, region_of)
    words = [*(f"the budget of {b.name} ({b.words})" for b in kept), *bounds]
    verb = "cannot be met" if len(words) == 1 else f"contradict {'each other' if len(words) == 2 else 'one another'}"
    changes = [
        f"raise the budget of {b.name} by {over:.4g} nats (to {b.limit + over:.4g})"
        for b, over in zip(search.budgets, least, strict=True)
        if over > KEPT
    ]
    found = "satisfies the objective" if search.convex else "was found that satisfies the objective"
    return StudyError(
        f"No mixture {found}: {listed(words)} {verb}. The smallest change that allows one: {listed(changes)}."
    )


def _of(search: Search, names: Sequence[str]) -> tuple[Limit, ...]:
    return tuple(budget for budget in search.budgets if budget.name in names)


def _violation(region: Region, budgets: tuple[Limit, ...], search: Search, first: Sequence[Array]) -> Array:
    """By how much each budget must be exceeded, with the least sum ``(K,)``."""
    if not budgets:
        return np.zeros(0)
    quiet = replace(search, measure=Nothing(), region=region, budgets=budgets, elastic=True)
    return np.maximum(quiet.minimum(first).over, 0.0)


def _needed_bounds(
    search: Search,
    budgets: tuple[Limit, ...],
    objective: Objective,
    first: Sequence[Array],
    region_of: Callable[[Objective], Region],
) -> list[str]:
    """The words of the bounds without which the budgets could be kept, as far as they are needed."""
    rules = [rule for rule in (*search.region.rows.equal_rules, *search.region.rows.less_rules) if rule is not None]
    named: dict[tuple[str, str], Rule] = {rule.key: rule for rule in rules if rule.kind not in ("zero", "prior")}
    words = []
    for key, rule in list(named.items())[:_TRIED]:
        looser = without(objective, key)
        if _violation(region_of(looser), budgets, search, first).sum() > KEPT:
            objective = looser
        else:
            words.append(rule.words)
    return words


def without(objective: Objective, key: tuple[str, str]) -> Objective:
    """The objective without the number that a rule's key names."""
    kind, name = key

    def less(values: Mapping[str, Any]) -> dict[str, Any]:
        return {k: v for k, v in values.items() if k != name}

    group = objective.groups.get(name)
    match kind:
        case "floor":
            return replace(objective, floors=less(objective.floors))
        case "ceiling":
            return replace(objective, ceilings=less(objective.ceilings))
        case "floor and ceiling":
            return replace(objective, floors=less(objective.floors), ceilings=less(objective.ceilings))
        case "fixed weight":
            return replace(objective, fixed=less(objective.fixed))
        case "epoch cap":
            return replace(objective, epoch_cap=None)
        case "cost cap":
            return replace(objective, cost_cap=None)
        case "trust":
            return replace(objective, trust=None)
        case "l1" | "kl" if objective.within is not None:
            return _without_distance(objective, kind)
        case _ if group is not None:
            floor = 0.0 if "floor" in kind else group.floor
            ceiling = 1.0 if "ceiling" in kind else group.ceiling
            return replace(objective, groups={**objective.groups, name: Group(group.domains, floor, ceiling)})
    return objective


def _without_distance(objective: Objective, kind: str) -> Objective:
    """The objective without its ``kl`` or its ``l1`` distance."""
    within = objective.within
    assert within is not None
    left = within.l1 if kind == "kl" else within.kl
    if left is None:
        return replace(objective, within=None)
    return replace(objective, within=replace(within, kl=None) if kind == "kl" else replace(within, l1=None))
