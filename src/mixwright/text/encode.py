"""Texts -> ids: what documents of a study and files of other people share."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixwright.text import tokenizer as tokenizers

#: UTF-8 bytes of text that make a shard: as much as one core encodes in some 25 seconds
SHARD_BYTES = 48 << 20
#: megabytes a second one core encodes, for the cost of a task (docs/tokens.md has the measurement)
MB_PER_SECOND = 2.0
#: characters of text encoded at once
_BATCH = 1 << 20


@dataclass(frozen=True)
class Encoder:
    """Encodes lists of texts; each becomes a document that ends with the id ``end``."""

    tokenizer: Any
    end: int

    @classmethod
    def load(cls, file: Path, end: int) -> Encoder:
        """The encoder of a ``tokenizer.json``. Raises DataError if it is none."""
        return cls(tokenizers.load(file), end)

    def __call__(self, texts: list[str]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """The ids of all documents back to back ``(tokens,)``, and the length of each ``(n,)``."""
        rows = [encoding.ids for encoding in self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
        lengths = np.fromiter((len(row) + 1 for row in rows), dtype=np.int32, count=len(rows))
        ids = np.empty(int(lengths.sum()), dtype=np.int32)
        last = np.cumsum(lengths, dtype=np.int64) - 1
        inside = np.ones(ids.size, dtype=bool)
        inside[last] = False
        ids[inside] = np.fromiter(itertools.chain.from_iterable(rows), dtype=np.int32, count=ids.size - len(rows))
        ids[last] = self.end
        return ids, lengths


def batches(texts: Iterable[str], characters: int = _BATCH) -> Iterator[list[str]]:
    """Texts in lists of at least ``characters`` characters; memory is one list."""
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= characters:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
