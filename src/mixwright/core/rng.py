"""Independent random streams by name: no global state, no order of calls that matters."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np


def derive_seed(seed: int, *names: str | int) -> int:
    """A 63-bit seed that depends on ``seed`` and every name, the same on every machine and version."""
    text = "\x1f".join([str(int(seed)), *(f"{type(name).__name__}:{name}" for name in names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def derive_seeds(seed: int, *names: str | int, numbers: Iterable[int]) -> list[int]:
    """``derive_seed(seed, *names, number)`` for every number, in a third of the time."""
    text = "\x1f".join([str(int(seed)), *(f"{type(name).__name__}:{name}" for name in names), "int:"])
    begun, out = hashlib.sha256(text.encode()), []
    for number in numbers:
        digest = begun.copy()
        digest.update(b"%d" % number)
        out.append(int.from_bytes(digest.digest()[:8], "little") >> 1)
    return out


def rng(seed: int, *names: str | int) -> np.random.Generator:
    """A generator for the stream called ``names``; ``rng(7, "fit", metric)`` never meets ``rng(7, "design")``."""
    return np.random.Generator(np.random.PCG64(derive_seed(seed, *names)))
