"""The joint law over mixture, tokens and size: derivatives, its graph, planted truths, order, and what is said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from mixwright.core.errors import DataError
from mixwright.core.rng import rng
from mixwright.laws._table import tabulate
from mixwright.laws.joint import Joint, _thinned, _World
from mixwright.laws.steps import LearningRate, StepLaw
from mixwright.laws.validation import spearman

EARLY = tuple(np.linspace(1e4, 3e4, 6))
Q = np.array([0.5, 0.5])
STEP = 1_048_576


def law_of(world: object, **options: object) -> Joint:
    return Joint(steps=StepLaw(world.rate, drop=world.drop), **options)  # type: ignore[attr-defined, arg-type]


def seen_by(law: Joint, runs: object) -> _World:
    used = _thinned(runs)  # type: ignore[arg-type]
    return _World.of(law, used, tabulate(used))


def test_derivatives_are_right(trajectories: Callable) -> None:
    world = trajectories()
    form = seen_by(law_of(world), world.runs(5, EARLY))
    draw = np.random.default_rng(0)
    theta = form.starts() + 0.1 * draw.standard_normal(form.starts().shape)
    _, J = form.evaluate(theta)
    for p in range(form.width):
        step = np.zeros(form.width)
        step[p] = 1e-6
        numeric = (form.evaluate(theta + step)[0] - form.evaluate(theta - step)[0]) / 2e-6
        np.testing.assert_allclose(J[:, :, p], numeric, rtol=1e-5, atol=1e-7)


def test_the_graph_says_what_the_form_says(trajectories: Callable) -> None:
    from mixwright.laws.graph import Builder

    world = trajectories()
    runs = world.runs(5, EARLY)
    form = seen_by(law_of(world), runs)
    theta = form.starts() + 0.1 * np.random.default_rng(0).standard_normal(form.starts().shape)
    build = Builder(runs.domains)
    node, _, _ = form.write(build, theta[0], theta, runs.domains)
    used, expected = _thinned(runs), form.evaluate(theta)[0][0]
    for n in range(0, len(used), 7):
        graph = build.graph().bind(tokens=float(used.tokens[n]), params=float(used.params[n]))
        (found,) = graph.evaluate([node], used.mixtures()[[n]])
        assert found[0, 0] == pytest.approx(expected[n], abs=1e-5)  # straight lines stand for the schedule


def test_an_unseen_mixture_at_a_larger_size_and_later_time(trajectories: Callable) -> None:
    world = trajectories()
    fit = law_of(world).fit(world.runs(20, EARLY, noise=0.002), rng(0, "t"))
    x = np.random.default_rng(9).dirichlet(np.ones(3) * 2, 20)
    for tokens, params in ((2e4, 8e7), (1e5, 4e8)):
        truth, found = world.truth(x, tokens, params), fit.at(tokens=tokens, params=params).predict(x)
        assert np.abs(found.mean - truth).mean() < 0.02
        assert spearman(found.mean @ Q, truth @ Q) > 0.97
        assert np.mean(np.abs(found.mean - truth) <= 1.645 * found.spread) >= 0.75


def test_the_gradient_is_exact_and_the_target_is_asked_for(trajectories: Callable) -> None:
    world = trajectories()
    fit = law_of(world).fit(world.runs(8, EARLY), rng(0, "t"))
    x = np.random.default_rng(0).dirichlet(np.ones(3) * 3, 4)
    with pytest.raises(DataError, match="depend on tokens and params"):
        fit.mean(x, Q)
    at = fit.at(tokens=5e4, params=4e8)
    _, slope = at.mean_and_slope(x, Q)
    numeric = np.stack([(at.mean(x + d, Q) - at.mean(x - d, Q)) / 2e-6 for d in 1e-6 * np.eye(3)], axis=1)
    np.testing.assert_allclose(slope, numeric, rtol=1e-4, atol=1e-6)


def test_order_does_not_matter(trajectories: Callable) -> None:
    world = trajectories()
    runs = world.runs(8, EARLY, noise=0.005)
    column = np.array([2, 0, 1])
    shuffled = runs.take(np.random.default_rng(0).permutation(len(runs)))
    other = replace(
        shuffled, domains=tuple(runs.domains[d] for d in column), weights=shuffled.weights[:, :, column],
        metrics=runs.metrics[::-1], losses=shuffled.losses[:, ::-1], bpb=None, unigram=None, units=(),
    )  # fmt: skip
    one, two = (law_of(world).fit(r, rng(0, "t")).at(tokens=5e4, params=4e8) for r in (runs, other))
    x = np.random.default_rng(1).dirichlet(np.ones(3), 6)
    for name in ("mean", "spread"):
        found = getattr(two.predict(x[:, column]), name)[:, ::-1]
        np.testing.assert_allclose(getattr(one.predict(x), name), found, atol=1e-9)


def test_the_unit_of_tokens_does_not_matter(trajectories: Callable) -> None:
    world = trajectories()
    runs = world.runs(8, EARLY, noise=0.005)
    rate = replace(world.rate, total=world.rate.total * STEP, warmup=world.rate.warmup * STEP)
    one = law_of(world).fit(runs, rng(0, "t")).at(tokens=5e4, params=4e8)
    two = Joint(steps=StepLaw(rate, drop=world.drop)).fit(replace(runs, tokens=runs.tokens * STEP), rng(0, "t"))
    x = np.random.default_rng(1).dirichlet(np.ones(3), 6)
    np.testing.assert_allclose(one.mean(x, Q), two.at(tokens=5e4 * STEP, params=4e8).mean(x, Q), rtol=1e-6)


def test_runs_of_one_moment_and_size_need_no_target(trajectories: Callable) -> None:
    runs = trajectories().runs(16, (3e4,), sizes=(8e7,), noise=0.002)
    fit = Joint().fit(runs, rng(0, "t"))
    assert np.abs(fit.predict(runs.mixtures()).mean - runs.losses).mean() < 0.01


def test_tokens_of_some_rows_only(trajectories: Callable) -> None:
    runs = trajectories().runs(4, EARLY)
    tokens = runs.tokens.copy()
    tokens[7] = np.nan
    with pytest.raises(DataError, match="needs tokens of every row or of none; run m00"):
        Joint().fit(replace(runs, tokens=tokens, step=tuple(range(len(runs)))), rng(0, "t"))


def test_published_runs_at_a_larger_size(mixing_laws: Callable) -> None:
    """410M at 30k steps from smaller models and 20k steps, mixtures left out in quarters."""
    runs, q = mixing_laws("5mix")
    step = np.array(runs.step)
    target = runs.take((step == 30_000) & (runs.params > 3e8))
    small = runs.take((step >= 10_000) & (step <= 20_000) & (runs.params < 3e8))
    index = [own.rpartition("_")[2] for own in small.run_id]
    rate = LearningRate("cosine", total=1e5 * STEP, warmup=2e3 * STEP, memory=1e3 * STEP)
    out = {own.rpartition("_")[2] for own in target.run_id[::4]}
    fit = Joint(steps=StepLaw(rate)).fit(small.take([n for n, own in enumerate(index) if own not in out]), rng(0, "p"))
    predicted = fit.at(tokens=3e4 * STEP, params=float(target.params[0])).mean(target.mixtures()[::4], q)
    assert np.abs(predicted - (target.losses @ q)[::4]).mean() <= 0.0150
