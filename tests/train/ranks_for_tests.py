"""What ``torchrun`` starts in the tests of several ranks: each of the trainings in a JSON file, one after the other.

A training whose ``stop_at`` is reached ends as a killed one does, on all ranks at that step.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from mixwright.train import distributed, loop


class Killed(Exception):
    """Stands for a kill: nothing in the trainer catches it."""


def train(arguments: dict, stop_at: int | None) -> None:
    steps = []

    def note(training: loop.Training, loss: float, every: int) -> str:
        steps.append(loss)
        if stop_at is not None and len(steps) > stop_at:
            raise Killed
        return kept(training, loss, every)

    kept, loop.Training._note = loop.Training._note, note
    try:
        loop.train_task(lambda *_, **__: None, **arguments)
    except Killed:
        pass
    finally:
        loop.Training._note = kept


if __name__ == "__main__":
    with distributed.join():
        for wanted in json.loads(Path(sys.argv[1]).read_text()):
            train(wanted["arguments"], wanted.get("stop_at"))
