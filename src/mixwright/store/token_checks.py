"""What is checked of a token store: its manifest when it is opened, every byte before it is trained on."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from mixwright.core.errors import DataError
from mixwright.store.artifact import MANIFEST
from mixwright.store.place import Place

if TYPE_CHECKING:
    from mixwright.store.tokens import TokenStore

_FAMILY = "mixwright/tokens/"
_NEWEST = 2
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
        raise DataError(f"{file} is not valid JSON ({error}). Copy it again or tokenize again.") from error
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
        manifest = _listed(manifest)
    _require(manifest, file)
    return dict(manifest)


def _listed(manifest: dict[str, Any]) -> dict[str, Any]:
    only = {"name": "000", "tokens": manifest.get("tokens"), "documents": manifest.get("documents")}
    return manifest | {"shards": [only]}


def _require(manifest: dict[str, Any], file: Place) -> None:
    for key, kind in _KEYS.items():
        if not isinstance(manifest.get(key), kind):
            raise DataError(
                f"{file} has {manifest.get(key)!r} as {key}: it is damaged. Copy it again or tokenize again."
            )
    if manifest["dtype"] not in ("uint16", "int32"):
        raise DataError(f"{file} has dtype {manifest['dtype']!r}; uint16 and int32 are known. Tokenize again.")
    for entry in manifest["shards"]:
        if (
            not isinstance(entry, dict)
            or not {"name": str, "tokens": int, "documents": int}.items()
            <= {key: type(value) for key, value in entry.items()}.items()
        ):
            raise DataError(f"{file} lists {entry!r} as a shard: it is damaged. Copy it again or tokenize again.")
        if f"{entry['name']}.bin" not in manifest["files"]:
            raise DataError(f"{file} has no checksum of {entry['name']}.bin: it is damaged. Tokenize again.")
    if sum(entry["tokens"] for entry in manifest["shards"]) != manifest["tokens"]:
        raise DataError(
            f"{file}: its shards do not add up to {manifest['tokens']} tokens: it is damaged. Tokenize again."
        )


def check(store: TokenStore) -> None:
    """Read every file of a store in pieces; DataError names the first that has changed or holds an id too great."""
    for name, wanted in store.manifest["files"].items():
        place = store.place / name
        digest = hashlib.sha256()
        for piece in place.pieces():
            digest.update(piece)
            if name.endswith(".bin"):
                _check_ids(piece, store, place)
        if digest.hexdigest() != wanted:
            raise DataError(
                f"{place} has changed since it was written: its checksum is another. Copy it again or tokenize again."
            )


def _check_ids(piece: bytes, store: TokenStore, place: Place) -> None:
    ids = np.frombuffer(piece[: len(piece) // store.dtype.itemsize * store.dtype.itemsize], dtype=store.dtype)
    if ids.size and not 0 <= int(ids.min()) <= int(ids.max()) < store.vocab:
        raise DataError(
            f"{place} holds the token ids {ids.min()}..{ids.max()}, its tokenizer only 0..{store.vocab - 1}. It is "
            "damaged, or belongs to another tokenizer: tokenize again."
        )
