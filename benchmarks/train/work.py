"""Cases in processes of their own, one after another or several at once, with one thread and the same environment each."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.train.case import Case

from mixwright.train.trainers.builtin import ALLOCATOR

ROOT = Path(__file__).parents[2]
#: one thread, and for both sides the allocator settings that our tasks bring with them
SETTINGS = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", **ALLOCATOR}
#: seconds by the wall after which a case is given up
PATIENCE = 600


def start(case: Case, *, allocator: bool = True) -> "subprocess.Popen[str]":
    """The process of a case; without ``allocator`` memory is allocated as it comes."""
    settings = SETTINGS if allocator else {name: value for name, value in SETTINGS.items() if name not in ALLOCATOR}
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.train.case", json.dumps(asdict(case))],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, **settings},
    )  # fmt: skip


def finish(process: "subprocess.Popen[str]") -> dict[str, Any]:
    """What its case measured; RuntimeError with what it said last where it failed."""
    try:
        out, said = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        out, said = process.communicate()
    if process.returncode:
        raise RuntimeError(f"a case ended with {process.returncode}: {said.strip()[-600:]}")
    return dict(json.loads(out.strip().splitlines()[-1]))


def run(case: Case, *, allocator: bool = True) -> dict[str, Any]:
    """One case by itself."""
    return finish(start(case, allocator=allocator))


def crowd(cases: Sequence[Case]) -> tuple[list[dict[str, Any]], float]:
    """All cases at once; their results, and the seconds by the wall from the first start to the last end."""
    begun = time.perf_counter()
    results = [finish(process) for process in [start(case) for case in cases]]
    return results, time.perf_counter() - begun
