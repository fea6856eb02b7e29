"""The local engine: long-lived worker processes (or threads) on this machine.

Workers are spawned, never forked, with threads and allocator settings in their environment before they start; they
speak JSON lines over pipes. A worker dies with its parent, however that ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import IO, Any, Literal

from mixwright.core.errors import MixwrightError, StudyError
from mixwright.engine.task import Engine, Outcome, Task


def cores() -> int:
    """The processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class LocalEngine(Engine):
    """``workers`` tasks at once (0: one per core), in ``processes`` or ``threads``."""

    workers: int = 0
    kind: Literal["processes", "threads"] = "processes"

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise StudyError(f"engine.workers must be 0 (one per core) or more; got {self.workers}.")

    @property
    def slots(self) -> int:
        return self.workers or cores()

    def run(
        self, tasks: Sequence[Task], on_progress: Callable[[str, float, dict[str, Any]], None] | None = None
    ) -> Iterator[Outcome]:
        ordered = sorted(tasks, key=lambda task: -task.cost)
        if self.kind == "threads":
            return self._run_threads(ordered, on_progress)
        return self._run_processes(ordered, on_progress)

    def _run_threads(
        self, tasks: Sequence[Task], on_progress: Callable[[str, float, dict[str, Any]], None] | None
    ) -> Iterator[Outcome]:
        with ThreadPoolExecutor(self.slots) as pool:
            waiting: set[Future[Outcome]] = {pool.submit(_call_here, task, on_progress) for task in tasks}
            try:
                while waiting:
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    for future in done:
                        yield future.result()
            finally:
                for future in waiting:
                    future.cancel()

    def _run_processes(
        self, tasks: Sequence[Task], on_progress: Callable[[str, float, dict[str, Any]], None] | None
    ) -> Iterator[Outcome]:
        todo = deque(tasks)
        events: queue.Queue[tuple[_Worker, dict[str, Any] | None]] = queue.Queue()
        workers: list[_Worker] = []
        try:
            for _ in range(min(self.slots, len(todo))):
                worker = _Worker(todo.popleft(), events)
                workers.append(worker)
            while any(worker.task is not None for worker in workers):
                worker, message = events.get()
                task = worker.task
                if task is None:
                    continue
                if message is not None and message["type"] == "progress":
                    if on_progress is not None:
                        on_progress(task.name, message["fraction"], message["facts"])
                    continue
                outcome = worker.outcome(message)
                if todo:
                    following = todo.popleft()
                    if message is None or not worker.serves(following):
                        worker.stop()
                        workers[workers.index(worker)] = _Worker(following, events)
                    else:
                        worker.start(following)
                else:
                    worker.task = None
                yield outcome
        finally:
            for worker in workers:
                worker.stop()


class _Worker:
    """One process; ``task`` is what it is at, or None."""

    def __init__(self, task: Task, events: queue.Queue[tuple[_Worker, dict[str, Any] | None]]) -> None:
        self._settings = (task.threads, dict(task.environment))
        threads = {
            name: str(task.threads)
            for name in (
                "OMP_NUM_THREADS",
                "MKL_NUM_THREADS",
                "OPENBLAS_NUM_THREADS",
                "RAYON_NUM_THREADS",
                "POLARS_MAX_THREADS",
            )
        }
        self._log = tempfile.TemporaryFile("w+b")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "mixwright.engine.worker", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=os.environ | threads | dict(task.environment),
        )
        assert self._process.stdout is not None
        self._listener = threading.Thread(target=self._listen, args=(self._process.stdout, events), daemon=True)
        self._listener.start()
        self.start(task)

    def serves(self, task: Task) -> bool:
        return self._settings == (task.threads, dict(task.environment))

    def start(self, task: Task) -> None:
        self.task: Task | None = task
        self._begun = time.monotonic()
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(
                json.dumps({"function": task.function, "arguments": dict(task.arguments)}).encode() + b"\n"
            )
            self._process.stdin.flush()

    def _listen(self, stream: IO[bytes], events: queue.Queue[tuple[_Worker, dict[str, Any] | None]]) -> None:
        with stream:
            for line in stream:
                if line.endswith(b"\n"):  # a killed process may leave half a line
                    events.put((self, json.loads(line)))
        events.put((self, None))

    def outcome(self, message: dict[str, Any] | None) -> Outcome:
        assert self.task is not None
        seconds = time.monotonic() - self._begun
        if message is None:
            code = self._process.wait()
            self._log.seek(0)
            last = self._log.read().decode("utf-8", "replace").strip().splitlines()
            how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
            return Outcome(
                self.task, error=f"The process of {self.task.name} {how}{': ' + last[-1] if last else ''}.", kind=1,
                trace="\n".join(last), seconds=seconds,
            )  # fmt: skip
        return Outcome(
            self.task, message.get("value"), message.get("error"), message.get("kind", 0), message.get("trace", ""),
            seconds, message.get("cpu_seconds", 0.0),
        )  # fmt: skip

    def stop(self) -> None:
        self.task = None
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._listener.join()
        for stream in (self._process.stdin, self._log):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


def _call_here(task: Task, on_progress: Callable[[str, float, dict[str, Any]], None] | None) -> Outcome:
    def progress(fraction: float, **facts: Any) -> None:
        if on_progress is not None:
            on_progress(task.name, fraction, facts)

    begun, cpu = time.monotonic(), time.thread_time()
    reply = attempt(lambda: task.call(progress))
    return Outcome(
        task, reply.get("value"), reply.get("error"), reply.get("kind", 0), reply.get("trace", ""),
        time.monotonic() - begun, time.thread_time() - cpu,
    )  # fmt: skip


def attempt(call: Callable[[], Any]) -> dict[str, Any]:
    """What a call gave, or its error as a sentence with its kind and, for faults of ours, the traceback."""
    from mixwright.core.errors import disk_error, missing_extra

    try:
        return {"value": call()}
    except MixwrightError as error:
        return {"error": str(error), "kind": error.exit_code}
    except MemoryError:
        return {"error": "Out of memory. Lower engine.workers or the batch.", "kind": 5}
    except Exception as error:
        known = disk_error(error, getattr(error, "filename", None) or "a file") or missing_extra(error)
        if known is not None:
            return {"error": str(known), "kind": known.exit_code}
        return {"error": f"{type(error).__name__}: {error}", "kind": 1, "trace": traceback.format_exc()}
