from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixwright.core.errors import StudyError
from mixwright.core.mixture import Mixture
from mixwright.core.objective import Objective
from mixwright.core.recipe import Recipe
from mixwright.core.schedule import Schedule
from mixwright.export.megatron import Megatron, read_blend, split

# a stand-in for torchrun: notes its arguments, "trains" to the next phase boundary or the end, or half-way
_FAKE = """\
#!/usr/bin/env bash
echo "$@" >> {log}
at=$(cat {saved} 2>/dev/null || echo 0)
if [ "$at" -lt 100 ]; then next=${{HALF:-200}}; elif [ "$at" -lt 200 ]; then next=200; else next=250; fi
echo "$next" > {saved}
"""


def test_the_weights_read_back_are_the_recipes_to_the_last_bit(recipe: Recipe) -> None:
    files = Megatron().files(recipe, tokens_root="/tok/", seq_len=50, batch=8)
    for number, phase in enumerate(recipe.schedule.phases, 1):
        read = read_blend(files[f"megatron-phase{number}.txt"])
        assert read == {name: weight for name, weight in phase.mixture.to_dict().items() if weight}
    assert files["megatron-phase2.txt"] == f"{2 / 3!r} /tok/train/code/000\n{1 / 3!r} /tok/train/papers/000\n"


def test_without_a_root_paths_are_relative(recipe: Recipe) -> None:
    files = Megatron().files(recipe, tokens_root=None, seq_len=50, batch=8)
    assert " train/web/000" in files["megatron-phase1.txt"]
    assert "Run it in the folder that holds train/" in files["megatron.sh"]


def test_white_space_in_a_path_is_refused() -> None:
    recipe = Recipe(Schedule.constant(Mixture.uniform(["a b", "c"]), 10_000), Objective())
    with pytest.raises(StudyError, match=r"'train/a b/000'. Rename the domain"):
        Megatron().files(recipe, tokens_root=None, seq_len=50, batch=8)


