"""Documents on disk: JSONL (plain, .gz, .zst), Parquet and text files in, Parquet out.

Reading streams and loses nothing: a row that cannot be read becomes an ``Unreadable`` with its number and a sentence,
and the rest of its file is still read. Row numbers count from 1 (the line of a JSONL file, the row of a Parquet file, 1
for a text file); ids are ``core.document.document_id`` of the same row counted from 0.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mixwright.core.errors import DataError, StudyError

if TYPE_CHECKING:
    import pyarrow as pa

#: what a file is read as, by the end of its name; a compression's ending may follow, except after ``.parquet``
_FORMATS: dict[str, Literal["jsonl", "parquet", "text"]] = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".parquet": "parquet", ".txt": "text", ".md": "text",
}  # fmt: skip
_COMPRESSED = frozenset({".gz", ".zst"})
#: bytes read from a file at once
_CHUNK = 1 << 20
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
    ``licence`` and ``rule`` (how the text was chosen) are shown beside every figure.
    """

    path: str
    format: Literal["auto", "jsonl", "parquet", "text"] = "auto"
    text: str = "text"
    licence: str = ""
    rule: str = ""
    domain: str | None = None

    def __post_init__(self) -> None:
        if not self.path:
            raise StudyError("A source's path must not be empty: give a file, a folder or a glob.")
        if not self.text:
            raise StudyError(f"The text field of source {self.path} must not be empty; the usual name is 'text'.")


@dataclass(frozen=True)
class SourceFile:
    """One file of a source; ``name`` is its path relative to the source's folder, with ``/``."""

    path: Path
    name: str
    format: Literal["jsonl", "parquet", "text"]
    bytes: int


@dataclass(frozen=True, slots=True)
class Row:
    """A readable row: ``row`` counts from 1 within the file ``path`` (its name), ``meta`` is its other fields as JSON."""

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
    root, paths = _candidates(options, base)
    explicit = None if options.format == "auto" else options.format
    files, ignored = [], 0
    for path in paths:
        kind = _format_of(path)
        if explicit is not None and (root is None or explicit == "text"):
            kind = explicit
        if kind is None and root is None:
            raise DataError(
                f"Cannot tell the format of {path} from its name. Set format: jsonl, parquet or text for it, or name "
                f"it with one of {', '.join(_FORMATS)}."
            )
        if kind is None or (explicit is not None and kind != explicit):
            ignored += 1
            continue
        name = path.name if root is None else path.relative_to(root).as_posix()
        files.append(SourceFile(path, _printable(name), kind, path.stat().st_size))
    if not files:
        wanted = ", ".join(_FORMATS) if explicit is None else f"format {explicit}"
        others = f" (it holds {ignored} other files)" if ignored else ""
        raise DataError(
            f"{root} holds no file to read{others}: none of {wanted}. Put text there, or set path or format."
        )
    return tuple(sorted(files, key=lambda file: file.name)), ignored


def _candidates(options: SourceOptions, base: Path) -> tuple[Path | None, list[Path]]:
    """The folder that is searched (None: one file or a glob names them) and every file that could be meant."""
    whole = base / Path(options.path).expanduser()
    if whole.is_dir():
        paths = [Path(folder, name) for folder, _, names in _walk(whole) for name in names]
        if not paths:
            raise DataError(f"The folder {whole} is empty. Put text files in it, or set another path.")
        return whole, paths
    if whole.is_file():
        return None, [whole]
    parts = Path(options.path).expanduser().parts
    fixed = next((at for at, part in enumerate(parts) if any(mark in part for mark in "*?[")), None)
    if fixed is None:
        raise DataError(f"There is no file or folder {whole}. Correct the path.")
    root = base.joinpath(*parts[:fixed])
    found = [path for path in root.glob("/".join(parts[fixed:])) if path.is_file() and not path.name.startswith(".")]
    if not found:
        raise DataError(f"No file matches {whole}. Correct the pattern.")
    twice = len({path.name for path in found}) < len(found)
    return (root, found) if twice or any(_format_of(path) for path in found) else (None, found)


