from __future__ import annotations

import dataclasses
import itertools
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixwright.core.errors import StudyError
from mixwright.core.find import find, names
from mixwright.core.mixture import Mixture
from mixwright.core.objective import Objective
from mixwright.core.recipe import Recipe
from mixwright.core.schedule import Phase, Schedule
from mixwright.export.exporter import Exporter, cut, epochs


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 10**7), min_size=1, max_size=4),
    st.integers(1, 512),
    st.integers(1, 64),
)
def test_boundaries_go_to_the_nearest_batch_and_rounding_never_adds_up(
    lengths: list[int], seq_len: int, batch: int
) -> None:
    schedule = Schedule(tuple(Phase(length, Mixture.uniform(["a", "b"])) for length in lengths))
    try:
        cuts = cut(schedule, seq_len=seq_len, batch=batch)
    except StudyError:
        assert min(lengths) < seq_len * batch
        return
    assert cuts[0].first == 0
    assert all(left.last == right.first for left, right in itertools.pairwise(cuts))
    boundaries = np.cumsum([part.tokens for part in cuts])
    assert np.all(2 * np.abs(boundaries - np.cumsum(lengths)) <= seq_len * batch)
    assert [part.asked for part in cuts] == lengths


def test_a_phase_shorter_than_half_a_batch_is_refused() -> None:
    schedule = Schedule((Phase(1000, Mixture.uniform(["a"])), Phase(10, Mixture.uniform(["a"]))))
    with pytest.raises(StudyError, match=r"Phase 2 has 10 tokens, less than half a batch of 4 x 25 = 100"):
        cut(schedule, seq_len=25, batch=4)


@pytest.mark.parametrize(("seq_len", "batch"), [(0, 4), (8, -1)])
def test_sizes_must_be_positive(recipe: Recipe, seq_len: int, batch: int) -> None:
    with pytest.raises(StudyError, match="positive seq_len and batch"):
        cut(recipe.schedule, seq_len=seq_len, batch=batch)


def test_epochs_count_the_exported_tokens_over_all_phases(recipe: Recipe) -> None:
    passes = epochs(recipe, cut(recipe.schedule, seq_len=50, batch=4))
    assert passes == pytest.approx({"web": 0.81435, "code": (80_100 * 0.29 + 19_900 * 2 / 3) / 30_000,
                                    "papers": (8_010 + 19_900 / 3) / 5_000}, rel=3e-3)  # fmt: skip


@pytest.mark.parametrize("name", names("export"))
def test_every_exporter_states_what_a_weight_is_and_what_was_rounded(name: str, recipe: Recipe) -> None:
    exporter: Exporter = find("export", name)()
    files = exporter.files(recipe, tokens_root=None, seq_len=50, batch=8)
    text = re.sub(r"\s*\n#?\s*", " ", "\n".join(files.values()))
    for sentence in (exporter.unit, exporter.repeats, exporter.tested):
        assert sentence in text
    assert re.search(r"\d+\.\d+", exporter.tested)
    assert "Phase 1: 80,100 tokens in the recipe, rounded by -100 tokens to 200 batches of 8 samples of 50" in text
    assert "Phase 2 leaves out the domains of weight 0: web." in text
    assert "Expected epochs: web 0.813, code 1.22, papers 2.93." in text


@pytest.mark.parametrize("name", names("export"))
def test_without_supplies_epochs_are_said_to_be_unknown(name: str, recipe: Recipe) -> None:
    bare = dataclasses.replace(recipe, supply={})
    text = "\n".join(find("export", name)().files(bare, tokens_root="t", seq_len=50, batch=8).values())
    assert "Expected epochs: unknown" in text


@pytest.mark.parametrize("name", names("export"))
def test_one_phase_and_strange_names(name: str) -> None:
    domains = ('qu"ote', "a'b", "$(touch x)", "new\\n", "日本語", '"""')
    weights = np.array([0.1, 0.2, 0.3, 0.15, 0.05, 0.2])
    if name == "megatron":
        domains = tuple(domain.replace(" ", "_") for domain in domains)
    recipe = Recipe(Schedule.constant(Mixture(domains, weights), 1000), Objective())
    files = find("export", name)().files(recipe, tokens_root="/t", seq_len=10, batch=2)
    assert all(isinstance(content, str) and content.endswith("\n") for content in files.values())
    for file, content in files.items():
        if file.endswith(".py"):
            compile(content, file, "exec")
