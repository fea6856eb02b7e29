"""One training that is wanted."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mixwright.core.errors import DataError
from mixwright.core.schedule import Schedule

_SIZE = re.compile(r"(\d+)x(\d+)\Z")
_PARAMS = re.compile(r"(\d+(?:\.\d+)?)([KMB])\Z")
_UNITS = {"K": 1e3, "M": 1e6, "B": 1e9}
#: Width over layers of the family. The loss is nearly the same over a wide range of it (Kaplan et al. 2020,
#: arXiv:2001.08361, figure 5); Pythia's 70M to 1.4B have 43 to 128 (Biderman et al. 2023, arXiv:2304.01373, table 1).
_ASPECT = 64
#: How much the logarithm of the parameters counts against the square of that of width / layers.
_EXACT = 20.0
#: Parameters that the dial knows.
_FEWEST, _MOST = 1e4, 1e11

Rate = Literal["continue", "anneal"]


@dataclass(frozen=True, order=True)
class ModelSize:
    """The size of a decoder-only model: its width (residual channels) and its number of layers, written ``64x2``.

    ``1M``, ``70M`` or ``1B`` name members of the family by their parameters outside the embeddings (see ``dial``).
    """

    width: int
    layers: int

    def __post_init__(self) -> None:
        if self.width < 8 or self.width % 8:
            raise DataError(f"A model's width must be a multiple of 8, at least 8; got {self.width}.")
        if self.layers < 1:
            raise DataError(f"A model needs at least one layer; got {self.layers}.")

    @classmethod
    def parse(cls, text: str) -> ModelSize:
        """From ``"64x2"``, or by the dial from ``"70M"``."""
        if match := _SIZE.match(str(text)):
            return cls(int(match[1]), int(match[2]))
        if match := _PARAMS.match(str(text)):
            return cls.dial(float(match[1]) * _UNITS[match[2]])
        raise DataError(
            f"A model size is written as parameters, such as 1M, or as WIDTHxLAYERS, such as 64x2; got {text!r}."
        )

    @classmethod
    def dial(cls, params: float) -> ModelSize:
        """The member of the family with about ``params`` parameters outside the embeddings.

        It is the shape for which ``ln(width / layers / 64)^2 + 20 |ln(its parameters / params)|`` is least: 5 % of the
        parameters weigh as much as a factor e of width / layers. Widths are multiples of 16 below 128 channels, of 32
        below 512, of 64 from there on, so that heads have 16, 32, 64 and, from 2,048 channels on, 128 channels. Raises
        DataError outside 10K to 100B.
        """
        if not _FEWEST <= params <= _MOST:
            raise DataError(f"The family of models goes from 10K to 100B parameters; got {params:,.0f}.")

        def far(size: ModelSize) -> float:
            return math.log(size.width / size.layers / _ASPECT) ** 2 + _EXACT * abs(math.log(size.params / params))

        return min((cls._nearest(params, layers) for layers in range(1, 129)), key=far)

    @classmethod
    def _nearest(cls, params: float, layers: int) -> ModelSize:
        """Of the family's shapes with ``layers`` the one nearest to ``params``."""
        ideal = math.sqrt(params / (12 * layers))
        step = 16 if ideal < 128 else 32 if ideal < 512 else 64
        around = [cls(step * max(1, int(ideal / step) + more), layers) for more in (-1, 0, 1)]
        return min(around, key=lambda size: abs(math.log(size.params / params)))

    @property
    def hidden(self) -> int:
        """Width of the SwiGLU layer: 8/3 of the width, rounded up to a multiple of 8 (Shazeer 2020, section 2)."""
        return -(-8 * self.width // 3 // 8) * 8

    @property
    def heads(self) -> int:
        """Attention heads: channels of a head are even and nearest to 16 below 128 channels, 32 below 512, 64 below
        2,048, 128 from there on (the larger of two equally near).
        """
        d = self.width
        wanted = 16 if d < 128 else 32 if d < 512 else 64 if d < 2048 else 128
        fitting = [count for count in range(1, d // 2 + 1) if d % (2 * count) == 0]
        return min(fitting, key=lambda count: (abs(d // count - wanted), count))

    @property
    def params(self) -> int:
        """Non-embedding parameters: attention 4d², SwiGLU 3dh, two norms per layer, one at the end."""
        d = self.width
        return self.layers * (4 * d * d + 3 * d * self.hidden + 2 * d) + d

    def __str__(self) -> str:
        return f"{self.width}x{self.layers}"


@dataclass(frozen=True)
class Run:
    """One training that is wanted: what is drawn when, by which model, from which seed.

    ``run_id`` is unique in its table and names files. ``role`` says why the run exists (``design``, ``repeat``,
    ``verify``, ``branch``). A branch starts from the state that run ``parent`` had after ``parent_tokens`` tokens,
    and its schedule then holds the whole history, parent's part included. ``subsample`` is the fraction of each domain's
    unique tokens that the run may draw from: a proxy of T tokens for a target run of N tokens repeats every domain as often
    as the target will when it is T/N (1: all of them). ``rate`` is what a branch does with the learning rate: it goes
    on by the parent's schedule (``continue``), or falls linearly from where the parent's stood to zero (``anneal``).
    """

    run_id: str
    schedule: Schedule
    size: ModelSize
    seed: int = 0
    role: str = "design"
    parent: str | None = None
    parent_tokens: int = 0
    subsample: float = 1.0
    rate: Rate = "continue"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9._@+-]+", self.run_id):
            raise DataError(
                f"A run id may hold letters, digits and . _ @ + - only, since it names files; got {self.run_id!r}."
            )
        if (self.parent is None) != (self.parent_tokens == 0):
            raise DataError(
                f"Run {self.run_id}: a branch needs both a parent and the tokens it branches at; a fresh run neither."
            )
        if self.rate not in ("continue", "anneal") or (self.rate == "anneal" and self.parent is None):
            raise DataError(
                f"Run {self.run_id}: rate is continue or, for a branch, anneal; got {self.rate!r}"
                f"{' without a parent' if self.parent is None else ''}."
            )
        if not 0 < self.subsample <= 1:
            raise DataError(f"Run {self.run_id}: subsample must lie above 0 and be at most 1; got {self.subsample}.")
        if not 0 <= self.parent_tokens < self.schedule.tokens:
            raise DataError(
                f"Run {self.run_id}: it branches at {self.parent_tokens} of {self.schedule.tokens} tokens, which leaves none."
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "run_id": self.run_id,
            "schedule": self.schedule.to_dict(),
            "size": str(self.size),
            "seed": self.seed,
            "role": self.role,
            "parent": self.parent,
            "parent_tokens": self.parent_tokens,
            "subsample": self.subsample,
            "rate": self.rate,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Run:
        """The inverse of ``to_dict``."""
        return cls(
            **{**values, "schedule": Schedule.from_dict(values["schedule"]), "size": ModelSize.parse(values["size"])}
        )
