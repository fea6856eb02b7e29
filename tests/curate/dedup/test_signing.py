"""Signatures agree as often as the sets do; shingles are those of a plain reading; band files give back what went in."""

import contextlib
import itertools
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixwright.core.errors import DataError
from mixwright.core.rng import rng
from mixwright.curate.dedup import kernels, signing
from mixwright.curate.dedup.options import Near
from mixwright.curate.dedup.signing import BUCKETS, Bands, BandWriter, band_keys, shingle_sets
from mixwright.curate.texts import Texts

ALPHABET = st.sampled_from(["a", "B", "c", "d1", "é", " ", " ", "\n", "東", "京", "ไ", "!"])
TEXTS = st.lists(st.lists(ALPHABET, max_size=12).map("".join), max_size=5)


def shingles(text: str, n: int) -> set[tuple[str, ...]]:
    words = re.findall(r"[東京ไ]|[^\W東京ไ]+", text.lower())
    return {tuple(words[i : i + n]) for i in range(max(1, len(words) - n + 1))} if words else set()


@settings(deadline=None)
@given(TEXTS, st.integers(1, 4))
def test_shingle_sets_are_those_of_a_plain_reading(texts: list[str], n: int) -> None:
    hashes, begins = shingle_sets(Texts(texts), n)
    sets = [set(hashes[a:b].tolist()) for a, b in itertools.pairwise(begins)]
    plain = [shingles(text, n) for text in texts]
    for a in range(len(texts)):
        assert sorted(sets[a]) == hashes[begins[a] : begins[a + 1]].tolist()
        for b in range(len(texts)):
            assert len(sets[a] & sets[b]) == len(plain[a] & plain[b])


@settings(deadline=None)
@given(TEXTS, st.integers(1, 3))
def test_keys_depend_on_the_set_of_shingles_alone(texts: list[str], n: int) -> None:
    near = Near(ngram=n, bands=7, rows=2)
    keys, signed = band_keys(Texts(texts), near)
    assert signed.tolist() == [bool(shingles(text, n)) for text in texts]
    for a, one in enumerate(texts):
        assert np.array_equal(band_keys(Texts([one]), near)[0][0], keys[a])
        for b, other in enumerate(texts):
            if shingles(one, n) == shingles(other, n):
                assert np.array_equal(keys[a], keys[b])


def agreeing(shared: int, apart: int, near: Near, texts: int = 4000) -> float:
    """How often a band agrees of two sets with ``shared`` common members and ``apart`` others."""
    words = rng(0, "sets", shared, apart).integers(0, 2**63, size=(texts, shared + apart), dtype=np.uint64)
    cut = shared + apart // 2
    one, other = words[:, :cut], np.concatenate([words[:, :shared], words[:, cut:]], axis=1)
    keys = [
        kernels.band_keys(
            np.ascontiguousarray(each).ravel(), np.arange(texts + 1) * each.shape[1], 1, near.bands, near.rows
        )
        for each in (one, other)
    ]
    return float((keys[0][0] == keys[1][0]).any(axis=1).mean())


@pytest.mark.parametrize("size", [10, 40, 200, 1000])
def test_single_values_agree_with_probability_jaccard(size: int) -> None:
    one = Near(bands=1, rows=1)
    for jaccard in (0.3, 0.8):
        shared = round(size * jaccard)
        assert agreeing(shared, size - shared, one) == pytest.approx(shared / size, abs=0.035)


@pytest.mark.parametrize("size", [10, 40, 200, 1000])
def test_bands_find_what_classic_minhash_finds(size: int) -> None:
    near = Near()
    for jaccard in (0.5, 0.7, 0.8):
        shared = round(size * jaccard)
        classic = 1 - (1 - (shared / size) ** near.rows) ** near.bands
        assert agreeing(shared, size - shared, near) >= classic - 0.02
    assert agreeing(round(0.8 * size), size - round(0.8 * size), near) >= 0.999


@settings(max_examples=20, deadline=None)
@given(st.lists(TEXTS, max_size=3), st.integers(0, BUCKETS), st.integers(0, BUCKETS))
def test_a_file_gives_back_its_entries(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[str]], a: int, b: int
) -> None:
    path = tmp_path_factory.mktemp("bands") / "0.bands"
    near = Near(bands=3, rows=1)
    with BandWriter(path, near) as writer:
        for batch in batches:
            writer.add(Texts(batch))
    keys, rows = writer.entries()
    assert Bands(path).count == len(keys) == 3 * sum(bool(shingles(text, 5)) for batch in batches for text in batch)
    start, stop = sorted((a, b))
    inside = (keys >> np.uint64(52) >= start) & (keys >> np.uint64(52) < stop)
    got = Bands(path).read(start, stop)
    assert np.array_equal(got[0], keys[inside])
    assert np.array_equal(got[1], rows[inside])
    if batches:
        expected = band_keys(Texts([text for batch in batches for text in batch]), near)[0]
        assert np.array_equal(keys, np.sort(expected[expected != 0]))
        assert all(k in expected[r] for k, r in zip(keys, rows, strict=True))


def test_damaged_and_foreign_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "0.bands"
    with BandWriter(path, Near()) as writer:
        writer.add(Texts(["one two three four five six seven"]))
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    with pytest.raises(DataError, match="truncated"):
        Bands(path).read(0, BUCKETS)
    path.write_bytes(b"PAR1" + whole[4:])
    with pytest.raises(DataError, match="no band keys"):
        Bands(path).read(0, BUCKETS)
    path.write_bytes(whole)
    monkeypatch.setattr("mixwright.curate.kernels.HASH_VERSION", 99)
    with pytest.raises(DataError, match="has version 99, so nothing can be compared"):
        Bands(path).read(0, BUCKETS)


def test_nothing_is_left_of_a_shard_that_failed(tmp_path: Path) -> None:
    with contextlib.suppress(RuntimeError), BandWriter(tmp_path / "0.bands", Near()) as writer:
        writer.add(Texts(["some words"]))
        raise RuntimeError
    assert not list(tmp_path.iterdir())


def test_hashes_compare_as_their_digits_do() -> None:
    from mixwright.curate.hashing import hexes

    some = rng(1).integers(0, 2**63, size=(50, 2), dtype=np.uint64)
    big = signing.ordered(some)
    order = np.lexsort((big[:, 1], big[:, 0]))
    assert hexes(some[order]).to_pylist() == sorted(hexes(some).to_pylist())
