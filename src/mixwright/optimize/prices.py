"""What every constraint that binds costs: shadow prices, in numbers and in plain words.

Notation: w the optimum ``(D,)``; a price is the multiplier of a constraint there: by how much the objective would fall per unit
of more room, as long as little is given. Above one unit of change is worth less than its price says, for convex laws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mixwright.optimize.rules import Rule
from mixwright.optimize.search import Found, Search

Array = NDArray[np.float64]
#: a constraint with less room than this binds
_ON_BOUND = 1e-6
#: a price below this part of the largest slope is none
_NO_PRICE = 1e-9


@dataclass(frozen=True)
class Price:
    """A constraint that binds. ``kind`` and ``name`` say which, ``stated`` is its number as written in the objective.

    ``price`` is how much the objective (nats/token) falls per unit of that number given way, at the optimum; for a fixed weight
    it may be negative, which means that less of the domain would be better; for a domain without a floor (kind ``zero``) it
    is how much the objective would rise per unit of weight given to it. ``words`` says it in a sentence.
    """

    kind: str
    name: str
    stated: float
    price: float
    words: str

    def to_dict(self) -> dict[str, str | float]:
        """Plain values."""
        return dict(self.__dict__)


def prices(search: Search, found: Found) -> tuple[Price, ...]:
    """The price of every constraint that binds at the end found, in the order of the objective. Cost: one cone program."""
    here = search.model(found.w)
    answer = search.subproblem(found.w, here, search.curvature(found.w, found.prices), 1e6)
    if not answer.solved:
        return ()
    rows = search.region.rows
    program = rows.program.around(found.w)
    none = _NO_PRICE * max(float(np.abs(here.slope).max()), 1e-300)
    out = [
        _priced(rule, float(price) * rule.gives)
        for rule, price in zip(rows.equal_rules, answer.equal_prices, strict=True)
        if rule is not None and rule.kind != "prior"
    ]
    room = program.less[1] - program.less[0] @ answer.x[: program.size]
    for rule, price, left in zip(rows.less_rules, answer.less_prices, room, strict=False):
        if rule is not None and left <= _ON_BOUND and (price > none or rule.kind == "zero"):
            out.append(_priced(rule, float(price) * rule.gives))
    for budget, price, over in zip(search.budgets, found.prices, here.over, strict=True):
        if price > none and over > -_ON_BOUND:
            out.append(_of_budget(budget.name, budget.limit, budget.words, float(price)))
    return tuple(out)


def _priced(rule: Rule, price: float) -> Price:
    """A rule with its price; how much room the sentence speaks of fits the kind of number."""
    start = rule.words[0].upper() + rule.words[1:]
    if rule.kind == "zero":
        words = f"{rule.words}; 0.01 of it would raise the objective by {price / 100:.2g} nats/token."
    elif rule.sense == 1 and ("fixed" in rule.kind or "floor and" in rule.kind):
        verb = "lower" if price >= 0 else "raise"
        hold = "hold" if "and" in rule.kind else "holds"
        words = f"{start} {hold}: 0.01 more would {verb} the objective by {abs(price) / 100:.2g} nats/token."
    elif rule.kind == "epoch cap":
        weight = price / rule.gives if rule.gives else 0.0
        words = (
            f"{start} binds: 0.01 more room would lower the objective by {weight / 100:.2g} nats/token, one more epoch by "
            f"{price:.2g}."
        )
    elif rule.kind == "cost cap":
        part = abs(rule.stated) / 100
        words = f"{start} binds: 1 % more would lower the objective by {price * part:.2g} nats/token."
    else:
        words = f"{start} binds: 0.01{rule.unit} more room would lower the objective by {price / 100:.2g} nats/token."
    return Price(rule.kind, rule.name, rule.stated, price, words)


def _of_budget(name: str, limit: float, stated: str, price: float) -> Price:
    return Price(
        "budget", name, limit, price,
        f"The budget of {name} ({stated}) binds: 0.01 nats more room would lower the objective by {price / 100:.2g} nats/token.",
    )  # fmt: skip


def sentences(priced: Sequence[Price]) -> tuple[str, ...]:
    """The words of each."""
    return tuple(price.words for price in priced)
