"""Which runs to train: mixtures that fill the allowed region around the natural one.

Notation: D domains, N runs; distances are Euclidean between square roots of weights (Hellinger's, up to a factor), since
losses move as much between 1 % and 4 % of a domain as between 25 % and 36 %.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Gt, Le
from numpy.typing import NDArray

from mixwright.core.errors import StudyError
from mixwright.core.mixture import Mixture
from mixwright.core.objective import Objective
from mixwright.optimize.simplex import Region, dirichlet, sobol

Array = NDArray[np.float64]
#: candidates among which each run is the one farthest from those before it
_CANDIDATES = 32
#: weights closer than this are the same mixture
_SAME = 1e-6


@dataclass(frozen=True)
class Options:
    """``runs`` mixtures, the natural one among them, and ``repeats`` more runs of it with other seeds.

    ``strength`` is the sum of the Dirichlet's parameters per domain: small values reach the corners, large ones stay near
    the centre. ``pull`` is how much the centre is the natural mixture rather than the uniform one. ``lift`` is how far
    towards its highest weight each domain is raised once, the others keeping their proportions.
    """

    runs: Annotated[int, Ge(2)] = 16
    repeats: Annotated[int, Ge(0)] = 3
    strength: Annotated[float, Gt(0)] = 0.9
    pull: Annotated[float, Ge(0), Le(1)] = 0.5
    lift: Annotated[float, Gt(0), Le(1)] = 0.75


def design(
    natural: Mixture,
    *,
    rng: np.random.Generator,
    objective: Objective | None = None,
    tokens: float | None = None,
    supply: Array | None = None,
    options: Options | None = None,
) -> list[Mixture]:
    """``options.runs`` different mixtures within the objective's bounds; the first is the natural one, moved inside.

    Up to half of the others raise one domain each (in the order that keeps them far apart), the rest are chosen one
    after another, each the farthest from all before it among candidates drawn around the natural mixture. Repeats are
    not listed: they are the first mixture again. StudyError if the bounds contradict each other. Cost: milliseconds.
    """
    options = options or Options()
    region = Region.of(objective or Objective(), natural.domains, tokens=tokens, supply=supply)
    chosen = [region.project(natural.weights[None])[0]]
    lifted = _lifted(region, chosen[0], options.lift)
    while len(lifted) and len(chosen) <= (options.runs - 1) // 2:
        lifted = _take_farthest(chosen, lifted)
    size = len(natural.domains)
    centre = options.pull * natural.weights + (1 - options.pull) / size
    missing = options.runs - len(chosen)
    uniform = sobol(_CANDIDATES * max(missing, 1), size, rng)
    candidates = region.project(dirichlet(centre, options.strength * size, uniform))
    for part in np.array_split(candidates, missing) if missing else ():
        _take_farthest(chosen, part)
    same = sum(np.abs(np.array(chosen[:n]) - w).max(axis=1).min() < _SAME for n, w in enumerate(chosen) if n)
    if same:
        raise StudyError(
            f"The objective's bounds leave no room for {options.runs} different mixtures ({options.runs - same} were found). "
            "Loosen floors and ceilings, or design fewer runs."
        )
    return [Mixture.normalized(natural.domains, np.clip(w, 0.0, None)) for w in chosen]


def _lifted(region: Region, base: Array, lift: float) -> Array:
    """Per domain: its weight raised by ``lift`` of the way to its highest, the others in the proportions of ``base``."""
    out = []
    for d in range(len(base)):
        top = -region.least(-np.eye(len(base))[d])[1]
        raised = base[d] + lift * (top - base[d])
        rest = 1 - base[d]
        w = base * ((1 - raised) / rest if rest > 0 else 0.0)
        w[d] = raised
        out.append(w)
    points = region.project(np.array(out))
    return np.asarray(points[np.abs(points - base).max(axis=1) > _SAME])


def _take_farthest(chosen: list[Array], candidates: Array) -> Array:
    """Move the candidate farthest from all chosen to them; the candidates that remain are given back."""
    apart = np.sqrt(candidates)[:, None] - np.sqrt(np.array(chosen))[None]
    best = int((apart**2).sum(axis=2).min(axis=1).argmax())
    chosen.append(candidates[best])
    return np.delete(candidates, best, axis=0)


def coverage(mixtures: list[Mixture]) -> dict[str, tuple[float, float]]:
    """Per domain, its smallest and largest weight among the mixtures."""
    w: NDArray[Any] = np.array([mixture.weights for mixture in mixtures])
    return {
        name: (float(a), float(b)) for name, a, b in zip(mixtures[0].domains, w.min(axis=0), w.max(axis=0), strict=True)
    }
