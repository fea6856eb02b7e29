"""``design --next``: the runs to train next, from the study's fit or one in a file, written as a table to fill in."""

from __future__ import annotations

import csv
import io
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mixwright.core.errors import DataError
from mixwright.core.mixture import Mixture
from mixwright.core.observation import Runs
from mixwright.core.rng import rng
from mixwright.core.run import ModelSize
from mixwright.engine.threads import one_thread
from mixwright.laws import GraphFit, load_fit
from mixwright.optimize.next_runs import NextRun, NextRuns, next_runs
from mixwright.optimize.worlds import Size
from mixwright.store.artifact import read_json, write_atomic, write_json

if TYPE_CHECKING:
    from mixwright.study.flow import Flow

#: sizes of a table's runs that are offered to the next ones, from the smallest
_SIZES = 8


@one_thread
def propose(flow: Flow, count: int, fit_file: Path | None = None) -> tuple[NextRuns, Path]:
    """``count`` runs to train next and the CSV they were written to, ``next_runs.json`` beside it.

    From the study's own fit, made now if need be, into the study's folder; or from ``fit_file`` (a fit over the same
    domains), into its folder, unless that is one of the study's artifacts. DataError where that is no fit, or one over
    other domains.
    """
    fit = flow.unbound_fit if fit_file is None else _read(fit_file)
    reference, runs = flow.reference[1], _runs(flow, fit)
    if runs is None or set(reference.domains) != set(fit.domains):
        raise DataError(
            f"{fit_file or 'The fit'} is over {', '.join(fit.domains)}, but this study over {', '.join(reference.domains)}. "
            "Give a fit of this study, or this fit's study with --study."
        )
    tokens, supply, priors = flow.budget_tokens, None, dict[str, Mixture]()
    if flow.supply:
        supply = np.array([float(flow.supply[name]) for name in fit.domains])
    if flow.study.runs is None:
        priors["natural"] = flow.corpus.natural()
    found = next_runs(
        fit, runs, replace(flow.study.objective.over(reference.domains), metrics=flow.metric_weights), count=count,
        natural=reference, tokens=tokens, supply=supply, target=_target(flow, fit), sizes=_sizes(flow, fit, runs),
        priors=priors, rng=rng(flow.study.seed, "next", len(fit.swept)),
    )  # fmt: skip
    folder = _folder(flow, fit_file)
    write_json(folder / "next_runs.json", found.to_dict())
    write_atomic(folder / "next_runs.csv", _csv(found, len(fit.swept)))
    return found, Path(os.path.relpath(folder / "next_runs.csv"))


def _runs(flow: Flow, fit: GraphFit) -> Runs | None:
    """The study's runs over the fit's domains: as they are today, or with earlier versions of revised ones apart."""
    return next((runs for runs in (flow.table, flow.fitted_on) if set(runs.domains) == set(fit.domains)), None)


def _read(path: Path) -> GraphFit:
    if not path.is_file():
        raise DataError(f"There is no fit at {path}. Give a fit.json, such as work/fit/<key>/fit.json of a study.")
    return load_fit(read_json(path))


def _folder(flow: Flow, fit_file: Path | None) -> Path:
    """Where the proposals go: sealed artifacts are left as they are."""
    if fit_file is None or fit_file.resolve().is_relative_to(flow.root.resolve() / "work"):
        return flow.root
    return fit_file.resolve().parent


def _target(flow: Flow, fit: GraphFit) -> Size | None:
    """The budget, for a fit that knows sizes; else none: the choice is for the size of the runs."""
    budget = flow.study.budget
    if not fit.graph.free or budget.params is None or flow.budget_tokens is None:
        return None
    return Size(float(budget.params), float(flow.budget_tokens))


def _sizes(flow: Flow, fit: GraphFit, runs: Runs) -> tuple[Size, ...]:
    """The proxies' sizes; for a table and a fit that knows sizes, those of its runs."""
    if flow.study.runs is None:
        proxy = flow.study.proxy
        return tuple(Size(float(ModelSize.parse(size).params), float(proxy.tokens)) for size in proxy.sizes)
    if not fit.graph.free:
        return ()
    last = runs.usable().last()
    known = np.isfinite(last.params) & np.isfinite(last.tokens)
    return tuple(Size(*pair) for pair in sorted(set(zip(last.params[known], last.tokens[known], strict=True)))[:_SIZES])


def _csv(found: NextRuns, done: int) -> str:
    """A table of runs as ``fit --runs`` reads it, once its losses are filled in."""
    domains = found.best.domains
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["run_id", "params", "tokens", "role", *(f"weight/{name}" for name in domains)])
    for number, run in enumerate(found.runs):
        size = [value if value is not None else "" for value in (run.size.params, run.size.tokens)]
        writer.writerow(
            [f"next-{done + number:03d}", *size, run.purpose, *(repr(float(w)) for w in run.mixture.weights)]
        )
    return out.getvalue()


def table(found: NextRuns) -> str:
    """What a person reads at once: whether to go on, then each run with its largest weights and its reason."""
    lines = [found.advice.sentence, "", f"best so far: {_weights(found.best)}", ""]
    for number, run in enumerate(found.runs, 1):
        lines += [f"{number:3}  {run.purpose:8}{_weights(run.mixture)}{_size(run)}", f"     {run.reason}"]
    return "\n".join([*lines, *(f"note: {note}" for note in found.notes)])


def _weights(mixture: Mixture, most: int = 6) -> str:
    """The largest weights by name, and how much the others have."""
    order = np.argsort(-mixture.weights, kind="stable")
    words = [f"{mixture.domains[d]} {mixture.weights[d]:.3f}" for d in order[:most]]
    rest = float(mixture.weights[order[most:]].sum())
    return ", ".join([*words, *([f"others {rest:.3f}"] if len(order) > most else [])])


def _size(run: NextRun) -> str:
    return f"  ({run.size})" if run.size.params or run.size.tokens else ""
