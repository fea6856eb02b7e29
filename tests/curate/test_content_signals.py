"""Markup and code, word lists and tokens against plain Python."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mixwright.core.errors import DataError
from mixwright.curate.markup_kernels import OPENINGS, count_markup
from mixwright.curate.rewrites import REWRITES
from mixwright.curate.signal import kinds
from mixwright.curate.signals.code_markup import CodeMarkup
from mixwright.curate.signals.tokens import Tokens
from mixwright.curate.signals.word_list import WordList
from mixwright.curate.texts import Texts
from mixwright.testing import AWKWARD, check_signal

BLANK = " \t\r\x0b\x0c"


def tags(text: str) -> int:
    pattern = r"<!--(?s:.*?)-->|<[/!?]?[A-Za-z][^<>]*>"
    return sum(len(match[0]) for match in re.finditer(pattern, text))


def is_code(line: str) -> bool:
    line = line.strip(BLANK)
    return bool(line) and bool(re.search(r"[{};]\Z|\):\Z|[^ ]\(\Z", line) or line.startswith(OPENINGS))


def fenced_lines(text: str) -> list[bool]:
    flags, fence = [], ""
    for line in text.split("\n"):
        found = re.match(r" {0,3}(`{3,}(?=[^`]*\Z)|~{3,})", line)
        flags.append(bool(fence or found))
        if fence:
            if re.match(rf" {{0,3}}{fence[0]}{{{len(fence)},}}[ \t\r]*\Z", line):
                fence = ""
        elif found:
            fence = found[1]
    return flags


def plain(text: str) -> list[int]:
    lines = text.split("\n")
    sizes = [len(line) + 1 for line in lines[:-1]] + [len(lines[-1])]
    return [
        tags(text),
        sum(size for line, size in zip(lines, sizes, strict=True) if is_code(line)),
        sum(size for flag, size in zip(fenced_lines(text), sizes, strict=True) if flag),
        sum(len(match[0]) for match in re.finditer(r"\\[A-Za-z]{2,}", text)),
    ]


PARTS = st.sampled_from(
    ["<", ">", "/", "!", "<!--", "-->", "--", "p", "é", "日", "\n", "\n", " ", "   ", "```", "`", "~~~", "~", "{", "}", ";",
     "):", "f(", "def ", "import ", "//", "\\", "\\frac", "ab", "return", "\t", "?"]
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.lists(st.lists(PARTS, max_size=25).map("".join), max_size=3))
@example(["<!-- a <b> ", "<!--->", "<!---->x", "```\n```\n`````", "~~~ x\n~~\n~~~~\ny"])
def test_markup_as_regular_expressions(texts: list[str]) -> None:
    given_texts = Texts(texts)
    assert count_markup(given_texts.data, given_texts.offsets).T.tolist() == [plain(text) for text in texts]
    found = CodeMarkup().measure(given_texts)
    for at, text in enumerate(texts):
        assert [found[column][at] for column in CodeMarkup.columns] == [
            count / len(text) if text else 0 for count in plain(text)
        ]


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 200))
def test_markup_of_any_bytes(content: bytes, cut: int) -> None:
    data = np.frombuffer(content, np.uint8)
    counts = count_markup(data, np.array([0, min(cut, len(content)), len(content)]))
    assert (counts >= 0).all()
    assert (counts <= len(content)).all()


def word_list(folder: Path, phrases: str) -> WordList:
    (folder / "list.txt").write_text(phrases)
    signal = WordList(path="list.txt")
    signal.prepare(folder, folder)
    return signal.opened(folder)


def test_phrases(tmp_path: Path) -> None:
    signal = word_list(tmp_path, "Bad\nvery bad  word\n\nÜbel\n悪い\nbad\n")
    texts = ["This is a very BAD-word, badly.", "bad bad", "übel ÜBEL", "これは悪い。", "fine", ""]
    found = signal.measure(Texts(texts))
    assert found["word_list_hits"].tolist() == [2, 2, 2, 1, 0, 0]
    assert found["word_list_ratio"].tolist() == pytest.approx([3 / 7, 1, 1, 2 / 5, 0, 0])
    check_signal(signal)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map(" ".join), min_size=1, max_size=5),
    st.lists(st.lists(st.sampled_from("abcd"), max_size=12).map(" ".join), max_size=4),
)
def test_phrases_as_tuples(tmp_path_factory: pytest.TempPathFactory, phrases: list[str], texts: list[str]) -> None:
    found = word_list(tmp_path_factory.mktemp("list"), "\n".join(phrases)).measure(Texts(texts))
    for at, text in enumerate(texts):
        words = text.split()
        spans = [
            (start, start + len(phrase))
            for phrase in {tuple(one.split()) for one in phrases}
            for start in range(len(words))
            if tuple(words[start : start + len(phrase)]) == phrase
        ]
        assert found["word_list_hits"][at] == len(spans)
        covered = {word for start, stop in spans for word in range(start, stop)}
        assert found["word_list_ratio"][at] == pytest.approx(len(covered) / len(words) if words else 0)


def test_word_lists_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no word list"):
        WordList(path="nowhere").prepare(tmp_path, tmp_path)
    with pytest.raises(DataError, match=r"'!!' holds no word"):
        word_list(tmp_path, "fine\n!!\n")
    with pytest.raises(DataError, match="holds no phrase"):
        word_list(tmp_path, " \n")
    (tmp_path / "list.txt").write_bytes(b"caf\xe9")
    with pytest.raises(DataError, match="is not UTF-8"):
        WordList(path="list.txt").prepare(tmp_path, tmp_path)
    first = WordList(path="list.txt").identity(tmp_path)
    (tmp_path / "list.txt").write_text("other")
    assert WordList(path="list.txt").identity(tmp_path) != first


def test_tokens(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, special_tokens=["<end>"])
    tokenizer.train_from_iterator(["the cat sat on the mat " * 9], trainer)
    (tmp_path / "bpe").mkdir()
    tokenizer.save(str(tmp_path / "bpe" / "tokenizer.json"))
    given_signal = Tokens(tokenizer="bpe")
    given_signal.prepare(tmp_path, tmp_path)
    signal = given_signal.opened(tmp_path)
    texts = ["the cat sat", "a cat", "", "日本", "<end>"]
    expected = [len(tokenizer.encode(text).ids) for text in texts[:-1]]
    found = signal.measure(Texts(texts))["tokens"].tolist()
    assert found[:-1] == expected
    assert found[-1] > 1  # no special token is read from a text
    check_signal(signal)
    assert signal.measure(Texts(AWKWARD))["tokens"][AWKWARD.index("")] == 0
    assert given_signal.identity(tmp_path) == Tokens(tokenizer="bpe/tokenizer.json").identity(tmp_path)
    with pytest.raises(DataError, match="There is no tokenizer at"):
        Tokens(tokenizer="nowhere").prepare(tmp_path, tmp_path)
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(DataError, match=r"is not a tokenizer\.json"):
        Tokens(tokenizer="bad.json").prepare(tmp_path, tmp_path)


def test_every_column_is_told_of() -> None:
    page = (Path(__file__).parents[2] / "docs" / "signals.md").read_text("utf-8")
    columns = [column for column in kinds() if not column.startswith("dt_")]
    assert [column for column in columns if f"`{column}`" not in page] == []
    assert [name for name in REWRITES if f"`{name}`" not in page] == []


def test_the_kit() -> None:
    check_signal(CodeMarkup())
