"""What every exporter gives: files in a trainer's own words, and an honest statement of what they mean.

Notation: a *sample* is one training sequence of ``seq_len`` tokens; a *batch* is ``batch`` samples, one optimizer step.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from mixwright.core.errors import StudyError
from mixwright.core.mixture import Mixture
from mixwright.core.recipe import Recipe
from mixwright.core.schedule import Schedule


@dataclass(frozen=True)
class Cut:
    """One phase of a schedule in whole batches.

    ``first`` and ``last`` count batches from 0, ``last`` exclusive. ``asked`` are the tokens of the phase in the
    recipe, ``tokens`` those exported.
    """

    mixture: Mixture
    first: int
    last: int
    batch: int
    seq_len: int
    asked: int

    @property
    def batches(self) -> int:
        """Optimizer steps of the phase."""
        return self.last - self.first

    @property
    def samples(self) -> int:
        """Sequences of the phase."""
        return self.batches * self.batch

    @property
    def tokens(self) -> int:
        """Training tokens of the phase, as exported."""
        return self.samples * self.seq_len

    def weights(self) -> dict[str, float]:
        """``{domain: weight}`` without the domains that have none; the values are the recipe's to the last bit."""
        return {name: weight for name, weight in self.mixture.to_dict().items() if weight > 0}


def cut(schedule: Schedule, *, seq_len: int, batch: int) -> tuple[Cut, ...]:
    """The phases in whole batches: each boundary goes to the nearest one, so that rounding never adds up.

    Raises StudyError when ``seq_len`` or ``batch`` is not positive, and when a phase is left without a batch.
    """
    if seq_len < 1 or batch < 1:
        raise StudyError(f"An export needs a positive seq_len and batch; got seq_len {seq_len} and batch {batch}.")
    unit, asked, last = seq_len * batch, 0, 0
    cuts = []
    for number, phase in enumerate(schedule.phases, 1):
        first, asked = last, asked + phase.tokens
        last = (2 * asked + unit) // (2 * unit)
        if last == first:
            raise StudyError(
                f"Phase {number} has {phase.tokens:,} tokens, less than half a batch of {batch} x {seq_len} = {unit:,} "
                "tokens. Export with a smaller batch or seq_len."
            )
        cuts.append(Cut(phase.mixture, first, last, batch, seq_len, phase.tokens))
    return tuple(cuts)


def epochs(recipe: Recipe, cuts: tuple[Cut, ...]) -> dict[str, float]:
    """Passes over each domain's unique tokens that the exported phases make; empty where supplies are unknown."""
    if not recipe.supply:
        return {}
    drawn = {name: sum(part.tokens * part.mixture[name] for part in cuts) for name in recipe.schedule.domains}
    return {
        name: (tokens / recipe.supply[name] if recipe.supply.get(name) else float("inf")) if tokens else 0.0
        for name, tokens in drawn.items()
    }


def in_comment(name: str) -> str:
    """A domain's name on one line, whatever characters it holds."""
    return name if name.isprintable() else json.dumps(name)


class Exporter(ABC):
    """Writes a recipe in one trainer's own words. Plug-ins are frozen dataclasses of their options.

    The class variables are sentences that every file repeats, so that nobody has to guess what a weight means.
    """

    #: what one unit of weight is in this trainer
    unit: ClassVar[str]
    #: what happens when a domain runs out of unique tokens
    repeats: ClassVar[str]
    #: the exact version the files were tried with
    tested: ClassVar[str]

    @abstractmethod
    def files(self, recipe: Recipe, *, tokens_root: str | None, seq_len: int, batch: int) -> dict[str, str]:
        """``{file name: content}``, ready to be written side by side.

        ``tokens_root`` is the folder that holds ``train/<domain>/`` (None: paths stay relative to it), ``seq_len`` the
        tokens of one sample, ``batch`` the samples of one optimizer step. Weights are exported to the last bit; phase
        lengths are rounded to whole batches. Raises StudyError when the recipe cannot be said in this form.
        """

    def statement(self, recipe: Recipe, cuts: tuple[Cut, ...]) -> tuple[str, ...]:
        """Unit, phases with their rounding, epochs, repetition and the tested version: one sentence each."""
        lines = [self.unit]
        for number, part in enumerate(cuts, 1):
            moved = part.tokens - part.asked
            rounded = f"rounded by {moved:+,} tokens to" if moved else "exactly"
            lines.append(
                f"Phase {number}: {part.asked:,} tokens in the recipe, {rounded} {part.batches:,} batches of "
                f"{part.batch} samples of {part.seq_len} tokens."
            )
            absent = [in_comment(name) for name, weight in part.mixture.to_dict().items() if weight == 0]
            if absent:
                lines.append(f"Phase {number} leaves out the domains of weight 0: {', '.join(absent)}.")
        passes = epochs(recipe, cuts)
        lines.append(
            "Expected epochs: " + ", ".join(f"{in_comment(name)} {value:.3g}" for name, value in passes.items()) + "."
            if passes
            else "Expected epochs: unknown, since the recipe knows no supplies."
        )
        return (*lines, self.repeats, self.tested)
