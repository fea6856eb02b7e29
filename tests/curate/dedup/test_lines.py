"""Lines that stand in several documents are cut out of all but the best, by a plain reading of the same."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from dedup_for_tests import HERE, noted, shards
from hypothesis import given, settings
from hypothesis import strategies as st

from mixwright.core.document import text_hash
from mixwright.curate.dedup.lines import Cuts, LineWriter, find_cuts, told
from mixwright.curate.dedup.options import Lines, Options
from mixwright.curate.dedup.stage import find_pairs
from mixwright.curate.texts import Texts

BLANK = "".join(map(chr, range(33)))


def run(
    base: Path, files: Sequence[Sequence[str]], lines: Lines, kept: Sequence[Sequence[bool]] | None = None, memory: int = 1 << 30
) -> tuple[list[str], list[str], int]:  # fmt: skip
    """The kept texts afterwards (those that are emptied left out), the emptied ones, and the characters that went."""
    parts, options = shards(base / "texts", {"a": files}), Options(lines=lines)
    find_pairs([noted(shard, base / "noted", options) for shard in parts], base / "dedup", options, engine=HERE)
    paths = [base / "noted" / f"{shard.order}.lines" for shard in parts]
    for shard, path in zip(parts, paths, strict=True):
        with LineWriter(path, lines) as writer:
            for batch in shard.batches(50):
                writer.add(Texts(batch.texts))
    masks = [np.array(mask, dtype=bool) for mask in kept or [[True] * len(texts) for texts in files]]
    emptied = find_cuts(base / "dedup", paths, masks, base / "cuts", lines, engine=HERE, memory=memory)
    left, empty, characters = [], [], 0
    for number, (shard, mask) in enumerate(zip(parts, masks, strict=True)):
        cuts, at = Cuts.of(base / "cuts", number), 0
        for batch in shard.batches(50):
            texts, gone = cuts.cut(batch.texts, at)
            for row, (before, after) in enumerate(zip(batch.texts.to_pylist(), texts.to_pylist(), strict=True)):
                assert len(before) - len(after) == gone[row]
                if mask[at + row]:
                    (empty if at + row in emptied[number] else left).append(after)
            characters += told(gone)["characters"]
            at += len(batch.rows)
    return left, empty, characters


def plain(texts: Sequence[str], lines: Lines) -> list[str]:
    """The same, all texts kept."""
    where: dict[str, set[int]] = defaultdict(set)
    for number, text in enumerate(texts):
        for line in text.split("\n"):
            if len(line.strip(BLANK)) >= lines.min_chars:
                where[line.strip(BLANK)].add(number)
    first = {
        line: min(rows, key=lambda row: (-len(texts[row].encode()), text_hash(texts[row]), row))
        for line, rows in where.items()
        if len(rows) > lines.max_documents
    }
    return [
        "\n".join(line for line in text.split("\n") if first.get(line.strip(BLANK), number) == number)
        for number, text in enumerate(texts)
    ]


LINE = st.sampled_from(
    ["", " ", "long line one", " long line one\t", "another lång line", "漢字漢字漢字", "short", "x"]
)
TEXT = st.lists(LINE, max_size=5).map("\n".join)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.lists(TEXT, max_size=4), min_size=1, max_size=3), st.integers(1, 3), st.sampled_from([5, 6, 10]))
def test_as_a_plain_reading(
    tmp_path_factory: pytest.TempPathFactory, files: list[list[str]], most: int, least: int
) -> None:
    lines = Lines(min_chars=least, max_documents=most)
    texts = [text for some in files for text in some]
    expected = plain(texts, lines)
    left, empty, characters = run(tmp_path_factory.mktemp("lines"), files, lines)
    assert [text.strip(BLANK) for text in empty] == [""] * len(empty)
    now_empty = [
        before for before, after in zip(texts, expected, strict=True) if before.strip(BLANK) and not after.strip(BLANK)
    ]
    assert len(empty) == len(now_empty)
    assert sorted([*left, *empty]) == sorted(expected)
    assert characters == sum(map(len, texts)) - sum(map(len, expected))


def test_only_kept_rows_count(tmp_path: Path) -> None:
    header = "a header that stands everywhere"
    files = [[f"{header}\none", f"{header}\nanother"], [f"{header}\nx"]]
    left, empty, _ = run(tmp_path / "1", files, Lines(), [[True, False], [True]])
    assert (left, empty) == ([f"{header}\none", "x"], [])
    left, empty, _ = run(tmp_path / "2", files, Lines(), [[True, False], [False]])
    assert (left, empty) == ([f"{header}\none"], [])


def test_memory_changes_nothing(tmp_path: Path) -> None:
    files = [[f"line number {n % 7} is rather long indeed\nown {n}" for n in range(part, 60, 3)] for part in range(3)]
    whole, small = run(tmp_path / "1", files, Lines()), run(tmp_path / "2", files, Lines(), memory=100)
    assert len(list((tmp_path / "2" / "cuts").glob("*.hashes.npy"))) > 10
    assert whole == small
    assert sum("rather long" in text for text in whole[0]) == 7
