"""What is shared by signals, against plain Python on any text, whatever stands beside it."""

import sys

import numpy as np
import plain_counts_for_tests as plain
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mixwright.curate.counts import NAMES
from mixwright.curate.kernels import find_words, frozen
from mixwright.curate.texts import Texts
from mixwright.testing import AWKWARD

#: characters on every path: ASCII, two to four bytes, lone ones, marks, spaces, closers, a surrogate, NUL, right to left
MIXED = "abZ09_ \n\t.!?…#{-•\"')][é日本。」！ก한Ωю\u0301\ud800😀𝒜K\u2028\u3000\x85\xa0İſ\0أ؟”»²٣\x1c"
PARTS = (
    "the cat ", "Of The ", "... ", ". ", ".) x ", "e.g. this ", "\n", "\n\n", "- item\n", " ", "javascript", "JavaScript is on. ",
    "lorem ipsum dolor. ", "terms of use", "Privacy Policy here. ", "we use cookies now.\n", "uses cookies", "use of cookies",
    "Cookie Policy. ", "one two three four five six seven eight nine ten eleven. ", "a b ", "{ x }", "done.[12][edit]\n",
    "said so.[citation needed]\n", "日本語の文。", "「はい。」そう！？", "x" * 70,
    "y" * 1001 + " and more words here.\n", "Привет, мир. ",
    "한국어 문장. ", "\r\n", "....", "# ", "K ", "สวัสดี", "•", "a line of it all, whole.\n", "same line\n", "a...[3]\n", ".\u2029",
)  # fmt: skip
any_text = st.one_of(
    st.text(alphabet=st.sampled_from(MIXED), max_size=200),
    st.lists(st.sampled_from(PARTS), max_size=40).map("".join),
    st.lists(st.one_of(st.sampled_from(PARTS), st.text(alphabet=st.sampled_from(MIXED), max_size=5)), max_size=30).map(
        "".join
    ),
    st.text(max_size=150),
)


def check(texts: list[str]) -> None:
    batch = Texts(texts)
    for at, text in enumerate(texts):
        counted = dict(zip(NAMES, batch.counts[at].tolist(), strict=True))
        found = plain.counts(text)
        expected = {name: int(found[name]) for name in NAMES}
        wrong = {name: (counted[name], expected[name]) for name in NAMES if counted[name] != expected[name]}
        assert not wrong, f"(counted, expected) {wrong} of {text!r}"
        span = slice(batch.words.first[at], batch.words.first[at + 1])
        places = zip(batch.words.start[span].tolist(), batch.words.stop[span].tolist(), strict=True)
        assert [batch.data[a:b].tobytes().decode() for a, b in places] == plain.words(text)
        assert batch.words.hashes[span].tolist() == list(map(plain.word_hash, plain.words(text)))


@settings(max_examples=100, deadline=None)
@given(st.lists(any_text, max_size=4))
@example(list(AWKWARD[:-1]))
@example(["a" * size for size in (0, 1, 63, 64, 65, 127, 128, 129)])
@example(["x" * 62 + "日" * 3 + " ende", "é" * 40 + "." * 70, "\n" * 130, " " * 64 + "x", "a." * 40, "y" * 3000 + " z"])
def test_counted_as_in_plain_python(texts: list[str]) -> None:
    check(texts)


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 300))
def test_bytes_that_are_no_utf8_are_read_within_bounds(content: bytes, cut: int) -> None:
    content += b"\xf0\x9f\x98" if cut % 2 else b"\xe3\x80"
    data = np.frombuffer(content, dtype=np.uint8)
    texts = Texts([])
    texts.data, texts.offsets = data, np.array([0, min(cut, len(data)), len(data)])
    counts = texts.counts
    assert (counts >= 0).all()
    assert (texts.words.stop <= len(data)).all()
    assert (texts.words.start < texts.words.stop).all()


def test_a_text_does_not_depend_on_where_it_stands() -> None:
    text = "One line.\nAnother, with ünïcode 日本。\n" * 3
    alone = Texts([text]).counts[0]
    together = Texts(["x" * size for size in range(70)] + [text] * 70).counts
    assert (together[70:] == alone).all()


def test_from_arrow_without_a_copy() -> None:
    pa = pytest.importorskip("pyarrow")
    whole = pa.array(["no", "the cat.", "日本"], pa.large_string())
    part = Texts(whole.slice(1))
    assert part.counts.tolist() == Texts(["the cat.", "日本"]).counts.tolist()
    assert not frozen(part.data)[0].flags.writeable


def test_word_hashes_are_those_of_this_version() -> None:
    """They stand in indexes on disk: who changes them raises ``HASH_VERSION`` and these numbers."""
    data = np.frombuffer("the internationalization_of Ελλάδα".encode(), dtype=np.uint8)
    hashes = find_words(data, np.array([0, len(data)]))[3]
    assert [f"{value:016x}" for value in hashes.tolist()] == [
        "d6e75f49ca86fd31",
        "401c790c46f03ad0",
        "f88ec2d08154d4ac",
    ]


def test_hashes_of_words_differ_in_every_bit() -> None:
    """Of a good 64-bit hash each bit is set in half of the words, and flips in half of them with one letter."""
    near = [
        f"{stem}{letter}"
        for stem in ("word", "longerword", "x", "seventeenletters")
        for letter in "abcdefghijklmnopqrstuvwxyz"
    ]
    hashes = Texts([" ".join(near)]).words.hashes
    bits = (hashes[:, None] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)
    assert np.abs(bits.mean(axis=0) - 0.5).max() < 0.25
    flips = bits[1:26] ^ bits[:25]
    assert abs(flips.mean() - 0.5) < 0.05
    assert len(np.unique(hashes)) == len(near)


def test_code_points_of_all_planes() -> None:
    """Every code point alone between letters: a table that is wrong anywhere shows."""
    step = 97
    texts = [f"a{chr(code)}b" for code in range(0, sys.maxunicode, step)]
    batch = Texts(texts)
    for at, text in enumerate(texts):
        span = slice(batch.words.first[at], batch.words.first[at + 1])
        assert batch.words.hashes[span].tolist() == list(map(plain.word_hash, plain.words(text))), text.encode(
            "utf-8", "surrogatepass"
        )


def test_every_character_with_case_is_found_wherever_it_stands_in_a_word() -> None:
    """Words are folded one by one only if the first bytes of their characters say that one may have case."""
    every = [chr(code) for code in range(128, sys.maxunicode + 1) if plain.in_word(chr(code))]
    with_case = [one for one in every if plain.lower(one) != one]
    assert len(with_case) > 1300
    texts = [
        f"{'x' * before}{one}{'y' * after}" for one in with_case for before, after in ((0, 0), (7, 0), (8, 9), (6, 1))
    ]
    texts += every[::13]
    batch = Texts([" ".join(texts)])
    assert batch.words.hashes.tolist() == [plain.word_hash(word) for text in texts for word in plain.words(text)]
