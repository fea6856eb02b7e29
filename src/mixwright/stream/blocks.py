"""A bounded cache, on local disk, of blocks of files behind URLs.

A block is ``block`` bytes of a file (its last one fewer), kept as a file of its own whose name hashes the URL, what the
file's content is known by, and the block's number. Several processes may share a folder: whoever adds blocks holds its
lock, first lowers the sum of all sizes under the bound by removing those used longest ago, and then moves each finished
file into place. Nothing is believed for being there: a block of another length than it must have is fetched again.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mixwright.core.errors import DataError, MixwrightError, ResourceError, disk_error
from mixwright.store.artifact import content_key
from mixwright.store.place import Place

_SIZE = ".bytes"
_LOCK = ".lock"
_SUFFIX = ".block"
#: Blocks are removed until this part of the bound is used, so that the folder is not listed for every block.
_FILLED = 0.9


@dataclass(frozen=True)
class Span:
    """Bytes ``start`` to ``stop`` of the file at ``place``, of ``size`` bytes, whose content is known by ``known``."""

    place: Place
    size: int
    known: str
    start: int
    stop: int


@dataclass(frozen=True)
class _Block:
    place: Place
    known: str
    start: int
    stop: int

    @property
    def name(self) -> str:
        text = f"{self.place.url}\x1f{self.known}\x1f{self.start}\x1f{self.stop}"
        return hashlib.sha256(text.encode()).hexdigest()[:40] + _SUFFIX


@dataclass(frozen=True)
class BlockCache:
    """Blocks of remote files in ``folder``, at most ``bound`` bytes of them, ``block`` bytes each.

    A download that fails is tried ``attempts`` times, waiting ``wait`` seconds before the second and twice as long before
    each further one; then DataError. ResourceError where the disk is full.
    """

    folder: Path
    bound: int = 8 << 30
    block: int = 256 << 10
    attempts: int = 4
    wait: float = 0.2
    _threads: dict[int, _Ahead] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 < self.block <= self.bound:
            raise DataError(f"A cache of {self.bound} bytes cannot hold a block of {self.block}. Raise the bound.")
        object.__setattr__(self, "folder", Path(self.folder))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.folder, self.bound, self.block, self.attempts, self.wait)

    @classmethod
    def of_user(cls) -> BlockCache:
        """The user's own: ``$XDG_CACHE_HOME/mixwright/blocks``, 8 GiB."""
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        return cls(Path(home) / "mixwright" / "blocks")

    @property
    def size(self) -> int:
        """Bytes that all blocks take."""
        return sum(size for _, size, _ in self._listed())

    def read(self, spans: Sequence[Span]) -> list[bytes]:
        """The bytes of each span, from the cache or fetched. Memory: the spans and a quarter of the bound, at most 64 MiB."""
        out: list[bytes] = []
        for group in self._groups(spans):
            wanted = dict.fromkeys(block for span in group for block in self._blocks(span))
            self._ahead.wait_for(wanted)
            fetched = self._fetch([block for block in wanted if not self._has(block)])
            out += [self._bytes(span, fetched) for span in group]
        return out

    def ahead(self, spans: Sequence[Span]) -> None:
        """Fetch the blocks of these spans in the background, in their order, until they take half the bound.

        What an earlier call asked for and has not begun is forgotten.
        """
        blocks = list(dict.fromkeys(block for span in spans for block in self._blocks(span)))
        self._ahead.begin(self, blocks[: max(1, self.bound // 2 // self.block)])

    @property
    def _ahead(self) -> _Ahead:
        return self._threads.setdefault(os.getpid(), _Ahead())  # a forked child has none of its parent's threads

    @property
    def _piece(self) -> int:
        return min(64 << 20, self.bound // 4)

    def _groups(self, spans: Sequence[Span]) -> Iterator[Sequence[Span]]:
        """Spans that follow one another and fit into memory together."""
        first = held = 0
        for number, span in enumerate(spans):
            size = span.stop - span.start + 2 * self.block
            if held + size > self._piece and number > first:
                yield spans[first:number]
                first, held = number, 0
            held += size
        yield spans[first:]

    def _blocks(self, span: Span) -> list[_Block]:
        return [
            _Block(span.place, span.known, start, min(start + self.block, span.size))
            for start in range(span.start // self.block * self.block, span.stop, self.block)
        ]

    def _has(self, block: _Block) -> bool:
        """Whether the cache holds it; one that it holds counts as used now."""
        path = self.folder / block.name
        try:
            if path.stat().st_size != block.stop - block.start:
                return False
            os.utime(path)
        except FileNotFoundError:
            return False
        return True

    def _bytes(self, span: Span, fetched: Mapping[_Block, bytes]) -> bytes:
        parts = []
        for block in self._blocks(span):
            first, last = max(span.start, block.start) - block.start, min(span.stop, block.stop) - block.start
            content = fetched.get(block)
            parts.append(self._kept(block, first, last) if content is None else content[first:last])
        return b"".join(parts)

    def _kept(self, block: _Block, first: int, last: int) -> bytes:
        """Some bytes of a block in the cache; fetched again if another process has removed it meanwhile."""
        try:
            with (self.folder / block.name).open("rb") as stream:
                stream.seek(first)
                content = stream.read(last - first)
        except FileNotFoundError:
            content = b""
        return content if len(content) == last - first else self._fetch([block])[block][first:last]

    def _fetch(self, blocks: Sequence[_Block]) -> dict[_Block, bytes]:
        """Download blocks at once and keep them; those whose length is wrong are tried again."""
        found: dict[_Block, bytes] = {}
        missing, why = list(blocks), ""
        for attempt in range(self.attempts):
            if attempt and missing:
                time.sleep(self.wait * 2 ** (attempt - 1))
            for block, content in zip(missing, _download(missing), strict=True):
                if isinstance(content, bytes) and len(content) == block.stop - block.start:
                    found[block] = content
                else:
                    why = _reason(content)
            missing = [block for block in missing if block not in found]
            if not missing:
                break
        if missing:
            block = missing[0]
            raise DataError(
                f"{block.place}: bytes {block.start} to {block.stop} could not be read in {self.attempts} attempts ({why}). "
                "Check the connection and that the file is unchanged, then go on from the last checkpoint."
            )
        self._keep(found)
        return found

    def _keep(self, blocks: Mapping[_Block, bytes]) -> None:
        """Add blocks, removing others so that all stay within the bound; under the folder's lock."""
        try:
            with self._locked():
                for block, content in blocks.items():
                    path, aside = self.folder / block.name, self.folder / f"{block.name}.tmp"
                    if path.exists():
                        continue
                    self._make_room(len(content))
                    aside.write_bytes(content)
                    aside.replace(path)
        except OSError as error:
            known = disk_error(error, self.folder)
            raise known or ResourceError(
                f"{self.folder} cannot keep blocks ({error}). Name another cache folder."
            ) from error

    def _make_room(self, size: int) -> None:
        """Count ``size`` more bytes; where that would exceed the bound, remove what was used longest ago."""
        count = self.folder / _SIZE
        try:
            total = int(count.read_text())
        except (OSError, ValueError):
            total = self.bound  # unknown: list the folder
        if total + size > self.bound:
            listed = sorted(self._listed(tidy=True))
            total = sum(held for _, held, _ in listed)
            goal = max(0, min(self.bound - size, int(_FILLED * self.bound)))
            for _, held, path in listed if total + size > self.bound else ():
                if total <= goal:
                    break
                path.unlink(missing_ok=True)
                total -= held
        count.write_text(str(total + size))

    def _listed(self, *, tidy: bool = False) -> list[tuple[float, int, Path]]:
        """Last use, size and path of every block; with ``tidy``, what a killed process left is removed."""
        found = []
        for entry in os.scandir(self.folder) if self.folder.is_dir() else ():
            if entry.name.endswith(_SUFFIX):
                try:
                    about = entry.stat()
                except FileNotFoundError:
                    continue
                found.append((about.st_mtime, about.st_size, Path(entry.path)))
            elif tidy and entry.name.endswith(".tmp"):
                Path(entry.path).unlink(missing_ok=True)
        return found

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with _THREADS, (self.folder / _LOCK).open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


class _Ahead:
    """A thread that fetches blocks before they are needed, some at a time; ``flying`` are those on their way."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._todo: list[_Block] = []
        self._flying: set[_Block] = set()
        self._thread: threading.Thread | None = None

    def begin(self, cache: BlockCache, blocks: list[_Block]) -> None:
        """Fetch these from now on."""
        with self._changed:
            self._todo = blocks[::-1]
            if self._todo and self._thread is None:
                self._thread = threading.Thread(target=self._run, args=(cache,), name="mixwright-blocks", daemon=True)
                self._thread.start()

    def wait_for(self, blocks: Mapping[_Block, None]) -> None:
        """Return once none of these is on its way."""
        with self._changed:
            self._changed.wait_for(lambda: self._flying.isdisjoint(blocks))

    def _next(self, cache: BlockCache) -> list[_Block]:
        with self._changed:
            while self._todo and len(self._flying) < _AT_ONCE:
                block = self._todo.pop()
                if not cache._has(block):
                    self._flying.add(block)
            if not self._flying:
                self._thread = None
            return list(self._flying)

    def _run(self, cache: BlockCache) -> None:
        while blocks := self._next(cache):
            try:
                cache._fetch(blocks)
            except MixwrightError:  # fails again, and loudly, when it is needed
                with self._changed:
                    self._todo.clear()
            finally:
                with self._changed:
                    self._flying.clear()
                    self._changed.notify_all()


#: Blocks that are fetched ahead together.
_AT_ONCE = 32
_THREADS = threading.Lock()


def _download(blocks: Sequence[_Block]) -> list[Any]:
    """The bytes of each block, or the error there was; all of one file system in one call, so that they overlap."""
    out: dict[_Block, Any] = {}
    systems: dict[str, list[_Block]] = {}
    for block in blocks:
        systems.setdefault(block.place.url.partition("://")[0] + content_key(dict(block.place.options)), []).append(
            block
        )
    for group in systems.values():
        found = [block.place.system() for block in group]
        starts, stops = [block.start for block in group], [block.stop for block in group]
        try:
            content = found[0][0].cat_ranges([path for _, path in found], starts, stops, on_error="return")
        except Exception as error:  # whatever the protocol's library raises
            content = [error] * len(group)
        out.update(zip(group, content, strict=True))
    return [out[block] for block in blocks]


def _reason(content: object) -> str:
    if isinstance(content, BaseException):
        return str(content).strip() or type(content).__name__
    return f"{len(content)} bytes came" if isinstance(content, bytes) else "nothing came"
