"""How much of a text stands in evaluations.

G       distinct n-grams of all evaluation items
item    (P,) int32, gram (P,) int64  which item holds which n-gram, sorted by n-gram
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixwright.core.errors import DataError, StudyError
from mixwright.curate.signal import Floats, Signal, Texts, ratio

#: items of fewer words say too little to be looked for
SHORTEST = 5
_ARRAYS = ("lengths", "first", "hashes", "holders", "item")
_BATCH = 4096


@dataclass(frozen=True)
class Contamination(Signal):
    """``contaminated_ngrams``, ``contamination_ratio``: distinct evaluation n-grams in a text; words in them / words.

    ``paths`` are the evaluations (files, folders or globs), ``fields`` their text fields, joined. n-grams of ``n`` words,
    13 as in Brown et al. 2020 (arXiv:2005.14165), appendix C; an item of fewer words counts as one n-gram of all its
    words if those are at least 5, and cannot be checked otherwise (``not_checkable`` after ``prepare``). Words are those of
    ``Texts.words``; two n-grams are taken for equal if their 64-bit hashes are, see ``decontaminate.py``. ``explain``
    names the item that a text shares most with.

    Cost: 2 ns a word, about 1.7 GB/s beside the words, and as much again for every length below ``n`` among the items;
    memory: 30 bytes an n-gram.
    """

    columns = ("contaminated_ngrams", "contamination_ratio")
    always = False

    paths: tuple[str, ...]
    fields: tuple[str, ...] = ("text",)
    n: int = 13

    def __post_init__(self) -> None:
        if self.n < SHORTEST:
            raise StudyError(f"contamination.n is {self.n}; {SHORTEST} words are the fewest that say something.")

    def prepare(self, base: Path, folder: Path) -> None:
        """Collect the n-grams of every item, and which items hold them."""
        from mixwright.curate.evaluation_items import read_items
        from mixwright.store.artifact import write_json, written_aside

        names: list[str] = []
        found: list[tuple[Any, Any, Any]] = []  # length, hash, item
        short = 0
        for batch in _batched(read_items(self.paths, self.fields, base)):
            grams, too_short = _grams(Texts([item.text for item in batch]), self.n)
            found += [(length, hashes, item + len(names)) for length, hashes, item in grams]
            names += [item.name for item in batch]
            short += too_short
        if len(names) == short:
            raise DataError(
                f"{', '.join(self.paths)}: none of {len(names)} items has {SHORTEST} words or more to look for."
            )
        for name, array in zip(_ARRAYS, _indexed(found), strict=True):
            with written_aside(folder / f"{name}.npy") as path, path.open("wb") as stream:
                np.save(stream, array)
        write_json(folder / "items.json", {"names": names, "not_checkable": short})

    def opened(self, folder: Path) -> Contamination:
        """The signal with the prepared n-grams."""
        from mixwright.store.artifact import read_json

        one = dataclasses.replace(self)
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in _ARRAYS}
        one.__dict__["_index"] = _Index(**arrays, **read_json(folder / "items.json"))
        return one

    def identity(self, base: Path) -> str:
        """A hash of the evaluations."""
        from mixwright.curate.evaluation_items import identity

        return identity(self.paths, base)

    def measure(self, texts: Texts) -> dict[str, Floats]:
        text, word, length, member = self.index.found(texts)
        total = np.diff(texts.word_hashes[0])
        if not len(text):
            return {column: np.zeros(len(texts)) for column in self.columns}
        distinct = np.unique(text * (np.int64(self.index.holders[-1]) + 1) + member) // (self.index.holders[-1] + 1)
        covered = _covered(texts.word_hashes[0], text, word, length)
        return {
            "contaminated_ngrams": np.bincount(distinct, minlength=len(texts)).astype(np.float64),
            "contamination_ratio": ratio(covered, total),
        }

    @property
    def index(self) -> _Index:
        """What was prepared."""
        found: _Index = self.__dict__["_index"]
        return found

    @property
    def not_checkable(self) -> int:
        """How many items were too short to be looked for."""
        return self.index.not_checkable

    def explain(self, text: str) -> str:
        """Which item the text shares most n-grams with, and the first words they share; empty if it shares none."""
        from mixwright.curate.decontaminate import words

        index, shared = self.index, Texts([text])
        _, word, length, member = index.found(shared)
        if not len(member):
            return ""
        grams = np.unique(member)
        holders = np.concatenate([index.item[index.holders[gram] : index.holders[gram + 1]] for gram in grams])
        most = int(np.argmax(np.bincount(holders)))
        mine = [
            at for at, gram in enumerate(member) if most in index.item[index.holders[gram] : index.holders[gram + 1]]
        ]
        first = min(mine, key=lambda at: word[at])
        return (
            f"shares {len(set(member[mine].tolist()))} of {len(grams)} evaluation n-grams with {index.names[most]}, the "
            f"first: {words(text, int(word[first]), int(length[first]))}"
        )


@dataclass(frozen=True)
class _Index:
    """n-grams by length: those of ``lengths[k]`` words are ``hashes[first[k]:first[k + 1]]``, sorted; gram g is held by
    ``item[holders[g]:holders[g + 1]]``."""

    lengths: NDArray[np.int64]
    first: NDArray[np.int64]
    hashes: NDArray[np.uint64]
    holders: NDArray[np.int64]
    item: NDArray[np.int32]
    names: list[str]
    not_checkable: int

    def found(self, texts: Texts) -> tuple[Any, Any, Any, Any]:
        """Text, first word in it, length and number of the n-gram, of every one that a text holds."""
        parts = []
        for (begin, length), known in zip(
            zip(self.first.tolist(), self.lengths.tolist(), strict=False), self._sets, strict=True
        ):
            member, text, word = known.found(texts, length)
            parts.append((text, word, np.full(len(text), length), member + begin))
        text, word, size, number = (np.concatenate(column) for column in zip(*parts, strict=True))
        return text, word, size, number

    @property
    def _sets(self) -> list[Any]:
        from mixwright.curate.decontaminate import HashSet

        if "_made" not in self.__dict__:
            bounds = zip(self.first[:-1].tolist(), self.first[1:].tolist(), strict=True)
            self.__dict__["_made"] = [HashSet(self.hashes[start:stop]) for start, stop in bounds]
        made: list[Any] = self.__dict__["_made"]
        return made


def _batched(items: Iterator[Any]) -> Iterator[list[Any]]:
    batch: list[Any] = []
    for item in items:
        batch.append(item)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _grams(texts: Texts, n: int) -> tuple[list[tuple[Any, Any, Any]], int]:
    """Length, hashes and items of the n-grams of a batch of items, and how many items are too short."""
    from mixwright.curate.decontaminate import ngrams

    sizes = np.diff(texts.word_hashes[0])
    found = []
    for length in range(SHORTEST, n + 1):
        if length < n and not (sizes == length).any():
            continue
        grams = ngrams(texts, length)
        mine = slice(None) if length == n else sizes[grams.text] == length
        found.append((length, grams.hashes[mine], grams.text[mine]))
    return found, int((sizes < SHORTEST).sum())


def _indexed(found: list[tuple[Any, Any, Any]]) -> tuple[Any, ...]:
    """The arrays of ``_Index``, in the order of ``_ARRAYS``."""
    lengths = sorted({length for length, hashes, _ in found if len(hashes)})
    first, all_hashes, sizes, items = [0], [], [np.zeros(1, dtype=np.int64)], []
    for length in lengths:
        hashes = np.concatenate([h for one, h, _ in found if one == length])
        item = np.concatenate([i for one, _, i in found if one == length]).astype(np.int32)
        order = np.lexsort((item, hashes))
        hashes, item = hashes[order], item[order]
        new = np.ones(len(hashes), dtype=bool)
        new[1:] = (hashes[1:] != hashes[:-1]) | (item[1:] != item[:-1])
        distinct, counts = np.unique(hashes[new], return_counts=True)
        all_hashes.append(distinct)
        sizes.append(counts)
        items.append(item[new])
        first.append(first[-1] + len(distinct))
    return (
        np.array(lengths), np.array(first), np.concatenate(all_hashes), np.cumsum(np.concatenate(sizes)),
        np.concatenate(items),
    )  # fmt: skip


def _covered(first: Any, text: Any, word: Any, length: Any) -> Any:
    """How many words of each text stand in a found n-gram."""
    edges = np.zeros(first[-1] + 1, dtype=np.int64)
    start = first[text] + word
    np.add.at(edges, start, 1)
    np.add.at(edges, start + length, -1)
    inside = np.zeros(len(edges), dtype=np.int64)
    np.cumsum(np.cumsum(edges[:-1]) > 0, out=inside[1:])
    return np.diff(inside[first])
