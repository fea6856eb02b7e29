"""What an objective asks of a mixture, rule by rule, as rows of a convex program; and what to change when rules collide.

Notation: D domains; w a mixture ``(D,)``, the first variables of the program; behind it t ``(D,)`` bounds ``|w - p|`` (an L1
distance to the prior p), u ``(D,)`` bounds ``w log(w / p)``, and a ``(R,)``, v ``(D,)`` say that w is within v of the mean of
swept mixtures weighted by a.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixwright.core.errors import StudyError
from mixwright.core.objective import Objective
from mixwright.optimize.conic import Program

Array = NDArray[np.float64]
#: a total violation below this is none
_TINY = 1e-8
#: a multiplier above this shows that a rule takes part in a contradiction
_PRICED = 1e-6
#: rules named in one sentence
_NAMED = 8


@dataclass(frozen=True)
class Rule:
    """One number of an objective and what it bounds: ``kind`` and ``name`` say which, ``words`` is its name in a sentence.

    ``stated`` is the number as written; a row ``a · w <= limit`` gains ``gives`` of room when the number is loosened by one.
    ``sense`` is +1 where loosening raises the number, -1 where it lowers it. Rules of one ``key`` are one number (the epoch cap
    is one for all domains); ``scale`` is what counts as a large change of it.
    """

    kind: str
    name: str
    stated: float
    words: str
    loosen: str
    sense: int = 1
    gives: float = 1.0
    scale: float = 1.0
    unit: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """Which number it is."""
        return (self.kind, "" if self.kind == "epoch cap" else self.name)


@dataclass
class Rows:
    """A program under construction, with the rule that each row comes from (None: it always holds)."""

    program: Program
    equal_rules: list[Rule | None] = field(default_factory=list)
    less_rules: list[Rule | None] = field(default_factory=list)

    def equal(self, A: Array, b: Any, rules: Sequence[Rule | None]) -> None:
        """Add equalities."""
        self.program = self.program.plus(equal=(A, b))
        self.equal_rules += rules

    def less(self, A: Array, b: Any, rules: Sequence[Rule | None]) -> None:
        """Add inequalities."""
        self.program = self.program.plus(less=(A, b))
        self.less_rules += rules

    def widen(self, more: int) -> Array:
        """Add variables; rows that pick each of them, ``(more, n)``."""
        size = self.program.size
        self.program = self.program.wider(more)
        return np.eye(more, size + more, size)


def linear_rows(
    objective: Objective, domains: Sequence[str], tokens: float | None, supply: Sequence[float] | NDArray[Any] | None
) -> Rows:
    """The simplex with floors, ceilings, fixed weights, epoch caps, groups and the cost cap."""
    size = len(domains)
    rows = Rows(Program.empty(size))
    rows.equal(np.ones((1, size)), np.ones(1), [None])
    caps = objective.epoch_caps(domains, tokens, supply)
    for d, name in enumerate(domains):
        pick = np.eye(size)[d : d + 1]
        floor, ceiling = objective.floors.get(name, 0.0), objective.ceilings.get(name, 1.0)
        if name in objective.fixed:
            value = objective.fixed[name]
            rows.equal(pick, value, [_weight("fixed weight", name, value)])
        elif floor == ceiling:
            rows.equal(pick, floor, [_weight("floor and ceiling", name, floor)])
        if name in objective.fixed or floor != ceiling:
            if name not in objective.fixed or floor > 0:
                rows.less(-pick, -floor, [_weight("floor", name, floor, -1) if floor > 0 else _nothing(name)])
            if ceiling < 1:
                rows.less(pick, ceiling, [_weight("ceiling", name, ceiling)])
        if caps[d] < 1 and objective.epoch_cap and tokens and supply is not None:
            rows.less(pick, caps[d], [_epochs(name, objective.epoch_cap, float(supply[d]), tokens)])
    for name, group in objective.groups.items():
        member = np.array([[float(d in group.domains) for d in domains]])
        if group.floor == group.ceiling:
            rows.equal(member, group.floor, [_group("floor and ceiling", name, group.floor)])
            continue
        if group.floor > 0:
            rows.less(-member, -group.floor, [_group("floor", name, group.floor, -1)])
        if group.ceiling < 1:
            rows.less(member, group.ceiling, [_group("ceiling", name, group.ceiling)])
    if objective.cost_cap is not None:
        costs = np.array([[objective.costs.get(name, 0.0) for name in domains]])
        top = float(max(costs.max(), objective.cost_cap, 1e-300))
        cap = objective.cost_cap
        rule = Rule("cost cap", "", cap, f"the cost cap ({cap:g} per token)", "raise the cost cap", 1, 1 / top, top)
        rows.less(costs / top, cap / top, [rule])
    return rows


def add_prior(rows: Rows, objective: Objective, domains: Sequence[str], prior: Array) -> None:
    """Add the distances to the prior mixture."""
    within = objective.within
    if within is None:
        return
    size = len(domains)
    whose = within.prior if isinstance(within.prior, str) else "prior"
    if within.l1 is not None:
        t = rows.widen(size)
        w = np.eye(size, t.shape[1])
        rows.less(np.concatenate([w - t, -w - t]), np.concatenate([prior, -prior]), [None] * (2 * size))
        words = f"the L1 distance to the {whose} mixture ({within.l1:g})"
        rule = Rule("l1", whose, within.l1, words, f"raise the L1 distance to the {whose} mixture")
        rows.less(t.sum(axis=0, keepdims=True), within.l1, [rule])
    if within.kl is not None:
        for d in np.flatnonzero(prior == 0).tolist():
            words = f"the KL distance to the {whose} mixture, which gives {domains[d]} nothing"
            loosen = f"give {domains[d]} weight in the prior, so that it can get up"
            rows.equal(np.eye(size)[d : d + 1], 0.0, [Rule("prior", domains[d], 0.0, words, loosen, scale=0.01)])
        used = np.flatnonzero(prior > 0)
        u = rows.widen(len(used))
        A, b = np.zeros((3 * len(used), u.shape[1])), np.zeros(3 * len(used))
        A[0::3], A[1::3, :size], b[2::3] = u, -np.eye(size)[used], prior[used]
        rows.program = rows.program.plus(triples=(A, b))
        words = f"the KL distance to the {whose} mixture ({within.kl:g} nats)"
        rule = Rule("kl", whose, within.kl, words, f"raise the KL distance to the {whose} mixture", unit=" nats")
        rows.less(u.sum(axis=0, keepdims=True), within.kl, [rule])


def add_trust(rows: Rows, trust: float, swept: Array) -> None:
    """Add the L1 distance to the hull of ``swept (R, D)``."""
    points = np.unique(swept, axis=0)
    count, size = points.shape
    a = rows.widen(count)
    v = rows.widen(size)
    a = np.pad(a, ((0, 0), (0, size)))
    off = np.eye(size, v.shape[1]) - points.T @ a
    rows.equal(a.sum(axis=0, keepdims=True), 1.0, [None])
    rows.less(-a, np.zeros(count), [None] * count)
    rows.less(np.concatenate([off - v, -off - v]), np.zeros(2 * size), [None] * (2 * size))
    rule = Rule("trust", "", trust, f"the trust distance ({trust:g} outside what the swept mixtures span)",
                "raise the trust distance")  # fmt: skip
    rows.less(v.sum(axis=0, keepdims=True), trust, [rule])


def _weight(kind: str, name: str, value: float, sense: int = 1) -> Rule:
    loosen = {"floor": "lower", "ceiling": "raise"}.get(kind, "set")
    return Rule(kind, name, value, f"the {kind} of {name} ({value:.4g})", f"{loosen} the {kind} of {name}", sense)


def _group(kind: str, name: str, value: float, sense: int = 1) -> Rule:
    loosen = {"floor": "lower", "ceiling": "raise"}.get(kind, "set")
    words = f"the {kind} of group {name} ({value:.4g})"
    return Rule(f"group {kind}", name, value, words, f"{loosen} the {kind} of group {name}", sense)


def _epochs(name: str, cap: float, supply: float, tokens: float) -> Rule:
    words = f"the epoch cap of {name} ({cap:g} epochs of {supply:,.0f} tokens: a weight of at most {cap * supply / tokens:.4g})"
    return Rule("epoch cap", name, cap, words, "raise the epoch cap", 1, supply / tokens, cap, " epochs")


def _nothing(name: str) -> Rule:
    """That no weight is negative: a rule of every mixture, which only a price is asked of."""
    return Rule("zero", name, 0.0, f"{name} gets nothing: it has no floor", "", -1)


def explain(rows: Rows) -> StudyError | None:
    """None if a mixture satisfies all rows; else which rules contradict one another, and the least change that helps.

    The rules named are irreducible: without any one of them the others can be met. The change is the one with the least
    sum over numbers, each in its own scale (weights and distances: 1; the epoch cap and costs: themselves).
    """
    keys = list(
        dict.fromkeys(rule.key for rule in (*rows.equal_rules, *rows.less_rules) if rule and rule.kind != "zero")
    )
    total, changes, priced = _elastic(rows, keys)
    if total <= _TINY:
        return None
    left = [key for key in keys if key in priced] or keys
    if _elastic(rows, left)[0] <= _TINY:
        left = keys
    for key in list(left):
        fewer = [other for other in left if other != key]
        if _elastic(rows, fewer)[0] > _TINY:
            left = fewer
    return StudyError(f"No mixture satisfies the objective: {_collision(rows, left)}. {_way_out(changes)}")


def _elastic(rows: Rows, keys: Sequence[tuple[str, str]]) -> tuple[float, dict[Rule, float], set[tuple[str, str]]]:
    """With only the rules of ``keys``, each allowed to give: the least sum of changes, the numbers then, and who was pressed."""
    place = {key: n for n, key in enumerate(keys)}
    program, size = rows.program, rows.program.size
    domains = int((program.equal[0][0] != 0).sum())  # the first row is the sum of weights
    kept_equal = [n for n, r in enumerate(rows.equal_rules) if r is None or r.key in place]
    kept_less = [n for n, r in enumerate(rows.less_rules) if r is None or r.kind == "zero" or r.key in place]
    A, b = (np.pad(program.equal[0][kept_equal], ((0, 0), (0, 2 * len(keys)))), program.equal[1][kept_equal])
    G, h = (np.pad(program.less[0][kept_less], ((0, 0), (0, 2 * len(keys)))), program.less[1][kept_less])
    slope = np.zeros(size + 2 * len(keys))
    rule_of: dict[int, Rule] = {}
    for row, n in enumerate(kept_equal):
        rule = rows.equal_rules[n]
        if rule is not None:
            at = size + 2 * place[rule.key]
            A[row, at], A[row, at + 1] = -rule.gives, rule.gives
            rule_of[at] = rule
    for row, n in enumerate(kept_less):
        rule = rows.less_rules[n]
        if rule is not None and rule.kind != "zero":
            at = size + 2 * place[rule.key]
            G[row, at] = -rule.gives
            rule_of[at] = rule
    for rank, (at, rule) in enumerate(sorted(rule_of.items())):
        slope[at : at + 2] = (1 + 1e-4 * rank / len(keys)) / rule.scale  # of equal changes, the first mentioned stays
    wide = Program(
        size + 2 * len(keys), (A, b), (G, h), *(
            (np.pad(T, ((0, 0), (0, 2 * len(keys)))), c) for T, c in (program.triples, program.ball)
        )
    )  # fmt: skip
    none_below = np.eye(size + 2 * len(keys))[[*range(domains), *range(size, size + 2 * len(keys))]]
    wide = wide.plus(less=(-none_below, np.zeros(len(none_below))))
    found = wide.solve(slope)
    give = np.maximum(found.x[size:], 0.0)
    changes = {
        rule: rule.stated + rule.sense * float(give[at - size] - give[at - size + 1])
        for at, rule in rule_of.items()
        if max(give[at - size], give[at - size + 1]) > 1e-7 * rule.scale
    }
    prices = [(rows.equal_rules[n], p) for n, p in zip(kept_equal, found.equal_prices, strict=True)]
    prices += [(rows.less_rules[n], p) for n, p in zip(kept_less, found.less_prices[: len(kept_less)], strict=True)]
    priced = {rule.key for rule, price in prices if rule and rule.kind != "zero" and abs(price) > _PRICED}
    return float(slope[size:] @ give), changes, priced


def _collision(rows: Rows, keys: Sequence[tuple[str, str]]) -> str:
    words = []
    for key in keys:
        same = [rule for rule in (*rows.equal_rules, *rows.less_rules) if rule and rule.key == key]
        several = key[0] == "epoch cap" and len(same) > 1
        words.append(f"the epoch cap ({same[0].stated:g} epochs of each supply)" if several else same[0].words)
    if len(words) == 1:
        return f"{words[0]} cannot be met"
    return f"{listed(words)} contradict {'each other' if len(words) == 2 else 'one another'}"


def _way_out(changes: dict[Rule, float]) -> str:
    said = [f"{rule.loosen} to {round(value, 8) + 0.0:.4g}{rule.unit}" for rule, value in changes.items()]
    return f"The smallest change that allows one: {listed(said)}." if said else "Loosen some of them."


def listed(words: Sequence[str]) -> str:
    """``a, b and c``; of many, the first and how many more."""
    if len(words) > _NAMED:
        words = [*words[: _NAMED - 1], f"{len(words) - _NAMED + 1} more"]
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]
