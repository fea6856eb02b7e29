"""What the bench leaves behind: ``benchmarks/results/curate*.json`` and their part of ``docs/benchmarks.md``."""

import json
import os
import platform
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from benchmarks.curate.corpus import ROOT
from benchmarks.curate.environments import versions
from benchmarks.laws.scores import Row

if TYPE_CHECKING:
    from benchmarks.curate.parts import Bench

RESULTS = ROOT / "benchmarks" / "results" / "curate.json"
COMPAT, SCALE = RESULTS.with_name("curate_compat.json"), RESULTS.with_name("curate_scale.json")
DOCS = ROOT / "docs" / "benchmarks.md"
BEGIN, END = "<!-- made by make bench-curate: from here -->", "<!-- made by make bench-curate: to here -->"
NAMES = {"datatrove": "datatrove", "juicer": "Data-Juicer", "datasketch": "datasketch"}
OWN = ("mixwright", "numba", "numpy", "pyarrow", "polars")
ABOUT = (
    "MB are 10^6 UTF-8 bytes of text; per core: one worker, CPU-seconds (user + system) of the whole process less those of "
    "the same task on 18 documents, warm cache, the best of some runs, of twice as many starts (datatrove's dedup and "
    "datasketch: one run); on a shared machine one and the same commit measures 20 to 30 % apart (LOG.md). Input is "
    "Parquet, zstd level 3, row groups of about 100 MB of text; reading is part of every row. Peers run on slices (6.4 MB for "
    "filters, 29.6 MB otherwise), ours on these and on the whole corpus. datatrove: its four filters with early exit, its four "
    "MinHash stages with 14 bands of 8, its exact dedup; whole: MinHash, then the filters, then Parquet. Data-Juicer: eight text "
    "filters at their defaults (it has no Gopher repetition, C4 or FineWeb statistics), `document_minhash_deduplicator` with "
    "14 bands of 8 and whitespace words, JSONL out. Ours: every statistic of every document without early exit; 25 bands of "
    "5, every pair verified by exact Jaccard at 0.8. Peers write what they keep also in the dedup rows; ours only in the whole "
    "run, which writes Parquet (zstd 1) and ledger; until then a copy of the texts lies on disk, as in users' runs. A kept "
    "twin is looked for by brute force over all "
    "pairs of the slice; on the whole corpus the twin that each removed row names is held against plain Python."
)


@dataclass(frozen=True)
class Line:
    """A row and the part of the bench it is from."""

    part: str
    row: Row

    def line(self) -> str:
        """The row on the screen."""
        row = self.row.to_dict()
        met = {True: "met", False: "MISSED", None: ""}[row["met"]]
        peer = f"{row['peer']} {row['peer_value']} ratio {row['ratio']}" if row["peer"] else ""
        return f"{met:7}{row['what']}: {row['ours']} {row['unit']} (goal {row['goal']}) {peer}"


def rows(found: dict[str, dict[str, Any]]) -> list[Line]:
    """What is compared, with the goals of the issue."""
    out: list[Line] = []

    def value(part: str, who: str, key: str) -> float | None:
        number = found.get(part, {}).get(who, {}).get(key)
        return None if number is None else float(number)

    def add(part: str, what: str, unit: str, ours: float | None, goal: Any, peer: str = "", theirs: float | None = None,
            note: str = "") -> None:  # fmt: skip
        if part in found:
            out.append(Line(part, Row(what, unit, ours, goal, NAMES.get(peer, peer), theirs, note)))

    speed = "mb_per_cpu_s"
    for part, what, goal in (
        ("filters", "full Gopher + C4 + FineWeb statistics", 150.0),
        ("near", "near-dedup with verification", 200.0),
        ("exact", "exact dedup including reading", 800.0),
        ("whole", "whole run, Parquet to Parquet and ledger", 80.0),
    ):
        for peer in (name for name in NAMES if name in found.get(part, {})):
            add(
                part,
                what,
                "MB per CPU-second",
                value(part, "ours", speed),
                (">=", goal),
                peer,
                value(part, peer, speed),
            )
            add(part, f"{what}, the peer's slice", "MB per CPU-second", value(part, "ours, slice", speed), None, peer,
                value(part, peer, speed))  # fmt: skip
    add("filters", "datatrove's decisions reproduced", "MB per CPU-second", value("filters", "ours as datatrove", speed), None,
        "datatrove", value("filters", "datatrove", speed))  # fmt: skip
    theirs, mine = value("whole", "datatrove", speed), value("whole", "ours", speed)
    add("whole", "whole run over datatrove's", "times", mine / theirs if mine and theirs else None, (">=", 100.0))
    for who in ("ours, slice", "ours"):
        where = "slice" if "slice" in who else "whole corpus"
        add(
            "near",
            f"planted pairs at J >= 0.8 found, {where}",
            "share",
            value("near", who, "planted_0.8"),
            (">=", 0.999),
        )
        add(
            "near",
            f"removals with a kept twin at J >= 0.8, {where}",
            "share",
            value("near", who, "twin_0.8"),
            (">=", 1.0),
        )
    for peer in (name for name in NAMES if name in found.get("near", {})):
        for key, what in (
            ("planted_0.8", "planted pairs at J >= 0.8 found"),
            ("twin_0.8", "removals with a kept twin at J >= 0.8"),
            ("twin_0.7", "removals with a kept twin at J >= 0.7"),
        ):
            add(
                "near",
                f"{what}, beside",
                "share",
                value("near", "ours, slice", key),
                None,
                peer,
                value("near", peer, key),
            )
    rate = value("redeciding", "ours", "rows_per_cpu_s")
    add(
        "redeciding",
        "re-deciding thresholds with reading",
        "million rows per CPU-second",
        rate and rate / 1e6,
        (">=", 10.0),
    )
    for who in ("ours, slice", "ours"):
        limit, where = value("memory", who, "limit_mb"), "slice" if "slice" in who else "whole corpus"
        peers = {name: value("memory", name, "peak_mb") for name in NAMES if value("memory", name, "peak_mb")}
        peer = max(peers, key=lambda name: peers[name] or 0.0, default="")
        add("memory", f"peak memory, whole run, {where}", "MB", value("memory", who, "peak_mb"),
            ("<=", limit) if limit else None, peer, peers.get(peer))  # fmt: skip
    add("cores", "1 to 2 workers, wall time", "times", value("cores", "ours", "times"), (">=", 1.8),
        note="less the wall time of the start; both cores must be idle for it")  # fmt: skip
    add("cores", "the same with the start", "times", value("cores", "ours", "times_with_start"), None)
    return out


