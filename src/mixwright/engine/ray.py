"""The Ray engine: the same tasks on a cluster, through the same worker processes as the local engine.

    here                                   a node
    ----------------------------------     --------------------------------------------------------
    session: what waits, what runs  ---->  Ray task ``work`` (num_cpus = threads): starts a child
             outcomes               <----      process with its threads and environment set, and
             progress  <-- mailbox (an actor) <-- passes on what it says

A Ray worker serves tasks of several settings one after another, so allocator settings and thread limits can only be
given to a process that starts afterwards: the child. It is kept for the next task with the same settings and dies with
its Ray worker. Files are not sent: every node must see the study's folder at the same path, which is checked.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import socket
import time
import uuid
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mixwright.core.errors import StudyError, missing_extra
from mixwright.engine.local import Child, Message, Waiting, cores, outcome_of
from mixwright.engine.task import Engine, OnProgress, Outcome, Session, Task

#: Nothing of Ray's own on the terminal.
_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
#: How often a task is handed over again after the worker or node it was on has died.
_ELSEWHERE = 3
#: seconds between two looks at the mailbox
_LOOK_EVERY = 0.3
#: seconds for which what the cluster has is believed
_BELIEVED = 5.0
#: seconds that stopped tasks get to be gone
_STOPPING = 10.0
#: seconds that a cluster gets to answer
_KNOCKING = 10.0
#: Bytes of shared memory of a Ray that is started here: tasks and outcomes are small JSON, files go through the folder.
_OBJECT_STORE = 80 * 2**20
#: Progress messages kept at most until they are looked at.
_KEPT_MESSAGES = 10_000
#: Seconds a node gets to see a file that was just written (network file systems look into a folder now and then).
_SEEN_WITHIN = 10.0


@dataclass(frozen=True)
class RayEngine(Engine):
    """Tasks on the Ray cluster at ``address``, as many at once as it has CPUs, or ``workers`` where that is not 0.

    ``auto`` takes the cluster this machine belongs to and starts a Ray of its own where there is none, ``local`` always
    starts one (``workers`` CPUs, 0: one per core); anything else is the address of a cluster (``host:6379``,
    ``ray://host:10001``). ``folder`` is where the tasks' files lie: it must be the same folder at the same path on every
    node. Raises StudyError where Ray is not installed or no cluster answers.
    """

    address: str = "auto"
    workers: int = 0
    folder: Path | None = None

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise StudyError(f"engine.workers must be 0 (as many as the cluster has CPUs) or more; got {self.workers}.")

    @property
    def slots(self) -> int:
        return self.workers or max(1, int(self._cluster().has("CPU")))

    @property
    def gpus(self) -> int:
        return int(self._cluster().has("GPU"))

    def session(self, on_progress: OnProgress | None = None) -> Session:
        return _RaySession(self._cluster(), self.workers, self.folder, on_progress)

    def _cluster(self) -> _Cluster:
        """The connection, made at the first use and kept for this process."""
        global _CLUSTER
        if _CLUSTER is None or not _CLUSTER.ray.is_initialized():
            _CLUSTER = _Cluster(_connected(self.address, self.workers))
        return _CLUSTER


class _Cluster:
    """A connected ``ray``, the mailbox its nodes post progress to, and what it has."""

    def __init__(self, ray: Any) -> None:
        self.ray = ray
        self.work = ray.remote(work)
        self.mailbox = ray.remote(Mailbox).options(num_cpus=0, max_restarts=-1).remote()
        self._looked = float("-inf")
        self._nodes: list[Mapping[str, float]] = []

    @property
    def nodes(self) -> list[Mapping[str, float]]:
        """The resources of every node that is alive."""
        if time.monotonic() - self._looked > _BELIEVED:
            self._looked = time.monotonic()
            self._nodes = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        return self._nodes

    def has(self, what: str) -> float:
        """How much of a resource there is on all nodes."""
        return sum(node.get(what, 0.0) for node in self.nodes)

    def largest(self, what: str) -> int:
        """How much of a resource one node has at most: a task can have no more."""
        return int(max((node.get(what, 0.0) for node in self.nodes), default=0.0))

    def posted(self) -> list[tuple[str, str, float, dict[str, Any]]]:
        """What was posted since the last look; nothing while the mailbox is away."""
        with contextlib.suppress(self.ray.exceptions.RayError):
            return list(self.ray.get(self.mailbox.take.remote(), timeout=_STOPPING))
        return []


_CLUSTER: _Cluster | None = None


def _connected(address: str, workers: int) -> Any:
    """``ray``, connected, and quiet on the terminal."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ModuleNotFoundError as error:
        raise missing_extra(error) or error from None
    if ray.is_initialized():
        return ray
    if address == "local" or (address == "auto" and not _belongs_to_a_cluster(ray, workers)):
        if not ray.is_initialized():
            _start(ray, workers, "local")
        return ray
    try:
        _knock(address)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ray.init(address=None if address == "auto" else address, **_QUIET)
    except Exception as error:
        raise StudyError(
            f"No Ray cluster that this process can join answers at {address} ({_first_line(error)}). Start one (ray start "
            "--head), correct engine.address, or take engine.address: local."
        ) from error
    return ray


def _knock(address: str) -> None:
    """OSError, soon, where nobody listens: Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():
        socket.create_connection((host, int(port)), timeout=_KNOCKING).close()


def _start(ray: Any, workers: int, address: str | None) -> None:
    ray.init(
        address=address,
        num_cpus=workers or cores(),
        include_dashboard=False,
        object_store_memory=_OBJECT_STORE,
        **_QUIET,
    )


def _belongs_to_a_cluster(ray: Any, workers: int) -> bool:
    """Whether ``ray start`` has been called on this machine, or RAY_ADDRESS names a cluster; where not, a Ray is started.

    Not ``address="auto"``, which would also join the private Ray of another process that happens to run here.
    """
    try:
        _start(ray, workers, None)
    except ValueError:  # there is one: what only a new Ray can be given is refused
        return True
    except ConnectionError:  # there was one
        return False
    return False


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]


@dataclass
class _Flight:
    """A task that is with the cluster, since when, and how often it was lost there."""

    task: Task
    begun: float
    lost: int = 0


class _RaySession(Session):
    """Tasks that wait here and tasks that are with the cluster."""

    def __init__(self, cluster: _Cluster, workers: int, folder: Path | None, on_progress: OnProgress | None) -> None:
        self._cluster, self._workers, self._on_progress = cluster, workers, on_progress
        self._waiting = Waiting()
        self._flying: dict[Any, _Flight] = {}
        self._name = uuid.uuid4().hex
        self._mark = None if folder is None else _marked(folder, self._name)

    def submit(self, task: Task) -> None:
        self._waiting.push(task)

    def revise(self, costs: Mapping[str, float]) -> None:
        self._waiting.revise(costs)

    def _next(self) -> Outcome | None:
        ray = self._cluster.ray
        self._hand_over()
        while self._flying:
            ready, _ = ray.wait(list(self._flying), num_returns=1, timeout=_LOOK_EVERY)
            self._tell()
            for reference in ready:
                outcome = self._outcome(reference)
                self._hand_over()
                if outcome is not None:
                    return outcome
        return None

    def _hand_over(self) -> None:
        """Give the cluster its CPUs' worth of tasks, and a few more, so that one that grows on demand sees demand."""
        room = self._workers or 1.25 * self._cluster.has("CPU")
        while self._waiting:
            taken = sum(flight.task.threads for flight in self._flying.values())
            if self._flying and taken + self._waiting.first().threads > room:
                return
            self._fly(_Flight(self._waiting.pop(), time.monotonic()))

    def _fly(self, flight: _Flight) -> None:
        from mixwright import __version__

        task, cluster = flight.task, self._cluster
        request = {
            "name": task.name, "function": task.function, "arguments": dict(task.arguments), "threads": task.threads,
            "environment": dict(task.environment), "locks": list(task.locks), "gpus": min(task.gpus, cluster.largest("GPU")),
            "session": self._name, "mark": None if self._mark is None else str(self._mark), "here": str(Path.cwd()),
            "seen_within": _SEEN_WITHIN, "version": __version__,
        }  # fmt: skip
        chosen = cluster.work.options(
            num_cpus=max(1, min(task.threads, cluster.largest("CPU"))), num_gpus=request["gpus"], max_retries=0,
            name=task.name,
        )  # fmt: skip
        self._flying[chosen.remote(request, cluster.mailbox)] = flight

    def _outcome(self, reference: Any) -> Outcome | None:
        """How a task ended; None when its worker or node died and it is tried elsewhere."""
        exceptions = self._cluster.ray.exceptions
        flight = self._flying.pop(reference)
        seconds = time.monotonic() - flight.begun
        try:
            return outcome_of(flight.task, self._cluster.ray.get(reference), seconds)
        except exceptions.RayError as error:
            if "No module named 'mixwright'" in str(error):
                return Outcome(flight.task, error=_NOT_INSTALLED, kind=StudyError.exit_code)
            if isinstance(error, exceptions.RayTaskError):
                return Outcome(flight.task, error=_first_line(error), kind=1, trace=str(error), seconds=seconds)
            if flight.lost < _ELSEWHERE:
                self._fly(_Flight(flight.task, flight.begun, flight.lost + 1))
                return None
            said = f"The Ray worker of {flight.task.name} died {1 + flight.lost} times, the last time so: {_first_line(error)}"
            return Outcome(flight.task, error=said, kind=1, trace=str(error), seconds=seconds, died=True)

    def _tell(self) -> None:
        at_work = {flight.task.name for flight in self._flying.values()}
        for session, name, fraction, facts in self._cluster.posted():
            if session == self._name and name in at_work and self._on_progress is not None:
                self._on_progress(name, fraction, facts)

    def close(self) -> None:
        ray, flying = self._cluster.ray, list(self._flying)
        self._waiting.clear()
        self._flying.clear()
        if flying and ray.is_initialized():
            for reference in flying:
                ray.cancel(reference, force=True)
            ray.wait(flying, num_returns=len(flying), timeout=_STOPPING)
        if self._mark is not None:
            self._mark.unlink(missing_ok=True)


_NOT_INSTALLED = (
    "A node of the Ray cluster cannot import mixwright. Install the same version as here in the environment in which ray "
    "start was called on every node."
)


def _marked(folder: Path, name: str) -> Path:
    """A file in ``folder`` by which a node sees whether it has the same folder; those of killed sessions are removed."""
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob(".ray-*"):
        stale.unlink(missing_ok=True)
    mark = folder / f".ray-{name}"
    mark.write_text(name)
    return mark


# ---- on the nodes ----------------------------------------------------------------------------------------------


class Mailbox:
    """An actor that holds progress until it is looked at."""

    def __init__(self) -> None:
        self._messages: list[tuple[str, str, float, dict[str, Any]]] = []

    def post(self, session: str, name: str, fraction: float, facts: dict[str, Any]) -> None:
        """Leave a message."""
        if len(self._messages) < _KEPT_MESSAGES:
            self._messages.append((session, name, fraction, facts))

    def take(self) -> list[tuple[str, str, float, dict[str, Any]]]:
        """All messages, oldest first; they are gone then."""
        taken, self._messages = self._messages, []
        return taken


@dataclass
class _Kept:
    """The child of this Ray worker, its settings, and what it says."""

    settings: tuple[Any, ...]
    child: Child
    said: queue.Queue[Message]


_KEPT: _Kept | None = None


def work(request: Mapping[str, Any], mailbox: Any) -> Mapping[str, Any]:
    """The Ray task: have the child do what is requested, post its progress, give its reply."""
    wrong = _unfit(request)
    if wrong is not None:
        return {"error": wrong, "kind": StudyError.exit_code}
    kept = _child(request)
    kept.child.send(Task(request["name"], request["function"], request["arguments"], locks=tuple(request["locks"])))
    posted = None
    while (message := kept.said.get()) is not None and message["type"] == "progress":
        posted = mailbox.post.remote(request["session"], request["name"], message["fraction"], message["facts"])
    reply = kept.child.how_it_ended(request["name"]) if message is None else message
    if message is None or request["gpus"]:  # an idle process would keep its part of the GPU's memory
        _forget_child()
    if posted is not None:
        _wait_for(posted)
    return reply


def _wait_for(posted: Any) -> None:
    """Let the last message arrive before the outcome does."""
    import ray

    with contextlib.suppress(ray.exceptions.RayError):
        ray.get(posted, timeout=1.0)


def _child(request: Mapping[str, Any]) -> _Kept:
    """The child with the settings asked for: the one that is there, or a new one."""
    global _KEPT
    here = request["here"] if Path(request["here"]).is_dir() else None
    settings = (request["threads"], dict(request["environment"]), here, os.environ.get("CUDA_VISIBLE_DEVICES"))
    if _KEPT is not None and (_KEPT.settings != settings or _KEPT.child.process.poll() is not None):
        _forget_child()
    if _KEPT is None:
        said: queue.Queue[Message] = queue.Queue()
        _KEPT = _Kept(settings, Child(request["threads"], request["environment"], said.put, here), said)
    return _KEPT


def _forget_child() -> None:
    global _KEPT
    if _KEPT is not None:
        _KEPT.child.stop()
        _KEPT = None


def _unfit(request: Mapping[str, Any]) -> str | None:
    """Why this node cannot do the task, or None: another version of mixwright, or another folder."""
    import platform

    from mixwright import __version__

    node = platform.node()
    if __version__ != request["version"]:
        return (
            f"Node {node} has mixwright {__version__}, this machine {request['version']}. Install the same version in the "
            "environment of every node."
        )
    if request["mark"] is not None and not _sees(Path(request["mark"]), request["seen_within"]):
        return (
            f"Node {node} cannot see {Path(request['mark']).parent}. With engine.kind: ray the study's folder must lie on a file "
            "system that all nodes share, at the same path; put it there, or use engine.kind: local."
        )
    return None


def _sees(mark: Path, within: float) -> bool:
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if mark.parent.is_dir() and mark.read_text() == mark.name.removeprefix(".ray-"):
                return True
        time.sleep(0.2)
    return False
