"""One task on all ranks that ``torchrun`` started: rank 0 leads, the others do what it tells them.

Rank 0 alone reads the study, makes artifacts, holds locks and speaks. Whenever it comes to a task, all ranks run it
together; between tasks the others wait. A process that torchrun did not start as one of several has no part in this.
"""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mixwright.core.errors import Interrupted, MixwrightError
from mixwright.engine.lifetime import die_with
from mixwright.engine.local import attempt, outcome_of
from mixwright.engine.task import Engine, OnProgress, Outcome, Session, Task

if TYPE_CHECKING:
    from mixwright.train.distributed import Ranks

#: Seconds that a rank that failed waits for rank 0 to say why, before its own end makes torchrun stop all.
_COURTESY = 3.0
#: seconds that torchrun's store gets to answer
_KNOCKING = 60.0


def launched() -> bool:
    """Whether torchrun started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ


def follow() -> bool:
    """On any rank but the first: do what rank 0 tells until it has ended, then True. Else False, at once.

    Raises the error of a task that failed here.
    """
    if not launched() or os.environ["RANK"] == "0":
        return False
    from mixwright.train.distributed import join

    _end_with_torchrun()
    with join() as ranks:
        while (told := ranks.told()) is not None:
            try:
                Task("task", told["function"], told["arguments"]).call(_silent)
            except MixwrightError:
                time.sleep(_COURTESY)
                raise
    return True


def _end_with_torchrun() -> None:
    """End when torchrun does, however that ends: ranks that went on would be in the way of the next ones.

    Interrupted if it is gone already: the store through which ranks find one another would be waited for in vain.
    """
    die_with(os.getppid())
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        place = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
        try:
            socket.create_connection(place, timeout=_KNOCKING).close()
        except OSError as error:
            raise Interrupted("torchrun has ended, and this rank with it. The same command goes on.") from error


@contextmanager
def leading(engine: Engine) -> Iterator[Engine]:
    """The engine of rank 0: all ranks together where there are several, else ``engine``."""
    if not launched():
        yield engine
        return
    from mixwright.train.distributed import join

    _end_with_torchrun()
    with join() as ranks:
        yield RanksEngine(ranks)
        ranks.told(None)


class RanksEngine(Engine):
    """Runs one task at a time, in this process and on every other rank."""

    def __init__(self, ranks: Ranks) -> None:
        self.ranks = ranks

    @property
    def slots(self) -> int:
        return 1

    def session(self, on_progress: OnProgress | None = None) -> Session:
        return _Together(self.ranks, on_progress)


class _Together(Session):
    def __init__(self, ranks: Ranks, on_progress: OnProgress | None) -> None:
        self._ranks, self._on_progress = ranks, on_progress
        self._waiting: deque[Task] = deque()

    def submit(self, task: Task) -> None:
        self._waiting.append(task)

    def _next(self) -> Outcome | None:
        if not self._waiting:
            return None
        task = self._waiting.popleft()
        self._ranks.told({"function": task.function, "arguments": dict(task.arguments)})
        begun, cpu = time.monotonic(), time.process_time()

        def say(fraction: float, **facts: Any) -> None:
            if self._on_progress is not None:
                self._on_progress(task.name, fraction, facts)

        reply = attempt(task, say)
        return outcome_of(task, reply | {"cpu_seconds": time.process_time() - cpu}, time.monotonic() - begun)

    def close(self) -> None:
        self._waiting.clear()


def _silent(*_: Any, **__: Any) -> None:
    """Progress of ranks that do not speak."""
