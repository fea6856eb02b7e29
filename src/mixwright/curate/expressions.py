"""The little language of ``keep``: what must hold of a row's numbers. Parsed strictly, never run as Python.

    keep        all ("or" all)*
    all         some ("and" some)*
    some        "not" some | comparison
    comparison  sum (("<" | "<=" | ">" | ">=" | "==" | "!=") sum)* scope?
                | sum "between" sum "and" sum scope?
                | column ("==" | "!=") string | column "in" "(" string ("," string)* ")"
    scope       "per" ("domain" | "language" | "all")
    sum         product (("+" | "-") product)*
    product     signed (("*" | "/") signed)*
    signed      ("-" | "+") signed | number | column | quantile | "is_missing" "(" sum ")" | "(" keep ")"
    quantile    p25 | p25(column) | p25(column, domain | language | all)

A column is ``name`` or ``instance.name``, in backquotes if it holds other signs. ``p25`` is the 25th percentile over the
readable rows of a row's domain unless another scope is named; without a column it is of the one column that its comparison
looks at. NaN fails every comparison, ``!=`` too; ``is_missing`` finds it. A comparison counts as 0 or 1 in a sum. Dividing
by 0 gives an infinity or NaN.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mixwright.core.errors import StudyError

Columns: TypeAlias = Mapping[str, NDArray[np.float64]]
#: words and signs an expression may have, and brackets, signs and ``not`` within one another: Python's stack is finite
LONGEST, DEEPEST = 400, 30
SCOPES = ("domain", "language", "all")
#: the column whose code numbers are languages
LANGUAGE = "lang"


@dataclass(frozen=True)
class Node:
    """A part of an expression; ``at`` are the characters where it begins and ends in its text."""

    at: tuple[int, int] = field(default=(0, 0), compare=False, kw_only=True)

    def below(self) -> Iterator[Node]:
        """The parts it is made of."""
        for one in fields(self):
            value = getattr(self, one.name)
            yield from (part for part in (value if isinstance(value, tuple) else (value,)) if isinstance(part, Node))

    def all(self) -> Iterator[Node]:
        """Itself and everything below."""
        yield self
        for part in self.below():
            yield from part.all()


@dataclass(frozen=True)
class Number(Node):
    """A constant; ``text`` says which quantile it was, if it was one."""

    value: float
    text: str = field(default="", compare=False, kw_only=True)


@dataclass(frozen=True)
class Column(Node):
    """A row's number in a column."""

    name: str


@dataclass(frozen=True)
class Quantile(Node):
    """The ``percent``-th percentile of a column over a scope; bare (column ``""``) until its comparison is read."""

    percent: float
    column: str = ""
    scope: str = ""


@dataclass(frozen=True)
class PerCode(Node):
    """A constant per code number of a column: ``values[code + 1]``, the first for the unknown (-1); ``text`` says which."""

    column: str
    values: tuple[float, ...]
    text: str = ""


@dataclass(frozen=True)
class Arithmetic(Node):
    """``left sign right``."""

    sign: str
    left: Node
    right: Node


@dataclass(frozen=True)
class Missing(Node):
    """Whether a number is NaN."""

    of: Node


@dataclass(frozen=True)
class Labelled(Node):
    """Whether a column's code number is, or with ``negated`` is not, one of ``codes``."""

    column: str
    codes: tuple[int, ...]
    negated: bool = False
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparison(Node):
    """``parts[0] signs[0] parts[1] signs[1] ...``, each pair in turn."""

    parts: tuple[Node, ...]
    signs: tuple[str, ...]


@dataclass(frozen=True)
class Every(Node):
    """Whether all parts hold."""

    parts: tuple[Node, ...]


@dataclass(frozen=True)
class Some(Node):
    """Whether any part holds."""

    parts: tuple[Node, ...]


@dataclass(frozen=True)
class Not(Node):
    """Whether a part does not hold."""

    of: Node


_FLAGS = (Missing, Labelled, Comparison, Every, Some, Not)


@dataclass(frozen=True)
class Vocabulary:
    """The columns that expressions may name, and for columns of code numbers the names of 0, 1, 2 ..."""

    columns: frozenset[str]
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def columns_of(node: Node) -> tuple[str, ...]:
    """The columns an expression reads, each once, in order."""
    found: dict[str, None] = {}
    for part in node.all():
        if isinstance(part, Column):
            found[part.name] = None
        elif isinstance(part, Quantile | PerCode | Labelled):
            found[part.column] = None
        if isinstance(part, Quantile) and part.scope == "language":
            found[LANGUAGE] = None
    return tuple(found)


