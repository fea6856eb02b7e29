"""How often the runs of a study repeat each domain: said before any of them is trained, and held to the study's cap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mixwright.core.run import Run
from mixwright.core.schedule import Schedule
from mixwright.store.tokens import TokenStore
from mixwright.stream.ledger import WARN_EPOCHS, check_epochs, ledger, ledger_table
from mixwright.stream.loader import plan_for
from mixwright.stream.order import Plan

if TYPE_CHECKING:
    from mixwright.study.flow import Flow

#: Domains and runs that a sentence names at most.
_NAMED = 4


def epochs_of(run: Run, supply: Mapping[str, int]) -> dict[str, float]:
    """How often the run sees each domain's tokens, of which there are ``supply`` times the run's ``subsample``."""
    unique = np.array([supply[name] * run.subsample for name in run.schedule.domains])
    return dict(zip(run.schedule.domains, run.schedule.epochs(unique).tolist(), strict=True))


def notes(runs: Sequence[Run], supply: Mapping[str, int]) -> list[str]:
    """What to say of the runs' epochs: the most of every domain that any repeats, and a warning above ``WARN_EPOCHS``."""
    each = {run.run_id: epochs_of(run, supply) for run in runs}
    if not each:
        return []
    most = {
        name: max((epochs[name], run_id) for run_id, epochs in each.items())
        for name in next(iter(each.values()))
    }  # fmt: skip
    again = sorted(((value, run_id, name) for name, (value, run_id) in most.items() if value > 1), reverse=True)
    if not again:
        return [f"Epochs: no run sees any of its {len(most)} domains more than once."]
    named = ", ".join(f"{name} {value:.1f} ({run_id})" for value, run_id, name in again[:_NAMED])
    more = f" and {len(again) - _NAMED} more domains" if len(again) > _NAMED else ""
    rest = len(most) - len(again)
    others = f"; {'the other' if rest == 1 else f'the other {rest}'} at most once" if rest else ""
    said = [f"Epochs of a whole run at most: {named}{more}{others}."]
    above = sorted({run_id for run_id, epochs in each.items() if round(max(epochs.values()), 1) > WARN_EPOCHS})
    if above:
        names = ", ".join(above[:_NAMED]) + (f" and {len(above) - _NAMED} more" if len(above) > _NAMED else "")
        said.append(
            f"Warning: {len(above)} of {len(each)} runs repeat a domain more than {WARN_EPOCHS:.0f} times ({names}); beyond that "
            "repeated text teaches less and less (Muennighoff et al. 2023)."
        )
    return said


def held_to_cap(flow: Flow, schedule: Schedule) -> tuple[Schedule, list[str]]:
    """The schedule of a recipe as it may be trained on the study's corpus, and what to say of it: the ledger of its epochs first.

    ``objective.over_cap`` says what becomes of one that goes beyond ``objective.epoch_cap``: StudyError, other weights, or a
    note.
    """
    corpus, objective = flow.make("tokenize").path, flow.study.objective
    stores = {name: TokenStore.open(corpus / "train" / name) for name in schedule.domains}

    def plan(schedule: Schedule) -> Plan:
        return plan_for(stores, schedule, flow.study.seed, **flow.batch)

    allowed, said = check_epochs(plan(schedule), cap=objective.epoch_cap, over=objective.over_cap)
    table = ledger_table(ledger(plan(allowed)))
    return allowed, [f"What will be drawn of each domain:\n{table}", *said]
