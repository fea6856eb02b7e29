"""Runs that somebody else's program trains (here: counts of word pairs), and the same runs replayed from their table."""

import json
from pathlib import Path

import numpy as np

from mixwright import Mixture, Run, Runs, Schedule
from mixwright.core.run import ModelSize
from mixwright.engine.local import LocalEngine
from mixwright.store.artifact import Workspace, write_json
from mixwright.store.runs import write_runs
from mixwright.store.tokens import write_tokens
from mixwright.train.sweep import sweep
from mixwright.train.trainers.command import Command
from mixwright.train.trainers.recorded import Recorded

PROGRAM = """
import json, os, yaml, numpy as np
from pathlib import Path

corpus, out, tokens = Path(os.environ["MIXWRIGHT_CORPUS"]), Path(os.environ["MIXWRIGHT_OUT"]), int(os.environ["MIXWRIGHT_TOKENS"])
(phase,) = yaml.safe_load((out / "recipe.yaml").read_text())["phases"]
pairs = np.full((16, 16), 0.1)
read = lambda part, domain: np.fromfile(corpus / part / domain / "000.bin", dtype=np.uint16).astype(int)
for part in range(1, 5):
    for domain, weight in phase["weights"].items():
        ids = np.resize(read("train", domain), round(weight * tokens / 4) + 1)
        np.add.at(pairs, (ids[:-1], ids[1:]), 1)
    chance = pairs / pairs.sum(1, keepdims=True)
    losses = {f"loss_{d}": -np.log(chance[v[:-1], v[1:]]).mean() for d in phase["weights"] for v in [read("val", d)]}
    with (out / "log.jsonl").open("a") as log:
        log.write(json.dumps({"tokens": tokens * part // 4, **losses}) + "\\n")
"""

workspace = Workspace(Path("work"))
Path("count.py").write_text(PROGRAM)
draft, draw, metrics = workspace.draft("tokenize", "made-up"), np.random.default_rng(0), {}
for step, domain in ((1, "web"), (3, "code")):
    for part, count in (("train", 40), ("val", 8)):
        documents = [
            np.r_[1 + np.cumsum(np.where(draw.random(99) < 0.3, draw.integers(0, 15, 99), step)) % 15, 0]
            for _ in range(count)
        ]
        write_tokens(draft.path / part / domain, documents, vocab=16, tokenizer="", end=0, text_bytes=300 * count)
    metrics[f"val:{domain}"] = {"path": f"val/{domain}", "tokens": 800, "bytes": 2400, "documents": 8}
write_json(draft.path / "metrics.json", metrics)
write_json(draft.path / "corpus.json", {"domains": [{"name": name, "tokens": 4000} for name in ("web", "code")]})
corpus = draft.seal(settings={}, inputs={})

trainer = Command("{python} count.py", "log.jsonl", names={"val:*": "loss_*"}, retries=1, time_limit=60.0)
runs = [
    Run(f"run-{n}", Schedule.constant(Mixture.of({"web": w, "code": 1 - w}), 2000), ModelSize(16, 1))
    for n, w in enumerate((0.1, 0.5, 0.9))
]
trained = sweep(runs, trainer, workspace=workspace, corpus=corpus, engine=LocalEngine(1))
for one in trained:
    assert one.observation.status == "done", one.observation.reason
    weights = one.run.schedule.mixture().to_dict()
    print(f"{one.run.run_id}: {weights} -> " + ", ".join(f"{m} {v:.3f}" for m, v in one.observation.losses.items()))

write_runs("runs.csv", Runs.from_observations(one.observation for one in trained))
replayed = sweep(runs, Recorded("runs.csv"), workspace=workspace, corpus=None, engine=LocalEngine(1, "threads"))
assert [dict(one.observation.losses) for one in replayed] == [dict(one.observation.losses) for one in trained]
print("The table gives the same losses, as if these runs were trained again.")
print(json.dumps({"checkpoints of run-0": [p["tokens"] for p in trained[0].artifact.json("trajectory.json")]}))