def _walk(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield here, folders, [name for name in names if not name.startswith(".") and Path(here, name).is_file()]


def _format_of(path: Path) -> Literal["jsonl", "parquet", "text"] | None:
    suffix = path.suffix.lower()
    if suffix in _COMPRESSED:
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
        digest.update(file.path.read_bytes() if by_content else str(file.path.stat().st_mtime_ns).encode())
    return digest.hexdigest()


def read_rows(options: SourceOptions, base: Path, *, batch_bytes: int = 4 << 20) -> Iterator[Batch]:
    """Every row of a source in batches of about ``batch_bytes`` of text, files in the order of their names.

    Memory: one batch and the largest row. Raises DataError if the path is missing, a file cannot be opened, or a Parquet
    file has no column of strings of that name; anything else that cannot be read is in ``Batch.unreadable``.
    """
    files, _ = find_files(options, base)
    whole = max(1, sum(file.bytes for file in files))
    before, size = 0, 0
    rows: list[Row] = []
    unreadable: list[Unreadable] = []
    for file in files:
        meter = _Meter()
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


@dataclass
class _Meter:
    """How many bytes of a file have been read."""

    bytes: int = 0


class _DamagedStream(Exception):
    """A compressed stream ends early or is not one; ``tail`` is the line it broke in."""

    tail: bytes = b""


def _chunks(path: Path, meter: _Meter) -> Iterator[bytes]:
    """A file's bytes, decompressed by the end of its name. Raises _DamagedStream, after all that could be had."""
    try:
        with path.open("rb") as stream:
            raw = _metered(iter(lambda: stream.read(_CHUNK), b""), meter)
            yield from _decompressed(raw, path.suffix.lower()) if path.suffix.lower() in _COMPRESSED else raw
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}). Correct its permissions or remove it.") from error


def _metered(chunks: Iterable[bytes], meter: _Meter) -> Iterator[bytes]:
    for chunk in chunks:
        meter.bytes += len(chunk)
        yield chunk