def quantiles_of(node: Node) -> tuple[Quantile, ...]:
    """The quantiles an expression needs, each once."""
    return tuple(dict.fromkeys(part for part in node.all() if isinstance(part, Quantile)))


def bound(node: Node, numbers: Callable[[Quantile], Node]) -> Node:
    """The expression with every quantile replaced."""
    if isinstance(node, Quantile):
        return replace(numbers(node), at=node.at)
    return _changed(node, lambda part: bound(part, numbers))


def _changed(node: Node, change: Callable[[Node], Node]) -> Node:
    """The node with ``change`` applied to the parts right below it."""
    made: dict[str, Any] = {}
    for one in fields(node):
        value = getattr(node, one.name)
        if isinstance(value, Node):
            made[one.name] = change(value)
        elif isinstance(value, tuple) and value and isinstance(value[0], Node):
            made[one.name] = tuple(change(part) for part in value)
    return replace(node, **made) if made else node


# ---- evaluating ------------------------------------------------------------------------------------------------------

_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal, "==": np.equal,
    "!=": lambda left, right: (left < right) | (left > right),
}  # fmt: skip
_COMPUTE: dict[str, Callable[[Any, Any], Any]] = {
    "+": np.add, "-": np.subtract, "*": np.multiply, "/": np.true_divide,
}  # fmt: skip


def holds(node: Node, columns: Columns) -> Any:
    """Whether an expression without quantiles holds, ``(n,)`` bool, or one bool where it looks at no column."""
    if isinstance(node, Comparison):
        values = [number_of(part, columns) for part in node.parts]
        found = _COMPARE[node.signs[0]](values[0], values[1])
        for at, sign in enumerate(node.signs[1:], 1):
            found = found & _COMPARE[sign](values[at], values[at + 1])
        return found
    if isinstance(node, Every):
        return _joined(np.logical_and, node.parts, columns)
    if isinstance(node, Some):
        return _joined(np.logical_or, node.parts, columns)
    if isinstance(node, Not):
        return np.logical_not(holds(node.of, columns))
    if isinstance(node, Missing):
        return np.isnan(number_of(node.of, columns))
    assert isinstance(node, Labelled)
    codes = columns[node.column]
    named = np.isin(codes, np.array(node.codes, dtype=np.float64))
    return ~named & (codes == codes) if node.negated else named


def _joined(join: Callable[[Any, Any], Any], parts: Sequence[Node], columns: Columns) -> Any:
    found = holds(parts[0], columns)
    for part in parts[1:]:
        found = join(found, holds(part, columns))
    return found


def number_of(node: Node, columns: Columns) -> Any:
    """An expression's number, ``(n,)`` float64, or one float where it looks at no column; a truth is 0 or 1."""
    if isinstance(node, Number):
        return np.float64(node.value)
    if isinstance(node, Column):
        return columns[node.name]
    if isinstance(node, Arithmetic):
        with np.errstate(all="ignore"):
            return _COMPUTE[node.sign](number_of(node.left, columns), number_of(node.right, columns))
    if isinstance(node, PerCode):
        table = np.array([*node.values, np.nan])
        codes = columns[node.column] + 1
        known = (codes >= 0) & (codes < len(node.values))
        return table[np.where(known, codes, len(node.values)).astype(np.int64)]
    return np.multiply(holds(node, columns), 1.0)


# ---- telling ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Link:
    """One of the conditions that a rule joins: ``keep`` must hold; ``value`` is the number it is about (None: no number),
    ``threshold`` what that number must be, as ``>= 20``."""

    keep: Node
    value: Node | None
    threshold: str


_TURNED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}


def links(node: Node) -> tuple[Link, ...]:
    """The conditions that ``and`` and chains of comparisons join, in order: a row fails a rule where it fails any."""
    if isinstance(node, Every):
        return tuple(link for part in node.parts for link in links(part))
    if isinstance(node, Comparison):
        return tuple(
            _link(left, sign, right) for left, sign, right in zip(node.parts, node.signs, node.parts[1:], strict=False)
        )
    columns = columns_of(node)
    return (Link(node, Column(columns[0]) if len(columns) == 1 else None, said(node)),)


