"""What was found as tables for the terminal: each function takes the report's data and fits 100 columns.

Numbers are aligned, units stand in the headers, and beside every difference stands the noise. A table whose section is
missing says so instead of failing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from mixwright.report.verdict import reference
from mixwright.report.words import MISSING, fixed, interval, multiple, percent, scaled, signed, whole

Data = Mapping[str, Any]
#: rows shown before the rest is summed up in a line
MANY = 40


def blank_columns(title: str, *columns: str, words: int = 1, caption: str | None = None) -> Table:
    """An empty table; the first ``words`` columns hold text, the others numbers."""
    table = Table(
        title=Text(title, "bold"), title_justify="left", caption_justify="left", box=None, pad_edge=False,
        header_style="dim", padding=(0, 2, 0, 0),
    )  # fmt: skip
    if caption:
        say(table, caption)
    for number, name in enumerate(columns):
        text = number < words
        table.add_column(
            escape(name), justify="left" if text else "right", overflow="fold" if text else "ellipsis", no_wrap=not text
        )
    return table


def say(table: Table, words: str) -> None:
    """Put a line below the table; what it says is text, never markup."""
    before = f"{table.caption}\n" if table.caption else ""
    table.caption = Text(before + words, "dim italic")


def missing(what: str) -> Text:
    """What stands in place of a table whose section the data lack."""
    return Text(f"No {what} yet.", style="dim")


def sources_table(data: Data) -> RenderableType:
    """Per source: documents and bytes read and kept, and what was dropped in all."""
    rows = [*(data.get("sources") or ()), *(data.get("targets") or ())]
    if not rows:
        return missing("sources")
    targets = {row["name"] for row in data.get("targets") or ()}
    table = blank_columns(
        "Sources", "source", "taken by the rule", "read", "bytes", "dropped", "kept", "kept %", words=2
    )
    for row in rows[:MANY]:
        read, kept = row["read"], row["kept"]
        table.add_row(
            escape(row["name"]) + (" [dim](target)[/]" if row["name"] in targets else ""),
            escape(short(row.get("rule") or "", 36)), whole(read["documents"]), f"{scaled(read['bytes'])}B",
            whole(read["documents"] - kept["documents"]), whole(kept["documents"]),
            percent(kept["documents"] / read["documents"] if read["documents"] else None),
        )  # fmt: skip
    return with_rest(table, len(rows), "sources")


def ledger_table(data: Data) -> RenderableType:
    """Per rule: documents that failed it, those for which it was the first and those that failed nothing else; in = kept +
    dropped below."""
    rows = [*(data.get("sources") or ()), *(data.get("targets") or ())]
    if not rows:
        return missing("ledger")
    read = sum(row["read"]["documents"] for row in rows)
    kept = sum(row["kept"]["documents"] for row in rows)
    bounds = {rule["rule"]: rule for rule in data.get("rules") or ()}
    found = dict.fromkeys([*bounds, *(rule for row in rows for rule in row.get("dropped") or {})])
    first = {rule: sum((row.get("first_dropped") or {}).get(rule, 0) for row in rows) for rule in found}
    holds = read == kept + sum(first.values())
    table = blank_columns(
        "What was dropped", "rule", "must hold", "failing it", "first failed here", "failing nothing else", words=2,
        caption=f"read {whole(read)} = kept {whole(kept)} + dropped {whole(read - kept)}"
        + ("" if holds else ": this does not add up, do not trust it"),
    )  # fmt: skip
    for rule in found:
        failing = sum((row.get("dropped") or {}).get(rule, 0) for row in rows)
        if failing or first[rule]:
            alone = sum((row.get("alone") or {}).get(rule, 0) for row in rows)
            told = whole(alone) if any(row.get("alone") for row in rows) else MISSING
            held = short(_bounds(bounds.get(rule)), 40)
            table.add_row(escape(rule), escape(held), whole(failing), whole(first[rule]), told)
    return table


def _bounds(rule: Data | None) -> str:
    if not rule:
        return ""
    if rule.get("text") and rule["text"] != rule["rule"]:
        return str(rule["text"])
    low, high = rule.get("min"), rule.get("max")
    return " and ".join(
        part for part in (f">= {low:g}" if low is not None else "", f"<= {high:g}" if high is not None else "") if part
    )


def corpus_table(data: Data) -> RenderableType:
    """Per domain: unique training tokens, natural weight, bytes per token, documents, held-out tokens."""
    rows = data.get("corpus") or ()
    if not rows:
        return missing("corpus")
    total = sum(row["tokens"] for row in rows)
    tokenizer = data.get("tokenizer")
    table = blank_columns(
        "Corpus", "domain", "tokens", "natural", "bytes/token", "documents", "held-out tokens",
        caption=f"{scaled(total)} training tokens" + (f", {whole(tokenizer['vocab'])} pieces" if tokenizer else ""),
    )  # fmt: skip
    for row in rows[:MANY]:
        table.add_row(
            escape(row["domain"]), whole(row["tokens"]), percent(row["tokens"] / total if total else None),
            fixed(row["bytes"] / row["tokens"] if row["tokens"] else None, 2), whole(row["documents"]),
            whole(row["held_out_tokens"]),
        )  # fmt: skip
    return with_rest(table, len(rows), "domains")


def runs_table(data: Data) -> RenderableType:
    """Per metric over all runs: mean and best loss, the unigram loss beside them, spread over mixtures and seed noise."""
    runs: Sequence[Data] = data.get("runs") or ()
    if not runs:
        return missing("runs")
    done = [run for run in runs if run["status"] == "done"]
    failed = [run for run in runs if run["status"] != "done"]
    table = blank_columns(
        f"Proxy runs: {len(done)} of {len(runs)} done", "metric", "mean loss", "best", "unigram", "spread (sd)",
        "noise (sd)", "spread/noise",
        caption="\n".join(
            ["nats/token; a loss near the unigram loss has learnt frequencies and little else"]
            + [f"{run['run_id']} failed: {run['reason']}" for run in failed[:5]]
            + ([f"and {len(failed) - 5} more failed"] if len(failed) > 5 else [])
        ),
    )  # fmt: skip
    metrics = data.get("metrics") or list(dict.fromkeys(name for run in done for name in run["losses"]))
    for metric in metrics[:MANY]:
        losses = _known(run["losses"].get(metric) for run in done)
        designed = _known(run["losses"].get(metric) for run in done if run.get("role") != "repeat")
        unigram = _known((run.get("unigram") or {}).get(metric) for run in done)
        spread, noise = _deviation(designed), ((data.get("noise") or {}).get(metric) or {}).get("sd")
        table.add_row(
            escape(metric), fixed(_mean(losses)), fixed(min(losses, default=None)), fixed(_mean(unigram)), fixed(spread),
            fixed(noise, 4) if noise is not None else "not measured", multiple(spread, noise),
        )  # fmt: skip
    return with_rest(table, len(metrics), "metrics")


def verify_table(data: Data) -> RenderableType:
    """Per mixture: predicted and measured difference to the reference with 90 % intervals, ranks, steps and verdict."""
    verify = data.get("verify")
    if not verify or not verify.get("rows"):
        return missing("verification")
    noise, base = verify.get("objective_noise"), reference(data)
    table = blank_columns(
        f"Verification at {verify['size']}, {scaled(verify['tokens'])} tokens, seeds: {len(verify['seeds'])}",
        "mixture", "predicted", "measured", "/noise", "rank", "steps",
        caption=f"difference to {base} of the objective, nats/token (90 % interval); rank: predicted>measured; steps to "
        f"{base}'s final loss; noise {fixed(noise, 4)} (sd between seeds)",
    )  # fmt: skip
    for row in verify["rows"]:
        measured = row.get("measured")
        share = row.get("steps_share")
        table.add_row(
            escape(row["mixture"]), interval(row.get("predicted")), interval(measured) if measured else "reference",
            multiple(measured["value"], noise) if measured else MISSING,
            f"{row.get('rank_predicted') or MISSING}>{row.get('rank_measured') or MISSING}",
            percent(share, 0) if share is not None else "never",
        )  # fmt: skip
    for row in verify["rows"]:
        if row.get("verdict"):
            say(table, f"{row['mixture']}: {row['verdict']}")
    return table


def off_target_table(data: Data) -> RenderableType:
    """Per metric: the reference's loss and every other mixture's difference to it, with its multiple of the noise."""
    verify = data.get("verify") or {}
    rows = {row["mixture"]: row for row in verify.get("rows") or () if row.get("losses")}
    name_of_base = reference(data)
    if name_of_base not in rows or len(rows) < 2:
        return missing("off-target losses")
    others = [name for name in rows if name != name_of_base]
    targets = set(data.get("target_metrics") or ())
    table = blank_columns(
        f"Difference to {name_of_base} of every loss", "metric", name_of_base, *others, "noise (sd)",
        caption="nats/token, and how many times the noise; * is a target",
    )  # fmt: skip
    base = rows[name_of_base]["losses"]
    metrics = sorted(base, key=lambda metric: metric not in targets)
    for metric in metrics[:MANY]:
        noise = (verify.get("noise") or {}).get(metric)
        gaps = [rows[name]["losses"].get(metric, float("nan")) - base[metric] for name in others]
        table.add_row(
            escape(metric) + ("*" if metric in targets else ""), fixed(base[metric]),
            *(f"{signed(gap)} {multiple(gap, noise):>5}" for gap in gaps), fixed(noise, 4),
        )  # fmt: skip
    return with_rest(table, len(metrics), "metrics")


def final_phase_table(data: Data) -> RenderableType:
    """Per metric, targets first: both branches' losses, their difference and its multiple of the noise."""
    final = data.get("final_phase")
    if not final or not final.get("rows"):
        return missing("final phase")
    table = blank_columns(
        f"Final phase: the last {percent(1 - final['start'], 0)} on an upsampled mixture", "metric", "continued",
        "upsampled", "difference", "/noise", "noise (sd)", caption="nats/token; * is a target; below zero is a gain",
    )  # fmt: skip
    rows = sorted(final["rows"], key=lambda row: (row["kind"] != "target", row["difference"]))
    for row in rows[:MANY]:
        table.add_row(
            escape(row["metric"]) + ("*" if row["kind"] == "target" else ""), fixed(row["continued"]),
            fixed(row["upsampled"]), signed(row["difference"]), multiple(row["difference"], row["noise"]),
            fixed(row["noise"], 4),
        )  # fmt: skip
    return with_rest(table, len(rows), "metrics")


