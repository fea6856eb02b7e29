"""What a flow tells whoever watches it: a terminal, a script, a test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class StageEnd:
    """How a stage ended: found as it was (``cached``) or made, in how many seconds, with what to show."""

    stage: str
    cached: bool
    seconds: float
    #: rows for a terminal (rich renderables or strings), in order
    shown: tuple[Any, ...] = ()


class Listener:
    """Hears nothing by default; the command line overrides what it wants to show."""

    def begin(self, stage: str, what: str, tasks: Mapping[str, float]) -> None:
        """A stage starts: what it does in one sentence, and its tasks with their estimated CPU-seconds."""

    def progress(self, task: str, fraction: float, facts: dict[str, Any]) -> None:
        """A task is at ``fraction`` (0..1); it may not have been announced."""

    def cost(self, task: str, cpu_seconds: float) -> None:
        """What a task costs, as it is known now."""

    def end(self, end: StageEnd) -> None:
        """A stage is done."""

    def note(self, text: str) -> None:
        """A sentence a person should read."""

    def close(self) -> None:
        """The stage is over, however it ended: stop drawing. May be called again."""
