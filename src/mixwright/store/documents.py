"""Documents on disk: JSONL (plain, .gz, .zst), Parquet and text files in, Parquet out.

Reading streams and loses nothing: a row that cannot be read becomes an ``Unreadable`` with its number and a sentence,
and the rest of its file is still read. Row numbers count from 1 (the line of a JSONL file, the row of a Parquet file, 1
for a text file); ids are ``core.document.document_id`` of the same row counted from 0.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mixwright.core.errors import DataError, StudyError
from mixwright.store.artifact import file_hash
from mixwright.store.streams import COMPRESSED, DamagedStream, Meter, chunks, lines

if TYPE_CHECKING:
    import pyarrow as pa

#: what a file is read as, by the end of its name; a compression's ending may follow, except after ``.parquet``
_FORMATS: dict[str, Literal["jsonl", "parquet", "text"]] = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".parquet": "parquet", ".txt": "text", ".md": "text",
}  # fmt: skip
#: sources up to this many bytes are identified by their content, larger ones by names, sizes and times of change
_HASH_CONTENT = 256 << 20
#: characters of an unreadable row that are kept to show it
_SHOWN = 120


@dataclass(frozen=True)
class SourceOptions:
    """Where a source's text lies.

    ``path`` is a file, a folder (taken recursively) or a glob, relative to the study file's folder. ``format`` ``auto``
    goes by the end of each name; ``jsonl`` and ``parquet`` rows hold their text in the field ``text``; ``text`` makes
    one document of each file. ``domain`` is the domain its text belongs to (none: one named as the source).
    ``licence`` and ``rule`` (how the text was chosen) are shown beside every figure. Instruction rows: ``prompt`` names the
    fields whose values, joined by line feeds, are the prompt, ``response`` the field of the response; the text is then
    both, a line feed between them, and ``text`` is not looked for.
    """

    path: str
    format: Literal["auto", "jsonl", "parquet", "text"] = "auto"
    text: str = "text"
    licence: str = ""
    rule: str = ""
    domain: str | None = None
    prompt: tuple[str, ...] = ()
    response: str | None = None

    def __post_init__(self) -> None:
        if not self.path:
            raise StudyError("A source's path must not be empty: give a file, a folder or a glob.")
        if not self.text:
            raise StudyError(f"The text field of source {self.path} must not be empty; the usual name is 'text'.")
        object.__setattr__(self, "prompt", tuple(self.prompt))
        if bool(self.prompt) != (self.response is not None):
            raise StudyError(
                f"Source {self.path} names only one of prompt and response: an instruction row has both fields."
            )


    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that hold the text."""
        return (self.text,) if self.response is None else tuple(dict.fromkeys([*self.prompt, self.response]))


@dataclass(frozen=True)
class SourceFile:
    """One file of a source; ``name`` is its path relative to the source's folder, with ``/``."""

    path: Path
    name: str
    format: Literal["jsonl", "parquet", "text"]
    bytes: int


@dataclass(frozen=True, slots=True)
class Row:
    """A readable row: ``row`` counts from 1 within the file ``path`` (its name), ``meta`` its other fields as JSON."""

    path: str
    row: int
    text: str
    meta: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A row that could not be read, why, and how it starts."""

    path: str
    row: int
    reason: str
    start: str = ""


@dataclass(frozen=True)
class Batch:
    """Some rows, in order; ``fraction`` of the source's bytes has been read when it is handed out."""

    rows: list[Row]
    unreadable: list[Unreadable]
    fraction: float


def find_files(options: SourceOptions, base: Path) -> tuple[tuple[SourceFile, ...], int]:
    """The files of a source, sorted by name, and how many others of its folder are of no format that is read here.

    Names that begin with a dot are passed over. Raises DataError if the path is missing, or no file is left.
    """
    place = _place(options.path, base)
    files, ignored = [], 0
    for path in place.paths:
        kind = _format_of(path)
        if options.format != "auto" and (place.named or options.format == "text"):
            kind = options.format
        if kind is None or options.format not in ("auto", kind):
            ignored += 1
        else:
            name = _printable(path.relative_to(place.root).as_posix())
            files.append(SourceFile(path, name, kind, path.stat().st_size))
    if not files:
        count = f"its {ignored} file{'s' if ignored > 1 else ''}"
        raise DataError(
            f"{place.root}: {count} cannot be read by name; known are {', '.join(_FORMATS)}, the text ones also with "
            f"{' or '.join(sorted(COMPRESSED))} behind. Rename them, or set format: jsonl, parquet or text."
        )
    return tuple(sorted(files, key=lambda file: file.name)), ignored


@dataclass(frozen=True)
class _Place:
    """``paths`` below ``root``; ``named``: the study named them by file or pattern, not by their folder."""

    root: Path
    paths: list[Path]
    named: bool