def recipe_table(data: Data) -> RenderableType:
    """Per domain: the weight in each phase, epochs and unique tokens; the forecasts below."""
    recipe = data.get("recipe")
    if not recipe or not recipe.get("phases"):
        return missing("recipe")
    phases, epochs, supply = recipe["phases"], recipe.get("epochs") or {}, recipe.get("supply") or {}
    forecasts = [
        f"{one['metric']}: {one['kind']}"
        + (f" to {one['reference']}" if one.get("reference") else "")
        + f" {(interval(one) if one['kind'] == 'difference' else _level(one))} {one['unit']}, for "
        + (
            f"{scaled(one['params'])} parameters, {scaled(one['tokens'])} tokens"
            if one.get("params")
            else "the size of the runs"
        )
        for one in recipe.get("forecasts") or ()
        if one["metric"] == "objective"
    ]
    table = blank_columns(
        f"Recipe: {scaled(recipe['tokens'])} tokens", "domain",
        *(f"phase {n}: {scaled(phase['tokens'])} tokens" for n, phase in enumerate(phases, 1)), "epochs",
        "unique tokens", caption="\n".join(forecasts) or None,
    )  # fmt: skip
    domains = list(phases[0]["weights"])
    for name in domains[:MANY]:
        table.add_row(
            escape(name), *(percent(phase["weights"][name], 2) for phase in phases),
            fixed(epochs.get(name), 2) if epochs else "unknown", whole(supply.get(name)),
        )  # fmt: skip
    return with_rest(table, len(domains), "domains")


def _level(one: Data) -> str:
    return f"{fixed(one['value'])} ({fixed(one['low'])} to {fixed(one['high'])})"


def with_rest(table: Table, count: int, what: str) -> Table:
    """The table, with a line on how many rows it leaves out."""
    if count > MANY:
        say(table, f"and {count - MANY} more {what}; all are in the report")
    return table


def short(text: str, width: int) -> str:
    """The text, cut to so many characters."""
    return text if len(text) <= width else text[: width - 1] + "…"


def _known(values: Any) -> list[float]:
    return [float(value) for value in values if value is not None]


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _deviation(values: Sequence[float]) -> float | None:
    centre = _mean(values)
    if centre is None or len(values) < 2:
        return None
    return float((sum((value - centre) ** 2 for value in values) / (len(values) - 1)) ** 0.5)
