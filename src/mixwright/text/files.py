"""Files of text -> a token store of one domain, without a study: JSONL (also .zst and .gz), Parquet, plain text.

The files are cut into units of about 48 MB of text (``store/pieces.py``), a task each. A unit leaves a shard, or several
where it turns out larger, and ``.unit-NNN.json`` when it is finished; the manifest comes last. Where the cuts lie depends
on the files alone, so the bytes are the same with any number of workers and after any interruption. Tokens keep the order
of the files and of their rows; rows that cannot be read are counted and listed in ``unreadable.jsonl``.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mixwright.core.errors import DataError, StudyError
from mixwright.engine.task import Engine, Progress, Task
from mixwright.store.artifact import MANIFEST, Workspace, content_key, read_json, to_json, write_atomic, write_json
from mixwright.store.batches import read_piece
from mixwright.store.documents import Row, SourceFile, SourceOptions, Unreadable, find_files
from mixwright.store.listing import printable
from mixwright.store.pieces import Piece, count_lines, units
from mixwright.store.shards import ShardWriter, Written
from mixwright.store.tokens import TokenStore, seal_tokens
from mixwright.text import tokenizer as tokenizers
from mixwright.text.encode import MB_PER_SECOND, SHARD_BYTES, Encoder, batches
from mixwright.text.tokenizer import Facts

OnProgress = Callable[[str, float, dict[str, Any]], None]
Format = Literal["auto", "jsonl", "parquet", "text"]
_UNREADABLE = "unreadable.jsonl"
#: unreadable rows that are listed of each unit; all are counted
_LISTED = 1000
#: a shard is closed once its text is so many times what it should be
_LARGE = 4 / 3


@dataclass(frozen=True)
class Tokenized:
    """What ``tokenize_files`` made of its files.

    ``text_bytes`` are the UTF-8 bytes of the texts, ``unreadable`` the rows that could not be read.
    """

    folder: Path
    files: int
    shards: int
    documents: int
    tokens: int
    text_bytes: int
    unreadable: int
    first_unreadable: str

    @classmethod
    def of(cls, folder: Path) -> Tokenized:
        """The summary of a finished store."""
        manifest = TokenStore.open(folder).manifest
        about = manifest["about"]
        return cls(
            folder, about["files"], len(manifest["shards"]), manifest["documents"], manifest["tokens"],
            manifest["text_bytes"], about["unreadable"], about["first_unreadable"],
        )  # fmt: skip


def tokenize_files(
    paths: Sequence[str | Path],
    out: Path,
    *,
    tokenizer: str | Path,
    text: str = "text",
    format: Format = "auto",  # noqa: A002  # the word users know
    engine: Engine | None = None,
    on_progress: OnProgress | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> Tokenized:
    """Tokenize ``paths`` (files, folders or globs) into a token store in ``out``, which holds the tokenizer as well.

    ``tokenizer`` is a ``tokenizer.json`` or a Hugging Face folder with one, ``text`` the field or column that holds the
    text. Called again after any interruption it goes on and encodes no finished shard again; of a finished store it gives
    the summary at once. Raises DataError if a path is missing, no row can be read, or the tokenizer is none; StudyError
    if ``out`` holds other tokens or a file is named twice. Cost: about 2 MB/s of text a core; memory a process: the
    tokenizer, a megabyte of text some hundred times over (a longer document as often).
    """
    from mixwright.engine.local import LocalEngine

    files = _find(paths, text, format, out.resolve())
    with Workspace(out).lock():
        facts = tokenizers.adopt(str(tokenizer), Path(), out / ".tokenizer.json")
        groups = units(files, shard_bytes)
        keys = [_key(group, text, facts, shard_bytes) for group in groups]
        whole = content_key(keys)
        if (out / MANIFEST).is_file():
            return _finished(out, whole)
        (out / ".tokenizer.json").replace(out / "tokenizer.json")
        tasks = [
            _task(number, group, key, text, facts, out, shard_bytes, len(groups))
            for number, (group, key) in enumerate(zip(groups, keys, strict=True))
            if _unit(out, number, key) is None
        ]
        for outcome in list((engine or LocalEngine()).run(tasks, on_progress)) if tasks else []:
            outcome.result()
        found = [_unit(out, number, key) for number, key in enumerate(keys)]
        return _seal(out, groups, [unit for unit in found if unit is not None], facts, len(files), whole)


def _find(paths: Sequence[str | Path], text: str, format: Format, out: Path) -> list[SourceFile]:  # noqa: A002
    """The files in the order they are named, those of a folder by their names; what lies in ``out`` is left out."""
    files: dict[str, SourceFile] = {}
    for path in paths:
        for file in find_files(SourceOptions(str(path), format, text), Path())[0]:
            here = file.place.path
            where = file.url if here is None else str(here.resolve())
            if here is not None and out in here.resolve().parents:
                continue
            if where in files:
                raise StudyError(f"{file.url} is named twice. Name every file once, or its tokens would count twice.")
            files[where] = dataclasses.replace(file, url=where, name=printable(file.url))
    if not files:
        raise StudyError("There is nothing to tokenize: name files, folders or patterns.")
    return list(files.values())


def _key(group: Sequence[Piece], text: str, facts: Facts, shard_bytes: int) -> str:
    """What a unit's tokens depend on: its pieces, their files as they are now, and the tokenizer."""
    told = [piece.to_dict() for piece in group]
    return content_key("mixwright/files/1", told, text, dataclasses.asdict(facts), shard_bytes)


