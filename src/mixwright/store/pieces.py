"""Files of documents cut into pieces of about one size, which can be read apart and in any order.

Plain JSONL is cut at bytes (a piece has the lines that begin in it), Parquet at row groups; compressed and text files are
one piece each. Where the cuts lie depends on the files alone.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from mixwright.store.documents import SourceFile
from mixwright.store.streams import COMPRESSED, Meter, raw

#: files behind URLs that are asked for at once
_REQUESTS = 16
#: text comes out of compressed files about so many times their size (measured on web text and code: 3 to 5)
_INFLATED = 4
#: a unit may be so much larger than it should be before another piece is left to the next
_SLACK = 1.25


@dataclass(frozen=True)
class Piece:
    """Bytes (plain JSONL) or row groups (Parquet) ``start`` to ``stop`` of a file; all of it where ``stop`` is 0.

    ``size`` is about how many bytes of text it holds.
    """

    file: SourceFile
    start: int = 0
    stop: int = 0
    size: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        here = {"start": self.start, "stop": self.stop, "size": self.size}
        return dataclasses.asdict(self.file) | here

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Piece:
        """What ``to_dict`` gave."""
        file = SourceFile(*(values[key] for key in ("url", "name", "format", "bytes", "tag")))
        return cls(file, values["start"], values["stop"], values["size"])


def units(files: Sequence[SourceFile], size: int) -> list[tuple[Piece, ...]]:
    """All pieces of ``files``, in order, in groups of about ``size`` bytes of text; large files make several."""
    found: list[tuple[Piece, ...]] = []
    group: list[Piece] = []
    held = 0
    for pieces in _all_pieces(files, size):
        for piece in pieces:
            if group and held + piece.size > _SLACK * size:
                found.append(tuple(group))
                group, held = [], 0
            group.append(piece)
            held += piece.size
    return [*found, tuple(group)] if group else found


def _all_pieces(files: Sequence[SourceFile], size: int) -> Iterator[list[Piece]]:
    """The pieces of each file; what stands at the end of Parquet files behind URLs is asked for many at a time."""
    if all(file.place.path is not None for file in files):
        yield from (_pieces(file, size) for file in files)
        return
    with ThreadPoolExecutor(_REQUESTS) as pool:
        yield from pool.map(lambda file: _pieces(file, size), files)


def _pieces(file: SourceFile, size: int) -> list[Piece]:
    packed = file.format == "parquet" or file.url.lower().endswith(tuple(COMPRESSED))
    about = file.bytes * _INFLATED if packed else file.bytes
    if file.format == "parquet" and about > size:
        return _row_groups(file, size)
    if packed or file.format == "text" or about <= size:
        return [Piece(file, size=about)]
    count = -(-file.bytes // size)
    cuts = [file.bytes * number // count for number in range(count + 1)]
    return [Piece(file, start, stop, stop - start) for start, stop in itertools.pairwise(cuts)]


def _row_groups(file: SourceFile, size: int) -> list[Piece]:
    """Row groups in runs of about ``size``; a file that cannot be opened is one piece, and reading it says why."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    whole = [Piece(file, size=file.bytes * _INFLATED)]
    try:
        about = pq.read_metadata(file.place.path or file.place.file())
    except (OSError, pa.ArrowException, RuntimeError, ValueError):
        return whole
    pieces, first, held = [], 0, 0
    for number in range(about.num_row_groups):
        held += max(0, about.row_group(number).total_byte_size)
        if held >= size or number == about.num_row_groups - 1:
            pieces.append(Piece(file, first, number + 1, held))
            first, held = number + 1, 0
    return pieces or whole


def count_lines(piece: Piece) -> int:
    """The lines that begin before a piece of bytes; cost: reading the file up to it. Raises DataError as reading."""
    lines, last = 0, b"\n"
    for content in raw(piece.file.place, 0, piece.start, Meter()):
        lines += content.count(b"\n")
        last = content[-1:]
    return lines + (last != b"\n")
