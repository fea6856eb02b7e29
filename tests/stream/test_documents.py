from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixwright.core.errors import DataError
from mixwright.core.mixture import Mixture
from mixwright.core.schedule import Schedule
from mixwright.store.tokens import TokenStore, write_tokens
from mixwright.stream.documents import document_begins, documents
from mixwright.stream.loader import MixtureStream


def naive(rows: list[list[int]], end: int) -> tuple[list[int], list[list[int]], list[list[int]], list[list[bool]]]:
    """Token by token."""
    cumulative, segments, positions, counts = [], [], [], []
    place = 0
    for row in rows:
        segment, position = -1, 0
        segments.append([])
        positions.append([])
        counts.append([])
        for number, token in enumerate(row[:-1]):
            if number == 0 or row[number - 1] == end:
                segment, position = segment + 1, 0
                cumulative.append(place)
            segments[-1].append(segment)
            positions[-1].append(position)
            counts[-1].append(token != end)
            position, place = position + 1, place + 1
    return [*cumulative, place], segments, positions, counts


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 5), st.integers(2, 12), st.data())
def test_equals_the_walk_token_by_token(n: int, length: int, data) -> None:
    row = st.lists(st.integers(0, 3), min_size=length, max_size=length)
    rows = data.draw(st.lists(row, min_size=n, max_size=n))
    found = documents(np.array(rows, dtype=np.uint16), 0)
    cumulative, segments, positions, counts = naive(rows, 0)
    assert found.cu_seqlens.tolist() == cumulative
    assert found.segment_ids.tolist() == segments
    assert found.position_ids.tolist() == positions
    assert found.loss_mask.tolist() == counts
    assert found.max_seqlen == max(b - a for a, b in itertools.pairwise(cumulative))
    assert [field.dtype.name for field in (found.cu_seqlens, found.segment_ids, found.position_ids)] == ["int32"] * 3


def test_an_index_says_the_same_as_the_end_id(tmp_path) -> None:
    """Documents of every length, over several shards, seen by their ends and by the stores' indexes."""
    draw, held = np.random.default_rng(0), {}
    for name in "ab":
        texts = [np.append(draw.integers(1, 9, draw.integers(0, 30)), 0) for _ in range(60)]
        write_tokens(tmp_path / name, texts, vocab=9, tokenizer="t", end=0, text_bytes=1, shard_tokens=100)
        held[name] = TokenStore.open(tmp_path / name)
    source = MixtureStream(held, Schedule.constant(Mixture.uniform("ab"), 4 * 8 * 30), 0, seq_len=8, batch=4)
    for rows in source:
        begins = document_begins(held, "ab", source.last, 8)
        by_index, by_end = documents(rows, begins=begins), documents(rows, 0)
        assert np.array_equal(begins[:, 1:], rows[:, :-1] == 0)
        assert np.array_equal(by_index.cu_seqlens, by_end.cu_seqlens)
        assert np.array_equal(by_index.loss_mask, by_end.loss_mask)


def test_what_cannot_be_is_refused_with_a_sentence() -> None:
    rows = np.zeros((2, 5), dtype=np.uint16)
    for call, words in (
        (lambda: documents(rows), "by one of both"),
        (lambda: documents(rows, 0, begins=rows == 0), "by one of both"),
        (lambda: documents(rows[0], 0), r"array of shape \(5,\)"),
        (lambda: documents(rows, begins=np.zeros((2, 4), dtype=bool)), r"it has \(2, 4\)"),
    ):
        with pytest.raises(DataError, match=words):
            call()
