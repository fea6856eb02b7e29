"""What the study says about curation: what is measured, the rules a row must keep, dedup, how far targets are kept apart."""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt

from mixwright.core.errors import StudyError
from mixwright.curate.dedup.options import Near, Semantic
from mixwright.curate.dedup.options import Options as DedupOptions
from mixwright.curate.entries import Entry, entries, names_of_codes
from mixwright.curate.expressions import (
    LANGUAGE,
    SCOPES,
    Arithmetic,
    Column,
    Comparison,
    Every,
    Node,
    Number,
    Quantile,
    Vocabulary,
    columns_of,
    parse,
    quantiles_of,
)  # fmt: skip
from mixwright.curate.presets import preset

#: the rules that are no condition on signals: a row that cannot be read, a text that was kept before or elsewhere
UNREADABLE = "unreadable"
DUPLICATE = "exact_duplicate"
NEAR = "near_duplicate"
LINES = "duplicate_lines"
SUBSTRING = "duplicate_substring"
SEMANTIC = "semantic_duplicate"
EARLIER = "earlier_run"

_PERCENTILE = re.compile(r"p(?P<percent>\d+(?:\.\d+)?)(?:\s+per\s+(?P<scope>\w+))?\Z")


@dataclass(frozen=True)
class Bounds:
    """What a signal must keep: ``min <= value <= max``; None is no bound. A value that is no number fails.

    A bound may be a percentile, ``p25``, of the column over the readable rows of a row's domain (``p25 per language``,
    ``p25 per all``). With ``columns``, several scorers of the same thing, the rule is a vote under a name of its own:
    ``at_least`` so many of them must keep the bounds, ``all``, or by default more than half: (M + 1) / 2 rounded up.
    """

    min: float | str | None = None
    max: float | str | None = None
    columns: tuple[str, ...] = ()
    at_least: int | Literal["all"] | None = None

    def __post_init__(self) -> None:
        for side in ("min", "max"):
            bound = getattr(self, side)
            if isinstance(bound, int) and not isinstance(bound, bool):
                object.__setattr__(self, side, float(bound))
        given = [bound for bound in (self.min, self.max) if bound is not None]
        numbers = [bound for bound in given if not isinstance(bound, str)]
        if not given or not all(math.isfinite(bound) for bound in numbers):
            raise StudyError(f"A rule needs a finite min, max or both; got min {self.min}, max {self.max}.")
        if len(numbers) == 2 and numbers[0] > numbers[1]:
            raise StudyError(f"A rule's min must not be above its max; got {self.min} and {self.max}.")
        percents = [_percentile(bound, "").percent for bound in given if isinstance(bound, str)]
        if len(percents) == 2 and percents[0] > percents[1]:
            raise StudyError(f"A rule's min must not be above its max; got {self.min} and {self.max}.")
        if self.at_least is not None and not self.columns:
            raise StudyError(f"at_least ({self.at_least}) is for a vote: name its columns.")
        if isinstance(self.at_least, int) and not 1 <= self.at_least <= len(self.columns):
            raise StudyError(f"at_least must lie in 1..{len(self.columns)}, its columns; it is {self.at_least}.")

    @property
    def votes(self) -> int:
        """How many of ``columns`` must keep the bounds."""
        if self.at_least == "all":
            return len(self.columns)
        return self.at_least if self.at_least is not None else (len(self.columns) + 2) // 2

    def node(self, column: str) -> Node:
        """The condition on a column, or with ``columns`` the vote."""
        if not self.columns:
            return self._within(column)
        parts = [self._within(name) for name in self.columns]
        votes = parts[0]
        for part in parts[1:]:
            votes = Arithmetic("+", votes, part)
        return Comparison((votes, Number(float(self.votes))), (">=",))

    def _within(self, column: str) -> Node:
        sides = [(">=", self.min), ("<=", self.max)]
        parts = tuple(
            Comparison(
                (Column(column), _percentile(bound, column) if isinstance(bound, str) else Number(bound)), (sign,)
            )
            for sign, bound in sides
            if bound is not None
        )
        return parts[0] if len(parts) == 1 else Every(parts)

    def text(self, column: str) -> str:
        """The condition in words of the language of ``keep``."""
        low, high = (bound if isinstance(bound, str) else f"{bound:.10g}" if bound is not None else "" for bound in
                     (self.min, self.max))  # fmt: skip
        wanted = " and ".join(part for part in (f">= {low}" if low else "", f"<= {high}" if high else "") if part)
        if self.columns:
            return f"{self.votes} of {', '.join(self.columns)} {wanted}"
        return f"{column} {wanted}"


