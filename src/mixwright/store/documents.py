"""Documents on disk or behind URLs: JSONL (plain, .gz, .zst), Parquet and text files. ``batches.py`` reads them.

Reading streams and loses nothing: a row that cannot be read becomes an ``Unreadable`` with its number and a sentence,
and the rest of its file is still read. Row numbers count from 1 (the line of a JSONL file, the row of a Parquet file, 1
for a text file); ids are ``core.document.document_id`` of the same row counted from 0.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

from mixwright.core.errors import DataError, StudyError
from mixwright.store.artifact import file_hash
from mixwright.store.listing import listing, printable
from mixwright.store.place import Place
from mixwright.store.streams import COMPRESSED

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

    ``path`` is a file, a folder (taken recursively) or a glob, relative to the study file's folder, or a URL of one.
    ``format`` ``auto`` goes by the end of each name; ``jsonl`` and ``parquet`` rows hold their text in the field ``text``;
    ``text`` makes one document of each file. ``domain`` is the domain its text belongs to (none: one named as the source).
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
    """One file of a source; ``url`` is its path or URL, ``name`` what stands after the source's folder, with ``/``.

    ``tag`` changes when its content does: its time of change, or what its server gives.
    """

    url: str
    name: str
    format: Literal["jsonl", "parquet", "text"]
    bytes: int
    tag: str = field(default="", compare=False)

    @property
    def place(self) -> Place:
        """Where it lies."""
        return Place.of(self.url)

    @property
    def path(self) -> Path:
        """Where it lies here; DataError behind a URL."""
        if (found := self.place.path) is None:
            raise DataError(f"{self.url} is not a local file. Copy it here first.")
        return found


@dataclass(frozen=True, slots=True)
class Row:
    """A readable row: ``row`` counts from 1 within the file ``path`` (its name), ``meta`` its other fields as JSON.

    ``prompt`` and ``response`` are the halves of an instruction row.
    """

    path: str
    row: int
    text: str
    meta: str
    prompt: str | None = None
    response: str | None = None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A row that could not be read, why, and how it starts."""

    path: str
    row: int
    reason: str
    start: str = ""


def find_files(options: SourceOptions, base: Path) -> tuple[tuple[SourceFile, ...], int]:
    """The files of a source, sorted by name, and how many others of its place are of no format that is read here.

    Names that begin with a dot are passed over; links that lead nowhere count as others. Raises DataError if the path is
    missing, or no file is left.
    """
    place = listing(options.path, base, is_read=lambda name: _format_of(name) is not None)
    files, ignored = [], place.dead
    for found in place.files:
        kind = _format_of(found.name)
        if options.format != "auto" and (place.named or options.format == "text"):
            kind = options.format
        if kind is None or options.format not in ("auto", kind):
            ignored += 1
        else:
            files.append(SourceFile(found.url, printable(found.name), kind, found.bytes, found.tag))
    if not files:
        count = f"its {ignored} file{'s' if ignored > 1 else ''}"
        raise DataError(
            f"{place.root}: {count} cannot be read by name; known are {', '.join(_FORMATS)}, the text ones also with "
            f"{' or '.join(sorted(COMPRESSED))} behind. Rename them, or set format: jsonl, parquet or text."
        )
    return tuple(sorted(files, key=lambda file: file.name)), ignored


def _format_of(name: str) -> Literal["jsonl", "parquet", "text"] | None:
    path = PurePosixPath(name)
    suffix = path.suffix.lower()
    if suffix in COMPRESSED:
        inner = _FORMATS.get(PurePosixPath(path.stem).suffix.lower())
        return None if inner == "parquet" else inner
    return _FORMATS.get(suffix)


def fingerprint(source: SourceOptions, base: Path) -> str:
    """What identifies a source's files, 32 hex digits: names, sizes and content, or what changes with their content.

    The latter above 256 MB and behind URLs: the time of change, or the tag a server gives. Raises DataError as
    ``find_files``. Cost: reading at most 256 MB.
    """
    files, _ = find_files(source, base)
    here = all(file.place.path is not None for file in files)
    by_content = here and sum(file.bytes for file in files) <= _HASH_CONTENT
    digest = hashlib.blake2b(digest_size=16)
    for file in files:
        digest.update(f"{file.name}\x00{file.bytes}\x00{file.format}\x00".encode())
        digest.update((_hash(file.path) if by_content else file.tag).encode())
    return digest.hexdigest()


def _hash(path: Path) -> str:
    try:
        return file_hash(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}). Correct its permissions.") from error


def start_of(content: bytes) -> str:
    """How an unreadable row starts, for people."""
    return content[: 4 * _SHOWN].decode("utf-8", "replace")[:_SHOWN]


def document_schema() -> pa.Schema:
    """The columns of documents as Arrow sees them: all strings, in the order of ``core.document.COLUMNS``."""
    import pyarrow as pa

    from mixwright.core.document import COLUMNS

    return pa.schema([pa.field(name, pa.large_string() if name == "text" else pa.string()) for name in COLUMNS])
