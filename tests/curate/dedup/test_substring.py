"""Runs of words that stand in several documents are cut out of all but the best, by a plain reading of the same."""

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from dedup_for_tests import HERE, noted, shards
from hypothesis import given, settings
from hypothesis import strategies as st

from mixwright.core.document import text_hash
from mixwright.core.errors import StudyError
from mixwright.core.rng import rng
from mixwright.curate.dedup.options import Lines, Options, Substring
from mixwright.curate.dedup.stage import find_pairs
from mixwright.curate.dedup.substring import MarkWriter, Spans, find_spans, note_windows
from mixwright.curate.texts import Texts


def run(
    base: Path, files: Sequence[Sequence[str]], words: int, kept: Sequence[Sequence[bool]] | None = None, memory: int = 1 << 30
) -> tuple[list[str], list[str]]:  # fmt: skip
    """The kept texts afterwards (those that are emptied left out), and what is left of the emptied ones."""
    substring = Substring(words)
    parts, options = shards(base / "texts", {"a": files}), Options(substring=substring)
    find_pairs([noted(shard, base / "noted", options) for shard in parts], base / "dedup", options, engine=HERE)
    marked = [base / "noted" / f"{shard.order}.marks" for shard in parts]
    paths = [base / "noted" / f"{shard.order}.windows" for shard in parts]
    for shard, path in zip(parts, marked, strict=True):
        with MarkWriter(path, substring) as writer:
            for batch in shard.batches(50):
                writer.add(Texts(batch.texts))
    note_windows(parts, marked, paths, base / "shared", substring, engine=HERE, memory=memory)
    masks = [np.array(mask, dtype=bool) for mask in kept or [[True] * len(texts) for texts in files]]
    emptied = find_spans(base / "dedup", paths, masks, base / "cuts", substring, engine=HERE, memory=memory)
    left, empty = [], []
    for number, (shard, mask) in enumerate(zip(parts, masks, strict=True)):
        spans, at = Spans.of(base / "cuts", number), 0
        for batch in shard.batches(50):
            texts, gone = spans.cut(batch.texts, at)
            for row, (before, after) in enumerate(zip(batch.texts.to_pylist(), texts.to_pylist(), strict=True)):
                assert len(before) - len(after) == gone[row]
                if mask[at + row]:
                    (empty if at + row in emptied[number] else left).append(after)
            at += len(batch.rows)
    return left, empty


def plain(texts: Sequence[str], width: int) -> list[str]:
    """The same, all texts kept, by sets of tuples of words."""
    found = [list(re.finditer(r"\w+", text)) for text in texts]
    where: dict[tuple[str, ...], set[int]] = defaultdict(set)
    for number, words in enumerate(found):
        for at in range(len(words) - width + 1):
            where[tuple(word[0].lower() for word in words[at : at + width])].add(number)
    best = {
        run: min(rows, key=lambda row: (-len(texts[row].encode()), text_hash(texts[row]), row))
        for run, rows in where.items()
    }
    return [_without(texts[number], words, width, number, best) for number, words in enumerate(found)]


def _without(text: str, words: list[re.Match[str]], width: int, number: int, best: dict[tuple[str, ...], int]) -> str:
    cut = [False] * len(words)
    for at in range(len(words) - width + 1):
        if best[tuple(word[0].lower() for word in words[at : at + width])] != number:
            cut[at : at + width] = [True] * width
    ends = [*(word.start() for word in words[1:]), len(text)]
    starts = [0 if at == 0 else word.start() for at, word in enumerate(words)]
    if not words:
        return text
    before = text[: words[0].start()] if not cut[0] else ""
    return before + "".join(
        text[word.start() : end] for word, start, end, gone in zip(words, starts, ends, cut, strict=True) if not gone
    )


WORD = st.sampled_from(["a", "b", "c", "Ä", "dé"])
TEXT = st.lists(st.tuples(WORD, st.sampled_from([" ", ", ", "\n", ". "])), max_size=14).map(
    lambda parts: "".join(word + gap for word, gap in parts)
)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(TEXT, max_size=4), min_size=1, max_size=3), st.integers(2, 5))
def test_as_a_plain_reading(tmp_path_factory: pytest.TempPathFactory, files: list[list[str]], width: int) -> None:
    texts = [text for some in files for text in some]
    expected = plain(texts, width)
    left, empty = run(tmp_path_factory.mktemp("spans"), files, width)
    assert empty == [""] * len(empty)
    assert sorted([*left, *empty]) == sorted(expected)
    assert len(empty) == sum(bool(before) and not after for before, after in zip(texts, expected, strict=True))


def planted() -> list[list[str]]:
    """Texts of 300 words of their own, in which runs of 30 to 69 words stand that others have too."""
    draw = rng(0, "substring")
    shared = [" ".join(f"s{run}x{n}" for n in range(30 + run)) for run in range(40)]
    files: list[list[str]] = [[], [], []]
    for number in range(90):
        own = [f"w{number}x{n}" for n in range(300)]
        for run, at in zip(draw.integers(0, 40, 3).tolist(), sorted(draw.integers(0, 300, 3).tolist()), strict=True):
            own.insert(at, shared[run])
        files[number % 3].append(" ".join(own))
    return files


def test_runs_of_words_are_found_whatever_the_memory(tmp_path: Path) -> None:
    files = planted()
    whole, small = run(tmp_path / "1", files, 50), run(tmp_path / "2", files, 50, memory=1000)
    assert len(list((tmp_path / "2" / "shared").glob("*.npy"))) > 10
    assert whole == small
    texts = [text for some in files for text in some]
    assert whole[0] == plain(texts, 50)
    assert sum(map(len, texts)) - sum(map(len, whole[0])) > 10_000


def test_only_kept_rows_count(tmp_path: Path) -> None:
    common = "one two three four five"
    files = [[f"{common} and more", f"{common} yes"], [f"{common}, no"]]
    assert run(tmp_path / "1", files, 5, [[False, True], [True]]) == (["yes", f"{common}, no"], [])
    assert run(tmp_path / "2", files, 5, [[False, True], [False]]) == ([f"{common} yes"], [])


def test_lines_are_not_cut_as_well() -> None:
    with pytest.raises(StudyError, match="keep one of them"):
        Options(lines=Lines(), substring=True)
    assert Options(substring=True).for_substring == Substring(50)
