"""Token files: what is written is read, damage is named."""

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixwright.core.errors import DataError
from mixwright.store.tokens import TokenStore, read_index, write_tokens

documents = st.lists(st.lists(st.integers(1, 299), min_size=0, max_size=40).map(lambda ids: [*ids, 0]), max_size=12)


@settings(max_examples=40, deadline=None)
@given(documents, st.integers(1, 16), st.sampled_from([300, 70_000]))
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, docs: list[list[int]], seq_len: int, vocab: int) -> None:
    folder = tmp_path_factory.mktemp("tokens")
    write_tokens(folder, [np.array(d) for d in docs], vocab=vocab, tokenizer="t", end=0, text_bytes=9)
    store = TokenStore.open(folder)
    flat = [i for d in docs for i in d]
    assert store.ids.tolist() == flat
    assert store.counts.tolist() == np.bincount(flat, minlength=vocab).tolist() if flat else store.tokens == 0
    lengths, offsets, bounds, dtype = read_index(folder / "000.idx")
    assert lengths.tolist() == [len(d) for d in docs]
    assert dtype == ("uint16" if vocab == 300 else "int32")
    assert bounds.tolist() == list(range(len(docs) + 1))
    size = np.dtype(dtype).itemsize
    assert offsets.tolist() == [size * sum(len(d) for d in docs[:n]) for n in range(len(docs))]
    assert store.windows(seq_len) == max(0, (len(flat) - 1) // seq_len)
    for number in range(store.windows(seq_len)):
        assert store.window(number, seq_len).tolist() == flat[number * seq_len : number * seq_len + seq_len + 1]
    store.check()


def test_the_index_is_megatrons_byte_for_byte(tmp_path: Path) -> None:
    write_tokens(tmp_path, [np.array([5, 0]), np.array([7, 8, 0])], vocab=300, tokenizer="t", end=0, text_bytes=1)
    expected = (
        b"MMIDIDX\x00\x00" + struct.pack("<Q", 1) + struct.pack("<B", 8) + struct.pack("<Q", 2) + struct.pack("<Q", 3)
        + struct.pack("<2i", 2, 3) + struct.pack("<2q", 0, 4) + struct.pack("<3q", 0, 1, 2)
    )  # fmt: skip
    assert (tmp_path / "000.idx").read_bytes() == expected


def test_damage_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no complete token store"):
        TokenStore.open(tmp_path)
    with pytest.raises(DataError, match=r"must lie in 0\.\.9; found 3\.\.10"):
        write_tokens(tmp_path, [np.array([3, 10])], vocab=10, tokenizer="t", end=0, text_bytes=1)
    write_tokens(tmp_path, [np.array([3, 9])], vocab=10, tokenizer="t", end=0, text_bytes=1)
    (tmp_path / "000.bin").write_bytes(np.array([3, 8], np.uint16).tobytes())
    with pytest.raises(DataError, match="checksum"):
        TokenStore.open(tmp_path).check()
    (tmp_path / "000.bin").write_bytes(b"\x03")
    with pytest.raises(DataError, match="1 bytes, not the 4"):
        TokenStore.open(tmp_path)
    index = (tmp_path / "000.idx").read_bytes()
    (tmp_path / "000.idx").write_bytes(index[:-1])
    with pytest.raises(DataError, match="truncated"):
        read_index(tmp_path / "000.idx")
