"""Nested cross-validation: fair scores, a choice that leaks nothing, and fits that follow the choice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from mixwright.core.errors import StudyError
from mixwright.core.rng import rng
from mixwright.laws._table import deal_folds
from mixwright.laws.additive import Additive
from mixwright.laws.exponential import Exponential
from mixwright.laws.validation import NESTED, OBJECTIVE, fit_chosen, spearman, validate

Q = np.array([0, 0, 0, 0, 0, 0.25, 0.75])


def test_a_planted_law_is_chosen_and_beats_the_baselines(planted: Callable) -> None:
    world = planted("exponential", seed=4)
    runs = world.runs(20, noise=0.004, repeats=3)
    seen: list[float] = []
    laws = ("additive", "exponential")
    found = validate(runs, laws=laws, metric_weights=Q, rng=rng(0, "v"), on_progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    assert set(found.scores) == {"additive", "exponential", "linear", "mean", NESTED}
    assert set(found.scores[NESTED]) == {*runs.metrics, OBJECTIVE}
    assert set(found.chosen) == set(runs.metrics)
    assert sum(law == "exponential" for law in found.chosen.values()) >= 5
    mae = {name: found.scores[name][OBJECTIVE]["mae"] for name in found.scores}
    assert mae[NESTED] < 0.5 * mae["linear"] < 0.5 * mae["mean"]
    assert mae[NESTED] < 0.01
    assert found.scores[NESTED][OBJECTIVE]["spearman"] > 0.95
    assert found.scores["mean"][OBJECTIVE]["spearman"] is None
    coverage = [found.scores[NESTED][m]["coverage"] for m in runs.metrics]
    assert 0.8 <= np.mean(coverage) <= 1.0


def test_the_objective_is_the_weighted_mean_of_predictions(planted: Callable) -> None:
    runs = planted("additive").runs(15, noise=0.02)
    found = validate(runs, laws=("additive",), baselines=(), metric_weights=Q, repeats=2, rng=rng(0, "v"))
    assert (found.folds, found.repeats) == (5, 2)
    for n, run_id in enumerate(runs.run_id):
        measured, predicted, half = found.held_out[OBJECTIVE][run_id]
        np.testing.assert_allclose(measured, runs.losses[n] @ Q)
        each = [found.held_out[metric][run_id] for metric in runs.metrics]
        np.testing.assert_allclose(predicted, np.array([row[1] for row in each]) @ Q)
        assert 0 < half <= np.array([row[2] for row in each]) @ Q + 1e-9, "errors may cancel, never add up"
    np.testing.assert_allclose(found.scores[NESTED][OBJECTIVE]["mae"], found.scores["additive"][OBJECTIVE]["mae"])


def test_nothing_of_a_held_out_run_reaches_its_prediction(planted: Callable) -> None:
    runs = planted("additive").runs(15, noise=0.02)
    losses = runs.losses.copy()
    losses[4] += 7.0
    first, second = (
        validate(table, repeats=1, rng=rng(0, "v")).held_out for table in (runs, replace(runs, losses=losses))
    )
    for metric in (*runs.metrics, OBJECTIVE):
        assert first[metric]["run-004"][1] == second[metric]["run-004"][1]
        assert first[metric]["run-004"][0] != second[metric]["run-004"][0]


def test_order_and_repetition_do_not_matter(planted: Callable) -> None:
    runs = planted("additive").runs(12, noise=0.02, repeats=2)
    order = np.random.default_rng(0).permutation(len(runs))
    first, again, shuffled = (validate(t, repeats=1, rng=rng(3, "v")) for t in (runs, runs, runs.take(order)))
    assert first == again
    assert first.scores == shuffled.scores
    assert first.held_out == shuffled.held_out


def test_runs_of_one_mixture_share_a_fold() -> None:
    points = np.random.default_rng(0).dirichlet(np.ones(3), 7)
    rows = np.array([0, 1, 2, 3, 4, 5, 6, 0, 0, 3])
    fold = deal_folds(points[rows], 5, rng(0, "folds"))
    assert len(set(fold[rows == 0])) == len(set(fold[rows == 3])) == 1
    assert set(fold) == set(range(5))
    assert set(deal_folds(points[:3], 5, rng(0, "folds"))) == {0, 1, 2}


def test_too_few_mixtures_are_said_to_be_too_few(planted: Callable) -> None:
    found = validate(planted("additive").runs(2, repeats=3), rng=rng(0, "v"))
    assert found.scores == {}
    assert set(found.chosen.values()) == {"hierarchical"}
    assert "2 different mixtures, or their losses, are too few" in found.notes[0]


def test_a_metric_measured_too_rarely_is_not_scored_but_has_a_law(planted: Callable) -> None:
    runs = planted("additive").runs(12, noise=0.02)
    losses = runs.losses.copy()
    losses[2:, 6] = np.nan
    found = validate(replace(runs, losses=losses), metric_weights=Q, repeats=1, rng=rng(0, "v"))
    assert "Measured in too few runs to be held out: target:b. The objective is scored without." in found.notes
    assert set(found.chosen) == set(runs.metrics)
    assert "target:b" not in found.scores[NESTED]
    np.testing.assert_allclose(found.held_out[OBJECTIVE]["run-003"][0], runs.losses[3, 5])
    only = validate(replace(runs, losses=losses), metric_weights=np.eye(7)[6], repeats=1, rng=rng(0, "v"))
    assert only.scores == {}


def test_notes_say_when_a_law_knows_no_more_than_a_baseline(planted: Callable) -> None:
    world = planted("additive")
    runs = world.runs(12, repeats=3)
    pure = replace(runs, losses=4 + 0.1 * np.random.default_rng(0).normal(size=runs.losses.shape))
    notes = " ".join(validate(pure, rng=rng(0, "v")).notes)
    assert "baseline mean predicts held-out objectives as well" in notes
    unknown = validate(world.runs(12), repeats=1, rng=rng(0, "v")).notes
    assert any("trained twice" in note for note in unknown)


def test_laws_that_are_not_there_or_give_no_graph_are_refused(planted: Callable) -> None:
    runs = planted("additive").runs(8)
    with pytest.raises(StudyError, match="Did you mean 'additive'"):
        validate(runs, laws=("aditive",), rng=rng(0, "v"))
    with pytest.raises(StudyError, match="expression graph"):
        validate(runs, laws=("mixwright.core.objective:Objective",), rng=rng(0, "v"))
    with pytest.raises(StudyError, match="target:z, but the runs have only"):
        fit_chosen(runs, {"target:z": "additive"}, rng=rng(0, "v"))


def test_a_chosen_fit_takes_each_metric_from_its_law(planted: Callable) -> None:
    runs = planted("additive").runs(14, noise=0.03, repeats=3)
    chosen = {metric: ("exponential" if n % 2 else "additive") for n, metric in enumerate(runs.metrics)}
    fit = fit_chosen(runs, chosen, rng=rng(5, "fit"))
    assert fit.law == "auto"
    assert fit.forms == tuple(chosen.values())
    assert fit.metrics == runs.metrics
    x = np.random.default_rng(0).dirichlet(np.ones(5), 9)
    alone = {
        law: fit_chosen(runs, dict.fromkeys(runs.metrics, law), rng=rng(5, "fit"))
        for law in ("additive", "exponential")
    }
    assert alone["additive"].law == "additive"
    for m, metric in enumerate(runs.metrics):
        for name in ("mean", "spread"):
            expected = getattr(alone[chosen[metric]].predict(x), name)[:, m]
            np.testing.assert_allclose(getattr(fit.predict(x), name)[:, m], expected, rtol=1e-12)
    assert len(fit.graph.nodes) < len(alone["additive"].graph.nodes) + len(alone["exponential"].graph.nodes)
    np.testing.assert_allclose(fit.seed_noise(Q), (runs.losses[[0, -3, -2, -1]] @ Q).std(ddof=1))
    mean, spread = fit.difference(x, x[0], Q)
    assert abs(mean[0]) < 1e-12
    assert spread[0] == 0
    assert (spread[1:] > 0).all()


def test_members_of_all_laws_see_the_same_reweighted_runs(planted: Callable) -> None:
    world = planted("exponential")
    runs = world.runs(14, noise=0.1)
    x = np.random.default_rng(0).dirichlet(np.ones(5), 20)
    q = np.eye(7)[5]
    first, second = (law.fit(runs, rng(1, "same")).members(x, q) for law in (Additive(), Exponential()))
    apart = [np.corrcoef(a - a.mean(), b - b.mean())[0, 1] for a, b in zip(first, second, strict=True)]
    assert np.mean(apart) > 0.5


def test_rank_correlation_shares_ties() -> None:
    assert spearman(np.array([1.0, 2, 3]), np.array([10.0, 20, 30])) == pytest.approx(1.0)
    assert spearman(np.array([1.0, 2, 2, 3]), np.array([4.0, 3, 3, 1])) == pytest.approx(-1.0)
    assert spearman(np.array([1.0, 1, 1]), np.array([4.0, 3, 3])) is None
