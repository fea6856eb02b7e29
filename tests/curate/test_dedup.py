"""The first of equals, whatever the order."""

from hypothesis import given
from hypothesis import strategies as st

from mixwright.core.document import text_hash
from mixwright.curate.dedup.exact import first_of_equals


@given(st.lists(st.sampled_from([text_hash(t) for t in "abcdefg"])))
def test_first_of_equals(hashes: list[str]) -> None:
    assert first_of_equals(hashes).tolist() == [hashes.index(value) for value in hashes]
