"""Bad tables on the command line: an exit code and one sentence, or a counted, reported exclusion; never a traceback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_study import Mixwright

HEAD = "run_id,weight/a,weight/b,weight/c,loss/m,loss/n\n"
ROWS = [
    f"r{n},{a:.2f},{b:.2f},{1 - a - b:.2f},{3 - a + 0.3 * b:.3f},{2 + 0.5 * a - 0.4 * b:.3f}"
    for n, (a, b) in enumerate([(0.1, 0.2), (0.5, 0.3), (0.8, 0.1), (0.3, 0.6), (0.2, 0.5), (0.6, 0.1), (0.4, 0.4)])
]


def fitted(folder: Path, mixwright: Mixwright, rows: list[str], *arguments: str) -> object:
    (folder / "runs.csv").write_text(HEAD + "".join(row + "\n" for row in rows))
    return mixwright(folder, "fit", "--runs", "runs.csv", *arguments)


def notes(folder: Path) -> str:
    return " ".join(json.loads(next((folder / "work" / "fit").glob("[!.]*/validation.json")).read_text())["notes"])


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("r7,0.30,0.20,0.20,2.5,2.1", ("r7", "0.7")),
        ("r7,0.60,0.60,-0.20,2.5,2.1", ("r7", "-0.2")),
        ("r1,0.30,0.20,0.50,2.5,2.1", ("r1",)),
    ],
)
def test_refused_with_one_sentence(tmp_path: Path, mixwright: Mixwright, row: str, says: tuple[str, ...]) -> None:
    done = fitted(tmp_path, mixwright, [*ROWS, row])
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]  # type: ignore[attr-defined]
    assert (done.returncode, len(errors)) == (3, 1), done.stderr  # type: ignore[attr-defined]
    assert all(word in errors[0] for word in says)


def test_nan_and_infinite_losses_are_counted_out(tmp_path: Path, mixwright: Mixwright) -> None:
    done = fitted(tmp_path, mixwright, [*ROWS, "r7,0.30,0.20,0.50,inf,2.1", "r8,0.30,0.30,0.40,nan,2.2"])
    assert done.returncode == 0, done.stderr  # type: ignore[attr-defined]
    assert "for an infinite loss: 1 run (r7)" in notes(tmp_path)
    assert "m is missing in 1 of" in notes(tmp_path)


def test_a_metric_that_never_changes(tmp_path: Path, mixwright: Mixwright) -> None:
    done = fitted(tmp_path, mixwright, [row.rpartition(",")[0] + ",2.0" for row in ROWS])
    assert done.returncode == 0, done.stderr  # type: ignore[attr-defined]
    done = mixwright(tmp_path, "optimize")
    assert done.returncode == 0, done.stderr


def test_fewer_runs_than_domains(tmp_path: Path, mixwright: Mixwright) -> None:
    done = fitted(tmp_path, mixwright, ROWS[:2])
    assert done.returncode == 0, done.stderr  # type: ignore[attr-defined]
    assert "too few to hold any out" in notes(tmp_path)
    done = mixwright(tmp_path, "optimize")
    assert done.returncode == 0, done.stderr
    assert "fewer runs (2) than domains (3)" in " ".join(done.stdout.split())
