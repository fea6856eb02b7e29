"""Reading windows: which bytes of which shard a window is, and many of them in one gather.

Local shards are memory-mapped, and the maps of all domains are seen as one array: a window is a distance in bytes from
the map that lies lowest, and a batch is one indexing of that array, however many domains and shards it comes from. What
does not fit this (a window that runs over a shard's end, a domain behind a URL, ids of another width) is read
row by row.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixwright.store.place import Place
from mixwright.store.tokens import Shard, TokenStore
from mixwright.stream.blocks import BlockCache, Span

Ints = NDArray[np.int64]

#: The place of a window that has to be put together.
_APART = -1
#: Bytes from one byte that is read ahead of a copy to the next: in a window's first page, and after it.
_STEP, _PAGE = 512, 4096


class Windows:
    """The windows of ``seq_len + 1`` ids of several domains (``None``: a domain that is not drawn from).

    ``dtype`` holds the ids of all. ``cache`` keeps what comes from URLs (None: the user's own, see ``BlockCache``).
    """

    def __init__(self, stores: Sequence[TokenStore | None], seq_len: int, cache: BlockCache | None = None) -> None:
        self.stores, self.seq_len, self._cache = tuple(stores), seq_len, cache
        self.dtype = np.result_type(*(store.dtype for store in stores if store is not None))
        self._length = (seq_len + 1) * self.dtype.itemsize
        shards = [(d, shard) for d, store in enumerate(stores) if store is not None for shard in store.shards]
        self._maps = [self._map(d, shard) for d, shard in shards]
        self._tables(shards)
        self._known = ["" if store is None else store.fingerprint for store in stores]
        self._remote = any(Place(shard.file).path is None for _, shard in shards)

    def __reduce__(self) -> tuple[Any, ...]:
        stores = [None if store is None else replace(store) for store in self.stores]  # without maps it may have made
        return type(self), (stores, self.seq_len, self._cache)

    def _map(self, domain: int, shard: Shard) -> NDArray[Any] | None:
        """A local shard that holds whole windows of the common dtype, mapped; None for any other."""
        store = self._store(domain)
        path = Place(shard.file).path
        if path is None or store.dtype != self.dtype or shard.tokens <= self.seq_len:
            return None
        with path.open("rb") as stream:  # a tenth of np.memmap's time, which counts with many domains
            return np.frombuffer(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ), self.dtype, shard.tokens)

    def _store(self, domain: int) -> TokenStore:
        store = self.stores[domain]
        assert store is not None, "a domain without a store is never drawn from"
        return store

    def _tables(self, shards: Sequence[tuple[int, Shard]]) -> None:
        """For every shard, on an axis on which all domains' tokens lie end to end: its begin, its end, its map."""
        sizes = np.array([0 if store is None else store.tokens for store in self.stores], dtype=np.int64)
        self._offset = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
        self._begin = np.array([self._offset[d] + shard.start for d, shard in shards], dtype=np.int64)
        self._end = self._begin + np.array([shard.tokens for _, shard in shards], dtype=np.int64)
        held = [map_ for map_ in self._maps if map_ is not None]
        self._one: NDArray[Any] | None = None
        self._at = np.zeros(len(shards), dtype=np.int64)
        if held:
            where = [0 if map_ is None else map_.__array_interface__["data"][0] for map_ in self._maps]
            lowest = min(address for address in where if address)
            span = max(
                address + map_.nbytes for address, map_ in zip(where, self._maps, strict=True) if map_ is not None
            )
            base = next(map_ for map_, address in zip(self._maps, where, strict=True) if address == lowest)
            assert base is not None
            row = base[: self.seq_len + 1].view(f"V{self._length}")
            self._bytes = np.lib.stride_tricks.as_strided(
                base[:1].view(np.uint8), (span - lowest,), (1,), writeable=False
            )
            self._touched = np.r_[: min(self._length, _PAGE) : _STEP, _PAGE : max(self._length, _PAGE) : _PAGE]
            self._one = np.lib.stride_tricks.as_strided(row, (span - lowest - self._length + 1,), (1,), writeable=False)
            self._at = np.array([address - lowest if address else _APART for address in where], dtype=np.int64)
        self._single = [d for d, _ in shards] == list(range(len(self.stores)))

    def locate(self, domain: Ints, window: Ints) -> Ints:
        """Where each window ``(n,)`` begins, in bytes; ``_APART`` for one that has to be put together."""
        token = self._offset[domain] + window * self.seq_len
        shard = domain if self._single else np.searchsorted(self._begin, token, side="right") - 1
        inside = token - self._begin[shard]
        at = self._at[shard]
        places = at + inside * self.dtype.itemsize
        apart = (at < 0) | (token + self.seq_len >= self._end[shard])
        if self._one is None or apart.any():
            places[apart if self._one is not None else slice(None)] = _APART
        return places

    def read(self, places: Ints, domain: Ints, window: Ints) -> NDArray[Any]:
        """The windows at ``places`` (see ``locate``), ``(n, seq_len + 1)`` ids; a copy."""
        out = np.empty((places.size, self.seq_len + 1), dtype=self.dtype)
        whole = np.flatnonzero(places >= 0)
        if whole.size:
            out[whole] = self.gather(places[whole])
        apart = np.flatnonzero(places < 0)
        out[apart] = self._put_together(domain[apart], window[apart])
        return out

    def gather(self, places: Ints) -> NDArray[Any]:
        """``read`` where no window has to be put together.

        Some bytes of every window are read first: unlike a copy's these reads do not wait for one another, so what is not
        in a cache comes at once, which takes a third off a batch of windows from all over memory.
        """
        assert self._one is not None, "a place is known only where something is mapped"
        self._bytes[places[:, None] + self._touched]
        return self._one[places].view(self.dtype).reshape(-1, self.seq_len + 1)

    def ahead(self, domain: Ints, window: Ints) -> None:
        """Begin to fetch what of these windows lies behind URLs, in this order; returns at once."""
        if self._remote:
            spans = [span for d, w in zip(domain.tolist(), window.tolist(), strict=True) for span in self._spans(d, w)]
            self._blocks.ahead([span for span in spans if span.place.path is None])

    def _spans(self, domain: int, window: int) -> list[Span]:
        """The bytes of a window, shard by shard."""
        store = self._store(domain)
        width, token = store.dtype.itemsize, window * self.seq_len
        out = []
        for shard in store.shards:
            first, last = max(token - shard.start, 0), min(token + self.seq_len + 1 - shard.start, shard.tokens)
            if first < last:
                place = Place(shard.file, store.place.options)
                out.append(Span(place, shard.tokens * width, self._known[domain], first * width, last * width))
        return out

    def _put_together(self, domain: Ints, window: Ints) -> NDArray[Any]:
        """Windows ``(n, seq_len + 1)`` read span by span."""
        spans = [self._spans(d, w) for d, w in zip(domain.tolist(), window.tolist(), strict=True)]
        remote = [span for row in spans for span in row if span.place.path is None]
        fetched = iter(self._blocks.read(remote) if remote else ())
        out = np.empty((domain.size, self.seq_len + 1), dtype=self.dtype)
        for number, (d, row) in enumerate(zip(domain.tolist(), spans, strict=True)):
            parts = [
                next(fetched) if span.place.path is None else span.place.read(span.start, span.stop) for span in row
            ]
            out[number] = np.frombuffer(b"".join(parts), dtype=self._store(d).dtype)
        return out

    @property
    def _blocks(self) -> BlockCache:
        if self._cache is None:
            self._cache = BlockCache.of_user()
        return self._cache
