"""Near-duplicates made from documents: kinds, rates, and edits at a stated share of words."""

import re
from collections.abc import Sequence

import numpy as np

#: kind -> share of the planted documents, as in the field notes
KINDS = {
    "copy": 0.25, "few_words": 0.15, "more_words": 0.15, "truncated": 0.15, "header_footer": 0.15, "paragraphs": 0.10,
    "upper": 0.05,
}  # fmt: skip
_WORD = re.compile(r"\w+")


def planted(kind: str, text: str, other: Sequence[str], draw: np.random.Generator) -> str:
    """A near-duplicate of ``text``; ``other`` are words of other documents."""
    if kind == "copy":
        return text
    if kind == "few_words":
        return edited(text, float(draw.uniform(0.003, 0.01)), other, draw)
    if kind == "more_words":
        return edited(text, float(draw.uniform(0.01, 0.04)), other, draw)
    if kind == "truncated":
        return text[: max(1, int(len(text) * draw.uniform(0.6, 0.98)))]
    if kind == "header_footer":
        ends = [" ".join(_drawn(other, int(draw.integers(5, 40)), draw)) for _ in range(2)]
        return f"{ends[0]}\n\n{text}\n\n{ends[1]}"
    if kind == "paragraphs":
        return _swapped(text, draw)
    return text.upper()


def edited(text: str, share: float, other: Sequence[str], draw: np.random.Generator) -> str:
    """The text with a ``share`` of its words (at least one) replaced by words of other documents."""
    spans = [found.span() for found in _WORD.finditer(text)]
    if not spans:
        return text
    chosen = np.sort(draw.choice(len(spans), max(1, round(share * len(spans))), replace=False))
    out, at = [], 0
    for number, word in zip(chosen, _drawn(other, len(chosen), draw), strict=True):
        start, stop = spans[number]
        out += [text[at:start], word]
        at = stop
    return "".join([*out, text[at:]])


def _drawn(words: Sequence[str], count: int, draw: np.random.Generator) -> list[str]:
    return [words[at] for at in draw.integers(0, len(words), count)]


def _swapped(text: str, draw: np.random.Generator) -> str:
    """Two neighbouring paragraphs (or lines, where there is one paragraph) change places."""
    mark = "\n\n" if text.count("\n\n") >= 2 else "\n"
    parts = text.split(mark)
    if len(parts) < 3:
        return text + mark + text[: len(text) // 20]
    at = int(draw.integers(0, len(parts) - 1))
    parts[at], parts[at + 1] = parts[at + 1], parts[at]
    return mark.join(parts)
