"""A shard: the part of a source, or of a target, that one task reads, measures and writes.

Where shards are cut depends on the files alone, so shards, their numbers and the rows in them are the same on every
machine, with any number of workers.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mixwright.core.errors import StudyError
from mixwright.curate.rewrites import Rewriter, rewriters
from mixwright.curate.rules import Options
from mixwright.curate.signal import Floats
from mixwright.curate.texts import Counts
from mixwright.engine.allocator import keep_freed
from mixwright.store.batches import RowBatch, read_batches, read_meta
from mixwright.store.documents import SourceFile, SourceOptions
from mixwright.store.pieces import Piece, units
from mixwright.store.streams import Meter, raw

if TYPE_CHECKING:
    import pyarrow as pa

#: bytes of text read and measured at once: at half of it calls cost 9 % of the whole run, at twice it the words of a batch
#: leave the processor's cache (LOG.md, 2026-11-25)
BATCH = 1 << 21


@dataclass(frozen=True)
class Shard:
    """``pieces`` of the files of one source; ``number`` counts the shards of that source from 0, ``order`` those of all.

    ``first_rows`` (one per piece) are the rows of its file before a piece, which is cut at bytes; readable rows of a shard
    are counted from 0 in reading order: that count and ``order`` are a row's place in the whole curation. Texts come as
    ``rewrite`` (``rewrites.py``) leaves them.
    """

    source: str
    number: int
    order: int
    domain: str
    target: bool
    given: SourceOptions
    pieces: tuple[Piece, ...]
    first_rows: tuple[int, ...]
    rewrite: Mapping[str, Mapping[str, Any] | None] = field(default_factory=dict)
    max_inflation: float = 1000.0

    @property
    def name(self) -> str:
        """Its name in the work folder and in the artifact's folders."""
        return f"{self.source}/{self.number:05d}"

    @property
    def size(self) -> int:
        """About how many bytes of text it holds."""
        return sum(piece.size for piece in self.pieces)

    def batches(self, size: int = BATCH, *, meta: bool = False) -> Iterator[RowBatch]:
        """Its rows, in order, about ``size`` bytes of text at a time; raises as ``read_batches``. Other fields come with
        ``meta`` alone: making JSON of them takes longer than reading the text."""
        for batch, _ in self.counted_batches(size, meta=meta):
            yield batch

    def counted_batches(self, size: int = BATCH, *, meta: bool = False) -> Iterator[tuple[RowBatch, dict[str, Floats]]]:
        """``batches``, and what rewriting changed in each text: column -> ``(n,)``."""
        keep_freed()
        rewriter, most = rewriters(self.rewrite), self.max_inflation
        for piece, first in zip(self.pieces, self.first_rows, strict=True):
            for batch in read_batches(piece, self.given, first_row=first, size=size, meta=meta, max_inflation=most):
                yield _rewritten(batch, rewriter) if rewriter.steps else (batch, {})

    @property
    def meta_apart(self) -> bool:
        """Whether ``meta`` is there: whether what rows hold beside their text can be read without it."""
        return self.given.response is None and all(piece.file.format != "jsonl" for piece in self.pieces)

    def meta(self, paths: pa.Array, rows: Counts) -> Iterator[pa.Array]:
        """What readable rows, in order, hold beside their text: JSON, large strings, some at a time. ``paths`` and ``rows`` say
        in which file and where in it each stands. Raises as ``read_batches``."""
        names, starts = runs_of(paths)
        of = {name: slice(*place) for name, *place in zip(names, starts[:-1], starts[1:], strict=True)}
        for piece in self.pieces:
            if len(own := rows[of.get(piece.file.name, slice(0))]):
                yield from read_meta(piece, self.given, own, max_inflation=self.max_inflation)

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


def runs_of(paths: pa.Array) -> tuple[list[str], list[int]]:
    """The values of consecutive equal strings, and where each such run begins, and the last one ends."""
    import pyarrow.compute as pc

    found = pc.run_end_encode(paths)
    return found.values.to_pylist(), [0, *found.run_ends.to_pylist()]


def _rewritten(batch: RowBatch, rewriter: Rewriter) -> tuple[RowBatch, dict[str, Floats]]:
    texts, counts = rewriter.apply(batch.texts)
    halves = [None if column is None else rewriter.apply(column)[0] for column in (batch.prompts, batch.responses)]
    return dataclasses.replace(batch, texts=texts, prompts=halves[0], responses=halves[1]), counts


def cut(
    name: str, given: SourceOptions, files: Sequence[SourceFile], options: Options, *, order: int, target: bool
) -> list[Shard]:
    """The shards of a source, of about ``options.shard`` of text each, in the order of its files; the first is ``order``.

    Cost: reading the line feeds of plain JSONL files larger than a shard, some GB/s.
    """
    shards, size = [], bytes_of(options.shard, "curate.shard")
    for number, pieces in enumerate(units(files, size)):
        shards.append(
            Shard(
                name,
                number,
                order + number,
                given.domain or name,
                target,
                given,
                pieces,
                (0,) * len(pieces),
                options.rewrite,
                options.max_inflation,
            )
        )
    rows = _rows_before([piece for shard in shards for piece in shard.pieces])
    counted = iter(rows)
    return [dataclasses.replace(shard, first_rows=tuple(next(counted) for _ in shard.pieces)) for shard in shards]


def _rows_before(pieces: Sequence[Piece]) -> list[int]:
    """The lines of its file that begin before each piece of bytes, 0 for other pieces; every file is read once."""
    cuts: dict[SourceFile, list[int]] = {}
    for piece in pieces:
        if piece.start and piece.file.format == "jsonl":
            cuts.setdefault(piece.file, []).append(piece.start)
    found = {
        (file, at): lines
        for file, places in cuts.items()
        for at, lines in zip(places, _lines(file, places), strict=True)
    }
    return [found.get((piece.file, piece.start), 0) for piece in pieces]


def _lines(file: SourceFile, places: Sequence[int]) -> Iterator[int]:
    """The lines that begin before each of ``places``, which ascend."""
    at, lines, last = 0, 0, b"\n"
    for place in places:
        for content in raw(file.place, at, place, Meter()):
            lines += content.count(b"\n")
            last = content[-1:]
        at = place
        yield lines + (last != b"\n")


def bytes_of(size: str | int, what: str) -> int:
    """``64MB``, ``1.5 GB``, ``2GiB`` or a number of bytes. Raises StudyError that names ``what``."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:([kmgt])(i?))?b?\s*", str(size).lower())
    if found is None or float(found[1]) <= 0:
        raise StudyError(f"{what} must be a size such as 64MB or 1.5GB; got {size!r}.")
    power = " kmgt".index(found[2] or " ")
    return int(float(found[1]) * (1024 if found[3] else 1000) ** power)
