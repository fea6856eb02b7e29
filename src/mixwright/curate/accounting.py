"""The account of a curation: how many rows enter and leave every stage, what each rule does alone and with others.

An account of a shard is made from what its rows fail; accounts add up, so the account of the whole is the sum of those of
its shards, in any order. What a *stage* is: reading, then every rule in the order of the waterfall; a row leaves at the first
rule it fails.

R rules, S = R + 1 stages: ``first`` and the other arrays (R,) follow the waterfall; ``sizes`` (S, BINS) counts rows by the
logarithm of their bytes: row r those that leave at rule r, the last row those that stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mixwright.curate.ledger import Failures
from mixwright.curate.rules import DUPLICATE, UNREADABLE

if TYPE_CHECKING:
    import pyarrow as pa

Counts = NDArray[np.int64]
#: bins of text lengths in bytes: eight equal ones between powers of two, so that a median is known within 6 %
_PER_OCTAVE = 8
BINS = _PER_OCTAVE * 40
#: dropped rows shown per rule
SAMPLES = 3
#: characters of a text that are shown
SHOWN = 120
_ARRAYS = ("failing", "first", "first_bytes", "alone")


@dataclass
class Tally:
    """The counts of one source: ``read`` and ``kept`` are (documents, bytes of text); an unreadable row has no bytes.

    ``failing`` (R,) rows that fail a rule, whatever else they fail; ``first`` (R,) rows whose first failed rule it is and
    ``first_bytes`` their bytes; ``alone`` (R,) rows that fail nothing else, which would be kept without the rule; ``overlap``
    (R, R) rows that fail both.
    """

    domain: str
    read: Counts
    kept: Counts
    failing: Counts
    first: Counts
    first_bytes: Counts
    alone: Counts
    overlap: Counts
    sizes: Counts

    @classmethod
    def empty(cls, domain: str, rules: int) -> Tally:
        """No rows yet."""
        shapes = ((2,), (2,), (rules,), (rules,), (rules,), (rules,), (rules, rules), (rules + 1, BINS))
        return cls(domain, *(np.zeros(shape, dtype=np.int64) for shape in shapes))

    def add(self, other: Tally) -> None:
        """Add another's counts to these."""
        for name in ("read", "kept", *_ARRAYS, "overlap", "sizes"):
            getattr(self, name).__iadd__(getattr(other, name))

    def to_dict(self) -> dict[str, Any]:
        """Plain values; the two large tables are sparse, as [row, column, count]."""
        plain = {name: getattr(self, name).tolist() for name in ("read", "kept", *_ARRAYS)}
        return {"domain": self.domain} | plain | {name: _sparse(getattr(self, name)) for name in ("overlap", "sizes")}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], rules: int) -> Tally:
        """What ``to_dict`` gave."""
        made = cls.empty(values["domain"], rules)
        for name in ("read", "kept", *_ARRAYS):
            getattr(made, name)[:] = values[name]
        for name in ("overlap", "sizes"):
            for row, column, count in values[name]:
                getattr(made, name)[row, column] = count
        return made