def _link(left: Node, sign: str, right: Node) -> Link:
    keep = Comparison((left, right), (sign,))
    if isinstance(left, Number | PerCode | Quantile):
        return Link(keep, right, f"{_TURNED[sign]} {said(left)}")
    return Link(keep, left, f"{sign} {said(right)}")


def said(node: Node) -> str:
    """An expression in its own language, numbers to ten digits."""
    if isinstance(node, Number):
        return f"{node.value:.10g}" + (f" ({node.text})" if node.text else "")
    if isinstance(node, Column):
        return _quoted(node.name)
    if isinstance(node, Quantile):
        return f"p{node.percent:g}({_quoted(node.column)}, {node.scope})"
    if isinstance(node, PerCode):
        return node.text
    if isinstance(node, Arithmetic):
        return f"{_bracketed(node.left)} {node.sign} {_bracketed(node.right)}"
    if isinstance(node, Missing):
        return f"is_missing({said(node.of)})"
    if isinstance(node, Labelled):
        names = ", ".join(f'"{name}"' for name in node.names)
        return f"{node.column} != {names}" if node.negated else f"{node.column} in ({names})"
    if isinstance(node, Comparison):
        return _bracketed(node.parts[0]) + "".join(
            f" {sign} {_bracketed(part)}" for sign, part in zip(node.signs, node.parts[1:], strict=True)
        )
    if isinstance(node, Not):
        return f"not {_bracketed(node.of)}"
    assert isinstance(node, Every | Some)
    return (" and " if isinstance(node, Every) else " or ").join(map(_bracketed, node.parts))


def _bracketed(node: Node) -> str:
    simple = isinstance(node, Number | Column | Quantile | PerCode | Missing)
    return said(node) if simple else f"({said(node)})"


