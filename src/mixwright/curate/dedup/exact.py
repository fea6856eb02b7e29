"""Exact duplicates: the first of equal texts is kept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def first_of_equals(hashes: Sequence[str]) -> NDArray[np.int64]:
    """For each row the first row with the same hash, ``(n,)``; a row that is its own first is kept.

    ``hashes`` are 128-bit text hashes, 32 hex digits each, in the order of priority. Cost: one sort, 24 bytes a row.
    """
    if not len(hashes):
        return np.zeros(0, dtype=np.int64)
    halves = np.frombuffer(bytes.fromhex("".join(hashes)), dtype=np.uint64).reshape(-1, 2)
    order = np.lexsort((halves[:, 1], halves[:, 0]))
    ranked = halves[order]
    begins = np.concatenate([[True], (ranked[1:] != ranked[:-1]).any(axis=1)])
    first = np.empty(len(order), dtype=np.int64)
    first[order] = order[begins][np.cumsum(begins) - 1]
    return first
