"""Our side: the law under test with its default settings, fitted and asked; nothing here depends on n or on a data set."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixwright.core.find import find, names
from mixwright.core.observation import Runs
from mixwright.core.rng import rng

Array = NDArray[np.float64]
#: the law of the bench: the default of the package
OURS = "hierarchical"


def built(law: str) -> bool:
    """Whether the package has a law of this name."""
    return law in names("laws")


def default_law() -> str:
    return OURS if built(OURS) else "additive"


def fit(law: str, runs: Runs) -> Any:
    """The law with its default settings on these runs."""
    return find("laws", law)().fit(runs, rng(0, "fit"))


def each(fitted: Any, mixtures: Array) -> tuple[Array, Array]:
    """Per metric: expected losses ``(N, M)`` and the standard deviation of one more run's loss, seed noise included."""
    said = fitted.predict(mixtures)
    return said.mean, np.sqrt(said.spread**2 + np.nan_to_num(fitted.noise, nan=0.0) ** 2)


def weighted(fitted: Any, mixtures: Array, q: Array) -> tuple[Array, Array]:
    """Of the weighted sum of losses (``q (M,)``): expectation ``(N,)`` and standard deviation with seed noise."""
    noise = np.nan_to_num(fitted.seed_noise(q), nan=0.0)
    return fitted.mean(mixtures, q), np.sqrt(fitted.spread(mixtures, q) ** 2 + noise**2)
