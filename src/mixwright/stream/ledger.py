"""The epoch ledger: what training will draw and repeat, before any of it is done, and what to do where that is too much.

Notation
    T        tokens of a phase, (P,)
    w        weights, (P, D)
    most     tokens a domain may give under a cap: cap x unique tokens, (D,)
    g        factor on a domain's weights, at most 1 and the same in every phase, (D,)
    s        factor on all weights of a phase, so that they sum to one, (P,)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mixwright.core.errors import StudyError
from mixwright.core.mixture import Mixture
from mixwright.core.schedule import Phase, Schedule
from mixwright.stream.order import Plan

Floats = NDArray[np.float64]

#: Up to four epochs repeated tokens are worth nearly as much as new ones (Muennighoff et al. 2023, arXiv:2305.16264, abstract).
WARN_EPOCHS = 4.0
#: Rounds of reweighting, how near to the cap is near enough, and when a phase's weights have vanished.
_ROUNDS, _CLOSE, _VANISHED = 5000, 1e-9, 1e-9
#: Domains that a sentence names before it counts the rest.
_NAMED = 5


@dataclass(frozen=True)
class Exposure:
    """What one phase draws from one domain: ``tokens``, and ``epochs``, how often that repeats its supply.

    ``total_epochs`` counts from the beginning of training to the end of the phase.
    """

    phase: int
    domain: str
    tokens: int
    epochs: float
    total_epochs: float


def ledger(plan: Plan) -> list[Exposure]:
    """What training by ``plan`` will draw, phase by phase and domain by domain, before any of it is done."""
    rows = []
    for number, phase in enumerate(plan.phases):
        before, after = plan.counts(phase.start), plan.counts(phase.end)
        for d, name in enumerate(plan.domains):
            supply, drawn = max(1, plan.supply[d]), int(after[d] - before[d])
            rows.append(Exposure(number, name, drawn * plan.seq_len, drawn / supply, int(after[d]) / supply))
    return rows


def ledger_table(rows: Sequence[Exposure]) -> str:
    """A text table of a ledger: phase (from 1), domain, tokens, epochs in the phase, epochs since the beginning."""
    head = ("phase", "domain", "tokens", "epochs", "total epochs")
    cells = [
        (str(r.phase + 1), r.domain, f"{r.tokens:,}", f"{r.epochs:.2f}", f"{r.total_epochs:.2f}") for r in rows
    ]  # fmt: skip
    widths = [max(len(row[column]) for row in (head, *cells)) for column in range(len(head))]
    lines = [
        "  ".join(cell.ljust(width) if column == 1 else cell.rjust(width)
                  for column, (cell, width) in enumerate(zip(row, widths, strict=True))).rstrip()
        for row in (head, *cells)
    ]  # fmt: skip
    return "\n".join(lines)


def check_epochs(
    plan: Plan,
    *,
    warn: float = WARN_EPOCHS,
    cap: float | None = None,
    over: Literal["error", "reweight", "allow"] = "error",
) -> tuple[Schedule, list[str]]:
    """The schedule to train by, and what people should know about its epochs.

    A domain that is repeated more than ``warn`` times gets a note. Where one would be repeated more than ``cap`` times:
    ``error`` raises StudyError with the domains, their epochs and the ways out; ``reweight`` lowers those domains' weights,
    each by one factor in all phases, until they meet the cap, raises the others in proportion, and notes it (StudyError
    where that cannot be done); ``allow`` leaves a note. Otherwise the schedule is the plan's own.
    """
    notes: list[str] = []
    drawn, supply = plan.counts(plan.windows), np.array(plan.supply)
    if cap is not None:
        above = np.flatnonzero(drawn > cap * supply + 1)  # the last window of a count may be one over
        if above.size and over == "error":
            raise StudyError(
                f"Training would repeat {_epochs(plan, above)}, above the cap of {cap:g}. Give them more text, lower their "
                "weights or the tokens, raise the cap, or let the study reweight (objective.over_cap)."
            )
        if above.size and over == "reweight":
            wanted, capped = _reweighted(plan, cap)
            after = plan.following(wanted, ())
            names = ", ".join(plan.domains[d] for d in capped[:_NAMED]) + _rest(capped.size)
            notes.append(
                f"Reweighted so that no domain is repeated more than {cap:g} times: {_epochs(plan, above)} before; "
                f"the weights of {names} were lowered to the cap and the others raised in proportion."
            )
            plan, drawn = after, after.counts(after.windows)
        elif above.size:
            notes.append(f"Above the cap of {cap:g}, which is not enforced: {_epochs(plan, above)}.")
    often = np.flatnonzero(drawn > warn * supply + 1)
    if often.size:
        notes.append(
            f"Repeated more than {warn:g} times: {_epochs(plan, often)}. Beyond about four epochs repeated tokens are worth "
            "less and less (Muennighoff et al. 2023)."
        )
    return plan.schedule, notes


def _reweighted(plan: Plan, cap: float) -> tuple[Schedule, NDArray[np.int64]]:
    """The schedule in which no domain exceeds the cap, and the domains that meet it.

    Weights are ``w * g * s``: the factors g of domains that would exceed the cap are lowered in turn with what that adds to
    the others by s, which only ever grows, until nothing changes.
    """
    schedule = plan.schedule
    T = np.array([phase.tokens for phase in schedule.phases], dtype=np.float64)
    w = np.stack([phase.mixture.weights for phase in schedule.phases])
    most = cap * np.array(plan.supply) * plan.seq_len
    g = np.ones(w.shape[1])
    for _ in range(_ROUNDS):
        s = 1 / np.maximum(w @ g, _VANISHED)
        tokens = g * ((T * s) @ w)
        within = bool(np.all(tokens <= most * (1 + _CLOSE)))
        if within or s.max() >= 1 / _VANISHED:
            break
        g *= np.minimum(1, most / np.maximum(tokens, most))
    if not within:
        raise StudyError(_impossible(plan, cap, w, T, most))
    phases = (
        Phase(phase.tokens, Mixture.normalized(plan.domains, row))
        for phase, row in zip(schedule.phases, w * g * s[:, None], strict=True)
    )
    return Schedule(tuple(phases)), np.flatnonzero(g < 1)


def _impossible(plan: Plan, cap: float, w: Floats, T: Floats, most: Floats) -> str:
    """Which phases ask for more than their domains may give: one, or several together."""
    short = [number for number in range(len(T)) if most[w[number] > 0].sum() < T[number]]
    phases = short[:1] or list(range(len(T)))
    drawn = np.flatnonzero((w[phases] > 0).any(axis=0))
    names = ", ".join(plan.domains[d] for d in drawn[:_NAMED]) + _rest(drawn.size)
    which = f"phase {phases[0] + 1} of {T[phases[0]]:,.0f} tokens draws" if len(phases) == 1 else (
        f"the phases of {T.sum():,.0f} tokens draw"
    )  # fmt: skip
    return (
        f"No weights keep every domain within {cap:g} epochs: {which} only from {names}, which may give "
        f"{most[drawn].sum():,.0f} in all. Give them more text, add a domain, lower the tokens, or raise the cap."
    )


def _epochs(plan: Plan, domains: NDArray[np.int64]) -> str:
    """``a 6.2 times, b 4.5 times``, most repeated first."""
    epochs = plan.counts(plan.windows) / np.maximum(1, plan.supply)
    order = domains[np.argsort(-epochs[domains], kind="stable")]
    return ", ".join(f"{plan.domains[d]} {epochs[d]:.1f} times" for d in order[:_NAMED]) + _rest(order.size)


def _rest(count: int) -> str:
    return f" and {count - _NAMED} more" if count > _NAMED else ""
