"""Reading in tests: every row of a file or folder, and files packed as their names say."""

import gzip
from pathlib import Path
from typing import Any

import zstandard

from mixwright.store.batches import RowBatch, read_batches, read_piece
from mixwright.store.documents import Row, SourceOptions, Unreadable, find_files
from mixwright.store.pieces import Piece


def everything(base: Path, path: str = ".", **options: Any) -> tuple[list[Row], list[Unreadable]]:
    """Readable and unreadable rows, read one by one."""
    given = SourceOptions(path, **options)
    found = [row for file in find_files(given, base)[0] for row in read_piece(Piece(file), given)]
    return [row for row in found if isinstance(row, Row)], [row for row in found if isinstance(row, Unreadable)]


def batches(base: Path, path: str = ".", *, given: SourceOptions | None = None, **options: Any) -> list[RowBatch]:
    """All batches of all files."""
    given = given or SourceOptions(path)
    return [batch for file in find_files(given, base)[0] for batch in read_batches(Piece(file), given, **options)]


def pack(content: bytes, suffix: str) -> bytes:
    """``content`` as a file of that ending holds it."""
    return {"": lambda b: b, ".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress}[suffix](content)
