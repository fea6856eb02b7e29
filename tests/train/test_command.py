"""The command trainer: small programs in place of big ones, in every form of metrics and every way to fail."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from mixwright.core.errors import StudyError
from mixwright.core.mixture import Mixture
from mixwright.core.observation import FAILED, Observation
from mixwright.core.run import ModelSize, Run
from mixwright.core.schedule import Schedule
from mixwright.engine.local import LocalEngine
from mixwright.store.artifact import Workspace
from mixwright.testing import check_trainer
from mixwright.train.sweep import sweep
from mixwright.train.trainers.command import Command, command_task, filled, mapped

PROGRAM = Path(__file__).with_name("program_for_tests.py")
FORMS = {"jsonl": "metrics.jsonl", "tensorboard": "tb", "mlflow": "mlruns"}


def program(form: str = "jsonl", behaviour: str = "fine", **settings) -> Command:
    words = ("{python}", PROGRAM.name, form, behaviour)
    return Command(words, FORMS[form], **settings).placed(PROGRAM.parent)


def wanted(weights: dict[str, float] | None = None, *, tokens: int = 8192, seed: int = 0) -> Run:
    mixture = Mixture.of(weights or {"a": 0.25, "b": 0.75})
    return Run("r", Schedule.constant(mixture, tokens), ModelSize(16, 1), seed)


def trained(command: Command, out: Path, run: Run | None = None, corpus: Path | None = None, keep=()) -> Observation:
    task = command.task(run or wanted(), corpus=corpus, out=out, checkpoints=keep)
    command_task(lambda *_, **__: None, **json.loads(json.dumps(task.arguments)))
    return Observation.from_dict(json.loads((out / "observation.json").read_text()))


def trajectory(out: Path) -> list:
    return json.loads((out / "trajectory.json").read_text())


@pytest.mark.parametrize("form", FORMS)
def test_last_values_are_the_losses_and_all_of_them_the_trajectory(form: str, tmp_path) -> None:
    found = trained(program(form), tmp_path)
    assert found.status == "done", found.reason
    assert dict(found.losses) == {"val:a": 2.25, "val:b": 2.75}
    assert (found.tokens, found.step) == (8192, 40)
    points = trajectory(tmp_path)
    assert [p["tokens"] for p in points] == [2048, 4096, 6144, 8192]
    assert points[0]["losses"] == {"val:a": 3.0, "val:b": 2.0}
    assert json.loads((tmp_path / "facts.json").read_text())["attempts"] == 1


@pytest.mark.parametrize("form", ["jsonl", "mlflow"])
def test_the_kit(form: str, tmp_path) -> None:
    check_trainer(program(form), tmp_path)


def test_the_program_reads_the_run_its_recipe_and_the_exporters_files(corpus, tmp_path) -> None:
    script = "import json, os, sys; v = {k: o for k, o in os.environ.items() if k.startswith('MIXWRIGHT_')}; " + (
        "json.dump([v, sys.argv[1:]], open(os.environ['MIXWRIGHT_OUT'] + '/told', 'w')); "
        "print(json.dumps({'val:a': 1}), file=open(os.environ['MIXWRIGHT_OUT'] + '/metrics.jsonl', 'w'))"
    )
    run = wanted({"a": 0.5, "b": 0.25, "c": 0.25}, tokens=64 * 128)
    words = ("{python}", "-c", script.replace("{", "{{").replace("}", "}}"), "{size}/{params}", "{{x}}", "{recipe}")
    command = Command(words, env={"MORE": "1"}, export="megatron", batch=2, seq_len=16)
    trained(command, tmp_path, run, corpus.path)
    told, arguments = json.loads((tmp_path / "program" / "told").read_text())
    recipe = yaml.safe_load((tmp_path / "program" / "recipe.yaml").read_text())
    assert arguments == [f"16x1/{run.size.params}", "{x}", told["MIXWRIGHT_RECIPE"]]
    assert recipe["phases"] == [{"tokens": 8192, "weights": {"a": 0.5, "b": 0.25, "c": 0.25}}]
    assert recipe["supply"]["a"] > 0
    assert Run.from_dict(json.loads((tmp_path / "program" / "run.json").read_text())) == run
    assert told["MIXWRIGHT_CORPUS"] == str(corpus.path.resolve())
    assert (told["MIXWRIGHT_BATCH"], told["MIXWRIGHT_PARENT"], told["MIXWRIGHT_SUBSAMPLE"]) == ("2", "", "1.0")
    assert any(str(corpus.path / "train") in file.read_text() for file in (tmp_path / "program").glob("*megatron*"))


def test_a_program_that_ends_badly_is_a_failed_run_with_its_last_words(tmp_path) -> None:
    found = trained(program(behaviour="crash"), tmp_path)
    assert found.status == FAILED
    assert "ended with code 3; program.log ends: loading data | ValueError: the disk is on fire" in found.reason
    assert "the disk is on fire" in (tmp_path / "program.log").read_text()


def test_retries_are_counted_and_the_last_one_counts(tmp_path) -> None:
    assert trained(program(behaviour="crash-once", retries=2), tmp_path / "a").status == "done"
    assert json.loads((tmp_path / "a" / "facts.json").read_text())["attempts"] == 2
    assert trained(program(behaviour="crash", retries=2), tmp_path / "b").status == FAILED
    assert (tmp_path / "b" / "program.log").read_text().count("$ ") == 3


def test_a_program_finds_its_folder_again(tmp_path) -> None:
    found = trained(program(behaviour="interrupted", retries=1), tmp_path)
    assert dict(found.losses) == {"val:a": 2.25, "val:b": 2.75}
    assert [p["tokens"] for p in trajectory(tmp_path)] == [2048, 4096, 6144, 8192]
    assert len((tmp_path / "program" / "metrics.jsonl").read_text().splitlines()) == 4


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ("silent", "its metrics cannot be used: there is no metrics.jsonl in"),
        ("nan", "its val:b is nan at the end"),
        ("no-checkpoint", "left no checkpoint-4096 in its folder"),
    ],
)
def test_what_cannot_be_used_is_a_failed_run(behaviour: str, reason: str, tmp_path) -> None:
    found = trained(program(behaviour=behaviour), tmp_path, keep=(4096,))
    assert found.status == FAILED
    assert reason in found.reason


def test_a_garbled_file_names_its_line(tmp_path) -> None:
    script = "import os; open(os.environ['MIXWRIGHT_OUT'] + '/metrics.jsonl', 'w').write('nonsense\\n')"
    found = trained(Command(("{python}", "-c", script)), tmp_path)
    assert "metrics.jsonl:1 is not JSON" in found.reason


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(pids: list[int]) -> bool:
    deadline = time.monotonic() + 5
    while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not any(alive(pid) for pid in pids)


def pids_in(out: Path) -> list[int]:
    deadline = time.monotonic() + 20
    while not (out / "program" / "child").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    return [int(pid) for pid in (out / "program" / "pids").read_text().split()]


@pytest.mark.skipif(sys.platform != "linux", reason="descendants in other sessions are found on Linux only")
def test_the_time_limit_stops_the_program_and_all_it_started(tmp_path) -> None:
    found = trained(program(behaviour="hang", time_limit=1.0), tmp_path)
    assert "stopped after 1 s, the time limit" in found.reason
    assert gone(pids_in(tmp_path))


def test_a_run_that_is_lost_is_stopped(tmp_path) -> None:
    found = trained(program(behaviour="lost"), tmp_path)
    assert "its program was stopped since its last 3 losses are not finite" in found.reason


@pytest.mark.skipif(sys.platform != "linux", reason="descendants in other sessions are found on Linux only")
def test_a_killed_worker_takes_the_program_with_it(tmp_path) -> None:
    task = program(behaviour="hang").task(wanted(), corpus=None, out=tmp_path)
    code = (
        "import json, sys; from mixwright.train.trainers.command import command_task\n"
        "command_task(lambda *a, **k: None, **json.loads(sys.argv[1]))"
    )
    worker = subprocess.Popen([sys.executable, "-c", code, json.dumps(task.arguments)])
    try:
        pids = pids_in(tmp_path)
        assert all(alive(pid) for pid in pids)
    finally:
        worker.kill()
        worker.wait()
    assert gone(pids)
    assert not (tmp_path / "observation.json").exists()


def test_units_become_nats_per_token(corpus, tmp_path) -> None:
    script = (
        "import json, os; m = {'eval/loss_a': 2.0, 'tokens': 4096}; "
        "open(os.environ['MIXWRIGHT_OUT'] + '/metrics.jsonl', 'w').write(json.dumps(m) + '\\n')"
    )
    known = json.loads((corpus.path / "metrics.json").read_text())["val:a"]
    bytes_per_token = known["bytes"] / known["tokens"]
    run = wanted({"a": 0.5, "b": 0.25, "c": 0.25})
    words = ("{python}", "-c", script.replace("{", "{{").replace("}", "}}"))
    for unit, nats in (
        ("nats/token", 2.0), ("bits/token", 2 * math.log(2)), ("perplexity", math.log(2)),
        ("bits/byte", 2 * math.log(2) * bytes_per_token),
    ):  # fmt: skip
        command = Command(words, names={"val:*": "eval/loss_*"}, units=unit)
        found = trained(command, tmp_path / unit.replace("/", "-"), run, corpus.path)
        assert found.losses["val:a"] == pytest.approx(nats)
        assert found.bpb["val:a"] == pytest.approx(nats / bytes_per_token / math.log(2))
        assert found.tokens == 4096
    alone = trained(Command(words, names={"val:*": "eval/loss_*"}, units="bits/byte"), tmp_path / "alone", run)
    assert "the corpus does not know its bytes per token" in alone.reason


def test_names_are_mapped_with_a_star_or_without() -> None:
    there = ["eval/loss_web", "eval/loss_code", "lr"]
    assert mapped({"val:*": "eval/loss_*"}, there) == {"eval/loss_web": "val:web", "eval/loss_code": "val:code"}
    assert mapped({"target:x": "lr"}, there) == {"lr": "target:x"}
    with pytest.raises(Exception, match="they have no 'eval/loss_wbe'; did you mean 'eval/loss_web'"):
        mapped({"val:web": "eval/loss_wbe"}, there)
    with pytest.raises(Exception, match=r"none of them is named as trainer\.names says \(val:\*\)"):
        mapped({"val:*": "val:*"}, there)


def test_a_command_that_cannot_be_right_is_refused_before_anything_runs(tmp_path) -> None:
    assert filled(["{a}-{{b}}"], {"a": "1"}) == ["1-{b}"]
    with pytest.raises(StudyError, match=r"\{tokns\}, which means nothing. Did you mean \{tokens\}\?"):
        Command("train --n {tokns}")
    with pytest.raises(StudyError, match="empty"):
        Command("  ")
    with pytest.raises(StudyError, match="cannot be split into words"):
        Command("train 'x")
    with pytest.raises(StudyError, match="one star on both sides"):
        Command("train", names={"val:*": "loss"})
    with pytest.raises(StudyError, match="begins with 'no-such-program', which is no program"):
        trained(Command("no-such-program {out}"), tmp_path)


def test_a_program_that_changes_is_another_trainer(tmp_path) -> None:
    (tmp_path / "train.py").write_text("one")
    command = Command("python train.py --batch 3").placed(tmp_path)
    before = command.identity()
    assert Command("python train.py --batch 3", retries=3, time_limit=9).placed(tmp_path).identity() == before
    assert Command("python train.py --batch 3", version="2").placed(tmp_path).identity() != before
    (tmp_path / "train.py").write_text("two")
    assert command.identity() != before


def test_only_metrics_checkpoints_and_log_are_kept_where_asked(tmp_path) -> None:
    trained(program(keep=False), tmp_path, keep=(4096,))
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("[!.]*") if path.is_file())
    assert left == [
        "checkpoint-4096/weights", "facts.json", "observation.json", "program.log", "program/metrics.jsonl",
        "program/recipe.yaml", "program/run.json", "trajectory.json",
    ]  # fmt: skip


def test_a_sweep_of_a_program_in_worker_processes(tmp_path) -> None:
    runs = [
        Run(name, Schedule.constant(Mixture.of({"a": w, "b": 1 - w}), 8192), ModelSize(16, 1))
        for name, w in (("x", 0.25), ("y", 0.5))
    ]
    heard: list[str] = []
    finished = sweep(
        runs, program(), workspace=Workspace(tmp_path / "work"), corpus=None, engine=LocalEngine(2),
        on_progress=lambda name, fraction, facts: heard.append(name),
    )  # fmt: skip
    assert [one.observation.losses["val:a"] for one in finished] == [2.25, 2.5]
    assert (finished[0].artifact.path / "program.log").is_file()
    assert set(heard) == {"x", "y"}
    assert not [name for name in os.listdir(finished[0].artifact.path) if name.startswith(".")]  # noqa: PTH208