def _launch(folder: Path, files: dict[str, str], **environment: str) -> subprocess.CompletedProcess[str]:
    for name, content in files.items():
        (folder / name).write_text(content)
    checkpoints = folder / "checkpoints"
    checkpoints.mkdir(exist_ok=True)
    saved = checkpoints / "latest_checkpointed_iteration.txt"
    fake = folder / "fake.sh"
    fake.write_text(_FAKE.format(log=folder / "log", saved=saved))
    given = {
        "PATH": "/usr/bin:/bin",
        "MEGATRON": "/megatron",
        "CHECKPOINTS": str(checkpoints),
        "LAUNCH": f"bash {fake}",
    }
    return subprocess.run(
        ["bash", str(folder / "megatron.sh"), "--num-layers", "2"],
        env=given | environment, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip


def test_the_script_launches_each_phase_once_with_its_own_blend(recipe: Recipe, tmp_path: Path) -> None:
    files = Megatron(seed=7).files(recipe, tokens_root="/tok", seq_len=50, batch=8)
    done = _launch(tmp_path, files)
    assert done.returncode == 0, done.stderr
    first, second = (tmp_path / "log").read_text().splitlines()
    assert f"/megatron/pretrain_gpt.py --data-args-path {tmp_path}/megatron-phase1.txt" in first
    assert f"--data-args-path {tmp_path}/megatron-phase2.txt" in second
    for line in (first, second):
        assert "--seq-length 50 --global-batch-size 8 --train-samples 2000 --phase-transition-iterations 200" in line
        assert line.endswith("--num-layers 2")
    again = _launch(tmp_path, files)
    assert again.returncode == 0
    assert again.stdout.count("done before") == 2


def test_an_interrupted_first_phase_is_gone_on_with_its_own_blend(recipe: Recipe, tmp_path: Path) -> None:
    files = Megatron().files(recipe, tokens_root="/tok", seq_len=50, batch=8)
    stopped = _launch(tmp_path, files, HALF="120")
    assert stopped.returncode == 1
    assert "stopped at iteration 120 of 200" in stopped.stderr
    assert _launch(tmp_path, files).returncode == 0
    blends = [line.split("--data-args-path ")[1].split()[0] for line in (tmp_path / "log").read_text().splitlines()]
    assert [Path(blend).stem[-1] for blend in blends] == ["1", "1", "2"]


def test_one_phase_has_no_transition() -> None:
    recipe = Recipe(Schedule.constant(Mixture.uniform(["a", "c"]), 10_000), Objective())
    files = Megatron().files(recipe, tokens_root=None, seq_len=50, batch=8)
    assert sorted(files) == ["megatron-phase1.txt", "megatron.sh"]
    assert "--phase-transition-iterations" not in files["megatron.sh"]


def test_shards_of_a_domain_share_its_weight(recipe: Recipe, sharded_root: Path) -> None:
    files = Megatron().files(recipe, tokens_root=str(sharded_root), seq_len=50, batch=8)
    lines = [line.split() for line in files["megatron-phase1.txt"].splitlines()]
    assert [prefix.removeprefix(f"{sharded_root}/train/") for _, prefix in lines] == [
        "web/000", "web/001", "web/002", "code/000", "code/001", "code/002", "papers/000",
    ]  # fmt: skip
    web = [float(weight) for weight, prefix in lines if "/web/" in prefix]
    np.testing.assert_allclose(web, [0.61 * part / 60 for part in (25, 25, 10)], rtol=1e-12)
    for number, phase in enumerate(recipe.schedule.phases, 1):
        read = read_blend(files[f"megatron-phase{number}.txt"])
        assert read == {name: weight for name, weight in phase.mixture.to_dict().items() if weight}


@given(st.floats(1e-6, 1), st.lists(st.integers(1_000, 10**12), min_size=1, max_size=200))
def test_split_weights_add_up_to_the_last_bit(weight: float, tokens: list[int]) -> None:
    parts = split(weight, tokens)
    assert sum(parts) == weight
    np.testing.assert_allclose(parts, weight * np.array(tokens) / sum(tokens), rtol=1e-12, atol=weight * 1e-14)


@pytest.mark.parametrize("root", ["tokens_root", "sharded_root"])
def test_megatron_core_draws_the_weights(
    recipe: Recipe, root: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    tokens_root = request.getfixturevalue(root)
    pytest.importorskip("megatron.core.datasets.gpt_dataset", reason="megatron-core is not installed")
    import torch
    from megatron.core.datasets.blended_megatron_dataset_builder import BlendedMegatronDatasetBuilder
    from megatron.core.datasets.gpt_dataset import GPTDataset, GPTDatasetConfig
    from megatron.core.datasets.utils import get_blend_from_list

    files = Megatron().files(recipe, tokens_root=str(tokens_root), seq_len=50, batch=8)
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    tokenizer = type("Toy", (), {"eod": 0, "vocab_size": 4096, "unique_identifiers": {"class": "toy"}})()
    for number, (count, phase) in enumerate(zip((1600, 400), recipe.schedule.phases, strict=True), 1):
        blend = get_blend_from_list(files[f"megatron-phase{number}.txt"].split())
        config = GPTDatasetConfig(
            random_seed=1234, sequence_length=50, blend=blend,
            split="1,0,0", path_to_cache=str(tmp_path / "cache"), reset_position_ids=False, reset_attention_mask=False,
            eod_mask_loss=False, tokenizer=tokenizer,
        )  # fmt: skip
        train = BlendedMegatronDatasetBuilder(GPTDataset, [count, 0, 0], lambda: True, config).build()[0]
        counts = np.zeros(3)
        for n in range(count):
            ids = train[n]["tokens"].numpy()
            counts[int(ids[ids > 0][0] - 1) % 3] += 1
        assert np.abs(counts / count - phase.mixture.weights).max() < 0.01
    torch.distributed.destroy_process_group()
