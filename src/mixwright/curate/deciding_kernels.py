"""Loops over what rows fail, compiled by numba; they release the GIL."""

from __future__ import annotations

from typing import Any

import numpy as np

from mixwright.curate.compiled import compiled
from mixwright.curate.kernels.bits import lowest


@compiled
def count_failures(bits: Any, rules: Any) -> Any:
    """Per rule the rows failing it, failing it first, and failing nothing else, ``(3, rules)``; ``bits`` as in
    ``deciding.Failing``. Cost: some 2 ns a failure."""
    counts = np.zeros((3, rules), np.int64)
    for row in range(bits.shape[1]):
        first, fails = -1, 0
        for byte in range(len(bits)):
            left = np.uint64(bits[byte, row])
            while left != np.uint64(0):
                rule = 8 * byte + lowest(left)
                first = rule if fails == 0 else first
                counts[0, rule] += 1
                fails += 1
                left &= left - np.uint64(1)
        if fails > 0:
            counts[1, first] += 1
            counts[2, first] += fails == 1
    return counts
