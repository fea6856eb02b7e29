from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from mixwright.engine.local import LocalEngine
from mixwright.store.artifact import Workspace
from mixwright.train import ranks_engine
from mixwright.train.sweep import sweep
from mixwright.train.trainers.builtin import Builtin

OPTIONS = Builtin(seq_len=16, batch=2, eval_tokens=128, trajectory_evals=0, population="off")


def torchrun(plan: Path, ranks: int = 2) -> subprocess.CompletedProcess[str]:
    script = Path(__file__).with_name("leading_for_tests.py")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    return subprocess.run(
        [*command, str(script), str(plan)], env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_rank_0_sweeps_and_speaks_and_all_ranks_train(corpus, make_run, workspace, tmp_path) -> None:
    runs = [make_run("first"), make_run("second", (0.1, 0.1, 0.8))]
    plan = tmp_path / "plan.json"
    wanted = {"corpus": str(corpus.path.parent.parent), "work": str(workspace.root), "options": asdict(OPTIONS)}
    plan.write_text(json.dumps({**wanted, "runs": [run.to_dict() for run in runs]}))
    done = torchrun(plan)
    assert done.returncode == 0, done.stderr[-6000:]
    (said,) = done.stdout.strip().splitlines()
    artifacts = workspace.all("runs")
    assert [a.json("facts.json")["compute"]["ranks"] for a in artifacts] == [2, 2]
    alone = sweep(
        runs, OPTIONS, workspace=Workspace(tmp_path / "alone"), corpus=corpus, engine=LocalEngine(1, kind="threads")
    )
    for here, there in zip(alone, json.loads(said), strict=True):
        assert there == pytest.approx(dict(here.observation.losses), abs=2e-5)
    again = torchrun(plan)  # everything is found: nobody waits for a task
    assert (again.returncode, again.stdout) == (0, done.stdout)


def test_a_process_alone_neither_follows_nor_changes_its_engine(monkeypatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    engine = LocalEngine(1)
    assert not ranks_engine.follow()
    with ranks_engine.leading(engine) as same:
        assert same is engine
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    assert ranks_engine.launched()
    assert not ranks_engine.follow()
