"""The bench of kills: what it would notice, and a few real kills."""

import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.faults import __main__ as main
from benchmarks.faults import checks
from benchmarks.faults.checks import Counts, finished_runs
from benchmarks.faults.processes import descendants, left_behind, read
from benchmarks.faults.scenarios import SCENARIOS

from mixwright.store.artifact import Workspace, write_json


def sealed(work: Path, key: str, content: str) -> None:
    draft = Workspace(work).draft("runs", key)
    (draft.path / "observation.json").write_text(content)
    draft.seal(settings={}, inputs={})


def test_lost_and_retrained_runs_are_noticed(tmp_path: Path) -> None:
    for key in ("a", "b", "c"):
        sealed(tmp_path, key, key)
    before = finished_runs(tmp_path)
    counts = Counts()
    counts.compare_finished(before, tmp_path)
    assert (counts.lost, counts.trained_again, counts.sound) == (0, 0, True)
    shutil.rmtree(tmp_path / "runs" / "a")
    shutil.rmtree(tmp_path / "runs" / "b")
    sealed(tmp_path, "b", "b")  # the same bytes, but made again
    counts.compare_finished(before, tmp_path)
    assert (counts.lost, counts.trained_again, counts.sound) == (1, 1, False)


def test_windows_drawn_twice_left_out_or_in_another_step_are_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tokenize" / "t").mkdir(parents=True)
    write_json(tmp_path / "tokenize" / "t" / "manifest.json", {})
    sealed(tmp_path, "a", "a")
    planned = {1: Counter([(0, 0, 5), (1, 0, 2)]), 2: Counter([(0, 0, 6), (1, 0, 3)])}
    monkeypatch.setattr(checks, "planned_windows", lambda *_: planned)

    def wrong(drawn: checks.Windows) -> int:
        monkeypatch.setattr(checks, "logged_windows", lambda _: drawn)
        counts = Counts()
        counts.compare_windows(tmp_path)
        assert counts.windows == 4
        return counts.wrong_windows

    assert wrong(planned) == 0
    assert wrong({1: planned[1]}) == 2
    assert wrong({1: planned[1] + planned[1], 2: planned[2]}) == 2
    assert wrong({1: planned[2], 2: planned[1]}) == 8


def test_a_family_of_processes_and_what_stays_of_it() -> None:
    code = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 20
    while not (family := descendants(process.pid)):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    own = read(process.pid)
    assert own is not None
    assert own.parent == os.getpid()
    own.kill()
    process.wait()
    assert not own.alive
    assert left_behind(family, 0.2) == family, "nobody ended the child"
    assert left_behind(family, 5.0) == [], "but it was killed then"


def test_the_table_has_a_row_a_scenario_and_their_sum() -> None:
    found = {scenario.name: Counts(kills=n + 1, windows=1000) for n, scenario in enumerate(SCENARIOS)}
    rows = main.table(found).splitlines()
    assert len(rows) == 2 + len(SCENARIOS) + 1
    assert rows[-1].startswith(f"| all | {sum(range(1, len(SCENARIOS) + 1))} | 0 | 0 | 0 | {len(SCENARIOS)},000 |")
    assert sum(scenario.share for scenario in SCENARIOS) == pytest.approx(1)


@pytest.mark.parametrize("kills", [0, 1, 8, 50])
def test_all_kills_are_given_out(kills: int) -> None:
    given = [mine for _, mine in main.shares(kills)]
    assert sum(given) == kills
    assert min(given) >= 0
    assert kills < 8 or min(given) >= 1, "every command is killed"


def _killed(only: list[str], kills: int, seed: int) -> None:
    pytest.importorskip("torch")
    found = main.measure(only, kills, seed)
    assert set(found) == set(only)
    for name, counts in found.items():
        assert counts.sound, f"{name}: {counts}"
        assert counts.kills > 0
        assert counts.results > 0


def test_one_kill_while_tokenizing() -> None:
    _killed(["tokenize"], 5, 1)


@pytest.mark.long
def test_a_few_kills_of_each_command() -> None:
    pytest.importorskip("ray")
    _killed([scenario.name for scenario in SCENARIOS], 8, 1)
