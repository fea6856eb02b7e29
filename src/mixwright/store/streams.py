"""Files as streams of bytes and lines, decompressed on the way; a damaged one gives all that could be had first.

However a file was made, memory stays bounded: by the longest row that is allowed, and by what a few kilobytes can unpack to.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from mixwright.core.errors import DataError, StudyError
from mixwright.store.place import Place

#: endings of names that say how a file is compressed
COMPRESSED = frozenset({".gz", ".zst"})
#: what a compressed file may unpack to whatever its size
_FREE = 64 << 20
#: bytes read from a file at once, here and behind a URL
_CHUNK, _RANGE = 1 << 20, 8 << 20
#: bytes given to zstd at once: a block of 4 bytes may unpack to 128 kB (RFC 8878, 3.1.1.2), so 2 kB to 64 MB; and to
#: gzip, which packs no more than 1032 to 1 (RFC 1951: 258 bytes in 2 bits)
_FED_ZSTD, _FED_GZIP = 2048, 16_384
#: greatest window of a zstd frame, what ``zstd --long=31`` makes
_WINDOW = 1 << 31
#: bytes of a line that is too long that are kept to show it
_SHOWN = 480


@dataclass(frozen=True)
class Limits:
    """How much a file may unpack to, as a multiple of its size, and a row may hold, in bytes of text."""

    inflation: float = 1000.0
    row: int = 256 << 20

    def most(self, packed: int) -> float:
        """The bytes that ``packed`` ones may become; small files may always become 64 MB."""
        return max(_FREE, self.inflation * packed)

    def inflated(self, packed: int) -> str:
        """Why no more of ``packed`` bytes is unpacked."""
        return f"more than {self.inflation:.10g} times its {packed:,} bytes (curate.max_inflation may be raised)"

    def too_long(self, size: int) -> str:
        """Why a row of ``size`` bytes is not read."""
        return f"the row has {size:,} bytes, more than the {self.row:,} that a row may have"


@dataclass
class Meter:
    """How many bytes of a file have been read."""

    bytes: int = 0


class DamagedStream(Exception):
    """A compressed stream ends early, is not one, or unpacks to too much; ``tail`` is the line it broke in."""

    tail: bytes = b""


class LongLine(NamedTuple):
    """A line of more bytes than are allowed: how it starts, and how many it has."""

    start: bytes
    size: int


def raw(place: Place, start: int, stop: int, meter: Meter) -> Iterator[bytes]:
    """A file's bytes from ``start`` to ``stop``, a piece at a time.

    Raises DataError if it cannot be opened, or ends earlier: it was that long when it was found.
    """
    for piece in _ranges(place, start, stop) if place.path is None else _local(place.path, start, stop):
        meter.bytes += len(piece)
        start += len(piece)
        yield piece
    if start < stop:
        raise DataError(f"{place} ends after {start} of its {stop} bytes: it changed while it was read. Run again.")


def _local(path: Path, start: int, stop: int) -> Iterator[bytes]:
    try:
        with path.open("rb") as stream:
            stream.seek(start)
            while start < stop and (piece := stream.read(min(_CHUNK, stop - start))):
                start += len(piece)
                yield piece
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}). Correct its permissions or remove it.") from error


def _ranges(place: Place, start: int, stop: int) -> Iterator[bytes]:
    while start < stop and (piece := place.read(start, min(start + _RANGE, stop))):
        start += len(piece)
        yield piece


def chunks(place: Place, size: int, meter: Meter, limits: Limits | None = None) -> Iterator[bytes]:
    """The ``size`` bytes of a file, decompressed by the end of its name, a piece at a time.

    Raises DamagedStream after all that could be had, and as ``raw``.
    """
    pieces, suffix = raw(place, 0, size, meter), Path(place.name).suffix.lower()
    return _bounded(pieces, suffix, size, limits or Limits()) if suffix in COMPRESSED else pieces


def lines(pieces: Iterable[bytes], most: int = Limits.row) -> Iterator[bytes | LongLine]:
    """Lines without their end; memory is one piece and a line of ``most`` bytes, longer ones are not kept."""
    open_line: list[bytes] = []
    held = 0
    try:
        for piece in pieces:
            first, *others = piece.split(b"\n")
            held += len(first)
            open_line.append(first)
            if held > most:
                open_line = [_begun(open_line)]
            if others:
                yield _ended(open_line, held, most)
                yield from (line if len(line) <= most else _ended([line], len(line), most) for line in others[:-1])
                open_line, held = [others[-1]], len(others[-1])
    except DamagedStream as error:
        error.tail = _begun(open_line)
        raise
    if held:
        yield _ended(open_line, held, most)


def _begun(line: Sequence[bytes]) -> bytes:
    return b"".join(part[:_SHOWN] for part in line[:_SHOWN])[:_SHOWN]


def _ended(line: Sequence[bytes], size: int, most: int) -> bytes | LongLine:
    return b"".join(line) if size <= most else LongLine(_begun(line), size)


def _bounded(pieces: Iterable[bytes], suffix: str, size: int, limits: Limits) -> Iterator[bytes]:
    """What is unpacked, joined to pieces worth splitting, until it is more than the file may unpack to."""
    waiting: list[bytes] = []
    held = given = 0
    try:
        for content in _decompressed(pieces, suffix):
            given += len(content)
            if given > limits.most(size):
                raise DamagedStream(f"the file unpacks to {limits.inflated(size)}")
            waiting.append(content)
            held += len(content)
            if held >= _CHUNK // 4:
                yield b"".join(waiting)
                waiting, held = [], 0
    except DamagedStream:
        yield b"".join(waiting)
        raise
    yield b"".join(waiting)


def _decompressed(pieces: Iterable[bytes], suffix: str) -> Iterator[bytes]:
    """Frame after frame; that the last one is whole is checked, which the libraries' file objects do not all do."""
    start, fed, failure = _GZIP if suffix == ".gz" else _zstd()
    frame: Any = None
    empty = True
    for piece in pieces:
        rest, empty = memoryview(piece), False
        while rest:
            frame = frame or start()
            part = rest[:fed]
            try:
                content = frame.decompress(part)
            except failure as error:
                raise DamagedStream(f"the {suffix} stream is damaged here ({error})") from error
            if content:
                yield content
            rest = rest[len(part) - (len(frame.unused_data) if frame.eof else 0) :]
            frame = None if frame.eof else frame
    if frame is not None or empty:
        raise DamagedStream(f"the {suffix} stream is truncated: it ends before its frame does")


#: how a frame is begun, the bytes given to it at once, and what it raises
Unpacker = tuple[Callable[[], Any], int, type[Exception]]
_GZIP: Unpacker = (lambda: zlib.decompressobj(wbits=31), _FED_GZIP, zlib.error)


def _zstd() -> Unpacker:
    try:
        import zstandard
    except ModuleNotFoundError as error:
        raise StudyError("Reading .zst needs zstandard: pip install 'mixwright[curate]'.") from error
    made = zstandard.ZstdDecompressor(max_window_size=_WINDOW)
    return made.decompressobj, _FED_ZSTD, zstandard.ZstdError
