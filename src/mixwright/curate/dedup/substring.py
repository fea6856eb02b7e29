"""Runs of words that stand in several documents are cut out of all but the best-ranked of them (Lee et al. 2022,
arXiv:2107.06499, there by a suffix array).

    measuring   ``MarkWriter``: one hash in about a quarter of ``words`` of a shard's, the marks (``substring_kernels.py``)
    dedup       ``note_windows``: which marks several rows have; shards are read again for the windows with such a mark alone
    deciding    ``find_spans``: the windows that better-ranked kept rows have too; rows of which nothing is left
    writing     ``Spans``: of one shard, cut out of its texts as they are read again

A window is ``words`` consecutive words; a run of as many words or more that stands elsewhere is made of windows that do, and
equal windows have equal marks, so none is overlooked. 64-bit hashes stand for windows: among 10^9 different ones two are
equal with probability .03.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from mixwright.curate.dedup.folder import save_array
from mixwright.curate.dedup.lines import Repeats, find_repeats, repeats_of
from mixwright.curate.dedup.options import Substring
from mixwright.curate.dedup.signing import BUCKETS, Bands, Hashes, Numbers, write_once
from mixwright.curate.shards import Shard
from mixwright.curate.text_copy import texts_again
from mixwright.curate.texts import Counts, Texts
from mixwright.engine.task import Engine, Progress, Task
from mixwright.store.artifact import read_json, write_json, written_aside

if TYPE_CHECKING:
    pass

Flags = NDArray[np.bool_]
#: bytes a task takes per mark
_ENTRY = 32
_HERE = "mixwright.curate.dedup.substring"


class MarkWriter:
    """Writes the marks of a shard: ``add`` every batch in order. A context manager: the file is whole or not there. Cost: some
    400 MB/s beside finding words. Memory and disk: 12 bytes a mark, a byte a word where ``words`` is 50."""

    def __init__(self, path: Path, substring: Substring) -> None:
        self._path, self._words = path, substring.words
        self._entries: list[tuple[Hashes, Numbers]] = []
        self.rows = 0

    def add(self, texts: Texts) -> None:
        """The rows of a batch."""
        from mixwright.curate.dedup.substring_kernels import marks

        first, words = texts.word_hashes
        hashes, of = marks(words, first, self._words)
        self._entries.append((hashes, of + np.uint32(self.rows)))
        self.rows += len(texts)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            hashes = np.concatenate([np.zeros(0, dtype=np.uint64), *(one for one, _ in self._entries)])
            write_once(self._path, hashes, np.concatenate([np.zeros(0, np.uint32), *(one for _, one in self._entries)]))


def note_windows(
    shards: Sequence[Shard], marked: Sequence[Path], noted: Sequence[Path], folder: Path, substring: Substring, *,
    engine: Engine, memory: int, copies: Sequence[Path | None] = (),
) -> None:  # fmt: skip
    """Read shards again and write of each, to ``noted``, the windows whose mark several rows of all shards have; ``marked`` is
    what ``MarkWriter`` wrote. A task per run of marks, then one per shard; called again after any interruption it does only
    what was not done. Works in ``folder``; ``copies`` (text_copy.py) are read where there are any.
    """
    path = folder / "plan.json"
    if not path.is_file():
        entries = sum(Bands(one).count for one in marked)
        parts = min(BUCKETS, max(1, -(-entries * _ENTRY * engine.slots // memory)))
        write_json(path, {"marked": [str(one) for one in marked], "words": substring.words, "parts": parts})
    parts = read_json(path)["parts"]
    shared = [{"folder": str(folder), "number": n} for n in range(parts) if not _shared(folder, n).is_file()]
    _run(engine, [Task(f"shared {one['number']}", f"{_HERE}:shared", one) for one in shared])
    read = [
        Task(
            f"windows {shard.name}",
            f"{_HERE}:windows_of",
            {
                "folder": str(folder),
                "marked": str(marks),
                "shard": shard.to_dict(),
                "path": str(place),
                "copy": str(copy or ""),
            },
            shard.size,
        )
        for shard, marks, place, copy in zip(shards, marked, noted, copies or [None] * len(shards), strict=True)
        if not place.with_suffix(".npz").is_file()
    ]
    _run(engine, read)


def _run(engine: Engine, tasks: Sequence[Task]) -> None:
    for outcome in list(engine.run(tasks)) if tasks else []:
        outcome.result()


def _shared(folder: Path, number: int) -> Path:
    return folder / f"{number:05d}.npy"


def shared(progress: Progress, *, folder: str, number: int) -> None:
    """The task of a run of marks: those that several rows have, ascending; one file open at a time."""
    place = Path(folder)
    plan = read_json(place / "plan.json")
    start, stop = (BUCKETS * at // plan["parts"] for at in (number, number + 1))
    found = np.sort(np.concatenate([Bands(Path(path)).read(start, stop)[0] for path in plan["marked"]]))
    again = found[1:][found[1:] == found[:-1]]
    save_array(_shared(place, number), np.unique(again))


def windows_of(progress: Progress, *, folder: str, marked: str, shard: Any, path: str, copy: str = "") -> None:
    """The task of a shard. Memory: 16 bytes a window that is written, up to the words of the shard."""
    import pyarrow as pa

    from mixwright.curate.dedup.substring_kernels import windows

    plan = read_json(Path(folder, "plan.json"))
    common, wanted = _common(Path(folder), plan["parts"], Path(marked))
    found = [(np.zeros(0, np.uint64), np.zeros(0, np.uint32), np.zeros(0, np.uint32))]
    counts = [np.zeros(0, dtype=np.int64)]
    again = texts_again(Shard.from_dict(shard), Path(copy) if copy else None, wanted)
    for at, texts in again if len(wanted) else ():
        own = wanted[slice(*np.searchsorted(wanted, [at, at + len(texts)]).tolist())]
        if len(own):
            first, words = Texts(texts.take(pa.array(own - at))).word_hashes
            hashes, of, places = windows(words, first, plan["words"], common)
            found.append((hashes, own[of].astype(np.uint32), places))
            counts.append(np.diff(first))
    hashes, rows, places = (np.concatenate([one[which] for one in found]) for which in range(3))
    place = Path(path)
    write_once(place, hashes, rows)
    with written_aside(place.with_suffix(".npz")) as aside, aside.open("wb") as stream:
        begins = np.searchsorted(rows, np.append(wanted, 1 << 32))
        np.savez(stream, rows=wanted, counts=np.concatenate(counts), begins=begins, hashes=hashes, places=places)


def _common(folder: Path, parts: int, marked: Path) -> tuple[Hashes, Counts]:
    """The marks of a shard that several rows have, ascending, and which of its rows have one, ascending."""
    hashes, rows = Bands(marked).read(0, BUCKETS)
    common = np.zeros(len(hashes), dtype=bool)
    for number in range(parts):
        some = np.load(_shared(folder, number))
        places = np.searchsorted(some, hashes)
        inside = places < len(some)
        common[inside] |= some[places[inside]] == hashes[inside]
    return np.unique(hashes[common]), np.unique(rows[common]).astype(np.int64)


def find_spans(
    dedup: Path, noted: Sequence[Path], kept: Sequence[Flags], folder: Path, substring: Substring, *, engine: Engine,
    memory: int,
) -> list[Counts]:  # fmt: skip
    """Find the windows to cut among the ``kept`` rows, leave them in ``folder`` for ``Spans``, and return per shard the rows of
    which nothing is left, ascending. ``noted`` is what ``note_windows`` wrote of each; see ``lines.find_repeats``."""
    given = {"words": substring.words}
    find_repeats(dedup, noted, kept, folder, 1, given, engine=engine, memory=memory)
    return [_emptied(folder, path, number, substring.words) for number, path in enumerate(noted)]


def _emptied(folder: Path, noted: Path, number: int, words: int) -> Counts:
    """The rows of a shard all of whose words are cut."""
    from mixwright.curate.dedup.substring_kernels import all_cut

    rows, hashes = repeats_of(folder, number)
    with np.load(noted.with_suffix(".npz")) as held:
        own = held["rows"]
        bounds = np.searchsorted(rows, np.append(own, 1 << 32))
        none = all_cut(held["hashes"], held["places"], held["begins"], held["counts"], words, hashes, bounds)
    emptied: Counts = own[none]
    return emptied


@dataclass(frozen=True)
class Spans(Repeats):
    """Windows of words to cut."""

    words: int

    @classmethod
    def of(cls, folder: Path, number: int) -> Spans:
        """Those of the shard that is ``number`` among the shards ``find_spans`` was given."""
        return cls(*repeats_of(folder, number), read_json(folder / "plan.json")["words"])

    def _without(self, texts: Texts, bounds: Counts) -> tuple[NDArray[np.uint8], Counts, Counts]:
        from mixwright.curate.dedup.substring_kernels import cut_windows

        words = texts.words
        data, offsets, gone = cut_windows(
            texts.data, texts.offsets, words.hashes, words.first, words.start, self.words, self.hashes, bounds
        )
        return data, offsets, gone
