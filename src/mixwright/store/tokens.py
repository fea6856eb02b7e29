"""Tokens on disk: a folder per domain of ``.bin``/``.idx`` shards in Megatron's layout, and a manifest.

``manifest.json`` (schema ``mixwright/tokens/2``), written last, names tokenizer, dtype, end-of-document id, the shards
in their order with their tokens and documents, and the SHA-256 of every file; ``counts.npy`` holds how often each id
occurs, int64 ``(vocab,)``. ``mixwright/tokens/1``, one shard ``000`` that the manifest does not list, is read as well.
Windows are cut from the shards laid end to end: a shard's end is no border. ``store/shards.py`` has the layout.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixwright.core.errors import DataError, StudyError
from mixwright.store.artifact import MANIFEST, content_key, file_hash, write_json, written_aside
from mixwright.store.place import Place
from mixwright.store.shards import ShardWriter, Written, clear_records, dtype_for, read_index

__all__ = ["SCHEMA", "Shard", "TokenStore", "dtype_for", "read_index", "seal_tokens", "write_tokens"]

SCHEMA = "mixwright/tokens/2"


@dataclass(frozen=True)
class Shard:
    """A file of ids: ``file`` is its path or URL, ``start`` its first token's place among those of all shards.

    ``index`` is the file that says where its documents end ("": there is none).
    """

    file: str
    tokens: int
    start: int
    documents: int = 0
    index: str = ""


@dataclass(frozen=True)
class TokenStore:
    """The tokens of one domain. Opening costs the manifest and a look at the files' sizes, nothing with their length.

    ``shards`` are those that hold tokens, in order. ``manifest`` is what is known of them (see ``docs/tokens.md``).
    """

    place: Place
    manifest: Mapping[str, Any]
    shards: tuple[Shard, ...]

    @classmethod
    def open(cls, place: Path | str | Place, options: Mapping[str, Any] | None = None) -> TokenStore:
        """Open a folder, or a URL that fsspec knows (``options`` go to its file system).

        Raises DataError if there is no manifest, it is no store's or a newer one's, or a shard has the wrong size.
        """
        from mixwright.store.token_checks import read_manifest

        where = Place.of(place, options)
        manifest = read_manifest(where)
        size = np.dtype(manifest["dtype"]).itemsize
        found, shards, start = where.sizes(), [], 0
        for entry in manifest["shards"]:
            file = f"{entry['name']}.bin"
            if file not in found:
                raise DataError(
                    f"{where / file} is missing, though the manifest names it. Copy it again or tokenize again."
                )
            if found[file] != entry["tokens"] * size:
                raise DataError(
                    f"{where / file} has {found[file]} bytes, not the {entry['tokens'] * size} its manifest says: it is "
                    "damaged. Copy it again or tokenize again."
                )
            if entry["tokens"]:
                index = str(where / f"{entry['name']}.idx")
                shards.append(Shard(str(where / file), entry["tokens"], start, entry["documents"], index))
            start += entry["tokens"]
        return cls(where, manifest, tuple(shards))

    @property
    def tokens(self) -> int:
        """Tokens in it."""
        return int(self.manifest["tokens"])

    @property
    def vocab(self) -> int:
        """Number of ids of its tokenizer; where a foreign store does not say, the greatest id in it and one."""
        return self.counts.size if self.manifest["vocab"] is None else int(self.manifest["vocab"])

    @cached_property
    def end(self) -> int:
        """The id that ends every document. Raises StudyError where a foreign store shows none."""
        from mixwright.store.foreign_tokens import last_ids

        if self.manifest["end"] is not None:
            return int(self.manifest["end"])
        found = last_ids(self)
        if len(found) != 1:
            raise StudyError(
                f"{self.place} does not show which id ends a document (its documents end with {sorted(found)[:5]}). Say so "
                "with end."
            )
        return found.pop()

    @property
    def tokenizer(self) -> str:
        """The hash of its tokenizer ("" where unknown)."""
        return str(self.manifest["tokenizer"])

    @property
    def dtype(self) -> np.dtype[Any]:
        """How ids are stored: uint16 or int32."""
        return np.dtype(str(self.manifest["dtype"]))

    @cached_property
    def fingerprint(self) -> str:
        """The hash of all ids: the checksum of a single shard, a hash of the checksums of several.

        Of files without checksums it is a hash of their sizes and some blocks (``foreign_tokens.fingerprint``).
        """
        from mixwright.store.foreign_tokens import fingerprint

        files = self.manifest["files"]
        if not files:
            return fingerprint(self)
        sums = [str(files[f"{entry['name']}.bin"]) for entry in self.manifest["shards"]]
        return sums[0] if len(sums) == 1 else content_key(sums)

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """How often each id occurs, ``(vocab,)``; of a foreign store all ids are read to count them."""
        from mixwright.store.foreign_tokens import count

        if not self.manifest["files"]:
            return count(self, self.manifest["vocab"])
        return np.asarray(np.load(BytesIO((self.place / "counts.npy").read()), allow_pickle=False), dtype=np.int64)

    @cached_property
    def ids(self) -> NDArray[Any]:
        """All ids, ``(tokens,)``: memory-mapped where there is one local shard; otherwise a copy in memory."""
        parts = [self.shard_ids(number) for number in range(len(self.shards))]
        return parts[0] if len(parts) == 1 else np.concatenate([np.zeros(0, self.dtype), *parts])

    def shard_ids(self, number: int) -> NDArray[Any]:
        """The ids of ``shards[number]``, ``(tokens,)``: memory-mapped where it is local, else read as a whole."""
        shard = self.shards[number]
        where = Place(shard.file, self.place.options)
        if where.path is None:
            return np.frombuffer(where.read(), dtype=self.dtype, count=shard.tokens)
        if number not in self._maps:
            self._maps[number] = np.memmap(where.path, dtype=self.dtype, mode="r", shape=(shard.tokens,))
        return self._maps[number]

    def document_ends(self, number: int) -> NDArray[np.int64]:
        """Where the documents of ``shards[number]`` end, in its tokens, ``(documents,)``; reads its index.

        Raises DataError where it has none.
        """
        from mixwright.store.foreign_tokens import document_ends

        return document_ends(self.shards[number], self.place.options)

    def slice(self, start: int, stop: int) -> NDArray[Any]:
        """The ids from ``start`` to ``stop`` of the shards laid end to end; reads no more than these."""
        size, parts = self.dtype.itemsize, []
        for number in range(max(0, int(np.searchsorted(self._starts, start, "right")) - 1), len(self.shards)):
            shard = self.shards[number]
            first, last = max(start - shard.start, 0), min(stop - shard.start, shard.tokens)
            if shard.start >= stop:
                break
            where = Place(shard.file, self.place.options)
            if where.path is not None:
                parts.append(self.shard_ids(number)[first:last])
            else:
                parts.append(np.frombuffer(where.read(first * size, last * size), dtype=self.dtype))
        return parts[0] if len(parts) == 1 else np.concatenate([np.zeros(0, self.dtype), *parts])

    @cached_property
    def _maps(self) -> dict[int, NDArray[Any]]:
        return {}

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        return np.array([shard.start for shard in self.shards], dtype=np.int64)

    def windows(self, seq_len: int) -> int:
        """How many windows of ``seq_len`` inputs, each with its ``seq_len`` next tokens, it holds."""
        return max(0, (self.tokens - 1) // seq_len)

    def window(self, number: int, seq_len: int) -> NDArray[Any]:
        """Window ``number``: ``seq_len + 1`` ids; inputs are all but the last, labels all but the first."""
        return self.slice(number * seq_len, (number + 1) * seq_len + 1)

    def check(self) -> None:
        """Read everything in bounded memory; DataError names the file that has changed, and ids beyond the vocabulary."""
        from mixwright.store.token_checks import check

        check(self)


def write_tokens(
    folder: Path, documents: Sequence[NDArray[Any]], *, vocab: int, tokenizer: str, end: int, text_bytes: int,
    shard_tokens: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """Write token ids (one array per document, each ending with ``end``) and the folder's manifest, which is returned.

    A shard is closed once it holds ``shard_tokens`` tokens (0: all goes into one). ``text_bytes`` are the UTF-8 bytes of
    the documents' text. Raises DataError for an id outside ``0..vocab-1``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rest = list(documents)[::-1]
    written: list[Written] = []
    while rest or not written:
        with ShardWriter(folder, f"{len(written):03d}", vocab=vocab) as writer:
            while rest and not (shard_tokens and writer.tokens >= shard_tokens):
                writer.add(rest.pop())
        assert writer.record is not None
        written.append(writer.record)
    return seal_tokens(folder, written, vocab=vocab, tokenizer=tokenizer, end=end, text_bytes=text_bytes)


