"""Which rows are dropped as duplicates: from numbers alone, no text is read.

A row is dropped if and only if a kept row that survives it (``Rows.ranked``) is its duplicate: equal by the chosen hash, or
one of a verified pair. So everything that is dropped has a kept twin, and of two twins one is dropped.

n        involved rows, those that pass everything else and have a duplicate at all, numbered by rank
texts    T distinct texts of these; pairs hold between texts
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mixwright.curate.dedup.rows import Rows
from mixwright.curate.dedup.signing import ordered
from mixwright.curate.hashing import hexes
from mixwright.curate.signal import Floats
from mixwright.curate.texts import Counts

if TYPE_CHECKING:
    import pyarrow as pa

EXACT = "exact_duplicate"
NEAR = "near_duplicate"
SEMANTIC = "semantic_duplicate"
EARLIER = "earlier_run"


@dataclass(frozen=True)
class Relation:
    """Pairs of rows, each the best-ranked of its text, that are duplicates by ``rule``; ``a``, ``b``, ``similarity`` (p,)."""

    rule: str
    a: Counts
    b: Counts
    similarity: Floats

    def at_least(self, threshold: float) -> Relation:
        """Its pairs of at least this similarity."""
        kept = self.similarity >= threshold
        return Relation(self.rule, self.a[kept], self.b[kept], self.similarity[kept])


@dataclass(frozen=True)
class Equals:
    """Rows that are equal to a better-ranked one: ``(m, 2)``, the row and the best-ranked of its group, ascending."""

    pairs: Counts

    def best(self, rows: Counts) -> Counts:
        """The best-ranked row of the group of each row; the row itself where it has no equal."""
        places = np.searchsorted(self.pairs[:, 0], rows)
        inside = places < len(self.pairs)
        found = rows.copy()
        hit = np.flatnonzero(inside)[self.pairs[places[inside], 0] == rows[inside]]
        found[hit] = self.pairs[places[hit], 1]
        return found

    @property
    def members(self) -> Counts:
        """Every row that has an equal."""
        return np.unique(self.pairs)


def drops(
    rows: Rows, passing: NDArray[np.bool_], *, texts: Equals, keys: Equals | None, relations: Sequence[Relation]
) -> pa.Table:
    """What is dropped among the ``passing`` (N,) rows, ascending by place: ``order``, ``index``, ``id``, ``rule``, ``kept``
    (id of the kept twin), ``similarity`` (1 for equal texts, null for another equal field), ``cluster`` (the least id of all
    rows that are connected with it).

    ``texts`` are rows of equal text, ``keys`` rows that are exact duplicates (None: these are kept), ``relations`` further
    kinds of duplicates, the first that drops a row is told; rows of equal text are duplicates by each of them. The twin that
    is named is the most similar kept one, of equally similar ones the best-ranked. Rows of earlier runs are never dropped.
    Memory and cost: some 100 bytes and a microsecond per involved row and pair.
    """
    from mixwright.curate.dedup.keep_kernels import clusters, greedy

    involved = _involved(rows, passing, texts, keys, relations)
    text, names = _numbered(texts.best(involved))
    key = _numbered(keys.best(involved))[0] if keys else np.arange(len(involved))
    begins, to, kind, similarity = _neighbours(names, relations)
    settled = involved < rows.settled
    rule, kept, similar = greedy(text, key, settled, bool(keys), len(relations) > 0, begins, to, kind, similarity)
    cluster = clusters(text, key, bool(keys), len(relations) > 0 or bool(settled.any()), begins, to)
    dropped = np.flatnonzero(rule >= 0)
    dropped = dropped[np.argsort(involved[dropped])]
    rules = np.array([EXACT, *(relation.rule for relation in relations), EARLIER])
    rule = np.where(settled[kept[dropped]], len(rules) - 1, rule[dropped])
    return _table(
        rows, involved, dropped, rules[rule], kept[dropped], similar[dropped], _least(rows, involved, cluster)
    )


def _involved(
    rows: Rows, passing: NDArray[np.bool_], texts: Equals, keys: Equals | None, relations: Sequence[Relation]
) -> Counts:
    """Rows that pass, or are of an earlier run, and have a duplicate, by rank."""
    named = [one for relation in relations for one in (relation.a, relation.b)]
    paired = np.unique(np.concatenate([*named, np.zeros(0, dtype=np.int64)]))
    every = np.unique(np.concatenate([paired, texts.members, keys.members if keys else paired[:0]]))
    return rows.ranked(every[passing[every] | (every < rows.settled)])


def _numbered(values: Counts) -> tuple[Counts, Counts]:
    """Each value's number among the distinct ones, and these, ascending."""
    names, numbers = np.unique(values, return_inverse=True)
    return numbers.astype(np.int64), names


def _neighbours(names: Counts, relations: Sequence[Relation]) -> tuple[Counts, Counts, Counts, Floats]:
    """Pairs between texts as lists: those of text t are ``begins[t]`` to ``begins[t + 1]`` of the other text, the relation's
    number and the similarity, by relation. ``names`` (T,) are the best-ranked rows of the texts."""
    parts = [(np.zeros(0, dtype=np.int64),) * 3 + (np.zeros(0),)]
    for number, relation in enumerate(relations):
        a, b = np.searchsorted(names, relation.a), np.searchsorted(names, relation.b)
        both = (a < len(names)) & (b < len(names))
        a, b, similarity = a[both], b[both], relation.similarity[both]
        here = (names[a] == relation.a[both]) & (names[b] == relation.b[both])
        kind = np.full(2 * int(here.sum()), number)
        parts.append(
            (np.concatenate([a[here], b[here]]), kind, np.concatenate([b[here], a[here]]), np.tile(similarity[here], 2))
        )
    one, kind, to, similarity = (np.concatenate([part[at] for part in parts]) for at in range(4))
    order = np.lexsort((to, kind, one))
    begins = np.searchsorted(one[order], np.arange(len(names) + 1))
    return begins.astype(np.int64), to[order], kind[order], similarity[order]


def _least(rows: Rows, involved: Counts, cluster: Counts) -> Counts:
    """For each cluster's number the involved row of the least id."""
    ids = ordered(rows.ids[involved])
    order = np.lexsort((ids[:, 1], ids[:, 0], cluster))
    _, first = np.unique(cluster[order], return_index=True)
    least = np.zeros(int(cluster.max(initial=-1)) + 1, dtype=np.int64)
    least[cluster[order][first]] = involved[order][first]
    found: Counts = least[cluster]
    return found


def _table(
    rows: Rows, involved: Counts, dropped: Counts, rules: NDArray[np.str_], kept: Counts, similar: Floats, least: Counts
) -> pa.Table:
    import pyarrow as pa

    own = involved[dropped]
    shards = rows.shards(own)
    return pa.table(
        {
            "order": pa.array(rows.orders[shards]),
            "index": pa.array(own - rows.starts[shards]),
            "id": hexes(rows.ids[own]),
            "rule": pa.array(rules, pa.string()),
            "kept": hexes(rows.ids[involved[kept]]),
            "similarity": pa.array(similar, mask=np.isnan(similar)),
            "cluster": hexes(rows.ids[least[dropped]]),
        }
    )
