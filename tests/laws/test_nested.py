"""Laws nested in one another: planted chains, members that carry the extrapolation, order, what is said, published runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from mixwright.core.errors import DataError
from mixwright.core.rng import rng
from mixwright.laws import load_fit
from mixwright.laws.nested import Forecast, Nested
from mixwright.laws.steps import LearningRate, StepLaw
from mixwright.laws.validation import spearman
from mixwright.store.artifact import to_json

EARLY = tuple(np.linspace(1e4, 2e4, 7))
Q = np.array([0.5, 0.5])
STEP = 1_048_576
PUBLISHED = StepLaw(LearningRate("cosine", total=1e5 * STEP, warmup=2e3 * STEP, memory=1e3 * STEP))


def test_an_unseen_mixture_at_a_larger_size_and_later_time(trajectories: Callable) -> None:
    world = trajectories()
    law = Nested(law="additive", tokens=1e5, params=8e8, steps=StepLaw(world.rate, drop=world.drop))
    fit = law.fit(world.runs(24, EARLY, noise=0.002), rng(0, "t"))
    x = np.random.default_rng(9).dirichlet(np.ones(3) * 2, 20)
    truth = world.truth(x, 1e5, 8e8)
    found = fit.predict(x)
    assert np.abs(found.mean - truth).mean() < 0.03
    assert spearman(found.mean @ Q, truth @ Q) > 0.95
    assert np.mean(np.abs(found.mean - truth) <= 1.645 * found.spread) >= 0.8


def test_what_is_uncertain_of_the_steps_is_uncertain_of_the_answer(trajectories: Callable) -> None:
    world = trajectories()
    runs = world.runs(12, EARLY)
    sure, unsure = (
        Nested(law="additive", tokens=1e5, steps=StepLaw(world.rate, width_drop=width)).fit(runs, rng(0, "t"))
        for width in (0.0, 0.1)
    )
    x = np.full((1, 3), 1 / 3)
    assert unsure.spread(x, Q)[0] ** 2 - sure.spread(x, Q)[0] ** 2 > 0.05**2
    _, difference = unsure.difference(np.array([[0.5, 0.25, 0.25]]), x[0], Q)
    assert difference[0] < 0.3 * unsure.spread(x, Q)[0]  # all mixtures anneal alike


def test_the_fit_is_the_same_after_json_and_its_gradient_exact(trajectories: Callable) -> None:
    world = trajectories()
    fit = Nested(law="additive", params=8e8, steps=StepLaw(world.rate)).fit(world.runs(10, EARLY), rng(0, "t"))
    again = load_fit(json.loads(to_json(fit.to_dict())))
    x = np.random.default_rng(0).dirichlet(np.ones(3), 5)
    np.testing.assert_array_equal(fit.predict(x).spread, again.predict(x).spread)
    mean, slope = fit.mean_and_slope(x, Q)
    step = 1e-6 * np.eye(3)
    numeric = np.stack([(fit.mean(x + d, Q) - fit.mean(x - d, Q)) / 2e-6 for d in step], axis=1)
    np.testing.assert_allclose(slope, numeric, rtol=1e-5, atol=1e-7)
    members = fit.members(x, Q)
    assert np.all(np.abs(members.mean(axis=1) - mean) < 4 * members.std(axis=1))


def test_order_does_not_matter(trajectories: Callable) -> None:
    world = trajectories()
    runs = world.runs(8, EARLY, noise=0.005)
    draw = np.random.default_rng(0)
    rows, column = draw.permutation(len(runs)), np.array([2, 0, 1])
    shuffled = runs.take(rows)
    other = replace(
        shuffled, domains=tuple(runs.domains[d] for d in column), weights=shuffled.weights[:, :, column],
        metrics=runs.metrics[::-1], losses=shuffled.losses[:, ::-1], bpb=None, unigram=None, units=(),
    )  # fmt: skip
    law = Nested(law="additive", params=8e8, steps=StepLaw(world.rate))
    one, two = law.fit(runs, rng(0, "t")), law.fit(other, rng(0, "t"))
    x = draw.dirichlet(np.ones(3), 6)
    for name in ("mean", "spread"):
        found = getattr(two.predict(x[:, column]), name)[:, ::-1]
        np.testing.assert_allclose(getattr(one.predict(x), name), found, atol=1e-9)


def test_one_moment_and_one_size_leave_the_mixing_law_alone(trajectories: Callable) -> None:
    from mixwright.laws.additive import Additive

    world = trajectories()
    runs = world.runs(12, (3e4,), sizes=(8e7,))
    fit = Nested(law="additive").fit(runs, rng(0, "t"))
    x = np.random.default_rng(0).dirichlet(np.ones(3), 5)
    np.testing.assert_allclose(fit.predict(x).mean, Additive().fit(runs, rng(0, "u")).predict(x).mean, atol=1e-9)


def test_another_size_than_the_only_one_is_refused(trajectories: Callable) -> None:
    runs = trajectories().runs(6, EARLY, sizes=(8e7,))
    with pytest.raises(DataError, match="needs runs of 2 sizes or more; these are all of 80,000,000 parameters"):
        Nested(law="additive", params=8e8).fit(runs, rng(0, "t"))


def test_catching_up() -> None:
    tokens = np.array([1.0, 2.0, 3.0, 4.0])
    mean = np.stack([5.0 - tokens, 4.5 - tokens], axis=1)[:, :, None]
    members = mean[None] + np.array([-1.0, 0.0, 1.0])[:, None, None, None]  # common to both: no uncertainty
    forecast = Forecast(("slow", "fast"), np.eye(2), ("a",), tokens, mean, members)
    assert forecast.catches_up(1, 0, {"a": 1.0}) == pytest.approx((0.875, 0.875, 0.875))
    assert forecast.catches_up(0, 1, {"a": 1.0})[0] == 1.0


def test_a_forecast_ends_where_the_truth_does(trajectories: Callable) -> None:
    world = trajectories()
    law = Nested(params=8e8, steps=StepLaw(world.rate, drop=world.drop))
    found = law.forecast(world.runs(10, EARLY), [2e4, 6e4, 1e5], rng(0, "t"))
    truth = np.stack([world.truth(found.mixtures, t, 8e8) for t in found.tokens])
    place = [world.metrics.index(metric) for metric in found.metrics]
    np.testing.assert_allclose(found.mean, truth[:, :, place], atol=0.02)
    assert found.members.shape == (64, 3, 10, 2)


@pytest.mark.parametrize(("name", "mae", "rank"), [("redpajama", 0.0150, 0.88), ("5mix", 0.0105, 0.93)])
def test_published_chain_with_unseen_mixtures(mixing_laws: Callable, name: str, mae: float, rank: float) -> None:
    """410M at 30k steps from smaller models and 20k steps, a quarter of the mixtures left out at a time."""
    runs, q = mixing_laws(name)
    step = np.array(runs.step)
    target = runs.take((step == 30_000) & (runs.params > 3e8))
    small = runs.take((step >= 10_000) & (step <= 20_000) & (runs.params < 3e8))
    small = small.take(
        [n for n, own in enumerate(small.run_id) if not own.endswith("_207")]
    )  # some checkpoints missing
    index = [own.rpartition("_")[2] for own in small.run_id]
    law = Nested(tokens=3e4 * STEP, params=float(target.params[0]), steps=PUBLISHED)
    predicted = np.full(len(target), np.nan)
    for part in range(4):
        out = {own.rpartition("_")[2] for own in target.run_id[part::4]}
        fit = law.fit(small.take([n for n, own in enumerate(index) if own not in out]), rng(0, "published"))
        predicted[part::4] = fit.mean(target.mixtures()[part::4], q)
    assert np.abs(predicted - target.losses @ q).mean() <= mae
    assert spearman(predicted, target.losses @ q) >= rank


@pytest.mark.parametrize(("name", "raw"), [("redpajama", 0.947), ("5mix", 0.938)])
def test_published_chain_ranks_seen_mixtures_better_than_raw_losses(
    mixing_laws: Callable, name: str, raw: float
) -> None:
    runs, q = mixing_laws(name)
    step = np.array(runs.step)
    target = runs.take((step == 30_000) & (runs.params > 3e8))
    small = runs.take((step >= 10_000) & (step <= 20_000) & (runs.params < 3e8))
    small = small.take([n for n, own in enumerate(small.run_id) if not own.endswith("_207")])
    found = Nested(params=float(target.params[0]), steps=PUBLISHED).forecast(small, [3e4 * STEP], rng(0, "published"))
    place = {own.rpartition("_")[2]: n for n, own in enumerate(found.run_id)}
    share = dict(zip(runs.metrics, q, strict=True))
    overall = found.mean[0] @ np.array([share[metric] for metric in found.metrics])
    predicted = overall[[place[own.rpartition("_")[2]] for own in target.run_id]]
    assert spearman(predicted, target.losses @ q) > raw
