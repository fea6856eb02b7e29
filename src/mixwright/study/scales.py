"""Tokens, sizes and supplies: what a study's law is for, and what repeated text is worth there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mixwright.core.errors import StudyError
from mixwright.core.observation import Runs
from mixwright.laws import GraphFit

if TYPE_CHECKING:
    from mixwright.optimize.mixture import Optimum
    from mixwright.study.config import BudgetOptions, LawOptions

#: a weight that repetition moves by less than this is not spoken of
_MOVED = 0.005


@dataclass(frozen=True)
class Target:
    """Training ``tokens`` and non-embedding ``params`` that predictions hold for; None where the runs do not say."""

    tokens: float | None
    params: float | None

    @property
    def whole(self) -> tuple[int | None, int | None]:
        """Params and tokens as whole numbers."""
        params, tokens = (None if value is None else round(value) for value in (self.params, self.tokens))
        return params, tokens

    @property
    def words(self) -> str:
        """``1.26 G parameters and 32.2 G tokens``."""
        from mixwright.report.words import scaled

        known = ((self.params, "parameters"), (self.tokens, "tokens"))
        return (
            " and ".join(f"{scaled(value)} {what}" for value, what in known if value is not None) or "an unstated size"
        )


def target(budget: BudgetOptions, runs: Runs) -> Target:
    """The budget, and where it says nothing the largest of the runs."""
    return Target(budget.tokens or _largest(runs.tokens), budget.params or _largest(runs.params))


def shared(runs: Runs) -> Target:
    """The tokens and params that all these runs share."""
    return Target(*(_largest(values) if len(np.unique(values)) == 1 else None for values in (runs.tokens, runs.params)))


def _largest(values: NDArray[np.float64]) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.max()) if known.size else None


def law(options: LawOptions, budget: BudgetOptions) -> Any:
    """The law that spans settings, as the study describes it."""
    from mixwright.laws.joint import Joint
    from mixwright.laws.nested import Nested
    from mixwright.laws.steps import StepLaw
    from mixwright.laws.transfer import Transfer

    if options.form == "transfer":
        return Transfer()
    steps = StepLaw(rate=options.rate)
    if options.form == "joint":
        return Joint(steps=steps)
    return Nested(law=options.forms[0], tokens=budget.tokens, params=budget.params, steps=steps)


#: CPU-seconds that a law takes for one fit of 512 runs, 17 domains and 13 metrics, measured; others count as the dearest
_SECONDS = {"hierarchical": 1.8, "additive": 5.8, "exponential": 1.3}
#: CPU-seconds of any small fit, and of a law that spans settings
_SMALL, _SPANNING = 0.25, 5.0


def cost_of_fit(options: LawOptions, rows: int, domains: int, metrics: int) -> float:
    """About how many CPU-seconds the fit stage takes: every law once per fold and repetition, and once on all rows."""
    if options.spans:
        return _SPANNING
    size = rows / 512 * domains / 17 * metrics / 13
    fits = options.folds * options.repeats + 1
    return fits * sum(_SMALL + size * _SECONDS.get(name, max(_SECONDS.values())) for name in options.candidates)


def checked_supply(supply: Mapping[str, int], domains: tuple[str, ...]) -> dict[str, int]:
    """The table's supplies, of every domain or of none; StudyError for a domain that is missing or not there."""
    if not supply:
        return {}
    unknown, missing = [name for name in supply if name not in domains], [n for n in domains if n not in supply]
    if unknown or missing:
        what = f"names {unknown[0]!r}, which the table does not have" if unknown else f"lacks {missing[0]!r}"
        raise StudyError(f"runs.supply {what}; it gives the unique tokens of all of {', '.join(domains)}.")
    return {name: int(supply[name]) for name in domains}


def counts_repeats(wanted: bool | None, tokens: float | None, supply: Mapping[str, int]) -> bool:
    """Whether some domain could be seen twice in so many tokens, and that is to count. StudyError where it cannot be known."""
    if wanted and (tokens is None or not supply):
        raise StudyError(
            "law.repetition: true needs the run's tokens (budget.tokens) and every domain's unique tokens (runs.supply)."
        )
    return wanted is not False and tokens is not None and any(unique < tokens for unique in supply.values())


def repeating(fit: GraphFit, tokens: float, supply: Mapping[str, int]) -> GraphFit:
    """The fit for a training of so many tokens from this supply."""
    from mixwright.laws.repetition import repeated

    return repeated(fit, tokens, supply)


def as_unrepeated(runs: Runs, supply: Mapping[str, int]) -> tuple[Runs, list[str]]:
    """The runs as if none had seen a token twice, and a sentence where some had; runs whose tokens are unknown stay."""
    from mixwright.laws.repetition import corrected

    known = all(name in supply for name in runs.domains) and runs.weights.shape[1] == 1 and np.all(runs.tokens > 0)
    if not known:
        return runs, []
    unique = np.array([float(supply[name]) for name in runs.domains])
    again = (runs.mixtures() * runs.tokens[:, None] > unique).any(axis=1)
    if not again.any():
        return runs, []
    return corrected(runs, supply), [
        f"{int(again.sum())} of {len(runs)} runs saw some domain more than once: the law is fitted to what they would have "
        "been with fresh text (Muennighoff et al. 2023)."
    ]


def what_repeats_changed(best: Optimum, blind: Optimum) -> list[str]:
    """What counting epochs did to the optimum, against ``blind``, which did not count them."""
    moved = {name: w - blind.mixture.to_dict().get(name, 0.0) for name, w in best.mixture.to_dict().items()}
    most = sorted(
        (name for name in moved if abs(moved[name]) >= _MOVED), key=lambda name: (-blind.epochs.get(name, 0.0), name)
    )[:3]
    if not most:
        return [
            "Epochs were counted (a repeated token is worth less than a new one); it left the optimum where it was."
        ]
    words = "; ".join(
        f"{name} gets {best.mixture.to_dict().get(name, 0.0):.1%} ({best.epochs.get(name, 0.0):.1f} epochs) instead of "
        f"{blind.mixture.to_dict().get(name, 0.0):.1%} ({blind.epochs.get(name, 0.0):.1f})"
        for name in most
    )
    return [f"Counting epochs (a repeated token is worth less than a new one) changed the optimum: {words}."]
