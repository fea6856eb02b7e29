"""What is rewritten, what is counted, and that a second time changes nothing."""

import re
import unicodedata
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mixwright.core.errors import StudyError
from mixwright.curate.content_kernels import EMAIL, IP, PHONE, SECRET, URL, find_spans
from mixwright.curate.rewrites import MASKS, REWRITES, rewriters
from mixwright.curate.texts import Texts


def rewritten(given: dict[str, Any], texts: list[str]) -> tuple[list[str], dict[str, list[float]]]:
    rewriter = rewriters(given)
    array = pa.array(texts, pa.large_string())
    after, counts = rewriter.apply(array)
    assert tuple(counts) == rewriter.columns
    assert after.type == pa.large_string()
    assert len(after) == len(texts)
    after.validate(full=True)
    assert all(values.dtype == np.float64 and values.shape == (len(texts),) for values in counts.values())
    if after.to_pylist() == texts:
        assert after is array
    again, more = rewriter.apply(after)
    assert again is after
    assert not any(values.any() for values in more.values())
    return after.to_pylist(), {column: values.tolist() for column, values in counts.items()}


def test_masks() -> None:
    texts = ["write to bob@a.org or (415) 555-2671", "nothing", "10.0.0.1 10.0.0.2 é bob@a.org", ""]
    after, counts = rewritten({"mask": {}}, texts)
    assert after == ["write to <email> or <phone>", "nothing", "<ip> <ip> é <email>", ""]
    assert counts == {
        "mask_emails": [1, 0, 1, 0], "mask_phones": [1, 0, 0, 0], "mask_ips": [0, 0, 2, 0], "mask_secrets": [0, 0, 0, 0]
    }  # fmt: skip


def test_kinds_and_masks_of_ones_own() -> None:
    options = {"mask": {"kinds": ["urls", "emails"], "masks": {"urls": "[LINK]"}}}
    after, counts = rewritten(options, ["see http://a.org/x, www.b.org. and bob@a.org at 10.0.0.1"])
    assert after == ["see [LINK], [LINK]. and <email> at 10.0.0.1"]
    assert counts == {"mask_urls": [2], "mask_emails": [1]}


PARTS = st.sampled_from(
    ["http://", "www.", "a.org", "@", "bob", ".", ",", " ", "é", "日", "-", "+", "1", "10.0.0.1", "+49 30 901820", ":",
     "415-555-2671", "AKIAIOSFODNN7EXAMPLE", "::", "fe80::1ff", "\x00", "token = 'aB3dE5gH7jK9mN1pQ'", "ghp_" + "a1" * 18]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(PARTS, max_size=12).map("".join), max_size=4))
@example(["1.2.3.4www.a.org", "a@b.org+4930901820", "a@b.org@c.org"])
def test_nothing_is_left_and_nothing_else_changes(texts: list[str]) -> None:
    kinds = ["urls", "emails", "phones", "ips", "secrets"]
    after, counts = rewritten({"mask": {"kinds": kinds}}, texts)
    whole = Texts(after)
    assert not find_spans(whole.data, whole.offsets, URL | EMAIL | PHONE | IP | SECRET).size
    masks = "|".join(map(re.escape, MASKS.values()))
    for at, (before, now) in enumerate(zip(texts, after, strict=True)):
        pattern = ".+".join(re.escape(part) for part in re.split(masks, now))
        assert re.fullmatch(pattern, before, re.DOTALL)
        assert sum(values[at] for values in counts.values()) >= len(re.findall(masks, now))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(st.characters(codec="utf-8", max_codepoint=0x200), max_size=20), max_size=5))
def test_control_characters(texts: list[str]) -> None:
    after, counts = rewritten({"strip_control": {}}, texts)
    assert after == [re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", "", text) for text in texts]
    assert counts["stripped_controls"] == [len(a) - len(b) for a, b in zip(texts, after, strict=True)]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(st.sampled_from("ae\u0301\u030a\u00e9\u00c5\u212bﬁ한ᄒ\u1161ᆫ "), max_size=8), max_size=5))
@pytest.mark.parametrize("form", ["nfc", "nfkc"])
def test_normal_forms(form: str, texts: list[str]) -> None:
    after, counts = rewritten({"unicode": {"form": form}}, texts)
    assert after == [unicodedata.normalize(form.upper(), text) for text in texts]  # type: ignore[arg-type]
    assert counts["unicode_changed"] == [a != b for a, b in zip(texts, after, strict=True)]


def test_lines_of_c4() -> None:
    page = (
        "A menu without a mark\n  This is a line. \nToo short.\n\nAsk us for more...\nPlease enable Javascript to go on.\n"
        "Read our privacy policy, please.\nThe cat sat on the mat.[12] [edit]\n" + "x" * 1001 + " is a word."
    )
    after, counts = rewritten({"c4_lines": {}}, [page, "All is well here.", ""])
    assert after == ["This is a line.\nThe cat sat on the mat.", "All is well here.", ""]
    assert counts == {"c4_lines_removed": [6, 0, 0]}
    lax = {
        "punctuation": False,
        "min_words": 1,
        "max_word": 5000,
        "javascript": False,
        "policy": False,
        "citations": False,
    }
    after, counts = rewritten({"c4_lines": lax}, [page])
    assert counts == {"c4_lines_removed": [0]}
    assert after == ["\n".join(line.strip() for line in page.splitlines() if line.strip())]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.sampled_from(["a cat sat.", "menu", "[1]", "[edit]", " ", "\n", "\r", "\u2028", "javascript", "..."])
    ).map("".join)
)
def test_lines_of_c4_settle(text: str) -> None:
    after, _ = rewritten({"c4_lines": {}}, [text])
    assert all(line.endswith((".", "!", "?", '"', "'")) and len(line.split()) >= 3 for line in after[0].splitlines())


def test_in_the_order_given() -> None:
    text = "bo\x00b@a.org"
    assert rewriters({"strip_control": None, "mask": {}}).apply(pa.array([text], pa.large_string()))[0].to_pylist() == [
        "<email>"
    ]
    assert rewriters({"mask": {}, "strip_control": None}).apply(pa.array([text], pa.large_string()))[0].to_pylist() == [
        "bo<email>"
    ]
    assert rewriters({}).columns == ()


def test_slices_of_arrays() -> None:
    array = pa.array(["x", "a@b.org", "c\x00"], pa.large_string())[1:]
    assert rewriters({"mask": {}, "strip_control": {}}).apply(array)[0].to_pylist() == ["<email>", "c"]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"masc": {}}, r"There is no rewrite 'masc'. Did you mean 'mask'\? Known: mask"),
        ({"mask": {"kind": []}}, r"rewrite.mask has no option 'kind'. Did you mean 'kinds'\? It has: kinds, masks"),
        ({"mask": {"kinds": ["email"]}}, r"rewrite.mask.kinds.0 is 'email'; it must be 'emails'"),
        ({"mask": {"kinds": []}}, "rewrite.mask.kinds is empty"),
        ({"mask": {"masks": {"emails": "a@b.org"}}}, "rewrite.mask.masks.emails is 'a@b.org'; a mask is"),
        ({"unicode": {"form": "nfd"}}, "rewrite.unicode.form is 'nfd'; it must be 'nfc' or 'nfkc'"),
        ({"strip_control": {"x": 1}}, "rewrite.strip_control has no option 'x'. It has: none"),
    ],
)
def test_wrong_settings(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(StudyError, match=sentence):
        rewriters(given)


def test_every_rewrite_is_told_of() -> None:
    assert all(kind.__doc__ and kind.__doc__.startswith(f"``{name}``") for name, kind in REWRITES.items())
