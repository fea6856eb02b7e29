"""A flow on a terminal: what a stage does and costs before it starts, what runs and how long it takes, what it found."""

from __future__ import annotations

import atexit
import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mixwright.study.listener import Listener, StageEnd
from mixwright.study.tally import Entry, Tally

#: seconds between two lines where there is no terminal to redraw: at first, at most, and as a part of the time passed
_LINE_EVERY, _LINE_AT_MOST, _LINE_PART = 15.0, 300.0, 0.05
#: seconds between two drawings
_DRAW_EVERY = 0.1
#: running tasks shown at most on a terminal, and in lines where there is none
_ROWS, _LINES = 12, 3


class Terminal(Listener):
    """Prints to a rich console: a table that is redrawn, or without a terminal plain lines now and then."""

    def __init__(self, console: Console, slots: int) -> None:
        self._console, self._slots = console, slots
        self._live: Live | None = None
        self._tally = Tally({})
        self._stage = ""
        atexit.register(self.close)

    def begin(self, stage: str, what: str, tasks: Mapping[str, float]) -> None:
        self._stage, self._tally = stage, Tally(tasks)
        self._begun = self._last = time.monotonic()
        total = sum(tasks.values())
        cost = ""
        if len(tasks) and total > 5:
            wall = total / min(self._slots, len(tasks))
            several = f"{len(tasks)} tasks, " if len(tasks) > 1 else ""
            cost = f" [dim]({several}about {total:,.0f} CPU-seconds, {clock(wall)} on {self._slots} workers)[/]"
        self._console.print(f"[bold cyan]{stage}[/] {what}{cost}", highlight=False)
        if self._console.is_terminal:
            self._live = Live(self._drawing(), console=self._console, transient=True, auto_refresh=False)
            self._live.start()

    def progress(self, task: str, fraction: float, facts: dict[str, Any]) -> None:
        self._tally.heard(task, fraction, facts)
        if "again" in facts:
            self.note(f"{task} is begun again: {facts['again']}")
        now = time.monotonic()
        if self._live is not None:
            if now - self._last > _DRAW_EVERY:
                self._last = now
                self._live.update(self._drawing(), refresh=True)
        elif now - self._last > min(_LINE_AT_MOST, max(_LINE_EVERY, _LINE_PART * (now - self._begun))):
            self._last = now
            self._console.print(self._lines(), highlight=False, markup=False)

    def cost(self, task: str, cpu_seconds: float) -> None:
        self._tally.cost(task, cpu_seconds)

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
        self._console.print(Text.assemble(("note ", "yellow"), text))

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    # ---- what is drawn -------------------------------------------------------------------------------------------

    def _drawing(self) -> RenderableType:
        head = Table.grid(padding=(0, 1))
        head.add_row(" ", ProgressBar(total=1.0, completed=self._tally.share, width=24), Text(self._totals()))
        running = list(self._tally.running().items())
        if not running:
            return head
        body = self._training(running[:_ROWS]) if self._tally.trains else self._working(running[:_ROWS])
        more = [Text(f"  and {len(running) - _ROWS} more", style="dim")] if len(running) > _ROWS else []
        return Group(head, body, *more)

    def _totals(self) -> str:
        """``37%  12 done, 1 failed, 2 running, 17 waiting, 2:05 left``."""
        tally = self._tally
        counts = ", ".join(f"{n} {what}" for what, n in tally.count().items() if n) if len(tally.entries) > 1 else ""
        left = tally.seconds_left()
        parts = [counts, f"{clock(left)} left" if left is not None else ""]
        return f"{tally.share:4.0%}  " + ", ".join(part for part in parts if part)

    def _training(self, running: list[tuple[str, Entry]]) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
        table.add_column("  run", min_width=16, max_width=34, no_wrap=True, overflow="ellipsis")
        for heading, width in (("done", 4), ("loss", 6), ("tokens/s", 8), ("left", 7)):
            table.add_column(heading, justify="right", no_wrap=True, min_width=width)
        for name, entry in running:
            left = self._tally.left_of(entry)
            table.add_row(
                f"  {name}", f"{entry.fraction:.0%}", _loss(entry), _rate(entry), "" if left is None else clock(left)
            )
        return table

    def _working(self, running: list[tuple[str, Entry]]) -> Table:
        table = Table.grid(padding=(0, 2, 0, 0))
        for name, entry in running:
            facts = "  ".join(f"{_number(value)} {key}" for key, value in entry.facts.items())
            table.add_row(Text(f"  {name}", overflow="ellipsis"), f"{entry.fraction:4.0%}", Text(facts, style="dim"))
        return table

    def _lines(self) -> str:
        """The totals, and of some running runs what they are at."""
        lines = [f"  {self._stage} {self._totals().strip()}"]
        if self._tally.trains:
            for name, entry in list(self._tally.running().items())[:_LINES]:
                loss, rate = _loss(entry), _rate(entry)
                said = [f"loss {loss}" if loss else "", f"{rate} tokens/s" if rate else ""]
                lines.append(f"    {name} {entry.fraction:.0%} " + ", ".join(part for part in said if part))
        return "\n".join(lines)


def clock(seconds: float) -> str:
    """``7 s``, ``2:05`` or ``1:02:05``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"


def _loss(entry: Entry) -> str:
    value = entry.facts.get("loss")
    return f"{value:.3f}" if isinstance(value, float) else ""


def _rate(entry: Entry) -> str:
    """Tokens per second as ``950``, ``12.3k`` or ``1.2M``."""
    value = entry.facts.get("tokens_per_second")
    if not isinstance(value, int | float):
        return ""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.{1 if value < 100 * size else 0}f}{letter}"
    return f"{value:.0f}"


def _number(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
