"""What is decided over all sources at once: which rows pass, which repeat one that is kept, which targets share words.

Equal texts pass or fail every bound together, so duplicates are looked for among rows that pass everything else: the
row a duplicate names is always one that is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixwright.curate.decontaminate import HashSet, ngrams, words
from mixwright.curate.dedup.exact import first_of_equals
from mixwright.curate.ledger import Failure
from mixwright.curate.measuring import Measured
from mixwright.curate.rules import DUPLICATE, Options


@dataclass
class Part:
    """The readable rows of one source or target, without their text, and what is decided about each.

    ``values`` ``(n, R)`` holds the numbers of the R bounded signals, ``failing`` ``(n, R)`` which bounds they break;
    ``shared`` row -> (n-grams shared with training text, the first of them); ``duplicate_of`` row -> id of its twin.
    """

    measured: Measured
    domain: str
    target: bool
    ids: list[str]
    hashes: list[str]
    values: NDArray[np.float64]
    failing: NDArray[np.bool_]
    shared: dict[int, tuple[int, str]] = field(default_factory=dict)
    duplicate_of: dict[int, str] = field(default_factory=dict)

    @classmethod
    def load(cls, measured: Measured, domain: str, options: Options, *, target: bool) -> Part:
        """What a finished task measured, held against the bounds."""
        import pyarrow.parquet as pq

        rows = pq.read_table(measured.file("rows.parquet"), columns=["id", "text_hash"])
        table = pq.read_table(measured.signals, columns=list(options.rules))
        values = {name: table[name].to_numpy() for name in options.rules}
        matrix = np.stack(list(values.values()), axis=1) if values else np.zeros((rows.num_rows, 0))
        failing = options.failing(values, rows.num_rows)
        ids, hashes = rows["id"].to_pylist(), rows["text_hash"].to_pylist()
        return cls(measured, domain, target, ids, hashes, matrix, failing)

    @property
    def name(self) -> str:
        """The source's or target's name."""
        return self.measured.name

    def passing(self) -> list[int]:
        """Rows that fail nothing decided so far."""
        return [int(row) for row in np.flatnonzero(~self.failing.any(axis=1)) if row not in self.shared]

    def failures(self, row: int, options: Options) -> list[Failure]:
        """Everything a row fails, in the order of the waterfall; none: it is kept."""
        found = []
        for at, (name, bounds) in enumerate(options.rules.items()):
            if self.failing[row, at]:
                value = float(self.values[row, at])
                found.append(Failure(name, value, bounds.broken(value)))
        if row in self.shared:
            found.append(Failure(options.shares, float(self.shared[row][0]), "<= 0"))
        if row in self.duplicate_of:
            found.append(Failure(DUPLICATE, None, ""))
        return found

    def detail(self, row: int, options: Options) -> str:
        """What a person should read beside the failures."""
        first = self.shared.get(row, (0, ""))[1]
        return f"the first {options.target_ngram} words it shares with training text: {first}" if first else ""

    def texts(self, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Row number and the named columns of each row, streamed."""
        import pyarrow.parquet as pq

        number = 0
        with pq.ParquetFile(self.measured.file("rows.parquet")) as table:
            for batch in table.iter_batches(batch_size=1024, columns=list(columns)):
                for line in batch.to_pylist():
                    yield number, line
                    number += 1


def decide(parts: Sequence[Part], options: Options) -> None:
    """Fill in ``shared`` and ``duplicate_of``. Memory: ids and hashes of all rows, and one target's text."""
    training = HashSet.of(*(part.measured.grams.members for part in parts if not part.target))
    for part in parts:
        if part.target and len(training.members):
            _mark_shared(part, training, options.target_ngram)
    if options.dedup.exact:
        _mark_duplicates(parts)


def _mark_shared(part: Part, training: HashSet, n: int) -> None:
    for row, line in part.texts(["text"]):
        grams = ngrams([line["text"]], n)
        found = np.flatnonzero(training.has(grams.hashes))
        if len(found):
            part.shared[row] = (len(found), words(line["text"], int(grams.word[found[0]]), n))


def _mark_duplicates(parts: Sequence[Part]) -> None:
    places = [(part, row) for part in parts for row in part.passing()]
    first = first_of_equals([part.hashes[row] for part, row in places])
    for number in np.flatnonzero(first != np.arange(len(places))):
        part, row = places[number]
        kept, kept_row = places[first[number]]
        part.duplicate_of[row] = kept.ids[kept_row]
