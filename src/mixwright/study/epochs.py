"""How often the runs of a study repeat each domain, said before any of them is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mixwright.core.run import Run

#: Epochs up to which repeated text is nearly as good as new (Muennighoff et al. 2023, arXiv:2305.16264, figure 1).
WARN = 4.0
#: Domains and runs that a sentence names at most.
_NAMED = 4


def epochs_of(run: Run, supply: Mapping[str, int]) -> dict[str, float]:
    """How often the run sees each domain's tokens, of which there are ``supply`` times the run's ``subsample``."""
    unique = np.array([supply[name] * run.subsample for name in run.schedule.domains])
    return dict(zip(run.schedule.domains, run.schedule.epochs(unique).tolist(), strict=True))


def notes(runs: Sequence[Run], supply: Mapping[str, int]) -> list[str]:
    """What is worth knowing of the runs' epochs: the most of every domain that any repeats, and a warning above ``WARN``."""
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
    above = sorted({run_id for run_id, epochs in each.items() if max(epochs.values()) > WARN})
    if above:
        names = ", ".join(above[:_NAMED]) + (f" and {len(above) - _NAMED} more" if len(above) > _NAMED else "")
        said.append(
            f"Warning: {len(above)} of {len(each)} runs repeat a domain more than {WARN:.0f} times ({names}); beyond that "
            "repeated text teaches less and less (Muennighoff et al. 2023)."
        )
    return said
