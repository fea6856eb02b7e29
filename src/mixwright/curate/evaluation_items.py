"""Items of evaluations as the user names them: files, and fields of their rows.

Read through ``store.documents``, so in every format that documents have.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mixwright.core.errors import DataError, StudyError
from mixwright.store.batches import read_piece
from mixwright.store.documents import SourceOptions, Unreadable, find_files, fingerprint
from mixwright.store.pieces import Piece


@dataclass(frozen=True)
class Item:
    """One row: ``name`` is its file and row (from 1), ``text`` its fields joined by line feeds."""

    name: str
    text: str


def read_items(paths: Sequence[str], fields: Sequence[str], base: Path) -> Iterator[Item]:
    """The items of all files, in order. DataError if a path is missing or a row cannot be read: none may go unnoticed.

    The first field must be a string; of the others numbers and lists of strings count as well, absent ones do not.
    """
    check(paths, fields)
    for path in paths:
        source = SourceOptions(path, text=fields[0])
        for file in find_files(source, base)[0]:
            for row in read_piece(Piece(file), source):
                if isinstance(row, Unreadable):
                    raise DataError(f"{path}: row {row.row} of {row.path} cannot be read: {row.reason}.")
                others = json.loads(row.meta)
                parts = [row.text, *(part for name in fields[1:] for part in _strings(others.get(name)))]
                yield Item(f"{row.path} row {row.row}", "\n".join(parts))


def check(paths: Sequence[str], fields: Sequence[str]) -> None:
    """StudyError if there are no paths or no fields."""
    if not paths or not fields:
        raise StudyError("paths and fields must not be empty: name the files to compare with, and their text fields.")


def identity(paths: Sequence[str], base: Path) -> str:
    """A hash of the files' names and contents."""
    digest = hashlib.blake2b(digest_size=16)
    for path in paths:
        digest.update(fingerprint(SourceOptions(path), base).encode())
    return digest.hexdigest()


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, int | float):
        yield str(value)
    elif isinstance(value, list):
        for one in value:
            yield from _strings(one)
    elif isinstance(value, dict):
        for one in value.values():
            yield from _strings(one)
