"""The row view of what moves through curation."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mixwright.core.errors import DataError

#: The columns of documents as Arrow record batches, in order; instruction rows add ``prompt`` and ``response``.
COLUMNS = ("id", "source", "domain", "text", "text_hash", "meta")


@dataclass(frozen=True)
class Document:
    """One text with where it comes from.

    ``id`` is the 128-bit hash (32 hex digits) of source, path and row: the same row has the same id in every run.
    ``text_hash`` is the 128-bit hash (XXH3) of the text's UTF-8 bytes. ``meta`` is JSON. An instruction row is a Document
    with ``prompt`` and ``response``.
    """

    id: str
    source: str
    domain: str
    text: str
    text_hash: str
    meta: str = "{}"
    prompt: str | None = field(default=None)
    response: str | None = field(default=None)

    def __post_init__(self) -> None:
        if len(self.id) != 32:
            raise DataError(f"A document's id has 32 hex digits; got {self.id!r}.")
        if (self.prompt is None) != (self.response is None):
            raise DataError(f"Document {self.id}: an instruction row has both prompt and response.")


def document_id(source: str, path: str, row: int) -> str:
    """The stable id of row ``row`` (from 0) of ``path`` (relative to the source's folder): 32 hex digits."""
    return bytes(document_ids(source, path, np.array([row])).astype("<u8").tobytes()).hex()


def document_ids(source: str, path: str, rows: NDArray[np.int64]) -> NDArray[np.uint64]:
    """The ids of many rows (from 0) of one file as pairs of 64-bit halves, ``(n, 2)``; distinct within a file.

    Cost: about 10 ns a row.
    """
    name = hashlib.blake2b(f"{source}\x00{path}".encode("utf-8", "surrogatepass"), digest_size=16).digest()
    low, high = np.frombuffer(name, dtype="<u8").astype(np.uint64)
    first = mixed(low + rows.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15))
    return np.stack([first, mixed(high ^ first)], axis=1)


def mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finalizer of the splitmix64 generator (Stafford's variant 13), a permutation of 64-bit numbers."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def text_hash(text: str) -> str:
    """The 128-bit XXH3 hash of a text's UTF-8 bytes, 32 hex digits; among 10^12 different texts two are equal with
    probability about 10^-15. Needs xxhash (``mixwright[curate]``).
    """
    import xxhash

    return xxhash.xxh3_128_hexdigest(text.encode("utf-8", "surrogatepass"))
