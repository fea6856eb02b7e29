"""The n-gram model is a probability, and the one that Kneser and Ney, or Witten and Bell, say."""

import collections
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixwright.core.errors import DataError, StudyError
from mixwright.core.rng import rng
from mixwright.curate.ngram_model import NgramModel, Smoothing, _discounts, train
from mixwright.curate.signals.reference_perplexity import ReferencePerplexity
from mixwright.curate.texts import Texts
from mixwright.testing import check_signal

SMOOTHINGS = ("kneser_ney", "witten_bell")
SENTENCES = st.lists(st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=10).map(" ".join), min_size=1, max_size=5)


class Plain:
    """The same model with dictionaries, from its definition."""

    def __init__(self, texts: list[str], order: int, smoothing: str) -> None:
        self.order = order
        raw: list[collections.Counter[tuple[str, ...]]] = [collections.Counter() for _ in range(order)]
        before: list[dict[tuple[str, ...], set[str]]] = [collections.defaultdict(set) for _ in range(order)]
        for text in texts:
            words = text.split()
            for n in range(1, order + 1):
                for at in range(len(words) - n + 1):
                    gram = tuple(words[at : at + n])
                    raw[n - 1][gram] += 1
                    before[n - 1][gram].add(words[at - 1] if at else "<begin>")
        self.vocabulary = {gram[0] for gram in raw[0]}
        self.p: dict[tuple[str, ...], float] = {}
        for n in range(order):
            weight = dict(raw[n])
            if smoothing == "kneser_ney" and n < order - 1:
                weight = {gram: len(words) for gram, words in before[n].items()}
            for gram in weight:
                followers = [other for other in weight if other[:-1] == gram[:-1]]
                total = sum(weight[other] for other in followers)
                if smoothing == "kneser_ney":
                    cut = (0.0, *_discounts(np.array(list(weight.values()))))[min(weight[gram], 3)]
                    self.p[gram] = (weight[gram] - cut) / total
                else:
                    self.p[gram] = weight[gram] / (total + len(followers))

    def chance(self, word: str, context: tuple[str, ...]) -> float:
        lower = self.chance(word, context[1:]) if context else 1 / (len(self.vocabulary) + 1)
        left = 1 - sum(p for gram, p in self.p.items() if gram[:-1] == context)
        return self.p.get((*context, word), 0.0) + left * lower

    def bits(self, text: str) -> float:
        words = text.split()
        return -sum(
            math.log2(self.chance(word, tuple(words[max(0, at - self.order + 1) : at])))
            for at, word in enumerate(words)
        )


@settings(max_examples=60, deadline=None)
@given(SENTENCES, SENTENCES, st.integers(1, 4), st.sampled_from(SMOOTHINGS))
def test_as_defined(reference: list[str], texts: list[str], order: int, smoothing: Smoothing) -> None:
    model = train([Texts(reference)], order, smoothing, 10**6)
    plain = Plain(reference, order, smoothing)
    assert model.words == len(plain.vocabulary)
    expected = [plain.bits(text) for text in [*texts, "x y a b"]]
    assert model.bits(Texts([*texts, "x y a b"])).tolist() == pytest.approx(expected, rel=1e-5, abs=1e-5)


def after(model: NgramModel, context: str, words: list[str]) -> float:
    """The sum of the probabilities of the next word over ``words``."""
    bits = model.bits(Texts([context, *(f"{context} {word}" for word in words)]))
    return float(np.exp2(bits[0] - bits[1:]).sum())


