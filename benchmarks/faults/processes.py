"""Processes by what they are to one another, read from ``/proc``; who is killed, and whether anything stays behind."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Process:
    """One of the machine's processes; ``born`` tells it from a later one with the same number."""

    pid: int
    parent: int
    born: str
    words: str

    @property
    def alive(self) -> bool:
        now = read(self.pid)
        return now is not None and now.born == self.born

    def kill(self) -> None:
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)


def read(pid: int) -> Process | None:
    """A process that lives (a zombie does not)."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return None
    return None if fields[0] == "Z" else Process(pid, int(fields[1]), fields[19], words)


def descendants(pid: int) -> list[Process]:
    """All processes below one, parents first."""
    children: dict[int, list[Process]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (process := read(int(entry.name))) is not None:
            children.setdefault(process.parent, []).append(process)

    def below(parent: int) -> Iterator[Process]:
        for process in children.get(parent, ()):
            yield process
            yield from below(process.pid)

    return list(below(pid))


def left_behind(family: list[Process], seconds: float = 20.0) -> list[Process]:
    """Those that still live after so many seconds; they are killed then."""
    deadline = time.monotonic() + seconds
    while (living := [process for process in family if process.alive]) and time.monotonic() < deadline:
        time.sleep(0.05)
    for process in living:
        process.kill()
    return living