@dataclass
class Account:
    """Counts per source, and a few dropped rows of every rule; ``rules`` is the order of the waterfall."""

    rules: tuple[str, ...]
    sources: dict[str, Tally] = field(default_factory=dict)
    samples: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    @classmethod
    def of_shard(
        cls, rules: Sequence[str], source: str, domain: str, sizes: Counts, failures: Sequence[Failures],
        unreadable: int = 0,
    ) -> Account:  # fmt: skip
        """The account of one shard: ``sizes`` (n,) are the bytes of its readable rows' texts, ``failures`` all they fail."""
        account = cls(tuple(rules))
        account.sources[source] = _tally(account.rules, domain, np.asarray(sizes, np.int64), failures, unreadable)
        return account

    def add(self, other: Account) -> None:
        """Add another account of the same rules to this one."""
        if other.rules != self.rules:
            raise AssertionError(f"Accounts of other rules do not add up: {other.rules} and {self.rules}.")
        for source, tally in other.sources.items():
            self.sources.setdefault(source, Tally.empty(tally.domain, len(self.rules))).add(tally)
        for rule, lines in other.samples.items():
            self.show(rule, lines)

    def show(self, rule: str, lines: Iterable[Mapping[str, Any]]) -> None:
        """Offer ledger lines with a ``start`` of their text as samples of a rule: those with the smallest ids stay."""
        offered = [*self.samples.get(rule, ()), *({**line, "start": line["start"][:SHOWN]} for line in lines)]
        self.samples[rule] = sorted(offered, key=lambda line: str(line["id"]))[:SAMPLES]

    def counts(self, which: str, source: str) -> dict[str, int]:
        """``failing``, ``first`` or ``alone`` of a source, every rule named."""
        return dict(zip(self.rules, getattr(self.sources[source], which).tolist(), strict=True))

    def stages(self, source: str) -> list[dict[str, Any]]:
        """What enters and leaves every stage of a source: documents, bytes, and the median length of what enters.

        The median, in bytes of the readable rows, is known within 6 %; None where nothing enters. The last stage, ``kept``,
        says what is left.
        """
        tally = self.sources[source]
        left = np.concatenate([np.cumsum(tally.sizes[::-1], axis=0)[::-1]])
        documents, size = tally.read.copy()
        told = []
        for number, rule in enumerate(self.rules):
            gone = {"documents": int(tally.first[number]), "bytes": int(tally.first_bytes[number])}
            entering = {"documents": int(documents), "bytes": int(size), "median_bytes": _median(left[number])}
            told.append({"rule": rule, "entering": entering, "dropped": gone})
            documents, size = documents - gone["documents"], size - gone["bytes"]
        last = {"documents": int(documents), "bytes": int(size), "median_bytes": _median(left[-1])}
        return [*told, {"rule": "kept", "entering": last, "dropped": {"documents": 0, "bytes": 0}}]

    def summary(self) -> dict[str, Any]:
        """What the report reads: ``first_dropped``, ``alone``, ``stages`` per source, ``overlap`` of all, ``samples``.

        ``overlap`` lists [rule, rule, documents] for pairs of different rules that some document fails both.
        """
        overlap = sum(
            (tally.overlap for tally in self.sources.values()), np.zeros((len(self.rules),) * 2, dtype=np.int64)
        )
        pairs = [[self.rules[a], self.rules[b], count] for a, b, count in _sparse(np.triu(overlap, 1))]
        return {
            "first_dropped": {source: self.counts("first", source) for source in self.sources},
            "alone": {source: self.counts("alone", source) for source in self.sources},
            "stages": {source: self.stages(source) for source in self.sources},
            "overlap": pairs,
            "samples": self.told_samples(),
        }

    def told_samples(self) -> list[dict[str, Any]]:
        """The samples of all rules in order; a row that is a sample of several rules stands once."""
        lines = {line["id"]: line for rule in self.rules for line in self.samples.get(rule, ())}
        return list(lines.values())

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        sources = {source: tally.to_dict() for source, tally in self.sources.items()}
        return {"rules": list(self.rules), "sources": sources, "samples": self.samples}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Account:
        """What ``to_dict`` gave."""
        rules = tuple(values["rules"])
        sources = {source: Tally.from_dict(tally, len(rules)) for source, tally in values["sources"].items()}
        return cls(rules, sources, {rule: list(lines) for rule, lines in values["samples"].items()})


