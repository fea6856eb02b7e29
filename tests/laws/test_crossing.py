"""Where a loss is met between two mixtures: exact lines, intervals, and the critical weight of published runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from mixwright.core.errors import DataError
from mixwright.core.find import find
from mixwright.core.observation import Runs
from mixwright.core.rng import rng
from mixwright.laws import GraphFit
from mixwright.laws.crossing import crossing

FIRST, SECOND, ALL = np.array([1.0, 0.0]), np.array([0.0, 1.0]), np.ones(1)


@pytest.fixture
def line() -> GraphFit:
    """Losses 3 - 2 r of the second domain, with a little noise."""
    r = np.linspace(0, 1, 9)
    noise = 0.01 * np.random.default_rng(0).standard_normal(9)
    x = np.stack([1 - r, r], axis=1)
    runs = Runs(("a", "b"), ("m",), tuple("abcdefghi"), x, (3 - 2 * r + noise)[:, None])
    return find("laws", "linear")().fit(runs, rng(0, "t"))  # type: ignore[no-any-return]


def test_a_line_is_met_where_it_is(line: GraphFit) -> None:
    found = crossing(line, 2.5, FIRST, SECOND, ALL)
    assert found.at == pytest.approx(0.25, abs=0.01)
    assert found.low < found.at < found.high
    assert found.high - found.low < 0.05


def test_the_way_back_is_the_same_place(line: GraphFit) -> None:
    there, back = crossing(line, 2.5, FIRST, SECOND, ALL), crossing(line, 2.5, SECOND, FIRST, ALL)
    assert there.at == pytest.approx(1 - back.at, abs=1e-9)


def test_noise_widens(line: GraphFit) -> None:
    sharp, blurred = crossing(line, 2.5, FIRST, SECOND, ALL), crossing(line, 2.5, FIRST, SECOND, ALL, noise=0.1)
    assert blurred.high - blurred.low > 2 * (sharp.high - sharp.low)


def test_a_level_that_is_not_met(line: GraphFit) -> None:
    with pytest.raises(DataError, match="stays below 5 everywhere"):
        crossing(line, 5.0, FIRST, SECOND, ALL)


class TestCriticalWeight:
    """Continual pre-training of a 70M model: the Pile's weight at which the loss on the Pile stays what it was."""

    @pytest.fixture
    def runs(self, mixing_laws: Callable) -> tuple[Runs, float]:
        """Four runs at 10k steps (the check run left out), the overall loss as their one metric; and the loss before."""
        table, q = mixing_laws("continual")
        kept = [n for n, s in enumerate(table.step) if s == 10_000 and not table.run_id[n].endswith("_9")]
        part = table.take(kept)
        overall = replace(
            part, metrics=("overall",), losses=(part.losses @ q)[:, None], bpb=None, unigram=None, units=()
        )
        return overall, 2.8733676

    def test_the_published_form_gives_the_published_weight(self, runs: tuple[Runs, float]) -> None:
        """The floor c by the largest correlation of log(L - c) with the weight, as the authors do."""
        table, level = runs
        r, y = table.mixtures()[:, 0], table.losses[:, 0]
        floors = np.linspace(0, y.min(), 1001)[:-1]
        c = max(floors, key=lambda c: abs(np.corrcoef(r, np.log(y - c))[0, 1]))
        t, log_k = np.polyfit(r, np.log(y - c), 1)
        assert (np.log(level - c) - log_k) / t == pytest.approx(0.286, abs=0.002)

    def test_the_default_law_holds_the_true_weight(self, runs: tuple[Runs, float]) -> None:
        table, level = runs
        fit = find("laws", "hierarchical")().fit(table, rng(0, "continual"))
        found = crossing(fit, level, SECOND, FIRST, ALL)
        assert found.low <= 0.280 <= found.high
        assert found.high - found.low < 0.15
