from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mixwright.core.recipe import Recipe
from mixwright.export.hf import Hf


def _plan(content: str) -> dict[str, object]:
    """The constants of the script, without running what needs the datasets library."""
    plan: dict[str, object] = {}
    exec(content[content.index("SEQ_LEN =") : content.index("def read_rows")], plan)
    return plan


def test_the_weights_read_back_are_the_recipes_to_the_last_bit(recipe: Recipe) -> None:
    content = Hf(seed=5).files(recipe, tokens_root="/tok", seq_len=50, batch=8)["hf_interleave.py"]
    compile(content, "hf_interleave.py", "exec")
    plan = _plan(content)
    assert (plan["SEQ_LEN"], plan["BATCH"], plan["SEED"], plan["TOKENS"]) == (50, 8, 5, "/tok")
    assert plan["DOMAINS"] == list(recipe.schedule.domains)
    assert plan["PHASES"] == [
        {"rows": rows, "weights": {name: weight for name, weight in phase.mixture.to_dict().items() if weight}}
        for rows, phase in zip((1600, 400), recipe.schedule.phases, strict=True)
    ]


def test_the_script_needs_nothing_of_mixwright(recipe: Recipe) -> None:
    content = Hf().files(recipe, tokens_root=None, seq_len=50, batch=8)["hf_interleave.py"]
    assert "import mixwright" not in content
    assert "from mixwright" not in content


def test_the_script_reads_every_shard(script: Path, sharded_root: Path) -> None:
    code = runpy.run_path(str(script), run_name="hf_interleave")
    rows = code["read_rows"](sharded_root, 0, "web").with_format("numpy")[:]["input_ids"]
    assert sorted(rows[:, 0].tolist()) == sorted(2 * [1 + 3 * n for n in range(600)])
    assert len(code["build"](sharded_root)[0]) == 2000


@pytest.fixture
def script(recipe: Recipe, tokens_root: Path, tmp_path: Path) -> Path:
    pytest.importorskip("datasets", reason="the datasets library is not installed")
    path = tmp_path / "hf_interleave.py"
    path.write_text(Hf().files(recipe, tokens_root=str(tokens_root), seq_len=50, batch=8)["hf_interleave.py"])
    return path


def test_the_script_draws_the_weights_and_repeats_no_row_within_an_epoch(script: Path, tokens_root: Path) -> None:
    code = runpy.run_path(str(script), run_name="hf_interleave")
    rows, drawn, epochs = code["build"](tokens_root)
    assert len(rows) == 2000
    for phase, counts in zip(code["PHASES"], drawn, strict=True):
        assert sum(counts.values()) == phase["rows"]
        for name, weight in phase["weights"].items():
            assert abs(counts[name] - weight * phase["rows"]) < 5 * np.sqrt(weight * (1 - weight) * phase["rows"])
    table = rows.with_format("numpy")[:]
    assert table["input_ids"].shape == (2000, 50)
    # rows of 50 tokens of documents of 100: the document's number and the row's half say which row it is
    first_ids = table["input_ids"].astype(int)
    which = np.stack([first_ids[:, 0], first_ids[:, -1]], axis=1)
    for number, name in enumerate(code["DOMAINS"]):
        mine = which[table["domain"] == number]
        count = {"web": 1200, "code": 600, "papers": 100}[name]
        assert epochs[name] == len(mine) / count
        for epoch in range(0, len(mine), count):
            block = mine[epoch : epoch + count]
            assert len(np.unique(block, axis=0)) == len(block)
    again, _, _ = code["build"](tokens_root)
    assert np.array_equal(again.with_format("numpy")[:]["input_ids"], table["input_ids"])


def test_the_command_saves_the_rows(script: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(script), "--out", str(tmp_path / "rows")], capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "phase 1: 1,600 rows of 50 tokens, 200 batches" in done.stdout
    from datasets import load_from_disk

    assert len(load_from_disk(str(tmp_path / "rows"))) == 2000
