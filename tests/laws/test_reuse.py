"""Domains that change: old runs keep their value, in the exact special case and through the law."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixwright.core.errors import DataError, StudyError
from mixwright.core.find import find, names
from mixwright.core.mixture import Mixture
from mixwright.core.objective import Group, Objective, Within
from mixwright.core.observation import Runs
from mixwright.core.rng import rng
from mixwright.laws import Z90, GraphFit, load_fit
from mixwright.laws.reuse import Changes, Combined, Reuse, combined, reuse, through, underneath
from mixwright.optimize.design import Options, design
from mixwright.optimize.mixture import optimize

LAWS = [name for name in ("additive", "hierarchical") if name in names("laws")]


def fitted(law: str, runs: Runs) -> GraphFit:
    fit: GraphFit = find("laws", law)().fit(runs, rng(0, "reuse"))
    return fit


def points(count: int, domains: int, seed: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(domains), count)


def small(domains: tuple[str, ...], weights: list[list[float]], **columns: Any) -> Runs:
    ids = columns.pop("run_id", tuple(f"r{n}" for n in range(len(weights))))
    metrics = columns.pop("metrics", ("m",))
    losses = columns.pop("losses", np.arange(float(len(weights) * len(metrics))).reshape(len(weights), -1))
    return Runs(domains, metrics, ids, np.array(weights), losses, **columns)


class World:
    """An additive truth over named domains; a metric for each domain of ``own`` and one target."""

    def __init__(self, c: dict[str, float], g: float = 0.5, metrics: int = 4, seed: int = 0) -> None:
        draw = np.random.default_rng(seed)
        self.c, self.g = c, g
        self.metrics = tuple(f"target:{n}" for n in range(metrics))
        self.floor = draw.uniform(2.5, 3.5, metrics)
        self.seed = seed

    def pull(self, domain: str) -> np.ndarray:
        """What a domain teaches of each metric; a name's tail after a dash changes nothing."""
        draw = np.random.default_rng([self.seed, *domain.partition("-")[0].encode()])
        return self.c[domain] + draw.normal(0, 0.5, len(self.metrics))

    def losses(self, domains: tuple[str, ...], weights: np.ndarray) -> np.ndarray:
        pull = np.stack([self.pull(domain) for domain in domains], axis=1)
        s = np.exp(pull + self.g * np.log(np.maximum(weights, 3e-4))[:, None])
        return self.floor + 1 / s.sum(axis=2)

    def runs(self, domains: tuple[str, ...], count: int, *, noise: float = 0.003, seed: int = 1) -> Runs:
        draw = np.random.default_rng(seed)
        weights = draw.dirichlet(np.ones(len(domains)), count)
        losses = self.losses(domains, weights) + noise * draw.standard_normal((count, len(self.metrics)))
        return Runs(domains, self.metrics, tuple(f"s{seed}-{n}" for n in range(count)), weights, losses)


# ---- carrying weights over ---------------------------------------------------------------------------------------


def test_each_change_puts_old_weight_where_the_text_is_now() -> None:
    old = small(
        ("web", "cc", "c4", "code", "junk", "books"),
        [[0.4, 0.1, 0.1, 0.2, 0.0, 0.2], [0.2, 0.3, 0.1, 0.2, 0.2, 0.0], [0.1, 0.2, 0.3, 0.3, 0.0, 0.1]],
        run_id=("a", "b", "c"),
    )
    new = small(("hq", "lq", "crawl", "code", "books", "maths"), [[0.1, 0.1, 0.2, 0.2, 0.2, 0.2]], run_id=("n",))
    changes = Changes(
        split={"web": {"hq": 0.25, "lq": 0.75}}, merged={"crawl": ("cc", "c4")}, added=("maths",), removed=("junk",),
        revised={"code": "code"},
    )  # fmt: skip
    both = combined(new, [(old, changes)])
    assert both.domains == new.domains
    assert both.runs.domains == (*new.domains, "code (before)")
    assert both.runs.run_id == ("n", "a", "c")
    np.testing.assert_allclose(
        both.runs.mixtures(),
        [[0.1, 0.1, 0.2, 0.2, 0.2, 0.2, 0], [0.1, 0.3, 0.2, 0, 0.2, 0, 0.2], [0.025, 0.075, 0.5, 0, 0.1, 0, 0.3]],
        atol=1e-15,
    )
    assert both.runs.related == {"code": "code (before)"}
    assert "1 of 3 runs of older table 1 were left out for having removed domains (junk)." in both.notes
    assert "Taken as added, with no weight in older table 1: maths." in both.notes


