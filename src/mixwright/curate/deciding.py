"""Deciding from numbers alone: percentiles become numbers, and every row keeps or fails every rule.

Deciding is a pure function of the signals: it reads no text, and other thresholds need nothing but another reading of the
columns they name. Duplicates, and targets that share words, are found among what it keeps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mixwright.curate.expressions import (
    LANGUAGE,
    Columns,
    Node,
    Number,
    PerCode,
    Quantile,
    bound,
    columns_of,
    holds,
    links,
    number_of,
    said,
)
from mixwright.curate.ledger import Failures, Places
from mixwright.curate.percentiles import percentiles
from mixwright.curate.rules import Options
from mixwright.curate.tables import SignalTable, find_tables

Flags = NDArray[np.bool_]
Floats = NDArray[np.float64]
Threshold = NDArray[np.int32]
#: rows decided at a time, so that their columns stay in the processor's cache; a multiple of 8
_CHUNK = 1 << 14


@dataclass(frozen=True)
class Failing:
    """Which of ``rows`` rows fail which rules: bit ``row % 8`` of ``bits[rule, row // 8]`` (R, 8⌈n/64⌉).

    Bits past the end are 0.
    """

    rules: tuple[str, ...]
    rows: int
    bits: NDArray[np.uint8]

    def __len__(self) -> int:
        return self.rows

    def any(self) -> Flags:
        """Which rows fail anything, ``(n,)``."""
        return self._unpacked(np.bitwise_or.reduce(self.bits, axis=0))

    def rule(self, name: str) -> Flags:
        """Which rows fail one rule, ``(n,)``."""
        return self._unpacked(self.bits[self.rules.index(name)])

    def flags(self) -> Flags:
        """One bool per rule and row, ``(R, n)``."""
        return self._unpacked(self.bits)

    def counts(self) -> NDArray[np.int64]:
        """Per rule the rows failing it, failing it first, and failing nothing else, ``(3, R)``. Cost: some 0.1 ns a row and
        rule."""
        bits = self.bits.view(np.uint64)
        before = np.zeros_like(bits)
        np.bitwise_or.accumulate(bits[:-1], axis=0, out=before[1:])
        twice = np.bitwise_or.reduce(bits & before, axis=0)
        found: NDArray[np.int64] = np.array([
            np.bitwise_count(some).sum(axis=1, dtype=np.int64) for some in (bits, bits & ~before, bits & ~twice)
        ])  # fmt: skip
        return found

    def _unpacked(self, bits: NDArray[np.uint8]) -> Flags:
        return np.unpackbits(bits, axis=-1, count=self.rows, bitorder="little").view(np.bool_)


#: for each condition of the options: what must hold (None: the rule is not for these rows)
_Nodes: TypeAlias = tuple[Node | None, ...]


@dataclass(frozen=True)
class Resolved:
    """The rules with numbers for percentiles: ``quantiles[text][group]``, as ``{"p25(ppl, domain)": {"code": 31.5}}``.

    A group is a domain, ``targets/<name>``, a language (``""``: unknown), or ``all``.
    """

    options: Options
    quantiles: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    _found: dict[tuple[str, str], _Variants] = field(default_factory=dict, repr=False, compare=False)

    @property
    def rules(self) -> tuple[str, ...]:
        """The rules on signals, in the order of the waterfall."""
        return self.options.conditions

    def decide(self, columns: Columns, domain: str, *, target: str = "") -> Failing:
        """What every row fails; ``columns`` holds ``options.columns_needed``, ``(n,)`` each, of rows of one domain.

        ``target`` is the name of the target whose rows they are, ``""`` for training text. Cost: about 2 ns a row and
        comparison.
        """
        rows = len(next(iter(columns.values()))) if columns else 0
        bits = np.zeros((len(self.rules), 8 * -(-rows // 64)), dtype=np.uint8)
        variants = self._variants(domain, target)
        for start in range(0, rows, _CHUNK):
            stop = min(start + _CHUNK, rows)
            part = {name: values[start:stop] for name, values in columns.items()}
            variants.fill(bits[:, start // 8 : -(-stop // 8)], part, stop - start)
        return Failing(self.rules, rows, bits)

    def failures(self, columns: Columns, domain: str, *, target: str = "") -> list[Failures]:
        """Everything the rows fail with values and thresholds, a rule at a time, in the order of the waterfall."""
        failing = self.decide(columns, domain, target=target)
        variants = self._variants(domain, target)
        found = [variants.told(number, np.flatnonzero(failing.rule(name)), columns) for number, name in
                 enumerate(self.rules)]  # fmt: skip
        return [Failures(name, *one) for name, one in zip(self.rules, found, strict=True) if len(one[0])]

    def told(self, columns: Columns, domain: str, *, target: str = "") -> list[Verdict]:
        """Every rule on one row (``columns`` of one row): the number it is about, what it must be, whether it is kept."""
        return self._variants(domain, target).verdicts(self.rules, columns)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "options": self.options.to_dict(),
            "quantiles": {text: dict(found) for text, found in self.quantiles.items()},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Resolved:
        """What ``to_dict`` gave."""
        return cls(Options.from_dict(values["options"]), values["quantiles"])

    def _variants(self, domain: str, target: str) -> _Variants:
        if (domain, target) not in self._found:
            self._found[domain, target] = self._made(domain, target)
        return self._found[domain, target]

    def _made(self, domain: str, target: str) -> _Variants:
        group = f"targets/{target}" if target else domain
        spoken = self.options.languages_spoken
        base = self._nodes(domain, "", group)
        others = {spoken.index(name): self._nodes(domain, name, group) for name in self.options.languages}
        return _Variants(base, others)

    def _nodes(self, domain: str, language: str, group: str) -> _Nodes:
        rules = self.options.ruleset(domain, language)
        return tuple(
            bound(rules[name].keep, lambda found: self._number(found, group)) if name in rules else None
            for name in self.rules
        )

    def _number(self, found: Quantile, group: str) -> Node:
        values, text = self.quantiles.get(said(found), {}), f"p{found.percent:g}"
        if found.scope == "language":
            names = ("", *self.options.languages_spoken)
            return PerCode(LANGUAGE, tuple(values.get(name, np.nan) for name in names), f"{text} per language")
        return Number(values.get("all" if found.scope == "all" else group, np.nan), text=text)


@dataclass(frozen=True)
class Verdict:
    """What one rule says of one row: ``value`` is None where it is about no number."""

    rule: str
    value: float | None
    threshold: str
    kept: bool


@dataclass(frozen=True)
class _Variants:
    """The conditions for rows of a domain, and of those languages for which the study has others (by code number)."""

    base: _Nodes
    languages: Mapping[int, _Nodes]

    def fill(self, bits: NDArray[np.uint8], columns: Columns, rows: int) -> None:
        """Set the bits (R, ⌈n/8⌉), which are 0, of the conditions that ``rows`` rows fail."""
        others = [(nodes, places) for code, nodes in self.languages.items()
                  if len(places := np.flatnonzero(columns[LANGUAGE] == code))]  # fmt: skip
        fails = np.empty(rows, dtype=bool)
        for rule, node in enumerate(self.base):
            _failed(node, columns, fails)
            for nodes, places in others:
                if nodes[rule] is not node and nodes[rule] != node:
                    fails[places] = _failed_at(nodes[rule], columns, places)
            bits[rule] = np.packbits(fails, bitorder="little")

    def told(self, number: int, rows: Places, columns: Columns) -> tuple[Places, Floats, tuple[str, ...], Threshold]:
        """For ``rows`` that fail a condition: the first number that is wrong and what it had to be."""
        values, threshold = np.full(len(rows), np.nan), np.zeros(len(rows), dtype=np.int32)
        texts: list[str] = []
        for nodes, at in self._split(rows, columns):
            node = nodes[number]
            if node is None or not len(at):
                continue
            part = {name: columns[name][rows[at]] for name in columns_of(node)}
            left = np.ones(len(at), dtype=bool)
            for link in links(node):
                wrong = left & ~np.broadcast_to(holds(link.keep, part), left.shape)
                if link.value is not None:
                    values[at[wrong]] = np.broadcast_to(number_of(link.value, part), left.shape)[wrong]
                threshold[at[wrong]] = len(texts)
                texts.append(link.threshold)
                left &= ~wrong
        return rows, values, tuple(texts), threshold

    def verdicts(self, rules: Sequence[str], columns: Columns) -> list[Verdict]:
        """What every condition says of one row; rules that are not for it are left out."""
        nodes = next((nodes for nodes, at in self._split(np.zeros(1, dtype=np.int64), columns) if len(at)), self.base)
        return [verdict for rule, node in zip(rules, nodes, strict=True) if node is not None
                for verdict in _verdicts(rule, node, columns)]  # fmt: skip

    def _split(self, rows: Places, columns: Columns) -> Iterator[tuple[_Nodes, Places]]:
        """The conditions, and which of ``rows`` they are for (as places within ``rows``)."""
        if not self.languages:
            yield self.base, np.arange(len(rows))
            return
        codes = columns[LANGUAGE][rows]
        yield self.base, np.flatnonzero(~np.isin(codes, list(self.languages)))
        for code, nodes in self.languages.items():
            yield nodes, np.flatnonzero(codes == code)


def _failed(node: Node | None, columns: Columns, fails: Flags) -> None:
    """Set which rows fail a condition; none fails one that is not for it."""
    if node is None:
        fails[:] = False
    else:
        np.logical_not(holds(node, columns), out=fails)


def _failed_at(node: Node | None, columns: Columns, places: Places) -> Flags:
    fails = np.zeros(len(places), dtype=bool)
    if node is not None:
        _failed(node, {name: columns[name][places] for name in columns_of(node)}, fails)
    return fails


def _verdicts(rule: str, node: Node, columns: Columns) -> Iterator[Verdict]:
    for link in links(node):
        value = None if link.value is None else float(np.ravel(number_of(link.value, columns))[0])
        yield Verdict(rule, value, link.threshold, bool(np.ravel(holds(link.keep, columns))[0]))


def resolve(options: Options, tables: Sequence[SignalTable]) -> Resolved:
    """The options with every percentile as a number, from the readable rows of ``tables``.

    Exact, over the numbers that are not NaN, between two neighbours in proportion (type 7 of Hyndman and Fan 1996, numpy's
    default). Cost: each column that has percentiles is read two to five times; memory: 0.5 MB a domain, and one shard.
    """
    found: dict[str, dict[str, float]] = {}
    for column, wanted in _by_column(options.quantiles).items():
        percents = sorted({quantile.percent for quantile in wanted})
        for scope in dict.fromkeys(quantile.scope for quantile in wanted):
            values = percentiles(partial(_grouped, tables, column, scope, options), percents)
            for quantile in wanted:
                if quantile.scope == scope:
                    found[said(quantile)] = {group: of[quantile.percent] for group, of in values.items()}
    return Resolved(options, found)


def _by_column(quantiles: Sequence[Quantile]) -> dict[str, list[Quantile]]:
    found: dict[str, list[Quantile]] = {}
    for quantile in quantiles:
        found.setdefault(quantile.column, []).append(quantile)
    return found


def _grouped(tables: Sequence[SignalTable], column: str, scope: str, options: Options) -> Iterator[tuple[str, Floats]]:
    """The numbers of a column with the name of their group, a shard at a time; targets only where they are the group."""
    for table in tables:
        if scope == "domain":
            yield table.group, table.columns([column])[column]
        elif table.target:
            continue
        elif scope == "all":
            yield "all", table.columns([column])[column]
        else:
            read = table.columns([column, LANGUAGE])
            for code in np.unique(read[LANGUAGE]):
                known = 0 <= code < len(options.languages_spoken)
                name = options.languages_spoken[int(code)] if known else ""
                yield name, read[column][read[LANGUAGE] == code]


def redecide(measured: Path, options: Options) -> dict[str, Any]:
    """What other rules would keep of what is measured: counts; nothing is written and no text is read.

    ``domains`` (targets as ``targets/<name>``): domain -> ``documents`` and ``bytes`` that are readable, ``passing`` and
    ``passing_bytes`` that fail no rule; ``rules``: rule -> documents ``failing`` it, ``first`` failing it, failing it
    ``alone``. Duplicates and shared words, which are looked for among what passes, are not counted. Raises DataError where
    a column was not measured. Cost: the columns that the rules name are read; more than 10 million rows a second.
    """
    tables = find_tables(measured)
    resolved = resolve(options, tables)
    domains: dict[str, dict[str, int]] = {}
    counts = np.zeros((3, len(resolved.rules)), dtype=np.int64)
    for table in tables:
        columns = table.columns([*options.columns_needed, "bytes"])
        failing = resolved.decide(columns, table.domain, target=table.source if table.target else "")
        passing = ~failing.any()
        size = columns["bytes"]
        found = (len(passing), size.sum(), passing.sum(), size[passing].sum())
        row = domains.setdefault(table.group, dict.fromkeys(("documents", "bytes", "passing", "passing_bytes"), 0))
        for name, value in zip(row, found, strict=True):
            row[name] += int(value)
        counts += failing.counts()
    named = zip(resolved.rules, counts.T.tolist(), strict=True)
    return {
        "domains": domains,
        "rules": {rule: dict(zip(("failing", "first", "alone"), found, strict=True)) for rule, found in named},
    }