TALE = """the cat sat on the mat and the dog sat on the cat . the dog saw the cat and the cat ran . a cat and a dog sat down
on a mat . the mat was red and the cat was red and the dog was black . a dog ran and a cat ran and the mat sat there"""


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize(("order", "limit"), [(1, 10**6), (3, 10**6), (5, 10**6), (3, 60), (3, 5)])
def test_probabilities_sum_to_one(smoothing: Smoothing, order: int, limit: int) -> None:
    model = train([Texts([TALE, TALE[:90]])], order, smoothing, limit)
    vocabulary = sorted(set(TALE.replace(".", " ").split()))
    assert model.words == len(vocabulary)
    contexts = ["", "the", "cat sat", "the cat", "zebra", "the zebra", "zebra the", "on the mat and the", "there"]
    for context in contexts:
        assert after(model, context, [*vocabulary, "zebra"]) == pytest.approx(1, abs=1e-5)
        assert after(model, context, ["zebra"]) > 0


def test_reference_text_is_predicted_better() -> None:
    draw = rng(0, "words")
    words = [f"w{n}" for n in range(50)]
    follows = {word: draw.choice(words, 3).tolist() for word in words}

    def chain(count: int) -> str:
        made = ["w0"]
        for _ in range(count):
            made.append(str(draw.choice(follows[made[-1]])))
        return " ".join(made)

    reference, held_out = chain(5000), chain(500)
    model = train([Texts([reference])], 3, "kneser_ney", 10**6)
    like, shuffled = held_out.split(), list(draw.permutation(held_out.split()))
    bits = model.bits(Texts([held_out, " ".join(shuffled), " ".join(f"v{n}" for n in range(len(like)))])) / len(like)
    assert 2 ** bits[0] < 4  # three words follow each
    assert bits[0] < bits[1] - 2 < bits[2] - 2


def test_batches_make_no_difference() -> None:
    texts = [" ".join(f"w{draw}" for draw in rng(0, "text", n).integers(0, 40, 30)) for n in range(40)]
    whole = train([Texts(texts)], 3, "kneser_ney", 10**6)
    parts = train([Texts(texts[at : at + 7]) for at in range(0, 40, 7)], 3, "kneser_ney", 10**6)
    assert whole.base == parts.base
    assert (whole.table == parts.table).all()


def test_discounts_of_chen_and_goodman() -> None:
    weight = np.repeat([1, 2, 3, 4, 9], [100, 40, 20, 12, 5])
    rate = 100 / 180
    assert _discounts(weight) == pytest.approx((1 - 2 * rate * 0.4, 2 - 3 * rate * 0.5, 3 - 4 * rate * 0.6))
    assert _discounts(np.array([1, 1, 2])) == (0.75, 0.75, 0.75)


def signal(folder: Path, texts: list[str], **options: object) -> ReferencePerplexity:
    (folder / "reference.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    made = ReferencePerplexity(paths=("reference.jsonl",), **options)  # type: ignore[arg-type]
    (folder / "out").mkdir(exist_ok=True)
    made.prepare(folder, folder / "out")
    return made.opened(folder / "out")


def test_the_signal(tmp_path: Path) -> None:
    opened = signal(tmp_path, [TALE, "and so on"])
    texts = ["the cat sat", "", "...", "zebra"]
    found = opened.measure(Texts(texts))
    bits = train([Texts([TALE, "and so on"])], 3, "kneser_ney", 10**6).bits(Texts(texts))
    assert found["reference_perplexity"][[0, 3]].tolist() == pytest.approx([2 ** (bits[0] / 3), 2 ** bits[3]])
    assert found["reference_bits_per_byte"][[0, 3]].tolist() == pytest.approx([bits[0] / 11, bits[3] / 5])
    assert np.isnan(found["reference_perplexity"][1:3]).all()
    assert np.isnan(found["reference_bits_per_byte"][1:3]).all()
    check_signal(opened)
    before = opened.identity(tmp_path)
    assert signal(tmp_path, ["another"]).identity(tmp_path) != before


def test_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="order must be 1 to 6 and ngrams at least 1; got 7"):
        ReferencePerplexity(paths=("x",), order=7)
    with pytest.raises(DataError, match="the reference holds no word"):
        signal(tmp_path, ["...", ""])
    with pytest.raises(StudyError, match="paths and fields must not be empty"):
        ReferencePerplexity(paths=()).prepare(tmp_path, tmp_path)
