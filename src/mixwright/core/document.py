"""The row view of what moves through curation."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from mixwright.core.errors import DataError

#: The columns of documents as Arrow record batches, in order; instruction rows add ``prompt`` and ``response``.
COLUMNS = ("id", "source", "domain", "text", "text_hash", "meta")


@dataclass(frozen=True)
class Document:
    """One text with where it comes from.

    ``id`` is the 128-bit hash (32 hex digits) of source, path and row: the same row has the same id in every run.
    ``text_hash`` is the 128-bit hash of the text's UTF-8 bytes. ``meta`` is JSON. An instruction row is a Document
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
    return hashlib.blake2b(f"{source}\x00{path}\x00{row}".encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def text_hash(text: str) -> str:
    """The 128-bit hash of a text, 32 hex digits; collisions among 10^12 documents have probability about 10^-15."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
