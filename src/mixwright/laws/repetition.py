"""What repeated tokens are worth: epochs enter a fit as effective tokens, so that no optimum asks for the fiftieth copy unawares.

Notation: N mixtures, D domains; r a mixture ``(D,)``, T training tokens, U ``(D,)`` unique tokens of each domain, R = r T / U - 1
the repeats beyond the first epoch; e effective tokens of each domain over T.

A domain seen r T / U times is worth ``U + U R* (1 - exp(-R / R*))`` tokens (Muennighoff et al. 2023, arXiv 2305.16264,
equation 5), with the ``R* = 15.39`` fitted there (section 5): four epochs are nearly as good as fresh text, forty add
little. The rule for a mixture: what is learned has the composition ``e / sum(e)``, and the ``1 - sum(e)`` of the tokens that
taught nothing are missing, so the loss there is that of the composition times ``sum(e)^-power``, with ``L ~ D^-.095`` of Kaplan
et al. (2020, arXiv 2001.08361, equation 1.2). Both constants can be replaced, R* refitted (``best_r_star``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mixwright.core.errors import DataError
from mixwright.core.law import Law
from mixwright.core.observation import Runs
from mixwright.core.rng import rng as stream
from mixwright.laws._fit import GraphFit
from mixwright.laws.graph import Builder

Array = NDArray[np.float64]
#: R* of equation 5, as printed with the paper's fit (section 5)
R_STAR = 15.39
#: the exponent of data in the loss, Kaplan et al. 2020, equation 1.2
TOKEN_POWER = 0.095
#: the values of R* that ``best_r_star`` compares: from "a repeat is worth nothing" to "as good as new"
R_STARS = (0.1, 1.0, 2.0, 4.0, 8.0, 15.39, 30.0, 100.0)


def effective_weights(weights: Array, tokens: float, unique: Array, *, r_star: float = R_STAR) -> Array:
    """Effective tokens of each domain over all training tokens ``(N, D)``: the weights, less where a domain is repeated.

    ``unique (D,)`` are the tokens a domain has. Rows sum to 1 where nothing is repeated, else to less.
    """
    cap = _caps(tokens, unique)
    points = np.atleast_2d(np.asarray(weights, dtype=np.float64))
    repeats = np.maximum(points / cap - 1, 0.0)
    return np.asarray(np.minimum(points, cap) - cap * r_star * np.expm1(-repeats / r_star))


def repeated(
    fit: GraphFit,
    tokens: float,
    supply: Mapping[str, float],
    *,
    r_star: float = R_STAR,
    power: float = TOKEN_POWER,
) -> GraphFit:
    """The same fit for a training of so many tokens from this supply: its losses rise where a domain is repeated.

    ``supply`` gives the unique tokens of every domain, in the unit of ``tokens``. Predictions, members and gradients are exact,
    and are the fit's own where nothing is repeated. The fit must be of runs that repeated nothing, or of ``corrected``
    ones. DataError for a domain without supply.
    """
    unique = _of_domains(supply, fit.domains)
    build = Builder(fit.domains)
    effective, factor = _nodes(build, _caps(tokens, unique), r_star, power)
    place = build.graft(fit.graph, effective)
    for metric in fit.metrics:
        nodes = fit.graph.outputs[metric]
        build.output(metric, **{name: build.apply("mul", place[node], factor) for name, node in nodes.items()})
    return replace(fit, graph=build.graph())


def corrected(runs: Runs, supply: Mapping[str, float], *, r_star: float = R_STAR, power: float = TOKEN_POWER) -> Runs:
    """The runs as if they had repeated nothing: weights by what was learned, losses as with no token lost.

    For runs whose own tokens were more than a domain had (``supply``: the unique tokens their sampler drew from). DataError where
    tokens are unknown or a run has phases.
    """
    if runs.weights.shape[1] > 1:
        raise DataError("Runs with phases cannot be corrected for repetition: give each run one mixture.")
    if not np.all(runs.tokens > 0):
        row = int(np.argmin(np.nan_to_num(runs.tokens)))
        raise DataError(f"Repetition is counted in tokens; run {runs.run_id[row]} has none. Give a column tokens.")
    unique = _of_domains(supply, runs.domains)
    each = [
        effective_weights(w, t, unique, r_star=r_star)[0] for w, t in zip(runs.mixtures(), runs.tokens, strict=True)
    ]
    effective = np.array(each)
    kept = effective.sum(axis=1, keepdims=True)
    return replace(runs, weights=effective / kept, losses=runs.losses * kept**power)


def best_r_star(
    runs: Runs, supply: Mapping[str, float], law: Law, seed: int, *, tried: Sequence[float] = R_STARS
) -> tuple[float, dict[float, float]]:
    """The R* with which ``law`` predicts held-out runs best, and the mean square of held-out errors with each.

    The runs must have repeated something, else all are alike and the published R* is kept. Cost: one fit per value.
    """
    unique = _of_domains(supply, runs.domains)
    if not np.any(runs.mixtures() * runs.tokens[:, None] > unique):
        return R_STAR, {}
    found: dict[float, float] = {}
    for value in tried:
        fit = law.fit(corrected(runs, supply, r_star=value), stream(seed, "r_star"))
        if not isinstance(fit, GraphFit) or not np.isfinite(fit.residuals).any():
            raise DataError(
                "R* is found on held-out runs, but this law holds none out: give more runs, or another law."
            )
        found[value] = float(np.nanmean(fit.residuals**2 / np.nanvar(runs.losses, axis=0)))
    return min(found, key=lambda value: found[value]), found


def _caps(tokens: float, unique: Array) -> Array:
    """The weight from which on each domain repeats; at most 1."""
    if not (np.isfinite(tokens) and tokens > 0):
        raise DataError(f"Repetition is counted over a positive number of training tokens; got {tokens:g}.")
    return np.asarray(np.minimum(np.asarray(unique, dtype=np.float64) / tokens, 1.0))


def _of_domains(supply: Mapping[str, float], domains: Sequence[str]) -> Array:
    for name in domains:
        if not supply.get(name, 0.0) > 0:
            raise DataError(
                f"The supply of {name} is {supply.get(name, 'not given')}: say how many unique tokens it has, or take the domain "
                "out."
            )
    return np.array([float(supply[name]) for name in domains])


def _nodes(build: Builder, cap: Array, r_star: float, power: float) -> tuple[int, int]:
    """The composition learned, and what its loss is multiplied by for the tokens that taught nothing."""
    weights, minus = build.weights(), build.const(-1.0)
    first = build.apply("mul", minus, build.apply("max", build.apply("mul", minus, weights), build.const(-cap)))
    over = build.apply("add", build.apply("mul", weights, build.const(1 / cap)), minus)
    repeats = build.apply("max", build.const(0.0), over)
    fading = build.apply("exp", build.apply("mul", repeats, build.const(-1 / r_star)))
    more = build.apply(
        "mul", build.const(cap * r_star), build.apply("add", build.const(1.0), build.apply("mul", minus, fading))
    )
    effective = build.apply("add", first, more)
    kept = build.sum(effective)
    learned = build.apply("mul", effective, build.apply("pow", kept, minus))
    return learned, build.apply("pow", kept, build.const(-power))
