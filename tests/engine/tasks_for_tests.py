"""Functions that workers call in the tests of the engine."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mixwright.core.errors import DataError


def square(progress: Callable[..., None], number: int) -> int:
    progress(0.5, number=number)
    return number * number


def environment(progress: Callable[..., None]) -> dict[str, Any]:
    del progress
    print("noise on standard output must not disturb the messages")
    return {"threads": os.environ["OMP_NUM_THREADS"], "mark": os.environ.get("MARK"), "pid": os.getpid()}


def wrong(progress: Callable[..., None], how: str) -> None:
    del progress
    if how == "data":
        raise DataError("The file x is empty.")
    if how == "full":
        raise OSError(28, "No space left on device", "x")
    if how == "die":
        os._exit(9)
    raise KeyError("a fault of ours")


def slow(progress: Callable[..., None], path: str) -> None:
    for step in range(600):
        Path(path).write_text(f"{os.getpid()} {step}")
        progress(step / 600)
        time.sleep(0.05)


def stamp(progress: Callable[..., None], path: str, seconds: float) -> list[float]:
    """When it began and ended; ``path`` is written at the beginning."""
    begun = time.time()
    Path(path).write_text(str(os.getpid()))
    while time.time() - begun < seconds:
        progress((time.time() - begun) / seconds, pid=os.getpid())
        time.sleep(0.02)
    return [begun, time.time()]


def gpus(progress: Callable[..., None]) -> str | None:
    del progress
    return os.environ.get("CUDA_VISIBLE_DEVICES")


def kill_parent(progress: Callable[..., None]) -> None:
    del progress
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)


def die_once(progress: Callable[..., None], mark: str) -> str:
    del progress
    if not Path(mark).exists():
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "alive"
