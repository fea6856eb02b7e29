"""Loops over UTF-8 bytes, compiled by numba; they release the GIL and never read outside their arrays."""

from mixwright.curate.kernels.characters import SPACE, UNSPACED, UNSPACED_BLOCKS, WORD, decode, tables
from mixwright.curate.kernels.hashing import HASH_VERSION, mixed
from mixwright.curate.kernels.words import find_words

__all__ = ["HASH_VERSION", "SPACE", "UNSPACED", "UNSPACED_BLOCKS", "WORD", "decode", "find_words", "mixed", "tables"]
