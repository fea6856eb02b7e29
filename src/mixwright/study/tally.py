"""How far the tasks of a stage are, and how long the rest takes.

Notation
    c_i    CPU-seconds task i is expected to cost
    f_i    how far it is, 0..1
    w      work done, the sum of c_i f_i over tasks that were not found done at the beginning

Time left is the work left divided by the rate dw/dt of the last minute or quarter of the time, whichever is longer; but
no less than what the task that takes longest still needs at its own rate.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

#: seconds and part of the time passed over which the rate of work is measured
_WINDOW, _PART = 60.0, 0.25
#: seconds between two samples of the work done
_SAMPLED = 1.0
#: seconds of work before a time is named
_ENOUGH = 2.0


@dataclass
class Entry:
    """A task: what it costs, how far it is, what it said last, and when it was first seen at work."""

    cost: float
    fraction: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)
    first: tuple[float, float] | None = None  # seconds, fraction
    ended: bool = False
    found: bool = False
    failed: bool = False

    @property
    def running(self) -> bool:
        return self.first is not None and not self.ended

    def own_seconds_left(self, now: float) -> float | None:
        """At the rate it has gone so far; None while that is not known."""
        if self.first is None or self.fraction <= self.first[1]:
            return None
        return (now - self.first[0]) * (1 - self.fraction) / (self.fraction - self.first[1])


class Tally:
    """The tasks of one stage. ``trains``: a task ends when its facts hold a ``status``, not when its fraction is 1."""

    def __init__(self, costs: Mapping[str, float], clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.entries = {name: Entry(cost) for name, cost in costs.items()}
        self.trains = False
        self._samples: deque[tuple[float, float]] = deque()

    def cost(self, task: str, cpu_seconds: float) -> None:
        """A task's cost as it is known now."""
        self._entry(task).cost = cpu_seconds

    def heard(self, task: str, fraction: float, facts: Mapping[str, Any]) -> None:
        """Progress of a task."""
        now, entry = self._clock(), self._entry(task)
        self.trains = self.trains or "status" in facts or "loss" in facts
        if "again" in facts:
            entry.fraction, entry.first, entry.ended = 0.0, None, False
            return
        ends = "status" in facts if self.trains else fraction >= 1
        if entry.first is None and not ends:
            entry.first = (now, fraction)
        entry.facts = {**entry.facts, **facts}
        entry.fraction = max(entry.fraction, fraction)
        if ends and not entry.ended:
            entry.ended, entry.found, entry.failed = True, entry.first is None, facts.get("status") == "failed"
        if not entry.found and (not self._samples or now - self._samples[-1][0] >= _SAMPLED):
            self._sample(now)

    def _entry(self, task: str) -> Entry:
        if task not in self.entries:
            self.entries[task] = Entry(max((entry.cost for entry in self.entries.values()), default=1.0))
        return self.entries[task]

    def _sample(self, now: float) -> None:
        self._samples.append((now, self._work()[0]))
        window = max(_WINDOW, _PART * (now - self._samples[0][0]))
        while len(self._samples) > 2 and now - self._samples[1][0] > window:
            self._samples.popleft()

    def _work(self) -> tuple[float, float]:
        """Work done and work left."""
        own = [entry for entry in self.entries.values() if not entry.found]
        done = sum(entry.cost * entry.fraction for entry in own)
        return done, sum(entry.cost for entry in own) - done

    @property
    def share(self) -> float:
        """The part of all work that is done, what was found done included, 0..1."""
        total = sum(entry.cost for entry in self.entries.values())
        return sum(entry.cost * entry.fraction for entry in self.entries.values()) / total if total else 0.0

    def count(self) -> dict[str, int]:
        """How many are ``done`` well, ``failed``, ``running`` and ``waiting``."""
        entries = list(self.entries.values())
        failed, running = sum(entry.failed for entry in entries), sum(entry.running for entry in entries)
        done = sum(entry.ended for entry in entries) - failed
        return {"done": done, "failed": failed, "running": running, "waiting": len(entries) - done - failed - running}

    def running(self) -> dict[str, Entry]:
        """The tasks at work, in the order they began."""
        found = [(entry.first or (0.0, 0.0), name) for name, entry in self.entries.items() if entry.running]
        return {name: self.entries[name] for _, name in sorted(found)}

    def left_of(self, entry: Entry) -> float | None:
        """Seconds a running task still needs: what it says itself, else at its rate so far."""
        own = entry.facts.get("seconds_left")
        return float(own) if isinstance(own, int | float) else entry.own_seconds_left(self._clock())

    def seconds_left(self) -> float | None:
        """Seconds until all are done; None while too little has been seen."""
        if not self._samples:
            return None
        now, (done, left) = self._clock(), self._work()
        since, work = self._samples[0]
        if now - since < _ENOUGH or done <= work:
            return None
        longest = max((self.left_of(entry) or 0.0 for entry in self.entries.values() if entry.running), default=0.0)
        return max(left * (now - since) / (done - work), longest)
