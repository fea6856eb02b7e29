"""The documents inside windows: a pure function of the rows, for attention and losses that stop at document borders.

Notation
    n, L     rows and inputs per row: a row holds ``L + 1`` ids, inputs are all but the last, labels all but the first
    end      the id that ends every document and belongs to it
    segment  a run of inputs of one document; every row begins one, whether or not its document does
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixwright.core.errors import DataError
from mixwright.store.tokens import TokenStore

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Documents:
    """Where documents begin in the inputs of a batch.

    - ``cu_seqlens (S + 1,)`` int32: where segment 0, 1, ... begins in the flattened inputs ``(n*L,)``, and their end; what
      ``flash_attn_varlen_func`` takes together with ``max_seqlen``.
    - ``segment_ids (n, L)`` int32: the number of its segment in its row, from 0.
    - ``position_ids (n, L)`` int32: the place in its segment, from 0.
    - ``loss_mask (n, L)`` bool: False where the label is the first token of the next document, which nothing predicts.
    """

    cu_seqlens: NDArray[np.int32]
    segment_ids: NDArray[np.int32]
    position_ids: NDArray[np.int32]
    loss_mask: NDArray[np.bool_]

    @property
    def max_seqlen(self) -> int:
        """Inputs of the longest segment."""
        return int(np.diff(self.cu_seqlens).max(initial=0))


def documents(rows: NDArray[Any], end: int | None = None, *, begins: NDArray[np.bool_] | None = None) -> Documents:
    """The documents of ``rows (n, L + 1)``: a new one begins after every ``end``, or wherever ``begins (n, L + 1)`` says.

    ``document_begins`` finds ``begins`` for stores whose documents no id ends. Raises DataError when neither or both are
    given, or shapes differ. Cost: some ten vector operations over the rows.
    """
    if rows.ndim != 2 or rows.shape[1] < 2:
        raise DataError(
            f"Documents are found in rows of at least two ids, (n, L + 1); got an array of shape {rows.shape}."
        )
    if (end is None) == (begins is None):
        raise DataError(
            "Say where documents end by the id that ends them (end) or by where they begin (begins), by one of both."
        )
    if begins is None:
        begins = np.zeros(rows.shape, dtype=bool)
        begins[:, 1:] = rows[:, :-1] == end
    elif begins.shape != rows.shape:
        raise DataError(f"begins must have the shape of the rows, {rows.shape}; it has {begins.shape}.")
    n, length = rows.shape[0], rows.shape[1] - 1
    first = begins[:, :-1].copy()
    first[:, :1] = True
    starts = np.flatnonzero(first)
    lengths = np.diff(starts, append=n * length)
    position = np.arange(n * length) - np.repeat(starts, lengths)
    return Documents(
        np.append(starts, n * length).astype(np.int32),
        (np.cumsum(first, axis=1) - 1).astype(np.int32),
        position.reshape(n, length).astype(np.int32),
        ~begins[:, 1:],
    )


def document_begins(stores: Mapping[str, TokenStore], domains: Sequence[str], last: tuple[Ints, Ints, Ints],
                    seq_len: int) -> NDArray[np.bool_]:  # fmt: skip
    """Which ids of the rows delivered last begin a document, ``(n, seq_len + 1)``, by the stores' ``.idx`` files.

    ``last`` is ``MixtureStream.last``, ``domains`` its schedule's. Memory: 8 bytes per document of the domains drawn from.
    Raises DataError for a store without an index.
    """
    domain, _, window = last
    out = np.zeros((domain.size, seq_len + 1), dtype=bool)
    for d in np.unique(domain):
        begins = _begins(stores[domains[d]])
        rows = np.flatnonzero(domain == d)
        token = window[rows] * seq_len
        first, last_ = np.searchsorted(begins, token), np.searchsorted(begins, token + seq_len, side="right")
        row = np.repeat(rows, last_ - first)
        within = np.concatenate([begins[a:b] - t for a, b, t in zip(first, last_, token, strict=True)])
        out[row, within] = True
    return out


def _begins(store: TokenStore) -> Ints:
    """The first token of every document of a store, ``(documents,)``; kept with the store."""
    kept = store.__dict__.get("_document_begins")
    if kept is None:
        kept = np.concatenate([_of_shard(store, number) for number in range(len(store.shards))])
        store.__dict__["_document_begins"] = kept
    return np.asarray(kept, dtype=np.int64)


def _of_shard(store: TokenStore, number: int) -> Ints:
    ends = store.document_ends(number)
    begins = np.append(0, ends[:-1])
    return np.asarray(store.shards[number].start + begins[begins < ends], dtype=np.int64)