def test_metrics_units_steps_and_clashing_ids_go_with_the_runs() -> None:
    old = small(("a", "b"), [[0.5, 0.5], [0.1, 0.9]], metrics=("m", "k"), step=(5, 7), tokens=np.array([50.0, 70]))
    new = small(("a", "b"), [[0.3, 0.7]], metrics=("k", "n"), seed=(9,))
    both = combined(new, [(old, Changes())])
    assert both.runs.metrics == ("k", "n", "m")
    assert both.runs.run_id == ("r0", "1/r0", "r1")
    np.testing.assert_array_equal(both.runs.losses, [[0, 1, np.nan], [1, np.nan, 0], [3, np.nan, 2]])
    assert both.runs.step == (0, 5, 7)
    assert both.runs.seed == (9, 0, 0)
    np.testing.assert_array_equal(both.runs.tokens, [np.nan, 50, 70])
    with pytest.raises(DataError, match="k is in nats/token in one table of runs and in accuracy in another"):
        combined(new, [(replace(old, units=("nats/token", "accuracy")), Changes())])


def test_what_a_metric_belongs_to_goes_with_the_text() -> None:
    old = small(("web", "code"), [[0.5, 0.5]], metrics=("val:web", "val:code", "t"))
    new = small(("hq", "lq", "code"), [[0.2, 0.3, 0.5]], metrics=("val:web", "val:code", "t"), run_id=("n",))
    both = combined(new, [(old, Changes(split={"web": {"hq": 0.5, "lq": 0.5}}, revised={"code": "code"}))])
    assert both.runs.own == {"val:web": ("hq", "lq"), "val:code": ("code", "code (before)"), "t": ()}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (Changes(), r"older runs have the domain 'web'.* Say what became of it: split, merged, removed or revised"),
        (Changes(removed=("wbe",)), r"domain 'wbe', which the older runs do not have. Did you mean 'web'\?"),
        (
            Changes(split={"web": {"hq": 0.5, "lp": 0.5}}),
            r"domain 'lp', which the runs of today do not have",
        ),
        (
            Changes(removed=("web",), added=("code",)),
            r"'code' came about, but the older runs have it too.*revised: \{code",
        ),
        (Changes(removed=("web",)), r"Every run of older table 1 has one of the removed domains web"),
    ],
)
def test_changes_that_do_not_explain_the_domains_are_refused(changes: Changes, words: str) -> None:
    old = small(("web", "code"), [[0.5, 0.5]])
    new = small(("hq", "lq", "code"), [[0.2, 0.3, 0.5]])
    with pytest.raises(DataError, match=words):
        combined(new, [(old, changes)])


def test_changes_that_contradict_themselves_are_refused() -> None:
    with pytest.raises(StudyError, match=r"parts of the split domain web must sum to one; they sum to 0\.9"):
        Changes(split={"web": {"a": 0.5, "b": 0.4}})
    with pytest.raises(StudyError, match="older domain web twice"):
        Changes(removed=("web",), revised={"w2": "web"})
    with pytest.raises(StudyError, match="newer domain x twice"):
        Changes(added=("x",), merged={"x": ("p", "q")})


# ---- the law over old and new runs -------------------------------------------------------------------------------


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("kind", ["revised", "split", "added"])
def test_few_new_runs_with_old_ones_predict_better_than_alone(law: str, kind: str) -> None:
    base = {"web": 0.0, "code": 0.2, "books": -0.1, "wiki": 0.1, "maths": 0.0}
    was = tuple(base)
    if kind == "revised":
        world, now = World({**base, "code-2": 0.5}), ("web", "code-2", "books", "wiki", "maths")
        changes = Changes(revised={"code-2": "code"})
    elif kind == "added":
        world, now, changes = World({**base, "talk": 0.3}), (*was, "talk"), Changes(added=("talk",))
    else:  # the old web was half and half of two parts that now stand alone
        world, now = World({**base, "hq": 0.4, "lq": -0.4}), ("hq", "lq", "code", "books", "wiki", "maths")
        changes = Changes(split={"web": {"hq": 0.5, "lq": 0.5}})
    old = world.runs(was, 24, seed=2)
    if kind == "split":
        parts = np.insert(old.mixtures(), 0, 0.5 * old.mixtures()[:, 0], axis=1)
        parts[:, 1] *= 0.5
        old = replace(old, losses=world.losses(now, parts))
    wins = []
    for seed in (10, 11, 12):
        new = world.runs(now, 6, seed=seed)
        both = combined(new, [(old, changes)])
        at = points(200, len(now))
        truth = world.losses(now, at)
        alone = np.abs(fitted(law, new).predict(at).mean - truth).mean()
        together = both.today(fitted(law, both.runs))
        assert together.domains == now
        wins.append(np.abs(together.predict(at).mean - truth).mean() / alone)
    assert max(wins) < 0.9
    assert np.mean(wins) < 0.7


