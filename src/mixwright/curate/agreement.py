"""Do several scorers of the same thing agree: rank correlation of their numbers, overlap of what they would keep.

n  rows;  M  scorers;  a row without a number (NaN) is kept by no scorer, and left out of correlations
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixwright.core.errors import DataError
from mixwright.curate.rules import Options
from mixwright.curate.signal import Flags, Floats
from mixwright.curate.tables import SignalTable


@dataclass(frozen=True)
class Agreement:
    """How ``names`` (M scorers) agree.

    ``spearman`` (M, M): rank correlation over the rows that both could score, ties ranked by their mean; NaN where these are
    fewer than two or all equal. ``jaccard`` (M, M): rows both keep / rows one of them keeps; NaN where none is kept.
    ``compared`` (M, M): rows that both could score. ``kept`` (M,): rows each keeps. ``votes`` (M + 1,): rows that 0, 1, ...
    M scorers keep.
    """

    names: tuple[str, ...]
    spearman: Floats
    jaccard: Floats
    compared: NDArray[np.int64]
    kept: NDArray[np.int64]
    votes: NDArray[np.int64]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; NaN becomes None."""

        def plain(values: Floats) -> list[list[float | None]]:
            return [[None if np.isnan(value) else float(value) for value in row] for row in values]

        counts = {name: getattr(self, name).tolist() for name in ("compared", "kept", "votes")}
        return {"names": list(self.names), "spearman": plain(self.spearman), "jaccard": plain(self.jaccard), **counts}


def agreement(
    scores: Mapping[str, Floats],
    *,
    low: float | Mapping[str, float] = -np.inf,
    high: float | Mapping[str, float] = np.inf,
) -> Agreement:
    """How scorers agree: ``scores`` (n,) by name; each keeps ``low <= score <= high`` (one bound for all, or one by name).

    DataError for columns of different length. Cost: a sort per scorer, and per pair where their gaps differ.
    """
    names = tuple(scores)
    if len({len(values) for values in scores.values()}) > 1:
        sizes = ", ".join(f"{name} {len(values)}" for name, values in scores.items())
        raise DataError(f"Scorers of different rows cannot be compared: {sizes}. Score the same rows with each.")
    kept = {name: (values >= _of(low, name)) & (values <= _of(high, name)) for name, values in scores.items()}
    count = len(names)
    spearman, jaccard = np.full((count, count), np.nan), np.full((count, count), np.nan)
    compared = np.zeros((count, count), dtype=np.int64)
    for a, one in enumerate(names):
        for b, other in enumerate(names[: a + 1]):
            both = np.isfinite(scores[one]) & np.isfinite(scores[other])
            compared[a, b] = compared[b, a] = both.sum()
            spearman[a, b] = spearman[b, a] = _spearman(scores[one][both], scores[other][both])
            jaccard[a, b] = jaccard[b, a] = _jaccard(kept[one], kept[other])
    rows = len(next(iter(scores.values()))) if scores else 0
    votes = np.sum(list(kept.values()), axis=0, dtype=np.int64) if scores else np.zeros(0, dtype=np.int64)
    totals = np.array([kept[name].sum() for name in names], dtype=np.int64)
    return Agreement(names, spearman, jaccard, compared, totals, np.bincount(votes.reshape(rows), minlength=count + 1))


def of_votes(tables: Sequence[SignalTable], options: Options) -> dict[str, Agreement]:
    """How the scorers of each vote (a rule with ``columns``) agree over the rows of the sources; rule -> agreement.

    ``tables`` are those of all shards, targets among them, which do not count. Bounds that are percentiles have no one
    number: such a vote's rows kept are those that have a score. Memory: 8 bytes a row and column.
    """
    found = {}
    for name, bounds in options.rules.items():
        if bounds is None or len(bounds.columns) < 2:
            continue
        shards = [table.columns(bounds.columns) for table in tables if not table.target]
        scores = {
            column: np.concatenate([shard[column] for shard in shards] or [np.zeros(0)]) for column in bounds.columns
        }
        found[name] = agreement(scores, low=_number(bounds.min, -np.inf), high=_number(bounds.max, np.inf))
    return found


def _number(bound: float | str | None, endless: float) -> float:
    return endless if bound is None or isinstance(bound, str) else bound


def _of(bound: float | Mapping[str, float], name: str) -> float:
    return bound[name] if isinstance(bound, Mapping) else bound


def _jaccard(one: Flags, other: Flags) -> float:
    either = int((one | other).sum())
    return int((one & other).sum()) / either if either else float("nan")


def _spearman(one: Floats, other: Floats) -> float:
    from scipy.stats import rankdata

    if len(one) < 2:
        return float("nan")
    ranks = [rankdata(values) - (len(values) + 1) / 2 for values in (one, other)]
    norm = float(np.sqrt((ranks[0] @ ranks[0]) * (ranks[1] @ ranks[1])))
    return float(ranks[0] @ ranks[1]) / norm if norm > 0 else float("nan")