def _finished(out: Path, key: str) -> Tokenized:
    (out / ".tokenizer.json").unlink(missing_ok=True)
    about = TokenStore.open(out).manifest.get("about")
    if not isinstance(about, dict) or about.get("key") != key:
        raise StudyError(
            f"{out} holds the tokens of other files, or of these before they changed. Give another folder, or remove it."
        )
    return Tokenized.of(out)


def _task(
    number: int, group: Sequence[Piece], key: str, text: str, facts: Facts, out: Path, shard_bytes: int, count: int
) -> Task:
    arguments = {
        "pieces": [piece.to_dict() for piece in group], "text": text, "unit": number, "key": key,
        "out": str(out.resolve()), "facts": dataclasses.asdict(facts), "shard_bytes": shard_bytes,
    }  # fmt: skip
    cost = sum(piece.size for piece in group) / 1e6 / MB_PER_SECOND
    return Task(f"files {number + 1}/{count}", "mixwright.text.files:encode_unit", arguments, cost)


def _unit(out: Path, number: int, key: str) -> dict[str, Any] | None:
    """What a finished unit left, or None."""
    try:
        found = read_json(out / f".unit-{number:03d}.json")
    except (DataError, OSError):
        return None
    return found if isinstance(found, dict) and found.get("key") == key else None


@dataclass
class _Texts:
    """The texts of some pieces, in order; rows that cannot be read are counted on the way."""

    pieces: Sequence[Piece]
    text: str
    unreadable: int = 0
    listed: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def __iter__(self) -> Iterator[str]:
        for piece in self.pieces:
            for row in read_piece(piece, SourceOptions("-", text=self.text), meta=False):
                if isinstance(row, Row):
                    yield row.text
                else:
                    self._count(row, piece)

    def _count(self, row: Unreadable, piece: Piece) -> None:
        self.unreadable += 1
        if len(self.listed) < _LISTED:
            self.listed.append(dataclasses.asdict(row) | {"piece": self.pieces.index(piece)})


def encode_unit(
    progress: Progress, *, pieces: Sequence[Mapping[str, Any]], text: str, unit: int, key: str, out: str,
    facts: Mapping[str, Any], shard_bytes: int,
) -> None:  # fmt: skip
    """Encode some pieces into shards ``NNN``, ``NNN-1`` ...; finished ones are passed over, the unit's record is last."""
    folder, found = Path(out), Facts(**facts)
    texts = _Texts([Piece.from_dict(piece) for piece in pieces], text)
    encode = Encoder.load(folder / "tokenizer.json", found.end)
    whole, shards, tokens, done = max(1, sum(piece.size for piece in texts.pieces)), [], 0, 0
    for number, group in itertools.groupby(_numbered(texts, int(_LARGE * shard_bytes)), key=lambda one: one[0]):
        name = f"{unit:03d}" if number == 0 else f"{unit:03d}-{number}"
        record = Written.find(folder, name, key)
        if record is None:
            with ShardWriter(folder, name, vocab=found.vocab, key=key) as writer:
                for batch in batches(text for _, text in group):
                    size = sum(len(one.encode()) for one in batch)
                    writer.add(*encode(batch), text_bytes=size)
                    progress(min(0.99, (done + size) / whole), tokens=tokens + writer.tokens)
                    done += size
            record = writer.record
            assert record is not None
        else:
            done += record.text_bytes
        shards.append(record)
        tokens += record.tokens
    left = {
        "key": key, "shards": [dataclasses.asdict(shard) for shard in shards], "unreadable": texts.unreadable,
        "listed": texts.listed,
    }  # fmt: skip
    write_json(folder / f".unit-{unit:03d}.json", left)
    progress(1.0, tokens=tokens)


def _numbered(texts: Iterator[str] | _Texts, limit: int) -> Iterator[tuple[int, str]]:
    """Each text with the number of its shard, which is closed once it has ``limit`` bytes."""
    number = held = 0
    for text in texts:
        yield number, text
        held += len(text.encode())
        if held >= limit:
            number, held = number + 1, 0


def _seal(
    out: Path, groups: Sequence[Sequence[Piece]], found: Sequence[Mapping[str, Any]], facts: Facts, files: int, key: str
) -> Tokenized:
    shards = [Written(**shard) for unit in found for shard in unit["shards"]]
    unreadable = sum(unit["unreadable"] for unit in found)
    rows = [
        _placed(row, group) for unit, group in zip(found, groups, strict=True) for row in unit["listed"]
    ]  # fmt: skip
    first = f"{rows[0]['path']} row {rows[0]['row']}: {rows[0]['reason']}" if rows else ""
    if not shards:
        counted = f"{unreadable} rows of {files} file{'s' if files > 1 else ''}"
        raise DataError(
            f"None of the {counted} could be read ({first or 'all files are empty'}). Name the field that holds the text "
            "with --text, or correct the files."
        )
    if rows:
        write_atomic(out / _UNREADABLE, "".join(to_json(row).replace("\n", "") + "\n" for row in rows))
    about = {"key": key, "files": files, "unreadable": unreadable, "first_unreadable": first}
    seal_tokens(out, shards, vocab=facts.vocab, tokenizer=facts.hash, end=facts.end, about=about)
    for path in out.glob(".unit-*.json"):
        path.unlink()
    return Tokenized.of(out)


def _placed(row: Mapping[str, Any], group: Sequence[Piece]) -> dict[str, Any]:
    """An unreadable row with its number in the file instead of in its piece."""
    piece = group[row["piece"]]
    before = count_lines(piece) if piece.stop and piece.file.format == "jsonl" else 0
    return {key: row[key] for key in ("path", "row", "reason", "start")} | {"row": row["row"] + before}
