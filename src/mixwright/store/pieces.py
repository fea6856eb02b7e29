"""Files of documents cut into pieces of about one size, which can be read apart and in any order.

Plain JSONL is cut at bytes (a piece has the lines that begin in it), Parquet at row groups; compressed and text files are
one piece each. Where the cuts lie depends on the files alone.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mixwright.core.errors import DataError
from mixwright.store.documents import Row, SourceFile, Unreadable, json_row, read_file, read_groups
from mixwright.store.streams import COMPRESSED

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
        return dataclasses.asdict(self.file) | {
            "path": str(self.file.path), "start": self.start, "stop": self.stop, "size": self.size
        }  # fmt: skip

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Piece:
        """What ``to_dict`` gave."""
        file = SourceFile(Path(values["path"]), values["name"], values["format"], values["bytes"])
        return cls(file, values["start"], values["stop"], values["size"])


def units(files: Sequence[SourceFile], field: str, size: int) -> list[tuple[Piece, ...]]:
    """All pieces of ``files``, in order, in groups of about ``size`` bytes of text; large files make several."""
    found: list[tuple[Piece, ...]] = []
    group: list[Piece] = []
    for file in files:
        for piece in _pieces(file, field, size):
            if group and sum(one.size for one in group) + piece.size > _SLACK * size:
                found.append(tuple(group))
                group = []
            group.append(piece)
    return [*found, tuple(group)] if group else found


def _pieces(file: SourceFile, field: str, size: int) -> list[Piece]:
    if file.format == "parquet":
        return _row_groups(file, field, size)
    if file.path.suffix.lower() in COMPRESSED:
        return [Piece(file, size=file.bytes * _INFLATED)]
    if file.format == "text" or file.bytes <= size:
        return [Piece(file, size=file.bytes)]
    count = -(-file.bytes // size)
    cuts = [file.bytes * number // count for number in range(count + 1)]
    return [Piece(file, start, stop, stop - start) for start, stop in itertools.pairwise(cuts)]


def _row_groups(file: SourceFile, field: str, size: int) -> list[Piece]:
    """Row groups in runs of about ``size``; a file that cannot be opened is one piece, and reading it says why."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        about = pq.read_metadata(file.path)
    except (OSError, pa.ArrowException):
        return [Piece(file, size=file.bytes)]
    if field not in about.schema.names:
        return [Piece(file, size=file.bytes)]
    column = about.schema.names.index(field)
    held = [about.row_group(n).column(column).total_uncompressed_size for n in range(about.num_row_groups)]
    pieces, first = [], 0
    for number in range(len(held)):
        if sum(held[first : number + 1]) >= size or number == len(held) - 1:
            pieces.append(Piece(file, first, number + 1, sum(held[first : number + 1])))
            first = number + 1
    return pieces


def read_piece(piece: Piece, field: str) -> Iterator[Row | Unreadable]:
    """The rows of a piece, in order. Those of a range of bytes count from 1 at its first line, others in their file.

    Raises DataError as ``read_rows``. Memory: the largest row and a piece of the file.
    """
    if not piece.stop:
        return read_file(piece.file, field)
    if piece.file.format == "parquet":
        return read_groups(piece.file, field, range(piece.start, piece.stop))
    return _lines(piece, field)


def _lines(piece: Piece, field: str) -> Iterator[Row | Unreadable]:
    """The lines that begin in ``start`` to ``stop``; blank ones are no rows, but count."""
    try:
        for number, line in enumerate(_begun(piece), start=1):
            content = line.removeprefix(b"\xef\xbb\xbf").strip() if not piece.start and number == 1 else line.strip()
            if content:
                yield json_row(piece.file.name, number, content, field)
    except OSError as error:
        raise DataError(f"{piece.file.path} cannot be read ({error.strerror}). Correct its permissions.") from error


def _begun(piece: Piece) -> Iterator[bytes]:
    with piece.file.path.open("rb") as stream:
        at = piece.start
        if piece.start:
            stream.seek(piece.start - 1)
            at += len(stream.readline()) - 1  # the end of a line that began before, or just its line feed
        while at < piece.stop and (line := stream.readline()):
            at += len(line)
            yield line


def count_lines(piece: Piece) -> int:
    """The lines that begin before a piece of bytes; cost: reading the file up to it."""
    left, lines = piece.start, 0
    with piece.file.path.open("rb") as stream:
        last = b"\n"
        while left and (content := stream.read(min(left, 1 << 20))):
            left -= len(content)
            lines += content.count(b"\n")
            last = content[-1:]
    return lines + (last != b"\n")