@pytest.mark.parametrize("law", LAWS)
def test_a_revised_domain_is_expected_to_be_like_its_earlier_version(law: str) -> None:
    """With no new run at all, what is known of the new version is what is known of the earlier one."""
    world = World({"web": 0.0, "code": 0.9, "books": -0.9})
    old = world.runs(("web", "code", "books"), 30)
    axis = ("web", "code", "books", "code-2")
    wide = replace(old, domains=axis, weights=np.pad(old.weights, [(0, 0), (0, 0), (0, 1)]))
    at = np.array([[0.3, 0.0, 0.1, 0.6]])
    truth = world.losses(("web", "code", "books"), at[:, [0, 3, 2]])
    apart, tied = (
        np.abs(fitted(law, replace(wide, related=related)).predict(at).mean - truth).mean()
        for related in ({}, {"code-2": "code"})
    )
    assert tied < 0.6 * apart


# ---- the exact special case --------------------------------------------------------------------------------------


def family() -> Reuse:
    return reuse(
        Mixture.of({"a": 0.3, "b": 0.1, "c": 0.4, "old": 0.2}), ("a", "new", "b", "c", "n2"), Changes(added=("new",))
    )


def test_unchanged_domains_move_as_one() -> None:
    one = family()
    assert one.free == ("unchanged", "new", "n2")
    z = points(20, 3)
    w = one.mixtures(z)
    np.testing.assert_allclose(w.sum(axis=1), 1, atol=1e-15)
    np.testing.assert_allclose(w[:, 0] / w[:, 2], 3, rtol=1e-12)
    np.testing.assert_allclose(w[:, 3] / w[:, 2], 4, rtol=1e-12)
    np.testing.assert_allclose(one.coordinates(w), z, atol=1e-15)
    touched = reuse({"a": 0.5, "b": 0.5}, ("a", "b", "unchanged"), Changes(revised={"b": "b"}))
    assert touched.free == ("unchanged*", "b", "unchanged")
    with pytest.raises(DataError, match="no proportions to reuse"):
        reuse({"a": 1.0}, ("x", "y"))


def test_where_the_optimum_keeps_proportions_reuse_finds_it_exactly() -> None:
    """One metric with one power: at the optimum weights go as exp(c_j / (1 - g)), whatever other domains there are."""
    g, c = 0.5, dict(zip("abcde", (0.2, -0.3, 0.5, 0.1, 0.0), strict=True))

    def best(domains: str) -> Mixture:
        return Mixture.normalized(tuple(domains), np.exp(np.array([c[d] for d in domains]) / (1 - g)))

    one = reuse(best("abc"), tuple("abcde"))
    whole = best("abcde").over(tuple("abcde")).weights
    np.testing.assert_allclose(one.mixtures(one.coordinates(whole))[0], whole, atol=1e-15)
    grid = points(4000, 3)
    z = np.concatenate([grid, one.coordinates(whole)])
    value = (np.exp([c[d] for d in "abcde"]) * one.mixtures(z) ** g).sum(axis=1)
    assert value.argmax() == len(grid), "the optimum over all five is the best of the family"


@pytest.mark.parametrize("law", LAWS)
def test_a_sweep_over_the_family_is_fitted_in_its_few_coordinates(law: str) -> None:
    one = reuse({"web": 0.5, "code": 0.2, "books": 0.2, "wiki": 0.1}, ("web", "code", "books", "wiki", "talk"))
    world = World(dict.fromkeys(one.domains, 0.0))
    z = np.random.default_rng(1).dirichlet(np.ones(2), 9)
    weights = np.concatenate([one.mixtures(z), points(4, 5)])
    runs = Runs(one.domains, world.metrics, tuple(map(str, range(13))), weights, world.losses(one.domains, weights))
    kept, said = one.runs(runs)
    assert kept.domains == ("unchanged", "talk")
    assert len(kept) == 9
    assert said == "4 of 13 runs have the unchanged domains in other proportions and are left out."
    np.testing.assert_allclose(kept.mixtures(), z, atol=1e-12)
    at = points(50, 2)
    error = fitted(law, kept).predict(at).mean - world.losses(one.domains, one.mixtures(at))
    assert np.abs(error).mean() < 0.02 * world.losses(one.domains, one.mixtures(at)).std()
    with pytest.raises(DataError, match="No run has the unchanged domains"):
        one.runs(runs.take(range(9, 13)))


