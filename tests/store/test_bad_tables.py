"""Bad tables of runs: each is read with a counted remark, or refused in one clear sentence."""

from __future__ import annotations

import csv
import time
import tracemalloc
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixwright.core.errors import DataError
from mixwright.core.observation import Runs
from mixwright.store.runs import read_runs, write_runs
from mixwright.store.tables import guarded

HEADER = "run_id,weight/x,weight/y,loss/m,loss/n"
ROWS = ["a,0.25,0.75,3,2", "b,0.5,0.5,4,2.5", "c,1,0,5,2.2"]


def written(tmp_path: Path, lines: list[str] | str, name: str = "t.csv", encoding: str = "utf-8") -> Path:
    text = lines if isinstance(lines, str) else "\n".join(lines) + "\n"
    (tmp_path / name).write_bytes(text.encode(encoding))
    return tmp_path / name


def plain(tmp_path: Path) -> Runs:
    return read_runs(written(tmp_path, [HEADER, *ROWS], "plain.csv")).runs


def same(first: Runs, second: Runs) -> None:
    assert (first.domains, first.metrics, first.run_id) == (second.domains, second.metrics, second.run_id)
    np.testing.assert_array_equal(first.weights, second.weights)
    np.testing.assert_array_equal(first.losses, second.losses)


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("\n".join([HEADER, *ROWS]), "utf-8-sig"),
        ("\r\n".join([HEADER, *ROWS, ""]), "utf-8"),
        ("\ufeff" + "\r\n".join([f'"{HEADER.replace(",", chr(34) + "," + chr(34))}"', *ROWS, "", ""]), "utf-8"),
        ("\n".join([HEADER, ROWS[0], "", *ROWS[1:], "", ",,,,", ""]), "utf-8"),
        ("\n".join([HEADER.replace(",", " , "), *(row.replace(",", " , ") for row in ROWS)]), "utf-8"),
        ("\n".join([HEADER + ",,", *(row + ",," for row in ROWS)]), "utf-8"),
        ("\n".join([HEADER.replace(",", ";"), *(row.replace(",", ";").replace(".", ",") for row in ROWS)]), "utf-8"),
        ("\n".join([HEADER.replace(",", ";"), *(row.replace(",", ";") for row in ROWS)]), "utf-8"),
        ("\n".join([HEADER.replace(",", "\t"), *(row.replace(",", "\t") for row in ROWS)]), "utf-8"),
    ],
    ids=["bom", "crlf", "bom-quotes-crlf", "blank", "spaces", "unnamed", "semicolon-comma", "semicolon", "tabs"],
)
def test_what_spreadsheets_write_is_read(tmp_path: Path, text: str, encoding: str) -> None:
    read = read_runs(written(tmp_path, text, encoding=encoding))
    same(read.runs, plain(tmp_path))
    assert read.notes == ()


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([HEADER, *ROWS, "a,0.5,0.5,1,1"], r"the run id a stands more than once \(2 such rows in all\)"),
        ([HEADER, *ROWS, "d,0.5,0.2,1,1"], r"weights of run d sum to 0\.7, not to 1"),
        ([HEADER, *ROWS, "d,1.5,-0.5,1,1"], r"not negative; run d has -0\.5 in weight/y"),
        ([HEADER, *ROWS, "d,0.5,0.5,about 3,1"], r"loss/m must be a number; run d has 'about 3'. Correct the cell"),
        ([HEADER, *ROWS, "d,50%,50%,3,1"], r"weight/x must be a number; run d has '50%'"),
        ([HEADER, *ROWS, ",0.5,0.5,3,1"], r"row 4 has no run_id. Give every run an id"),
        ([HEADER + ",loss/m", *(row + ",1" for row in ROWS)], r"has loss/m more than once in its header"),
        ([HEADER + ",", *(row + ",1" for row in ROWS)], r"column 6 holds values but has no name"),
        ([HEADER, *ROWS, "d,0.5,0.5,3,1,9,9"], r"cannot be read as csv"),
        ([HEADER], "holds no runs"),
        (" \n\n", "holds no runs|cannot be read"),
        ("", "is empty; a table of runs has a header"),
    ],
)
def test_what_cannot_be_meant_is_one_clear_sentence(tmp_path: Path, lines: list[str] | str, words: str) -> None:
    path = written(tmp_path, lines)
    with pytest.raises(DataError, match=words) as raised:
        read_runs(path)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_utf16_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is UTF-16 text, as spreadsheets write it; save it as UTF-8"):
        read_runs(written(tmp_path, [HEADER, *ROWS], encoding="utf-16"))


