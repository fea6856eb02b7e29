"""Which runs are trained together: those of one shape and length, where it was measured to be faster.

Notation
    K   runs of a group

Small models leave a processor idle between products that are too small for it. How much depends on the work a step holds,
``tokens of a step * width * layers``; ``docs/population.md`` has the measurements behind the numbers for a CPU. Those for a
GPU are bounds that are thought to be safe, not measured ones.
"""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from mixwright.core.run import ModelSize
from mixwright.train.trainer import Job

Choice = Literal["auto", "on", "off"]

#: On one CPU thread: work of a step up to which a group is faster than its runs one by one by 15 % or more.
CPU_WORK = 16_000
#: On one CPU thread: work of a group's step beyond which what it holds leaves the caches; runs of a group at most.
CPU_GROUP_WORK, CPU_MOST = 100_000, 16
#: On a GPU: parameters up to which one run is thought not to fill it; runs of a group at most (memory may allow fewer).
GPU_PARAMS, GPU_MOST = 20_000_000, 128
#: Part of a GPU's free memory that a group may be planned for.
GPU_PART = 0.8


def split(jobs: Sequence[Job], *, slots: int, tokens: int, gpu: bool, choice: Choice) -> list[tuple[Job, ...]]:
    """The groups, in the jobs' order; ``tokens`` of a step of one run, ``gpu``: whether a slot has one.

    Runs of a group have one size, one number of training tokens, and begin at one place of it. The groups of a kind are
    a multiple of ``slots`` and of nearly one size, so that no slot waits long. ``choice`` ``on`` makes groups also where
    they are not known to be faster.
    """
    kinds: dict[Any, list[Job]] = defaultdict(list)
    for job in jobs:
        run = job.run
        kinds[run.size, run.schedule.tokens, run.parent_tokens, run.rate].append(job)
    groups: list[tuple[Job, ...]] = []
    for (size, *_), alike in kinds.items():
        most = 1 if choice == "off" else largest(size, tokens, gpu=gpu)
        if choice == "on" and most == 1:
            most = GPU_MOST if gpu else 2
        groups += dealt(alike, most, slots)
    first = {job.run.run_id: at for at, job in enumerate(jobs)}
    return sorted(groups, key=lambda group: first[group[0].run.run_id])


def dealt(jobs: Sequence[Job], most: int, slots: int) -> list[tuple[Job, ...]]:
    """``jobs`` in groups of at most ``most``: as many groups as a multiple of ``slots``, unless jobs are fewer."""
    if most < 2:
        return [(job,) for job in jobs]
    count = min(len(jobs), slots * math.ceil(len(jobs) / (slots * most)))
    return [tuple(jobs[n * len(jobs) // count : (n + 1) * len(jobs) // count]) for n in range(count)]


def largest(size: ModelSize, tokens: int, *, gpu: bool) -> int:
    """The runs that a group may hold where that is faster than one by one; 1 where it is not."""
    if gpu:
        return GPU_MOST if size.params <= GPU_PARAMS else 1
    work = tokens * size.width * size.layers
    return min(CPU_MOST, max(2, CPU_GROUP_WORK // work)) if work <= CPU_WORK else 1


def fitting(size: ModelSize, tokens: int, *, vocab: int, gpu_bytes: int, head_bytes: int) -> int:
    """The runs whose group fits a GPU with ``gpu_bytes`` free; at least 1. ``head_bytes`` as in ``head.py``."""
    room = GPU_PART * gpu_bytes - 3 * head_bytes  # scores in float32, chances in float32 and as the products read them
    return max(1, int(room / member_bytes(size, tokens, vocab=vocab)))


def member_bytes(size: ModelSize, tokens: int, *, vocab: int) -> int:
    """Memory of one run in a group, in bytes, without the scores that the head holds at once.

    Parameters, gradients and two moments in float32; and what a step of ``tokens`` keeps for the way back, as if all of it
    were float32. Per token and layer that is 24 widths and 5 hidden widths: the inputs of two norms and what they give
    before and after their weights; query, key and value as they came and turned; what attention gives, twice; gate and up
    together and apart, and their product. At the end 4 widths, and both gradients of the head.
    """
    d, h = size.width, size.hidden
    parameters = size.params + 2 * vocab * d
    kept = tokens * (size.layers * (24 * d + 5 * h) + 4 * d)
    return 4 * (4 * parameters + kept + vocab * d + tokens * d)


def wants_gpu(device: str) -> bool:
    """Whether runs with the trainer's ``device`` take a GPU wherever there is one: not with a torch that was built without."""
    try:
        built_without = version("torch").endswith("+cpu")
    except PackageNotFoundError:
        built_without = True
    return device == "cuda" or (device == "auto" and not built_without)


def has_gpu(device: str) -> bool:
    """Whether runs with the trainer's ``device`` would go to a GPU here. torch is asked only where a driver is there."""
    if device != "auto" or os.environ.get("CUDA_VISIBLE_DEVICES") == "" or not Path("/proc/driver/nvidia").exists():
        return device == "cuda"
    import torch

    return bool(torch.cuda.is_available())