def test_a_fit_over_all_domains_is_the_same_in_the_coordinates_of_the_family(planted: Callable[..., Any]) -> None:
    fit = fitted("additive", planted("additive").runs(12))
    one = reuse({"d1": 0.6, "d3": 0.3, "d0": 0.1}, ("d4", "d3", "d2", "d1", "d0"))
    narrow = load_fit(one.fit(fit).to_dict())
    z, q = points(30, 3), np.full(len(fit.metrics), 1 / len(fit.metrics))
    w = one.mixtures(z)[:, ::-1]  # the fit's domains are in the other order
    np.testing.assert_allclose(narrow.predict(z).mean, fit.predict(w).mean, rtol=1e-12)
    np.testing.assert_allclose(narrow.predict(z).spread, fit.predict(w).spread, rtol=1e-9)
    _, slope = narrow.mean_and_slope(z, q)
    step = 1e-6 * np.array([1.0, -1.0, 0.0])
    ahead, behind = (narrow.mean(z + sign * step, q) for sign in (1, -1))
    np.testing.assert_allclose((ahead - behind) / 2, slope @ step, rtol=1e-4, atol=1e-12)
    assert narrow.swept.shape == (12, 3)
    np.testing.assert_allclose(narrow.swept.sum(axis=1), 1)


def test_a_fit_through_a_matrix_can_be_taken_apart_again(planted: Callable[..., Any]) -> None:
    fit = fitted("additive", planted("additive").runs(12))
    assert underneath(fit) is None
    matrix = np.random.default_rng(0).dirichlet(np.ones(5), 3).T
    narrow = through(fit, ("p", "q", "r"), matrix, np.zeros((0, 3)))
    found = underneath(narrow)
    assert found is not None
    np.testing.assert_array_equal(found[1], matrix)
    at = points(20, 5)
    np.testing.assert_array_equal(found[0].predict(at).mean, fit.predict(at).mean)
    np.testing.assert_array_equal(found[0].predict(at).spread, fit.predict(at).spread)


def test_optimize_and_design_work_on_the_family_and_on_revised_domains() -> None:
    """The optimum comes with its certificate there too, and every design is allowed."""
    world = World({"web": 0.0, "code": 0.2, "books": -0.1, "wiki": 0.0, "code-2": 0.5})
    now = ("web", "code-2", "books", "wiki")
    old, new = world.runs(("web", "code", "books", "wiki"), 20, seed=2), world.runs(now, 6, seed=3)
    both = combined(new, [(old, Changes(revised={"code-2": "code"}))])
    fit = both.today(fitted("additive", both.runs))
    best = optimize(fit, Objective(), natural=Mixture.normalized(now, np.ones(4)))
    assert best.gap is not None
    assert best.gap < 1e-6
    grid = points(20_000, 4)
    assert fit.mean(best.mixture.over(now).weights[None], np.full(4, 0.25))[0] <= fit.mean(grid, np.full(4, 0.25)).min()
    family = reuse({"web": 0.5, "books": 0.3, "wiki": 0.2}, now)
    objective = Objective(floors={"books": 0.1, "code-2": 0.05}, ceilings={"web": 0.4})
    narrow = optimize(family.fit(fit), family.objective(objective), natural=Mixture.normalized(family.free, np.ones(2)))
    assert objective.allows(Mixture.normalized(now, family.mixtures(narrow.mixture.over(family.free).weights)[0]))
    sweep = design(
        Mixture.normalized(family.free, np.array([0.7, 0.3])), rng=rng(0, "d"), objective=family.objective(objective),
        options=Options(runs=5),
    )  # fmt: skip
    for mixture in sweep:
        assert objective.allows(Mixture.normalized(now, family.mixtures(mixture.weights)[0]))


@given(st.integers(0, 10_000))
@settings(max_examples=50, deadline=None)
def test_the_objective_over_the_family_allows_what_the_whole_one_does(seed: int) -> None:
    draw = np.random.default_rng(seed)
    one = family()
    prior = dict(zip(one.domains, one.mixtures(np.full((1, 3), 1 / 3))[0].tolist(), strict=True))
    objective = Objective(
        floors={"a": 0.1, "new": 0.05}, ceilings={"c": 0.35, "n2": 0.6}, costs={"a": 1.0, "b": 2.0, "new": 3.0}, cost_cap=1.2,
        groups={"g": Group(("a", "b", "c", "n2"), 0.3, 0.9), "h": Group(("new", "n2"), 0.1, 0.7)},
        within=Within(prior, l1=0.7, kl=0.4),
    )  # fmt: skip
    narrow = one.objective(objective)
    z = draw.dirichlet(np.ones(3), 40)
    for coordinates, weights in zip(z, one.mixtures(z), strict=True):
        allowed = objective.allows(Mixture.normalized(one.domains, weights))
        assert narrow.allows(Mixture.normalized(one.free, coordinates)) == allowed
    supply = np.array([10.0, 5.0, 1.0, 40.0, 7.0])
    np.testing.assert_allclose(one.supply(supply), [min(10 / 0.375, 1 / 0.125, 40 / 0.5), 5, 7])


