"""Perplexity and both difficulties against scoring row by row; the same numbers in any batch; failures counted."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from models_for_tests import Plain, save

from mixwright.core.errors import DataError, StudyError
from mixwright.curate.instruction_passes import frame, guess
from mixwright.curate.language_model import LanguageModel, Pass, width_of
from mixwright.curate.scorer import count, halves, score_plans
from mixwright.curate.signal import Texts
from mixwright.curate.signals.ifd import Ifd
from mixwright.curate.signals.perplexity import Perplexity
from mixwright.curate.signals.rifd import Rifd
from mixwright.testing import AWKWARD

pytest.importorskip("transformers")

#: nats/token between float32 in batches and float64 from the logits on, one row at a time
TOLERANCE = 2e-5
ROWS = [
    ("Name a colour.", "The colour is red."),
    ("What is it?", "the cat sat on the mat. " * 9),
    ("x", "The"),
    ("", "blue sky"),
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("models")
    return {
        "begins": save(base / "begins"),
        "bare": save(base / "bare", begin=None, kind="gpt2"),
        "merging": save(base / "merging", splits=False, seed=1),
    }


def instructions(rows=ROWS) -> Texts:
    prompts, responses = zip(*rows, strict=True)
    text = pa.array([f"{q}\n{a}" for q, a in rows], pa.large_string())
    return Texts(text, prompts=pa.array(prompts, pa.large_string()), responses=pa.array(responses, pa.large_string()))


@pytest.mark.parametrize("name", ["begins", "bare", "merging"])
def test_perplexity_is_that_of_single_rows(name: str, folders) -> None:
    plain = Plain(folders[name])
    texts = ["the cat sat on the mat.", "a dog", "x", "", "the hill, and " * 40, "日本語 مرحبا \ud800"]
    found = Perplexity(str(folders[name]), batch_tokens=256).measure(Texts(texts))
    for at, text in enumerate(texts):
        ids = plain.begin + plain.ids(text.replace("\ud800", "\ufffd"))
        if len(ids) < 2:
            assert all(math.isnan(found[column][at]) for column in Perplexity.columns)
            continue
        losses = plain.losses(ids[:256])
        assert found["lm_loss"][at] == pytest.approx(losses.mean(), abs=TOLERANCE)
        assert found["lm_perplexity"][at] == pytest.approx(math.exp(losses.mean()), rel=TOLERANCE)
        assert found["lm_tokens"][at] == len(losses)
        assert found["lm_truncated"][at] == (len(ids) > 256)


def test_strides_score_every_token_once(folders) -> None:
    plain, text = Plain(folders["begins"]), "the cat sat on the mat. " * 20
    ids = plain.begin + plain.ids(text)
    scorer = Perplexity(str(folders["begins"]), max_tokens=40, long="stride", stride=15)
    found = scorer.measure(Texts([text]))
    expected, done = [], 1
    for start in range(0, len(ids), 15):
        window = ids[start : start + 40]
        expected += plain.losses(window)[done - start - 1 :].tolist()
        done = max(done, start + len(window))
        if done == len(ids):
            break
    assert found["lm_tokens"][0] == len(ids) - 1 == len(expected)
    assert found["lm_loss"][0] == pytest.approx(np.mean(expected), abs=TOLERANCE)
    assert found["lm_truncated"][0] == 0


def difficulty(
    plain: Plain, context: list[int], bare: list[int], target: list[int], limit: int = 256
) -> tuple[float, float, int]:
    """L(t|c), L(t) and the tokens that count."""
    target = target[: limit - len(plain.begin) - max(len(context), len(bare))]
    first = 0 if plain.begin or bare else 1
    counted = len(target) - first
    given = plain.losses(plain.begin + context + target)[-counted:]
    alone = plain.losses(plain.begin + bare + target)[-counted:]
    return float(given.mean()), float(alone.mean()), counted


ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{}\n\n### Response:"
)


@pytest.mark.parametrize("name", ["begins", "bare", "merging"])
@pytest.mark.parametrize("template", ["alpaca", "plain"])
def test_difficulty_is_that_of_single_rows(name: str, template: str, folders) -> None:
    plain = Plain(folders[name])
    found = Ifd(str(folders[name]), template=template).measure(instructions())
    for at, (prompt, response) in enumerate(ROWS):
        context = ALPACA.format(prompt) if template == "alpaca" else f"{prompt}\n"
        bare = plain.ids("### Response:") if template == "alpaca" else []
        target = plain.ids(response)
        if len(target) == 1 and not plain.begin and not bare:
            assert math.isnan(found["ifd_loss"][at])
            continue
        given, alone, counted = difficulty(plain, plain.ids(context), bare, target)
        assert found["ifd_answer_loss"][at] == pytest.approx(given, abs=TOLERANCE)
        assert found["ifd_direct_loss"][at] == pytest.approx(alone, abs=TOLERANCE)
        assert found["ifd_loss"][at] == pytest.approx(given / alone, abs=TOLERANCE)
        assert found["ifd_ppl"][at] == pytest.approx(math.exp(given - alone), rel=3 * TOLERANCE)
        assert found["ifd_ppl"][at] == pytest.approx(
            math.exp(found["ifd_direct_loss"][at] * (found["ifd_loss"][at] - 1))
        )
        assert found["ifd_tokens"][at] == counted


def test_a_tokenizer_that_merges_over_the_border_moves_no_token_of_the_answer(folders) -> None:
    plain = Plain(folders["merging"])
    apart = plain.ids("### Response:") + plain.ids("The colour")
    assert plain.ids("### Response:The colour") != apart, "the tokenizer of this test must merge over the border"
    model = LanguageModel(folders["merging"], "cpu", "float32")
    (plan,) = Ifd(str(folders["merging"])).plans(model, halves(instructions([("Name it.", "The colour")])))
    tails = [one.ids[one.first :].tolist() for one in plan.passes]
    assert tails[0] == tails[1] == plain.ids("The colour")


@pytest.mark.parametrize("template", ["alpaca", "plain"])
def test_the_reverse_guesses_the_prompt(template: str, folders) -> None:
    plain = Plain(folders["begins"])
    found = Rifd(str(folders["begins"]), template=template).measure(instructions())
    for at, (prompt, response) in enumerate(ROWS):
        if not prompt:
            assert math.isnan(found["rifd_ppl"][at])
            continue
        context = guess(response)
        context = ALPACA.format(context) if template == "alpaca" else f"{context}\n"
        given, alone, counted = difficulty(plain, plain.ids(context), [], plain.ids(prompt))
        if len(plain.begin + plain.ids(context)) >= 256:
            assert math.isnan(found["rifd_ppl"][at])
            continue
        assert found["rifd_loss"][at] == pytest.approx(given / alone, abs=TOLERANCE)
        assert found["rifd_tokens"][at] == counted
    assert np.isfinite(found["rifd_ppl"]).sum() >= 2


def test_cutting_takes_the_same_end_from_both_passes(folders) -> None:
    plain = Plain(folders["begins"])
    prompt, response = "Say a lot.", "the cat sat on the mat. " * 30
    found = Ifd(str(folders["begins"]), template="plain", max_tokens=64).measure(instructions([(prompt, response)]))
    context = plain.ids(f"{prompt}\n")
    given, alone, counted = difficulty(plain, context, [], plain.ids(response), 64)
    assert found["ifd_tokens"][0] == counted == 63 - len(context)
    assert found["ifd_loss"][0] == pytest.approx(given / alone, abs=TOLERANCE)
    assert found["ifd_truncated"][0] == 1


def test_a_chat_template_frames_prompt_and_answer(folders, tmp_path) -> None:
    from transformers import AutoTokenizer

    folder = save(tmp_path / "chat")
    with pytest.raises(StudyError, match="no chat template"):
        Ifd(str(folder), template="chat").measure(instructions())
    words = AutoTokenizer.from_pretrained(folder)
    words.chat_template = (
        "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{{ eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    words.save_pretrained(folder)
    plain = Plain(folder)
    found = Ifd(str(folder), template="chat", dtype="float32").measure(instructions())
    end = plain.words.eos_token_id
    for at, (prompt, response) in enumerate(ROWS):
        context = [*plain.ids(f"[user]{prompt}"), end, *plain.ids("[assistant]")]
        given, alone, _ = difficulty(plain, context, plain.ids("[assistant]"), plain.ids(response))
        assert found["ifd_loss"][at] == pytest.approx(given / alone, abs=TOLERANCE)


def test_the_same_bits_in_any_batch(folders) -> None:
    """On one machine: a row alone, among others, in another order, in smaller batches."""
    texts = ["the cat sat on the mat. " * n for n in (1, 3, 4, 9, 2, 7)] + ["a dog ran", "x y z", "The"]
    scorer = Perplexity(str(folders["begins"]))
    together = scorer.measure(Texts(texts))["lm_loss"]
    assert together.tolist() == scorer.measure(Texts(texts[::-1]))["lm_loss"][::-1].tolist()
    assert together.tolist() == [scorer.measure(Texts([text]))["lm_loss"][0] for text in texts]
    small = Perplexity(str(folders["begins"]), batch_tokens=64).measure(Texts(texts))["lm_loss"]
    assert together.tolist() == small.tolist()


def test_awkward_texts_have_a_number_or_a_reason(folders) -> None:
    model = LanguageModel(folders["begins"], "cpu", "float32")
    scorer = Perplexity(str(folders["begins"]))
    values, failed, _ = score_plans(scorer, model, scorer.plans(model, halves(Texts(AWKWARD))))
    assert (np.isnan(values).any(axis=1) == (failed > 0)).all()
    assert np.isfinite(values[1:]).all()
    assert count(scorer, failed) == {"no token that a loss could be given for": 1}


def test_rows_without_a_difficulty_are_counted_by_reason(folders) -> None:
    model = LanguageModel(folders["begins"], "cpu", "float32")
    scorer = Ifd(str(folders["begins"]), template="plain", max_tokens=32)
    rows = instructions([("good", "the cat"), ("empty", ""), ("long " * 40, "the cat"), ("very long " * 2000, "x")])
    values, failed, _ = score_plans(scorer, model, scorer.plans(model, halves(rows)))
    assert np.isnan(values).all(axis=1).tolist() == [False, True, True, True]
    assert count(scorer, failed) == {"no token in the target": 1, "no room for the target behind its context": 2}
    values, failed, _ = score_plans(scorer, model, scorer.plans(model, halves(Texts(["no instruction"]))))
    assert np.isnan(values).all()
    assert count(scorer, failed) == {"no instruction row": 1}


def test_a_loss_that_is_not_finite_is_counted(tmp_path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    folder = save(tmp_path / "broken")
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        model.lm_head.weight.fill_(math.nan)
    model.save_pretrained(folder)
    scorers = (Perplexity(str(folder)), Ifd(str(folder)))
    for scorer in scorers:
        loaded = LanguageModel(folder, "cpu", "float32")
        values, failed, _ = score_plans(scorer, loaded, scorer.plans(loaded, halves(instructions(ROWS[:2]))))
        assert np.isnan(values).all()
        assert count(scorer, failed) == {"a loss that is not finite": 2}


def test_prompts_are_framed_in_one_call(folders) -> None:
    model = LanguageModel(folders["begins"], "cpu", "float32")
    assert frame(model, "plain", ["{prompt} stays"])[0].tolist() == model.encode(["{prompt} stays\n"])[0].tolist()


def test_special_tokens_in_a_text_are_text(folders) -> None:
    model = LanguageModel(folders["begins"], "cpu", "float32")
    ids = model.encode(["a</s>b"])[0]
    assert model.tokenizer.eos_token_id not in ids.tolist()


def test_widths_fill_up_by_a_quarter_at_most() -> None:
    for length in range(1, 5000):
        width = width_of(length)
        assert width >= length
        assert width - length <= max(15, length / 4)
        assert width_of(width) == width
    assert len({width_of(length) for length in range(1, 1025)}) < 25


def test_batches_hold_what_fits(folders) -> None:
    model = LanguageModel(folders["begins"], "cpu", "float32")
    passes = [Pass(np.zeros(length, dtype=np.int32), 1) for length in (3, 100, 5, 250, 256, 4)]
    batches = model.batches(passes, 512)
    assert batches == [[0, 2, 5], [1], [3, 4]]
    assert model.batches(passes, 2) == [[0], [2], [5], [1], [3], [4]]


def test_wrong_settings_are_refused(folders, tmp_path) -> None:
    with pytest.raises(StudyError, match="at least 2"):
        Perplexity(str(folders["begins"]), max_tokens=1)
    with pytest.raises(StudyError, match="goes with long: stride"):
        Perplexity(str(folders["begins"]), stride=4)
    with pytest.raises(StudyError, match="reads 256 tokens at once"):
        Perplexity(str(folders["begins"]), max_tokens=300).measure(Texts(["x"]))
    with pytest.raises(StudyError, match="Set it below"):
        Perplexity(str(folders["begins"]), long="stride", max_tokens=8, stride=8).measure(Texts(["x"]))
    with pytest.raises(DataError, match="no model folder"):
        Perplexity(str(tmp_path)).measure(Texts(["x"]))
    with pytest.raises(StudyError, match="needs model"):
        Perplexity("").prepare(tmp_path, tmp_path)
