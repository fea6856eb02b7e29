"""What the bench leaves behind: ``benchmarks/results/stream.json`` and its part of ``docs/benchmarks.md``."""

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from benchmarks.laws.scores import Row
from benchmarks.stream.data import ROOT

RESULTS = ROOT / "benchmarks" / "results" / "stream.json"
DOCS = ROOT / "docs" / "benchmarks.md"
BEGIN, END = "<!-- made by make bench-stream: from here -->", "<!-- made by make bench-stream: to here -->"
LIBRARIES = ("mixwright", "numpy", "torch", "mosaicml-streaming", "litdata", "datasets", "grain")
PEERS = ("Grain", "Grain, 16 threads", "LitData", "Hugging Face, map", "Hugging Face, iterable", "mosaicml-streaming")
ABOUT = (
    "Six domains, 200M random tokens, windows of 1,024, batches of 32, no worker processes, tokens in the page cache. A "
    "system is measured in a process of its own, in turn with the others; of all segments of 2 CPU-seconds the best "
    "counts. CPU-seconds are those of the process and its children. Memory is what a system holds besides mapped files after "
    "its imports; peak is all, mapped files included. Tokens per second of a busy machine are a lower bound. Each peer is "
    "set up as its documentation says: Grain `MapDataset` shuffled, repeated, mixed, batched; LitData "
    "`CombinedStreamingDataset` over `TokensLoader`; Hugging Face `interleave_datasets` in torch format; mosaicml-streaming "
    "`Stream(proportion=...)` with `StreamingDataLoader`."
)
OURS = ("ours", "ours, 100 domains", "ours, 1,000 domains", "ours, int64 torch through DataLoader")


def rows(results: Sequence[dict[str, Any]]) -> list[Row]:
    """What is compared, with the goals."""
    by = {result["system"]: result for result in results}

    def value(name: str, key: str, scale: float = 1.0) -> float | None:
        found = by.get(name, {}).get(key)
        return None if found is None else found * scale

    speed = {name: value(name, "tokens_per_cpu_s", 1e-6) for name in (*OURS, *PEERS)}
    peer = max(PEERS, key=lambda name: speed[name] or 0.0)
    out = []
    for name in OURS:
        ours, most = speed[name], speed[peer] or 0.0
        goal = (">=", float(f"{6 * most:.4g}")) if name != OURS[-1] else None
        out.append(
            Row(
                f"{name}: tokens per CPU-second",
                "million",
                ours,
                goal,
                peer,
                most,
                "goal: 6 times the best peer" if goal else "",
            )
        )
    mds = speed["mosaicml-streaming"] or 0.0
    out.append(
        Row("ours: tokens per CPU-second", "million", speed["ours"], (">=", float(f"{100 * mds:.4g}")), "mosaicml-streaming", mds,
            "goal: 100 times mosaicml-streaming")
    )  # fmt: skip
    for name in OURS[:3]:
        goal = ("<=", 5.0)
        out.append(Row(f"{name}: go to sample 10M, first batch", "ms", value(name, "go_s", 1e3), goal, "mosaicml-streaming",
                       value("mosaicml-streaming", "resume_s", 1e3)))  # fmt: skip
        out.append(Row(f"{name}: new stream at sample 10M, plan included", "ms", value(name, "resume_s", 1e3), None))
    small, large = value("ours, a tenth of the tokens", "held_mib"), value("ours", "held_mib")
    if small is not None and large is not None:
        out.append(Row("ours: memory for 200M tokens above that for 20M", "MiB", max(0.0, large - small), ("<=", 1.0)))
    return out


def line(result: dict[str, Any]) -> str:
    """One system on the screen."""
    if "failed" in result:
        return f"{result['system']:38} failed: {result['failed']}"
    return f"{result['system']:38} " + "  ".join(
        f"{head} {cell}" for head, cell in zip(HEADS[1:], cells(result)[1:], strict=True)
    )


HEADS = (
    "system",
    "dtype",
    "M tokens per CPU-s",
    "M tokens/s",
    "start, s",
    "resume at 10M, s",
    "memory, MiB",
    "peak, MiB",
)


def cells(result: dict[str, Any]) -> list[str]:
    if "failed" in result:
        return [result["system"], *["-"] * (len(HEADS) - 2), result["failed"]]
    resume = result.get("resume_note") or f"{result['resume_s']:.4f}"
    return [
        result["system"], result["dtype"], f"{result['tokens_per_cpu_s'] / 1e6:,.1f}", f"{result['tokens_per_s'] / 1e6:,.1f}",
        f"{result['start_s']:.3f}", resume, f"{result['held_mib']:.1f}", f"{result['peak_mib']:,.0f}",
    ]  # fmt: skip


def keep(results: Sequence[dict[str, Any]], command: str) -> None:
    """Write the result file and the docs."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, cwd=ROOT
    ).stdout.strip()
    content = {
        "name": "stream", "command": command, "commit": commit, "date": datetime.now(UTC).date().isoformat(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}},
        "cores": os.cpu_count(), "rows": [row.to_dict() for row in rows(results)], "systems": list(results),
    }  # fmt: skip
    RESULTS.write_text(json.dumps(content, indent=1) + "\n")
    text, part = DOCS.read_text(), f"{BEGIN}\n\n{markdown(content)}\n\n{END}"
    if BEGIN in text:
        before, _, rest = text.partition(BEGIN)
        text = before + part + rest.partition(END)[2]
    else:
        text = text.rstrip() + "\n\n" + part + "\n"
    DOCS.write_text(text)
    for row in content["rows"]:
        if row["met"] is not None:
            print(f"{'met   ' if row['met'] else 'MISSED'} {row['what']}: {row['ours']} (goal {row['goal']})")
    print(f"written: {RESULTS.relative_to(ROOT)}, {DOCS.relative_to(ROOT)}")


def markdown(content: dict[str, Any]) -> str:
    """The part of the docs: goals, and all systems side by side."""
    versions = ", ".join(f"{name} {number}" for name, number in content["versions"].items())
    lines = [
        "## Stream", "",
        f"`{content['command']}`, commit `{content['commit']}`, {content['date']}, {content['cores']} cores. {versions}.", "",
        ABOUT, "",
        "| what | unit | ours | goal | | peer | its value | ratio |", "|---|---|---:|---|---|---|---:|---:|",
    ]  # fmt: skip
    for row in content["rows"]:
        met = {True: "met", False: "**missed**", None: ""}[row["met"]]
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.3g}"
        peer = "-" if row["peer_value"] is None else f"{row['peer_value']:.4g}"
        ours = "-" if row["ours"] is None else f"{row['ours']:.4g}"
        lines.append(
            "| "
            + " | ".join((row["what"], row["unit"], ours, row["goal"] or "", met, row["peer"] or "", peer, ratio))
            + " |"
        )
    lines += ["", "| " + " | ".join(HEADS) + " |", "|---|---" + "|---:" * (len(HEADS) - 2) + "|"]
    lines += ["| " + " | ".join(cells(result)) + " |" for result in content["systems"]]
    return "\n".join(lines)
