"""Tables of runs: what is written is read back, other people's headers, joins by id, and every refusal in one sentence."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixwright.core.errors import DataError, StudyError
from mixwright.core.observation import FAILED, Runs
from mixwright.store.runs import read_runs, write_runs

SHARED = Path(__file__).parents[2] / ".." / "shared" / "published-runs"


def made_up(count: int = 6, phases: int = 1, seed: int = 0, missing: bool = True) -> Runs:
    draw = np.random.default_rng(seed)
    weights = draw.dirichlet(np.ones(3), (count, phases))
    losses = draw.normal(4, 1, (count, 2))
    if missing:
        losses[0, 1] = np.nan
    phase_tokens = draw.integers(1, 9, (count, phases)) * 1000.0
    return Runs(
        ("code", "a prose", "naïve"), ("val:code", "target:=SUM(A1)"), tuple(f"run,{n}" for n in range(count)), weights,
        losses, phase_tokens=phase_tokens, tokens=phase_tokens.sum(axis=1), params=np.full(count, 1e6), bpb=losses / 3,
        step=tuple(range(count)), seed=tuple(range(count)), role=("design",) * count,
        status=("done",) * (count - 1) + (FAILED,),
    )  # fmt: skip


def same(first: Runs, second: Runs) -> None:
    for name in ("domains", "metrics", "run_id", "step", "seed", "status", "role", "units"):
        assert getattr(first, name) == getattr(second, name), name
    for name in ("weights", "losses", "phase_tokens", "tokens", "params", "bpb", "unigram"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name), err_msg=name)


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet", "jsonl"])
@pytest.mark.parametrize("phases", [1, 3])
def test_written_tables_are_read_back_to_the_last_bit(tmp_path: Path, ending: str, phases: int) -> None:
    runs = made_up(phases=phases)
    path = tmp_path / f"runs.{ending}"
    write_runs(path, runs)
    read = read_runs(path)
    same(runs, read.runs)
    assert [note for note in read.notes if "missing" not in note] == []
    assert any("target:=SUM(A1) is missing in 1 of 5 runs: run,0." in note for note in read.notes)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_any_numbers_survive_csv(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    path = tmp_path_factory.mktemp("any") / "runs.csv"
    runs = made_up(seed=seed, missing=False)
    write_runs(path, runs)
    same(runs, read_runs(path).runs)


def table(path: Path, **columns: list[object]) -> Path:
    frame = pl.DataFrame(columns, strict=False)
    frame.write_csv(path) if path.suffix == ".csv" else frame.write_parquet(path)
    return path


def simple(path: Path, **changes: list[object] | None) -> Path:
    columns: dict[str, list[object] | None] = {
        "run_id": ["a", "b"], "weight/x": [0.25, 0.5], "weight/y": [0.75, 0.5], "loss/m": [3.0, 4.0],
    }  # fmt: skip
    return table(path, **{name: cells for name, cells in {**columns, **changes}.items() if cells is not None})


def test_two_files_are_joined_by_run_id_and_never_by_position(tmp_path: Path) -> None:
    ids = ["a", "b", "c", "d"]
    first = table(
        tmp_path / "ratios.csv", run=ids, **{"weight/x": [0.1, 0.2, 0.3, 0.4], "weight/y": [0.9, 0.8, 0.7, 0.6]}
    )
    second = table(tmp_path / "metrics.parquet", run_id=["d", "c", "z", "a"], **{"loss/m": [4.0, 3.0, 26.0, 1.0]})
    read = read_runs(first, metrics_path=second)
    assert read.runs.run_id == ("a", "c", "d")
    np.testing.assert_array_equal(read.runs.losses[:, 0], [1, 3, 4])
    np.testing.assert_allclose(read.runs.mixtures()[:, 0], [0.1, 0.3, 0.4])
    assert any("ratios.csv only: 1 run (b)" in note for note in read.notes)
    assert any("metrics.parquet only: 1 run (z)" in note for note in read.notes)


def test_files_without_common_ids_or_without_ids_are_refused(tmp_path: Path) -> None:
    first = simple(tmp_path / "one.csv")
    other = table(tmp_path / "two.csv", run_id=["p", "q"], **{"loss/n": [1, 2]})
    with pytest.raises(DataError, match="no run id in common, such as a and p"):
        read_runs(first, metrics_path=other)
    bare = table(tmp_path / "three.csv", **{"loss/n": [1, 2]})
    with pytest.raises(DataError, match=r"three\.csv has no column run_id"):
        read_runs(first, metrics_path=bare)


def test_headers_by_globs(tmp_path: Path) -> None:
    path = table(
        tmp_path / "t.csv",
        id=["1", "2"],
        **{"w_x_pct": [0.5, 1], "w_y_pct": [0.5, 0], "ppl:m": [3, 4], "note": ["", "hi"]},
    )
    read = read_runs(path, weights="w_*_pct", losses="ppl:*")
    assert (read.runs.domains, read.runs.metrics) == (("x", "y"), ("m",))
    assert read.notes == ("Columns not used: note.",)
    with pytest.raises(StudyError, match="exactly one"):
        read_runs(path, weights="w", losses="ppl:*")
    with pytest.raises(DataError, match=r"no column of weights .*--weights 'train/\*'"):
        read_runs(path)
    with pytest.raises(DataError, match=r"no column of losses \(loss/\*, valid/\*, loss_\*\).*--losses"):
        read_runs(path, weights="w_*_pct")


def test_bits_per_byte_can_be_what_is_fitted(tmp_path: Path) -> None:
    path = simple(tmp_path / "t.csv", **{"loss/m": None, "bpb/m": [1.0, 2.0]})
    assert read_runs(path, losses="bpb/*").runs.units == ("bits/byte",)


def test_rounded_weights_are_renormalized_and_reported(tmp_path: Path) -> None:
    read = read_runs(simple(tmp_path / "t.csv", **{"weight/x": [0.257, 0.5]}))
    np.testing.assert_allclose(read.runs.mixtures().sum(axis=1), 1, atol=1e-15)
    assert read.notes == ("The weights of 1 of 2 runs were divided by their sum; the largest change is 0.007 (run a).",)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"weight/x": [0.25, 0.2]}, r"weights of run b sum to 0\.7, not to 1"),
        ({"weight/x": [-0.25, 0.5]}, r"not negative; run a has -0\.25 in weight/x"),
        ({"weight/x": ["inf", "0.5"]}, r"finite and not negative; run a has inf"),
        ({"weight/x": ["a lot", "0.5"]}, r"weight/x must be a number; run a has 'a lot'"),
        ({"loss/m": ["3.0", "n/a"]}, r"loss/m must be a number; run b has 'n/a'. Correct the cell"),
        ({"run_id": ["a", "a"]}, r"run id a stands more than once"),
        ({"run_id": ["a", ""]}, r"row 2 has no run_id"),
        ({"run_id": ["a", "a"], "step": [5, 5]}, r"run id a stands more than once at step 5"),
        ({"status": ["done", "fine"]}, r"run b has 'fine'"),
        ({"weight/x": [None, None], "weight/y": [None, None]}, r"weights are empty"),
        ({"weight@2/z": [1, 1]}, r"domain that phase 1 does not have"),
        ({"weight@2/x": [1, 1]}, r"not the tokens of each"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_run_and_value(
    tmp_path: Path, changes: dict[str, list[object]], words: str
) -> None:
    with pytest.raises(DataError, match=words):
        read_runs(simple(tmp_path / "t.csv", **changes))


def test_missing_and_infinite_losses_are_kept_and_counted(tmp_path: Path) -> None:
    path = table(
        tmp_path / "t.csv", run_id=list("abcd"),
        **{"weight/x": [0.5] * 4, "weight/y": [0.5] * 4, "loss/m": ["1", "nan", "inf", ""], "loss/n": ["1", "2", "3", ""]},
    )  # fmt: skip
    read = read_runs(path)
    assert read.runs.status == ("done", "done", FAILED, FAILED)
    assert len(read.runs.usable()) == 2
    assert np.isnan(read.runs.losses[1, 0])
    assert not np.isinf(read.runs.losses).any()
    assert read.notes[:3] == (
        "Taken as failed, and in no fit, for an infinite loss: 1 run (c).",
        "Taken as failed, and in no fit, for no loss at all: 1 run (d).",
        "m is missing in 1 of 4 runs: b.",
    )


def test_rows_without_weights_are_left_out_and_counted(tmp_path: Path) -> None:
    read = read_runs(simple(tmp_path / "t.csv", **{"weight/x": [None, 0.5], "weight/y": [None, 0.5]}))
    assert read.runs.run_id == ("b",)
    assert read.notes[0] == "Left out for having no weights: 1 run (a)."


def test_of_a_trajectory_the_last_step_is_taken_in_any_order_of_rows(tmp_path: Path) -> None:
    path = table(
        tmp_path / "t.csv", run_id=["b", "a", "a", "b", "a"], step=[20, 30, 10, 10, 20], tokens=[2, 3, 1, 1, 2],
        **{"weight/x": [0.5] * 5, "weight/y": [0.5] * 5, "loss/m": [20, 33, 31, 21, 32]},
    )  # fmt: skip
    read = read_runs(path)
    assert read.runs.run_id == ("b", "a")
    assert read.runs.losses[:, 0].tolist() == [20, 33]
    assert read.runs.tokens.tolist() == [2, 3]
    assert "5 rows of 2 runs" in read.notes[0]
    assert "20 (1), 30 (1)" in read.notes[0]
    at = read_runs(path, step=30)
    assert at.runs.run_id == ("a",)
    assert at.notes[0] == "Taken at step 30: 1 of the 2 runs in t.csv have it."
    with pytest.raises(DataError, match="no run with a row at step 7"):
        read_runs(path, step=7)


def test_every_step_keeps_all_rows_also_when_weights_stand_in_a_file_of_their_own(tmp_path: Path) -> None:
    path = table(
        tmp_path / "t.csv", run_id=["b", "a", "a"], step=[20, 30, 10], tokens=[2, 3, 1],
        **{"weight/x": [0.5, 1, 1], "weight/y": [0.5, 0, 0], "loss/m": [20, 33, 31]},
    )  # fmt: skip
    read = read_runs(path, every_step=True)
    assert read.runs.run_id == ("b", "a", "a")
    assert read.runs.step == (20, 30, 10)
    assert read.runs.losses[:, 0].tolist() == [20, 33, 31]
    assert read.notes == ("t.csv has 3 rows of 2 runs, at up to 3 values of step.",)
    first = table(tmp_path / "w.csv", run_id=["a", "b"], step=[30, 20], **{"weight/x": [1, 0.5], "weight/y": [0, 0.5]})
    second = table(tmp_path / "m.csv", run_id=["b", "a", "a", "z"], step=[20, 30, 10, 1], **{"loss/m": [20, 33, 31, 9]})
    joined = read_runs(first, metrics_path=second, every_step=True)
    assert joined.runs.run_id == ("a", "a", "b")
    assert joined.runs.step == (30, 10, 20)
    assert joined.runs.losses[:, 0].tolist() == [33, 31, 20]
    both = read_runs(path, metrics_path=second, losses="loss/*", every_step=True)
    assert both.runs.step == (20, 30, 10)
    assert any("m.csv only: 1 run (z)" in note for note in both.notes)


def test_a_table_without_ids_or_with_numbers_as_ids_is_read(tmp_path: Path) -> None:
    assert read_runs(simple(tmp_path / "t.csv", run_id=None)).runs.run_id == ("row-1", "row-2")
    assert read_runs(simple(tmp_path / "t.parquet", run_id=[7, 8])).runs.run_id == ("7", "8")


def test_files_that_are_no_tables(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no table of runs"):
        read_runs(tmp_path / "absent.csv")
    with pytest.raises(DataError, match=r"this one in \.xlsx"):
        read_runs(tmp_path / "t.xlsx")
    for name, content, words in (
        ("empty.csv", b"", "is empty"),
        ("head.csv", b"run_id,weight/x,loss/m\n", "holds no runs"),
        ("latin.csv", b"run_id,weight/x,loss/m\n\xff\xfe,1,2\n", "cannot be read as csv"),
        ("no.parquet", b"PAR0", "cannot be read as parquet"),
        ("bad.jsonl", b'{"run_id": "a"}\n{"run_id": \n', "line 2 is not JSON"),
        ("list.jsonl", b"[1, 2]\n", "line 1 is no JSON object"),
        ("blank.jsonl", b"\n\n", "holds no runs"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=words):
            read_runs(tmp_path / name)


def test_json_lines_may_leave_keys_out_and_hold_nan(tmp_path: Path) -> None:
    rows = [
        {"run_id": "a", "weight/x": 1, "loss/m": float("nan"), "loss/n": 1.5},
        {"run_id": "b", "weight/y": 1.0, "weight/x": 0, "loss/m": 2, "loss/n": 3},
    ]
    (tmp_path / "t.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    runs = read_runs(tmp_path / "t.jsonl").runs
    np.testing.assert_array_equal(runs.mixtures(), [[1, 0], [0, 1]])
    np.testing.assert_array_equal(runs.losses, [[np.nan, 1.5], [2, 3]])


def test_units_other_than_our_columns_promise_are_not_written(tmp_path: Path) -> None:
    runs = Runs(("x",), ("m",), ("a",), np.ones((1, 1)), np.ones((1, 1)), units=("accuracy",))
    with pytest.raises(DataError, match="m in accuracy"):
        write_runs(tmp_path / "t.csv", runs)
    assert not list(tmp_path.iterdir())


def test_each_metric_has_its_unit_and_keeps_it(tmp_path: Path) -> None:
    path = simple(tmp_path / "t.csv", **{"bpb/k": [1.0, 2.0], "loss/n": [3.0, 4.0], "bpb/n": [0.5, 0.6]})
    read = read_runs(path)
    assert read.runs.metrics == ("m", "k", "n")
    assert read.runs.units == ("nats/token", "bits/byte", "nats/token")
    assert read.runs.losses[:, 1].tolist() == [1, 2]
    assert read.notes == (
        "The metrics are in different units, which a mean of them adds up: nats/token (2), bits/byte (1).",
    )
    write_runs(tmp_path / "u.csv", read.runs)
    again = read_runs(tmp_path / "u.csv").runs
    assert (again.metrics, again.units) == (read.runs.metrics, read.runs.units)
    np.testing.assert_array_equal(again.losses, read.runs.losses)
    given = read_runs(path, units={"m": "perplexity"}).runs
    assert given.units == ("perplexity", "bits/byte", "nats/token")
    assert read_runs(path, units="accuracy").runs.units == ("accuracy",) * 3
    with pytest.raises(DataError, match=r"'mm' is no metric of the table. Did you mean 'm'\?"):
        read_runs(path, units={"mm": "x"})


@pytest.mark.parametrize(
    ("name", "count", "domains", "metrics", "words"),
    [
        ("regmix/train_1m.csv", 512, 17, 13, "weights of 303 of 512 runs"),
        ("mixing-laws/5mix.csv", 104, 5, 22, "runs by last step: 30000 (96), 100000 (5), 90000 (3)"),
        ("mixing-laws/2mix.csv", 10, 2, 2, "Columns not used: size_label, fit_set."),
        ("mixing-laws/continual.csv", 5, 2, 23, "Left out for having no weights: 1 run (base)."),
    ],
)
def test_published_tables_are_recognised(name: str, count: int, domains: int, metrics: int, words: str) -> None:
    path = Path(os.environ.get("MIXWRIGHT_PUBLISHED_RUNS", SHARED)) / name
    if not path.is_file():
        pytest.skip(f"no published runs at {path}; set MIXWRIGHT_PUBLISHED_RUNS to the folder that holds them")
    read = read_runs(path)
    assert (len(read.runs), len(read.runs.domains), len(read.runs.metrics)) == (count, domains, metrics)
    assert any(words in note for note in read.notes), read.notes
    assert np.isfinite(read.runs.params).all()


def test_a_published_run_that_does_not_sum_to_one_is_named() -> None:
    path = Path(os.environ.get("MIXWRIGHT_PUBLISHED_RUNS", SHARED)) / "mixing-laws/redpajama.csv"
    if not path.is_file():
        pytest.skip(f"no published runs at {path}; set MIXWRIGHT_PUBLISHED_RUNS to the folder that holds them")
    with pytest.raises(DataError, match=r"run redpajama_70M_999 sum to 1\.01994"):
        read_runs(path)
