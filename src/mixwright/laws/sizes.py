"""How losses fall with model size: from small models to the loss of a larger one.

Notation: K mixtures, Z sizes, M metrics, B members; P non-embedding parameters.

``L(P) = E + A P^-γ``: E and A belong to a mixture and metric, shrunk towards those of the other mixtures, so that a mixture
trained at one size only leans on how the others fell; γ is one number for all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
from annotated_types import Ge, Gt
from numpy.typing import NDArray

from mixwright.core.errors import DataError
from mixwright.core.law import Prediction
from mixwright.laws._curves import Curves, along, bend, exponent, population, recentred, residuals, shrunk
from mixwright.laws.steps import pooled_exponents

Array = NDArray[np.float64]
#: degrees of freedom that the prior of ``apart`` counts for
_BELIEF = 2.0


@dataclass(frozen=True)
class SizeLaw:
    """γ: ``gamma`` ± ``width_gamma`` before any run is seen.

    The prior spans what is published: .076 without a floor E (Kaplan et al. 2020, arXiv 2001.08361, equation 1.1), .34
    (Hoffmann et al. 2022, arXiv 2203.15556, approach 3), .35 (Besiroglu et al. 2024, arXiv 2404.10102). ``apart`` is how
    many nats per token a size lies off the curves as a whole before any run is seen; it counts as two degrees of freedom
    against what the sizes at hand show (one for each beyond two).
    """

    gamma: Annotated[float, Gt(0)] = 0.2
    width_gamma: Annotated[float, Gt(0)] = 0.15
    apart: Annotated[float, Ge(0)] = 0.005

    def fit(self, params: Array, losses: Array, members: Array, rng: np.random.Generator) -> SizeFit:
        """From ``params (Z,)``, ``losses (K, Z, M)`` (NaN where not trained) and the same as each member has them.

        ``members (B, K, Z, M)`` carry the uncertainty of the losses; to it come that of γ and, where losses scatter about
        the curves by more than members do, that misfit. DataError for fewer than 2 sizes.
        """
        if len(params) < 2:
            raise DataError(
                f"The size law needs runs of 2 sizes or more; these are all of {params[0]:,.0f} parameters. Add runs of another "
                "size, or ask for this size."
            )
        reference = float(np.exp(np.log(params).mean()))
        curves = _curves(losses, params / reference)
        said = exponent(curves)
        mean, covariance = pooled_exponents([said], self.gamma, self.width_gamma, 1e-3)
        gamma = float(np.clip(mean[0], 0.02, None))
        gammas = np.clip(mean[0] + np.sqrt(covariance[0, 0]) * rng.standard_normal(len(members)), 0.02, None)
        scatter = population(curves, gamma)
        beta = shrunk(curves, gamma, scatter)
        apart = self._apart(curves, gamma, beta)
        misfit = np.sqrt(np.maximum(scatter.noise - _carried(members), 0.0))
        off = rng.standard_normal((len(members), 1 + len(params), 1)) * apart
        deviations = beta - scatter.centre
        betas = np.empty((len(members), *beta.shape))
        for b, power in enumerate(gammas):
            noise = misfit * rng.standard_normal(curves.y.shape) + off[b, 1:]
            drawn = replace(curves, y=np.where(curves.known, np.nan_to_num(members[b]) + noise, 0.0))
            mine = recentred(drawn, float(power), scatter)
            centre = mine.centre + deviations[rng.permutation(len(beta))]
            betas[b] = shrunk(drawn, float(power), mine, centre)
        return SizeFit(reference, gamma, beta, gammas, betas, off[:, 0], np.sqrt(scatter.noise))

    def _apart(self, curves: Curves, gamma: float, beta: Array) -> Array:
        """The standard deviation ``(M,)`` of what a size has of its own."""
        count = np.maximum(curves.known.sum(axis=0), 1)
        common = residuals(curves, gamma, beta).sum(axis=0) / count
        freedom = max(curves.x.shape[1] - 2, 0)
        return np.asarray(np.sqrt((_BELIEF * self.apart**2 + (common**2).sum(axis=0)) / (_BELIEF + freedom)))


@dataclass(frozen=True, eq=False)
class SizeFit:
    """``gamma``, ``beta (K, M, 2)`` (loss and fall per log P at ``reference``), the members' ``gammas (B,)``, ``betas``.

    ``apart (B, M)`` is what the size asked for has of its own; ``noise (M,)`` the standard deviation of losses about their
    curves.
    """

    reference: float
    gamma: float
    beta: Array
    gammas: Array
    betas: Array
    apart: Array
    noise: Array

    def mean(self, params: float) -> Array:
        """Expected losses ``(K, M)`` of models with so many parameters."""
        return along(self.beta, np.full(len(self.beta), bend(np.array(params / self.reference), self.gamma)))

    def members(self, params: float) -> Array:
        """The same as each member has it, ``(B, K, M)``."""
        bent = bend(np.full(len(self.gammas), params / self.reference), self.gammas)
        return along(self.betas, np.broadcast_to(bent[:, None], self.betas.shape[:2])) + self.apart[:, None]

    def predict(self, params: float) -> Prediction:
        """Mean and spread ``(K, M)``."""
        return Prediction(self.mean(params), self.members(params).std(axis=0, ddof=1))


def _curves(losses: Array, places: Array) -> Curves:
    known = np.isfinite(losses)
    return Curves(np.broadcast_to(places, losses.shape[:2]), np.where(known, losses, 0.0), known)


def _carried(members: Array) -> Array:
    """The variance ``(M,)`` that members give a loss, what they move in common (which no scatter shows) left out."""
    own = members - np.nanmean(members, axis=1, keepdims=True)
    return np.asarray(np.nanmean(own.var(axis=0, ddof=1), axis=(0, 1)))
