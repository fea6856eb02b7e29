"""Recipes of Data-Juicer: what they become is a valid section that decides as their operators do, and nothing is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from mixwright.core.errors import StudyError
from mixwright.curate.expressions import holds
from mixwright.curate.recipes.data_juicer import Converted, convert
from mixwright.curate.rewrites import rewriters
from mixwright.curate.rules import Options
from mixwright.curate.signal import Texts

pytest.importorskip("numba")

#: every operator that is mapped, with every parameter that means something, in the form of config_all.yaml
EVERYTHING = """
dataset_path: data.jsonl
text_keys: content
np: 4
some_new_setting: [1, 2]
process:
  - clean_email_mapper: {repl: "<EMAIL>"}
  - clean_links_mapper:
  - clean_ip_mapper:
  - fix_unicode_mapper: {normalization: NFKC}
  - whitespace_normalization_mapper:
  - text_length_filter: {min_len: 20, max_len: 2000}
  - words_num_filter: {lang: en, tokenization: false, min_num: 10, max_num: 10000}
  - alphanumeric_filter: {tokenization: false, min_ratio: 0.25, max_ratio: 0.9}
  - average_line_length_filter: {min_len: 10, max_len: 9223372036854775807}
  - maximum_line_length_filter: {max_len: 500}
  - special_characters_filter: {min_ratio: 0.0, max_ratio: 0.25}
  - character_repetition_filter: {rep_len: 5, min_ratio: 0.0, max_ratio: 0.4}
  - word_repetition_filter: {lang: en, rep_len: 3, max_ratio: 0.2, num_proc: 4}
  - language_id_score_filter: {lang: [en, zh], min_score: 0.2}
  - token_num_filter: {hf_tokenizer: models/words, min_num: 10, max_num: 4000}
  - stopwords_filter: {lang: en, min_ratio: 0.3}
  - flagged_words_filter: {lang: pt-br, max_ratio: 0.01, flagged_words_dir: lists}
  - perplexity_filter: {lang: en, max_ppl: 1500}
  - llm_perplexity_filter: {hf_model: models/small, min_score: 20, max_score: 1000}
  - instruction_following_difficulty_filter: {hf_model: models/small, min_score: 0.2, max_score: 0.9}
  - text_length_filter: {min_len: 30, text_key: output}
  - image_size_filter: {min_size: 0.1}
  - topk_specified_field_selector: {field_key: a}
  - document_deduplicator: {lowercase: true, ignore_non_character: false}
  - document_minhash_deduplicator: {jaccard_threshold: 0.7, window_size: 4, num_permutations: 128, tokenization: space}