def _place(path: str, base: Path) -> _Place:
    whole = base / Path(path).expanduser()
    if whole.is_dir():
        paths = [Path(folder, name) for folder, names in _walk(whole) for name in names]
        if not paths:
            raise DataError(f"The folder {whole} is empty. Put text files in it, or set another path.")
        return _Place(whole, paths, named=False)
    if whole.is_file():
        return _Place(whole.parent, [whole], named=True)
    parts = Path(path).expanduser().parts
    fixed = next((at for at, part in enumerate(parts) if any(mark in part for mark in "*?[")), None)
    if fixed is None:
        raise DataError(f"There is no file or folder {whole}. Correct the path.")
    root = base.joinpath(*parts[:fixed])
    matches = sorted(set(root.glob("/".join(parts[fixed:]))))
    found = [file for file in matches if file.is_file() and not file.name.startswith(".")]
    if not found:
        raise DataError(f"No file matches {whole}. Correct the pattern.")
    return _Place(root, found, named=True)


def _walk(folder: Path) -> Iterator[tuple[str, list[str]]]:
    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename} cannot be read ({error.strerror}). Correct its permissions.")

    for here, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield here, [name for name in names if not name.startswith(".") and Path(here, name).is_file()]


def _format_of(path: Path) -> Literal["jsonl", "parquet", "text"] | None:
    suffix = path.suffix.lower()
    if suffix in COMPRESSED:
        inner = _FORMATS.get(Path(path.stem).suffix.lower())
        return None if inner == "parquet" else inner
    return _FORMATS.get(suffix)


def _printable(name: str) -> str:
    """A file's name as text that UTF-8 can hold: bytes that are not UTF-8 show as ``\\xNN``."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def fingerprint(source: SourceOptions, base: Path) -> str:
    """What identifies a source's files, 32 hex digits: names and content, or times of change above 256 MB.

    Raises DataError as ``find_files``. Cost: reading at most 256 MB.
    """
    files, _ = find_files(source, base)
    by_content = sum(file.bytes for file in files) <= _HASH_CONTENT
    digest = hashlib.blake2b(digest_size=16)
    for file in files:
        digest.update(f"{file.name}\x00{file.bytes}\x00{file.format}\x00".encode())
        try:
            digest.update((file_hash(file.path) if by_content else str(file.path.stat().st_mtime_ns)).encode())
        except OSError as error:
            raise DataError(f"{file.path} cannot be read ({error.strerror}). Correct its permissions.") from error
    return digest.hexdigest()


def read_rows(options: SourceOptions, base: Path, *, batch_bytes: int = 4 << 20) -> Iterator[Batch]:
    """Every row of a source in batches of about ``batch_bytes`` of text, files in the order of their names.

    Memory: one batch and the largest row. Raises DataError if the path is missing, a file cannot be opened, or a
    Parquet file has no column of strings of that name; anything else that cannot be read is in ``Batch.unreadable``.
    """
    files, _ = find_files(options, base)
    whole = max(1, sum(file.bytes for file in files))
    before, size = 0, 0
    rows: list[Row] = []
    unreadable: list[Unreadable] = []
    for file in files:
        meter = Meter()
        for row in _READERS[file.format](file, options.text, meter):
            if isinstance(row, Row):
                rows.append(row)
                size += len(row.text)
            else:
                unreadable.append(row)
                size += _SHOWN
            if size >= batch_bytes:
                yield Batch(rows, unreadable, min(1.0, (before + meter.bytes) / whole))
                rows, unreadable, size = [], [], 0
        before += file.bytes
    yield Batch(rows, unreadable, 1.0)


def _jsonl(file: SourceFile, field: str, meter: Meter) -> Iterator[Row | Unreadable]:
    """Blank lines are no rows; they count as lines."""
    number = 0
    try:
        for number, line in enumerate(lines(chunks(file.path, meter)), start=1):
            content = line.removeprefix(b"\xef\xbb\xbf").strip() if number == 1 else line.strip()
            if content:
                yield json_row(file.name, number, content, field)
    except DamagedStream as error:
        yield Unreadable(file.name, number + 1, f"{error}; what follows is lost", _start(error.tail))


def json_row(name: str, number: int, line: bytes, field: str) -> Row | Unreadable:
    """Line ``number`` of the JSONL file ``name``, without its end."""
    try:
        value = json.loads(line.decode("utf-8"))
        if not isinstance(value, dict):
            reason = f"the line is not a JSON object but {_kind(value)}"
        elif field not in value:
            reason = f"the object has no field {field!r}; it has {', '.join(map(repr, list(value)[:8])) or 'none'}"
        elif not isinstance(value[field], str):
            reason = f"the field {field!r} is not a string but {_kind(value[field])}"
        else:
            text = value.pop(field)
            meta = json.dumps(value, ensure_ascii=False, separators=(",", ":")) if value else "{}"
            (text + meta).encode("utf-8")
            return Row(name, number, text, meta)
    except UnicodeDecodeError as error:
        reason = f"the line is not UTF-8 (byte {line[error.start]:#04x} at {error.start})"
    except UnicodeEncodeError:
        reason = "the line holds half of a surrogate pair, which is no character"
    except (ValueError, RecursionError) as error:
        reason = f"the line is not JSON ({error})"
    return Unreadable(name, number, reason, _start(line))


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _start(content: bytes) -> str:
    return content[: 4 * _SHOWN].decode("utf-8", "replace")[:_SHOWN]


def _text(file: SourceFile, field: str, meter: Meter) -> Iterator[Row | Unreadable]:
    pieces: list[bytes] = []
    try:
        pieces.extend(chunks(file.path, meter))
        content = b"".join(pieces)
        yield Row(file.name, 1, content.decode("utf-8-sig"), "{}")
    except DamagedStream as error:
        yield Unreadable(file.name, 1, str(error), _start(b"".join(pieces)))
    except UnicodeDecodeError as error:
        reason = f"the file is not UTF-8 (byte {content[error.start]:#04x} at {error.start})"
        yield Unreadable(file.name, 1, reason, _start(content))


def _parquet(
    file: SourceFile, field: str, meter: Meter, groups: range | None = None, columns: list[str] | None = None
) -> Iterator[Row | Unreadable]:
    """All row groups, or ``groups``; all columns, or ``columns``."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(file.path)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        yield Unreadable(file.name, 1, f"the file is not Parquet, or is truncated ({_first_line(error)})")
        return
    except OSError as error:
        raise DataError(f"{file.path} cannot be read ({error}). Correct its permissions or remove it.") from error
    with table:
        _check_column(file.path, table.schema_arrow, field)
        wanted = range(table.num_row_groups) if groups is None else groups
        before = sum(table.metadata.row_group(group).num_rows for group in range(wanted.start))
        for group in wanted:
            done = 0
            try:
                for batch in table.iter_batches(batch_size=1024, row_groups=[group], columns=columns):
                    yield from _arrow_rows(file.name, before + done + 1, batch, field)
                    done += batch.num_rows
            except (OSError, pa.ArrowException) as error:
                reason = f"row group {group} is damaged ({_first_line(error)})"
                for row in range(done, table.metadata.row_group(group).num_rows):
                    yield Unreadable(file.name, before + row + 1, reason)
            before += table.metadata.row_group(group).num_rows
            meter.bytes = file.bytes * (group + 1) // table.num_row_groups


