"""What ``torchrun`` starts in the test of the ranks' engine: rank 0 sweeps, the others follow."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from mixwright.core.run import Run
from mixwright.engine.local import LocalEngine
from mixwright.store.artifact import Workspace, read_json
from mixwright.train.ranks_engine import follow, leading
from mixwright.train.sweep import sweep
from mixwright.train.trainers.builtin import Builtin

if __name__ == "__main__" and not follow():
    wanted = read_json(Path(sys.argv[1]))
    corpus = Workspace(Path(wanted["corpus"])).find("tokenize", "tiny")
    runs = [Run.from_dict(run) for run in wanted["runs"]]
    with leading(LocalEngine()) as engine:
        done = sweep(
            runs, Builtin(**wanted["options"]), workspace=Workspace(Path(wanted["work"])), corpus=corpus, engine=engine
        )
    print(json.dumps([dict(finished.observation.losses) for finished in done]))