def _header(command: str) -> dict[str, Any]:
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, cwd=ROOT)
    return {
        "command": command, "commit": commit.stdout.strip(), "date": datetime.now(UTC).date().isoformat(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in OWN}}, "cores": os.cpu_count(),
    }  # fmt: skip


def keep(bench: "Bench") -> None:
    """Write the result file and the docs."""
    facts = json.loads((bench.place / "facts.json").read_text())
    content = {"name": "curate", **_header("make bench-curate")}
    content["versions"] |= versions("datatrove", ["datatrove", "spacy"]) | versions("juicer", ["py-data-juicer"])
    content["versions"] |= versions("datasketch", ["datasketch"])
    content |= {
        "corpus": {key: facts[key] for key in facts if key not in ("packages", "missing")},
        "rows": [line.row.to_dict() for line in rows(bench.found)], "found": bench.found,
    }  # fmt: skip
    RESULTS.write_text(json.dumps(content, indent=1) + "\n")
    text, part = DOCS.read_text(), f"{BEGIN}\n\n{markdown(content)}\n\n{END}"
    if BEGIN in text:
        before, _, rest = text.partition(BEGIN)
        text = before + part + rest.partition(END)[2]
    else:
        text = text.rstrip() + "\n\n" + part + "\n"
    DOCS.write_text(text)
    print(f"written: {RESULTS.relative_to(ROOT)}, {DOCS.relative_to(ROOT)}")


def keep_compat(found: dict[str, Any]) -> None:
    """Write the agreement with datatrove."""
    content = {"name": "curate_compat", **_header("python -m benchmarks.curate --compat")}
    content["versions"] |= versions("datatrove", ["datatrove", "spacy"])
    content["rows"] = [
        Row(f"agreement: {name}", "share of documents", rule["agreement"], (">=", 0.995)).to_dict()
        for name, rule in found["rules"].items()
    ]  # fmt: skip
    COMPAT.write_text(json.dumps(content | {"found": found}, indent=1) + "\n")
    print(f"written: {COMPAT.relative_to(ROOT)}")


def keep_scale(found: dict[str, Any]) -> None:
    """Write what a corpus of several GB took."""
    megabytes = round(found["corpus"]["bytes"] / 1e6)
    content = {"name": "curate_scale", **_header(f"python -m benchmarks.curate --scale {megabytes}"), **found}
    SCALE.write_text(json.dumps(content, indent=1) + "\n")
    print(f"written: {SCALE.relative_to(ROOT)}")


def markdown(content: dict[str, Any]) -> str:
    """The part of the docs."""
    versioned = ", ".join(f"{name} {number}" for name, number in content["versions"].items())
    facts = content["corpus"]
    kinds = ", ".join(f"{name} {size / 1e6:.0f}" for name, size in facts["bytes_by_kind"].items())
    lines = [
        "## Curation", "",
        f"`{content['command']}`, commit `{content['commit']}`, {content['date']}, {content['cores']} cores. {versioned}.", "",
        f"Corpus: {facts['bytes'] / 1e6:.0f} MB, {facts['documents']:,} documents, {facts['real_share']:.0%} of the bytes as "
        f"found in Debian packages and installed Python source (MB: {kinds}), the rest {facts['planted']:,} planted "
        f"near-duplicates, {facts['planted_at_0.8']:,} at Jaccard 0.8 or more.", "", ABOUT, "",
        "| what | unit | ours | goal | | peer | its value | ratio |", "|---|---|---:|---|---|---|---:|---:|",
    ]  # fmt: skip
    for row in content["rows"]:
        met = {True: "met", False: "**missed**", None: ""}[row["met"]]
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.3g}"
        peer = "" if row["peer_value"] is None else f"{row['peer_value']:.4g}"
        ours = "-" if row["ours"] is None else f"{row['ours']:.4g}"
        cells = (row["what"], row["unit"], ours, row["goal"] or "", met, row["peer"] or "", peer, ratio)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, *_at_scale()])


def _at_scale() -> list[str]:
    """What `--scale` left, in two sentences."""
    if not SCALE.is_file():
        return []
    found = json.loads(SCALE.read_text())
    whole, cores = found["whole"], found["cores"]
    return [
        "",
        f"On {found['corpus']['bytes'] / 1e6:,.0f} MB (`{found['command']}`, commit `{found['commit']}`; [scale](scale.md)) the "
        f"whole run with {found['workers']} workers takes {whole['wall_s']:.0f} s by the wall and {whole['cpu_s']:.0f} "
        f"CPU-seconds, start included, and {whole['peak_mb']:,.0f} MB of memory of {whole['limit_mb']:,.0f} allowed. Two workers "
        f"are {cores['times']:.2f} times as fast as one there, start included (goal 1.8).",
    ]
