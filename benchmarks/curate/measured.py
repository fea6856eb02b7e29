"""Processes run one at a time: CPU-seconds, peak memory, scratch disk, open files."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.curate.corpus import ROOT
from benchmarks.curate.environments import python

PEERS = {"datatrove": "datatrove_run.py", "juicer": "juicer.py", "datasketch": "sketch.py"}


@dataclass(frozen=True)
class Run:
    """What a process and its children took; ``told`` is the RESULT that ours prints. ``failed`` says why there is none."""

    cpu_s: float = 0.0
    wall_s: float = 0.0
    peak_mb: float = 0.0
    disk_mb: float = 0.0
    files: int = 0
    told: dict[str, Any] = field(default_factory=dict)
    failed: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def run(command: Sequence[Any], folder: Path, *, patience: float = 900, watch: bool = False) -> Run:
    """Run a command that writes into ``folder`` (emptied first). ``watch`` looks for disk and open files every half second."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    log, began = folder.parent / f"{folder.name}.log", time.perf_counter()
    environment = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"), "1")
    environment |= {"TOKENIZERS_PARALLELISM": "false", "HF_HOME": str(folder.parent / "hf")}
    with log.open("w") as out:
        process = subprocess.Popen(
            list(map(str, command)), stdout=out, stderr=subprocess.STDOUT, cwd=ROOT, env=environment
        )
        stop, seen = threading.Event(), {"disk": 0, "files": 0}
        watcher = threading.Thread(target=_watch, args=(process.pid, folder, stop, seen))
        killer = threading.Timer(patience, process.kill)
        killer.start()
        if watch:
            watcher.start()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        killer.cancel()
        stop.set()
        if watch:
            watcher.join()
    text = log.read_text(errors="replace")
    if process.returncode:
        last = next((line for line in reversed(text.splitlines()) if line.strip()), "no output")
        return Run(failed=f"exit {process.returncode}: {last[:200]}")
    told = [line for line in text.splitlines() if line.startswith("RESULT ")]
    return Run(
        used.ru_utime + used.ru_stime, time.perf_counter() - began, used.ru_maxrss / 1024, seen["disk"] / 1e6, seen["files"],
        json.loads(told[-1].removeprefix("RESULT ")) if told else {},
    )  # fmt: skip


def _watch(pid: int, folder: Path, stop: threading.Event, seen: dict[str, int]) -> None:
    """The most bytes in the folder, and the most files the process had open."""
    while not stop.wait(0.5):
        size = 0
        for path in folder.rglob("*"):
            try:
                size += path.stat().st_size if path.is_file() else 0
            except OSError:
                continue
        seen["disk"] = max(seen["disk"], size)
        try:
            seen["files"] = max(seen["files"], len(os.listdir(f"/proc/{pid}/fd")))  # noqa: PTH208
        except OSError:
            continue


def ours(task: str, source: Path, folder: Path, workers: int = 1, **more: Any) -> Run:
    """One of our tasks in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.curate.ours", task, source, folder, "--workers", workers]
    return run(command, folder, **more)


def peers(peer: str, task: str, source: Path, folder: Path, **more: Any) -> Run:
    """One of a peer's tasks in its environment."""
    script = Path(__file__).parent / "peers" / PEERS[peer]
    return run([python(peer), script, task, source, folder], folder, **more)


def apart(function: Callable[..., Any], *given: Any) -> Any:
    """Call in a process of its own: what is started by a small process is not blamed for the memory of a large one."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(function, *given).result()


def best(runs: Sequence[Run]) -> Run:
    """The run with the fewest CPU-seconds; the first that failed where none did not."""
    good = [one for one in runs if not one.failed]
    return min(good, key=lambda one: one.cpu_s) if good else runs[0]
