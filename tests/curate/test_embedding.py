"""Vectors of texts against the plainest computation; an encoder and a decoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from models_for_tests import save, tokenizer

from mixwright.core.errors import DataError, StudyError
from mixwright.curate.embedding import embedder

transformers = pytest.importorskip("transformers")

TEXTS = ["the cat sat on the mat.", "", "a dog", "the hill, and " * 60, "日本語", "the cat sat on the mat."]


def encoder(folder: Path) -> Path:
    """A small BERT whose tokenizer puts a token on either side."""
    from tokenizers.processors import TemplateProcessing

    words = tokenizer("<s>")
    ends = [("<s>", words.token_to_id("<s>")), ("</s>", words.token_to_id("</s>"))]
    words.post_processor = TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=words.get_vocab_size(), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=64,
    )  # fmt: skip
    transformers.BertModel(config).save_pretrained(folder)
    transformers.PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>", eos_token="</s>").save_pretrained(
        folder
    )
    return folder


@pytest.fixture(scope="module", params=["encoder", "decoder"])
def folder(request, tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("models") / request.param
    return encoder(place) if request.param == "encoder" else save(place)


def plain(folder: Path, text: str, limit: int) -> np.ndarray:
    model = transformers.AutoModel.from_pretrained(folder).eval()
    words = transformers.AutoTokenizer.from_pretrained(folder)
    ids = words(text, truncation=True, max_length=limit)["input_ids"]
    if not ids:
        return np.zeros(model.config.hidden_size)
    with torch.no_grad():
        mean = model(torch.tensor([ids])).last_hidden_state[0].double().mean(dim=0).numpy()
    return mean / np.linalg.norm(mean)


def test_vectors_are_means_of_hidden_states(folder) -> None:
    vectors = embedder(folder, max_tokens=50, batch_tokens=128)(TEXTS)
    assert vectors.dtype == np.float32
    for text, vector in zip(TEXTS, vectors, strict=True):
        np.testing.assert_allclose(vector, plain(folder, text, 50), atol=1e-5)
    assert vectors[0].tolist() == vectors[5].tolist()


def test_a_text_alone_has_the_same_vector(folder) -> None:
    embed = embedder(folder)
    together = embed(TEXTS)
    for at, text in enumerate(TEXTS):
        np.testing.assert_allclose(embed([text])[0], together[at], atol=1e-6)
    assert embed([]).shape == (0, 32)


def test_what_is_no_model_is_refused(tmp_path) -> None:
    with pytest.raises(DataError, match="no model folder"):
        embedder(tmp_path)
    with pytest.raises(StudyError, match="at least 1"):
        embedder(tmp_path, max_tokens=0)
