"""The bench's own arithmetic: scores, intervals of counts, what counts as met, protocols' rows, what is written."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.laws import authors, continual, optimizer, peers, published, regmix, steps, transfer, unseen, written
from benchmarks.laws.scores import Covered, Row, Shown, number, spearman

from mixwright.core.objective import Objective

try:
    published.folder()
    there = True
except SystemExit:
    there = False
needs_tables = pytest.mark.skipif(not there, reason="the published runs are not here; set MIXWRIGHT_PUBLISHED_RUNS")


def test_rank_correlation_shares_ranks_and_is_zero_for_a_constant() -> None:
    from scipy.stats import spearmanr

    draw = np.random.default_rng(0)
    a, b = draw.integers(0, 5, 40).astype(float), draw.integers(0, 5, 40).astype(float)
    assert spearman(a, b) == pytest.approx(spearmanr(a, b).statistic)
    assert spearman(a, np.ones(40)) == 0.0
    assert spearman(a, -3 * a) == pytest.approx(-1.0)


def test_counts_of_intervals() -> None:
    mean, sd = np.zeros(4), np.ones(4)
    seen = Covered.of("x", mean, sd, np.array([1.6, -1.7, np.nan, 0.0]))
    assert (seen.inside, seen.total) == (2, 3)
    low, high = Covered("x", 8, 10).interval()
    assert (low, high) == pytest.approx((0.4931, 0.9632), abs=1e-4)  # Clopper and Pearson, 90 %
    assert Covered("x", 10, 10).interval() == (pytest.approx(0.05**0.1), 1.0)
    assert Covered("x", 0, 10).interval()[0] == 0.0


def test_what_is_met_and_what_is_missed() -> None:
    assert Row("a", "u", 1.0, ("<=", 1.0)).met is True
    assert Row("a", "u", 1.0, (">", 1.0)).met is False
    assert Row("a", "u", 0.9, ("in", 0.85, 0.95)).met is True
    assert Row("a", "u", None, (">", 1.0)).met is False  # could not be made: missed
    assert Row("a", "u", float("nan"), ("<", 1.0)).met is False
    assert Row("a", "u", 3.0, None).met is None
    out = Row("a", "u", 3.0, (">=", 2), "peer", 1.5, "why").to_dict()
    assert (out["ratio"], out["goal"], out["met"], out["note"]) == (2.0, ">= 2", True, "why")


def test_figures_as_the_field_prints_them() -> None:
    assert (number(0.98765), number(-0.5, 2), number(None), number(12.3456, 1)) == (".9877", "-.50", "-", "12.3")


def test_the_docs_show_misses() -> None:
    rows = [Row("good", "u", 2.0, (">", 1.0)), Row("bad", "u", 0.5, (">", 1.0), note="because")]
    group = {"name": "g", "law": "additive", "covered": [], "tables": [Shown("T", ("a", "b"), (("x", "1"),)).__dict__]}
    content = {
        "command": "make bench-laws", "commit": "abc", "date": "2026-01-01", "cores": 2, "versions": {"numpy": "2"},
        "rows": [row.to_dict() for row in rows], "groups": [group],
    }  # fmt: skip
    text = written.markdown(content)
    assert "1 of 2 goals are met; 1 are missed" in text
    assert "- bad: 0.5 (goal > 1.0); because" in text
    assert "| bad | u | 0.5 | > 1.0 | **missed** |" in text
    assert "| x | 1 |" in text


def test_pools_add_up() -> None:
    parts = [
        {"what": "a", "inside": 9, "total": 10, "pool": "overall"},
        {"what": "b", "inside": 45, "total": 50, "pool": "overall"},
    ]
    (row,) = written.pooled([*parts, {"what": "c", "inside": 0, "total": 9, "pool": ""}])
    assert row["ours"] == 0.9
    assert row["met"] is True
    assert row["note"].startswith("54 of 60")


def test_plain_peers_find_what_was_planted() -> None:
    draw = np.random.default_rng(1)
    x, xt = draw.dirichlet(np.ones(4), 60), draw.dirichlet(np.ones(4), 20)
    slope = np.array([1.0, 2.0, 3.0, 5.0])
    np.testing.assert_allclose(peers.linear(x, x @ slope, xt), xt @ slope, atol=1e-9)
    bend = np.array([-1.0, 0.2, -0.4, 0.5])
    np.testing.assert_allclose(peers.log_linear(x, 2 + np.exp(x @ bend), xt), 2 + np.exp(xt @ bend), atol=5e-3)


def test_the_pilot_recipe_and_huber() -> None:
    r = np.array([0.25, 0.375, 0.5, 0.625, 0.75])
    np.testing.assert_allclose(authors.pilot(r, 1.2 + 0.5 * np.exp(-1.6 * r)), (1.2, np.log(0.5), -1.6), atol=0.02)
    assert authors.huber(np.array([0.01, -1.0]), 0.05) == pytest.approx((0.5e-4 + 0.05 * (1 - 0.025)) / 2)


def test_a_crossing_is_interpolated() -> None:
    share = np.array([0.1, 0.2, 0.3])
    assert continual.crossing(share, np.array([3.0, 2.0, 1.0]), 1.5) == pytest.approx(0.25)
    assert np.isnan(continual.crossing(share, np.array([3.0, 2.9, 2.8]), 1.5))


def test_grids_and_brute_force() -> None:
    points = optimizer.grid(4, 6)
    assert len(points) == 84  # 9 choose 3
    np.testing.assert_allclose(points.sum(axis=1), 1)
    goal = np.array([0.5, 0.3, 0.2])
    case = optimizer.Case(Objective(), lambda w: w[:, 0] <= 0.4)
    low, where = optimizer.brute(lambda w: ((w - goal) ** 2).sum(axis=1), case, 3)
    assert low == pytest.approx(0.015, abs=1e-8)
    np.testing.assert_allclose(where, [0.4, 0.35, 0.25], atol=1e-4)


def test_subsets_and_splits_are_the_stated_ones() -> None:
    assert published.subset(16, 1000).tolist() == np.random.default_rng(1000).permutation(512)[:16].tolist()
    rows, held = transfer.split(8, 3)
    assert sorted([*rows, *held]) == list(range(256))
    wanted = regmix.tasks("additive", fast=False)
    assert [len(wanted["ours", n]) for n in regmix.NUMBERS] == [10, 10, 10, 10, 1]


@needs_tables
def test_overall_weights_and_groups() -> None:
    metrics = published.mixing("5mix").metrics
    q = published.weights(metrics)
    assert len(q) == 22
    assert q.sum() == pytest.approx(1)
    np.testing.assert_allclose(q * 2592, np.round(q * 2592), atol=1e-6)
    for share in (published.groups(metrics)[1], published.pipeline_groups(metrics)):
        np.testing.assert_allclose(share.sum(axis=0), 1)
        assert ((share > 0).sum(axis=1) == 1).all()  # each subset is of one group
        losses = np.random.default_rng(0).random(22)
        weight = np.array([q[share[:, g] > 0].sum() for g in range(5)])
        assert (losses @ share) @ weight == pytest.approx(losses @ q)


@needs_tables
def test_protocols_have_their_rows() -> None:
    sizes = {check: len(unseen.splits(*spec[:2])) for check, spec in unseen.CHECKS.items()}
    assert list(sizes.values()) == [26, 26, 1, 20]
    fitted, held = unseen.splits("redpajama", "70M")[0]
    assert (len(fitted), len(held)) == (20, 20)
    counts = {
        (size, span): int(((steps.late(size).step >= low) & (steps.late(size).step <= high)).sum())
        for size in ("70M", "160M")
        for span, (low, high) in steps.RANGES.items()
    }
    assert counts == {("70M", "40-80k"): 30, ("70M", "90-100k"): 10, ("160M", "40-80k"): 10, ("160M", "90-100k"): 3}
    assert steps.early().step.max() == 30_000
    assert len(continual.fitted()) == 4
    begin, check = continual.start()
    assert begin - check == pytest.approx(0.0013, abs=5e-5)  # field notes, section 1.6


@needs_tables
def test_the_default_mixture_sums_to_one_as_corrected() -> None:
    at = published.mixing("redpajama")
    default = at.mix[at.index == 999][0]
    assert default[at.domains.index("c4")] == pytest.approx(38 / 256)
    assert default.sum() == pytest.approx(1, abs=1e-12)
