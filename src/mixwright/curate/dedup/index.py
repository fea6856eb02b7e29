"""What an earlier run kept, so that a later one drops what repeats it.

    index.json          the form, the hash's version, how band keys were made, and per file of documents its path and rows
    <number>.npz        ids, hashes (n, 2) and sizes (n,) of its documents
    <number>.bands      their band keys, and beside it their sketches

About 16 + 16 + 8 + 12 * bands + bands * rows bytes a document: 465 for 25 bands of 5. Shingles are no part of it: a document
that may be a near-duplicate is read from its file, so that its similarity is exact; the files must still be there.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mixwright.core.errors import DataError, StudyError
from mixwright.curate.dedup.options import Near
from mixwright.curate.dedup.signing import BandWriter
from mixwright.curate.hashing import Halves, text_hashes, unhexed
from mixwright.curate.texts import Counts, Texts
from mixwright.engine.task import Engine, Progress, Task
from mixwright.store.artifact import read_json, write_json, written_aside

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA = "mixwright/dedup-index/1"
#: what the band keys of two runs must have in common to be compared
_SIGNED = ("ngram", "bands", "rows")
#: documents read at once
_ROWS = 256


@dataclass(frozen=True)
class Indexed:
    """The documents of one file: where it lies, their band keys (None: near-duplicates were not indexed), and numbers."""

    documents: Path
    bands: Path | None
    numbers: Path

    def load(self) -> tuple[Halves, Halves, Counts]:
        """Ids, hashes and sizes."""
        with np.load(self.numbers) as held:
            return held["ids"], held["hashes"], held["sizes"]

    @property
    def rows(self) -> int:
        """How many documents."""
        return len(self.load()[2])

    def texts(self) -> Iterator[pa.Array]:
        """Their texts, in order. Raises DataError where the file is gone or has other documents."""
        yield from (batch.column("text") for batch in _batches(self.documents, ["text"]))


def build_index(files: Sequence[Path], folder: Path, near: Near | None, *, engine: Engine) -> None:
    """Index the documents of ``files`` (Parquet with ``id`` and ``text``) in ``folder``; ``near`` says how similar ones are found
    later, None: only equal ones are.

    A task per file; called again after any interruption it does only what was not done, and nothing where ``index.json`` is
    there. Cost: reading, and finding words where ``near`` is given.
    """
    if (folder / "index.json").is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    common = {"folder": str(folder), "near": dataclasses.asdict(near) if near else None}
    tasks = [
        Task(
            f"index {number}",
            "mixwright.curate.dedup.index:index_file",
            {**common, "number": number, "file": str(file)},
        )
        for number, file in enumerate(files)
        if not _numbers(folder, number).is_file()
    ]
    for outcome in list(engine.run(tasks)) if tasks else []:
        outcome.result()
    from mixwright.curate.kernels import HASH_VERSION

    facts = {
        "schema": SCHEMA,
        "hash_version": HASH_VERSION,
        "near": {name: getattr(near, name) for name in _SIGNED} if near else None,
        "files": [os.path.relpath(file, folder) for file in files],
    }
    write_json(folder / "index.json", facts)


def index_file(progress: Progress, *, folder: str, near: Mapping[str, Any] | None, number: int, file: str) -> None:
    """The task of one file of documents."""
    place = Path(folder)
    ids, hashes, sizes = [np.zeros((0, 2), np.uint64)], [np.zeros((0, 2), np.uint64)], [np.zeros(0, np.int64)]
    options = Near(**near) if near else None
    with BandWriter(place / f"{number:05d}.bands" if options else None, options or Near()) as writer:
        for batch in _batches(Path(file), ["id", "text"]):
            texts = Texts(batch.column("text"))
            ids.append(unhexed(batch.column("id")))
            hashes.append(text_hashes(texts))
            sizes.append(texts.bytes)
            if options:
                writer.add(texts)
    with written_aside(_numbers(place, number)) as aside, aside.open("wb") as stream:
        np.savez(stream, ids=np.concatenate(ids), hashes=np.concatenate(hashes), sizes=np.concatenate(sizes))


def open_index(folder: Path, near: Near | None) -> list[Indexed]:
    """The files of an index, to be compared by ``near``.

    Raises StudyError if there is none, DataError if it was made by another version or in a way that cannot be compared.
    """
    from mixwright.curate.kernels import HASH_VERSION

    if not (folder / "index.json").is_file():
        raise StudyError(
            f"dedup.against names {folder}, which holds no index.json: give the dedup-index folder of an earlier curation."
        )
    facts = read_json(folder / "index.json")
    if facts.get("schema") != SCHEMA or facts["hash_version"] != HASH_VERSION:
        raise DataError(
            f"The index {folder} was hashed by version {facts.get('hash_version')} of the word hash, this mixwright has version "
            f"{HASH_VERSION}, so nothing can be compared with it. Build it again with this mixwright."
        )
    if near:
        mine = {name: getattr(near, name) for name in _SIGNED}
        if facts["near"] != mine:
            raise StudyError(
                f"The index {folder} has the near-duplicate settings {_said(facts['near'])}, the study {_said(mine)}. "
                "Give dedup.near those of the index."
            )
    return [
        Indexed(folder / file, folder / f"{number:05d}.bands" if facts["near"] else None, _numbers(folder, number))
        for number, file in enumerate(facts["files"])
    ]


def _said(values: Mapping[str, int] | None) -> str:
    return ", ".join(f"{name}: {value}" for name, value in values.items()) if values else "of exact duplicates alone"


def _numbers(folder: Path, number: int) -> Path:
    return folder / f"{number:05d}.npz"


def _batches(file: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as opened:
            yield from opened.iter_batches(batch_size=_ROWS, columns=list(columns), use_threads=False)
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"The documents {file} of an earlier run cannot be read ({str(error).splitlines()[0]}), and near-duplicates of them "
            "are verified by their text. Put them back, or take the run out of dedup.against."
        ) from error