def test_what_limits_every_law_is_said(tmp_path: Path) -> None:
    read = read_runs(written(tmp_path, [HEADER, "a,0.25,0.75,3,2", "b,0.5,0.5,3,2.5"]))
    assert read.notes == ("The same loss in every run, so it tells mixtures not apart: m.",)
    few = ["run_id,weight/x,weight/y,weight/z,loss/m", "a,1,0,0,1", "b,0,1,0,2"]
    assert "2 different mixtures are fewer than the 3 domains" in read_runs(written(tmp_path, few)).notes[0]
    equal = [HEADER, "a,0.5,0.5,3,2", "b,0.5,0.5,3.1,2.5"]
    assert read_runs(written(tmp_path, equal)).notes == (
        "2 runs of one and the same mixture: nothing tells what another one would do.",
    )
    failed = [HEADER + ",status", "a,0.5,0.5,3,2,failed"]
    assert "No run of the table is done" in read_runs(written(tmp_path, failed)).notes[-1]


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_an_exact_copy_of_a_run_is_counted_once(tmp_path: Path, ending: str) -> None:
    columns = {
        "run_id": list("abcdef"), "seed": [0, 0, 1, 0, 0, 0], "weight/x": [0.5] * 5 + [0.2], "weight/y": [0.5] * 5 + [0.8],
        "loss/m": [3.0, 3.0, 3.0, 3.1, 3.0, 3.0], "loss/n": [2.0, 2.0, 2.0, 2.0, None, 2.0],
    }  # fmt: skip
    frame = pl.DataFrame(columns)
    path = tmp_path / f"t.{ending}"
    frame.write_csv(path) if ending == "csv" else frame.write_parquet(path)
    read = read_runs(path)
    assert read.runs.run_id == ("a", "c", "d", "e", "f")
    backwards = read.runs.take(range(4, -1, -1)).without_copies()[0]
    assert backwards.run_id == ("f", "e", "d", "c", "a")
    assert read.notes[0] == "n is missing in 1 of 6 runs: e."
    assert read.notes[1] == "Counted once: 1 exact copy of other runs, with the same mixture, seed and losses (b of a)."


def test_failed_runs_and_runs_without_losses_are_no_copies() -> None:
    nan = np.full((3, 1), np.nan)
    runs = Runs(("x",), ("m",), ("a", "b", "c"), np.ones((3, 1)), nan)
    assert runs.without_copies() == (runs, "")
    failed = Runs(
        ("x",), ("m",), ("a", "b", "c"), np.ones((3, 1)), np.ones((3, 1)), status=("failed", "failed", "done")
    )
    assert len(failed.without_copies()[0]) == 3


NAMES = [
    "=SUM(A1)",
    "+1",
    "-a",
    "@x",
    "a/b",
    "  two words",
    'quo"ted',
    "semi;colon,comma",
    "ünïcode 漢字",
    "line\nbreak",
    "'=x",
    "''-y",
    "'z",
]


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet", "jsonl"])
def test_names_like_formulas_survive_and_never_start_a_cell(tmp_path: Path, ending: str) -> None:
    names = tuple(name.strip() if ending in ("csv", "tsv") else name for name in NAMES)
    count = len(names)
    draw = np.random.default_rng(0)
    runs = Runs(
        names, (*(f"val:{name}" for name in names[:-1]), "=HYPERLINK(1)"), tuple(name.strip() for name in NAMES),
        draw.dirichlet(np.ones(count), count), -draw.normal(3, 1, (count, count)), role=("=1+1",) * count,
    )  # fmt: skip
    path = tmp_path / f"t.{ending}"
    write_runs(path, runs)
    read = read_runs(path).runs
    same(read, runs)
    assert read.role == runs.role
    if ending in ("csv", "tsv"):
        with path.open(encoding="utf-8", newline="") as stream:
            cells = [cell for row in csv.reader(stream, delimiter="\t" if ending == "tsv" else ",") for cell in row]
        texts = [cell for cell in cells if not _number(cell)]
        assert len(texts) > 3 * count
        assert not [cell for cell in texts if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]


def _number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


@given(st.lists(st.text(alphabet="'=+-@\ta ", min_size=1), min_size=1))
@settings(max_examples=100, deadline=None)
def test_guarding_text_can_be_undone(texts: list[str]) -> None:
    from mixwright.store.tables import named

    cells = guarded(pl.Series("role", texts))
    assert not [cell for cell in cells if cell[0] in "=+-@\t"]
    assert named(pl.DataFrame({"role": cells}), {}, Path("t.csv"))["role"].to_list() == texts


def test_own_domains_and_tokens_from_steps(tmp_path: Path) -> None:
    path = written(tmp_path, [HEADER + ",step,tokens", "a,0.25,0.75,3,2,10,", "b,0.5,0.5,4,2.5,20,777"])
    read = read_runs(path, own={"m": "x", "n": ["x", "y"]}, tokens_per_step=512)
    assert read.runs.own == {"m": ("x",), "n": ("x", "y")}
    assert read.runs.tokens.tolist() == [5120, 777]
    assert read.notes == ("Tokens are steps of 512 tokens in 1 row.",)
    with pytest.raises(DataError, match=r"domain 'z', which the table does not have.* It has: x, y"):
        read_runs(path, own={"m": "z"})
    with pytest.raises(DataError, match="no column step, so tokens cannot be counted"):
        read_runs(written(tmp_path, [HEADER, *ROWS]), tokens_per_step=512)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_hundred_thousand_rows_take_seconds_and_little_memory(tmp_path: Path, ending: str) -> None:
    count, draw = 100_000, np.random.default_rng(0)
    frame = pl.DataFrame(
        {
            "run_id": [f"r{n}" for n in range(count)],
            **{f"weight/{d}": w for d, w in enumerate(draw.dirichlet(np.ones(5), count).T)},
            **{f"loss/{m}": y for m, y in enumerate(draw.normal(3, 0.1, (4, count)))},
        }
    )
    path = tmp_path / f"t.{ending}"
    frame.write_csv(path) if ending == "csv" else frame.write_parquet(path)
    started = time.process_time()
    tracemalloc.start()
    read = read_runs(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(read.runs) == count
    assert time.process_time() - started < 15
    assert peak < 400e6