def seal_tokens(
    folder: Path, shards: Sequence[Written], *, vocab: int, tokenizer: str, end: int, text_bytes: int | None = None,
    about: Mapping[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Make a store of finished shards: add up their counts, write the manifest last and return it.

    ``about`` is kept in the manifest for people. Cost: reading no tokens.
    """
    counts = np.zeros(vocab, dtype=np.int64)
    for shard in shards:
        counts += shard.counts(folder)
    with written_aside(folder / "counts.npy") as path, path.open("wb") as stream:
        np.save(stream, counts)
    files = {f"{shard.name}.{kind}": getattr(shard, kind) for shard in shards for kind in ("bin", "idx")}
    manifest = {
        "schema": SCHEMA,
        "dtype": dtype_for(vocab),
        "vocab": vocab,
        "tokenizer": tokenizer,
        "end": end,
        "tokens": sum(shard.tokens for shard in shards),
        "documents": sum(shard.documents for shard in shards),
        "text_bytes": sum(shard.text_bytes for shard in shards) if text_bytes is None else int(text_bytes),
        "shards": [{"name": shard.name, "tokens": shard.tokens, "documents": shard.documents} for shard in shards],
        "files": files | {"counts.npy": file_hash(folder / "counts.npy")},
        **({"about": dict(about)} if about else {}),
    }
    write_json(folder / MANIFEST, manifest)
    clear_records(folder, (shard.name for shard in shards))
    return manifest
