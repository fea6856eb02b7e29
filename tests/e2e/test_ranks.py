"""``torchrun -m mixwright train`` in a study's folder, killed on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from mixwright.core.mixture import Mixture
from mixwright.core.objective import Objective
from mixwright.core.recipe import Recipe
from mixwright.core.schedule import Schedule

TRAIN = ("-m", "mixwright", "train", "--recipe", "recipe.yaml", "--size", "20K", "--json")


def torchrun(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *TRAIN]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


@pytest.mark.long
def test_two_ranks_train_a_recipe_and_go_on_when_killed(study: Path) -> None:
    settings = (study / "study.yaml").read_text().replace("seq_len: 32", "checkpoint_seconds: 0.05, seq_len: 32")
    (study / "study.yaml").write_text(settings)
    recipe = Recipe(Schedule.constant(Mixture.uniform(("code", "prose", "maths")), 40_960), Objective())
    (study / "recipe.yaml").write_text(yaml.safe_dump(recipe.to_dict(), sort_keys=False))
    killed = torchrun(study)
    deadline = time.monotonic() + 200
    while not list(study.glob("work/runs/.*.partial/.resume/00*")) and time.monotonic() < deadline:
        assert killed.poll() is None, killed.communicate()[1][-3000:]
        time.sleep(0.05)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()

    done = torchrun(study)
    said, errors = done.communicate(timeout=200)
    assert done.returncode == 0, errors[-3000:]
    (line,) = said.strip().splitlines()  # rank 0 alone speaks
    result = json.loads(line)
    facts = json.loads((study / result["artifact"] / "facts.json").read_text())
    assert facts["compute"]["ranks"] == 2
    assert [step for step, _ in facts["train_losses"]] == list(range(1, 321))

    alone = subprocess.run(
        [sys.executable, *TRAIN, "--tokens", "40960"], cwd=study, env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=200, check=True,
    )  # fmt: skip
    assert json.loads(alone.stdout)["artifact"] == result["artifact"]  # one run, however it was computed
