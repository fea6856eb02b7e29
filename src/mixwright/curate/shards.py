"""A shard: the part of a source, or of a target, that one task reads, measures and writes.

Where shards are cut depends on the files alone, so shards, their numbers and the rows in them are the same on every
machine, with any number of workers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mixwright.store.batches import RowBatch, read_batches
from mixwright.store.documents import SourceOptions
from mixwright.store.pieces import Piece


@dataclass(frozen=True)
class Shard:
    """``pieces`` of the files of one source; ``number`` counts the shards of that source from 0, ``order`` those of all.

    ``first_rows`` (one per piece) are the rows of its file before a piece, which is cut at bytes; readable rows of a shard
    are counted from 0 in reading order: that count and ``order`` are a row's place in the whole curation.
    """

    source: str
    number: int
    order: int
    domain: str
    target: bool
    given: SourceOptions
    pieces: tuple[Piece, ...]
    first_rows: tuple[int, ...]

    @property
    def name(self) -> str:
        """Its name in the work folder and in the artifact's folders."""
        return f"{self.source}/{self.number:05d}"

    @property
    def size(self) -> int:
        """About how many bytes of text it holds."""
        return sum(piece.size for piece in self.pieces)

    def batches(self, size: int = 1 << 20) -> Iterator[RowBatch]:
        """Its rows, in order, about ``size`` bytes of text at a time; raises as ``read_batches``."""
        for piece, first in zip(self.pieces, self.first_rows, strict=True):
            yield from read_batches(piece, self.given, first_row=first, size=size)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self) | {"pieces": [piece.to_dict() for piece in self.pieces]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Shard:
        """What ``to_dict`` gave."""
        return cls(
            **dict(values)
            | {
                "given": SourceOptions(**values["given"]),
                "pieces": tuple(Piece.from_dict(piece) for piece in values["pieces"]),
                "first_rows": tuple(values["first_rows"]),
            }
        )
