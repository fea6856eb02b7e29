"""Every signal against plain Python, on any text."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixwright.core.errors import StudyError
from mixwright.core.find import find, names
from mixwright.curate.signal import Floats, Signal, Texts, load, measure


def plain(text: str) -> dict[str, float]:
    words = re.findall(r"\w+", text)
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    return {
        "chars": len(text),
        "words": len(words),
        "alnum_ratio": sum(map(str.isalnum, text)) / len(text) if text else 0,
        "digit_ratio": sum(map(str.isdecimal, text)) / len(text) if text else 0,
        "mean_word_length": sum(map(len, words)) / len(words) if words else 0,
        "duplicate_line_ratio": 1 - len(set(lines)) / len(lines) if lines else 0,
        "longest_line": max(map(len, text.split("\n"))),
    }


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(alphabet=st.one_of(st.characters(codec="utf-8"), st.sampled_from("ab1_ \n")), max_size=40)))
def test_as_in_plain_python(texts: list[str]) -> None:
    measured = measure(texts)
    for column, values in measured.items():
        np.testing.assert_allclose(values, [plain(text)[column] for text in texts], err_msg=column)
        assert values.dtype == np.float64
    assert set(measured) == set(plain(""))


def test_every_file_is_one_signal_named_as_it() -> None:
    assert all(issubclass(find("signals", name), Signal) for name in names("signals"))
    assert all(signal.columns and type(signal).always for signal in load().values())


class Vowels(Signal):
    """A signal from outside."""

    columns = ("vowels",)

    def measure(self, texts: Texts) -> dict[str, Floats]:
        return {"vowels": np.array([sum(c in "aeiou" for c in text) for text in texts], dtype=np.float64)}


def test_a_signal_from_outside() -> None:
    assert measure(["mixture", "xyz"], (f"{__name__}:Vowels",))["vowels"].tolist() == [3, 0]
    with pytest.raises(StudyError, match="is not a mixwright"):
        load(("collections:OrderedDict",))
    with pytest.raises(StudyError, match="Two signals measure 'vowels'"):
        load((f"{__name__}:Vowels", f"{__name__}:Vowels"))
