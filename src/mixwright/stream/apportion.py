"""Nested apportioning: which domain each window of a phase is drawn from, at any position, without state.

Notation
    D       domains
    w       weights of the phase, ``(D,)``, summing to one
    k       windows of the phase before a position; ``k*w`` is the ideal count of each domain
    W       weight of a node: the sum of the weights below it
    c       how many of the first ``k`` windows have come down to a node (the root's is ``k``)
    p, u    a node's lighter child gets ``floor(c*p + u)`` of them, kept within 0..c; its heavier child the others
    r       residual of a domain at the phase's start: the windows it is owed (ideal minus actual)

The domains are the leaves of a Huffman tree of their weights. ``p`` is the lighter child's part of the node, so it is
at most a half: neither child's count ever falls or rises by more than one a window, whatever float64 rounds, and no
draw is ever negative. Nothing depends on the phase's length.

How exact. With ``u`` = ½ a node rounds to nearest, so a domain is off by at most ½·Σ w/W, the sum over the domain and
its ancestors below the root. In a Huffman tree a node and its parent together weigh no more than the grandparent
(whatever the parent was merged with had been no lighter than the node), so these W grow at least like the Fibonacci
numbers and the sum stays below 3.36, the sum of their reciprocals: a domain is never more than 1.68 windows off. A
residual moves ``u`` so that what is owed is given back first. Where a phase's end needs it, ``u`` is drawn from
½ ± ``SPREAD``, which makes 1.68 at most 1.95.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mixwright.core.rng import rng

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

#: How far the offset ``u`` of variants above 0 may lie from a half.
SPREAD = 0.08


@dataclass(frozen=True, eq=False)
class Tree:
    """The apportioning tree of one phase over ``leaves`` domains.

    ``light`` and ``heavy (M,)`` are each node's children: a node's number, or ``~domain`` for a leaf. Node 0 is the
    root; children follow their parents. With a single domain of positive weight there is no node, and ``only`` names it.
    """

    leaves: int
    only: int
    light: Ints
    heavy: Ints
    p: Floats
    u: Floats

    @classmethod
    def of(cls, weights: Floats, residual: Floats, seed: int, variant: int = 0, *, cancel: bool = False) -> Tree:
        """The tree for ``weights (D,)``; domains of weight 0 are left out, so they are never drawn.

        ``seed`` orders domains of equal weight; variant 0 rounds to nearest, others move ``u`` by up to ``SPREAD``.
        What domains that are left out were owed or had too much is spread evenly over the others. With ``cancel`` a node
        is merged with the one of the ``_NEAR`` next lightest whose residual cancels its own best, so that no large part of
        the tree is owed much, and nothing is given back in a rush that others must wait for. Cost O(D log D).
        """
        used = np.flatnonzero(weights > 0)
        owed = residual - residual[used].sum() / used.size
        rank = np.empty(used.size, dtype=np.int64)
        rank[rng(seed, "ties").permutation(used.size)] = np.arange(used.size)
        heap = [
            (float(weights[d]), int(order), ~int(d), float(owed[d])) for d, order in zip(used, rank, strict=True)
        ]  # fmt: skip
        heapq.heapify(heap)
        merged: list[tuple[int, int, float, float]] = []
        while len(heap) > 1:
            light = heapq.heappop(heap)
            heavy = _cancelling(heap, light[3]) if cancel else heapq.heappop(heap)
            weight, due = light[0] + heavy[0], light[3] + heavy[3]
            share = light[0] / weight
            heapq.heappush(heap, (weight, used.size + len(merged), len(merged), due))
            merged.append((light[2], heavy[2], share, 0.5 + light[3] - share * due))
        count = len(merged)
        flip = [(count - 1 - node) if node >= 0 else node for row in reversed(merged) for node in row[:2]]
        u = np.array([row[3] for row in reversed(merged)])
        tree = cls(
            int(weights.size),
            int(used[0]),
            np.array(flip[0::2], dtype=np.int64),
            np.array(flip[1::2], dtype=np.int64),
            np.array([row[2] for row in reversed(merged)]),
            u,
        )
        return replace(tree, u=tree.varied(seed, variant)) if variant else tree

    def varied(self, seed: int, variant: int) -> Floats:
        """The offsets ``u`` of another variant of this tree, itself variant 0."""
        return self.u + rng(seed, "variant", variant).uniform(-SPREAD, SPREAD, self.u.size)

    def path(self, domain: int) -> list[tuple[float, float, bool]]:
        """``p``, ``u`` and whether the way goes to the lighter child, for every node from the root to ``domain``."""
        parent = {int(child): (node, lighter) for row, lighter in ((self.light, True), (self.heavy, False))
                  for node, child in enumerate(row)}  # fmt: skip
        at, out = ~domain, []
        while at in parent:
            at, lighter = parent[at]
            out.append((float(self.p[at]), float(self.u[at]), lighter))
        return out[::-1]

    def counts(self, k: int) -> Ints:
        """How many of the phase's first ``k`` windows each domain gives, ``(D,)``; cost O(D)."""
        out = [0] * self.leaves
        reached = [k] + [0] * self.p.size
        if not self.p.size:
            out[self.only] = k
        p, u, light, heavy = (row.tolist() for row in (self.p, self.u, self.light, self.heavy))
        for node in range(self.p.size):
            c = reached[node]
            part = min(max(math.floor(c * p[node] + u[node]), 0), c)
            for child, count in ((light[node], part), (heavy[node], c - part)):
                if child >= 0:
                    reached[child] = count
                else:
                    out[~child] = count
        return np.array(out, dtype=np.int64)

    def counts_of(self, k: int, u: Floats) -> Ints:
        """``counts`` for many offsets ``u (V, M)`` at once, ``(V, D)``."""
        out = np.zeros((self.leaves, len(u)), dtype=np.int64)
        reached = np.full((self.p.size + 1, len(u)), float(k))
        if not self.p.size:
            out[self.only] = k
        for node, (light, heavy) in enumerate(zip(self.light.tolist(), self.heavy.tolist(), strict=True)):
            part = _lighter(reached[node], self.p[node], u[:, node])
            for child, counts in ((light, part), (heavy, reached[node] - part)):
                if child >= 0:
                    reached[child] = counts
                else:
                    out[~child] = counts
        return out.T

    def descend(self, k: Ints) -> tuple[Ints, Ints]:
        """For the windows at ``k (n,)`` of the phase: their domain, and how many of that domain came before, ``(n,)``.

        Cost O(n x mean depth), the mean depth being the entropy of the weights in bits, plus less than one.
        """
        found = _Found(k.size)
        if self.p.size:
            self._level_by_level(found, np.arange(k.size), np.zeros(k.size, dtype=np.int64), k.astype(np.float64))
        else:
            found.set(slice(None), ~self.only, k)
        return found.domain, found.before

    def stretch(self, start: int, end: int) -> tuple[Ints, Ints]:
        """``descend`` for the windows from ``start`` to before ``end``, about twice as fast.

        Windows that follow one another at a node follow one another at its children, so a node needs only its first.
        """
        found, size = _Found(end - start), end - start
        if not self.p.size:
            found.set(slice(None), ~self.only, np.arange(start, end))
            return found.domain, found.before
        few: list[tuple[Ints, int, int]] = []
        todo = [(np.arange(size), 0, start)]
        while todo:
            at, node, c = todo.pop()
            if node < 0:
                found.set(at, node, np.arange(c, c + at.size))
            elif at.size < _MANY:
                few.append((at, node, c))
            else:
                part = _lighter(np.arange(c, c + at.size + 1, dtype=np.float64), self.p[node], self.u[node])
                lighter, before = part[1:] > part[:-1], int(part[0])
                todo.append((at[lighter], int(self.light[node]), before))
                todo.append((at[~lighter], int(self.heavy[node]), c - before))
        if few:
            sizes = [at.size for at, _, _ in few]
            counts = np.concatenate([np.arange(c, c + at.size, dtype=np.float64) for at, _, c in few])
            nodes = np.repeat(np.array([node for _, node, _ in few]), sizes)
            self._level_by_level(found, np.concatenate([at for at, _, _ in few]), nodes, counts)
        return found.domain, found.before

    def _level_by_level(self, found: _Found, at: Ints, node: Ints, c: Floats) -> None:
        """Carry windows ``at`` from their ``node``, reached by ``c`` before them, down to their domains."""
        while at.size:
            p, u = self.p[node], self.u[node]
            part = _lighter(c, p, u)
            lighter = _lighter(c + 1, p, u) > part
            c = np.where(lighter, part, c - part)
            node = np.where(lighter, self.light[node], self.heavy[node])
            leaf, inner = np.flatnonzero(node < 0), np.flatnonzero(node >= 0)
            found.set(at[leaf], node[leaf], c[leaf])
            at, node, c = at[inner], node[inner], c[inner]