def _decompressed(chunks: Iterable[bytes], suffix: str) -> Iterator[bytes]:
    """Frame after frame; that the last one is whole is checked, which the libraries' file objects do not all do."""
    import zstandard

    def start() -> Any:
        return zlib.decompressobj(wbits=31) if suffix == ".gz" else zstandard.ZstdDecompressor().decompressobj()

    frame: Any = None
    for chunk in chunks:
        rest = chunk
        while rest:
            frame = frame or start()
            try:
                content = frame.decompress(rest)
            except (zlib.error, zstandard.ZstdError) as error:
                raise _DamagedStream(f"the {suffix} stream is damaged here ({error})") from error
            if content:
                yield content
            rest = frame.unused_data if frame.eof else b""
            frame = None if frame.eof else frame
    if frame is not None:
        raise _DamagedStream(f"the {suffix} stream is truncated: it ends here, in the middle of a frame")


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Lines without their end; memory is one chunk and the longest line."""
    pieces: list[bytes] = []
    try:
        for chunk in chunks:
            first, *others = chunk.split(b"\n")
            pieces.append(first)
            if others:
                yield b"".join(pieces)
                yield from others[:-1]
                pieces = [others[-1]]
    except _DamagedStream as error:
        error.tail = b"".join(pieces)
        raise
    if any(pieces):
        yield b"".join(pieces)


def _jsonl(file: SourceFile, field: str, meter: _Meter) -> Iterator[Row | Unreadable]:
    """Blank lines are no rows; they count as lines."""
    number = 0
    try:
        for number, line in enumerate(_lines(_chunks(file.path, meter)), start=1):
            content = line.removeprefix(b"\xef\xbb\xbf").strip() if number == 1 else line.strip()
            if content:
                yield _json_row(file.name, number, content, field)
    except _DamagedStream as error:
        yield Unreadable(file.name, number + 1, f"{error}; what follows is lost", _start(error.tail))


def _json_row(name: str, number: int, line: bytes, field: str) -> Row | Unreadable:
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
            (text if text.isascii() else text + meta).encode("utf-8")
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


def _text(file: SourceFile, field: str, meter: _Meter) -> Iterator[Row | Unreadable]:
    pieces: list[bytes] = []
    try:
        pieces.extend(_chunks(file.path, meter))
        content = b"".join(pieces)
        yield Row(file.name, 1, content.decode("utf-8-sig"), "{}")
    except _DamagedStream as error:
        yield Unreadable(file.name, 1, str(error), _start(b"".join(pieces)))
    except UnicodeDecodeError as error:
        reason = f"the file is not UTF-8 (byte {content[error.start]:#04x} at {error.start})"
        yield Unreadable(file.name, 1, reason, _start(content))


def _parquet(file: SourceFile, field: str, meter: _Meter) -> Iterator[Row | Unreadable]:
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
        before = 0
        for group in range(table.num_row_groups):
            done = 0
            try:
                for batch in table.iter_batches(batch_size=1024, row_groups=[group]):
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
    others = [column for column in batch.schema.names if column != field]
    metas = batch.select(others).to_pylist() if others else [{}] * batch.num_rows
    for number, (value, meta) in enumerate(zip(batch.column(field), metas, strict=True), start=first):
        try:
            text = value.as_py()
        except UnicodeDecodeError as error:
            yield Unreadable(name, number, f"the text is not UTF-8 (at byte {error.start})")
            continue
        if text is None:
            yield Unreadable(name, number, f"the field {field!r} is null")
            continue
        yield Row(name, number, text, json.dumps(meta, ensure_ascii=False, default=str) if meta else "{}")


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


_READERS = {"jsonl": _jsonl, "parquet": _parquet, "text": _text}


class TableWriter:
    """Writes a Parquet file row by row, zstd level 1; bytes depend on the rows alone, not on how they came.

    A context manager: the file is written aside and takes its name when the block ends without error. A row group is
    closed after ``group_bytes`` of what ``add`` was told, or 65 536 rows.
    """

    def __init__(self, path: Path, schema: pa.Schema, *, group_bytes: int = 16 << 20) -> None:
        self._path, self._schema, self._group_bytes = path, schema, group_bytes
        self._columns: dict[str, list[Any]] = {name: [] for name in schema.names}
        self._waiting = 0
        self._size = 0
        self.rows = 0

    def __enter__(self) -> TableWriter:
        import pyarrow.parquet as pq

        from mixwright.store.artifact import written_aside

        self._aside = written_aside(self._path)
        self._writer = pq.ParquetWriter(self._aside.__enter__(), self._schema, compression="zstd", compression_level=1)
        return self

    def add(self, row: dict[str, Any], size: int = 0) -> None:
        """One row, every column named; ``size`` is about how many bytes it takes."""
        for name, values in self._columns.items():
            values.append(row[name])
        self.rows += 1
        self._waiting += 1
        self._size += size
        if self._size >= self._group_bytes or self._waiting >= 65_536:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        if self._waiting:
            self._writer.write_table(pa.table(self._columns, schema=self._schema))
            self._columns = {name: [] for name in self._schema.names}
            self._waiting = self._size = 0

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        try:
            if kind is None:
                self._flush()
            self._writer.close()
        except BaseException as failure:
            self._aside.__exit__(type(failure), failure, failure.__traceback__)
            raise
        self._aside.__exit__(kind, error, trace)


def document_schema() -> pa.Schema:
    """The columns of documents as Arrow sees them: all strings, in the order of ``core.document.COLUMNS``."""
    import pyarrow as pa

    from mixwright.core.document import COLUMNS

    return pa.schema([pa.field(name, pa.large_string() if name == "text" else pa.string()) for name in COLUMNS])
