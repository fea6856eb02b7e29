"""Long tables: the same runs as the wide ones, whatever the order of rows; contradictions are named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mixwright.core.errors import DataError
from mixwright.core.observation import Runs
from mixwright.store.runs import read_runs, write_runs
from mixwright.store.tables import load

ENDINGS = ("csv", "parquet", "jsonl")


def made_up(runs: int = 7, *, steps: int = 1, seed: int = 0) -> Runs:
    draw = np.random.default_rng(seed)
    rows = runs * steps
    weights = np.repeat(draw.dirichlet(np.ones(3), runs), steps, axis=0)
    return Runs(
        ("web", "code", "Prosa ä"), ("m", "=k/1"), tuple(f"r{n // steps}" for n in range(rows)), weights,
        draw.normal(3, 0.2, (rows, 2)), step=tuple(100 * (1 + n % steps) for n in range(rows)), seed=(3,) * rows,
        params=np.full(rows, 5e6), tokens=np.array([1e4 * (1 + n % steps) for n in range(rows)]),
    )  # fmt: skip


def save(frame: pl.DataFrame, path: Path, shuffle: int = 0) -> Path:
    frame = frame.sample(fraction=1.0, shuffle=True, seed=shuffle) if shuffle else frame
    {".csv": frame.write_csv, ".parquet": frame.write_parquet, ".jsonl": frame.write_ndjson}[path.suffix](path)
    return path


def facts(runs: Runs) -> dict[str, list[object]]:
    return {
        "run_id": list(runs.run_id), "step": list(runs.step), "seed": list(runs.seed), "params": runs.params.tolist(),
        "tokens": runs.tokens.tolist(),
    }  # fmt: skip


def by_metric(runs: Runs, *, value: str = "loss", **extra: list[object]) -> pl.DataFrame:
    parts = [
        pl.DataFrame({**facts(runs), **extra, "metric": [name] * len(runs), value: runs.losses[:, m]})
        for m, name in enumerate(runs.metrics)
    ]
    return pl.concat(parts)


def by_domain(runs: Runs, *, value: str = "weight") -> pl.DataFrame:
    last = runs.last()
    parts = [
        pl.DataFrame({"run_id": list(last.run_id), "domain": [name] * len(last), value: last.mixtures()[:, d]})
        for d, name in enumerate(runs.domains)
    ]
    return pl.concat(parts)


def by_kind(runs: Runs) -> pl.DataFrame:
    weights = by_domain(runs, value="value").rename({"domain": "name"})
    losses = by_metric(runs, value="value").rename({"metric": "name"}).select("run_id", "name", "value")
    return pl.concat([weights.with_columns(kind=pl.lit("weight")), losses.with_columns(kind=pl.lit("loss"))])


def same(read: Runs, runs: Runs, *, facts_too: bool = True) -> None:
    """The same observations, in any order of rows, domains and metrics."""

    def rows(table: Runs) -> dict[tuple[str, int], tuple[object, ...]]:
        d, m = np.argsort(table.domains), np.argsort(table.metrics)
        assert tuple(np.array(table.domains)[d]) == tuple(sorted(runs.domains))
        assert tuple(np.array(table.metrics)[m]) == tuple(sorted(runs.metrics))
        known = (table.params, table.tokens, np.array(table.seed)) if facts_too else ()
        return {
            (name, table.step[n] if facts_too else 0): (
                *table.mixtures()[n, d].round(12), *table.losses[n, m], *(float(values[n]) for values in known)
            )
            for n, name in enumerate(table.run_id)
        }  # fmt: skip

    assert rows(read) == rows(runs)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("shuffle", [0, 1, 2])
def test_weights_and_losses_in_two_long_files(tmp_path: Path, ending: str, shuffle: int) -> None:
    runs = made_up()
    first = save(by_domain(runs), tmp_path / f"w.{ending}", shuffle)
    second = save(by_metric(runs), tmp_path / f"m.{ending}", 2 * shuffle)
    read = read_runs(first, metrics_path=second)
    same(read.runs, runs)
    assert read.notes == ()


@pytest.mark.parametrize("shuffle", [0, 5])
def test_a_wide_file_and_a_long_one_either_way_round(tmp_path: Path, shuffle: int) -> None:
    runs = made_up()
    wide = pl.DataFrame(
        {"run": list(runs.run_id), **{f"train/{d}": runs.mixtures()[:, n] for n, d in enumerate(runs.domains)}}
    )
    first, second = save(wide, tmp_path / "w.csv", shuffle), save(by_metric(runs, value="value"), tmp_path / "m.csv", 3)
    same(read_runs(first, metrics_path=second).runs, runs)
    losses = pl.DataFrame({**facts(runs), **{f"loss/{m}": runs.losses[:, n] for n, m in enumerate(runs.metrics)}})
    same(
        read_runs(save(by_domain(runs), tmp_path / "d.csv", 4), metrics_path=save(losses, tmp_path / "l.csv")).runs,
        runs,
    )


@pytest.mark.parametrize("ending", ENDINGS)
def test_one_file_with_a_row_per_kind_and_name(tmp_path: Path, ending: str) -> None:
    runs = made_up()
    same(read_runs(save(by_kind(runs), tmp_path / f"t.{ending}", 1)).runs, runs, facts_too=False)


def test_one_file_with_wide_weights_on_every_row_or_both_kinds_of_rows(tmp_path: Path) -> None:
    runs = made_up()
    weights = {f"weight/{d}": runs.mixtures()[:, n].tolist() for n, d in enumerate(runs.domains)}
    same(read_runs(save(by_metric(runs, **weights), tmp_path / "a.csv", 1)).runs, runs)
    mixed = pl.concat([by_metric(runs), by_domain(runs)], how="diagonal")
    same(read_runs(save(mixed, tmp_path / "b.csv", 1), every_step=True).runs, runs)
    crossed = by_metric(runs).join(by_domain(runs), on="run_id")
    same(read_runs(save(crossed, tmp_path / "c.csv", 1)).runs, runs)


def test_trajectories_are_kept_apart_by_step(tmp_path: Path) -> None:
    runs = made_up(steps=3)
    first, second = save(by_domain(runs), tmp_path / "w.csv", 1), save(by_metric(runs), tmp_path / "m.csv", 2)
    same(read_runs(first, metrics_path=second, every_step=True).runs, runs)
    same(read_runs(first, metrics_path=second).runs, runs.last())
    same(read_runs(first, metrics_path=second, step=200).runs, runs.take([s == 200 for s in runs.step]))


def test_columns_may_bear_other_names(tmp_path: Path) -> None:
    runs = made_up()
    frame = by_metric(runs).rename({"run_id": "experiment", "metric": "task", "loss": "nll", "params": "size"})
    frame = frame.with_columns(loss=pl.lit(0.0))
    weights = by_domain(runs).rename({"run_id": "experiment", "domain": "source", "weight": "share"})
    names = {
        "run_id": "experiment", "metric": "task", "loss": "nll", "params": "size", "domain": "source", "weight": "share",
    }  # fmt: skip
    first, second = save(weights, tmp_path / "w.csv"), save(frame, tmp_path / "m.csv")
    read = read_runs(first, metrics_path=second, columns=names)
    same(read.runs, runs)
    assert read.notes == ("Columns not used: loss (not used).",)
    with pytest.raises(DataError, match=r"'experment' is no column of w.csv or m.csv. Did you mean 'experiment'\?"):
        read_runs(first, metrics_path=second, columns={"run_id": "experment"})
    with pytest.raises(DataError, match=r"'metrics' is no column of a table of runs. Did you mean 'metric'\?"):
        read_runs(first, metrics_path=second, columns={"metrics": "task"})


def test_bits_per_byte_in_long_tables_keep_their_unit(tmp_path: Path) -> None:
    runs = made_up()
    frame = pl.concat(
        [by_metric(runs, value="bpb").drop(*facts(runs).keys() - {"run_id"}), by_domain(runs)], how="diagonal"
    )
    read = read_runs(save(frame, tmp_path / "t.csv"))
    same(read.runs, runs, facts_too=False)
    assert read.runs.units == ("bits/byte",) * 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f.with_columns(run_id=pl.lit("r0")), "run r0 has loss m at step 100 more than once, as"),
        (lambda f: f.drop("run_id"), "needs a column run_id"),
        (lambda f: f.with_columns(loss=pl.lit("low")), "loss must be a number; run r0 has 'low'"),
        (
            lambda f: f.with_columns(params=pl.int_range(pl.len())),
            "run r0 has several values of params, of which a run has one at each step",
        ),
    ],
)
def test_contradictions_are_named(tmp_path: Path, change: Callable[[pl.DataFrame], pl.DataFrame], words: str) -> None:
    runs = made_up(3)
    first, second = save(by_domain(runs), tmp_path / "w.csv"), save(change(by_metric(runs)), tmp_path / "m.csv")
    with pytest.raises(DataError, match=words):
        read_runs(first, metrics_path=second)


def test_unknown_kinds_and_empty_names_are_refused(tmp_path: Path) -> None:
    frame = by_kind(made_up(2))
    with pytest.raises(DataError, match="there is 'wieght'"):
        read_runs(save(frame.with_columns(kind=pl.lit("wieght")), tmp_path / "t.csv"))
    with pytest.raises(DataError, match="a value of run r0 has no name"):
        read_runs(save(frame.with_columns(name=pl.lit(None)), tmp_path / "u.csv"))


def test_missing_values_of_a_long_table_are_counted_like_those_of_a_wide_one(tmp_path: Path) -> None:
    runs = made_up(4)
    frame = by_metric(runs).filter((pl.col("run_id") != "r1") | (pl.col("metric") != "m"))
    frame = frame.with_columns(
        pl.when(pl.col("run_id") == "r2").then(float("inf")).otherwise(pl.col("loss")).alias("loss")
    )
    read = read_runs(save(by_domain(runs), tmp_path / "w.csv"), metrics_path=save(frame, tmp_path / "m.csv"))
    assert "m is missing in 1 of 4 runs: r1." in read.notes
    assert any(
        note.startswith("Taken as failed, and in no fit, for an infinite loss: 1 run (r2)") for note in read.notes
    )


def test_a_wide_table_with_columns_of_such_names_stays_wide(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    write_runs(path, made_up(3))
    frame = load(path).with_columns(metric=pl.lit("x"), domain=pl.lit("y"), name=pl.lit("z"))
    read = read_runs(save(frame, tmp_path / "u.csv"))
    same(read.runs, made_up(3))
    assert read.notes == ("Columns not used: metric, domain.",)