def test_what_the_family_cannot_express_is_refused() -> None:
    one = family()
    with pytest.raises(StudyError, match=r"groups\.g holds some but not all of the unchanged domains"):
        one.objective(Objective(groups={"g": Group(("a", "new"), 0.1, 0.9)}))
    with pytest.raises(StudyError, match=r"objective\.within needs a prior"):
        one.objective(Objective(within=Within("natural", l1=0.1)))
    with pytest.raises(StudyError, match="a floor has no weight"):
        reuse({"a": 1.0, "b": 0.0}, ("a", "b", "n")).objective(Objective(floors={"b": 0.1}))


# ---- what must not matter ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("seed", range(6))
def test_splitting_a_domain_into_identical_halves_moves_no_prediction_by_more_than_its_interval(
    law: str, seed: int, planted: Callable[..., Any]
) -> None:
    world = planted("additive" if seed % 2 else "exponential", seed=seed)
    runs = world.runs(16 + 4 * seed, noise=0.01, seed=seed, repeats=3)
    split = world.domains[seed % 5]
    halves = (f"{split}-1", f"{split}-2")
    today = tuple(name for name in world.domains if name != split) + halves
    none = Runs(today, runs.metrics, (), np.zeros((0, 5 + 1)), np.zeros((0, len(runs.metrics))))
    both = combined(none, [(runs, Changes(split={split: dict.fromkeys(halves, 0.5)}))])
    before, after = fitted(law, runs), fitted(law, both.runs)
    at = np.concatenate([points(100, 5), runs.mixtures()])
    place = world.domains.index(split)
    others = np.delete(at, place, axis=1)
    apart = np.concatenate([others, 0.5 * at[:, [place, place]]], axis=1)
    first, second = before.predict(at), after.predict(apart)
    half = Z90 * np.hypot(first.spread, np.nan_to_num(before.noise))
    assert (np.abs(second.mean - first.mean) <= half).all(), np.max(np.abs(second.mean - first.mean) / half)


@pytest.mark.parametrize("law", LAWS)
def test_the_order_of_everything_is_immaterial(law: str, planted: Callable[..., Any]) -> None:
    """Also with trajectories, a map of own domains, an earlier version of a domain and a copy of a run."""
    runs = planted("additive").runs(10, noise=0.01, repeats=2)
    steps = [n for n in range(len(runs)) for _ in range(2)]
    full = Runs(
        runs.domains, runs.metrics, tuple(runs.run_id[n] for n in steps), runs.weights[steps],
        runs.losses[steps] + np.tile([0.5, 0.0], len(runs))[:, None], step=(1, 2) * len(runs),
        tokens=np.tile([10.0, 20.0], len(runs)), seed=tuple(runs.seed[n] for n in steps),
        own={"target:a": ("d0", "d3")}, related={"d1": "d2"},
    )  # fmt: skip
    draw = np.random.default_rng(3)
    rows, d, m = draw.permutation(len(full)), draw.permutation(5), draw.permutation(7)
    mixed = full.take(rows)
    mixed = replace(
        mixed, domains=tuple(full.domains[n] for n in d), weights=mixed.weights[:, :, d],
    ).only([full.metrics[n] for n in m])  # fmt: skip
    at = points(20, 5)
    first, second = fitted(law, full).predict(at), fitted(law, mixed).predict(at[:, d])
    np.testing.assert_allclose(second.mean, first.mean[:, m], rtol=0, atol=1e-9)
    np.testing.assert_allclose(second.spread, first.spread[:, m], rtol=0, atol=1e-9)


def test_combined_runs_without_earlier_versions_are_fitted_as_they_are() -> None:
    world = World(dict.fromkeys("abc", 0.0))
    both = combined(world.runs(tuple("abc"), 8), [(world.runs(tuple("abc"), 6, seed=3), Changes())])
    assert isinstance(both, Combined)
    fit = fitted("additive", both.runs)
    assert both.today(fit) is fit
