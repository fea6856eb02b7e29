"""Predicted against measured: by hand on small numbers."""

from typing import Any

import numpy as np
import pytest

from mixwright.core.law import Fit, Prediction
from mixwright.core.mixture import Mixture
from mixwright.core.observation import Observation
from mixwright.core.run import ModelSize, Run
from mixwright.core.schedule import Schedule
from mixwright.study import verdict
from mixwright.study.verdict import Trained

DOMAINS = ("a", "b")


class Linear(Fit):
    """Loss = weight of b, spread 0.1."""

    law, domains, metrics, noise, status = "linear", DOMAINS, ("target:t",), np.array([0.05]), ("converged",)

    def predict(self, weights: Any) -> Prediction:
        return Prediction(weights[:, 1:2], np.full((len(weights), 1), 0.1))

    def difference(self, weights: Any, reference: Any, metric_weights: Any) -> Any:
        assert metric_weights.tolist() == [1.0]
        return weights[:, 1] - reference[1], np.full(len(weights), 0.1)

    def to_dict(self) -> dict[str, Any]:
        return {}


def trained(name: str, seed: int, end: float, path: list[float]) -> Trained:
    run = Run(f"{name}-{seed}", Schedule.constant(Mixture.uniform(DOMAINS), 100), ModelSize(16, 1), seed)
    points = [(100 * (i + 1) / len(path), {"target:t": loss}) for i, loss in enumerate(path)]
    return Trained(Observation(run, 100, 1, {"target:t": end, "val:a": end + 1}, {"target:t": end}), points)


def section(better: float = 0.5) -> dict[str, Any]:
    mixtures = {
        "natural": Mixture.of({"a": 0.5, "b": 0.5}),
        "guess": Mixture.of({"a": 0.8, "b": 0.2}),
        "optimized": Mixture.of({"a": 0.9, "b": 0.1}),
    }
    runs = {
        "natural": [trained("natural", 0, 4.0, [6, 5, 4]), trained("natural", 1, 4.1, [6, 5, 4])],
        "guess": [trained("guess", 0, 3.48, [5, 4, 3]), trained("guess", 1, 3.58, [5, 4, 3])],
        "optimized": [
            trained("optimized", 0, 4 - better, [5, 3.5, 3]), trained("optimized", 1, 4.1 - better, [5, 3.5, 3])
        ],
    }  # fmt: skip
    return verdict.compare(runs, mixtures, "natural", {"target:t": 1.0}, Linear(), fallback_noise=0.2)


def test_differences_carry_the_pooled_noise() -> None:
    found = section()
    # three groups, each two seeds 0.1 apart: pooled variance 0.005, three degrees of freedom, t(0.95, 3) = 2.3534
    assert found["objective_noise"] == pytest.approx(0.005**0.5)
    rows = {row["mixture"]: row for row in found["rows"]}
    measured = rows["optimized"]["measured"]
    assert measured["value"] == pytest.approx(-0.5)
    assert measured["high"] - measured["value"] == pytest.approx(2.3534 * 0.005**0.5, rel=1e-3)
    assert rows["optimized"]["predicted"]["value"] == pytest.approx(-0.4)
    assert rows["optimized"]["predicted"]["low"] == pytest.approx(-0.4 - 0.16449, abs=1e-4)
    assert rows["natural"]["measured"] is None
    assert [rows[n]["rank_measured"] for n in ("natural", "guess", "optimized")] == [3, 1, 2]
    assert [rows[n]["rank_predicted"] for n in ("natural", "guess", "optimized")] == [3, 2, 1]
    assert "better than natural by 0.500" in rows["optimized"]["verdict"]


def test_an_honest_tie_is_called_a_tie() -> None:
    assert "a tie with guess" in verdict.duel(section(0.5), "optimized", "guess")
    assert "better than guess by 0.480" in verdict.duel(section(1.0), "optimized", "guess")
    assert "worse than guess" in verdict.duel(section(0.0), "optimized", "guess")


def test_steps_are_interpolated_and_never_means_never() -> None:
    rows = {row["mixture"]: row for row in section()["rows"]}
    assert rows["natural"]["steps_share"] == pytest.approx(1.0)
    assert rows["guess"]["steps_share"] == pytest.approx(2 / 3)
    assert rows["optimized"]["steps_share"] == pytest.approx((1 + 2 / 3) / 3)
    assert verdict.steps_share([(1, {"m": 5.0}), (2, {"m": 4.5})], {"m": 1.0}, 4.0) is None
    assert verdict.steps_share([(1, {"m": 3.0}), (2, {"m": 4.5})], {"m": 1.0}, 4.0) == 0.5


def test_noise_is_never_assumed_to_be_zero() -> None:
    assert verdict.pooled_noise([np.array([1.0]), np.array([2.0])])[1] == 0
    runs = {"natural": [trained("natural", 0, 4.0, [5, 4])], "optimized": [trained("optimized", 0, 3.9, [5, 4])]}
    mixtures = {name: Mixture.uniform(DOMAINS) for name in runs}
    found = verdict.compare(runs, mixtures, "natural", {"target:t": 1.0}, Linear(), fallback_noise=0.2)
    assert found["objective_noise"] == 0.2
    assert "a tie" in found["rows"][1]["verdict"]
    assert found["noise"] == {"target:t": None, "val:a": None}


def test_the_final_phase_shows_gain_and_price() -> None:
    pairs = [
        (trained("x", 0, 4.0, [4.0]), trained("y", 0, 3.5, [3.5])),
        (trained("x", 1, 4.2, [4.2]), trained("y", 1, 3.6, [3.6])),
    ]
    rows = verdict.final_phase_rows(pairs, {"target:t": 0.1}, {"target:t": 1.0})
    assert rows[0]["continued"] == pytest.approx(4.1)
    assert rows[0]["difference"] == pytest.approx(-0.55)
    assert rows[0]["differences"] == pytest.approx([-0.5, -0.6])
    assert (rows[0]["noise"], rows[0]["kind"]) == (0.1, "target")
    assert (rows[1]["noise"], rows[1]["kind"]) == (None, "val")