"""


def converted(tmp_path: Path, recipe: str | list[Any]) -> Converted:
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe if isinstance(recipe, str) else yaml.safe_dump({"process": recipe}))
    return convert(path)


def options(found: Converted) -> Options:
    section = yaml.safe_load(found.yaml_text)["curate"]
    rewriters(section.get("rewrite", {}))
    return Options.from_dict(section)


def test_every_operator_is_mapped_or_named(tmp_path) -> None:
    found = converted(tmp_path, EVERYTHING)
    listed = [next(iter(one)) for one in yaml.safe_load(EVERYTHING)["process"]]
    assert sorted([*found.mapped, *(name for name, _ in found.unmapped)]) == sorted(listed)
    assert [name for name, _ in found.unmapped] == [
        "whitespace_normalization_mapper", "perplexity_filter", "image_size_filter", "topk_specified_field_selector",
    ]  # fmt: skip
    for name, reason in found.unmapped:
        assert f"#   {name}: {reason}" in found.yaml_text
    for note in found.notes:
        assert f"#   {note}" in found.yaml_text
    notes = "\n".join(found.notes)
    assert "text_key: 'output' is not mapped" in notes
    assert 'text_keys: "content" -> the text of a source' in notes
    assert "some_new_setting: [1, 2] -> no counterpart" in notes
    assert "num_proc" not in notes
    assert "num_permutations: 128 is not needed" in notes


def test_the_section_is_valid_and_says_the_same(tmp_path) -> None:
    found = options(converted(tmp_path, EVERYTHING))
    assert dict(found.keep) == {
        "text_length_filter": "20 <= chars <= 2000",
        "words_num_filter": "10 <= words <= 10000",
        "alphanumeric_filter": "0.25 <= alnum_ratio <= 0.9",
        "average_line_length_filter": "10 <= chars / lines",
        "maximum_line_length_filter": "10 <= longest_line <= 500",
        "special_characters_filter": "0 <= symbol_ratio + digit_ratio + whitespace_ratio <= 0.25",
        "character_repetition_filter": "0 <= char_5gram.char_ngram_repetition <= 0.4",
        "word_repetition_filter": "0 <= word_3gram.word_ngram_repetition <= 0.2",
        "language_id_score_filter": 'lang_score >= 0.2 and lang in ("en", "zh")',
        "token_num_filter": "10 <= tokens <= 4000",
        "stopwords_filter": "0.3 <= stopwords_en.word_list_ratio",
        "flagged_words_filter": "flagged_words_pt_br.word_list_ratio <= 0.01",
        "llm_perplexity_filter": "20 <= lm_perplexity <= 1000",
        "instruction_following_difficulty_filter": "0.2 <= ifd_loss <= 0.9",
        "text_length_filter#2": "30 <= chars",
    }
    assert found.conditions == tuple(found.keep)
    assert found.measure["ifd"] == {"model": "models/small", "template": "plain"}
    assert (found.dedup.exact.lowercase, found.dedup.exact.ignore_non_character) == (True, False)
    assert (found.dedup.near.threshold, found.dedup.near.ngram, found.dedup.prefer) == (0.7, 4, "first")
    masks = found.rewrite["mask"]
    assert masks == {"kinds": ["emails", "urls", "ips"], "masks": {"emails": "<EMAIL>", "urls": "", "ips": ""}}


@pytest.mark.parametrize(
    ("operator", "reason"),
    [
        ({"stopwords_filter": {"tokenization": True}}, "sentencepiece"),
        ({"flagged_words_filter": {"use_words_aug": True}}, "side by side"),
        ({"words_num_filter": {"tokenization": True}}, "sentencepiece"),
        ({"alphanumeric_filter": {"tokenization": True}}, "Hugging Face"),
        ({"language_id_score_filter": {"lang": "tlh"}}, "knows no language tlh"),
        ({"text_length_filter": {"min_len": "ten"}}, "not a number"),
        ({"text_length_filter": {"min_len": 10, "max_len": 5}}, "drops every row"),
        ({"clean_email_mapper": {"pattern": "a+"}}, "regular expression"),
        ({"fix_unicode_mapper": {"normalization": "NFD"}}, "none of nfc"),
        ({"document_minhash_deduplicator": {"tokenization": "character"}}, "n-grams of its pieces"),
        ({"document_minhash_deduplicator": {"lowercase": False}}, "capital"),
        ({"llm_perplexity_filter": {"query_template": "{q}"}}, "ifd_answer_loss"),
        ({"llm_perplexity_filter": {"response_template": "{a} {b}"}}, "put together"),
        ("video_duration_filter", "text only"),
        ("new_filter", "no counterpart"),
    ],
)
def test_what_cannot_be_said_here_is_not_said(operator: Any, reason: str, tmp_path) -> None:
    found = converted(tmp_path, [operator])
    assert found.mapped == ()
    assert reason in found.unmapped[0][1]
    assert yaml.safe_load(found.yaml_text) == {"curate": {}}


def test_two_operators_that_contradict_each_other(tmp_path) -> None:
    found = converted(tmp_path, ["document_deduplicator", {"document_deduplicator": {"lowercase": True}}])
    assert found.mapped == ("document_deduplicator",)
    assert "has set dedup.exact" in found.unmapped[0][1]


def test_the_order_of_operators_is_told(tmp_path) -> None:
    found = converted(tmp_path, ["document_deduplicator", "text_length_filter", "fix_unicode_mapper"])
    assert sum("order:" in note for note in found.notes) == 2
    found = converted(tmp_path, ["fix_unicode_mapper", "text_length_filter", "document_deduplicator"])
    assert not any("order:" in note for note in found.notes)


def test_a_name_cannot_end_a_comment(tmp_path) -> None:
    found = converted(tmp_path, [{"evil\ncurate:\n  keep: 1": {}}])
    assert yaml.safe_load(found.yaml_text) == {"curate": {}}


@pytest.mark.parametrize(
    "text", ["[1, 2]", "a: b", "process: x", "process: [[1]]", "process: [{a: 1, b: 2}]", "{", "process: [{a: 1}]"]
)
def test_what_is_no_recipe_is_refused(text: str, tmp_path) -> None:
    (tmp_path / "recipe.yaml").write_text(text)
    with pytest.raises(StudyError):
        convert(tmp_path / "recipe.yaml")
    with pytest.raises(StudyError, match="cannot be read"):
        convert(tmp_path / "missing.yaml")


def test_it_decides_as_the_operators_do(tmp_path) -> None:
    """The operators that are exact, against their definitions."""
    from collections import Counter

    from mixwright.curate.signals.alnum_ratio import AlnumRatio
    from mixwright.curate.signals.chars import Chars
    from mixwright.curate.signals.ngram_repetition import NgramRepetition

    texts = ["short", "abcdef ghij " * 30, "!!! ??? --- ...... ,,,,, 12", "a text of many different words, no doubt"]

    def repeated(text: str, n: int) -> float:
        found = sorted(Counter(text[at : at + n] for at in range(len(text) - n + 1)).values(), reverse=True)
        most = min(int(len(found) ** 0.5), len(found) - found.count(1))
        return sum(found[:most]) / sum(found) if found else 0.0

    expected = {
        "text_length_filter": [10 <= len(text) <= 100 for text in texts],
        "alphanumeric_filter": [sum(map(str.isalnum, text)) / len(text) >= 0.25 for text in texts],
        "character_repetition_filter": [repeated(text, 10) <= 0.5 for text in texts],
    }
    found = options(converted(tmp_path, [{"text_length_filter": {"max_len": 100}}, *list(expected)[1:]]))
    shared = Texts(texts)
    values = {**Chars().measure(shared), **AlnumRatio().measure(shared)}
    values |= {f"char_10gram.{column}": array for column, array in NgramRepetition().measure(shared).items()}
    rules = found.ruleset()
    assert list(rules) == list(expected)
    for name, rule in rules.items():
        kept = np.asarray(holds(rule.keep, values), dtype=bool)
        assert kept.tolist() == expected[name], name
