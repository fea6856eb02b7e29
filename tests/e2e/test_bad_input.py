"""Bad input of every kind: one clear sentence, an exit code that means something, nothing lost, no traceback."""

import json
from pathlib import Path

import polars as pl
import pytest
from small_study import STUDY, Mixwright, documents, write_jsonl

pytest.importorskip("torch")


def refused(done: "object", code: int, *says: str) -> None:
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]  # type: ignore[attr-defined]
    assert done.returncode == code, done.stderr  # type: ignore[attr-defined]
    assert len(errors) == 1, done.stderr  # type: ignore[attr-defined]
    for word in says:
        assert word in errors[0]


def ledger(folder: Path) -> pl.DataFrame:
    found = list((folder / "work" / "curate").glob("[!.]*/ledger"))
    return pl.read_parquet(found[0] / "*.parquet")


def test_an_empty_folder(study: Path, mixwright: Mixwright) -> None:
    (study / "nothing").mkdir()
    refused(mixwright(study, "init", "nothing", "--study", "new.yaml"), 3, "nothing", ".jsonl")
    refused(mixwright(study, "init", "no-such-folder", "--study", "new.yaml"), 3, "no-such-folder is not a folder")
    (study / "study.yaml").write_text(STUDY.replace("data/code.jsonl", "nothing"))
    refused(mixwright(study, "run"), 3, "nothing is empty")


def test_init_never_overwrites(study: Path, mixwright: Mixwright) -> None:
    refused(mixwright(study, "init", "data"), 2, "study.yaml exists already")
    assert (study / "study.yaml").read_text() == STUDY


