"""Where files lie: a folder here, or a URL that fsspec knows (``s3://``, ``gs://``, ``memory://`` ...)."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mixwright.core.errors import DataError, StudyError

#: bytes read at once where a whole file is read
_PIECE = 8 << 20


@dataclass(frozen=True)
class Place:
    """A file or folder, here (``url`` is its path) or behind a URL; ``options`` go to fsspec's file system.

    Every method raises DataError, with the place, when it cannot be read, and StudyError when fsspec or the package of
    its protocol is not installed.
    """

    url: str
    options: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, place: str | Path | Place, options: Mapping[str, Any] | None = None) -> Place:
        """A path, a URL (``file://`` becomes a path) or a Place as it is."""
        if isinstance(place, Place):
            return place
        url = str(place)
        return cls(url.removeprefix("file://").removeprefix("local://"), dict(options or {}))

    @property
    def path(self) -> Path | None:
        """The local path; None behind a URL."""
        return None if "://" in self.url else Path(self.url)

    @property
    def name(self) -> str:
        """What stands after the last slash."""
        return self.url.rstrip("/").rpartition("/")[2]

    def __truediv__(self, name: str) -> Place:
        return Place(f"{self.url.rstrip('/')}/{name}", self.options)

    def __str__(self) -> str:
        return self.url

    def beside(self, name: str) -> Place:
        """Another file in the same folder."""
        head, slash, _ = self.url.rstrip("/").rpartition("/")
        return Place(f"{head}{slash}{name}", self.options)

    def is_file(self) -> bool:
        """Whether a file is there."""
        if self.path is not None:
            return self.path.is_file()
        system, path = self.system()
        return bool(self._try(lambda: system.isfile(path)))

    def size(self) -> int:
        """Bytes of the file."""
        if self.path is not None:
            return int(self._try(lambda: Path(self.url).stat().st_size))
        system, path = self.system()
        return int(self._try(lambda: system.size(path)))

    def sizes(self) -> dict[str, int]:
        """Bytes of every file of the folder by name, in one listing."""
        if self.path is not None:
            folder = self.path
            return dict(
                self._try(lambda: {file.name: file.stat().st_size for file in folder.iterdir() if file.is_file()})
            )
        system, path = self.system()
        found = self._try(lambda: system.ls(path, detail=True, refresh=True))
        return {
            str(entry["name"]).rstrip("/").rpartition("/")[2]: int(entry["size"])
            for entry in found
            if entry.get("type") == "file" and entry.get("size") is not None
        }

    def below(self) -> dict[str, dict[str, Any]]:
        """Every file below the folder, or the file itself, in one listing: path in its system -> what that tells of it."""
        system, path = self.system()
        found = self._try(lambda: system.find(path, detail=True, refresh=True))
        return {name: about for name, about in found.items() if about.get("type") == "file"}

    def matching(self) -> dict[str, dict[str, Any]]:
        """The files that the URL, a pattern, matches, as ``below``."""
        system, path = self.system()
        self._try(system.invalidate_cache)
        found = self._try(lambda: system.glob(path, detail=True))
        return {name: about for name, about in found.items() if about.get("type") == "file"}

    def file(self) -> RangeFile:
        """The file as a stream of bytes that is read by ranges; its errors are those of ``read``."""
        return RangeFile(self)

    def changed(self) -> str | None:
        """What changes when the file's content does: its time of change, or the tag its server gives; None: unknown."""
        if self.path is not None:
            return str(self._try(lambda: Path(self.url).stat().st_mtime_ns))
        system, path = self.system()
        about = self._try(lambda: system.info(path))
        found = [
            about[key] for key in ("ETag", "etag", "LastModified", "mtime", "created", "updated") if about.get(key)
        ]
        return str(found[0]) if found else None

    def read(self, start: int = 0, stop: int | None = None) -> bytes:
        """The file's bytes from ``start`` to ``stop`` (its end)."""
        if self.path is not None:
            return bytes(self._try(lambda: _slice(Path(self.url), start, stop)))
        system, path = self.system()
        return bytes(self._try(lambda: system.cat_file(path, start=start, end=stop)))

    def pieces(self, size: int = _PIECE) -> Iterator[bytes]:
        """The whole file, at most ``size`` bytes at a time; memory is one piece."""
        whole, start = self.size(), 0
        while start < whole:
            piece = self.read(start, min(start + size, whole))
            if not piece:
                raise DataError(f"{self} ends after {start} of its {whole} bytes: it changed while it was read.")
            yield piece
            start += len(piece)

    def hash(self) -> str:
        """SHA-256 of the whole file, hex."""
        digest = hashlib.sha256()
        for piece in self.pieces():
            digest.update(piece)
        return digest.hexdigest()

    def system(self) -> tuple[Any, str]:
        """The fsspec file system of the URL, and the path in it."""
        try:
            from fsspec.core import url_to_fs
        except ModuleNotFoundError as error:
            raise StudyError(
                f"Reading {self} needs fsspec, which is not installed: pip install 'mixwright[s3]'."
            ) from error
        try:
            system, path = url_to_fs(self.url, **self.options)
        except (ImportError, ValueError) as error:
            raise StudyError(f"{self} cannot be opened ({error}). Install the package of its protocol.") from error
        return system, path

    def _try(self, read: Any) -> Any:
        try:
            return read()
        except FileNotFoundError as error:
            raise DataError(f"There is no {self}. Correct the path, or write it again.") from error
        except MemoryError:
            raise
        except Exception as error:  # file systems raise what their protocols have
            why = str(error).strip() or type(error).__name__
            raise DataError(f"{self} cannot be read ({why}). Correct its permissions or the connection.") from error


class RangeFile(io.RawIOBase):
    """A file that is read by ranges, each read a request."""

    def __init__(self, place: Place) -> None:
        self._place, self._size, self._at = place, place.size(), 0

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """Where the next read starts."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move; returns where the next read starts."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def read(self, size: int = -1) -> bytes:
        """Bytes from here on, fewer only at the end of the file."""
        stop = self._size if size < 0 else min(self._at + size, self._size)
        found = self._place.read(self._at, stop) if stop > self._at else b""
        self._at += len(found)
        return found


def _slice(path: Path, start: int, stop: int | None) -> bytes:
    with path.open("rb") as stream:
        stream.seek(start)
        return stream.read(-1 if stop is None else max(0, stop - start))
