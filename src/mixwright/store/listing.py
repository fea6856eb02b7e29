"""The files that a path, a folder, a pattern or a URL of them names, with their sizes, in one walk."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mixwright.core.errors import DataError
from mixwright.store.place import Place

_MARKS = "*?["


@dataclass(frozen=True)
class Listed:
    """A file: where it lies, its name below the root with ``/``, its bytes, and what changes when its content does."""

    url: str
    name: str
    bytes: int
    tag: str


@dataclass(frozen=True)
class Listing:
    """``files`` below ``root``; ``named``: by file or pattern, not by their folder; ``dead`` links lead nowhere."""

    root: str
    files: tuple[Listed, ...]
    named: bool
    dead: int = 0


def listing(path: str, base: Path, *, is_read: Callable[[str], bool]) -> Listing:
    """What ``path`` names, relative to ``base``; names that begin with a dot are passed over.

    A folder that a pattern matches is taken whole if ``is_read`` is true of its name: some programs write a Parquet file
    as a folder. Raises DataError if there is nothing. Cost: some 10 microseconds a file here, a request for 1000 files on S3.
    """
    place = Place.of(path)
    return _here(place.url, base, is_read) if place.path is not None else _there(place)


def printable(name: str) -> str:
    """A file's name as text that UTF-8 can hold: bytes that are not UTF-8 show as ``\\xNN``."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _here(path: str, base: Path, is_read: Callable[[str], bool]) -> Listing:
    whole = base / Path(path).expanduser()
    if whole.is_dir():
        files, dead = _told(whole, _walk(whole))
        if not files and not dead:
            raise DataError(f"The folder {whole} is empty. Put text files in it, or set another path.")
        return Listing(str(whole), files, named=False, dead=dead)
    if whole.is_file():
        return Listing(str(whole.parent), _told(whole.parent, [str(whole)])[0], named=True)
    parts = Path(path).expanduser().parts
    fixed = next((at for at, part in enumerate(parts) if any(mark in part for mark in _MARKS)), None)
    if fixed is None:
        raise DataError(f"There is no file or folder {whole}. Correct the path.")
    root = base.joinpath(*parts[:fixed])
    found: set[str] = set()
    for match in root.glob("/".join(parts[fixed:])):
        if match.is_dir() and is_read(match.name):
            found.update(_walk(match))
        elif match.is_file() and not match.name.startswith("."):
            found.add(str(match))
    if not found:
        raise DataError(f"No file matches {whole}. Correct the pattern.")
    return Listing(str(root), _told(root, sorted(found))[0], named=True)


def _walk(folder: Path) -> Iterator[str]:
    """Every file below a folder; links to folders are not followed, so loops end."""

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename} cannot be read ({error.strerror}). Correct its permissions.")

    for here, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (os.path.join(here, name) for name in names if not name.startswith("."))  # noqa: PTH118


def _told(root: Path, paths: Iterable[str]) -> tuple[tuple[Listed, ...], int]:
    """The files, and how many links lead nowhere; pipes and devices are neither."""
    files, dead, head = [], 0, len(os.path.join(root, ""))  # noqa: PTH118
    for path in paths:
        try:
            about = os.stat(path)  # noqa: PTH116
        except FileNotFoundError:
            dead += 1
            continue
        except OSError as error:
            if not os.path.islink(path):  # noqa: PTH114
                raise DataError(f"{path} cannot be read ({error.strerror}). Correct its permissions.") from error
            dead += 1
            continue
        if (about.st_mode & 0o170000) == 0o100000:
            files.append(Listed(path, path[head:].replace(os.sep, "/"), about.st_size, str(about.st_mtime_ns)))
    return tuple(files), dead


def _there(place: Place) -> Listing:
    head, protocol, tail = place.url.partition("://")
    parts = tail.split("/")
    fixed = next((at for at, part in enumerate(parts) if any(mark in part for mark in _MARKS)), None)
    root = place.url if fixed is None else head + protocol + "/".join(parts[:fixed])
    found, named = place.below() if fixed is None else place.matching(), fixed is not None
    if not found:
        what = "There is no file or folder" if fixed is None else "No file matches"
        raise DataError(f"{what} {place}. Correct the path.")
    system, inner = Place.of(root).system()
    above = inner.rstrip("/") + "/"
    if list(found) == [inner]:  # the file itself
        above, named = inner.rpartition("/")[0] + "/", True
    files = [
        Listed(
            system.unstrip_protocol(path), path.removeprefix(above).lstrip("/"), _size(about, system, path), _tag(about)
        )
        for path, about in found.items()
    ]
    shown = [file for file in files if not any(part.startswith(".") for part in file.name.split("/"))]
    return Listing(root, tuple(shown), named)


def _size(about: dict[str, Any], system: Any, path: str) -> int:
    size = about.get("size")
    return int(size if size is not None else system.size(path))


def _tag(about: dict[str, Any]) -> str:
    keys = ("ETag", "etag", "LastModified", "mtime", "created", "updated")
    return str(next((about[key] for key in keys if about.get(key)), ""))
