"""A flow on a terminal: what a stage does and costs before it starts, a bar with time left, what it found."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from mixwright.study.listener import Listener, StageEnd

#: seconds between two lines where there is no terminal to redraw
_LINE_EVERY = 15.0


class Terminal(Listener):
    """Prints to a rich console; without a terminal it writes a plain line now and then."""

    def __init__(self, console: Console, slots: int) -> None:
        self._console, self._slots = console, slots
        self._bar: Progress | None = None
        self._costs: dict[str, float] = {}
        self._done: dict[str, float] = {}

    def begin(self, stage: str, what: str, tasks: Mapping[str, float]) -> None:
        self._stage, self._costs, self._done = stage, dict(tasks), dict.fromkeys(tasks, 0.0)
        self._begun = self._last_line = time.monotonic()
        total = sum(tasks.values())
        cost = ""
        if len(tasks) and total > 5:
            wall = total / min(self._slots, len(tasks))
            several = f"{len(tasks)} tasks, " if len(tasks) > 1 else ""
            cost = f" [dim]({several}about {total:,.0f} CPU-seconds, {clock(wall)} on {self._slots} workers)[/]"
        self._console.print(f"[bold cyan]{stage}[/] {what}{cost}", highlight=False)
        if self._console.is_terminal:
            self._bar = Progress(
                TextColumn("  "), BarColumn(bar_width=30), TextColumn("{task.description}"),
                console=self._console, transient=True,
            )  # fmt: skip
            self._line: TaskID = self._bar.add_task("", total=1.0)
            self._bar.start()

    def progress(self, task: str, fraction: float, facts: dict[str, Any]) -> None:
        if task not in self._costs:
            self._costs[task] = max(self._costs.values(), default=1.0)
        self._done[task] = max(self._done.get(task, 0.0), fraction)
        share = sum(self._costs[name] * done for name, done in self._done.items()) / sum(self._costs.values())
        elapsed = time.monotonic() - self._begun
        left = f"{clock(elapsed * (1 - share) / share)} left" if share > 0.02 and elapsed > 1 else ""
        finished = sum(done >= 1 for done in self._done.values())
        shown = " ".join(f"{key} {_number(value)}" for key, value in facts.items())
        text = f"{share:4.0%}  {finished}/{len(self._costs)}  {left}  [dim]{task} {shown}[/]"
        if self._bar is not None:
            self._bar.update(self._line, completed=share, description=text)
        elif time.monotonic() - self._last_line > _LINE_EVERY:
            self._last_line = time.monotonic()
            self._console.print(f"  {share:.0%} of {self._stage}, {left}", highlight=False)

    def end(self, end: StageEnd) -> None:
        self.close()
        if end.cached:
            self._console.print(f"[bold cyan]{end.stage}[/] [dim]as before[/]", highlight=False)
            return
        self.show(*end.shown)
        self._console.print(f"[dim]  {end.stage} took {clock(end.seconds)}[/]", highlight=False)
        self._console.print()

    def show(self, *renderables: Any) -> None:
        """Print tables and sentences."""
        for renderable in renderables:
            self._console.print(renderable, highlight=False)

    def note(self, text: str) -> None:
        self._console.print(f"[yellow]note[/] {text}", highlight=False)

    def close(self) -> None:
        """Stop drawing."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def clock(seconds: float) -> str:
    """``7 s``, ``2:05`` or ``1:02:05``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"


def _number(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
