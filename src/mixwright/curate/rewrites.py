"""What changes texts as they are read, before anything is measured: masks, lines taken out, characters taken out.

Each rewrite counts per text what it changed, and those counts are columns beside the signals'. A batch in which nothing
changes is handed on as it is. They run in the order in which the study lists them.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from mixwright.core.errors import StudyError
from mixwright.curate.signal import Floats
from mixwright.curate.texts import Texts

if TYPE_CHECKING:
    import pyarrow as pa

Rewritten = tuple["pa.LargeStringArray", dict[str, Floats]]
Kind = Literal["emails", "phones", "ips", "secrets", "urls"]
#: what stands for a masked piece; such a mask is no match itself, and forms none with what stands around it
MASKS: Mapping[str, str] = {
    "emails": "<email>", "phones": "<phone>", "ips": "<ip>", "secrets": "<secret>", "urls": "<url>"
}  # fmt: skip


class Rewrite(ABC):
    """One way of changing texts; a subclass is a frozen dataclass, its fields are its options."""

    @property
    @abstractmethod
    def columns(self) -> tuple[str, ...]:
        """What it counts per text."""

    @abstractmethod
    def apply(self, texts: pa.LargeStringArray) -> Rewritten:
        """The texts afterwards, and a float64 array ``(n,)`` per column; applying it again changes nothing."""


@dataclass(frozen=True)
class Mask(Rewrite):
    """``mask``: puts a mask in place of what ``contacts_and_secrets`` finds, of the ``kinds`` listed.

    ``masks`` gives others per kind than ``<email>`` ...: at most 16 letters, ``_`` and spaces, in brackets or between marks.
    Counts: ``mask_emails`` ... Cost: 0.5 ms/MB, and 1 us a match.
    """

    kinds: tuple[Kind, ...] = ("emails", "phones", "ips", "secrets")
    masks: Mapping[Kind, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.kinds:
            raise StudyError(f"rewrite.mask.kinds is empty; list what to mask: {', '.join(MASKS)}.")
        for kind, mask in self.masks.items():
            if not re.fullmatch(r"[<\[({|*#]?[A-Za-z_ ]{0,16}[>\])}|*#]?", mask):
                raise StudyError(
                    f"rewrite.mask.masks.{kind} is {mask!r}; a mask is at most 16 letters, _ and spaces, in brackets or "
                    "between | * #."
                )

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(f"mask_{kind}" for kind in self.kinds)

    def apply(self, texts: pa.LargeStringArray) -> Rewritten:
        from mixwright.curate.content_kernels import find_spans

        counts = {column: np.zeros(len(texts)) for column in self.columns}
        while True:  # a mask may part what was no match before; every round masks at least one anchor
            shared = Texts(texts)
            spans = find_spans(shared.data, shared.offsets, sum(self._bits))
            if not spans.shape[1]:
                return texts, counts
            for column, bit in zip(self.columns, self._bits, strict=True):
                counts[column] += np.bincount(spans[0][spans[1] == bit], minlength=len(texts))
            texts = _put(shared, spans, self._put_in)

    @cached_property
    def _bits(self) -> tuple[int, ...]:
        from mixwright.curate import content_kernels as kernels

        bits = {
            "urls": kernels.URL, "emails": kernels.EMAIL, "phones": kernels.PHONE, "ips": kernels.IP,
            "secrets": kernels.SECRET,
        }  # fmt: skip
        return tuple(bits[kind] for kind in self.kinds)

    @cached_property
    def _put_in(self) -> dict[int, bytes]:
        return {
            bit: self.masks.get(kind, MASKS[kind]).encode() for kind, bit in zip(self.kinds, self._bits, strict=True)
        }


def _put(texts: Texts, spans: Any, put_in: Mapping[int, bytes]) -> pa.LargeStringArray:
    """The texts with other bytes in place of the spans."""
    content, before = texts.data.tobytes(), 0
    pieces: list[bytes] = []
    for kind, start, stop in spans[1:].T.tolist():
        pieces += [content[before:start], put_in[kind]]
        before = stop
    grown = np.array([len(put_in[kind]) for kind in spans[1].tolist()], dtype=np.int64) - (spans[3] - spans[2])
    offsets = texts.offsets.copy()
    offsets[1:] += np.cumsum(np.bincount(spans[0], grown, minlength=len(texts)).astype(np.int64))
    return _strings(b"".join([*pieces, content[before:]]), offsets)


def _strings(content: bytes, offsets: Any) -> pa.LargeStringArray:
    import pyarrow as pa

    return pa.LargeStringArray.from_buffers(len(offsets) - 1, pa.py_buffer(offsets.tobytes()), pa.py_buffer(content))


@dataclass(frozen=True)
class StripControl(Rewrite):
    """``strip_control``: takes out NUL and the other control characters of ASCII but tab, line feed and carriage return.

    Count: ``stripped_controls``. Cost: 1 ms/MB.
    """

    columns: ClassVar[tuple[str, ...]] = ("stripped_controls",)

    def apply(self, texts: pa.LargeStringArray) -> Rewritten:
        shared = Texts(texts)
        data = shared.data
        bad = (data < 32) & (data != 9) & (data != 10) & (data != 13) | (data == 127)
        if not bad.any():
            return texts, {"stripped_controls": np.zeros(len(texts))}
        before = np.zeros(len(data) + 1, dtype=np.int64)
        np.cumsum(bad, out=before[1:])
        count = before[shared.offsets]
        return _strings(data[~bad].tobytes(), shared.offsets - count), {
            "stripped_controls": np.diff(count).astype(np.float64)
        }


@dataclass(frozen=True)
class Unicode(Rewrite):
    """``unicode``: brings texts into a normalization ``form`` of Unicode (Standard Annex 15).

    Count: ``unicode_changed``, 1 where a text was in another form. Cost: 1 ms/MB of ASCII, else 10 to 40.
    """

    columns: ClassVar[tuple[str, ...]] = ("unicode_changed",)

    form: Literal["nfc", "nfkc"] = "nfc"

    def apply(self, texts: pa.LargeStringArray) -> Rewritten:
        form = self.form.upper()

        def normalized(text: str) -> str:
            return text if unicodedata.is_normalized(form, text) else unicodedata.normalize(form, text)  # type: ignore[arg-type]

        changed, found = _each(texts, normalized, lambda data: data >= 0x80)
        return found, {"unicode_changed": changed.astype(np.float64)}


def _each(texts: pa.LargeStringArray, change: Callable[[str], str], where: Callable[[Any], Any]) -> tuple[Any, Any]:
    """Which texts a function of one text changed, and all texts afterwards; asked of those with a byte of a kind."""
    import pyarrow as pa

    shared = Texts(texts)
    changed = np.zeros(len(texts), dtype=bool)
    if not (marks := np.flatnonzero(where(shared.data))).size:
        return changed, texts
    new: dict[int, str] = {}
    for at in np.unique(np.searchsorted(shared.offsets, marks, side="right") - 1).tolist():
        text = texts[at].as_py()
        if (after := change(text)) != text:
            new[at], changed[at] = after, True
    if not new:
        return changed, texts
    return changed, pa.array([new[at] if at in new else one.as_py() for at, one in enumerate(texts)], pa.large_string())


#: what C4 looks for in lines (Raffel et al. 2020, section 2.2, and the code published with it)
_POLICY = (
    "terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies"
)  # fmt: skip
_CITATION = re.compile(r"\[\d*\]|\[edit\]|\[citation needed\]")


@dataclass(frozen=True)
class C4Lines(Rewrite):
    """``c4_lines``: takes out the lines that C4 leaves out of a page (Raffel et al. 2020, arXiv:1910.10683, section 2.2).

    Lines without ``. ! ? "`` or ``'`` at their end, or with ``...`` there (``punctuation``), of fewer than
    ``min_words`` words, with a word of more than ``max_word`` characters, with *javascript* (``javascript``), or with a
    phrase of policies (``policy``). Citations as ``[12]`` and ``[edit]`` are taken out of the others (``citations``). Words
    are what stands between white space; a line keeps no outer white space, a blank line does not stay. For pages with *lorem
    ipsum* or ``{``, which C4 drops whole, bound ``lorem_ipsum_lines`` and ``curly_brackets``.

    Count: ``c4_lines_removed``, lines that are not blank. Cost: about 25 ms/MB.
    """

    columns: ClassVar[tuple[str, ...]] = ("c4_lines_removed",)

    punctuation: bool = True
    min_words: int = 3
    max_word: int = 1000
    javascript: bool = True
    policy: bool = True
    citations: bool = True

    def apply(self, texts: pa.LargeStringArray) -> Rewritten:
        import pyarrow as pa

        removed, after, same = np.zeros(len(texts)), [], True
        for at, one in enumerate(texts):
            text = one.as_py()
            lines = [line for line in text.splitlines() if line.strip()]
            kept = [fine for line in lines if (fine := self._kept(line))]
            removed[at] = len(lines) - len(kept)
            after.append("\n".join(kept))
            same = same and after[-1] == text
        return (texts if same else pa.array(after, pa.large_string())), {"c4_lines_removed": removed}

    def _kept(self, line: str) -> str:
        """The line as it stays, empty if it does not."""
        line = line.strip()
        if self.citations:
            while (clean := _CITATION.sub("", line).strip()) != line:
                line = clean
        words, small = line.split(), line.lower()
        fails = (
            len(words) < self.min_words
            or any(len(word) > self.max_word for word in words)
            or (self.punctuation and (not line.endswith((".", "!", "?", '"', "'")) or line.endswith("...")))
            or (self.javascript and "javascript" in small)
            or (self.policy and any(phrase in small for phrase in _POLICY))
        )
        return "" if fails else line


REWRITES: Mapping[str, type[Rewrite]] = {
    "mask": Mask, "strip_control": StripControl, "unicode": Unicode, "c4_lines": C4Lines
}  # fmt: skip


@dataclass(frozen=True)
class Rewriter:
    """Some rewrites, one after another."""

    steps: tuple[Rewrite, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that ``apply`` gives, in order."""
        return tuple(column for step in self.steps for column in step.columns)

    def apply(self, texts: pa.LargeStringArray) -> Rewritten:
        """The texts afterwards (the same array where nothing changed) and what was changed: column -> ``(n,)``."""
        counted: dict[str, Floats] = {}
        for step in self.steps:
            texts, found = step.apply(texts)
            counted |= found
        return texts, counted


def rewriters(given: Mapping[str, Mapping[str, Any] | None]) -> Rewriter:
    """The rewrites that the study lists under ``rewrite``: name -> options. StudyError in one sentence if one is wrong."""
    return Rewriter(tuple(_made(name, options or {}) for name, options in given.items()))


def _made(name: str, options: Mapping[str, Any]) -> Rewrite:
    from pydantic import TypeAdapter, ValidationError

    if name not in REWRITES:
        raise StudyError(f"There is no rewrite {name!r}.{_near(name, REWRITES)} Known: {', '.join(REWRITES)}.")
    kind = REWRITES[name]
    known = [one.name for one in dataclasses.fields(kind)]  # type: ignore[arg-type]  # they all are dataclasses
    for option in options:
        if option not in known:
            has = ", ".join(known) or "none"
            raise StudyError(f"rewrite.{name} has no option {option!r}.{_near(option, known)} It has: {has}.")
    try:
        made: Rewrite = TypeAdapter(kind).validate_python(dict(options)) if options else kind()
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, ("rewrite", name, *first["loc"])))
        said = first["msg"].replace("Input should be", "must be").replace("Value error, ", "")
        raise StudyError(f"{where} is {first['input']!r}; it {said}.") from error
    return made


def _near(name: str, known: Any) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""
