"""What is checked of a token store: its manifest when it is opened, every byte before it is trained on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mixwright.core.errors import DataError
from mixwright.store.artifact import MANIFEST, write_json
from mixwright.store.place import Place

if TYPE_CHECKING:
    from mixwright.store.tokens import Shard, TokenStore

_FAMILY = "mixwright/tokens/"
_NEWEST = 2
_AGAIN = "Copy it again or tokenize again."
_KEYS = {
    "dtype": str, "vocab": int, "tokenizer": str, "end": int, "tokens": int, "documents": int, "text_bytes": int,
    "files": dict, "shards": list,
}  # fmt: skip


def read_manifest(place: Place) -> dict[str, Any]:
    """The manifest of the store at ``place``, one of ``mixwright/tokens/1`` with its shard listed.

    Raises DataError if there is none, it is of no token store or a newer one, or lacks what a store must say.
    """
    file = place / MANIFEST
    if not file.is_file():
        raise DataError(
            f"{place} holds no complete token store (no {MANIFEST}). Run mixwright tokenize, or open files that another "
            "program wrote with open_tokens."
        )
    try:
        manifest = json.loads(file.read().decode("utf-8"))
    except ValueError as error:
        raise DataError(f"{file} is not valid JSON ({error}). {_AGAIN}") from error
    schema = manifest.get("schema") if isinstance(manifest, dict) else None
    version = str(schema).removeprefix(_FAMILY)
    if not str(schema).startswith(_FAMILY) or not version.isdigit():
        raise DataError(f"{place} is no token store: its manifest is in the form {schema!r}. Give a folder of tokens.")
    if not 1 <= int(version) <= _NEWEST:
        raise DataError(
            f"{place} is in the form {schema!r}; this version reads {_FAMILY}1 to {_FAMILY}{_NEWEST}. Use the mixwright "
            "that wrote it."
        )
    if version == "1":
        only = {"name": "000", "tokens": manifest.get("tokens"), "documents": manifest.get("documents")}
        manifest = manifest | {"shards": [only]}
    _require(manifest, file)
    return dict(manifest)


def _require(manifest: dict[str, Any], file: Place) -> None:
    for key, kind in _KEYS.items():
        if not isinstance(manifest.get(key), kind):
            raise DataError(f"{file} has {manifest.get(key)!r} as {key}: it is damaged. {_AGAIN}")
    if manifest["dtype"] not in ("uint16", "int32"):
        raise DataError(f"{file} has dtype {manifest['dtype']!r}; uint16 and int32 are known. Tokenize again.")
    for entry in manifest["shards"]:
        if (
            not isinstance(entry, dict)
            or not {"name": str, "tokens": int, "documents": int}.items()
            <= {key: type(value) for key, value in entry.items()}.items()
        ):
            raise DataError(f"{file} lists {entry!r} as a shard: it is damaged. {_AGAIN}")
        if entry["tokens"] < 0 or entry["documents"] < 0:
            raise DataError(f"{file} lists {entry!r} as a shard: it is damaged. {_AGAIN}")
        if f"{entry['name']}.bin" not in manifest["files"]:
            raise DataError(f"{file} has no checksum of {entry['name']}.bin: it is damaged. Tokenize again.")
    if sum(entry["tokens"] for entry in manifest["shards"]) != manifest["tokens"]:
        raise DataError(f"{file}: its shards do not add up to {manifest['tokens']} tokens: it is damaged. {_AGAIN}")


def same_tokenizer(stores: Mapping[str, TokenStore]) -> None:
    """Raise DataError unless all stores were made with one tokenizer, as far as they say.

    Compared are hash, vocabulary and end of document with those of the first store; what a foreign store does not say
    is passed over.
    """
    first: dict[str, tuple[str, Any]] = {}
    for name, store in stores.items():
        for what, key in (("tokenizer", "tokenizer"), ("number of ids", "vocab"), ("end-of-document id", "end")):
            value = store.manifest[key]
            if value is None or value == "":
                continue
            other, wanted = first.setdefault(key, (name, value))
            if value != wanted:
                raise DataError(
                    f"Domain {name} ({store.place}) has the {what} {value}, domain {other} {wanted}: their ids do not mean "
                    "the same. Tokenize both with one tokenizer."
                )


def check(store: TokenStore) -> None:
    """Read every file of a store in pieces; DataError names the first that has changed or holds an id too great.

    Memory: 8 MB and the largest index. Files that other programs wrote have no checksums: their ids and indexes are
    checked.
    """
    for file in _files(store):
        file.check(store)


def verify(store: TokenStore, stamps: Path) -> int:
    """``check``, but files whose size and time of change were verified before are not read; returns how many were.

    ``stamps`` is a JSON file of what was verified; it may serve many stores. Files behind a URL whose server tells
    neither time nor tag are read every time.
    """
    known = _stamps(stamps)
    read = 0
    for file in _files(store):
        stamp = file.stamp(store)
        if stamp is None or known.get(str(file.place)) != stamp:
            file.check(store)
            read += 1
            if stamp is not None:
                known = _stamps(stamps) | {str(file.place): stamp}
                write_json(stamps, known)
    return read


def _stamps(path: Path) -> dict[str, Any]:
    """What was verified before; a damaged file is none."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def pieces(store: TokenStore, vocab: int | None) -> Iterator[NDArray[Any]]:
    """All ids of a store, some millions at a time. Raises DataError for one that is negative or not below ``vocab``."""
    for shard in store.shards:
        place = Place(shard.file, store.place.options)
        for piece in place.pieces():
            yield _checked(piece, store, place, vocab)


