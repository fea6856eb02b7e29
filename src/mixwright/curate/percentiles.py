"""Exact percentiles of columns too large for memory: order statistics found digit by digit.

Numbers are turned into 64-bit keys that order as they do. A pass over a column counts the keys of each group by their next
16 bits among those that begin as a wanted one does; when few enough are left they are gathered and sorted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Keys = NDArray[np.uint64]
#: bits counted in a pass, and keys that are gathered at most
_BITS = 16
_GATHERED = 1 << 22
_SIGN = np.uint64(1 << 63)


@dataclass
class _Wanted:
    """An order statistic of a group: the ``rank``-th smallest (from 0) of the keys that begin with ``prefix``."""

    rank: int
    prefix: int = 0
    within: int = 0


@dataclass
class _Group:
    """The order statistics wanted of a group; ``count`` is of its numbers that are not NaN."""

    count: int = 0
    wanted: dict[int, _Wanted] = field(default_factory=dict)


def percentiles(
    read: Callable[[], Iterable[tuple[str, Floats]]], percents: Sequence[float]
) -> dict[str, dict[float, float]]:
    """Percentiles of every group, NaN where a group has no number.

    ``read`` gives the numbers of a column with their group, in any portions, the same each time it is called. Between two
    neighbours a percentile divides in proportion (type 7 of Hyndman and Fan 1996). Memory: 0.5 MB per group and distinct
    16 bits, 32 MB of keys, and one portion.
    """
    groups: dict[str, _Group] = {}
    for name, values in read():
        groups.setdefault(name, _Group()).count += int(np.count_nonzero(~np.isnan(values)))
    for group in groups.values():
        ranks = {int(rank) for percent in percents for rank in _ranks(group.count, percent)} if group.count else set()
        group.wanted = {rank: _Wanted(rank, within=rank) for rank in sorted(ranks)}
    known, left = 0, sum(group.count for group in groups.values())
    while known < 64 and left > _GATHERED:
        left = _narrow(read, groups, known)
        known += _BITS
    keys = _gather(read, groups, known)
    return {
        name: {percent: _between(group, keys[name], percent) for percent in percents} for name, group in groups.items()
    }


def _ranks(count: int, percent: float) -> tuple[int, int]:
    place = percent / 100 * (count - 1)
    return int(np.floor(place)), int(np.ceil(place))


def _between(group: _Group, keys: dict[int, int], percent: float) -> float:
    """The percentile, from the order statistics on its two sides."""
    if not group.count:
        return float("nan")
    low, high = _ranks(group.count, percent)
    below, above = (float(_floats(np.array([keys[rank]], dtype=np.uint64))[0]) for rank in (low, high))
    if below == above:
        return below
    part = percent / 100 * (group.count - 1) - low
    return below * (1 - part) + above * part


def _narrow(read: Callable[[], Iterable[tuple[str, Floats]]], groups: dict[str, _Group], known: int) -> int:
    """Find the next 16 bits of every wanted key after ``known`` ones; returns how many keys could still be wanted."""
    shift = np.uint64(64 - known - _BITS)
    counts: dict[tuple[str, int], NDArray[np.int64]] = {}
    for name, values in read():
        keys = _keys(values)
        for prefix in {one.prefix for one in groups[name].wanted.values()}:
            inside = _beginning(keys, prefix, known)
            digits = ((inside >> shift) & np.uint64((1 << _BITS) - 1)).astype(np.int64)
            found = counts.setdefault((name, prefix), np.zeros(1 << _BITS, dtype=np.int64))
            found += np.bincount(digits, minlength=1 << _BITS)
    left: dict[tuple[str, int], int] = {}
    for name, group in groups.items():
        for one in group.wanted.values():
            ends = np.cumsum(counts[name, one.prefix])
            digit = int(np.searchsorted(ends, one.within, side="right"))
            before = int(ends[digit - 1]) if digit else 0
            one.prefix, one.within = one.prefix << _BITS | digit, one.within - before
            left[name, one.prefix] = int(ends[digit]) - before
    return sum(left.values())


def _gather(
    read: Callable[[], Iterable[tuple[str, Floats]]], groups: dict[str, _Group], known: int
) -> dict[str, dict[int, int]]:
    """The wanted keys by rank, of every group."""
    if known == 64:
        return {name: {rank: one.prefix for rank, one in group.wanted.items()} for name, group in groups.items()}
    parts: dict[tuple[str, int], list[Keys]] = {}
    for name, values in read():
        keys = _keys(values)
        for prefix in {one.prefix for one in groups[name].wanted.values()}:
            parts.setdefault((name, prefix), []).append(_beginning(keys, prefix, known))
    ordered = {at: np.sort(np.concatenate(found)) for at, found in parts.items()}
    return {
        name: {rank: int(ordered[name, one.prefix][one.within]) for rank, one in group.wanted.items()}
        for name, group in groups.items()
    }


def _beginning(keys: Keys, prefix: int, known: int) -> Keys:
    """The keys whose first ``known`` bits are ``prefix``."""
    return keys if not known else keys[(keys >> np.uint64(64 - known)) == np.uint64(prefix)]


def _keys(values: Floats) -> Keys:
    """Keys that order as the numbers do; NaN left out, -0 as 0."""
    bits = (values[~np.isnan(values)] + 0.0).view(np.uint64)
    return np.where(bits & _SIGN, ~bits, bits | _SIGN)


def _floats(keys: Keys) -> Floats:
    """The numbers of keys."""
    return np.where(keys & _SIGN, keys ^ _SIGN, ~keys).view(np.float64)
