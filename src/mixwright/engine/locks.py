"""Files that one process holds at a time: what keeps two processes from writing the same folder.

A process that was stopped from far away, or whose node lost its network, may go on for a moment; whoever takes over its
task waits until it is gone. The system lets go of a lock when its holder ends, however that ends.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from mixwright.core.errors import StudyError

#: how long a task waits for another process to leave its folder, seconds
PATIENCE = 120.0
#: file systems without locks answer so; there the task goes on without
_WITHOUT_LOCKS = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL})


@contextlib.contextmanager
def held(paths: Sequence[str], patience: float = PATIENCE) -> Iterator[None]:
    """Hold all ``paths`` (made where they are not there) for the block; StudyError when another process keeps one."""
    with contextlib.ExitStack() as stack:
        for path in sorted(paths):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            _take(stack.enter_context(Path(path).open("a+")).fileno(), path, time.monotonic() + patience)
        yield


def _take(descriptor: int, path: str, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise StudyError(
                    f"Another process is still at work in {os.path.dirname(path)} and does not end. Stop it, then run the "  # noqa: PTH120
                    "same command again."
                ) from None
            time.sleep(0.1)
        except OSError as error:
            if error.errno not in _WITHOUT_LOCKS:
                raise
            return
        else:
            return
