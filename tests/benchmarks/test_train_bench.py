from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.train import alone, case, flops, gpu, many, written
from benchmarks.train.case import Case, Clock

from mixwright.core.run import ModelSize

#: two steps of one window are timed after one
SMALL = Case("ours", "16x1", vocab=64, seq_len=16, batch=2, steps=2, warm=1)


def test_operations_of_a_token_counted_by_hand() -> None:
    """64x2: six for every parameter of a product, and attention's two products over all places, three times each."""
    size, vocab, length = ModelSize(64, 2), 1000, 128
    matrices = 2 * (3 * 64 * 64 + 64 * 64 + 2 * 176 * 64 + 64 * 176)
    forward = 2 * (matrices + 1000 * 64) + 2 * 2 * (
        2 * length * 64
    )  # scores and what is read: 2 T d multiply-adds a layer
    assert flops.per_token(size, vocab, length) == 3 * forward


def test_utilization_of_a_gpu_by_its_name() -> None:
    size = ModelSize.parse("70M")
    each = flops.per_token(size, 32768, 1024)
    assert flops.utilization(1e5, size, 32768, 1024, "NVIDIA H100 80GB HBM3") == pytest.approx(1e5 * each / 989.4e12)
    assert flops.utilization(1e5, size, 32768, 1024, "some other card") is None


def test_time_of_a_sweep_by_hand() -> None:
    assert gpu.sweep_hours(1e7) == pytest.approx(512 * 1e9 / 1e7 / 3600)


def test_without_a_gpu_its_rows_are_there_without_goals(monkeypatch) -> None:
    monkeypatch.setattr(gpu.Device, "here", classmethod(lambda cls: None))
    rows = gpu.rows(1, time.monotonic())
    assert len(rows) == 5
    assert all(row.goal is None and row.met is None and "CUDA" in row.note for row in rows)


def test_with_one_all_rows_come_from_what_was_measured(monkeypatch) -> None:
    speeds = {1: 2e5, 64: 3e6}
    monkeypatch.setattr(gpu, "run", lambda given: {"per_second": speeds[given.models]})
    rows = gpu.utilization(gpu.Device("NVIDIA H100"), 1) + gpu.population(gpu.Device("NVIDIA H100"), 1)
    assert [row.what.partition(",")[0] for row in rows[:3]] == ["MFU at 70M", "MFU at 160M", "MFU at 410M"]
    assert rows[0].ours == pytest.approx(2e5 * flops.per_token(ModelSize.parse("70M"), 32768, 1024) / 989.4e12)
    assert rows[0].goal == (">=", 0.45)
    assert rows[3].goal == (">=", 2e6)
    assert rows[3].met is True
    assert rows[4].ours == pytest.approx(512e9 / 3e6 / 3600)


def test_what_came_before_the_timed_steps_is_not_counted() -> None:
    clock = Clock([0.0, 5.0, 6.0, 8.0], [0.0, 5.0, 7.0, 11.0])
    made = clock.result(SMALL)
    assert made["first"] == 5.0
    assert made["per_cpu_second"] == pytest.approx(2 * 32 / 3)
    assert made["per_second"] == pytest.approx(2 * 32 / 6)


@pytest.mark.parametrize("models", [1, 3])
def test_our_side_runs_on_a_cpu(models) -> None:
    made = case.ours(Case(**{**SMALL.__dict__, "models": models}))
    assert made["per_cpu_second"] > 0
    assert made["models"] == models


def test_comparisons_are_of_pairs_within_a_round() -> None:
    speeds = {
        ("ours", False): [100.0, 220.0], ("trainer", False): [100.0, 200.0],
        ("ours", True): [150.0, 330.0], ("trainer", True): [],
    }  # fmt: skip
    eager, compiled = alone._compared("1M", speeds)  # nothing is said of what was not measured
    assert eager.ours == pytest.approx(1.05 * 150)
    assert eager.met is True
    assert compiled.ours == pytest.approx(1.575 * 150)
    assert compiled.met is True
    assert "1.50 to 1.65 in 2 rounds" in compiled.note


def test_every_comparison_has_both_sides() -> None:
    wanted = alone.cases()
    assert len(wanted) == 16
    assert all((*key[:2], "trainer", key[3]) in wanted for key in wanted)
    assert {one.tokens for one in wanted.values()} == {2048}


def test_sixteen_proxies_are_the_same_work_on_both_sides(monkeypatch) -> None:
    asked = []

    def crowd(cases):
        asked.append(cases)
        return [{"per_cpu_second": 10.0 * cases[0].models} for _ in cases], float(len(cases))

    monkeypatch.setattr(many, "crowd", crowd)
    rows = many.rows(1, time.monotonic() + 60)
    assert all(sum(one.models for one in cases) == 16 for cases in asked)
    assert rows[0].ours == pytest.approx(80.0)
    assert "by the wall with every process' start 8.00" in rows[0].note


def test_results_are_kept_by_group(tmp_path, monkeypatch) -> None:
    docs = tmp_path / "benchmarks.md"
    docs.write_text("# Benchmarks\n")
    monkeypatch.setattr(written, "RESULTS", tmp_path / "results" / "train.json")
    monkeypatch.setattr(written, "DOCS", docs)
    monkeypatch.setattr(written, "ROOT", tmp_path)
    written.keep({"gpu": gpu.absent()})
    row = alone._row("1M", [3.0], [2.0], 1.5, "Trainer eager")
    written.keep({"trainer": [row]})
    content = json.loads((tmp_path / "results" / "train.json").read_text())
    assert [row["group"] for row in content["rows"]] == ["trainer", *["gpu"] * 5]
    assert content["rows"][0]["ratio"] == 1.5
    assert docs.read_text().count("made by make bench-train") == 2
    assert "1 of 1 goals are met" in docs.read_text()
