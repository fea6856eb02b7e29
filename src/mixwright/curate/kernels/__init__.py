"""Loops over UTF-8 bytes, compiled by numba; they release the GIL and never read outside their arrays."""

from __future__ import annotations

from mixwright.curate.kernels.addresses import frozen
from mixwright.curate.kernels.characters import SPACE, UNSPACED, UNSPACED_BLOCKS, WORD, decode, tables
from mixwright.curate.kernels.counting import count
from mixwright.curate.kernels.hashing import HASH_VERSION, mixed
from mixwright.curate.kernels.scanning import find_words, hash_words

__all__ = [
    "HASH_VERSION", "SPACE", "UNSPACED", "UNSPACED_BLOCKS", "WORD", "count", "decode", "find_words", "frozen", "hash_words",
    "mixed", "tables",
]  # fmt: skip
