"""How one phase is drawn: its apportioning tree, and the few windows that are given to another domain than the tree's.

Notation
    D        domains
    k        windows of the phase before a position
    N        windows the phase was planned to have
    e        windows a domain is owed at the phase's end (ideal minus actual, all phases before included), (D,)

Rounding in a tree leaves a few of many domains more than one window off at the end. Such a phase is mended: a window of
the domain that has most too much, the last it gives, goes to the domain that is owed most, until none is more than one
off. ``variant`` says how: 0 and above number the roundings of a tree alone; below 0 it is a tree that cancels residuals,
mended for an end after N windows, and names N and the number of its roundings (a phase that is cut keeps the N it was
begun with, so its past stays).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mixwright.stream.apportion import Floats, Ints, Tree, count

#: Bits of a variant below 0 that hold N.
_BITS = 41


def mended(N: int, roundings: int = 0) -> int:
    """The variant of a phase mended for an end after ``N`` windows."""
    return -(N + (roundings << _BITS))


def planned_for(variant: int) -> tuple[int, int]:
    """``N`` and the roundings of a variant below 0."""
    return -variant & ((1 << _BITS) - 1), -variant >> _BITS


@dataclass(frozen=True, eq=False)
class Drawn:
    """One phase. At ``at (M,)``, increasing, ``to`` is drawn in place of ``off``, after ``before`` windows of ``to``."""

    tree: Tree
    at: Ints
    off: Ints
    to: Ints
    before: Ints

    @classmethod
    def of(cls, weights: Floats, residual: Floats, seed: int, variant: int) -> Drawn:
        """A phase of ``weights (D,)`` that begins with ``residual (D,)`` windows owed."""
        if variant >= 0:
            return cls(Tree.of(weights, residual, seed, variant), _NONE, _NONE, _NONE, _NONE)
        N, roundings = planned_for(variant)
        tree = Tree.of(weights, residual, seed, roundings, cancel=True)
        return _mended(tree, weights, residual, N)

    def counts(self, k: int) -> Ints:
        """How many of the phase's first ``k`` windows each domain gives, ``(D,)``."""
        out, past = self.tree.counts(k), int(np.searchsorted(self.at, k))
        np.add.at(out, self.to[:past], 1)
        np.subtract.at(out, self.off[:past], 1)
        return out

    def descend(self, k: Ints) -> tuple[Ints, Ints]:
        """For the windows at ``k (n,)``: their domain, and how many of that domain came before, ``(n,)``."""
        return self._given(k, *self.tree.descend(k))

    def stretch(self, start: int, end: int) -> tuple[Ints, Ints]:
        """``descend`` for the windows from ``start`` to before ``end``."""
        found = self.tree.stretch(start, end)
        return self._given(np.arange(start, end), *found) if self.at.size and self.at[0] < end else found

    def _given(self, k: Ints, domain: Ints, before: Ints) -> tuple[Ints, Ints]:
        if not self.at.size or not k.size:
            return domain, before
        for at, off, to in zip(self.at.tolist(), self.off.tolist(), self.to.tolist(), strict=True):
            later = k > at
            before += (later & (domain == to)).astype(np.int64) - (later & (domain == off))
        here = np.searchsorted(self.at, k)
        changed = np.flatnonzero(self.at[np.minimum(here, self.at.size - 1)] == k)
        domain[changed], before[changed] = self.to[here[changed]], self.before[here[changed]]
        return domain, before


_NONE = np.zeros(0, dtype=np.int64)


def _mended(tree: Tree, weights: Floats, residual: Floats, N: int) -> Drawn:
    """The tree with as few windows given to others as end it within one window of the ideal after ``N``."""
    counts = tree.counts(N)
    e = residual + N * weights - counts
    used = weights > 0
    moves: list[tuple[int, int, int]] = []
    paths = {}
    while True:
        owed = int(np.argmax(np.where(used, e, -np.inf)))
        has = int(np.argmin(np.where(used & (counts > 0), e, np.inf)))
        if not (e[owed] > 1 or e[has] < -1) or e[owed] - e[has] <= 1 or owed == has:
            break
        if has not in paths:
            paths[has] = tree.path(has)
        moves.append((_last(paths[has], int(counts[has]), N), has, owed))
        counts[has] -= 1  # of those the tree gives, the last is gone
        e[has] += 1
        e[owed] -= 1
    moves.sort()
    before = []
    for number, (at, _, to) in enumerate(moves):
        earlier = sum((a[2] == to) - (a[1] == to) for a in moves[:number])
        before.append(count(tree.path(to), at) + earlier)
    columns = [np.array([move[n] for move in moves], dtype=np.int64) for n in range(3)]
    return Drawn(tree, columns[0], columns[1], columns[2], np.array(before, dtype=np.int64))


def _last(path: list[tuple[float, float, bool]], number: int, N: int) -> int:
    """The window at which a domain's ``number``-th draw of the first ``N`` windows comes."""
    low, high = 0, N
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if count(path, middle) >= number else (middle, high)
    return low
