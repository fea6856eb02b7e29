"""Next runs: allowed, new, repeatable; they find a planted optimum, learn, take the size that tells most, and say why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from mixwright.core.errors import DataError, StudyError
from mixwright.core.mixture import Mixture
from mixwright.core.objective import Group, Objective
from mixwright.core.observation import Runs
from mixwright.core.rng import rng
from mixwright.laws import GraphFit
from mixwright.laws.additive import Additive
from mixwright.laws.graph import Builder
from mixwright.optimize.next_runs import next_runs
from mixwright.optimize.simplex import Region
from mixwright.optimize.worlds import Measured, Size, imagine

HALF = np.array([0.5, 0.5])


def table(fit: GraphFit) -> Runs:
    """The swept mixtures with the losses the fit predicts."""
    return Runs(fit.domains, fit.metrics, fit.run_id, fit.swept, fit.predict(fit.swept).mean)


def truth(weights: np.ndarray) -> np.ndarray:
    """Two metrics over five domains, each the better the more of several domains."""
    pull = np.array([[1.0, 0.3, 0.0, 0.2, -0.6], [0.1, 0.9, 0.3, -0.2, 0.2]])
    return 2.5 + 1 / (np.exp(pull)[None] * np.maximum(weights, 3e-4)[:, None] ** 0.5).sum(axis=2)


def measure(weights: np.ndarray, names: tuple[str, ...] = ("a", "b", "c", "d", "e")) -> Runs:
    """Runs of mixtures over those five domains, named in that order."""
    order = np.argsort(names)
    losses = truth(weights[:, order])
    return Runs(names, ("x", "y"), tuple(f"r{n:03d}" for n in range(len(weights))), weights, losses)


def test_the_best_of_a_pool_is_found_with_few_runs_and_then_the_advisor_stops() -> None:
    pool = np.random.default_rng(3).dirichlet(np.full(5, 0.8), 150)
    loss = truth(pool).mean(axis=1)
    rows, stopped = [int(n) for n in np.random.default_rng(4).permutation(150)[:6]], 0
    while len(rows) < 15:
        runs = measure(pool[rows])
        fit = Additive(members=8).fit(runs, rng(0, "fit"))
        found = next_runs(fit, runs, Objective(), count=3, candidates=pool, rng=rng(0, "next", len(rows)))
        assert not set(rows) & {run.candidate for run in found.runs}
        if found.advice.stop:
            stopped = len(rows)
            break
        rows += [run.candidate for run in found.runs if run.candidate is not None]
    assert int(loss.argmin()) in rows
    assert 6 < stopped < 15


@given(
    st.integers(3, 6),
    st.floats(0, 0.1),
    st.floats(0.5, 1),
    st.booleans(),
    st.integers(0, 100),
    st.sampled_from([0, 0.5, 1]),
)
@settings(
    max_examples=8,
    phases=[Phase.explicit, Phase.generate],
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_every_proposal_is_allowed_and_new(
    known: Callable[..., GraphFit], domains: int, floor: float, top: float, grouped: bool, seed: int, explore: float
) -> None:
    fit = known("additive", domains, seed=seed)
    groups = {"pair": Group(("d0", "d1"), 0.3, 0.8)} if grouped else {}
    objective = Objective(floors=dict.fromkeys(fit.domains, floor), ceilings={"d0": top}, groups=groups, epoch_cap=4.0)
    supply = np.full(domains, 2e8)
    supply[-1] = 1.5e8
    found = next_runs(
        fit, table(fit), objective, count=4, tokens=1e9, supply=supply, explore=explore, rng=rng(seed, "next")
    )
    points = np.array([run.mixture.weights for run in found.runs])
    assert Region.of(objective, fit.domains, tokens=1e9, supply=supply).contains(points, 1e-6).all()
    assert len({row.round(6).tobytes() for row in points}) == len(found.runs) == 4
    assert np.abs(points[:, None] - fit.swept[None]).max(axis=2).min() > 1e-6


def test_the_same_stream_gives_the_same_runs_and_another_others(known: Callable[..., GraphFit]) -> None:
    fit = known("additive", wobble=0.2)
    first, same, other = (next_runs(fit, table(fit), Objective(), count=3, rng=rng(n, "next")) for n in (0, 0, 1))
    assert first.to_dict() == same.to_dict()
    assert first.to_dict() != other.to_dict()


def test_the_order_of_domains_is_immaterial() -> None:
    weights = np.random.default_rng(0).dirichlet(np.ones(5), 12)
    place = [3, 0, 4, 1, 2]
    names = tuple("abcde"[n] for n in place)
    both = [measure(weights), measure(weights[:, place], names)]
    found = []
    for runs in both:
        fit = Additive(members=6).fit(runs, rng(0, "fit"))
        found.append(next_runs(fit, runs, Objective(floors={"b": 0.05}), count=4, rng=rng(0, "next")))
    assert found[1].runs[0].mixture.domains == names
    for one, other in zip(found[0].runs, found[1].runs, strict=True):
        assert one.purpose == other.purpose
        assert one.mixture.l1(other.mixture) < 1e-6


def test_runs_to_learn_take_away_more_variance_than_most_others(known: Callable[..., GraphFit]) -> None:
    fit = known("additive", 4, wobble=0.3, seed=2)
    pool = np.random.default_rng(0).dirichlet(np.ones(4), 60)
    found = next_runs(fit, table(fit), Objective(), count=1, candidates=pool, explore=1.0, rng=rng(0, "next"))
    worlds = imagine(fit, HALF, pool, Measured.of(fit, table(fit), HALF), rng=rng(9, "other"), count=512)
    gains = worlds.target - worlds.target[int(worlds.target.mean(axis=1).argmin())]
    told = [
        float(np.mean(np.cov(np.vstack([row[None], gains]))[0, 1:] ** 2) / (row.var() + worlds.noise**2))
        for row in worlds.target
    ]
    (run,) = found.runs
    assert run.purpose == "explore"
    assert np.mean(np.array(told) <= told[run.candidate or 0]) > 0.8
    assert "tells most" in run.reason


def test_purposes_alternate_over_small_batches(known: Callable[..., GraphFit]) -> None:
    fit = known("additive")
    done = len(fit.swept)
    found = next_runs(fit, table(fit), Objective(), count=6, explore=0.5, rng=rng(0, "next"))
    wanted = ["explore" if n % 2 == 0 else "exploit" for n in range(done + 1, done + 7)]
    assert [run.purpose for run in found.runs] == wanted


def sized(known: Callable[..., GraphFit], seen_at: float) -> GraphFit:
    """A fit whose members differ only in proportion to ``max(log(params / seen_at), 0)``."""
    base = known("additive", 3, metrics=1, wobble=0.3)
    build = Builder(base.domains)
    places, output = build.graft(base.graph), base.graph.outputs["target:0"]
    mean, members = places[output["mean"]], places[output["members"]]
    size = build.apply("log", build.apply("mul", build.apply("params"), build.const(1 / seen_at)))
    size = build.apply("max", size, build.const(0.0))
    away = build.apply("add", members, build.apply("mul", mean, build.const(-1.0)))
    build.output(
        "target:0",
        mean=mean,
        spread=build.const(0.01),
        members=build.apply("add", mean, build.apply("mul", away, size)),
    )
    return replace(base, graph=build.graph())


def test_the_size_that_tells_most_per_flop_is_taken(known: Callable[..., GraphFit]) -> None:
    small, large = Size(1e6, 1e9), Size(1e8, 1e9)
    one = np.array([1.0])
    blind, clear = sized(known, 1e6), sized(known, 1e4)
    for fit, wanted in ((blind, large), (clear, small)):
        found = next_runs(
            fit, None, Objective(), count=2, target=large, sizes=(small, large), explore=0.5, rng=rng(0, "next")
        )
        assert {run.size for run in found.runs} == {wanted}
        assert f"{wanted} tells most per FLOP" in found.runs[0].reason
    assert small.flops == 6e15
    assert blind.at(tokens=1e9, params=1e6).members(blind.swept, one).std(axis=1).max() < 1e-12


def test_a_law_without_sizes_says_that_it_is_taken_to_hold_at_all(known: Callable[..., GraphFit]) -> None:
    fit = known("additive", wobble=0.2)
    sizes = (Size(1e6, 1e9), Size(1e8, 1e9))
    found = next_runs(fit, None, Objective(), count=2, sizes=sizes, target=sizes[1], rng=rng(0, "next"))
    assert {run.size for run in found.runs} == {sizes[0]}
    assert any("knows no sizes" in note for note in found.notes)


def test_the_advisor_stops_when_the_best_was_measured_and_goes_on_when_much_is_open(
    known: Callable[..., GraphFit],
) -> None:
    sure, unsure = known("additive", 4, wobble=1e-4, noise=1e-4), known("additive", 4, wobble=0.6, noise=1e-4)
    assert next_runs(sure, table(sure), Objective(), count=2, rng=rng(0, "next")).advice.stop
    advice = next_runs(unsure, None, Objective(), count=2, rng=rng(0, "next")).advice
    assert not advice.stop
    assert advice.regret > advice.tolerance


def test_fewer_candidates_than_runs_are_said_and_none_is_an_error(known: Callable[..., GraphFit]) -> None:
    fit = known("additive")
    pool = np.concatenate([fit.swept, [[0.2, 0.3, 0.5]]])
    found = next_runs(fit, table(fit), Objective(), count=3, candidates=pool, rng=rng(0, "next"))
    assert [run.candidate for run in found.runs] == [len(pool) - 1]
    assert "Only 1 of the 3 runs" in found.notes[0]
    with pytest.raises(StudyError, match="none left to try"):
        next_runs(fit, table(fit), Objective(), count=1, candidates=fit.swept, rng=rng(0, "next"))
    with pytest.raises(StudyError, match="None of the candidate mixtures is allowed"):
        next_runs(fit, None, Objective(floors={"d0": 0.9}), count=1, candidates=pool[-1:], rng=rng(0, "next"))


def test_a_region_of_one_mixture_is_proposed_once(known: Callable[..., GraphFit]) -> None:
    fit = known("additive", 2)
    found = next_runs(fit, None, Objective(fixed={"d0": 0.4}), count=4, rng=rng(0, "next"))
    assert [run.mixture.weights.round(6).tolist() for run in found.runs] == [[0.4, 0.6]]
    assert "Only 1 of the 4 runs" in found.notes[0]


def test_wrong_calls_are_sentences(known: Callable[..., GraphFit]) -> None:
    fit = known("additive")
    with pytest.raises(StudyError, match="count of at least 1"):
        next_runs(fit, None, Objective(), count=0, rng=rng(0, "next"))
    with pytest.raises(DataError, match="weight for each of the fit's 3 domains"):
        next_runs(fit, None, Objective(), count=1, candidates=np.ones((2, 2)) / 2, rng=rng(0, "next"))
    with pytest.raises(DataError, match="natural mixture is over a"):
        next_runs(fit, None, Objective(), count=1, natural=Mixture.of({"a": 1.0}), rng=rng(0, "next"))
    with pytest.raises(DataError, match="say which the choice is for"):
        next_runs(sized(known, 1e6), None, Objective(), count=1, rng=rng(0, "next"))