def test_init_finds_fields_and_targets(study: Path, mixwright: Mixwright) -> None:
    (study / "data" / "notes").mkdir()
    (study / "data" / "notes" / "one.txt").write_text("A note.\n" * 50)
    rows = [{"id": str(n), "content": text} for n, text in enumerate(documents("prose", 5, 1))]
    (study / "data" / "web.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pl.DataFrame({"url": ["a"], "long": ["word " * 30]}).write_parquet(study / "data" / "table.parquet")
    (study / "data" / "rust").mkdir()
    (study / "data" / "rust" / "main.rs").write_text('fn main() { println!("é"); }\n' * 20)
    (study / "data" / "pictures").mkdir()
    (study / "data" / "pictures" / "a.png").write_bytes(b"\x89PNG\0\0" * 20)
    assert mixwright(study, "init", "data", "--study", "new.yaml").returncode == 0
    assert "Passed over, since nothing in it is read here: pictures" in (study / "new.yaml").read_text()
    from mixwright.study.config import read_study

    made = read_study(study / "new.yaml")
    assert set(made.sources) == {"code", "prose", "maths", "notes", "web", "table", "rust"}
    assert made.sources["web"].text == "content"
    assert made.sources["table"].text == "long"
    assert set(made.targets) == {"letters"}


def test_bad_rows_go_to_the_ledger_with_their_line(study: Path, mixwright: Mixwright) -> None:
    good = documents("code", 60, 7)
    lines = [json.dumps({"text": text}).encode() for text in good]
    lines[10] = b'{"text": "cut off'
    lines[20] = b'{"body": "no text field"}'
    lines[30] = b'{"text": "\xff\xfe is not UTF-8 but long enough to pass every other rule there is"}'
    (study / "data" / "code.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    done = mixwright(study, "curate", "--json")
    assert done.returncode == 0, done.stderr
    rows = ledger(study).filter(pl.col("rules").list.contains("unreadable")).sort("row")
    assert rows["row"].to_list() == [11, 21, 31]
    assert rows["source"].to_list() == ["code"] * 3
    assert json.loads(done.stdout)["kept"]["code"] == 57


def test_a_file_that_is_not_utf8(study: Path, mixwright: Mixwright) -> None:
    (study / "data" / "code.jsonl").unlink()
    (study / "data" / "latin.txt").write_bytes("caf\xe9 ".encode("latin-1") * 100)
    (study / "study.yaml").write_text(STUDY.replace("data/code.jsonl", "data/latin.txt"))
    done = mixwright(study, "tokenize")
    refused(done, 3, "code")
    assert ledger(study).filter(pl.col("source") == "code")["rules"].to_list() == [["unreadable"]]


def test_a_truncated_zst_keeps_what_can_be_read(study: Path, mixwright: Mixwright) -> None:
    zstandard = pytest.importorskip("zstandard")
    texts = "".join(json.dumps({"text": text}) + "\n" for text in documents("code", 4000, 3)).encode()
    whole = zstandard.ZstdCompressor().compress(texts)
    (study / "data" / "code.jsonl.zst").write_bytes(whole[: len(whole) * 3 // 4])
    (study / "study.yaml").write_text(STUDY.replace("data/code.jsonl", "data/code.jsonl.zst"))
    done = mixwright(study, "curate", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["kept"]["code"] > 500
    lost = ledger(study).filter(pl.col("rules").list.contains("unreadable"))
    assert len(lost) == 1
    assert "truncated" in lost["detail"][0] or "ends" in lost["detail"][0]


def test_a_domain_too_small_for_one_window(study: Path, mixwright: Mixwright) -> None:
    write_jsonl(study / "data" / "maths.jsonl", ["short but longer than fifty characters, so that it is kept."])
    refused(mixwright(study, "tokenize"), 3, "maths", "window")


def test_a_study_with_a_slip(study: Path, mixwright: Mixwright) -> None:
    (study / "study.yaml").write_text(STUDY.replace("floors:", "flors:"))
    done = mixwright(study, "run", "--json")
    refused(done, 2, "study.yaml:14", "Did you mean 'floors'")
    assert json.loads(done.stdout)["exit_code"] == 2


def test_impossible_constraints_are_named_before_anything_is_trained(study: Path, mixwright: Mixwright) -> None:
    (study / "study.yaml").write_text(STUDY.replace("floors: 0.05", "floors: 0.4"))
    refused(mixwright(study, "run"), 2, "contradict one another", "lower the floor of code to 0.2")
    assert not (study / "work" / "runs").exists()


TABLE = """\
run_id,weight/a,weight/b,loss/m,loss/n
r0,0.1,0.9,3.0,2.0
r1,0.5,0.5,2.6,2.3
r2,0.9,0.1,2.3,2.9
r3,0.3,0.7,2.8,2.1
r4,0.7,0.3,2.4,2.6
r5,0.2,0.8,2.9,2.05
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    (tmp_path / "runs.csv").write_text(TABLE)
    return tmp_path


def test_a_table_of_runs_is_enough(table: Path, mixwright: Mixwright) -> None:
    assert mixwright(table, "fit", "--runs", "runs.csv").returncode == 0
    assert (table / "study.yaml").is_file()
    done = mixwright(table, "optimize")
    assert done.returncode == 0, done.stderr
    assert "Epochs are unknown" in done.stdout
    assert "natural" not in done.stdout, "the reference of a table is its mean mixture"
    assert mixwright(table, "run").returncode == 0
    assert (table / "report.html").is_file()


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("0.5,0.5", "0.5,0.2", ("r1", "0.7")),
        ("r3,", "r1,", ("r1",)),
        ("0.9,0.1", "1.1,-0.1", ("r2", "-0.1")),
        ("weight/", "w_", ("weights",)),
    ],
)
def test_a_wrong_table_is_refused(table: Path, mixwright: Mixwright, old: str, new: str, says: tuple[str, ...]) -> None:
    (table / "runs.csv").write_text(TABLE.replace(old, new))
    refused(mixwright(table, "fit", "--runs", "runs.csv"), 3, *says)


def test_a_missing_metric_is_counted_not_fatal(table: Path, mixwright: Mixwright) -> None:
    (table / "runs.csv").write_text(TABLE.replace("r4,0.7,0.3,2.4,2.6", "r4,0.7,0.3,2.4,"))
    done = mixwright(table, "fit", "--runs", "runs.csv")
    assert done.returncode == 0, done.stderr
    notes = json.loads(next((table / "work" / "fit").glob("[!.]*/validation.json")).read_text())["notes"]
    assert any("r4" in note and "n" in note for note in notes)


def test_a_study_is_not_overruled_by_a_flag(table: Path, mixwright: Mixwright) -> None:
    assert mixwright(table, "fit", "--runs", "runs.csv").returncode == 0
    (table / "other.csv").write_text(TABLE)
    refused(mixwright(table, "fit", "--runs", "other.csv"), 2, "already says which runs")
