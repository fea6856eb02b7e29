"""Files as streams of bytes and lines, decompressed on the way; a damaged one gives all that could be had first."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mixwright.core.errors import DataError, StudyError

#: endings of names that say how a file is compressed
COMPRESSED = frozenset({".gz", ".zst"})
#: what a compressed file may unpack to whatever its size
_FREE = 64 << 20
#: bytes read from a file at once
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Limits:
    """How much a file may unpack to, as a multiple of its size, and a row may hold, in bytes of text."""

    inflation: float = 1000.0
    row: int = 256 << 20

    def most(self, packed: int) -> float:
        """The bytes that ``packed`` ones may become; small files may always become 64 MB."""
        return max(_FREE, self.inflation * packed)

    @property
    def told(self) -> str:
        """``1000 times``, for sentences."""
        return f"{self.inflation:.10g} times"

    def too_long(self, size: int) -> str:
        """Why a row of ``size`` bytes is not read."""
        return f"the row has {size:,} bytes, more than the {self.row:,} that a row may have"


@dataclass
class Meter:
    """How many bytes of a file have been read."""

    bytes: int = 0


class DamagedStream(Exception):
    """A compressed stream ends early or is not one; ``tail`` is the line it broke in."""

    tail: bytes = b""


def chunks(path: Path, meter: Meter) -> Iterator[bytes]:
    """A file's bytes, decompressed by the end of its name, a piece at a time.

    Raises DamagedStream after all that could be had, and DataError if the file cannot be opened.
    """
    try:
        with path.open("rb") as stream:
            raw = _metered(iter(lambda: stream.read(_CHUNK), b""), meter)
            yield from _decompressed(raw, path.suffix.lower()) if path.suffix.lower() in COMPRESSED else raw
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}). Correct its permissions or remove it.") from error


def lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Lines without their end; memory is one piece and the longest line."""
    open_line: list[bytes] = []
    try:
        for piece in pieces:
            first, *others = piece.split(b"\n")
            open_line.append(first)
            if others:
                yield b"".join(open_line)
                yield from others[:-1]
                open_line = [others[-1]]
    except DamagedStream as error:
        error.tail = b"".join(open_line)
        raise
    if any(open_line):
        yield b"".join(open_line)


def _metered(pieces: Iterable[bytes], meter: Meter) -> Iterator[bytes]:
    for piece in pieces:
        meter.bytes += len(piece)
        yield piece


def _decompressed(pieces: Iterable[bytes], suffix: str) -> Iterator[bytes]:
    """Frame after frame; that the last one is whole is checked, which the libraries' file objects do not all do."""
    start, failure = _gzip() if suffix == ".gz" else _zstd()
    frame: Any = None
    empty = True
    for piece in pieces:
        rest, empty = piece, False
        while rest:
            frame = frame or start()
            try:
                content = frame.decompress(rest)
            except failure as error:
                raise DamagedStream(f"the {suffix} stream is damaged here ({error})") from error
            if content:
                yield content
            rest = frame.unused_data if frame.eof else b""
            frame = None if frame.eof else frame
    if frame is not None or empty:
        raise DamagedStream(f"the {suffix} stream is truncated: it ends before its frame does")


def _gzip() -> tuple[Any, type[Exception]]:
    return lambda: zlib.decompressobj(wbits=31), zlib.error


def _zstd() -> tuple[Any, type[Exception]]:
    try:
        import zstandard
    except ModuleNotFoundError as error:
        raise StudyError("Reading .zst needs zstandard: pip install 'mixwright[curate]'.") from error
    return lambda: zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj(), zstandard.ZstdError
