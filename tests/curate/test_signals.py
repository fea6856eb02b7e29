"""Every signal against plain Python, on any text."""

import numpy as np
import plain_counts_for_tests as plain
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixwright.core.errors import StudyError
from mixwright.core.find import find, names
from mixwright.curate.signal import Floats, Signal, Texts, load, measure
from mixwright.testing import check_signal

#: the signals of this test: those that only count
COUNTED = ("alnum_ratio", "c4", "character_ratios", "chars", "digit_ratio", "duplicate_line_ratio", "fineweb")
COUNTED += ("gopher_quality", "gopher_repetition", "longest_line", "mean_word_length", "words")


def over(part: float, whole: float) -> float:
    return part / whole if whole else 0


def expected(text: str) -> dict[str, float]:
    n = plain.counts(text)
    chars, words, lines = n["chars"], n["words"], n["lines"]
    same = (
        "sentences",
        "unpunctuated_lines",
        "few_word_lines",
        "long_word_lines",
        "lorem_ipsum_lines",
        "javascript_lines",
    )
    same += (
        "policy_lines",
        "long_lines",
        "c4_lines",
        "c4_sentences",
        "c4_refused_lines",
        "stop_words",
        "stop_word_count",
    )
    grams = [f"top_{m}gram" for m in (2, 3, 4)] + [f"duplicate_{m}gram" for m in range(5, 11)]
    return {
        **{name: n[name] for name in ("chars", "words", "lines", "longest_line", *same)},
        **{f"{name}_ratio": over(n[name], chars) for name in grams},
        "alnum_ratio": over(sum(map(str.isalnum, text)), chars),
        "digit_ratio": over(sum(map(str.isdecimal, text)), chars),
        "upper_ratio": over(sum(map(str.isupper, text)), chars),
        "whitespace_ratio": over(sum(map(str.isspace, text)), chars),
        "symbol_ratio": over(sum(not c.isalnum() and not c.isspace() for c in text), chars),
        "cjk_ratio": over(n["cjk"], chars),
        "mean_word_length": over(sum(map(len, plain.words(text))), words),
        "duplicate_line_ratio": over(n["duplicate_lines"], lines),
        "duplicate_line_char_ratio": over(n["duplicate_line_chars"], chars),
        "duplicate_paragraph_ratio": over(n["duplicate_paragraphs"], n["paragraphs"]),
        "duplicate_paragraph_char_ratio": over(n["duplicate_paragraph_chars"], chars),
        "hash_word_ratio": over(text.count("#"), words),
        "ellipsis_word_ratio": over(text.count("...") + text.count("…"), words),
        "bullet_line_ratio": over(n["bullet_lines"], lines),
        "ellipsis_line_ratio": over(n["ellipsis_lines"], lines),
        "alpha_word_ratio": over(sum(any(map(str.isalpha, piece)) for piece in text.split()), len(text.split())),
        "words_per_line": over(n["line_words"], lines),
        "longest_word": n["longest_piece"],
        "curly_brackets": text.count("{"),
        "punctuated_line_ratio": over(n["punctuated_lines"], len(text.split("\n"))),
        "short_line_ratio": over(sum(len(line) <= 30 for line in text.split("\n")), len(text.split("\n"))),
        "repeated_line_char_ratio": over(n["duplicate_line_chars"], len(text.replace("\n", ""))),
        "newline_word_ratio": over(text.count("\n"), words),
    }


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(alphabet=st.one_of(st.characters(codec="utf-8"), st.sampled_from("ab1_ \n.#-")), max_size=60)))
def test_as_in_plain_python(texts: list[str]) -> None:
    shared, seen, plainly = Texts(texts), set[str](), list(map(expected, texts))
    for name in COUNTED:
        for column, values in find("signals", name)().measure(shared).items():
            np.testing.assert_allclose(values, [one[column] for one in plainly], err_msg=column)
            assert values.dtype == np.float64
            seen.add(column)
    assert seen == set(expected(""))


@pytest.mark.parametrize("name", COUNTED)
def test_keeps_the_contract_of_signals(name: str) -> None:
    check_signal(find("signals", name)())
    assert find("signals", name).always


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
