"""How often phrases of a list stand in a text."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mixwright.core.errors import DataError
from mixwright.curate.signal import Floats, Signal, Texts, ratio

_FILE = "phrases.npz"


@dataclass(frozen=True)
class WordList(Signal):
    """``word_list_hits``, ``word_list_ratio``: places where a phrase of a list stands; words in them / words.

    ``path`` is a text file in UTF-8, a phrase of one word or more a line; blank lines and repeated phrases do not matter.
    A phrase stands where its words follow one another as words of the text (``Texts.words``), in any case, whatever is
    between them; the number of places counts overlapping ones. A word is taken for another with probability 2^-64.

    Cost: 2 ns a word beside ``Texts.words`` for each length, in words, that phrases have.
    """

    columns = ("word_list_hits", "word_list_ratio")
    always = False

    path: str

    def prepare(self, base: Path, folder: Path) -> None:
        """Hash the phrases. Raises DataError if there is no such file, it is not UTF-8 or a line holds no word."""
        from mixwright.curate.decontaminate import ngrams

        phrases = self._phrases(base)
        texts = Texts(phrases)
        sizes = np.diff(texts.word_hashes[0])
        if not sizes.all():
            raise DataError(f"{self.path}: {phrases[int(np.argmin(sizes))]!r} holds no word. Take the line out.")
        by_length = {}
        for size in np.unique(sizes).tolist():
            mine = Texts([phrase for phrase, length in zip(phrases, sizes, strict=True) if length == size])
            by_length[str(size)] = np.unique(ngrams(mine, size).hashes)
        np.savez(folder / _FILE, **by_length)  # type: ignore[arg-type]

    def opened(self, folder: Path) -> WordList:
        """The signal with the prepared phrases."""
        from mixwright.curate.decontaminate import HashSet

        one = dataclasses.replace(self)
        with np.load(folder / _FILE) as found:
            one.__dict__["_sets"] = [(int(size), HashSet(found[size])) for size in found.files]
        return one

    def identity(self, base: Path) -> str:
        """The SHA-256 of the list."""
        from mixwright.store.artifact import file_hash

        return file_hash(self._place(base))

    def measure(self, texts: Texts) -> dict[str, Floats]:
        sets: list[tuple[int, Any]] = self.__dict__["_sets"]
        first = texts.word_hashes[0]
        hits, edges = np.zeros(len(texts)), np.zeros(int(first[-1]) + 1, dtype=np.int64)
        for size, known in sets:
            _, text, word = known.found(texts, size)
            hits += np.bincount(text, minlength=len(texts))
            np.add.at(edges, first[text] + word, 1)
            np.add.at(edges, first[text] + word + size, -1)
        inside = np.zeros(len(edges), dtype=np.int64)
        np.cumsum(np.cumsum(edges[:-1]) > 0, out=inside[1:])
        return {"word_list_hits": hits, "word_list_ratio": ratio(np.diff(inside[first]), np.diff(first))}

    def _place(self, base: Path) -> Path:
        place = base / Path(self.path).expanduser()
        if not place.is_file():
            raise DataError(f"There is no word list {place}, named by path of the signal word_list.")
        return place

    def _phrases(self, base: Path) -> list[str]:
        try:
            lines = self._place(base).read_text("utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise DataError(
                f"{self.path} is not UTF-8 (at byte {error.start}). Save the word list as UTF-8."
            ) from error
        if not (phrases := [line for line in lines if line.strip()]):
            raise DataError(f"{self.path} holds no phrase. Write one a line.")
        return phrases