def _quoted(name: str) -> str:
    return name if re.fullmatch(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*", name) else f"`{name}`"


# ---- parsing ---------------------------------------------------------------------------------------------------------

_TOKEN = re.compile(
    r"""\s*(?:(?P<number>(?:\d+(?:_\d+)*(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)(?![\w.])
    |(?P<string>"[^"]*"|'[^']*')
    |(?P<quantile>p\d+(?:\.\d+)?)(?![\w.])
    |(?P<name>[^\W\d]\w*(?:\.[^\W\d]\w*)*|`[^`]+`)
    |(?P<sign><=|>=|==|!=|[-<>+*/(),])
    |(?P<end>$))""",
    re.VERBOSE,
)
_WORDS = frozenset({"and", "or", "not", "between", "per", "in", "is_missing"})


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    start: int
    stop: int


def parse(text: str, known: Vocabulary, where: str = "keep") -> Node:
    """The expression a text says. StudyError, with the place, for anything else; unknown names suggest the near one."""
    return _Parser(text, known, where).whole()


class _Parser:
    """One token ahead; every method reads what its name says in the grammar above."""

    def __init__(self, text: str, known: Vocabulary, where: str) -> None:
        self.text, self.known, self.where = text, known, where
        self.tokens = self._tokens()
        self.at = self.depth = 0

    def _tokens(self) -> list[_Token]:
        found: list[_Token] = []
        place = 0
        while not found or found[-1].kind != "end":
            match = _TOKEN.match(self.text, place)
            if match is None:
                start = place + len(self.text[place:]) - len(self.text[place:].lstrip())
                raise self.wrong(f"{self.text[start : start + 10]!r} is no number, name or sign", start)
            kind = str(match.lastgroup)
            found.append(_Token(kind, match[kind], match.start(kind), match.end()))
            place = match.end()
            if len(found) > LONGEST:
                raise self.wrong(f"it has more than {LONGEST} words and signs; make several rules of it", place)
        return found

    def wrong(self, what: str, place: int) -> StudyError:
        """The error at a place of the text."""
        shown = self.text if len(self.text) <= 200 else f"{self.text[:199]}…"
        return StudyError(
            f"{self.where}: {shown!r}, at character {place + 1}: {what}{'' if what.endswith('?') else '.'}"
        )

    # ---- tokens

    @property
    def now(self) -> _Token:
        return self.tokens[self.at]

    def take(self, *texts: str) -> _Token | None:
        """The token that stands here, if it is one of these."""
        token = self.now
        if token.kind in ("sign", "name") and token.text in texts:
            self.at += 1
            return token
        return None

    def need(self, text: str, what: str) -> _Token:
        token = self.take(text)
        if token is None:
            raise self.wrong(f"{self.found()} stands where {what} must", self.now.start)
        return token

    def within(self, read: Callable[[], Node]) -> Node:
        """What ``read`` reads, one level deeper."""
        self.depth += 1
        if self.depth > DEEPEST:
            raise self.wrong(f"it is more than {DEEPEST} levels deep; make several rules of it", self.now.start)
        node = read()
        self.depth -= 1
        return node

    def found(self) -> str:
        return repr(self.now.text) if self.now.kind != "end" else "the end"

    # ---- truths

    def whole(self) -> Node:
        node = self.keep()
        if self.now.kind != "end":
            raise self.wrong(f"{self.found()} stands where 'and', 'or' or the end must", self.now.start)
        return self.truth(node)

    def truth(self, node: Node) -> Node:
        if not isinstance(node, _FLAGS):
            raise self.wrong("a number stands where a comparison must, such as chars >= 20", node.at[0])
        return node

    def keep(self) -> Node:
        return self._list(self.every, "or", Some)

    def every(self) -> Node:
        return self._list(self.some, "and", Every)

    def _list(self, read: Callable[[], Node], word: str, kind: type[Every] | type[Some]) -> Node:
        parts = [read()]
        while self.take(word):
            parts.append(read())
        if len(parts) == 1:
            return parts[0]
        return kind(tuple(self.truth(part) for part in parts), at=(parts[0].at[0], parts[-1].at[1]))

    def some(self) -> Node:
        sign = self.take("not")
        if sign is None:
            return self.comparison()
        part = self.truth(self.within(self.some))
        return Not(part, at=(sign.start, part.at[1]))

    def comparison(self) -> Node:
        first = self.sum()
        if self.take("between"):
            low = self.sum()
            self.need("and", "'and' of a between")
            return self._compared([low, first, self.sum()], ["<=", "<="])
        if self.take("in"):
            return self._labelled(first, self._names(), negated=False)
        parts: list[Node] = [first]
        signs: list[str] = []
        while token := self.take("<", "<=", ">", ">=", "==", "!="):
            if self.now.kind == "string":
                if token.text not in ("==", "!=") or signs:
                    raise self.wrong(
                        "a name in quotes can only be compared by == or != with one column", self.now.start
                    )
                return self._labelled(first, [self._string()], negated=token.text == "!=")
            parts.append(self.sum())
            signs.append(token.text)
        return self._compared(parts, signs) if signs else first

    def _compared(self, parts: list[Node], signs: list[str]) -> Node:
        """The comparison, its bare quantiles filled in."""
        scope = ""
        if self.take("per"):
            word = self.take(*SCOPES)
            if word is None:
                raise self.wrong(f"{self.found()} stands where one of {', '.join(SCOPES)} must", self.now.start)
            scope = word.text
        start, stop = min(part.at[0] for part in parts), self.tokens[self.at - 1].stop
        columns = {name for part in parts for name in columns_of(part) if name}
        filled = tuple(self._filled(part, columns, scope) for part in parts)
        return Comparison(filled, tuple(signs), at=(start, stop))

    def _filled(self, node: Node, columns: set[str], scope: str) -> Node:
        if not isinstance(node, Quantile):
            return _changed(node, lambda part: self._filled(part, columns, scope))
        if not node.column and len(columns) != 1:
            of = ", ".join(sorted(columns)) or "none"
            raise self.wrong(
                f"{_percent(node)} is of which column? Write {_percent(node)}(column); named here: {of}", node.at[0]
            )
        return replace(node, column=node.column or next(iter(columns)), scope=node.scope or scope or "domain")

    # ---- names in quotes

    def _string(self) -> _Token:
        token = self.now
        if token.kind != "string":
            raise self.wrong(f"{self.found()} stands where a name in quotes must", token.start)
        self.at += 1
        return token

    def _names(self) -> list[_Token]:
        self.need("(", "'(' before names in quotes")
        found = [self._string()]
        while self.take(","):
            found.append(self._string())
        self.need(")", "')'")
        return found

    def _labelled(self, column: Node, names: list[_Token], *, negated: bool) -> Node:
        labels = self.known.labels.get(column.name) if isinstance(column, Column) else None
        if labels is None or not isinstance(column, Column):
            known = ", ".join(sorted(self.known.labels)) or "none"
            raise self.wrong(f"names in quotes are for columns of names: {known}", names[0].start)
        codes = []
        for token in names:
            if token.text[1:-1] not in labels:
                raise self.wrong(
                    f"{column.name} is never {token.text[1:-1]!r}{_near(token.text[1:-1], labels)}", token.start
                )
            codes.append(labels.index(token.text[1:-1]))
        texts = tuple(token.text[1:-1] for token in names)
        return Labelled(column.name, tuple(codes), negated, texts, at=(column.at[0], self.tokens[self.at - 1].stop))

    # ---- numbers

    def sum(self) -> Node:
        return self._chain(self.product, "+", "-")

    def product(self) -> Node:
        return self._chain(self.signed, "*", "/")

    def _chain(self, read: Callable[[], Node], *signs: str) -> Node:
        node = read()
        while token := self.take(*signs):
            right = read()
            node = Arithmetic(token.text, node, right, at=(node.at[0], right.at[1]))
        return node

    def signed(self) -> Node:
        token = self.now
        if self.take("-"):
            part = self.within(self.signed)
            if isinstance(part, Number):
                return Number(-part.value, at=(token.start, part.at[1]))
            return Arithmetic("*", Number(-1.0, at=part.at), part, at=(token.start, part.at[1]))
        if self.take("+"):
            return self.within(self.signed)
        if self.take("("):
            node = self.within(self.keep)
            return replace(node, at=(token.start, self.need(")", "')'").stop))
        if token.kind == "number":
            self.at += 1
            if float(token.text) == float("inf"):
                raise self.wrong(f"{token.text} is too large a number", token.start)
            return Number(float(token.text), at=(token.start, token.stop))
        if token.kind == "quantile":
            return self._quantile()
        if token.kind == "name":
            return self._missing() if token.text == "is_missing" else self._column()
        raise self.wrong(f"{self.found()} stands where a number or a column must", token.start)

    def _quantile(self) -> Node:
        token = self.now
        self.at += 1
        percent = float(token.text[1:])
        if percent > 100:
            raise self.wrong(f"{token.text} is above the 100th percentile", token.start)
        column, scope = "", ""
        if self.take("("):
            column = self._column().name
            if self.take(","):
                word = self.take(*SCOPES)
                if word is None:
                    raise self.wrong(f"{self.found()} stands where one of {', '.join(SCOPES)} must", self.now.start)
                scope = word.text
            self.need(")", "')'")
        stop = self.tokens[self.at - 1].stop
        return Quantile(percent, column, scope or ("domain" if column else ""), at=(token.start, stop))

    def _missing(self) -> Node:
        start = self.now.start
        self.at += 1
        self.need("(", "'('")
        part = self.sum()
        for one in part.all():
            if isinstance(one, Quantile):
                raise self.wrong("a quantile is never missing", one.at[0])
        return Missing(part, at=(start, self.need(")", "')'").stop))

    def _column(self) -> Column:
        token = self.now
        if token.kind != "name" or token.text in _WORDS:
            raise self.wrong(f"{self.found()} stands where a number or a column must", token.start)
        self.at += 1
        name = token.text.strip("`")
        if self.now.text == "(" and self.now.kind == "sign":
            raise self.wrong(
                f"there is no function {name!r}; there are p25(column) and is_missing(column)", token.start
            )
        if name not in self.known.columns:
            raise self.wrong(f"no signal measures {name!r}{_near(name, self.known.columns)}", token.start)
        return Column(name, at=(token.start, token.stop))


def _near(name: str, known: Sequence[str] | frozenset[str]) -> str:
    near = difflib.get_close_matches(name, sorted(known), n=1)
    if near:
        return f"; did you mean {near[0]!r}?"
    some = [name for name in sorted(known) if not name.startswith("dt_")]  # datatrove's own are for its preset
    return (
        f"; known are {', '.join(some[:12])}{f' and {len(some) - 12} more (docs/signals.md)' if len(some) > 12 else ''}"
    )


def _percent(node: Quantile) -> str:
    return f"p{node.percent:g}"
