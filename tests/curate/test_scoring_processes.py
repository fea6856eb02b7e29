"""Scoring within a whole curation: processes give the bytes of threads; a process killed at any moment costs a chunk."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from curation_for_tests import hashes
from models_for_tests import save

from mixwright.core.rng import rng
from mixwright.curate.pipeline import Bounds, Options, curate
from mixwright.curate.scoring import place, scored_entries, scoring_tasks
from mixwright.curate.shards import Shard
from mixwright.engine.local import LocalEngine
from mixwright.store.artifact import Workspace, file_hash
from mixwright.store.documents import SourceOptions, find_files
from mixwright.store.pieces import Piece

pytest.importorskip("transformers")

ROWS = [(f"What is mat {n}?", f"the cat sat on mat {n}. " * (1 + n % 6)) for n in range(30)]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return save(tmp_path_factory.mktemp("models") / "tiny")


def rows(path: Path, some: list[tuple[str, str]]) -> SourceOptions:
    path.write_text("".join(json.dumps({"q": q, "a": a}) + "\n" for q, a in some))
    return SourceOptions(path.name, prompt=("q",), response="a")


def test_processes_write_what_threads_write(tmp_path, model) -> None:
    sources = {
        "one": rows(tmp_path / "one.jsonl", ROWS[:20]),
        "two": rows(tmp_path / "two.jsonl", [*ROWS[15:], ("Why?", "")]),
    }
    options = Options(
        measure={
            "small": {"signal": "ifd", "model": str(model), "template": "plain"},
            "rifd": {"model": str(model), "template": "plain"},
        },
        rules={"vote": Bounds(max=2.0, columns=("small.ifd_loss", "rifd_loss"), at_least=1)},
        keep={"band": "p20(small.ifd_loss, all) <= small.ifd_loss <= p80(small.ifd_loss, all)"},
    )
    found = []
    for engine in (LocalEngine(1, "threads"), LocalEngine(2)):
        draft = Workspace(tmp_path / engine.kind).draft("curate", "key")
        summary = curate(sources, {}, options, base=tmp_path, draft=draft, engine=engine)
        found.append(hashes(draft.path))
        kept = [told["kept"]["documents"] for told in summary["sources"].values()]
        assert 0 < sum(kept) < len(ROWS)
        assert summary["votes"]["vote"]["votes"] == [0, 1, 35], "one row has no response, but its prompt can be guessed"
        measured = json.loads((draft.path / "measured.json").read_text())
        assert measured["scored"] == {"small": {"no token in the target": 1}, "rifd": {}}
    assert found[0] == found[1]
    values = pq.read_table(next((tmp_path / "threads").rglob("two/00000.small.parquet")))["small.ifd_loss"].to_numpy()
    assert np.isnan(values).tolist() == [False] * 15 + [True]


@pytest.mark.parametrize("kills", [1, pytest.param(8, marks=pytest.mark.long)])
def test_a_killed_process_costs_a_chunk(kills: int, tmp_path, model) -> None:
    path = tmp_path / "web.jsonl"
    path.write_text("".join(json.dumps({"text": f"{q} {a * 3}"}) + "\n" for q, a in ROWS * 3))
    given = SourceOptions(path.name)
    (file,), _ = find_files(given, tmp_path)
    shard = Shard("web", 0, 0, "web", False, given, (Piece(file, size=file.bytes),), (0,))
    options = Options(measure={"perplexity": {"model": str(model), "batch_tokens": 64}})
    (tmp_path / "prepared" / "perplexity").mkdir(parents=True)
    scored_entries(options)[0].signal().prepare(tmp_path, tmp_path / "prepared" / "perplexity")

    def task(name: str):
        return scoring_tasks(
            [shard], options, draft=tmp_path / name, prepared=tmp_path / "prepared", cache=tmp_path / name / "cache"
        )[0]

    task("whole").call(lambda *_, **__: None)
    code = (
        "import json, sys; from mixwright.curate import scoring; scoring._CHUNK = 0.0\n"
        "scoring.score_shard(lambda *_, **__: None, **json.load(sys.stdin))"
    )
    draw, runs = rng(0, "kills"), tmp_path / "killed" / "cache"
    for _ in range(kills):
        child = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, env=os.environ | {"OMP_NUM_THREADS": "1"}
        )
        assert child.stdin is not None
        child.stdin.write(json.dumps(dict(task("killed").arguments)).encode())
        child.stdin.close()
        before = len(list(runs.rglob("*.npy")))
        while child.poll() is None and len(list(runs.rglob("*.npy"))) <= before:
            time.sleep(0.002)
        time.sleep(float(draw.uniform(0, 0.02)))
        child.send_signal(signal.SIGKILL)
        child.wait()
        if place(tmp_path / "killed", shard, "perplexity").exists():
            break
    done = (
        task("killed").call(lambda *_, **__: None)
        if not place(tmp_path / "killed", shard, "perplexity").exists()
        else {}
    )
    assert done.get("known", 1) > 0, "what was scored before the kill is known"
    files = [place(tmp_path / name, shard, "perplexity") for name in ("whole", "killed")]
    assert file_hash(files[0]) == file_hash(files[1])
