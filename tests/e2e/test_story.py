"""The whole story on a small folder, as a user has it: run, again, edited, killed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from small_study import STUDY, Mixwright

pytest.importorskip("torch")


def losses(folder: Path) -> dict[str, Any]:
    """Every training loss of every run there is, by what was trained, to the last bit."""
    found = {}
    for run in sorted((folder / "work" / "runs").iterdir()):
        if (run / "manifest.json").is_file():
            observation = json.loads((run / "observation.json").read_text())
            facts = json.loads((run / "facts.json").read_text())
            found[run.name] = (observation["losses"], facts["train_losses"])
    return found


def answer(folder: Path) -> Any:
    return yaml.safe_load((folder / "recipe.yaml").read_text())


def test_a_study_from_text_to_page(study: Path, mixwright: Mixwright) -> None:
    plan = mixwright(study, "run", "--dry-run", "--json")
    assert {step["stage"]: step["done"] for step in json.loads(plan.stdout)}["sweep"] is False
    first = mixwright(study, "run")
    assert first.returncode == 0, first.stderr
    assert first.stdout.rstrip().splitlines()[-2:] == ["recipe: recipe.yaml", "report: report.html"]
    recipe = answer(study)
    weights = recipe["phases"][0]["weights"]
    assert sum(weights.values()) == pytest.approx(1)
    assert min(weights.values()) >= 0.05 - 1e-9
    assert weights["prose"] > 0.4, "the target is prose"
    assert recipe["tokens"] == 50000
    assert all({"params", "tokens"} <= set(forecast) for forecast in recipe["forecasts"])
    assert {row["mixture"] for row in recipe["verified"]} == {"natural", "uniform", "guess", "optimized"}
    assert (study / "recipe-final-phase.yaml").is_file()
    assert (study / "export" / "megatron").is_dir()
    assert (study / "export" / "hf").is_dir()
    table = (study / "runs.csv").read_text().splitlines()
    assert len(table) == 1 + 8 + 2

    begun = {p: p.stat().st_mtime_ns for p in (study / "work").rglob("manifest.json")}
    again = mixwright(study, "run", "--json")
    assert json.loads(again.stdout)["recipe"] == "recipe.yaml"
    assert begun == {p: p.stat().st_mtime_ns for p in (study / "work").rglob("manifest.json")}, "nothing is redone"
    assert all(step["done"] for step in json.loads(mixwright(study, "run", "--dry-run", "--json").stdout))

    # an edit says what it will redo, keeps the old artifacts and every run that is still wanted
    runs = losses(study)
    (study / "study.yaml").write_text(STUDY.replace("floors: 0.05", "floors: 0.1"))
    edited = mixwright(study, "run", "--dry-run")
    assert "design will be redone (objective.floors: 0.05 -> 0.1)" in edited.stdout
    assert "the old result stays in work/design/" in edited.stdout
    assert "tokenize" not in [line.split()[1] for line in edited.stdout.splitlines() if line.startswith("note")]
    assert mixwright(study, "run").returncode == 0
    assert min(answer(study)["phases"][0]["weights"].values()) >= 0.1 - 1e-9
    assert set(runs) <= set(losses(study))
    assert set(begun) <= set((study / "work").rglob("manifest.json"))

    alone = mixwright(study, "train", "--tokens", "2560", "--size", "16x1", "--json")
    assert alone.returncode == 0, alone.stderr
    trained = json.loads(alone.stdout)
    assert trained["losses"]["target:letters"] > 0
    assert (study / trained["artifact"] / "checkpoint-2560").is_dir()


def _kill_when(folder: Path, ready: Callable[[], bool]) -> None:
    """Start a run and kill -9 it as soon as ``ready`` says so."""
    process = subprocess.Popen(
        [sys.executable, "-m", "mixwright", "run", "--quiet"],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + 120
    while not ready():
        assert time.monotonic() < deadline, "the moment to kill never came"
        if process.poll() is not None:
            assert process.stderr is not None
            pytest.fail(f"the run ended before it could be killed: {process.stderr.read().decode()}")
        time.sleep(0.003)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.stderr is not None
    process.stderr.close()


def _partial(folder: Path, stage: str) -> Callable[[], bool]:
    return lambda: any((folder / "work" / stage).glob(".*.partial"))


def test_kill_9_in_every_stage_changes_nothing(study: Path, tmp_path_factory: Any, mixwright: Mixwright) -> None:
    calm = tmp_path_factory.mktemp("calm") / "study"
    shutil.copytree(study, calm)
    assert mixwright(calm, "run", "--quiet").returncode == 0

    def runs_done(count: int) -> Callable[[], bool]:
        return lambda: len(list((study / "work" / "runs").glob("[!.]*"))) >= count

    _kill_when(study, _partial(study, "curate"))
    _kill_when(study, _partial(study, "tokenize"))
    _kill_when(study, runs_done(3))
    finished = losses(study)
    stamps = {run: (study / "work" / "runs" / run / "manifest.json").stat().st_mtime_ns for run in finished}
    assert len(finished) >= 3
    _kill_when(study, lambda: _partial(study, "verify")() and runs_done(11)())
    _kill_when(study, _partial(study, "report"))
    assert mixwright(study, "run", "--quiet").returncode == 0

    assert losses(study) == losses(calm), "every training loss is the same to the last bit"
    for run, stamp in stamps.items():
        assert (study / "work" / "runs" / run / "manifest.json").stat().st_mtime_ns == stamp, (
            "a finished run was repeated"
        )
    ours, theirs = answer(study), answer(calm)
    assert ours["phases"] == theirs["phases"]
    assert ours["forecasts"] == theirs["forecasts"]
    assert ours["verified"] == theirs["verified"]


def test_a_second_process_is_told_who_is_at_work(study: Path, mixwright: Mixwright) -> None:
    process = subprocess.Popen([sys.executable, "-m", "mixwright", "run", "-q"], cwd=study, stdout=subprocess.DEVNULL)
    try:
        while not (study / "work" / ".lock").exists() or not (study / "work" / ".lock").read_text():
            time.sleep(0.01)
        second = mixwright(study, "curate")
        assert second.returncode == 2
        assert f"process {process.pid}" in second.stderr
    finally:
        process.kill()
        process.wait()


def test_control_c_stops_with_130_and_goes_on(study: Path, mixwright: Mixwright) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "mixwright", "sweep", "-q"],
        cwd=study,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not list((study / "work" / "runs").glob("[!.]*")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert "the same command goes on from there" in errors
    assert mixwright(study, "sweep", "-q").returncode == 0


def test_a_full_disk_is_a_sentence_and_costs_nothing(study: Path, mixwright: Mixwright) -> None:
    import resource

    def small_files() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    full = mixwright(study, "run", "-q", preexec_fn=small_files)
    assert full.returncode == 5, full.stderr
    assert "No space left" in full.stderr
    assert "Finished work is kept" in full.stderr
    assert mixwright(study, "tokenize", "-q").returncode == 0


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_really_full_disk(study: Path, tmp_path_factory: Any, mixwright: Mixwright) -> None:
    disk = tmp_path_factory.mktemp("disk")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        shutil.copytree(study / "data", disk / "data")
        shutil.copy(study / "study.yaml", disk)
        full = mixwright(disk, "run", "-q")
        assert full.returncode == 5, full.stderr
        assert "No space left" in full.stderr
        subprocess.run(["mount", "-o", "remount,size=50m", str(disk)], check=True)
        assert mixwright(disk, "sweep", "-q").returncode == 0
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)
