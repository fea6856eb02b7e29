"""Greedy keep and clusters, compiled by numba. Rows are numbered by rank, see ``keep.py``.

text, key  (n,) int64 the number of each row's text, and of its group of exact duplicates
begins, to, kind, similarity  for each text its duplicates, those of one relation together
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mixwright.curate.compiled import compiled


@compiled
def greedy(
    text: Any, key: Any, settled: Any, exact: bool, related: bool, begins: Any, to: Any, kind: Any, similarity: Any
) -> Any:
    """For each row, ``(n,)`` each: -1 if it is kept, 0 if it is an exact duplicate, 1 + the relation's number otherwise; the
    kept row it is a duplicate of; how similar, NaN for exact duplicates of another text. ``settled`` rows are kept, and no
    other of their text."""
    n = len(text)
    rule = np.full(n, -1, np.int64)
    twin = np.full(n, -1, np.int64)
    similar = np.full(n, np.nan, np.float64)
    kept_of_text = np.full(len(begins) - 1, -1, np.int64)
    kept_of_key = np.full(n + 1, -1, np.int64)
    for i in range(n):
        t = text[i]
        if not settled[i]:
            if exact and kept_of_key[key[i]] >= 0:
                rule[i], twin[i] = 0, kept_of_key[key[i]]
                if text[twin[i]] == t:
                    similar[i] = 1.0
                continue
            if kept_of_text[t] >= 0 and (related or settled[kept_of_text[t]]):
                rule[i], twin[i], similar[i] = 1, kept_of_text[t], 1.0
                continue
            for at in range(begins[t], begins[t + 1]):
                if rule[i] >= 0 and kind[at] + 1 > rule[i]:
                    break
                other = kept_of_text[to[at]]
                if other >= 0 and (
                    rule[i] < 0 or similarity[at] > similar[i] or (similarity[at] == similar[i] and other < twin[i])
                ):
                    rule[i], twin[i], similar[i] = kind[at] + 1, other, similarity[at]
            if rule[i] >= 0:
                continue
        if kept_of_text[t] < 0:
            kept_of_text[t] = i
        if kept_of_key[key[i]] < 0:
            kept_of_key[key[i]] = i
    return rule, twin, similar


@compiled
def _root(parent: Any, i: int) -> int:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@compiled
def _join(parent: Any, a: int, b: int) -> None:
    a, b = _root(parent, a), _root(parent, b)
    if a < b:
        parent[b] = a
    else:
        parent[a] = b


@compiled
def clusters(text: Any, key: Any, exact: bool, related: bool, begins: Any, to: Any) -> Any:
    """For each row the number of its cluster, ``(n,)``: rows that exact duplicates and pairs connect, by its best row."""
    n = len(text)
    parent = np.arange(n)
    of_text = np.full(len(begins) - 1, -1, np.int64)
    of_key = np.full(n + 1, -1, np.int64)
    for i in range(n):
        if of_text[text[i]] < 0:
            of_text[text[i]] = i
        elif related:
            _join(parent, i, of_text[text[i]])
        if of_key[key[i]] < 0:
            of_key[key[i]] = i
        elif exact:
            _join(parent, i, of_key[key[i]])
    for t in range(len(begins) - 1):
        for at in range(begins[t], begins[t + 1]):
            _join(parent, of_text[t], of_text[to[at]])
    out = np.empty(n, np.int64)
    for i in range(n):
        out[i] = _root(parent, i)
    return out