def count(path: list[tuple[float, float, bool]], k: int) -> int:
    """How many of the first ``k`` windows the domain at the end of ``path`` gives."""
    for p, u, lighter in path:
        part = min(max(math.floor(k * p + u), 0), k)
        k = part if lighter else k - part
    return k


#: Nodes among which the one that cancels best is looked for, none of them heavier than twice the lightest.
_NEAR = 8
_Node = tuple[float, int, int, float]


def _cancelling(heap: list[_Node], due: float) -> _Node:
    """Take from the heap the node whose residual comes nearest to ``-due``, among the lightest."""
    near = [heapq.heappop(heap)]
    while heap and len(near) < _NEAR and heap[0][0] <= 2 * near[0][0]:
        near.append(heapq.heappop(heap))
    best = min(range(len(near)), key=lambda n: (abs(near[n][3] + due), n))
    for node in near[:best] + near[best + 1 :]:
        heapq.heappush(heap, node)
    return near[best]


#: Windows at a node from which on it is worth a pass of its own.
_MANY = 128


class _Found:
    """Domains and counts of windows as they are found."""

    def __init__(self, size: int) -> None:
        self.domain = np.empty(size, dtype=np.int64)
        self.before = np.empty(size, dtype=np.int64)

    def set(self, at: Ints | slice, leaf: Ints | int, before: Ints | Floats) -> None:
        """Windows ``at`` reached ``leaf`` after ``before`` others."""
        self.domain[at] = ~leaf
        self.before[at] = before


def _lighter(c: Floats, p: Floats | np.float64, u: Floats | np.float64) -> Floats:
    """How many of the first ``c`` windows at a node its lighter child gets; whole numbers."""
    part = c * p
    part += u
    np.floor(part, out=part)
    np.maximum(part, 0, out=part)
    return np.minimum(part, c, out=part)
