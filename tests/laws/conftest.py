"""Tables of runs with a planted law, and the published runs where they are at hand."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mixwright.core.observation import Runs

REPOSITORY = Path(__file__).parents[2]


def mixtures(count: int, domains: int, rng: np.random.Generator) -> np.ndarray:
    """Mixtures that reach from near nothing to near everything of each domain."""
    return rng.dirichlet(np.full(domains, 0.8), count)


class Planted:
    """``domains`` domains, one metric per domain and two targets; ``truth(weights)`` are the losses without noise."""

    def __init__(self, form: str, *, domains: int = 5, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.domains = tuple(f"d{n}" for n in range(domains))
        self.metrics = (*(f"val:{name}" for name in self.domains), "target:a", "target:b")
        count = len(self.metrics)
        own = np.eye(count, domains)
        self.form = form
        self.floor = rng.uniform(3.0, 4.0, count)
        self.pull = rng.normal(0, 0.5, (count, domains)) + (1.0 * own)
        self.power = rng.uniform(0.3, 0.7, (count, domains))
        self.kink = rng.uniform(0.1, 0.4, count)

    def truth(self, weights: np.ndarray) -> np.ndarray:
        if self.form == "exponential":
            return self.floor + np.exp(0.4 - weights @ self.pull.T)
        if self.form == "additive":
            logs = np.log(np.maximum(weights, 3e-4))[:, None]
            return self.floor + 1 / np.exp(self.pull + self.power * logs).sum(axis=2)
        kink = np.abs(weights.max(axis=1)[:, None] - self.kink)  # a corner no smooth law has
        return self.floor + np.exp(0.4 - weights @ self.pull.T) + 0.3 * kink

    def runs(self, count: int, *, noise: float = 0.0, repeats: int = 0, seed: int = 0) -> Runs:
        """``count`` mixtures, and ``repeats`` more runs of the first with other seeds."""
        rng = np.random.default_rng(seed + 1000)
        weights = mixtures(count, len(self.domains), rng)
        weights = np.concatenate([weights, np.repeat(weights[:1], repeats, axis=0)])
        losses = self.truth(weights) + noise * rng.standard_normal((len(weights), len(self.metrics)))
        ids = tuple(f"run-{n:03d}" for n in range(len(weights)))
        seeds = tuple([0] * count + list(range(1, repeats + 1)))
        return Runs(
            self.domains, self.metrics, ids, weights, losses, tokens=np.full(len(ids), 1e6),
            params=np.full(len(ids), 1e5), seed=seeds,
        )  # fmt: skip


@pytest.fixture
def planted() -> Callable[..., Planted]:
    """Worlds whose truth is known."""
    return Planted


@pytest.fixture
def published() -> Callable[[str], Path]:
    """The path of a published table; the test is skipped where the folder is absent."""
    folder = Path(os.environ.get("MIXWRIGHT_PUBLISHED_RUNS", REPOSITORY / ".." / "shared" / "published-runs"))

    def find(name: str) -> Path:
        path = folder / name
        if not path.is_file():
            pytest.skip(f"no published runs at {folder}; set MIXWRIGHT_PUBLISHED_RUNS to the folder that holds {name}")
        return path

    return find
