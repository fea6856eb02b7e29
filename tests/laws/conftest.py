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


class Trajectories:
    """Losses over mixture, tokens and size of a planted law, with a cosine schedule: ``L = E + m(r) + A n^-g + B S1^-a - C S2``.

    Tokens are counted in steps; ``truth(weights, tokens, params)`` are the losses ``(N, 2)`` without noise.
    """

    SIZES = (2e7, 8e7, 2e8)
    TOTAL = 1e5

    def __init__(self, *, alpha: float = 0.45, gamma: float = 0.2, drop: float = 0.06, seed: int = 0) -> None:
        from mixwright.laws.steps import LearningRate

        self.alpha, self.gamma, self.drop, self.seed = alpha, gamma, drop, seed
        self.rate = LearningRate("cosine", total=self.TOTAL, warmup=2e3, final=0.1)
        self.domains = ("books", "code", "web")
        self.metrics = ("val:code", "target:a")
        self.pull = np.array([[0.1, 1.4, 0.3], [0.8, 0.2, 1.0]])

    def truth(self, weights: np.ndarray, tokens: float, params: float) -> np.ndarray:
        area = self.rate.area(tokens) / 2e4
        mixed = 0.8 * np.exp(-np.sqrt(np.maximum(weights, 0)) @ self.pull.T)
        trained = np.array([0.5, 0.7]) * (1 + 0.3 * mixed) * area**-self.alpha
        return 1.2 + mixed + 0.9 * (params / 1e8) ** -self.gamma + trained - self.drop * self.rate.annealed(tokens)

    def runs(
        self, count: int, tokens: tuple[float, ...], *, sizes: tuple[float, ...] = SIZES, noise: float = 0.0
    ) -> Runs:
        rng = np.random.default_rng(self.seed)
        weights = rng.dirichlet(np.ones(3), count)
        rows = [(m, p, t) for m in range(count) for p in sizes for t in tokens]
        losses = np.array([self.truth(weights[m], t, p) for m, p, t in rows])
        losses = losses + noise * rng.standard_normal(losses.shape)
        return Runs(
            self.domains, self.metrics, tuple(f"m{m:02d}-{p:.0e}" for m, p, _ in rows), weights[[m for m, _, _ in rows]],
            losses, tokens=np.array([t for _, _, t in rows]), params=np.array([p for _, p, _ in rows]),
        )  # fmt: skip


@pytest.fixture
def trajectories() -> Callable[..., Trajectories]:
    """Worlds of several sizes and checkpoints whose truth is known."""
    return Trajectories


@pytest.fixture
def mixing_laws(published: Callable[[str], Path]) -> Callable[[str], tuple[Runs, np.ndarray]]:
    """All rows of a published table of runs of several sizes, and the weights of its metrics in the overall loss."""
    import csv

    def read(name: str) -> tuple[Runs, np.ndarray]:
        with published("mixing-laws/valid_weights.csv").open() as file:
            share = {row["valid_domain"]: float(row["weight"]) for row in csv.DictReader(file)}
        with published(f"mixing-laws/{name}.csv").open() as file:
            rows = [row for row in csv.DictReader(file) if row["mix_sum"]]
        mixed = [c for c in rows[0] if c.startswith("mix_") and c not in ("mix_index", "mix_sum")]
        x = np.array([[float(row[c]) for c in mixed] for row in rows])
        x = np.where(np.isclose(x, 0.168375), 0.1484375, x)  # the default run's c4, as the table's README has it
        losses = [[float(row[f"loss_{metric}"] or "nan") for metric in share] for row in rows]
        runs = Runs(
            tuple(c.removeprefix("mix_") for c in mixed), tuple(share), tuple(row["run_id"] for row in rows),
            x / x.sum(axis=1, keepdims=True), np.array(losses), tokens=np.array([float(row["tokens"]) for row in rows]),
            params=np.array([float(row["model_size"]) for row in rows]), step=tuple(int(row["step"]) for row in rows),
        )  # fmt: skip
        return runs, np.array(list(share.values()))

    return read
