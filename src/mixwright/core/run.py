"""One training that is wanted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mixwright.core.errors import DataError
from mixwright.core.schedule import Schedule

_SIZE = re.compile(r"(\d+)x(\d+)\Z")


@dataclass(frozen=True, order=True)
class ModelSize:
    """The size of a decoder-only model: its width (residual channels) and its number of layers, written ``64x2``."""

    width: int
    layers: int

    def __post_init__(self) -> None:
        if self.width < 8 or self.width % 8:
            raise DataError(f"A model's width must be a multiple of 8, at least 8; got {self.width}.")
        if self.layers < 1:
            raise DataError(f"A model needs at least one layer; got {self.layers}.")

    @classmethod
    def parse(cls, text: str) -> ModelSize:
        """From ``"64x2"``."""
        match = _SIZE.match(str(text))
        if not match:
            raise DataError(f"A model size is written WIDTHxLAYERS, such as 64x2; got {text!r}.")
        return cls(int(match[1]), int(match[2]))

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
    as the target will when it is T/N (1: all of them).
    """

    run_id: str
    schedule: Schedule
    size: ModelSize
    seed: int = 0
    role: str = "design"
    parent: str | None = None
    parent_tokens: int = 0
    subsample: float = 1.0

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9._@+-]+", self.run_id):
            raise DataError(
                f"A run id may hold letters, digits and . _ @ + - only, since it names files; got {self.run_id!r}."
            )
        if (self.parent is None) != (self.parent_tokens == 0):
            raise DataError(
                f"Run {self.run_id}: a branch needs both a parent and the tokens it branches at; a fresh run neither."
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
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Run:
        """The inverse of ``to_dict``."""
        return cls(
            **{**values, "schedule": Schedule.from_dict(values["schedule"]), "size": ModelSize.parse(values["size"])}
        )
