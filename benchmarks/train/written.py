"""What the bench leaves: ``benchmarks/results/train.json`` and its part of ``docs/benchmarks.md``; groups not run stay."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.laws.scores import Row
from benchmarks.train.work import ROOT

RESULTS = ROOT / "benchmarks" / "results" / "train.json"
DOCS = ROOT / "docs" / "benchmarks.md"
BEGIN, END = "<!-- made by make bench-train: from here -->", "<!-- made by make bench-train: to here -->"
LIBRARIES = ("mixwright", "torch", "transformers", "accelerate", "numpy")
ORDER = ("trainer", "population", "gpu")


def keep(groups: Mapping[str, Sequence[Row]]) -> None:
    """Write both files."""
    known = json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else []
    kept = {name: [row for row in known if row["group"] == name] for name in ORDER}
    for name, rows in groups.items():
        kept[name] = [{**row.to_dict(), "group": name} for row in rows]
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, cwd=ROOT
    ).stdout.strip()
    content = {
        "name": "train", "command": "make bench-train", "commit": commit, "date": datetime.now(UTC).date().isoformat(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}},
        "cores": os.cpu_count(), "processor": _processor(), "rows": [row for name in ORDER for row in kept[name]],
    }  # fmt: skip
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(content, indent=1) + "\n")
    _write_docs(markdown(content))
    print(f"written: {RESULTS.relative_to(ROOT)}, {DOCS.relative_to(ROOT)}")


def _processor() -> str:
    """Its name and whether it multiplies bfloat16."""
    import torch

    bf16 = "with" if torch.cpu._is_avx512_bf16_supported() else "without"
    names = [line.partition(":")[2].strip() for line in _cpuinfo() if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {bf16} AVX512-BF16"


def _cpuinfo() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return []


def _write_docs(part: str) -> None:
    """Replace the part between the marks, or add it at the end."""
    text, whole = DOCS.read_text(), f"{BEGIN}\n\n{part}\n\n{END}"
    if BEGIN in text:
        before, _, rest = text.partition(BEGIN)
        text = before + whole + rest.partition(END)[2]
    else:
        text = text.rstrip() + "\n\n" + whole + "\n"
    DOCS.write_text(text)


def markdown(content: dict[str, Any]) -> str:
    """The part of the docs."""
    versions = ", ".join(f"{name} {number}" for name, number in content["versions"].items())
    judged = [row for row in content["rows"] if row["met"] is not None]
    lines = [
        "## Training", "",
        f"`{content['command']}`, commit `{content['commit']}`, {content['date']}, {content['cores']} cores of "
        f"{content['processor']}; one thread a process. {versions}.",
        "",
        f"{sum(row['met'] for row in judged)} of {len(judged)} goals are met. Rates are medians over rounds, and ours are the "
        "peer's times the median of the ratios within rounds; both sides have the same allocator settings unless said.",
        "",
        "| check | unit | ours | peer | its value | ratio | | |",
        "|---|---|---:|---|---:|---:|---|---|",
    ]  # fmt: skip
    for row in content["rows"]:
        met = {True: "met", False: "**missed**", None: ""}[row["met"]]
        numbers = ["-" if row[name] is None else f"{row[name]:g}" for name in ("ours", "peer_value", "ratio")]
        cells = (row["what"], row["unit"], numbers[0], row["peer"] or "", *numbers[1:], met, row.get("note", ""))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
