"""How well a small n-gram model of the user's reference text predicts a text."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from mixwright.core.errors import DataError, StudyError
from mixwright.curate.signal import Floats, Signal, Texts

if TYPE_CHECKING:
    from mixwright.curate.ngram_model import NgramModel

#: bytes of reference text counted at once
_BATCH = 8 << 20


@dataclass(frozen=True)
class ReferencePerplexity(Signal):
    """``reference_perplexity``: per word; ``reference_bits_per_byte``: bits of the words / bytes of the text.

    The model is trained on the reference at ``paths`` (files, folders or globs; ``fields`` their text fields, joined) with
    words as in ``Texts.words``: of ``order`` words with interpolated modified Kneser-Ney (or ``witten_bell``) smoothing, see
    ``ngram_model.py``; of at most ``ngrams`` n-grams (32 bytes each), the least seen are left out. All words that the
    reference does not hold are one class, of the probability that smoothing leaves; neither their spelling nor what stands
    between words costs bits. NaN for a text without words.

    Cost: 80 ns a word beside ``Texts.words``, 100 MB/s (order 3, 1.4 million n-grams); training 0.1 s/MB.
    """

    columns = ("reference_perplexity", "reference_bits_per_byte")
    always = False
    may_fail = True

    paths: tuple[str, ...]
    fields: tuple[str, ...] = ("text",)
    order: int = 3
    smoothing: Literal["kneser_ney", "witten_bell"] = "kneser_ney"
    ngrams: int = 8_000_000

    def __post_init__(self) -> None:
        if not 1 <= self.order <= 6 or self.ngrams < 1:
            raise StudyError(
                f"reference_perplexity: order must be 1 to 6 and ngrams at least 1; got {self.order} and {self.ngrams}."
            )

    def prepare(self, base: Path, folder: Path) -> None:
        """Train the model. Raises DataError if the reference cannot be read or holds no word."""
        from mixwright.curate.ngram_model import train

        model = train(self._batches(base), self.order, self.smoothing, self.ngrams)
        if not model.words:
            raise DataError(f"{', '.join(self.paths)}: the reference holds no word to learn from.")
        model.save(folder)

    def opened(self, folder: Path) -> ReferencePerplexity:
        """The signal with the trained model."""
        from mixwright.curate.ngram_model import NgramModel

        one = dataclasses.replace(self)
        one.__dict__["_model"] = NgramModel.opened(folder)
        return one

    def identity(self, base: Path) -> str:
        """A hash of the reference."""
        from mixwright.curate.evaluation_items import identity

        return identity(self.paths, base)

    def measure(self, texts: Texts) -> dict[str, Floats]:
        model: NgramModel = self.__dict__["_model"]
        bits, words = model.bits(texts), np.diff(texts.word_hashes[0])
        some, nothing = words > 0, np.full(len(texts), np.nan)
        return {
            "reference_perplexity": np.exp2(np.divide(bits, words, out=nothing.copy(), where=some)),
            "reference_bits_per_byte": np.divide(bits, texts.bytes, out=nothing, where=some),
        }

    def _batches(self, base: Path) -> Iterator[Texts]:
        from mixwright.curate.evaluation_items import read_items

        waiting: list[str] = []
        size = 0
        for item in read_items(self.paths, self.fields, base):
            waiting.append(item.text)
            size += len(item.text)
            if size >= _BATCH:
                yield Texts(waiting)
                waiting, size = [], 0
        yield Texts(waiting)
