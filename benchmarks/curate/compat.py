"""How often each rule of the preset ``datatrove`` decides as datatrove itself: `python -m benchmarks.curate --compat`."""

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from benchmarks.curate.environments import python

from mixwright.core.rng import rng
from mixwright.curate.expressions import holds
from mixwright.curate.rules import Options
from mixwright.curate.signals.datatrove import Datatrove
from mixwright.curate.texts import Texts

#: documents of each kind of text
EACH, GOAL = 500, 0.995


def sample(corpus: Path, path: Path, seed: int) -> pa.Table:
    """As many documents of each kind, of the whole corpus, drawn without the planted ones."""
    table = pq.read_table(corpus)
    ids, kinds = np.array(table["id"].to_pylist()), np.array(table["kind"].to_pylist())
    draw, chosen = rng(seed, "compat"), []
    for kind in sorted(set(kinds.tolist())):
        members = np.flatnonzero((kinds == kind) & (np.char.find(ids, "~") < 0))
        chosen += draw.choice(members, min(EACH, len(members)), replace=False).tolist()
    found = table.take(pa.array(sorted(chosen)))
    pq.write_table(found, path)
    return found


def compare(corpus: Path, folder: Path, seed: int = 7) -> dict[str, Any]:
    """Agreement per rule on the sample, and which documents differ; both sides' CPU-seconds are not compared."""
    path, answers = folder / "compat.parquet", folder / "compat.json"
    table = sample(corpus, path, seed)
    script = Path(__file__).parent / "peers" / "datatrove_rules.py"
    subprocess.run([python("datatrove"), script, path, answers], check=True)
    theirs = json.loads(answers.read_text())
    texts = Texts(table["text"].combine_chunks())
    began = time.process_time()
    columns = Datatrove().measure(texts)
    took = time.process_time() - began
    rules = Options(presets=("datatrove",)).ruleset()
    out: dict[str, Any] = {"documents": len(texts), "mb_per_cpu_s": float(texts.bytes.sum()) / 1e6 / took, "rules": {}}
    ids = table["id"].to_pylist()
    for name, rule in rules.items():
        ours = np.broadcast_to(np.asarray(holds(rule.keep, columns)), len(texts))
        told = theirs[name.partition(".")[2]]
        known = [at for at, answer in enumerate(told) if answer is not None]
        differ = [at for at in known if bool(ours[at]) != told[at]]
        out["rules"][name] = {
            "agreement": 1 - len(differ) / max(1, len(known)),
            "dropped_there": sum(told[at] is False for at in known), "dropped_here": int((~ours).sum()),
            "differ": [ids[at] for at in differ],
        }  # fmt: skip
    return out


def said(found: dict[str, Any]) -> str:
    """The table on the screen."""
    lines = [f"{found['documents']} documents, {found['mb_per_cpu_s']:.2f} MB per CPU-second of ours",
             f"{'rule':42} {'agreement':>9} {'dropped there':>14} {'here':>6}"]  # fmt: skip
    for name, rule in found["rules"].items():
        mark = "" if rule["agreement"] >= GOAL else "  BELOW THE GOAL"
        lines.append(
            f"{name:42} {rule['agreement']:9.2%} {rule['dropped_there']:14} {rule['dropped_here']:6}{mark}"
            + "".join(f"\n    differs: {ident}" for ident in rule["differ"][:5])
        )
    return "\n".join(lines)
