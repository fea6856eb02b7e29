"""The local engine: long-lived worker processes (or threads) on this machine.

Workers are spawned, never forked, with threads and allocator settings in their environment before they start; they
speak JSON lines over pipes. A worker dies with its parent, however that ends.
"""

from __future__ import annotations

import contextlib
import heapq
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from mixwright.core.errors import MixwrightError, StudyError
from mixwright.engine.locks import held
from mixwright.engine.task import Engine, OnProgress, Outcome, Session, Task

#: What a worker says of its task: a message, or None when its process is gone.
Message = dict[str, Any] | None
_GPUS = "CUDA_VISIBLE_DEVICES"


def cores() -> int:
    """The processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus() -> tuple[str, ...]:
    """The NVIDIA GPUs this process may use, by the names that ``CUDA_VISIBLE_DEVICES`` has for them."""
    visible = os.environ.get(_GPUS)
    if visible is not None:
        return tuple(name.strip() for name in visible.split(",") if name.strip() not in ("", "-1"))
    devices = Path("/dev").glob("nvidia[0-9]*")
    return tuple(sorted((path.name.removeprefix("nvidia") for path in devices), key=int))


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

    @property
    def gpus(self) -> int:
        return len(gpus()) if self.kind == "processes" else 0

    def session(self, on_progress: OnProgress | None = None) -> Session:
        return (_Threads if self.kind == "threads" else _Processes)(self.slots, on_progress)


class Waiting:
    """Tasks that wait, the dearest first, equal ones in the order they came."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Task]] = []
        self._count = 0

    def __len__(self) -> int:
        return len(self._heap)

    def push(self, task: Task) -> None:
        self._count += 1
        heapq.heappush(self._heap, (-task.cost, self._count, task))

    def first(self) -> Task:
        return self._heap[0][2]

    def pop(self) -> Task:
        return heapq.heappop(self._heap)[2]

    def clear(self) -> None:
        self._heap.clear()

    def revise(self, costs: Mapping[str, float]) -> None:
        """Give tasks other costs, by their names."""
        self._heap = [(-costs.get(task.name, -negative), n, task) for negative, n, task in self._heap]
        heapq.heapify(self._heap)


class _Processes(Session):
    """Worker processes, kept for the next task where its threads and environment are the same."""

    def __init__(self, slots: int, on_progress: OnProgress | None) -> None:
        self._slots, self._on_progress = slots, on_progress
        self._waiting = Waiting()
        self._events: queue.Queue[tuple[_Worker, Message]] = queue.Queue()
        self._workers: list[_Worker] = []
        self._gpus = gpus()

    def submit(self, task: Task) -> None:
        self._waiting.push(task)

    def revise(self, costs: Mapping[str, float]) -> None:
        self._waiting.revise(costs)

    def _next(self) -> Outcome | None:
        self._start_what_fits()
        while self._busy:
            worker, message = self._events.get()
            if worker.task is None:  # the end of a process that was idle
                continue
            if message is not None and message["type"] == "progress":
                if self._on_progress is not None:
                    self._on_progress(worker.task.name, message["fraction"], message["facts"])
                continue
            outcome = worker.outcome(message)
            if message is None:
                self._drop(worker)
            self._start_what_fits()
            return outcome
        return None

    def close(self) -> None:
        self._waiting.clear()
        for worker in self._workers:
            worker.stop()
        self._workers.clear()

    @property
    def _busy(self) -> list[_Worker]:
        return [worker for worker in self._workers if worker.task is not None]

    def _start_what_fits(self) -> None:
        """Start tasks while there is room for the dearest that waits; one that wants more than there is gets all there is."""
        while self._waiting:
            task, busy = self._waiting.first(), self._busy
            taken = sum(worker.threads for worker in busy)
            free = [name for name in self._gpus if not any(name in worker.gpus for worker in busy)]
            wanted = min(task.gpus, len(self._gpus))
            if busy and (taken + task.threads > self._slots or wanted > len(free)):
                return
            self._start(self._waiting.pop(), tuple(free[:wanted]))

    def _start(self, task: Task, devices: tuple[str, ...]) -> None:
        idle = [worker for worker in self._workers if worker.task is None]
        for worker in idle:
            if worker.serves(task, devices):
                worker.start(task)
                return
        for worker in idle:
            if len(self._workers) >= self._slots or set(worker.gpus) & set(devices):
                self._drop(worker)
        self._workers.append(_Worker(task, devices, lambda worker, message: self._events.put((worker, message))))

    def _drop(self, worker: _Worker) -> None:
        worker.stop()
        self._workers.remove(worker)


class _Stopped(BaseException):
    """Raised in a task, where it tells how far it is, once its session is closed."""