def samples_wanted(failures: Sequence[Failures], ids: Any) -> dict[str, list[int]]:
    """The rows of a shard that could be samples of each rule they fail: the places of those with the smallest ids.

    ``ids`` is the Arrow array of the readable rows' ids. Cost: one selection per rule.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    wanted: dict[str, list[int]] = {}
    for one in failures:
        if len(one.rows):
            few = ids.take(pa.array(one.rows))
            best = pc.select_k_unstable(pa.table({"id": few}), SAMPLES, [("id", "ascending")]).to_numpy()
            wanted[one.rule] = one.rows[best].tolist()
    return wanted


def told_duplicates(table: pa.Table) -> dict[str, Any]:
    """Of what ``dedup.keep.drops`` drops: ``dropped`` per rule, ``clusters``, ``sizes`` (how many clusters lose 1, 2, 3 to 4, 5
    to 8 ... rows: [most, clusters]) and ``similarity`` (per rule: rows in each of 20 equal bins from 0 to 1, equal texts
    left out)."""
    import pyarrow.compute as pc

    sizes = pc.value_counts(table["cluster"]).field("counts").to_numpy(zero_copy_only=False)
    powers, clusters = np.unique(np.ceil(np.log2(sizes)).astype(np.int64), return_counts=True)
    rules = table["rule"].to_numpy()
    similarity = table["similarity"].cast("double").to_numpy()
    near = (similarity == similarity) & (rules != DUPLICATE)
    bins = np.minimum(similarity[near] * 20, 19).astype(np.int64)
    return {
        "dropped": {str(rule): int((rules == rule).sum()) for rule in np.unique(rules.astype(str))},
        "clusters": len(sizes),
        "sizes": [[1 << int(power), int(count)] for power, count in zip(powers, clusters, strict=True)],
        "similarity": {
            str(rule): np.bincount(bins[rules[near] == rule], minlength=20).tolist()
            for rule in np.unique(rules[near].astype(str))
        },
    }


def check_balance(account: Account, read: Mapping[str, int], kept: Mapping[str, int], lines: Mapping[str, int]) -> None:
    """Compare an account with the rows that were read, kept and written into the ledger, per source.

    Raises AssertionError with the first figure that does not agree: that is a fault of mixwright, not of the data.
    """
    for source, tally in account.sources.items():
        _equal(f"{source}: rows read", read.get(source, 0), int(tally.read[0]))
        _equal(f"{source}: documents kept", kept.get(source, 0), int(tally.kept[0]))
        _equal(f"{source}: lines in the ledger", lines.get(source, 0), int(tally.first.sum()))
        _equal(f"{source}: kept + dropped", int(tally.kept[0] + tally.first.sum()), int(tally.read[0]))
        _equal(f"{source}: bytes kept + dropped", int(tally.kept[1] + tally.first_bytes.sum()), int(tally.read[1]))
        for rule, failing, first, alone in zip(account.rules, tally.failing, tally.first, tally.alone, strict=True):
            if not failing >= first >= 0 or not failing >= alone >= 0:
                _equal(f"{source}: failing {rule}, at least {first} first and {alone} alone", int(failing), "more")
    for source in {**read, **kept, **lines}:
        if source not in account.sources:
            _equal(f"{source}: rows read", read.get(source, 0), 0)


def _equal(what: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise AssertionError(f"The ledger does not balance: {what} is {found}, but {wanted} was counted.")


def _tally(rules: tuple[str, ...], domain: str, sizes: Counts, failures: Sequence[Failures], unreadable: int) -> Tally:
    tally, place = Tally.empty(domain, len(rules)), {rule: number for number, rule in enumerate(rules)}
    stage = np.full(len(sizes), len(rules), dtype=np.int64)
    fails = np.zeros(len(sizes), dtype=np.int64)
    for one in failures:
        at = place[one.rule]
        fails[one.rows] += 1
        stage[one.rows] = np.minimum(stage[one.rows], at)
        tally.failing[at] += len(one.rows)
    for one in failures:
        tally.alone[place[one.rule]] += int((fails[one.rows] == 1).sum())
    counts = np.bincount(stage, minlength=len(rules) + 1)
    weights = np.bincount(stage, sizes, minlength=len(rules) + 1).astype(np.int64)  # exact: below 2^53 bytes
    tally.first += counts[:-1]
    tally.first_bytes += weights[:-1]
    tally.kept += np.array([counts[-1], weights[-1]])
    tally.sizes += np.bincount(stage * BINS + _bins(sizes), minlength=tally.sizes.size).reshape(tally.sizes.shape)
    tally.overlap += _overlap(len(rules), len(sizes), [(place[one.rule], one.rows) for one in failures])
    tally.read += np.array([len(sizes) + unreadable, sizes.sum()])
    for which in (tally.failing, tally.first, tally.alone):
        which[place[UNREADABLE]] += unreadable
    return tally


def _overlap(rules: int, rows: int, failing: Sequence[tuple[int, Counts]]) -> Counts:
    """Rows that fail both of two rules, ``(R, R)``; the diagonal is those that fail one. Sums of float32 are exact: chunks
    have fewer than 2^24 rows."""
    total = np.zeros((rules, rules), dtype=np.int64)
    used = [(at, places) for at, places in failing if len(places)]
    dropped = np.unique(np.concatenate([places for _, places in used])) if used else np.zeros(0, dtype=np.int64)
    for start in range(0, len(dropped), 1 << 18):
        part = dropped[start : start + (1 << 18)]
        flags = np.zeros((len(used), len(part)), dtype=np.float32)
        for number, (_, places) in enumerate(used):
            low, high = np.searchsorted(places, [part[0], part[-1] + 1])
            flags[number, np.searchsorted(part, places[low:high])] = 1
        at = [number for number, _ in used]
        total[np.ix_(at, at)] += (flags @ flags.T).astype(np.int64)
    return total


def _bins(sizes: Counts) -> Counts:
    """The bin of each length, by exact arithmetic; that of 0 is that of 1."""
    part, power = np.frexp(np.maximum(sizes, 1).astype(np.float64))
    bins: Counts = _PER_OCTAVE * (power - 1) + ((2 * part - 1) * _PER_OCTAVE).astype(np.int64)
    return np.minimum(bins, BINS - 1)


def _median(counts: Counts) -> int | None:
    """The middle of the bin that holds the (lower) median."""
    total = int(counts.sum())
    if not total:
        return None
    power, part = divmod(int(np.searchsorted(np.cumsum(counts), (total + 1) // 2)), _PER_OCTAVE)
    return round(2.0**power * (1 + (part + 0.5) / _PER_OCTAVE))


def _sparse(table: Counts) -> list[list[int]]:
    rows, columns = np.nonzero(table)
    return [[int(r), int(c), int(table[r, c])] for r, c in zip(rows, columns, strict=True)]
