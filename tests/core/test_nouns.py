"""The nouns hold what they promise, for any values hypothesis can think of."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixwright.core.corpus import Corpus, Domain
from mixwright.core.errors import DataError, StudyError
from mixwright.core.mixture import Mixture
from mixwright.core.objective import Group, Objective
from mixwright.core.observation import Observation, Runs
from mixwright.core.recipe import Forecast, Recipe
from mixwright.core.run import ModelSize, Run
from mixwright.core.schedule import Phase, Schedule

counts = st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=12)


def names(n: int) -> tuple[str, ...]:
    return tuple(f"d{i}" for i in range(n))


@st.composite
def mixtures(draw: st.DrawFn, size: int | None = None) -> Mixture:
    values = draw(st.lists(st.floats(0, 1e3), min_size=size or 1, max_size=size or 8).filter(lambda v: sum(v) > 1e-3))
    return Mixture.normalized(names(len(values)), values)


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    size = draw(st.integers(1, 5))
    phases = draw(st.lists(st.tuples(st.integers(1, 10**7), mixtures(size)), min_size=1, max_size=4))
    return Schedule(tuple(Phase(tokens, mixture) for tokens, mixture in phases))


@given(counts)
def test_a_mixture_is_on_the_simplex_and_cannot_be_changed(values: list[float]) -> None:
    mixture = Mixture.normalized(names(len(values)), values)
    assert mixture.weights.min() >= 0
    assert mixture.weights.sum() == pytest.approx(1, abs=1e-12)
    with pytest.raises(ValueError, match="read-only"):
        mixture.weights[0] = 1
    assert Mixture.of(mixture.to_dict()) == mixture


@given(mixtures(4), mixtures(4), st.floats(0, 1))
def test_distance_and_blend_agree(a: Mixture, b: Mixture, share: float) -> None:
    assert 0 <= a.l1(b) <= 2 + 1e-9
    assert a.l1(b) == pytest.approx(b.l1(a))
    assert a.l1(a.blend(b, share)) == pytest.approx(share * a.l1(b), abs=1e-9)


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        ({"a": 0.6, "b": 0.5}, "sum to 1.1"),
        ({"a": -0.1, "b": 1.1}, "a has -0.1"),
        ({"a": float("nan"), "b": 1.0}, "a has nan"),
        ({}, "at least one domain"),
    ],
)
def test_a_wrong_mixture_says_what_is_wrong(weights: dict[str, float], says: str) -> None:
    with pytest.raises(DataError, match=says):
        Mixture.of(weights)


def test_reordering_never_loses_weight() -> None:
    mixture = Mixture.of({"a": 0.25, "b": 0.75})
    assert mixture.over(("b", "c", "a")).to_dict() == {"b": 0.75, "c": 0.0, "a": 0.25}
    with pytest.raises(DataError, match="gives weight to b"):
        mixture.over(("a", "c"))


@given(schedules(), st.data())
def test_a_schedule_conserves_tokens(schedule: Schedule, data: st.DataObject) -> None:
    assert schedule.exposure().sum() == pytest.approx(schedule.tokens)
    assert Schedule.from_dict(schedule.to_dict()) == schedule
    at = data.draw(st.integers(1, schedule.tokens))
    head = schedule.until(at)
    assert head.tokens == at
    assert np.all(head.exposure().sum(axis=0) <= schedule.exposure().sum(axis=0) + 1e-6)
    target = Mixture.uniform(schedule.domains)
    switched = schedule.switched(at, target)
    assert switched.tokens == schedule.tokens
    expected = head.exposure().sum(axis=0) + (schedule.tokens - at) * target.weights
    assert switched.exposure().sum(axis=0) == pytest.approx(expected, rel=1e-9, abs=1e-6)


def test_the_published_upsampling_table_is_reproduced() -> None:
    # Blakeney et al. 2024 (arXiv:2406.03476), base mix of Table 2 and upsampled mix of Table 4, 1 T tokens, last 20 %
    base = Mixture.of({"large_cc": 0.3435, "small_cc": 0.3670, "domain": 0.0717, "code": 0.2178})
    upsampled = Mixture.of({"large_cc": 0.0, "small_cc": 0.30, "domain": 0.35, "code": 0.35})
    schedule = Schedule.constant(base, 10**12).switched(8 * 10**11, upsampled)
    assert schedule.exposure().sum(axis=0) / 1e9 == pytest.approx([274.8, 353.6, 127.36, 244.24], abs=0.05)


def test_epochs_of_an_empty_domain_are_infinite_only_when_asked_for() -> None:
    schedule = Schedule.constant(Mixture.of({"a": 1.0, "b": 0.0}), 100)
    assert schedule.epochs([50, 0]).tolist() == [2.0, 0.0]
    assert np.isinf(schedule.epochs([0, 10])[0])


@pytest.mark.parametrize("tokens", [0, -5, 2.5])
def test_a_phase_has_a_positive_whole_number_of_tokens(tokens: float) -> None:
    with pytest.raises(DataError, match="positive whole number"):
        Phase(tokens, Mixture.of({"a": 1.0}))  # type: ignore[arg-type]


@given(st.integers(1, 64), st.integers(1, 48))
def test_model_sizes_count_their_parameters(eighths: int, layers: int) -> None:
    size = ModelSize(8 * eighths, layers)
    assert ModelSize.parse(str(size)) == size
    assert size.hidden % 8 == 0
    assert size.hidden >= 8 * size.width / 3
    assert size.params == layers * (4 * size.width**2 + 3 * size.width * size.hidden + 2 * size.width) + size.width


@pytest.mark.parametrize("text", ["64", "x2", "64x0", "63x2", "wide"])
def test_a_wrong_size_is_refused(text: str) -> None:
    with pytest.raises(DataError):
        ModelSize.parse(text)


def run(run_id: str = "a", weights: tuple[float, float] = (0.5, 0.5), **more: object) -> Run:
    schedule = Schedule.constant(Mixture(("x", "y"), np.array(weights)), 1000)
    return Run(run_id, schedule, ModelSize(16, 1), **more)  # type: ignore[arg-type]


def test_runs_round_trip_and_refuse_nonsense() -> None:
    branch = run("b", seed=3, role="branch", parent="a", parent_tokens=800)
    assert Run.from_dict(branch.to_dict()) == branch
    with pytest.raises(DataError, match="letters, digits"):
        run("a/b")
    with pytest.raises(DataError, match="both a parent"):
        run("b", parent="a")
    with pytest.raises(DataError, match="leaves none"):
        run("b", parent="a", parent_tokens=1000)


def test_an_observation_with_nan_must_be_a_failed_one() -> None:
    with pytest.raises(DataError, match="mark the run as failed"):
        Observation(run(), 1000, 10, {"val:x": float("nan")})
    failed = Observation(run(), 500, 5, {}, status="failed", reason="the loss was NaN at step 5")
    assert Observation.from_dict(failed.to_dict()) == failed


def test_a_table_of_runs_joins_by_name_and_knows_phases() -> None:
    two = Run("b", run().schedule.switched(800, Mixture.of({"x": 1.0, "y": 0.0})), ModelSize(16, 1))
    table = Runs.from_observations(
        [
            Observation(run(), 1000, 10, {"val:x": 3.0, "val:y": 4.0}),
            Observation(two, 1000, 10, {"val:y": 4.5}),
            Observation(run("c"), 10, 1, {}, status="failed", reason="NaN at step 1"),
        ]
    )
    assert table.metrics == ("val:x", "val:y")
    assert table.mixtures()[1] == pytest.approx([0.6, 0.4])
    assert np.isnan(table.losses[1, 0])
    assert table.usable().run_id == ("a", "b")
    assert table.take([1]).losses[0, 1] == 4.5


def test_a_table_refuses_a_run_that_does_not_sum_to_one() -> None:
    with pytest.raises(DataError, match=r"Run r2.*sum to 0\.7"):
        Runs(("x", "y"), ("m",), ("r1", "r2"), np.array([[0.5, 0.5], [0.2, 0.5]]), np.zeros((2, 1)))
    with pytest.raises(DataError, match="stands more than once"):
        Runs(("x",), ("m",), ("r", "r"), np.ones((2, 1)), np.zeros((2, 1)))


def test_a_run_may_have_a_row_at_each_tokens_or_step() -> None:
    def rows(ids: str, **columns: object) -> Runs:
        count = len(ids)
        return Runs(("x",), ("m",), tuple(ids), np.ones((count, 1)), np.arange(count)[:, None], **columns)  # type: ignore[arg-type]

    runs = rows("babab", tokens=np.array([20.0, 10, 10, 30, 5]), step=(2, 1, 1, 3, 9))
    assert runs.last().run_id == ("b", "a")
    assert runs.last().losses[:, 0].tolist() == [0, 3]
    assert rows("aab", step=(7, 5, 0)).last().losses[:, 0].tolist() == [0, 2]
    assert rows("ab").last().run_id == ("a", "b")
    for columns in ({"tokens": np.array([1.0, 1, 2])}, {"step": (3, 3, 4)}, {"tokens": np.full(3, np.nan)}):
        with pytest.raises(DataError, match="a stands more than once"):
            rows("aab", **columns)


def test_which_metric_belongs_to_which_domain_is_checked_and_kept() -> None:
    def table(own: dict[str, object]) -> Runs:
        return Runs(("web", "code"), ("m", "k"), ("r",), np.array([[0.5, 0.5]]), np.ones((1, 2)), own=own)  # type: ignore[arg-type]

    runs = table({"k": "code", "m": ["web", "code"]})
    assert runs.own == {"k": ("code",), "m": ("web", "code")}
    assert runs.take([0]).own == runs.own
    assert runs.only(["k"]).own == {"k": ("code",)}
    with pytest.raises(DataError, match=r"domain 'cod', which the table does not have. Did you mean 'code'\?"):
        table({"m": "cod"})
    with pytest.raises(DataError, match=r"metric 'mm', which the table does not have. Did you mean 'm'\?"):
        table({"mm": "code"})


def test_objective_bounds_come_from_floors_ceilings_and_epochs() -> None:
    objective = Objective({"m": 3, "n": 1}, floors={"a": 0.1}, ceilings={"b": 0.5}, epoch_cap=4)
    assert objective.metric_weights(("n", "m", "k")).tolist() == [0.25, 0.75, 0.0]
    low, high = objective.bounds(("a", "b", "c"), tokens=1000, supply=[1000, 1000, 50])
    assert low.tolist() == [0.1, 0, 0]
    assert high == pytest.approx([1.0, 0.5, 0.2])
    assert objective.allows(Mixture.of({"a": 0.5, "b": 0.3, "c": 0.2}), tokens=1000, supply=[1000, 1000, 50])
    assert not objective.allows(Mixture.of({"a": 0.5, "b": 0.2, "c": 0.3}), tokens=1000, supply=[1000, 1000, 50])


@pytest.mark.parametrize(
    ("objective", "says"),
    [
        (Objective(floors={"a": 0.7, "b": 0.6}), "floors sum to 1.3"),
        (Objective(ceilings={"a": 0.2, "b": 0.3}), "sum to 0.5"),
        (Objective(floors={"a": 0.5}, ceilings={"a": 0.2}), "a has the floor 0.5"),
        (Objective(floors={"z": 0.5}), "z, which is no domain"),
    ],
)
def test_impossible_objectives_name_the_constraint(objective: Objective, says: str) -> None:
    with pytest.raises(StudyError, match=says):
        objective.bounds(("a", "b"))


def test_a_recipe_round_trips() -> None:
    recipe = Recipe(
        run().schedule,
        Objective({"target:t": 1.0}, groups={"code": Group(("x",), 0.1, 0.9)}),
        (Forecast("target:t", "difference", -0.1, -0.2, 0.0, reference="natural", params=10, tokens=1000),),
        {"x": 100, "y": 1000},
        {"corpus": "abc"},
        ("a note",),
    )
    assert recipe.epochs == {"x": 5.0, "y": 0.5}
    assert Recipe.from_dict(recipe.to_dict()).to_dict() == recipe.to_dict()
    with pytest.raises(DataError, match="schema"):
        Recipe.from_dict({"schema": "mixwright/recipe/99"})
    with pytest.raises(DataError, match="outside its interval"):
        Forecast("m", "loss", 1.0, 2.0, 3.0)


def test_a_corpus_knows_its_natural_mixture() -> None:
    corpus = Corpus((Domain("a", 300, 900, 3), Domain("b", 100)), "hash", 4096, "print")
    assert corpus.natural().to_dict() == {"a": 0.75, "b": 0.25}
    assert Corpus.from_dict(corpus.to_dict()) == corpus
    with pytest.raises(DataError, match="names a folder"):
        Domain("a/b", 1)
    with pytest.raises(DataError, match="must differ"):
        Corpus((Domain("a", 1), Domain("a", 1)))
