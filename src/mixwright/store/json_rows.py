"""Rows of documents out of JSONL: orjson where it can, and the standard library where it refuses, which says why.

Both give the same rows. The quick way never decides that a row is unreadable.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from mixwright.store.documents import Row, SourceOptions, Unreadable, start_of
from mixwright.store.meta_json import dumps
from mixwright.store.pieces import Piece
from mixwright.store.streams import DamagedStream, Limits, LongLine, Meter, chunks, lines, raw

_BOM = b"\xef\xbb\xbf"


def jsonl_rows(
    piece: Piece, given: SourceOptions, *, first_row: int, meta: bool, limits: Limits, meter: Meter
) -> Iterator[Row | Unreadable]:
    """The lines of a piece; blank ones are no rows, but count. Without ``meta`` it is ``{}`` where that saves time."""
    name, number, loads = piece.file.name, first_row, _loads()
    try:
        for number, line in enumerate(_begun(piece, meter, limits), start=first_row + 1):
            if isinstance(line, LongLine):
                yield Unreadable(name, number, limits.too_long(line.size), start_of(line.start))
                continue
            if not line:
                continue
            row: Row | Unreadable | None = _quick(name, number, line, given, loads, meta) if loads else None
            if row is None:
                content = (line.removeprefix(_BOM) if number == 1 and not piece.start else line).strip()
                row = json_row(name, number, content, given) if content else None
            if row is not None:
                yield row
    except DamagedStream as error:
        yield Unreadable(name, number + 1, f"{error}; what follows is lost", start_of(error.tail))


def _begun(piece: Piece, meter: Meter, limits: Limits) -> Iterator[bytes | LongLine]:
    """The lines that begin in the piece."""
    file = piece.file
    if not piece.stop:
        yield from lines(chunks(file.place, file.bytes, meter, limits), limits.row)
        return
    at = max(0, piece.start - 1)
    found = lines(raw(file.place, at, file.bytes, meter), limits.row)
    if piece.start:  # the end of a line that began before, or just its line feed
        at += _size(next(found, b"")) + 1
    for line in found:
        if at >= piece.stop:
            return
        at += _size(line) + 1
        yield line


def _size(line: bytes | LongLine) -> int:
    return line.size if isinstance(line, LongLine) else len(line)


def _loads() -> Callable[[bytes], Any] | None:
    try:
        import orjson
    except ModuleNotFoundError:
        return None
    return orjson.loads


def _quick(
    name: str, number: int, line: bytes, given: SourceOptions, loads: Callable[[bytes], Any], meta: bool
) -> Row | None:
    """The row, or None where only ``json_row`` can tell."""
    try:
        value = loads(line)
    except ValueError:
        return None
    if type(value) is not dict:
        return None
    picked = _picked(value, given)
    if isinstance(picked, str):
        return None
    told = _told(value) if meta and value else "{}"
    row = Row(name, number, picked[0], told, *picked[1:])
    if "e+" in told:  # may be a whole number of more than 64 bits, which orjson takes for a float
        exact = json_row(name, number, line, given)
        return exact if isinstance(exact, Row) else row
    return row


def json_row(name: str, number: int, line: bytes, given: SourceOptions) -> Row | Unreadable:
    """Line ``number`` of the JSONL file ``name``, without its end."""
    try:
        value = json.loads(line.decode("utf-8"))
        picked = (
            _picked(value, given) if isinstance(value, dict) else f"the line is not a JSON object but {_kind(value)}"
        )
        if not isinstance(picked, str):
            told = _told(value) if value else "{}"
            (picked[0] + told).encode("utf-8")
            return Row(name, number, picked[0], told, *picked[1:])
        reason = picked
    except UnicodeDecodeError as error:
        reason = f"the line is not UTF-8 (byte {line[error.start]:#04x} at {error.start})"
    except UnicodeEncodeError:
        reason = "the line holds half of a surrogate pair, which is no character"
    except (ValueError, RecursionError) as error:
        reason = f"the line is not JSON ({error})"
    return Unreadable(name, number, reason, start_of(line))


def _picked(value: dict[str, Any], given: SourceOptions) -> tuple[str, str | None, str | None] | str:
    """Text, prompt and response, taken out of ``value``; or why it has none."""
    fields = (given.text,) if given.response is None else given.fields
    for field in fields:
        if type(value.get(field)) is not str:
            if field in value:
                return f"the field {field!r} is not a string but {_kind(value[field])}"
            return f"the object has no field {field!r}; it has {', '.join(map(repr, list(value)[:8])) or 'none'}"
    if given.response is None:
        return value.pop(given.text), None, None
    prompt, response = "\n".join(filter(None, (value[field] for field in given.prompt))), value[given.response]
    for field in fields:
        del value[field]
    return f"{prompt}\n{response}", prompt, response


def _told(value: dict[str, Any]) -> str:
    try:
        return dumps(value)
    except RecursionError:
        return '{"unreadable":"nested too deep"}'


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
