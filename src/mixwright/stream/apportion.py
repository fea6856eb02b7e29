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
from dataclasses import dataclass

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
    def of(cls, weights: Floats, residual: Floats, seed: int, variant: int = 0) -> Tree:
        """The tree for ``weights (D,)``; domains of weight 0 are left out, so they are never drawn.

        ``seed`` orders domains of equal weight; variant 0 rounds to nearest, others move ``u`` by up to ``SPREAD``.
        What domains that are left out were owed or had too much is spread evenly over the others. Cost O(D log D).
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
            light, heavy = heapq.heappop(heap), heapq.heappop(heap)
            weight, due = light[0] + heavy[0], light[3] + heavy[3]
            share = light[0] / weight
            heapq.heappush(heap, (weight, used.size + len(merged), len(merged), due))
            merged.append((light[2], heavy[2], share, 0.5 + light[3] - share * due))
        count = len(merged)
        flip = [(count - 1 - node) if node >= 0 else node for row in reversed(merged) for node in row[:2]]
        u = np.array([row[3] for row in reversed(merged)])
        if variant:
            u += rng(seed, "variant", variant).uniform(-SPREAD, SPREAD, count)
        return cls(
            int(weights.size),
            int(used[0]),
            np.array(flip[0::2], dtype=np.int64),
            np.array(flip[1::2], dtype=np.int64),
            np.array([row[2] for row in reversed(merged)]),
            u,
        )

    def counts(self, k: int) -> Ints:
        """How many of the phase's first ``k`` windows each domain gives, ``(D,)``; cost O(D)."""
        out = np.zeros(self.leaves, dtype=np.int64)
        reached = np.zeros(max(1, self.p.size), dtype=np.int64)
        reached[0] = k
        if not self.p.size:
            out[self.only] = k
        for node in range(self.p.size):
            c = int(reached[node])
            part = int(_lighter(np.int64(c), self.p[node], self.u[node]))
            for child, count in ((int(self.light[node]), part), (int(self.heavy[node]), c - part)):
                if child >= 0:
                    reached[child] = count
                else:
                    out[~child] = count
        return out

    def descend(self, k: Ints) -> tuple[Ints, Ints]:
        """For the windows at ``k (n,)`` of the phase: their domain, and how many of that domain came before, ``(n,)``.

        Cost O(n x mean depth), the mean depth being the entropy of the weights in bits, plus less than one.
        """
        domain = np.full(k.shape, self.only, dtype=np.int64)
        before = k.astype(np.int64, copy=True)
        if not self.p.size:
            return domain, before
        active = np.arange(k.size)
        node = np.zeros(k.size, dtype=np.int64)
        c = before.ravel().copy()
        while active.size:
            p, u = self.p[node], self.u[node]
            part = _lighter(c, p, u)
            lighter = _lighter(c + 1, p, u) > part
            c = np.where(lighter, part, c - part)
            node = np.where(lighter, self.light[node], self.heavy[node])
            leaf = node < 0
            domain.ravel()[active[leaf]] = ~node[leaf]
            before.ravel()[active[leaf]] = c[leaf]
            active, node, c = active[~leaf], node[~leaf], c[~leaf]
        return domain, before


def _lighter(c: Ints | np.int64, p: Floats | np.float64, u: Floats | np.float64) -> Ints:
    """How many of the first ``c`` windows at a node its lighter child gets."""
    return np.asarray(np.clip(np.floor(c * p + u), 0, c).astype(np.int64))
