"""What to draw when: phases laid end to end, each some tokens of one mixture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixwright.core.errors import DataError
from mixwright.core.mixture import Mixture


@dataclass(frozen=True)
class Phase:
    """``tokens`` training tokens drawn from ``mixture``."""

    tokens: int
    mixture: Mixture

    def __post_init__(self) -> None:
        if int(self.tokens) != self.tokens or self.tokens <= 0:
            raise DataError(f"A phase needs a positive whole number of tokens; got {self.tokens}.")
        object.__setattr__(self, "tokens", int(self.tokens))


@dataclass(frozen=True)
class Schedule:
    """Phases laid end to end over the same domains; lengths are stored, so gaps and overlaps cannot be written."""

    phases: tuple[Phase, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "phases", tuple(self.phases))
        if not self.phases:
            raise DataError("A schedule needs at least one phase; it was given none.")
        first = self.phases[0].mixture.domains
        for number, phase in enumerate(self.phases, 1):
            if phase.mixture.domains != first:
                raise DataError(
                    f"All phases share one order of domains; phase {number} has {phase.mixture.domains}, phase 1 {first}. "
                    "Use Mixture.over(...) to reorder."
                )

    @classmethod
    def constant(cls, mixture: Mixture, tokens: int) -> Schedule:
        """One phase."""
        return cls((Phase(tokens, mixture),))

    @property
    def domains(self) -> tuple[str, ...]:
        """The D axis."""
        return self.phases[0].mixture.domains

    @property
    def tokens(self) -> int:
        """Training tokens in all."""
        return sum(phase.tokens for phase in self.phases)

    def exposure(self) -> NDArray[np.float64]:
        """Tokens drawn per phase and domain, ``(P, D)``."""
        return np.stack([phase.tokens * phase.mixture.weights for phase in self.phases])

    def mixture(self) -> Mixture:
        """The mixture of the whole: each domain's tokens over all tokens."""
        return Mixture.normalized(self.domains, self.exposure().sum(axis=0))

    def epochs(self, supply: Sequence[float] | NDArray[Any]) -> NDArray[np.float64]:
        """How often each domain's unique tokens are seen, ``(D,)``; inf where tokens are asked of an empty domain."""
        amount = np.asarray(supply, dtype=np.float64)
        if amount.shape != (len(self.domains),):
            raise DataError(f"The supply needs one number per domain ({len(self.domains)}); got {amount.size}.")
        seen = self.exposure().sum(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(seen == 0, 0.0, seen / amount)

    def until(self, tokens: int) -> Schedule:
        """The first ``tokens`` tokens of it."""
        if not 0 < tokens <= self.tokens:
            raise DataError(f"A schedule of {self.tokens} tokens cannot be cut at {tokens}.")
        phases, left = [], int(tokens)
        for phase in self.phases:
            take = min(left, phase.tokens)
            if take:
                phases.append(Phase(take, phase.mixture))
            left -= take
        return Schedule(tuple(phases))

    def switched(self, at: int, mixture: Mixture) -> Schedule:
        """The same up to token ``at``, then ``mixture`` to the same end: domain upsampling at the end of training."""
        head = self.until(at)
        if at == self.tokens:
            return head
        return Schedule((*head.phases, Phase(self.tokens - at, mixture.over(self.domains))))

    def to_dict(self) -> list[dict[str, Any]]:
        """Plain values for JSON and YAML."""
        return [{"tokens": phase.tokens, "weights": phase.mixture.to_dict()} for phase in self.phases]

    @classmethod
    def from_dict(cls, values: Sequence[Mapping[str, Any]]) -> Schedule:
        """The inverse of ``to_dict``."""
        return cls(tuple(Phase(value["tokens"], Mixture.of(value["weights"])) for value in values))
