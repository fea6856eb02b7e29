"""A process between a worker and someone else's program, so that no part of the program outlives the worker.

    python -I -S guardian.py PROGRAM ARGUMENTS...        standard input is a pipe that the worker holds

It starts the program, ends with its exit code (128 + n where signal n killed it), and then kills whatever the program
left running. On ``T`` from the pipe it asks the program and all its descendants to end (SIGTERM); when the pipe closes,
because the worker wants so or is gone, it kills them all. On Linux descendants are found whatever session or group they
are in, since the guardian adopts those whose parents are gone; elsewhere those of the program's own process group are.

It imports the standard library alone: it must start in a moment, also in a foreign environment.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys

_PR_SET_CHILD_SUBREAPER = 36
_LINUX = sys.platform == "linux"


def _parents() -> dict[int, int]:
    """The parent of every process of this machine."""
    parents = {}
    for name in os.listdir("/proc"):  # noqa: PTH208  # pathlib would cost the start-up time of this process
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as stream:  # noqa: PTH123
                    parents[int(name)] = int(stream.read().rpartition(b")")[2].split()[1])
            except (OSError, IndexError, ValueError):
                continue  # it has just ended
    return parents


def descendants(root: int) -> list[int]:
    """All processes that ``root`` has started, directly or not."""
    children: dict[int, list[int]] = {}
    for process, parent in _parents().items():
        children.setdefault(parent, []).append(process)
    found, at = list(children.get(root, [])), 0
    while at < len(found):
        found += children.get(found[at], [])
        at += 1
    return found


def _signal_all(number: int) -> None:
    if not _LINUX:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.killpg(0, number)
        return
    for process in descendants(os.getpid()):
        try:
            os.kill(process, number)
        except OSError:
            continue  # it has just ended, or belongs to someone else


def _kill_all() -> None:
    """Kill until nothing is left; a process that forks while it is killed leaves children for the next round."""
    for _ in range(100):
        _signal_all(signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        select.select([], [], [], 0.01)


def _reaped(program: int) -> int | None:
    """Reap what has ended; the program's exit code if it is among it."""
    code = None
    try:
        while True:
            process, status = os.waitpid(-1, os.WNOHANG)
            if not process:
                return code
            if process == program:
                code = os.waitstatus_to_exitcode(status)
    except ChildProcessError:
        return code


def main() -> int:
    """Run the program of the command line."""
    if _LINUX:
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    program = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, restore_signals=True, preexec_fn=_restore)
    code = None
    while code is None:
        ready = select.select([0, woken], [], [])[0]
        if woken in ready:
            os.read(woken, 4096)
            code = _reaped(program.pid)
        if 0 in ready:
            order = os.read(0, 1)
            if not order:
                break
            _signal_all(signal.SIGTERM)
    if _LINUX or code is None:  # elsewhere this process would go with them, and its exit code
        _kill_all()
    return 0 if code is None else code if code >= 0 else 128 - code


def _restore() -> None:
    """The program hears the signals that the guardian ignores."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


if __name__ == "__main__":
    sys.exit(main())