class _Threads(Session):
    """Threads of this process: for tasks that are quick, or leave the interpreter to others, and for tests.

    A task that is at work when the session closes ends at its next word of progress.
    """

    def __init__(self, slots: int, on_progress: OnProgress | None) -> None:
        self._on_progress, self._slots = on_progress, slots
        self._pool = ThreadPoolExecutor(slots)
        self._waiting = Waiting()
        self._events: queue.Queue[tuple[str, float, dict[str, Any]] | Outcome | BaseException] = queue.Queue()
        self._running = 0
        self._closed = False

    def submit(self, task: Task) -> None:
        self._waiting.push(task)

    def revise(self, costs: Mapping[str, float]) -> None:
        self._waiting.revise(costs)

    def _next(self) -> Outcome | None:
        self._start_what_fits()
        while self._running:
            event = self._events.get()
            if isinstance(event, Outcome):
                self._running -= 1
                self._start_what_fits()
                return event
            if isinstance(event, BaseException):
                self._running -= 1
                raise event
            if self._on_progress is not None:
                self._on_progress(*event)
        return None

    def _start_what_fits(self) -> None:
        while self._waiting and self._running < self._slots:
            task = self._waiting.pop()
            self._running += 1
            self._pool.submit(self._work, task)

    def _work(self, task: Task) -> None:
        try:
            self._events.put(_call_here(task, self._say))
        except BaseException as error:  # an interruption is raised where the outcomes are read
            self._events.put(error)

    def _say(self, name: str, fraction: float, facts: dict[str, Any]) -> None:
        if self._closed:
            raise _Stopped
        self._events.put((name, fraction, facts))

    def close(self) -> None:
        self._closed = True
        self._waiting.clear()
        self._pool.shutdown(wait=True, cancel_futures=True)


class Child:
    """A worker process: tasks go in, its messages come out on a thread of this process.

    ``hear`` gets every message, and None when the process has ended; ``how_it_ended`` then says how. It works in ``folder``,
    by default that of this process.
    """

    def __init__(
        self, threads: int, environment: Mapping[str, str], hear: Callable[[Message], None], folder: str | None = None
    ) -> None:
        limits = (
            "OMP_NUM_THREADS",
            "MKL_NUM_THREADS",
            "OPENBLAS_NUM_THREADS",
            "RAYON_NUM_THREADS",
            "POLARS_MAX_THREADS",
        )
        self._log = tempfile.TemporaryFile("w+b")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mixwright.engine.worker", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=os.environ | dict.fromkeys(limits, str(threads)) | dict(environment),
            cwd=folder,
        )
        assert self.process.stdout is not None
        self._listener = threading.Thread(target=self._listen, args=(self.process.stdout, hear), daemon=True)
        self._listener.start()

    def send(self, task: Task) -> None:
        """Let it work at a task."""
        assert self.process.stdin is not None
        request = {"function": task.function, "arguments": dict(task.arguments), "locks": list(task.locks)}
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()

    def _listen(self, stream: IO[bytes], hear: Callable[[Message], None]) -> None:
        with stream:
            for line in stream:
                if line.endswith(b"\n"):  # a killed process may leave half a line
                    hear(json.loads(line))
        hear(None)

    def how_it_ended(self, name: str) -> dict[str, Any]:
        """The reply of a task whose process is gone: the signal or code, and the last line it left."""
        code = self.process.wait()
        self._log.seek(0)
        last = self._log.read().decode("utf-8", "replace").strip().splitlines()
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        said = f": {last[-1]}" if last else ""
        return {"error": f"The process of {name} {how}{said}.", "kind": 1, "trace": "\n".join(last), "died": True}

    def stop(self) -> None:
        """Kill it."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._listener.join()
        for stream in (self.process.stdin, self._log):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


class _Worker:
    """A child and what it is at: ``task``, or None."""

    def __init__(self, task: Task, devices: tuple[str, ...], hear: Callable[[_Worker, Message], None]) -> None:
        self.gpus = devices
        self._settings = (task.threads, dict(task.environment))
        seen = {_GPUS: ",".join(devices)} if devices else {}
        self._child = Child(task.threads, dict(task.environment) | seen, lambda message: hear(self, message))
        self.start(task)

    @property
    def threads(self) -> int:
        return self._settings[0]

    def serves(self, task: Task, devices: tuple[str, ...]) -> bool:
        return self._settings == (task.threads, dict(task.environment)) and self.gpus == devices

    def start(self, task: Task) -> None:
        self.task: Task | None = task
        self._begun = time.monotonic()
        self._child.send(task)

    def outcome(self, message: Message) -> Outcome:
        """How its task ended; it is free after that."""
        assert self.task is not None
        task, self.task = self.task, None
        reply = self._child.how_it_ended(task.name) if message is None else message
        return outcome_of(task, reply, time.monotonic() - self._begun)

    def stop(self) -> None:
        self.task = None
        self._child.stop()


def outcome_of(task: Task, reply: Mapping[str, Any], seconds: float) -> Outcome:
    """An outcome from a worker's reply."""
    return Outcome(
        task, reply.get("value"), reply.get("error"), reply.get("kind", 0), reply.get("trace", ""), seconds,
        reply.get("cpu_seconds", 0.0), reply.get("died", False),
    )  # fmt: skip


def _call_here(task: Task, say: OnProgress) -> Outcome:
    begun, cpu = time.monotonic(), time.thread_time()
    reply = attempt(task, lambda fraction, **facts: say(task.name, fraction, facts))
    return outcome_of(task, reply | {"cpu_seconds": time.thread_time() - cpu}, time.monotonic() - begun)


def attempt(task: Task, progress: Callable[..., None]) -> dict[str, Any]:
    """What a task gave, or its error as a sentence with its kind and, for faults of ours, the traceback."""
    from mixwright.core.errors import disk_error, missing_extra

    try:
        with held(task.locks):
            return {"value": task.call(progress)}
    except MixwrightError as error:
        return {"error": str(error), "kind": error.exit_code}
    except MemoryError:
        return {"error": "Out of memory. Lower engine.workers or the batch.", "kind": 5}
    except Exception as error:
        known = disk_error(error, getattr(error, "filename", None) or "a file") or missing_extra(error)
        if known is not None:
            return {"error": str(known), "kind": known.exit_code}
        return {"error": f"{type(error).__name__}: {error}", "kind": 1, "trace": traceback.format_exc()}
