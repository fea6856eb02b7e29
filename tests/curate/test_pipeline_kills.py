"""Curation that is killed again and again, in threads, processes and on Ray: the same bytes, little done twice."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from curation_for_tests import HERE, both, jsonl, run
from driver_for_tests import OPTIONS, SOURCES, TARGETS

from mixwright.core.rng import rng
from mixwright.store.artifact import Draft, Workspace

FOLDER = Path(__file__).parent


def texts(name: str, count: int) -> list[str]:
    """Texts of some 40 words, every fourth a copy of an earlier one with a word changed, some equal, some short."""
    draw = rng(0, name)
    made: list[str] = []
    for number in range(count):
        words = [f"w{n}" for n in draw.integers(0, 3000, 40)]
        if number % 4 == 3:
            words = made[int(draw.integers(0, len(made)))].split()
            words[len(words) // 2] = f"w{number}"
        made.append(" ".join(words[:3] if number % 17 == 0 else words))
        if number % 23 == 0:
            made[-1] = made[number // 2]
    return made


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many")
    jsonl(folder / "many.jsonl", texts("jsonl", 1200))
    with (folder / "many.jsonl").open("a") as stream:
        stream.write("not json\n" * 3)
    table = pa.table({"text": texts("parquet", 800), "url": [f"u{n}" for n in range(800)]})
    pq.write_table(table, folder / "many.parquet", row_group_size=90)
    jsonl(folder / "goal.jsonl", [*texts("goal", 20), texts("jsonl", 9)[5]])
    return folder


@pytest.fixture(scope="module")
def whole(base: Path) -> Draft:
    return run(base, SOURCES, TARGETS, OPTIONS, work="whole")[1]


def test_what_is_found_in_many_shards(base: Path, whole: Draft) -> None:
    summary = json.loads((whole.path / "summary.json").read_text())
    dropped = sum((Counter(row["dropped"]) for row in summary["sources"].values()), Counter())
    assert dropped["unreadable"] == 3
    assert min(dropped[rule] for rule in ("words", "exact_duplicate", "near_duplicate")) > 20
    assert summary["targets"]["goal"]["dropped"]["shares_8gram"] == 1
    shards = list((whole.path / ".work/written").glob("*.json"))
    assert len(shards) > 10
    kept, apart = (rows_of(whole.path / part) for part in ("documents", "targets"))
    lines = pq.read_table(whole.path / "ledger").to_pylist()
    near = [line for line in lines if "near_duplicate" in line["rules"]]
    assert all(line["duplicate_of"] in kept | apart and line["similarity"] >= 0.7 for line in near)
    assert len(kept) + sum(line["source"] != "goal" for line in lines) == 1200 + 3 + 800
    order = [row["source"] for row in pq.read_table(whole.path / "documents/both").to_pylist()]
    assert order == ["parquet"] * len(order)


def rows_of(folder: Path) -> set[str]:
    return set(pq.read_table(folder, columns=["id"], partitioning=None)["id"].to_pylist())


@pytest.mark.parametrize(("workers", "kind"), [(2, "threads"), (2, "processes")])
def test_workers_change_nothing(base: Path, whole: Draft, workers: int, kind: str) -> None:
    drive(base, f"{kind}{workers}", workers, kind).wait()
    assert both(draft(base, f"{kind}{workers}")) == both(whole)


def draft(base: Path, work: str) -> Draft:
    return Workspace(base / work).draft("curate", "key")


def drive(base: Path, work: str, workers: int, kind: str) -> "subprocess.Popen[bytes]":
    path = os.pathsep.join([str(FOLDER), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, str(FOLDER / "driver_for_tests.py"), str(base), work, str(workers), kind]
    return subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path})


def done(work: Path) -> dict[str, float]:
    """The shards that are measured or written to the end, and when that was."""
    markers = [*work.glob("measure/*/.work/shards/*/*.json"), *work.glob("curate/*/.work/written/*.json")]
    return {str(path.relative_to(work)): path.stat().st_mtime_ns for path in markers}


def lost(log: Path) -> list[int]:
    """The tasks of each run that began and did not end in it: these are done again. One that ended never begins again."""
    runs: list[set[str]] = []
    ended: set[str] = set()
    for line in log.read_text().splitlines():
        what, _, name = line.partition(" ")
        if what == "run":
            runs.append(set())
        elif what == "begin":
            assert name not in ended, f"{name} had ended and was done again"
            runs[-1].add(name)
        else:
            ended.add(name)
            runs[-1].remove(name)
    return [len(begun) for begun in runs]


def killed(base: Path, whole: Draft, kills: int, workers: int, kind: str) -> None:
    """Kill after ever more markers, at a random moment after them; what had a marker keeps it untouched, and what each kill
    costs is at most the task that each worker was at."""
    work, draw = f"killed-{kind}-{workers}-{kills}", random.Random(kills)
    total = len(done(whole.path.parent.parent))
    begun, ends = 0, 0
    for number in range(kills):
        process = drive(base, work, workers, kind)
        before, wanted = done(base / work), (number + 1) * total // (kills + 1)
        while process.poll() is None and len(done(base / work)) < wanted:
            time.sleep(0.002)
        time.sleep(draw.uniform(0, 0.02))
        process.send_signal(signal.SIGKILL)
        begun += process.wait() != 0
        after = done(base / work)
        assert before.items() <= after.items(), "a finished shard was done again"
        ends = len(after)
    assert begun == kills, "every run was killed before its end"
    assert ends < total
    assert drive(base, work, workers, kind).wait() == 0
    assert both(draft(base, work)) == both(whole)
    again = lost(base / f"{work}.log")
    assert kills // 2 < len(again) <= kills + 1, "few were killed before they had begun"
    assert max(again) <= workers
    assert sum(again) > 0 == again[-1], "some kills found a task at work"


def test_three_kills(base: Path, whole: Draft) -> None:
    killed(base, whole, 3, 2, "threads")


@pytest.mark.long
@pytest.mark.parametrize(("workers", "kind"), [(1, "threads"), (2, "threads"), (2, "processes")])
def test_thirty_kills(base: Path, whole: Draft, workers: int, kind: str) -> None:
    killed(base, whole, 30, workers, kind)


@pytest.fixture
def ray_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    ray = pytest.importorskip("ray")
    from mixwright.engine.ray import RayEngine

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(FOLDER), os.environ.get("PYTHONPATH", "")]))
    ray.shutdown()
    engine = RayEngine("local", 2, tmp_path)
    try:
        assert engine.slots == 2
        yield engine
    finally:
        ray.shutdown()


def test_a_ray_worker_that_is_killed_changes_nothing(base: Path, whole: Draft, ray_engine: Any) -> None:
    """Two workers; the Ray worker behind the first child that is at a shard is killed mid-run."""
    from mixwright.curate.pipeline import curate

    dead: list[int] = []

    def kill_one(name: str, fraction: float, facts: dict[str, Any]) -> None:
        children = ray_children() if not dead and name in SOURCES and 0 < fraction < 0.9 else []
        if children:
            dead.append(children[0])
            os.kill(children[0], signal.SIGKILL)

    measured = Workspace(base / "ray").draft("measure", "key")
    curate(
        SOURCES, TARGETS, OPTIONS, base=base, draft=draft(base, "ray"), engine=ray_engine, on_progress=kill_one,
        measured=measured,
    )  # fmt: skip
    assert dead, "no worker was killed"
    assert both(draft(base, "ray")) == both(whole)


def ray_children() -> list[int]:
    """The Ray workers of this machine that have a worker of ours as their child."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes()
            parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            above = Path(f"/proc/{parent}/cmdline").read_bytes()
        except (OSError, ValueError):
            continue
        if b"mixwright.engine.worker" in command and above.startswith(b"ray::"):
            found.append(parent)
    return found


def test_what_is_curated_here_is_what_the_driver_curates(base: Path, whole: Draft) -> None:
    _, again = run(base, SOURCES, TARGETS, OPTIONS, engine=HERE, work="again")
    assert both(again) == both(whole)
