"""What the study says about duplicates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le

from mixwright.core.errors import StudyError


@dataclass(frozen=True)
class Exact:
    """Equal after normalizing: ``field`` is ``text`` or a field of a row's metadata (``url``); a row without it equals none.

    ``lowercase`` and ``ignore_non_character`` (white space, digits and ASCII punctuation are left out) are those of
    Data-Juicer's ``document_deduplicator``.
    """

    field: str = "text"
    lowercase: bool = False
    ignore_non_character: bool = False

    @property
    def as_read(self) -> bool:
        """Whether texts are compared just as they are, by the hash that is taken anyway."""
        return self.field == "text" and not self.lowercase and not self.ignore_non_character


@dataclass(frozen=True)
class Near:
    """Jaccard similarity of the sets of word ``ngram``-grams at or above ``threshold``, verified exactly.

    ``bands`` of ``rows`` MinHash values find the pairs to verify; 25 of 5 miss one in 10^4 at Jaccard .8 (they are set for
    recall; the threshold is not theirs). Where more texts than that agree in a band (templates), each is compared with the
    ``representatives`` best-ranked of them.
    """

    threshold: Annotated[float, Gt(0), Le(1)] = 0.8
    ngram: Annotated[int, Ge(1)] = 5
    bands: Annotated[int, Ge(1), Le(1024)] = 25
    rows: Annotated[int, Ge(1), Le(1024)] = 5
    representatives: Annotated[int, Ge(1)] = 32


@dataclass(frozen=True)
class Lines:
    """Lines of at least ``min_chars`` characters that stand in more than ``max_documents`` documents are cut out of all but
    the first; a document of which nothing is left is dropped."""

    min_chars: Annotated[int, Ge(1)] = 30
    max_documents: Annotated[int, Ge(1)] = 1


@dataclass(frozen=True)
class Substring:
    """Runs of at least ``words`` words that stand in a better-ranked kept document as well are cut out; a document of which
    nothing is left is dropped. 50 tokens are the length of Lee et al. 2022, arXiv:2107.06499, section 4.1."""

    words: Annotated[int, Ge(2)] = 50


@dataclass(frozen=True)
class Semantic:
    """Cosine similarity of embeddings at or above ``threshold``; ``model``: a folder with a local transformers model, or
    hashed TF-IDF vectors under a random projection."""

    threshold: Annotated[float, Gt(0), Le(1)] = 0.95
    model: str | None = None


@dataclass(frozen=True)
class Options:
    """Which duplicates are dropped. Of equal or similar texts the one that survives is that of the source named first in
    ``priority`` (then the order of the study), then the longer one (``prefer`` ``longest``) or none in particular
    (``first``: the first read); ties go by the hash of the text. ``against`` are folders of earlier curations, whose documents
    must still be there, or indexes made of such (``index.py``): what they hold is dropped here.
    """

    exact: bool | Exact = True
    near: bool | Near = False
    lines: bool | Lines = False
    substring: bool | Substring = False
    semantic: bool | Semantic = False
    against: tuple[str, ...] = ()
    priority: tuple[str, ...] = ()
    prefer: Literal["longest", "first"] = "longest"

    def __post_init__(self) -> None:
        if self.lines and self.substring:
            raise StudyError(
                "dedup.lines and dedup.substring would cut the same text twice: keep one of them; the repeated lines of at "
                "least as many words are among the repeated substrings."
            )

    @property
    def for_exact(self) -> Exact | None:
        """What is equal, None where equal texts are kept."""
        return Exact() if self.exact is True else self.exact or None

    @property
    def for_near(self) -> Near | None:
        """What is similar, None where near-duplicates are kept."""
        return Near() if self.near is True else self.near or None

    @property
    def for_lines(self) -> Lines | None:
        """Which lines are cut, None for none."""
        return Lines() if self.lines is True else self.lines or None

    @property
    def for_substring(self) -> Substring | None:
        """How long what is cut is, None for nothing."""
        return Substring() if self.substring is True else self.substring or None

    @property
    def for_semantic(self) -> Semantic | None:
        """What means the same, None where that is kept."""
        return Semantic() if self.semantic is True else self.semantic or None