@dataclass(frozen=True)
class _File:
    """A file of a store; ``shard``: the shard whose ids or index it is; ``wanted``: its SHA-256 (None: not known)."""

    place: Place
    shard: Shard | None
    wanted: str | None

    def stamp(self, store: TokenStore) -> list[Any] | None:
        """What must be as it was for the file to be passed over."""
        time = self.place.changed()
        return None if time is None else [self.place.size(), time, self.wanted, store.manifest["vocab"]]

    def check(self, store: TokenStore) -> None:
        digest = hashlib.sha256()
        holds_ids = self.shard is not None and str(self.place) == self.shard.file
        for piece in self.place.pieces():
            digest.update(piece)
            if holds_ids:
                _checked(piece, store, self.place, store.manifest["vocab"])
        if self.wanted is not None and digest.hexdigest() != self.wanted:
            raise DataError(f"{self.place} has changed since it was written: its checksum is another. {_AGAIN}")
        if self.shard is not None and not holds_ids:
            _check_index(store, self.shard)


def _files(store: TokenStore) -> list[_File]:
    sums = store.manifest["files"]
    of = {file: shard for shard in store.shards for file in (shard.file, shard.index) if file}
    places = {str(store.place / name): wanted for name, wanted in sums.items()} or dict.fromkeys(of)
    return [_File(Place(file, store.place.options), of.get(file), wanted) for file, wanted in places.items()]


def _checked(piece: bytes, store: TokenStore, place: Place, vocab: int | None) -> NDArray[Any]:
    ids = np.frombuffer(piece[: len(piece) // store.dtype.itemsize * store.dtype.itemsize], dtype=store.dtype)
    if ids.size and (int(ids.min()) < 0 or (vocab is not None and int(ids.max()) >= vocab)):
        greatest = ids.view(f"u{ids.itemsize}").max()
        known = f"only 0..{vocab - 1}" if vocab is not None else "no more than 2^31 - 1"
        raise DataError(
            f"{place} holds the token id {greatest}, its tokenizer {known}. It is damaged, or belongs to another "
            "tokenizer: tokenize again."
        )
    return ids


def _check_index(store: TokenStore, shard: Shard) -> None:
    """That an index's documents end in order, and where its shard does."""
    from mixwright.store.foreign_tokens import document_ends

    ends = document_ends(shard, store.place.options)
    if not ends.size or int(ends[-1]) != shard.tokens or (np.diff(ends) < 0).any():
        raise DataError(
            f"{shard.index} ends at token {ends[-1] if ends.size else 0}, its shard at {shard.tokens}: it belongs to "
            f"others. {_AGAIN}"
        )


def verify_all(folder: Path, stamps: Path) -> int:
    """``verify`` every token store below a folder (a tokenize artifact, say); returns how many files were read."""
    from mixwright.store.tokens import TokenStore

    places = sorted(path.parent for path in folder.rglob(MANIFEST) if path.parent != folder)
    return sum(verify(TokenStore.open(place), stamps) for place in places)
