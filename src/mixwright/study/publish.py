"""What a study leaves at the top of its folder, and what it remembers from one time to the next.

``recipe.yaml`` (and ``recipe-final-phase.yaml``), ``runs.csv``, ``report.html``, ``export/``: copies of what the
artifacts hold, rewritten whenever their stage is found or made.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import yaml

from mixwright.core.objective import Objective
from mixwright.core.recipe import Forecast, Recipe
from mixwright.core.schedule import Schedule
from mixwright.laws import Z90
from mixwright.store.artifact import Artifact, read_json, write_atomic, write_json

if TYPE_CHECKING:
    from mixwright.optimize.mixture import Optimum
    from mixwright.study.flow import Flow

_LAST = "last.json"


def recipe(flow: Flow, best: Optimum, objective: Objective) -> Recipe:
    """The recipe an optimum gives: one phase over the budget, its forecasts, and the hash of every input.

    Forecasts hold for the size and tokens of the runs the law was fitted on, or the target's where it spans them, and say so.
    """
    tokens = flow.budget_tokens
    notes = named(best.notes, flow.reference[0])
    if tokens is None:
        tokens = 1_000_000_000
        notes.append("No budget was given, so the phase is written for 1,000,000,000 tokens; set budget.tokens.")
    elif flow.study.budget.tokens is None and flow.study.runs is not None:
        notes.append(f"No budget was given, so this is for the largest of the table: {flow.target.words}.")
    name, reference = flow.reference
    params, of_runs = flow.target.whole

    def placed(forecast: Forecast) -> Forecast:
        label = name if forecast.kind == "difference" else ""
        return replace(forecast, reference=label, params=params, tokens=of_runs)

    return Recipe(
        schedule=Schedule.constant(best.mixture.over(reference.domains), tokens),
        objective=objective,
        forecasts=tuple(placed(forecast) for forecast in (best.gain, *best.forecasts, *best.losses)),
        supply=flow.supply,
        fingerprints={stage: flow.make(stage).fingerprint for stage in flow.stages if flow.is_made(stage)},
        notes=tuple(notes),
        params=flow.study.budget.params,
    )


def named(notes: Iterable[str], reference: str) -> list[str]:
    """An optimum's sentences with the reference mixture under its own name; the optimizer calls it natural."""
    return [note.replace("natural", reference) for note in notes]


def optimum_values(best: Optimum) -> dict[str, Any]:
    """An optimum as plain values."""
    return {
        "weights": best.mixture.to_dict(),
        "gain": best.gain.__dict__,
        "gap": best.gap,
        "tolerance": best.tolerance,
        "ranges": {name: list(ends) for name, ends in best.ranges.items()},
        "nearest": best.nearest.to_dict(),
        "active": list(best.active),
        "prices": [price.to_dict() for price in best.prices],
        "worst": best.worst.to_dict(),
        "contrasts": [forecast.__dict__ for forecast in best.contrasts],
        "certificate": best.certificate,
        "notes": list(best.notes),
    }


def recipes(flow: Flow) -> dict[str, Recipe]:
    """The recipes a study ends with, by file label: ``recipe``, and ``recipe-final-phase`` where that was measured."""
    main = flow.recipe
    notes = list(main.notes)
    found: dict[str, Recipe] = {}
    verified: tuple[Mapping[str, Any], ...] = ()
    if "verify" in flow.stages:
        section = flow.make("verify").json("verify.json")
        verified = tuple(_verified(section))
        notes += verdict_notes(flow, section)
    found["recipe"] = replace(main, notes=tuple(notes), verified=verified)
    if "branch" in flow.stages:
        section = flow.make("branch").json("final_phase.json")
        found["recipe-final-phase"] = _final_phase(flow, main, section)
    return found