def _check_column(path: Path, schema: pa.Schema, field: str) -> None:
    import pyarrow as pa

    if field not in schema.names:
        raise DataError(
            f"{path} has no column {field!r}; it has {', '.join(schema.names)}. Name the text column with text: NAME."
        )
    kind = schema.field(field).type
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not (pa.types.is_string(value) or pa.types.is_large_string(value) or pa.types.is_string_view(value)):
        raise DataError(
            f"The column {field!r} of {path} holds {kind}, not strings. Name the text column with text: NAME."
        )


def _arrow_rows(name: str, first: int, batch: pa.RecordBatch, field: str) -> Iterator[Row | Unreadable]:
    for at in range(batch.num_rows):
        try:
            meta = {column: batch.column(column)[at].as_py() for column in batch.schema.names}
        except UnicodeDecodeError as error:
            yield Unreadable(name, first + at, f"the row is not UTF-8 (at byte {error.start} of a field)")
            continue
        text = meta.pop(field)
        if text is None:
            yield Unreadable(name, first + at, f"the field {field!r} is null")
        else:
            yield Row(name, first + at, text, json.dumps(meta, ensure_ascii=False, default=str) if meta else "{}")


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def read_file(file: SourceFile, field: str) -> Iterator[Row | Unreadable]:
    """Every row of one file, in order; raises as ``read_rows``. Memory: the largest row and a piece of the file."""
    return _READERS[file.format](file, field, Meter())


def read_groups(file: SourceFile, field: str, groups: range) -> Iterator[Row | Unreadable]:
    """The rows of some row groups of a Parquet file, without their other columns; raises as ``read_rows``."""
    return _parquet(file, field, Meter(), groups, [field])


_READERS = {"jsonl": _jsonl, "parquet": _parquet, "text": _text}


def document_schema() -> pa.Schema:
    """The columns of documents as Arrow sees them: all strings, in the order of ``core.document.COLUMNS``."""
    import pyarrow as pa

    from mixwright.core.document import COLUMNS

    return pa.schema([pa.field(name, pa.large_string() if name == "text" else pa.string()) for name in COLUMNS])
