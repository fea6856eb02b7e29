"""Scores from a fit's own held-out residuals, for laws that span sizes and token counts."""

from __future__ import annotations

import numpy as np
import pytest

from mixwright.core.observation import Runs
from mixwright.core.rng import rng
from mixwright.laws.joint import Joint
from mixwright.laws.nested import Nested
from mixwright.laws.transfer import Transfer
from mixwright.laws.validation import NESTED, OBJECTIVE, held_out

LAWS = (Nested(tokens=4e9, params=4e8), Joint(), Transfer())


def table(scramble: bool = False) -> Runs:
    """14 mixtures of 3 domains at two sizes and three moments; ``scramble``: losses that have nothing to do with them."""
    draw = rng(5, "runs")
    mixtures = draw.dirichlet(np.ones(3), 14)
    rows = [(k, p, t) for k in range(14) for p in (2e7, 8e7) for t in (1e9, 2e9, 3e9)]
    w = np.array([mixtures[k] for k, _, _ in rows])
    shrink = np.array([p**-0.1 * (t / 1e9) ** -0.3 for _, p, t in rows])
    seen = np.array([draw.permutation(14)[k] for k, _, _ in rows]) if scramble else np.array([k for k, _, _ in rows])
    pull = np.exp(-np.sqrt(mixtures[seen][:, :2]))
    return Runs(
        domains=("a", "b", "c"), metrics=("n", "m"), run_id=tuple(f"r{k:02d}-{p:.0e}" for k, p, _ in rows),
        weights=w[:, None], losses=1.5 + 8 * shrink[:, None] * pull, phase_tokens=np.array([[t] for _, _, t in rows]),
        tokens=np.array([t for _, _, t in rows]), params=np.array([p for _, p, _ in rows]),
        bpb=np.full((len(rows), 2), np.nan), unigram=np.full((len(rows), 2), np.nan), step=tuple(int(t / 1e6) for *_, t in rows),
        seed=(0,) * len(rows), status=("done",) * len(rows), role=("design",) * len(rows), units=("nats/token",) * 2,
    )  # fmt: skip


@pytest.mark.parametrize("law", LAWS, ids=lambda law: type(law).__name__)
def test_scores_are_the_residuals(law: Nested | Joint | Transfer) -> None:
    runs = table().last() if isinstance(law, Transfer) else table()
    fit = law.fit(runs, rng(1, "fit"))
    rows = law.scored(runs, rng(1, "fit"))
    found = held_out(fit, rows, np.array([0.5, 0.5]))
    scores = found.scores[NESTED]
    assert set(scores) == {"m", "n", OBJECTIVE}
    assert set(found.chosen.values()) == {fit.law}
    for metric, pairs in found.held_out.items():
        errors = [abs(measured - predicted) for measured, predicted, _ in pairs.values()]
        assert np.mean(errors) == pytest.approx(scores[metric]["mae"])
        inside = [abs(measured - predicted) <= half for measured, predicted, half in pairs.values()]
        assert np.mean(inside) == pytest.approx(scores[metric]["coverage"])
    assert scores["m"]["spearman"] is not None
    assert scores["m"]["spearman"] > 0.8
    known = dict(zip(rows.last().run_id, rows.last().losses[:, rows.metrics.index("m")], strict=True))
    assert all(known[run] == pytest.approx(pair[0]) for run, pair in found.held_out["m"].items())


def test_losses_without_a_law_score_badly() -> None:
    """Mixtures of one setting are ranked: sizes and tokens, which are easy, do not make a law look good."""
    runs = table(scramble=True)
    law = Joint()
    scores = held_out(law.fit(runs, rng(1, "fit")), law.scored(runs, rng(1, "fit")), np.array([0.5, 0.5])).scores[
        NESTED
    ]
    assert scores[OBJECTIVE]["spearman"] is not None
    assert scores[OBJECTIVE]["spearman"] < 0.6
