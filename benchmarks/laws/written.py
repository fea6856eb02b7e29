"""What the bench leaves behind: the summary on the screen, ``benchmarks/results/laws.json``, and its part of the docs.

Groups that were not run keep the rows they had, each with the commit and date it was made at.
"""

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from benchmarks.laws.scores import Covered, Result, Row
from benchmarks.laws.work import ROOT, Workshop

RESULTS = ROOT / "benchmarks" / "results" / "laws.json"
DOCS = ROOT / "docs" / "benchmarks.md"
BEGIN, END = "<!-- made by make bench-laws: from here -->", "<!-- made by make bench-laws: to here -->"
LIBRARIES = ("mixwright", "numpy", "scipy", "lightgbm", "scikit-learn", "torch")
#: what the pools of intervals are called
POOLS = {"overall": "overall losses", "subsets": "losses of single validation sets"}


def as_json(name: str, result: Result, shop: Workshop) -> dict[str, Any]:
    """One group of checks as it stands in the file."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, cwd=ROOT
    ).stdout.strip()
    return {
        "name": name, "commit": commit, "date": datetime.now(UTC).date().isoformat(), "law": shop.law,
        "rows": [row.to_dict() for row in result.rows],
        "covered": [{"what": c.what, "inside": c.inside, "total": c.total, "pool": c.pool} for c in result.covered],
        "tables": [{"title": t.title, "heads": list(t.heads), "cells": [list(line) for line in t.cells]} for t in result.tables],
    }  # fmt: skip


def pooled(covered: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows for the intervals of all checks together, one for each pool."""
    rows = []
    for pool, words in POOLS.items():
        parts = [c for c in covered if c["pool"] == pool]
        if parts:
            whole = Covered(pool, sum(c["inside"] for c in parts), sum(c["total"] for c in parts))
            low, high = whole.interval()
            note = f"{whole.inside} of {whole.total}; 90 % binomial interval {low:.3f} to {high:.3f}"
            rows.append(
                Row(
                    f"90 % intervals, all mixing-laws checks: {words}",
                    "share inside",
                    whole.share,
                    ("in", 0.85, 0.95),
                    note=note,
                ).to_dict()
            )
    return rows


def summary(groups: Sequence[dict[str, Any]]) -> None:
    """Every row with a goal, met or missed, and the count of every check's intervals."""
    covered = [c for group in groups for c in group["covered"]]
    rows = [row for group in groups for row in group["rows"]] + pooled(covered)
    for row in rows:
        if row["met"] is not None:
            print(
                f"{'met   ' if row['met'] else 'MISSED'} {row['what']}: {row['ours']} (goal {row['goal']}) {row.get('note', '')}"
            )
    judged = [row for row in rows if row["met"] is not None]
    print(f"{sum(row['met'] for row in judged)} of {len(judged)} goals met")
    for what, inside, total, share, between in _counts(covered):
        print(f"  90 % intervals, {what}: {inside} of {total} = {share} {between}")


def _counts(covered: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    """What, inside, total, share and its binomial interval, in words."""
    out = []
    for part in covered:
        one = Covered(part["what"], part["inside"], part["total"])
        low, high = one.interval()
        out.append((one.what, str(one.inside), str(one.total), f"{one.share:.3f}", f"{low:.3f} to {high:.3f}"))
    return out


def keep(groups: Sequence[dict[str, Any]], command: str, order: Sequence[str]) -> None:
    """Write the result file and the docs; groups not among these stay as they were."""
    known = json.loads(RESULTS.read_text())["groups"] if RESULTS.exists() else []
    every = {group["name"]: group for group in [*known, *groups]}
    kept = [every[name] for name in order if name in every]
    covered = [c for group in kept for c in group["covered"]]
    rows = [row | {"group": group["name"]} for group in kept for row in group["rows"]]
    rows += [row | {"group": "all"} for row in pooled(covered)]
    newest = max(kept, key=lambda group: group["date"])
    content = {
        "name": "laws", "command": command, "commit": newest["commit"], "date": newest["date"],
        "versions": {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}},
        "cores": os.cpu_count(), "rows": rows, "groups": kept,
    }  # fmt: skip
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(content, indent=1) + "\n")
    _write_docs(content)
    print(f"written: {RESULTS.relative_to(ROOT)}, {DOCS.relative_to(ROOT)}")


def _write_docs(content: dict[str, Any]) -> None:
    """Replace the part between the marks, or add it at the end."""
    text = DOCS.read_text()
    part = f"{BEGIN}\n\n{markdown(content)}\n\n{END}"
    if BEGIN in text:
        before, _, rest = text.partition(BEGIN)
        text = before + part + rest.partition(END)[2]
    else:
        text = text.rstrip() + "\n\n" + part + "\n"
    DOCS.write_text(text)


def markdown(content: dict[str, Any]) -> str:
    """The part of the docs: every goal with what came out, the intervals' counts, and the tables side by side."""
    rows = [row for row in content["rows"] if row["met"] is not None]
    missed = [row for row in rows if not row["met"]]
    laws = ", ".join(sorted({group["law"] for group in content["groups"]}))
    versions = ", ".join(f"{name} {number}" for name, number in content["versions"].items())
    lines = [
        "## Laws", "",
        f"`{content['command']}`, commit `{content['commit']}`, {content['date']}, {content['cores']} cores; our law: {laws}, "
        f"one default configuration for every check. {versions}.", "",
        f"{len(rows) - len(missed)} of {len(rows)} goals are met" + (f"; {len(missed)} are missed:" if missed else "."), "",
    ]  # fmt: skip
    lines += [
        f"- {row['what']}: {row['ours']} (goal {row['goal']}){'; ' + row['note'] if row.get('note') else ''}"
        for row in missed
    ]
    lines += [
        "",
        "| check | unit | ours | goal | | best peer here or reference | its value |",
        "|---|---|---:|---|---|---|---:|",
    ]
    for row in content["rows"]:
        met = {True: "met", False: "**missed**", None: ""}[row["met"]]
        cells = (
            row["what"],
            row["unit"],
            _cell(row["ours"]),
            row["goal"] or "",
            met,
            row["peer"] or "",
            _cell(row["peer_value"]),
        )
        lines.append("| " + " | ".join(cells) + " |")
    lines += [
        "",
        "### Intervals, check by check",
        "",
        "| check | inside | of | share | 90 % binomial interval |",
        "|---|---:|---:|---:|---|",
    ]
    lines += [
        "| " + " | ".join(line) + " |" for line in _counts([c for group in content["groups"] for c in group["covered"]])
    ]
    lines += [
        "",
        "### Side by side",
        "",
        "Peers marked (own) are plain re-implementations from papers; CPU-seconds are process time on one thread.",
    ]
    for group in content["groups"]:
        for table in group["tables"]:
            rule = "|---" + "|---:" * (len(table["heads"]) - 1) + "|"
            lines += ["", f"**{table['title']}**", "", "| " + " | ".join(table["heads"]) + " |", rule]
            lines += ["| " + " | ".join(line) + " |" for line in table["cells"]]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    return "-" if value is None else f"{value:g}"
