"""The truth about near-duplicates, in plain Python: exact Jaccard similarity of sets of word 5-grams.

A word is a run of word characters, lower-cased; in scripts without spaces each character is one. A text of fewer than five
words is one gram. Nothing here is shared with what is measured.
"""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

N = 5
#: Thai to Tibetan, Myanmar, Khmer and others, kana, Han
_UNSPACED = (
    "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u1950-\u19df\u1a20-\u1aaf\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3031-\u3035"
    "\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uaa60-\uaa7f\uf900-\ufaff\uff66-\uff9f\U0001aff0-\U0001b16f"
    "\U00020000-\U0003ffff"
)
_WORD = re.compile(rf"(?=\w)[{_UNSPACED}]|(?:(?![{_UNSPACED}])\w)+")
_PLAIN = re.compile(r"\w+", re.ASCII)


def words(text: str) -> list[str]:
    """The words of a text."""
    text = text.lower()
    return _PLAIN.findall(text) if text.isascii() else _WORD.findall(text)


def grams(text: str) -> set[tuple[str, ...]]:
    """The set of word 5-grams of a text."""
    found = words(text)
    if len(found) < N:
        return {tuple(found)} if found else set()
    return set(zip(*(found[at:] for at in range(N)), strict=False))


def jaccard(first: set[tuple[str, ...]], second: set[tuple[str, ...]]) -> float:
    """Shared over all; 1 for two empty sets."""
    shared = len(first & second)
    return shared / (len(first) + len(second) - shared) if first or second else 1.0


def gram_ids(texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All texts' sets of grams as ``(text, gram)`` numbers, one line for every distinct pair.

    Grams are told apart by 64 bits of a hash of Python's; two distinct of 10^8 grams meet with probability 3e-4.
    """
    text, hashes = [], []
    for number, one in enumerate(texts):
        found = np.fromiter((hash(gram) for gram in grams(one)), dtype=np.int64)
        hashes.append(found)
        text.append(np.full(len(found), number, dtype=np.int64))
    _, ids = np.unique(np.concatenate(hashes), return_inverse=True)
    return np.concatenate(text), ids


def nearest_kept(texts: Sequence[str], removed: NDArray[np.int64], kept: NDArray[np.bool_]) -> NDArray[np.float64]:
    """For each removed text its largest Jaccard similarity with any kept text, by brute force over all pairs that share
    a gram (the others have similarity 0)."""
    from scipy.sparse import csr_matrix

    text, gram = gram_ids(texts)
    sizes = np.bincount(text, minlength=len(texts))
    whole = csr_matrix((np.ones(len(text), np.int32), (text, gram)), shape=(len(texts), int(gram.max()) + 1))
    held = whole[np.flatnonzero(kept)]
    names = np.flatnonzero(kept)
    lookup = held.T.tocsr()
    best = np.zeros(len(removed))
    for start in range(0, len(removed), 64):
        rows = removed[start : start + 64]
        shared = (whole[rows] @ lookup).tocsr()
        for number, row in enumerate(rows):
            span = slice(shared.indptr[number], shared.indptr[number + 1])
            both = shared.data[span]
            if len(both):
                union = sizes[row] + sizes[names[shared.indices[span]]] - both
                best[start + number] = float((both / union).max())
    return best


def pairs_at(texts: Sequence[str], least: float) -> list[tuple[int, int, float]]:
    """All pairs of texts with Jaccard similarity of ``least`` or more, by brute force over pairs that share a gram."""
    from scipy.sparse import csr_matrix

    text, gram = gram_ids(texts)
    sizes = np.bincount(text, minlength=len(texts))
    whole = csr_matrix((np.ones(len(text), np.int32), (text, gram)), shape=(len(texts), int(gram.max()) + 1))
    lookup, found = whole.T.tocsr(), []
    for start in range(0, len(texts), 64):
        shared = (whole[start : start + 64] @ lookup).tocoo()
        first, second = shared.row + start, shared.col
        value = shared.data / (sizes[first] + sizes[second] - shared.data)
        for at in np.flatnonzero((value >= least) & (first < second)):
            found.append((int(first[at]), int(second[at]), float(value[at])))
    return found
