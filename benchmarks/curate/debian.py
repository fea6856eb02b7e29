"""Debian packages fetched, and the files in them read, without installing anything."""

import gzip
import hashlib
import io
import json
import lzma
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

LOCK = Path(__file__).parent / "packages.lock.json"
#: archives inside packages that are read too
_INNER = re.compile(r"\.tar\.(?:xz|gz|bz2)$")


def fetched(names: Sequence[str], folder: Path) -> tuple[dict[str, Path], dict[str, str]]:
    """Package -> its file in ``folder``, and package -> why it is missing. Versions and checksums go to the lock file.

    A package that is locked is asked for in that version; where only another is offered that one is taken and named.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        return {}, dict.fromkeys(names, "this machine has no apt-get and dpkg-deb")
    locked = json.loads(LOCK.read_text()) if LOCK.is_file() else {}
    found, missing = {}, {}
    for name in names:
        path = _held(name, folder) or _download(name, locked.get(name, {}).get("version"), folder)
        if isinstance(path, str):
            missing[name] = path
            continue
        found[name] = path
        entry = {"version": path.name.split("_")[1].replace("%3a", ":"), "sha256": _checksum(path)}
        if name in locked and locked[name] != entry:
            print(f"{name}: {entry['version']} instead of the locked {locked[name]['version']}", file=sys.stderr)
        locked.setdefault(name, entry)
    LOCK.write_text(json.dumps(dict(sorted(locked.items())), indent=1) + "\n")
    return found, missing


def _held(name: str, folder: Path) -> Path | None:
    return next(iter(sorted(folder.glob(f"{name}_*.deb"))), None)


def _download(name: str, version: str | None, folder: Path) -> Path | str:
    wanted = [f"{name}={version}"] if version else []
    said = ""
    for what in [*wanted, name]:
        done = subprocess.run(["apt-get", "download", "-q", what], cwd=folder, capture_output=True, text=True)
        path = _held(name, folder)
        if done.returncode == 0 and path is not None:
            return path
        said = re.sub(r"https?://\S+", "", (done.stderr.strip().splitlines() or ["not found"])[-1])
    return said


def _checksum(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def entries(package: Path) -> Iterator[tuple[str, Any]]:
    """Every file of a package, in order: its path and a function that gives its bytes (unpacked where it is gzipped)."""
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE) as process:
        with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
            yield from _members(archive, "")
        process.stdout.read()  # type: ignore[union-attr]


def _members(archive: tarfile.TarFile, prefix: str) -> Iterator[tuple[str, Any]]:
    for member in archive:
        if not member.isfile():
            continue
        path = prefix + member.name.removeprefix(".")
        stream = archive.extractfile(member)
        if stream is None:
            continue
        if _INNER.search(path):
            with tarfile.open(fileobj=stream, mode=f"r|{path.rpartition('.')[2]}") as inner:
                yield from _members(inner, path + "/")
        elif path.endswith("/src.zip"):
            with zipfile.ZipFile(io.BytesIO(stream.read())) as zipped:
                for name in zipped.namelist():
                    yield f"{path}/{name}", lambda name=name, zipped=zipped: zipped.read(name)
        else:
            yield path, lambda stream=stream, path=path: _unpacked(path, stream.read())


def _unpacked(path: str, content: bytes) -> bytes:
    try:
        if path.endswith((".gz", ".dz")):
            return gzip.decompress(content)
        if path.endswith(".xz"):
            return lzma.decompress(content)
    except (OSError, EOFError, lzma.LZMAError):
        return b""
    return content


def installed(folders: Sequence[Path]) -> Iterator[tuple[str, Any]]:
    """Python source below ``folders``, in order of names; paths start at the folder."""
    for folder in folders:
        for path in sorted(folder.rglob("*.py")):
            yield path.relative_to(folder).as_posix(), path.read_bytes
