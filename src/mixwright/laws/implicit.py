"""Implicit domains: a target of unknown composition, L(r) = sum_k s_k [c_k + k_k exp(t_k · r)] (Ye et al. 2024, section 3.3).

A sum of K exponential laws, one for each kind of text the target is taken to hold, from the target's loss alone. On the simplex
s_k, k_k and a common part of t_k are one number, and all s_k c_k are another: L(r) = c + sum_k exp(a_k · r). The paper's code
takes K = 30 with 20 runs and picks by training error; here K is chosen by held-out error, and each kind is expected to lean on
one domain.

Notation: P problems, N runs, D domains, M metrics, K components; parameters of a metric: c, then a_1 to a_K, D numbers each;
o(k) the domain that component k leans on; u_k the mean of its other a_kj; t_k = a_ko - u_k.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from annotated_types import Ge, Gt
from numpy.typing import NDArray

from mixwright.core.law import Law
from mixwright.core.observation import Runs
from mixwright.laws._fit import GraphFit, join
from mixwright.laws._fitting import FormLaw, Prior, centred
from mixwright.laws._table import Table, losses_positive
from mixwright.laws.graph import Builder

Array = NDArray[np.float64]
#: exp(a_kj), in lowest losses seen
_HIGHEST, _LOWEST = 100.0, 1e-9
#: how many components are tried; more cost the cube of their number
_MOST = 12
#: where fits start: the floor in parts of the lowest loss, and t of every component
_STARTS = ((0.5, -4.0), (0.8, -12.0))


@dataclass(frozen=True)
class Implicit(Law):
    """``components`` K, or None: the best of 1, D / 2 and D (of these at most 12) by held-out error, for each metric.

    ``shrinkage`` 1 is the stated prior, 0 none (the form as published; it then takes what the starts make of it). The prior:
    t_k about ``pull`` with width ``width_t``; a component's other a_kj about their mean with width ``width_cross``; the u_k about
    their mean with width ``width_u``; c about 0.75 of the lowest loss seen with width ``width_c`` of that loss.
    """

    members: Annotated[int, Ge(2)] = 32
    folds: Annotated[int, Ge(2)] = 5
    huber: Annotated[float, Gt(0)] | None = None
    components: Annotated[int, Ge(1)] | None = None
    shrinkage: Annotated[float, Ge(0)] = 1.0
    pull: float = -5.0
    width_t: Annotated[float, Gt(0)] = 5.0
    width_cross: Annotated[float, Gt(0)] = 0.5
    width_u: Annotated[float, Gt(0)] = 1.5
    width_c: Annotated[float, Gt(0)] = 0.25

    def fit(self, runs: Runs, rng: np.random.Generator) -> GraphFit:
        """Fit every metric of ``runs``, all of one size and token count as for other laws. Deterministic given ``rng``.

        Raises DataError for a loss that is not positive. Cost: with 20 runs of 7 domains some tenths of a CPU-second a metric.
        """
        seed, domains = int(rng.integers(1 << 62)), len(runs.domains)
        most = min(domains, _MOST)
        tried = sorted({1, (most + 1) // 2, most}) if self.components is None else [self.components]
        fits = [
            _Sum(
                self.members, self.folds, self.huber, count, self.shrinkage, self.pull, self.width_t, self.width_cross,
                self.width_u, self.width_c,
            ).fit(runs, np.random.default_rng(seed))
            for count in tried
        ]  # fmt: skip
        errors = np.stack([np.nan_to_num(np.abs(fit.residuals), nan=0.0).sum(axis=0) for fit in fits])
        return join(fits, dict(zip(runs.metrics, errors.argmin(axis=0).tolist(), strict=True)), "implicit")


@dataclass(frozen=True)
class _Sum(FormLaw):
    """The form with ``blocks`` components."""

    blocks: int = 1  # type: ignore[misc]
    shrinkage: float = 1.0
    pull: float = -5.0
    width_t: float = 5.0
    width_cross: float = 0.5
    width_u: float = 1.5
    width_c: float = 0.25

    shared: ClassVar[int] = 1

    def check(self, table: Table) -> None:
        """Losses must be positive."""
        losses_positive(table, "implicit")

    def evaluate(self, theta: Array, x: Array) -> tuple[Array, Array]:
        """The losses c + sum of exp(a_k · x)."""
        a = theta[:, 1:].reshape(len(theta), self.blocks, x.shape[1])
        terms = np.exp(a @ x.T)
        J = np.ones((len(theta), len(x), theta.shape[1]))
        J[:, :, 1:] = np.einsum("pkn,nd->pnkd", terms, x).reshape(len(theta), len(x), -1)
        return theta[:, :1] + terms.sum(axis=1), J

    def starts(self, table: Table, w: Array) -> Array:
        """Each component falling with its own domain, alike, so high that the mean loss comes out; at two floors."""
        mean, _, lowest = table.spread(w)
        domains, lean = table.x.shape[1], self._lean(table, w)
        out = np.empty((len(_STARTS), len(mean), self.width(domains)))
        for n, (part, t) in enumerate(_STARTS):
            for m, own in enumerate(lean):
                a = t * np.eye(domains)[own]
                a += np.log(max(mean[m] - part * lowest[m], 1e-6) / np.exp(a @ table.x.T).sum(axis=0).mean())
                out[n, m, 0], out[n, m, 1:] = part * lowest[m], a.ravel()
        return out

    def _lean(self, table: Table, w: Array) -> NDArray[np.int64]:
        """The domain each component leans on ``(M, K)``: in order of correlation with the losses, over and over."""
        v = table.known * w
        mean, _, _ = table.spread(w)
        u = np.sqrt(table.x)
        away = v[:, :, None] * (u[None] - ((v @ u) / np.maximum(v.sum(axis=1), 1e-12)[:, None])[:, None])
        tie = np.abs(np.einsum("mnd,mn->md", away, table.y - mean[:, None]))
        tie /= np.sqrt(np.einsum("mnd,mnd->md", away, away) + 1e-12)
        order = np.argsort(-tie, axis=1, kind="stable")
        return order[:, np.arange(self.blocks) % table.x.shape[1]]

    def prior(self, table: Table, w: Array, theta: Array | None) -> Prior:
        """See ``Implicit``; none where ``shrinkage`` is 0."""
        _, _, lowest = table.spread(w)
        count, domains = len(lowest), table.x.shape[1]
        width = self.width(domains)
        R, q = np.zeros((count, width + 2 * self.blocks, width)), np.zeros((count, width + 2 * self.blocks))
        R[:, 0, 0] = self.shrinkage / (self.width_c * lowest)
        q[:, 0] = 0.75 * lowest * R[:, 0, 0]
        for m, own in enumerate(self._lean(table, w)):
            R[m, 1:, 1:] = self.shrinkage * self._expected(own, domains)
            q[m, 1 : 1 + self.blocks] = self.shrinkage * self.pull / self.width_t
        low = np.repeat(np.log(_LOWEST * lowest)[:, None], width, axis=1)
        high = np.repeat(np.log(_HIGHEST * lowest)[:, None], width, axis=1)
        low[:, 0], high[:, 0] = 0.0, np.inf
        return Prior(R, q, low, high)

    def _expected(self, own: NDArray[np.int64], domains: int) -> Array:
        """Rows of R on all a: t_k, then u_k less their mean, then each a_kj less u_k (none for the own domain)."""
        other = 1 - np.eye(domains)[own]
        mean = other / max(domains - 1, 1)
        K = self.blocks
        by_t = (np.eye(domains)[own] - mean) / self.width_t
        cross = other[:, :, None] * (np.eye(domains)[None] - mean[:, None, :]) / self.width_cross
        out = np.zeros((K * 2 + K * domains, K, domains))
        out[np.arange(K), np.arange(K)] = by_t
        out[K : 2 * K] = centred(K)[:, :, None] * mean[None] / self.width_u
        for k in range(K):
            out[2 * K + k * domains : 2 * K + (k + 1) * domains, k] = cross[k]
        return out.reshape(-1, K * domains)

    def write(self, build: Builder, theta: Array) -> int:
        """Members' a as the rows of a matrix times the weights; exponentials summed in blocks, plus c."""
        inside = build.matmul(theta[:, 1:].reshape(len(theta) * self.blocks, -1), build.weights())
        return build.apply("add", build.sum(build.apply("exp", inside), self.blocks), build.const(theta[:, 0]))

    def describe(self, theta: Array, domains: Sequence[str]) -> dict[str, Any]:
        """c, and per component its share of what domains leave above c, and t with mean zero."""
        a = theta[1:].reshape(self.blocks, -1)
        k = np.exp(a.mean(axis=1))
        t = [dict(zip(domains, row.tolist(), strict=True)) for row in a - a.mean(axis=1, keepdims=True)]
        return {"c": float(theta[0]), "components": self.blocks, "k": k.tolist(), "t": t}
