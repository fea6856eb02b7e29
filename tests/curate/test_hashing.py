"""Hashes of columns are those of single texts and ids."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixwright.core.document import document_id, document_ids, text_hash
from mixwright.core.errors import DataError
from mixwright.curate.hashing import hexes, text_hashes, unhexed
from mixwright.curate.texts import Texts


@given(st.lists(st.text(), max_size=6))
def test_hashes_are_those_of_single_texts(texts: list[str]) -> None:
    assert hexes(text_hashes(Texts(texts))).to_pylist() == [text_hash(text) for text in texts]


def test_a_slice_of_an_arrow_array_is_hashed_as_its_texts() -> None:
    column = pa.array(["no", "one", "", "two", "no"])
    assert hexes(text_hashes(Texts(column[1:4]))).to_pylist() == [text_hash(text) for text in ("one", "", "two")]


def test_ids_are_written_as_their_digits() -> None:
    assert hexes(document_ids("s", "p", np.arange(3))).to_pylist() == [document_id("s", "p", row) for row in range(3)]


@given(st.lists(st.binary(min_size=16, max_size=16), max_size=5), st.integers(0, 2))
def test_digits_and_back(digests: list[bytes], skipped: int) -> None:
    digits = pa.array([digest.hex() for digest in digests], pa.string())[skipped:]
    assert hexes(unhexed(digits)).to_pylist() == digits.to_pylist()
    assert unhexed(pa.chunked_array([digits, digits])).shape == (2 * len(digits), 2)


@pytest.mark.parametrize("wrong", ["", "a" * 31, "g" * 32, "a" * 30 + "  ", "é" * 16])
def test_other_digits_are_refused(wrong: str) -> None:
    with pytest.raises(DataError, match="32 hex digits; line 2"):
        unhexed(pa.array(["A" * 32, wrong]))
