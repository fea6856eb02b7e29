"""Optimal designs are no worse than random ones by their own criterion, and the local models' derivatives are right."""

from __future__ import annotations

import numpy as np
import pytest

from mixwright.laws.additive import Additive
from mixwright.optimize.information import Information, derivatives


def test_derivatives_are_those_of_the_additive_law() -> None:
    law, x = Additive(), np.random.default_rng(0).dirichlet(np.ones(4), 6)
    theta = np.concatenate([[0.3], np.zeros(4), np.full(4, np.log(0.5))])
    _, exact = law.evaluate(theta[None], x)
    widths = np.concatenate([[law.width_e / np.exp(0.3)], np.full(4, law.width_c), np.full(4, law.width_g)])
    assert np.allclose(derivatives(x), exact[0] * widths, rtol=1e-12)


@pytest.mark.parametrize("model", ["additive", "log_linear"])
def test_no_random_design_is_better(model: str) -> None:
    rng = np.random.default_rng(1)
    points, region = rng.dirichlet(np.full(5, 0.7), 200), rng.dirichlet(np.ones(5), 300)
    known = Information.of(points, region, model)  # type: ignore[arg-type]  # a Literal
    best_d, best_i = known.choose(10, [0], "d"), known.choose(10, [0], "i")
    drawn = [[0, *rng.choice(np.arange(1, 200), 10, replace=False).tolist()] for _ in range(200)]
    assert len(set(best_d)) == len(set(best_i)) == 10
    assert 0 not in best_d + best_i
    assert known.volume([0, *best_d]) > max(known.volume(rows) for rows in drawn)
    assert known.variance([0, *best_i]) < min(known.variance(rows) for rows in drawn)
    assert known.volume([0, *best_d]) >= known.volume([0, *best_i])
    assert known.variance([0, *best_i]) <= known.variance([0, *best_d])


def test_exchanges_leave_no_single_exchange_that_helps() -> None:
    rng = np.random.default_rng(2)
    known = Information.of(rng.dirichlet(np.ones(3), 40), rng.dirichlet(np.ones(3), 100))
    rows = known.choose(5, [], "d")
    for place in range(5):
        others = rows[:place] + rows[place + 1 :]
        best = max(known.volume([*others, other]) for other in range(40) if other not in others)
        assert best <= known.volume(rows) + 1e-9
