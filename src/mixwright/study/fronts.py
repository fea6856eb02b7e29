"""``optimize --pareto A B``: what two losses cost one another, from the study's fit, written to ``pareto.json``."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from mixwright.core.errors import StudyError
from mixwright.optimize.pareto import Front, pareto
from mixwright.store.artifact import write_json
from mixwright.study.publish import named

if TYPE_CHECKING:
    from mixwright.study.flow import Flow


def front(flow: Flow, first: str, second: str) -> tuple[Front, Path]:
    """The front between two losses under the study's constraints, and the file it was written to.

    Each is a metric, ``objective``, or a pattern of metrics such as ``val:*``, which stands for their mean. StudyError for one
    that is none. Cost: about fifteen optima.
    """
    reference = flow.reference[1]
    found = pareto(
        flow.repeating(flow.budget_tokens),
        replace(flow.study.objective.over(reference.domains), metrics=flow.metric_weights),
        metrics=(losses(first, flow.law_fit.metrics, flow.metric_weights),
                 losses(second, flow.law_fit.metrics, flow.metric_weights)),
        natural=reference, tokens=flow.budget_tokens, supply=flow.supplies,
        priors={"natural": flow.corpus.natural()} if flow.study.runs is None else {},
    )  # fmt: skip
    found = replace(found, names=(first, second), notes=tuple(named(found.notes, flow.reference[0])))
    path = flow.root / "pareto.json"
    write_json(path, found.to_dict())
    return found, Path(os.path.relpath(path))


def losses(name: str, metrics: tuple[str, ...], objective: Mapping[str, float]) -> dict[str, float]:
    """The metrics that a name stands for, with weights that sum to one."""
    if name == "objective":
        return dict(objective)
    chosen = [metric for metric in metrics if metric == name] or [m for m in metrics if fnmatchcase(m, name)]
    if not chosen:
        near = difflib.get_close_matches(name, metrics, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise StudyError(
            f"--pareto: {name!r} is no metric and no pattern of metrics.{hint} There are: objective, {', '.join(metrics)}."
        )
    return dict.fromkeys(chosen, 1 / len(chosen))
