"""Exact duplicates by a field of the metadata, or by texts made alike."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from dedup_for_tests import HERE, noted, shards

from mixwright.core.document import document_ids, text_hash
from mixwright.curate.dedup.fields import KeyWriter
from mixwright.curate.dedup.options import Exact, Options
from mixwright.curate.dedup.stage import Noted, dropped, find_pairs


def gone(base: Path, rows: Sequence[dict[str, object]], exact: Exact) -> list[tuple[int, str, float | None]]:
    """Index, rule, similarity of what is dropped among rows in two files."""
    parts = shards(base / "texts", {"a": [rows[:2], rows[2:]]})
    options, notes = Options(exact=exact), []
    for shard in parts:
        plain = noted(shard, base / "noted", options)
        keys = base / f"{shard.order}.npy"
        with KeyWriter(keys, exact) as writer:
            for batch in shard.batches(10, meta=True):
                writer.add(batch, document_ids("a", batch.path, batch.rows - 1))
        notes.append(Noted(shard, plain.signals, None, keys))
    find_pairs(notes, base / "dedup", options, engine=HERE)
    masks = [np.ones(len(mine), dtype=bool) for mine in (rows[:2], rows[2:])]
    lines = dropped(base / "dedup", masks, options).to_pylist()
    return [(2 * line["order"] + line["index"], line["rule"], line["similarity"]) for line in lines]


def test_rows_of_one_value_of_a_field_are_duplicates(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"text": "the longest text of all", "url": "u"}, {"text": "other", "url": None},
        {"text": "other", "url": "u"}, {"text": "the longest text of all", "url": "u"}, {"text": "other", "url": None},
    ]  # fmt: skip
    assert gone(tmp_path, rows, Exact(field="url")) == [(2, "exact_duplicate", None), (3, "exact_duplicate", 1.0)]


def test_values_that_are_no_strings_are_compared_as_json(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"text": "one", "n": 12}, {"text": "two", "n": 13}, {"text": "three", "n": 12}, {"text": "four", "n": 14}
    ]  # fmt: skip
    assert [index for index, *_ in gone(tmp_path, rows, Exact(field="n"))] == [0]


def test_texts_are_made_alike_as_data_juicer_does(tmp_path: Path) -> None:
    texts = ["Hello, World", "hello world!!", "HELLO WORLD!!", "Hello  World 12345!"]
    rows: list[dict[str, object]] = [{"text": text} for text in texts]

    def dropped_by(exact: Exact) -> list[int]:
        return [index for index, *_ in gone(tmp_path / str(hash(exact)), rows, exact)]

    assert dropped_by(Exact(lowercase=True)) == [max((1, 2), key=lambda row: text_hash(texts[row]))]
    assert dropped_by(Exact(ignore_non_character=True)) == [0]
    assert dropped_by(Exact(lowercase=True, ignore_non_character=True)) == [0, 1, 2]
