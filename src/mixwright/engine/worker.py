"""The worker process of the local engine: tasks in as JSON lines on standard input, messages out on standard output."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import Any

from mixwright.engine.lifetime import die_with
from mixwright.engine.local import attempt
from mixwright.engine.task import Task

#: seconds between two progress messages of one task
_PROGRESS_EVERY = 0.2


def main() -> None:
    """Serve tasks until standard input ends."""
    die_with(int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints goes to the log, not into the messages

    def send(**message: Any) -> None:
        out.write(json.dumps(message) + "\n")
        out.flush()

    for line in sys.stdin:
        request = json.loads(line)
        last = 0.0

        def progress(fraction: float, **facts: Any) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last >= _PROGRESS_EVERY or fraction >= 1:
                last = now
                send(type="progress", fraction=float(fraction), facts=facts)

        cpu = time.process_time()
        task = Task("task", request["function"], request["arguments"], locks=tuple(request["locks"]))
        reply = attempt(task, progress)
        send(type="done", cpu_seconds=time.process_time() - cpu, **reply)


if __name__ == "__main__":
    main()
