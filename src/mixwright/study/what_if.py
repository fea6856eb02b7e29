"""What a study's rules would keep, from numbers that are measured: to try thresholds before anything is written."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from mixwright.study.flow import WHAT, Flow


def what_if(flow: Flow) -> dict[str, Any]:
    """``curate.deciding.redecide`` of the study's rules as they are; measures first what is not measured yet."""
    from mixwright.curate.deciding import redecide
    from mixwright.curate.pipeline import estimate

    s = flow.study
    flow.listener.begin("curate", WHAT["curate"], estimate(s.sources, s.targets, s.curate, flow.root))
    try:
        return redecide(flow.measured().path, s.curate)
    finally:
        flow.listener.close()


def tables(found: dict[str, Any]) -> tuple[Table, Table]:
    """What passes of each domain, and what each rule drops."""
    kept = Table(title="What would pass every rule (before duplicates)", title_justify="left", box=None, pad_edge=False)
    for heading in ("domain", "documents", "pass", "", "MB", "pass", ""):
        kept.add_column(heading, justify="left" if heading == "domain" else "right")
    for name, row in found["domains"].items():
        documents, passing, size, passing_size = (
            row[key] for key in ("documents", "passing", "bytes", "passing_bytes")
        )
        kept.add_row(
            name, f"{documents:,}", f"{passing:,}", _share(passing, documents),
            f"{size / 1e6:,.1f}", f"{passing_size / 1e6:,.1f}", _share(passing_size, size),
        )  # fmt: skip
    dropped = Table(title="What each rule drops", title_justify="left", box=None, pad_edge=False)
    for heading in ("rule", "failing", "first", "alone"):
        dropped.add_column(heading, justify="left" if heading == "rule" else "right")
    for rule, row in found["rules"].items():
        dropped.add_row(rule, *(f"{row[key]:,}" for key in ("failing", "first", "alone")))
    return kept, dropped


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else ""