def _percentile(text: str, column: str) -> Quantile:
    match = _PERCENTILE.match(text)
    scope = (match["scope"] or "domain") if match else ""
    if match is None or float(match["percent"]) > 100 or scope not in SCOPES:
        raise StudyError(
            f"A bound is a number or a percentile such as p25, p25 per language or p25 per all; got {text!r}."
        )
    return Quantile(float(match["percent"]), column, scope)


@dataclass(frozen=True)
class Overrides:
    """Rules for some rows: ``presets`` add theirs; ``rules`` and ``keep`` replace those of the same name, or add theirs.

    A rule that is null is switched off. A ``keep`` without a name replaces the ones without a name.
    """

    presets: tuple[str, ...] = ()
    rules: Mapping[str, Bounds | None] = field(default_factory=dict)
    keep: str | Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Rule:
    """One condition: a row for which ``keep`` does not hold fails it.

    ``text`` says it in words, ``signal`` is its column where it looks at one, ``source`` says where its numbers are from;
    ``unnamed`` marks a part of a ``keep`` without a name.
    """

    name: str
    keep: Node
    text: str
    signal: str | None
    source: str = ""
    unnamed: bool = False
    min: float | None = None
    max: float | None = None


@dataclass(frozen=True)
class Options:
    """What is kept.

    ``presets`` are named sets of rules (``presets/``), ``rules`` bounds per signal column, ``keep`` expressions over
    columns, each a rule of its own (one without a name is as many rules as it joins by ``and``, each called by its
    text); their order is the order in which drops are told. A preset's rules are called ``gopher.words``; under that name
    ``rules`` sets other bounds, or with null switches it off. ``domains`` and ``languages`` replace or add to them for rows
    of a domain, or of a language (column ``lang``); where both speak of one rule, the language's holds. A target's document
    that shares ``target_ngram`` words in a row with a kept training document is dropped. ``measure``
    lists signals that are not always measured, with their options; an entry may have another name and say which
    ``signal`` it is, and its columns then begin with that name. ``signals`` are further ones, ``package.module:Class``.
    ``rewrite`` lists what changes texts as they are read, before anything is measured, with options.

    ``memory`` (bytes, ``1.5GB``) bounds what all workers together hold, beside 64 bytes a document, by how many
    work at once and how large the partitions of dedup are. ``shard`` is about how
    much text a task holds. ``text_copy`` keeps all texts uncompressed in the work folder until they are written, so that
    they are decoded once; unset, that is done on one machine where it takes less than a quarter of the free disk. A
    compressed file may unpack to at most ``max_inflation`` times its size.
    """

    presets: tuple[str, ...] = ()
    rules: Mapping[str, Bounds | None] = field(default_factory=dict)
    keep: str | Mapping[str, str] = field(default_factory=dict)
    domains: Mapping[str, Overrides] = field(default_factory=dict)
    languages: Mapping[str, Overrides] = field(default_factory=dict)
    measure: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    rewrite: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    dedup: DedupOptions = field(default_factory=DedupOptions)
    target_ngram: Annotated[int, Ge(1)] = 13
    signals: tuple[str, ...] = ()
    memory: str | None = None
    shard: str = "64MB"
    text_copy: bool | None = None
    max_inflation: Annotated[float, Gt(1)] = 1000.0

    def __post_init__(self) -> None:
        for language in self.languages:
            if language not in self.languages_spoken:
                raise StudyError(f"languages: lang is never {language!r}.{_near(language, self.languages_spoken)}")
        used = set(self.columns_needed)
        for entry in self.entries:
            if used & set(entry.columns):
                entry.check()

    # ---- what is measured

    @cached_property
    def entries(self) -> tuple[Entry, ...]:
        """Every signal that could be measured: those always measured, those listed, those a rule may name."""
        return entries(self.measure, self.signals)

    @cached_property
    def measured(self) -> tuple[Entry, ...]:
        """The signals that are measured: those always measured, those listed, those whose columns a rule names."""
        used = set(self.columns_needed)
        return tuple(entry for entry in self.entries if entry.wanted or used & set(entry.columns))

    @cached_property
    def languages_spoken(self) -> tuple[str, ...]:
        """The names of the code numbers of the column ``lang``."""
        return names_of_codes(self.entries).get(LANGUAGE, ())

    @cached_property
    def columns_needed(self) -> tuple[str, ...]:
        """The columns that deciding reads, each once, in the order of the rules."""
        columns = [name for rule in self._held for name in columns_of(rule.keep)]
        return tuple(dict.fromkeys([*columns, *([LANGUAGE] if self.languages else [])]))

    @cached_property
    def _known(self) -> Vocabulary:
        columns = frozenset(column for entry in self.entries for column in entry.columns)
        return Vocabulary(columns, names_of_codes(self.entries))

    # ---- the rules

    def ruleset(self, domain: str = "", language: str = "") -> dict[str, Rule]:
        """The rules for rows of a domain and a language, by name, in the order of the waterfall."""
        found: dict[str, Rule] = {}
        for where, layer in self._layers(domain, language):
            self._lay(found, layer, where)
        order = {rule.name: place for place, rule in reversed(list(enumerate(self._every_rule)))}
        return {name: found[name] for name in sorted(found, key=order.__getitem__)}

    @cached_property
    def conditions(self) -> tuple[str, ...]:
        """The names of all rules on signals, in any domain or language, in the order of the waterfall."""
        held = {rule.name for rule in self._held}
        return tuple(dict.fromkeys(rule.name for rule in self._every_rule if rule.name in held))

    @cached_property
    def quantiles(self) -> tuple[Quantile, ...]:
        """The quantiles that the rules need, each once."""
        return tuple(dict.fromkeys(found for rule in self._held for found in quantiles_of(rule.keep)))

    @cached_property
    def _held(self) -> tuple[Rule, ...]:
        """Every rule that holds for some domain and language."""
        both = itertools.product(("", *self.domains), ("", *self.languages))
        return tuple(dict.fromkeys(rule for place in both for rule in self.ruleset(*place).values()))

    @cached_property
    def _every_rule(self) -> tuple[Rule, ...]:
        """The rules of every layer, the base's first; a name may come again."""
        return tuple(rule for where, layer in self._layers(None, None) for rule in self._laid(layer, where))

    def _layers(self, domain: str | None, language: str | None) -> Iterator[tuple[str, Overrides]]:
        """Base, domain and language (None: every one), each with the name of its place."""
        yield "", Overrides(self.presets, self.rules, self.keep)
        for kind, given, name in (("domains", self.domains, domain), ("languages", self.languages, language)):
            for at, layer in given.items():
                if name is None or at == name:
                    yield f"{kind}.{at}.", layer

    def _laid(self, layer: Overrides, where: str) -> Iterator[Rule]:
        """The rules that a layer adds or replaces."""
        of_presets = {rule.name: rule for name in layer.presets for rule in self._of_preset(name)}
        yield from of_presets.values()
        known = {rule.name: rule for name in self.presets for rule in self._of_preset(name)} | of_presets
        for name, bounds in layer.rules.items():
            if bounds is not None:
                yield self._of_bounds(name, bounds, known, where)
        yield from self._of_keep(layer.keep, where)

    def _lay(self, found: dict[str, Rule], layer: Overrides, where: str) -> None:
        if isinstance(layer.keep, str):
            for name in [name for name, rule in found.items() if rule.unnamed]:
                del found[name]
        for name in layer.rules if isinstance(layer.keep, Mapping) else ():
            if name in layer.keep:
                raise StudyError(f"{where}keep: {name!r} is a rule under rules as well; rename this one.")
        for rule in self._laid(layer, where):
            found[rule.name] = rule
        for name in [name for name, bounds in layer.rules.items() if bounds is None]:
            if name not in found:
                raise StudyError(f"{where}rules: there is no rule {name!r} to switch off.{_near(name, found)}")
            del found[name]

    def _of_preset(self, name: str) -> tuple[Rule, ...]:
        """The rules of a preset, which are parsed once however many layers have it."""
        if name not in self._presets:
            self._presets[name] = tuple(
                self._parsed(f"{name}.{rule.name}", rule.keep, f"the preset {name}", source=rule.source)
                for rule in preset(name)
            )
        return self._presets[name]

    @cached_property
    def _presets(self) -> dict[str, tuple[Rule, ...]]:
        return {}

    def _of_bounds(self, name: str, bounds: Bounds, known: Mapping[str, Rule], where: str) -> Rule:
        column = known[name].signal if name in known else name
        if column is None:
            raise StudyError(
                f"{where}rules: {name!r} looks at several columns; set it to null and write one under keep."
            )
        for one in bounds.columns or (column,):
            if one not in self._known.columns:
                raise StudyError(
                    f"No signal measures {one!r}, named in {where}rules.{_near(one, self._known.columns)} "
                    "docs/signals.md lists the columns there are."
                )
        low, high = (bound if not isinstance(bound, str) else None for bound in (bounds.min, bounds.max))
        signal = None if bounds.columns else column
        return Rule(name, bounds.node(column), bounds.text(column), signal, min=low, max=high)

    def _of_keep(self, keep: str | Mapping[str, str], where: str) -> Iterator[Rule]:
        if isinstance(keep, str):
            whole = parse(keep, self._known, f"{where}keep")
            for part in whole.parts if isinstance(whole, Every) else (whole,):
                text = " ".join(keep[part.at[0] : part.at[1]].split())
                yield Rule(text, part, text, _only(columns_of(part)), unnamed=True)
        else:
            for name, text in keep.items():
                yield self._parsed(name, text, f"{where}keep.{name}")

    def _parsed(self, name: str, text: str, where: str, source: str = "") -> Rule:
        node = parse(text, self._known, where)
        return Rule(name, node, " ".join(text.split()), _only(columns_of(node)), source)

    # ---- all rules, those on signals and the others

    @property
    def shares(self) -> str:
        """The rule that drops a target's document for sharing words with training text."""
        return f"shares_{self.target_ngram}gram"

    @cached_property
    def waterfall(self) -> tuple[str, ...]:
        """Every rule a row can fail, in the order in which drops are told."""
        dedup = self.dedup
        also = ((NEAR, dedup.near), (LINES, dedup.lines), (SUBSTRING, dedup.substring), (SEMANTIC, dedup.semantic),
                (EARLIER, dedup.against))  # fmt: skip
        return (UNREADABLE, *self.conditions, self.shares, DUPLICATE, *(name for name, wanted in also if wanted))

    @property
    def similar(self) -> dict[str, str]:
        """For each rule on duplicates, in the order of the waterfall, what the similarity had to be (``""``: no number)."""
        near = self.dedup.near if isinstance(self.dedup.near, Near) else Near()
        semantic = self.dedup.semantic if isinstance(self.dedup.semantic, Semantic) else Semantic()
        told = {NEAR: f"< {near.threshold:.10g}", SEMANTIC: f"< {semantic.threshold:.10g}"}
        return {
            name: told.get(name, "")
            for name in (DUPLICATE, NEAR, LINES, SUBSTRING, SEMANTIC, EARLIER)
            if name in self.waterfall
        }

    def told(self) -> list[dict[str, Any]]:
        """Every rule as a row of a table, in the order of the waterfall; ``signal`` is None for those without one."""
        base, every = self.ruleset(), {rule.name: rule for rule in reversed(self._every_rule)}
        return [_told(name, base.get(name, every.get(name)), self._places_of(name)) for name in self.waterfall]

    def _places_of(self, name: str) -> list[str]:
        """The overrides that set a rule."""
        return [
            where.rstrip(".")
            for where, layer in self._layers(None, None)
            if where and (name in layer.rules or any(rule.name == name for rule in self._laid(layer, where)))
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Options:
        """The inverse of ``to_dict``."""
        from pydantic import TypeAdapter

        return TypeAdapter(cls).validate_python(dict(values))


def _told(name: str, rule: Rule | None, places: list[str]) -> dict[str, Any]:
    if rule is None:
        rule = Rule(name, Number(0.0), "", None)
    told = {"rule": name, "signal": rule.signal, "min": rule.min, "max": rule.max, "text": rule.text}
    return told | {"source": rule.source, "places": places}


def _only(names: tuple[str, ...]) -> str | None:
    return names[0] if len(names) == 1 else None


def _near(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""
