"""Artifacts: folders that are either complete or not there.

An artifact is written in ``<verb>/.<key>.partial/`` and renamed to ``<verb>/<key>/`` when every file is on disk and
its manifest, written last, names each with size and SHA-256. The key is the hash of everything the content depends
on, so an unchanged stage is found instead of redone, and a partial folder left by a killed process is gone on with.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from mixwright.core.errors import DataError, StudyError

SCHEMA = "mixwright/artifact/1"
MANIFEST = "manifest.json"
#: how long a second process waits for the lock, seconds: workers of a killed process need a moment to go
_LOCK_PATIENCE = 5.0


def to_json(value: Any, *, sort: bool = False) -> str:
    """JSON, floats exact, numpy scalars and arrays as numbers and lists.

    Keys keep their order (that of a mixture's weights is the axis of its domains) unless ``sort``.
    """

    def plain(item: Any) -> Any:
        if isinstance(item, np.ndarray):
            return item.tolist()
        if isinstance(item, np.generic):
            return item.item()
        if isinstance(item, Path):
            return str(item)
        if isinstance(item, Mapping):
            return dict(item)
        raise TypeError(f"{type(item).__name__} has no JSON form")

    return json.dumps(value, sort_keys=sort, ensure_ascii=False, default=plain, indent=1)


def content_key(*parts: Any) -> str:
    """The hash of JSON-able values, 16 hex digits."""
    return hashlib.sha256("\x1e".join(to_json(part, sort=True) for part in parts).encode()).hexdigest()[:16]


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextlib.contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path``; on leaving without error it is synced and renamed to ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield aside
        with aside.open("rb") as stream:
            os.fsync(stream.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a whole file aside, sync it and rename it into place."""
    with written_aside(path) as aside:
        aside.write_bytes(content.encode() if isinstance(content, str) else content)


def write_json(path: Path, value: Any) -> None:
    """``write_atomic`` of ``to_json``."""
    write_atomic(path, to_json(value) + "\n")


def read_json(path: Path) -> Any:
    """Parse a JSON file; DataError names the file when it is not JSON."""
    try:
        return json.loads(path.read_text("utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not valid JSON ({error}). Remove it and run the command again.") from error


@dataclass(frozen=True)
class Artifact:
    """A complete folder and its manifest."""

    path: Path
    manifest: Mapping[str, Any]

    @property
    def key(self) -> str:
        """The hash of everything the content depends on."""
        return str(self.manifest["key"])

    @property
    def fingerprint(self) -> str:
        """The hash of the content itself (names and checksums of all files), 16 hex digits."""
        return content_key({name: entry["sha256"] for name, entry in self.manifest["files"].items()})

    @property
    def info(self) -> Mapping[str, Any]:
        """What the stage wanted to be known without opening its files."""
        return dict(self.manifest["info"])

    def json(self, name: str) -> Any:
        """One of its JSON files."""
        return read_json(self.path / name)

    def check(self, *, contents: bool = False) -> None:
        """Raise DataError if a file is missing or has another size, or (``contents``) another checksum."""
        for name, entry in self.manifest["files"].items():
            file = self.path / name
            if not file.is_file() or file.stat().st_size != entry["bytes"]:
                raise DataError(
                    f"{file} is missing or truncated. Remove the folder {self.path} and run the command again."
                )
            if contents and file_hash(file) != entry["sha256"]:
                raise DataError(
                    f"{file} has changed since it was written. Remove the folder {self.path} and run again."
                )


@dataclass(frozen=True)
class Draft:
    """An artifact in the making; ``path`` outlives a killed process, ``seal`` makes it whole."""

    path: Path
    target: Path
    verb: str
    key: str

    def seal(
        self, *, settings: Mapping[str, Any], inputs: Mapping[str, str], info: Mapping[str, Any] | None = None
    ) -> Artifact:
        """Sync every file, write the manifest last and rename the folder. Leftovers (``.*``) are removed first."""
        from mixwright import __version__

        for stale in sorted(self.path.rglob(".*"), reverse=True):
            shutil.rmtree(stale) if stale.is_dir() else stale.unlink()
        files = {}
        own = self.path / MANIFEST
        for file in sorted(path for path in self.path.rglob("*") if path.is_file() and path != own):
            with file.open("rb") as stream:
                os.fsync(stream.fileno())
            files[file.relative_to(self.path).as_posix()] = {"bytes": file.stat().st_size, "sha256": file_hash(file)}
        manifest = {
            "schema": SCHEMA,
            "verb": self.verb,
            "key": self.key,
            "settings": dict(settings),
            "inputs": dict(inputs),
            "files": files,
            "info": dict(info or {}),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": {"mixwright": __version__, "python": platform.python_version(), "numpy": np.__version__},
        }
        write_json(self.path / MANIFEST, manifest)
        for folder in (*(path for path in self.path.rglob("*") if path.is_dir()), self.path):
            _sync_folder(folder)  # names of files are the folder's content
        if self.target.exists():
            shutil.rmtree(self.target)
        self.path.rename(self.target)
        _sync_folder(self.target.parent)
        return Artifact(self.target, read_json(self.target / MANIFEST))

    def discard(self) -> None:
        """Remove what is there so far."""
        shutil.rmtree(self.path, ignore_errors=True)


@dataclass(frozen=True)
class Workspace:
    """The artifacts of one study: ``root/<verb>/<key>/``."""

    root: Path

    def find(self, verb: str, key: str) -> Artifact | None:
        """The complete artifact of that key, or None; sizes are checked, and a damaged one is reported by DataError."""
        folder = self.root / verb / key
        if not (folder / MANIFEST).is_file():
            return None
        manifest = read_json(folder / MANIFEST)
        if manifest.get("schema") != SCHEMA:
            raise DataError(
                f"{folder} was written in the form {manifest.get('schema')!r}; this version reads {SCHEMA!r}. "
                "Use the mixwright that wrote it, or another work folder."
            )
        artifact = Artifact(folder, manifest)
        artifact.check()
        return artifact

    def all(self, verb: str) -> list[Artifact]:
        """Every complete artifact of a verb, newest first."""
        folder = self.root / verb
        keys = [path.name for path in folder.iterdir() if not path.name.startswith(".")] if folder.is_dir() else []
        found = [artifact for key in keys if (artifact := self.find(verb, key))]
        return sorted(found, key=lambda a: (a.manifest["created"], a.key), reverse=True)

    def draft(self, verb: str, key: str) -> Draft:
        """A folder to write the artifact in; what a killed process left in it is still there."""
        target = self.root / verb / key
        path = target.with_name(f".{key}.partial")
        path.mkdir(parents=True, exist_ok=True)
        return Draft(path, target, verb, key)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder for one process; StudyError names the process that has it."""
        self.root.mkdir(parents=True, exist_ok=True)
        path = self.root / ".lock"
        with path.open("a+") as stream:
            deadline = time.monotonic() + _LOCK_PATIENCE
            while True:
                try:
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        stream.seek(0)
                        holder = stream.read().strip() or "unknown"
                        raise StudyError(
                            f"Another mixwright (process {holder}) is at work in {self.root}. Wait for it, or stop it first."
                        ) from None
                    time.sleep(0.1)
            stream.truncate(0)
            stream.write(str(os.getpid()))
            stream.flush()
            yield


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
