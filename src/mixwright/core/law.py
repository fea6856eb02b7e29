"""Laws and fits: a functional form, and the form with parameters, spread and status.

Notation: N runs, D domains, M metrics, B bootstrap members; r a mixture's weights ``(D,)``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixwright.core.observation import Runs

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Prediction:
    """Expected losses ``mean (N, M)`` and the standard deviation ``spread (N, M)`` of that expectation.

    ``spread`` is the law's own uncertainty (parameters and misfit); the scatter of one more training run adds the
    seed noise in quadrature.
    """

    mean: Array
    spread: Array


class Fit(ABC):
    """A law with its parameters: predicts every metric it was fitted on, for any mixture."""

    #: the law's name, as in the study file
    law: str
    domains: tuple[str, ...]
    metrics: tuple[str, ...]
    #: seed noise per metric, standard deviation ``(M,)``, NaN where it could not be measured
    noise: Array
    #: per metric: ``converged``, or a sentence that says what went wrong
    status: tuple[str, ...]

    @abstractmethod
    def predict(self, weights: Array) -> Prediction:
        """Losses at mixtures ``weights (N, D)``, at the size and tokens of the runs it was fitted on."""

    @abstractmethod
    def difference(self, weights: Array, reference: Array, metric_weights: Array) -> tuple[Array, Array]:
        """Weighted mean loss at ``weights (N, D)`` minus that at ``reference (D,)``: mean and spread, ``(N,)`` each.

        Errors that both share (a wrong level, say) cancel, so this is sharper than two predictions subtracted.
        ``metric_weights (M,)`` sum to one.
        """

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """As JSON: schema, law, axes, noise, status, and the expression graph whose outputs are mean and spread."""


class Law(ABC):
    """A functional form that can be fitted to a table of runs. Plug-ins are frozen dataclasses of their options."""

    @abstractmethod
    def fit(self, runs: Runs, rng: np.random.Generator) -> Fit:
        """Fit every metric of ``runs`` (all rows are used: pass ``runs.usable()``). Deterministic given ``rng``."""


@dataclass(frozen=True)
class Validation:
    """How well laws predict runs they have not seen: one row per (law or baseline, metric).

    ``scores[name][metric]`` holds ``mae`` (nats), ``relative`` (mean absolute error over mean loss), ``spearman`` (rank
    correlation, None where undefined), ``coverage`` (share of held-out losses inside the 90 % interval). ``chosen``
    maps each metric to the form picked in the inner folds when all rows are used. ``held_out`` keeps every held-out
    prediction of the chosen form: ``{metric: {run_id: (measured, predicted, half width of the 90 % interval)}}``.
    ``method`` says how runs were held out: the choice of law with them, or only within the fit of one law.
    """

    scores: Mapping[str, Mapping[str, Mapping[str, float | None]]]
    chosen: Mapping[str, str]
    held_out: Mapping[str, Mapping[str, tuple[float, float, float]]]
    folds: int
    repeats: int = 1
    notes: tuple[str, ...] = field(default=())
    method: str = "nested cross-validation"