def verdict_notes(flow: Flow, section: Mapping[str, Any]) -> list[str]:
    """What the larger runs say, in sentences: the optimized mixture against the reference, and against the guess."""
    from mixwright.study.verdict import duel

    reference = flow.reference[0]
    rows = {row["mixture"]: row for row in section["rows"]}
    where = f"at {section['size']} ({section['params']:,} parameters) and {section['tokens']:,} tokens"
    notes = [f"Measured {where}: optimized is {rows['optimized']['verdict']}."]
    if "guess" in rows:
        notes.append(f"Measured {where}: {duel(section, 'optimized', 'guess')}.")
    if rows["optimized"]["objective"] > rows[reference]["objective"]:
        notes.append(
            f"The larger runs do NOT confirm the gain over the {reference} mixture: do not use this recipe as it is."
        )
    return notes


def _verified(section: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for row in section["rows"]:
        yield {
            "mixture": row["mixture"],
            "weights": row["weights"],
            "params": section["params"],
            "tokens": section["tokens"],
            "predicted": row["predicted"],
            "measured": row["measured"],
            "steps_share": row["steps_share"],
            "verdict": row["verdict"],
        }


def _final_phase(flow: Flow, main: Recipe, section: Mapping[str, Any]) -> Recipe:
    """For a run that is under way on the reference mixture: stay on it, then switch."""
    run = flow.trainings.of_branch()[-1]
    name = flow.reference[0]
    total = main.schedule.tokens
    schedule = Schedule.constant(run.schedule.phases[0].mixture, total).switched(
        round(section["start"] * total), run.schedule.phases[-1].mixture
    )
    forecasts = []
    for row in section["rows"]:
        half = Z90 * (2 / section["seeds"]) ** 0.5 * (row["noise"] or 0.0)
        forecasts.append(
            Forecast(
                row["metric"], "difference", row["difference"], row["difference"] - half, row["difference"] + half,
                reference=f"{name} to the end", params=run.size.params, tokens=section["tokens"],
            )
        )  # fmt: skip
    notes = (
        f"For a run that is under way on the {name} mixture: the last {1 - section['start']:.0%} of its tokens are drawn "
        "from the upsampled one.",
        f"The forecasts are measured differences, means over {section['seeds']} seeds, at the size and "
        "tokens they state, not predictions of a law.",
    )
    return replace(main, schedule=schedule, forecasts=tuple(forecasts), notes=notes, verified=())


def to_yaml(recipe: Recipe) -> str:
    """A recipe as YAML text with a heading a person can read."""
    head = (
        "# A mixwright recipe: what to train on, and what to expect from it.\n"
        "# weights are fractions of training tokens; losses are nats/token; intervals hold 90 %;\n"
        "# every forecast states the size (non-embedding params) and tokens it holds for.\n"
    )
    return head + str(yaml.safe_dump(recipe.to_dict(), sort_keys=False, allow_unicode=True, width=110))


def results(flow: Flow, stage: str, artifact: Artifact) -> tuple[Any, ...]:
    """Copy what people open to the top of the study's folder; returns what a terminal should show of the stage."""
    from mixwright.report import answers, tables
    from mixwright.study import report_data as parts

    root = flow.root
    if stage == "curate":
        summary = artifact.json("summary.json")
        data = parts.sources(summary)
        return (tables.sources_table(data), tables.ledger_table(data))
    if stage == "tokenize":
        return (tables.corpus_table({"corpus": parts.corpus(flow)}),)
    if stage == "design":
        return ()
    if stage == "sweep":
        from mixwright.store.runs import write_runs

        write_runs(root / "runs.csv", flow.table)
        return (tables.runs_table(parts.runs(flow)),)
    if stage == "fit":
        data = parts.runs(flow) | parts.fitted(flow)
        return (
            answers.fit_table(data),
            *answers.grouped(data["validation"]["notes"], data["metrics"]),
            answers.fit_verdict(data),
        )
    if stage == "optimize":
        write_atomic(root / "recipe.yaml", to_yaml(flow.recipe))
        data = parts.runs(flow) | parts.optimum(flow)
        name = flow.reference[0]
        shown = (answers.mixture_table(data, name), answers.contrast_table(data, name))
        return (answers.headline(data, name), *shown, *named(answers.reasons(data), name))
    if stage == "verify":
        data = parts.runs(flow) | {"verify": parts.verified(flow)}
        return (tables.verify_table(data), tables.off_target_table(data), *verdict_notes(flow, data["verify"]))
    if stage == "branch":
        return (tables.final_phase_table(parts.runs(flow) | {"final_phase": parts.final_phase(flow)}),)
    if stage == "export":
        final = recipes(flow)
        for label, one in final.items():
            write_atomic(root / f"{label}.yaml", to_yaml(one))
        _replace_folder(artifact, root / "export")
        return (tables.recipe_table({"recipe": final["recipe"].to_dict()}),)
    write_atomic(root / "report.html", (artifact.path / "report.html").read_bytes())
    return ()


def _replace_folder(artifact: Artifact, target: Any) -> None:
    """Copy an artifact's files over a folder at the top; files of exporters no longer asked for are removed."""
    wanted = {target / name for name in artifact.manifest["files"]}
    for file in wanted:
        content = (artifact.path / file.relative_to(target)).read_bytes()
        if not file.is_file() or file.read_bytes() != content:
            write_atomic(file, content)
    if target.is_dir():
        for child in target.iterdir():
            if child.is_dir() and not any(file.is_relative_to(child) for file in wanted):
                shutil.rmtree(child)


# ---- from one time to the next -----------------------------------------------------------------------------------


def remember(flow: Flow) -> None:
    """Note which artifacts this finished run used, for ``changes`` next time."""
    stages = {stage: {"key": flow.key(stage), "settings": flow.settings(stage)} for stage in flow.stages}
    write_json(flow.workspace.root / _LAST, stages)


def changes(flow: Flow) -> list[str]:
    """Sentences that say which stages of the last finished run will be redone and why; their old artifacts are kept."""
    path = flow.workspace.root / _LAST
    if not path.is_file():
        return []
    last = read_json(path)
    redone: list[str] = []
    sentences = []
    for stage in flow.stages:
        if stage not in last or last[stage]["key"] == flow.key(stage):
            continue
        redone.append(stage)
        if flow.workspace.find(stage, flow.key(stage)) is not None:
            continue
        edits = list(_edits(last[stage]["settings"], flow.settings(stage), ""))
        edits = [edit for edit in edits if not edit.startswith("study:")]
        before = [s for s in flow.upstream(stage) if s in redone]
        why = "; ".join(edits[:3]) + (f"; and {len(edits) - 3} more" if len(edits) > 3 else "")
        why = why or (f"{', '.join(before)} changed" if before else "the study's text changed")
        old = flow.workspace.root / stage / last[stage]["key"]
        sentences.append(f"{stage} will be redone ({why}); the old result stays in {old.relative_to(flow.root)}.")
    return sentences


def _edits(old: Any, new: Any, where: str) -> Iterator[str]:
    """``path: old -> new`` for every value that differs."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            yield from _edits(old.get(key), new.get(key), f"{where}.{key}" if where else str(key))
    elif list(old) != list(new) if isinstance(old, list) and isinstance(new, list | tuple) else old != new:
        yield f"{where}: {_short(old)} -> {_short(new)}"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:37] + "..."


def files(flow: Flow) -> list[dict[str, str]]:
    """The files at the top of the study's folder, with what each is."""
    return [
        {"name": name, "what": what}
        for name, what in (
            ("recipe.yaml", "what to train on, with forecasts"),
            ("recipe-final-phase.yaml", "for a run under way: switch at the end"),
            ("report.html", "this page"),
            ("runs.csv", "every proxy run: weights and losses"),
            ("export/", "the recipe in the words of " + ", ".join(flow.study.export)),
            ("work/", "all artifacts, by stage and key"),
        )
        if name.endswith("/") or name == "report.html" or (flow.root / name).is_file()
    ]
