"""Token files that other programs wrote, opened where they lie as a ``TokenStore``; nothing is copied.

    Megatron     ``PREFIX.bin`` with ``PREFIX.idx`` (megatron-core 0.16.1, ``datasets/indexed_dataset.py``)
    datatrove    ``NAME.ds`` with ``NAME.ds.index``, read by nanotron: ids of 2 or 4 bytes without a header, and u64 little
                 endian, where each document ends, in tokens (huggingface/datatrove, ``pipeline/tokens/tokenizer.py``)
    raw          ids of 2 or 4 bytes without a header, whatever the name: OLMo-core's ``.npy`` files are such
                 (allenai/OLMo-core, ``data/numpy_dataset.py``)

Ids of 4 bytes are read as int32: up to 2^31 the bytes of int32 and uint32 are the same, and ``check`` finds greater ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mixwright.core.errors import DataError, StudyError
from mixwright.store.artifact import MANIFEST
from mixwright.store.place import Place
from mixwright.store.shards import dtype_for, read_index
from mixwright.store.tokens import Shard, TokenStore

Form = Literal["megatron", "datatrove", "raw"]
_NPY = b"\x93NUMPY"
#: a fingerprint is that of this many blocks of so many bytes, spread evenly over each file
_BLOCKS, _BLOCK = 16, 1 << 16


@dataclass(frozen=True)
class _File:
    """One file of ids, what it holds, and the file that says where its documents end ("": none)."""

    place: Place
    form: Form
    dtype: str
    tokens: int
    documents: int = 0
    index: str = ""


def open_tokens(
    place: str | Path | Place | Sequence[str | Path],
    *,
    dtype: str | None = None,
    end: int | None = None,
    vocab: int | None = None,
    tokenizer: str = "",
    options: Mapping[str, Any] | None = None,
) -> TokenStore:
    """Open tokens by whoever wrote them; several files, a folder's or those of a list, are the shards of one store.

    ``place`` is a mixwright store, a Megatron prefix (or its ``.bin`` or ``.idx``), a datatrove ``.ds`` file, a raw file,
    a folder of one of these kinds, or a list of files, here or behind a URL. ``dtype`` (uint16, int32 or uint32) is
    needed for raw files unless ``vocab`` says it. ``end`` is the id that ends a document: where it is not given it is
    looked up in the ends of documents when it is asked for. Without ``vocab`` all ids are counted when it is asked for.
    ``tokenizer`` is a name or hash that must be the same in all domains. Raises DataError for what is not there, has a
    wrong size or another layout, StudyError for what must be said. Cost: the indexes; no ids are read.
    """
    if dtype not in (None, "uint16", "int32", "uint32"):
        raise StudyError(f"Token ids are uint16, int32 or uint32; got dtype {dtype!r}.")
    listed = [place] if isinstance(place, str | Path | Place) else list(place)
    if len(listed) == 1 and (Place.of(listed[0], options) / MANIFEST).is_file():
        return TokenStore.open(Place.of(listed[0], options))
    files = [file for one in listed for file in _files(Place.of(one, options), dtype, vocab)]
    if not files:
        raise DataError(f"{place} names no token files. Give a folder, a prefix or a file of tokens.")
    odd = next((file for file in files if (file.form, file.dtype) != (files[0].form, files[0].dtype)), None)
    if odd is not None:
        raise DataError(
            f"{odd.place} holds {odd.form} tokens of {odd.dtype}, {files[0].place} {files[0].form} tokens of "
            f"{files[0].dtype}. Open them as stores of their own."
        )
    return _store(files, end, vocab, tokenizer)


def _store(files: Sequence[_File], end: int | None, vocab: int | None, tokenizer: str) -> TokenStore:
    shards, start = [], 0
    for file in files:
        if file.tokens:
            shards.append(Shard(str(file.place), file.tokens, start, file.documents, file.index))
        start += file.tokens
    manifest: dict[str, Any] = {
        "schema": f"foreign/{files[0].form}", "dtype": files[0].dtype, "vocab": vocab, "tokenizer": tokenizer, "end": end,
        "tokens": start, "documents": sum(file.documents for file in files), "text_bytes": 0, "files": {},
        "shards": [{"name": file.place.name, "tokens": file.tokens, "documents": file.documents} for file in files],
    }  # fmt: skip
    return TokenStore(files[0].place.beside(""), manifest, tuple(shards))


def _files(place: Place, dtype: str | None, vocab: int | None) -> list[_File]:
    """The files of ids at a place, in the order of their names."""
    stem = place.url.removesuffix(".bin").removesuffix(".idx")
    if Place(f"{stem}.idx", place.options).is_file():
        return [_megatron(Place(stem, place.options), dtype)]
    if place.is_file():
        return [_datatrove(place, dtype, vocab) if place.name.endswith(".ds") else _raw(place, dtype, vocab)]
    try:
        names = sorted(place.sizes())
    except DataError as error:
        raise DataError(
            f"{place} is neither a folder nor a file of tokens, and there is no {stem}.idx. Correct the path."
        ) from error
    return [file for name in _wanted(place, names) for file in _files(place / name, dtype, vocab)]


def _wanted(place: Place, names: Sequence[str]) -> list[str]:
    """The files of a folder that hold ids: of the first kind that is there."""
    for kind in (".idx", ".ds", ".npy", ".bin"):
        found = [name for name in names if name.endswith(kind) and not name.startswith(".")]
        if found:
            return found
    raise DataError(
        f"{place} holds no token store: neither {MANIFEST} nor files that end with .idx, .ds, .npy or .bin. Correct the "
        "path, or run mixwright tokenize."
    )


def _megatron(prefix: Place, dtype: str | None) -> _File:
    ids, index = (Place(f"{prefix.url}.{kind}", prefix.options) for kind in ("bin", "idx"))
    lengths, offsets, bounds, stored = read_index(index)
    size = np.dtype(stored).itemsize
    tokens = int(lengths.sum(dtype=np.int64))
    if dtype is not None and _as_read(dtype) != stored:
        raise StudyError(f"{index} says that its ids are {stored}, not {dtype}. Leave dtype out.")
    if len(lengths) and not np.array_equal(offsets, (np.cumsum(lengths, dtype=np.int64) - lengths) * size):
        raise DataError(
            f"{index} lists sequences that do not lie back to back in {ids.name}: it is damaged, or an index over a "
            "part of the file, which is not read here. Write the tokens again."
        )
    found = ids.size()
    if found != tokens * size:
        raise DataError(
            f"{ids} has {found} bytes, not the {tokens * size} that {index.name} says: one of them is truncated or "
            "belongs to other tokens. Copy both again."
        )
    return _File(ids, "megatron", stored, tokens, max(0, len(bounds) - 1), str(index))


def _datatrove(place: Place, dtype: str | None, vocab: int | None) -> _File:
    index = Place(f"{place.url}.index", place.options)
    if not index.is_file():
        file = _raw(place, dtype, vocab)
        return _File(place, "datatrove", file.dtype, file.tokens)
    content, found = index.read(), place.size()
    ends = np.frombuffer(content[: len(content) // 8 * 8], dtype="<u8")
    tokens = int(ends[-1]) if len(ends) else 0
    size = found // tokens if tokens else 2
    if len(content) % 8 or size not in (2, 4) or size * tokens != found or (ends[1:] < ends[:-1]).any():
        raise DataError(
            f"{place} has {found} bytes and {index.name} ends at token {tokens}: no whole number of ids of 2 or 4 bytes. "
            "One of them is truncated or belongs to other tokens: copy both again."
        )
    stored = "uint16" if size == 2 else "int32"
    if dtype is not None and _as_read(dtype) != stored:
        raise StudyError(f"{place} holds ids of {size} bytes, not {dtype}. Leave dtype out.")
    return _File(place, "datatrove", stored, tokens, len(ends), str(index))


def _raw(place: Place, dtype: str | None, vocab: int | None) -> _File:
    if dtype is None and vocab is None:
        raise StudyError(
            f"{place} does not say how its ids are stored. Give dtype (uint16 or uint32), or vocab, the number of ids of "
            "its tokenizer."
        )
    if place.read(0, len(_NPY)) == _NPY:
        raise DataError(
            f"{place} has a NumPy header; raw token files have none. Write it again with numpy's tofile, or as "
            "OLMo-core does."
        )
    stored = _as_read(dtype or dtype_for(int(vocab or 0)))
    found, size = place.size(), np.dtype(stored).itemsize
    if found % size:
        raise DataError(
            f"{place} has {found} bytes, no whole number of ids of {size}: it is truncated, or dtype is wrong."
        )
    return _File(place, "raw", stored, found // size)


def _as_read(dtype: str) -> str:
    return "int32" if dtype == "uint32" else dtype


def fingerprint(store: TokenStore) -> str:
    """A hash that tells files without checksums apart, 16 hex digits: sizes, and 16 blocks of 64 KiB of each.

    The same wherever the files lie. A change between the blocks goes unseen: ``verify`` reads everything.
    """
    digest = hashlib.sha256(str(store.dtype).encode())
    for shard in store.shards:
        place, size = Place(shard.file, store.place.options), shard.tokens * store.dtype.itemsize
        digest.update(f"\x1e{size}".encode())
        for start in sorted({max(0, (size - _BLOCK) * n // (_BLOCKS - 1)) for n in range(_BLOCKS)}):
            digest.update(place.read(start, min(start + _BLOCK, size)))
    return digest.hexdigest()[:16]


def count(store: TokenStore, vocab: int | None) -> NDArray[np.int64]:
    """How often each id occurs, ``(vocab,)``; without ``vocab`` up to the greatest. Reads all ids in pieces."""
    from mixwright.store.token_checks import pieces

    total = np.zeros(vocab or 0, dtype=np.int64)
    for ids in pieces(store, vocab):
        found = np.bincount(ids, minlength=total.size)
        if found.size > total.size:
            total = np.pad(total, (0, found.size - total.size))
        total += found
    return total


def document_ends(shard: Shard, options: Mapping[str, Any]) -> NDArray[np.int64]:
    """Where a shard's documents end, in its tokens, ``(documents,)``: Megatron's index or datatrove's.

    Raises DataError where there is none.
    """
    if not shard.index:
        raise DataError(f"{shard.file} has no index that says where documents end. Give the id that ends them instead.")
    index = Place(shard.index, options)
    if not shard.index.endswith(".idx"):
        return np.frombuffer(index.read(), dtype="<u8").astype(np.int64)
    lengths, _, bounds, _ = read_index(index)
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])[bounds[1:]]


def last_ids(store: TokenStore, most: int = 64) -> set[int]:
    """The last ids of up to ``most`` documents of the first shard that has an index."""
    for number, shard in enumerate(store.shards):
        if shard.index:
            ends = store.document_ends(number)[:most].tolist()
            return {int(store.slice(shard.start + at - 1, shard.start + at)[0]) for at in ends if at > 0}
    return set()
