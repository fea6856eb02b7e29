"""Our models as Llama folders: transformers computes the same, and we read back what it writes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mixwright.core.errors import DataError
from mixwright.core.mixture import Mixture
from mixwright.core.run import ModelSize, Run
from mixwright.core.schedule import Schedule
from mixwright.store import hf
from mixwright.text import tokenizer as tokenizers
from mixwright.train import checkpoint
from mixwright.train.hf_llama import config_of, export_checkpoint, load_checkpoint, load_llama, size_of

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

#: float32 sums in another order; logits of the test's models reach to about 10
TOLERANCE = 2e-5
SIZE = ModelSize(24, 2)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> tuple[Path, tokenizers.Facts]:
    file = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    facts = tokenizers.train(iter(["the cat sat on the mat. a dog ran. " * 20]), 300, file)
    return file, facts


@pytest.fixture(scope="module")
def exported(tokenizer, tmp_path_factory) -> tuple[Path, Path]:
    """A checkpoint whose weights are far from where they start, and its Hugging Face folder."""
    from mixwright.train.model import Model

    file, facts = tokenizer
    folder = tmp_path_factory.mktemp("model")
    model = Model(SIZE, np.full(facts.vocab, 1 / facts.vocab), 0)
    source = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=source)
    run = Run("r", Schedule.constant(Mixture.uniform(("a",)), 1000), SIZE)
    tensors = {"model": dict(model.named_parameters()), "optimizer": {}}
    checkpoint.save(folder / "checkpoint", tensors, {"run": run.to_dict(), "step": 7})
    export_checkpoint(
        folder / "checkpoint", folder / "hf", tokenizer=file, end_token=facts.end_token, length=64, end=facts.end
    )
    return folder / "checkpoint", folder / "hf"


def inputs(vocab: int) -> torch.Tensor:
    return torch.randint(0, vocab, (3, 50), generator=torch.Generator().manual_seed(2))


def ours_and_theirs(model, other, vocab: int) -> tuple[np.ndarray, np.ndarray]:
    with torch.no_grad():
        return model.logits(inputs(vocab)).numpy(), other(inputs(vocab)).logits.numpy()


def test_transformers_loads_the_folder_and_computes_the_same(exported, tokenizer) -> None:
    folder, facts = exported[1], tokenizer[1]
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    assert type(theirs).__name__ == "LlamaForCausalLM"
    ours, run = load_checkpoint(exported[0])
    assert run.size == SIZE
    mine, other = ours_and_theirs(ours, theirs, facts.vocab)
    assert np.abs(mine).max() > 3
    assert np.abs(mine - other).max() < TOLERANCE
    assert theirs.generation_config.eos_token_id == facts.end
    assert theirs.config.max_position_embeddings == 64


def test_the_tokenizer_gives_the_ids_it_was_trained_with(exported, tokenizer) -> None:
    loaded = transformers.AutoTokenizer.from_pretrained(exported[1], local_files_only=True)
    text = "the dog sat.\n a cat "
    assert loaded(text)["input_ids"] == tokenizers.load(tokenizer[0]).encode(text, add_special_tokens=False).ids
    assert loaded.decode(loaded(text)["input_ids"]) == text
    assert loaded.eos_token_id == tokenizer[1].end
    assert loaded.model_max_length == 64
    assert hf.tokenizer_hash(exported[1]) == tokenizer[1].hash


def test_the_way_back_is_exact(exported) -> None:
    model, back = load_checkpoint(exported[0])[0], load_llama(exported[1])
    for name, value in model.state_dict().items():
        assert torch.equal(value, back.state_dict()[name]), name


@pytest.mark.parametrize("tied", [False, True], ids=["own head", "tied head"])
@pytest.mark.parametrize("shards", ["1GB", "20KB"])
def test_a_llama_that_transformers_wrote_computes_the_same_here(tied: bool, shards: str, tmp_path) -> None:
    config = transformers.LlamaConfig(**config_of(SIZE, 300, length=64, end=0) | {"tie_word_embeddings": tied})
    torch.manual_seed(3)
    theirs = transformers.LlamaForCausalLM(config)
    theirs.save_pretrained(tmp_path, max_shard_size=shards)
    assert (len(hf.weight_files(tmp_path)) > 1) == (shards == "20KB")
    mine, other = ours_and_theirs(load_llama(tmp_path), theirs, 300)
    assert np.abs(mine - other).max() < TOLERANCE


def test_bfloat16_weights_are_read(tmp_path) -> None:
    theirs = transformers.LlamaForCausalLM(transformers.LlamaConfig(**config_of(SIZE, 300, length=64, end=0)))
    theirs.to(torch.bfloat16).save_pretrained(tmp_path)
    mine, other = ours_and_theirs(load_llama(tmp_path), theirs.float(), 300)
    assert np.abs(mine - other).max() < TOLERANCE


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"num_key_value_heads": 1}, "num_key_value_heads 2; this one has 1"),
        ({"intermediate_size": 100}, "intermediate_size 64; this one has 100"),
        ({"rope_theta": 500_000.0}, "rope_theta 10000.0; this one has 500000.0"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8}}, "rope_type default; this one has llama3"),
        ({"model_type": "gpt2"}, "model_type llama; this one has gpt2"),
        ({"attention_bias": True}, "attention_bias False; this one has True"),
    ],
)
def test_what_our_model_cannot_hold_is_told(change: dict, said: str) -> None:
    config = config_of(SIZE, 300, length=64, end=0)
    assert size_of(config) == SIZE
    with pytest.raises(DataError, match=said):
        size_of(config | change)


def test_folders_that_are_no_models_are_told(exported, tmp_path) -> None:
    with pytest.raises(DataError, match=r"is no model folder: it has no config\.json"):
        load_llama(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(DataError, match="names no architecture"):
        load_llama(tmp_path)
    (tmp_path / "config.json").write_text((exported[1] / "config.json").read_text())
    with pytest.raises(DataError, match=r"lacks model\.safetensors, so it holds no whole model"):
        load_llama(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(DataError, match=r"pytorch_model\.bin, a pickle"):
        load_llama(tmp_path)
    (tmp_path / "model.safetensors").write_bytes((exported[1] / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(DataError, match=r"model\.safetensors is damaged"):
        load_llama(tmp_path)


def test_nothing_but_a_model_is_written_over(exported, tokenizer, tmp_path) -> None:
    facts = tokenizer[1]
    told = {"tokenizer": tokenizer[0], "end_token": facts.end_token, "length": 64, "end": facts.end}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(DataError, match="is no model folder, so no model is written over it"):
        export_checkpoint(exported[0], tmp_path / "mine", **told)
    for _ in range(2):
        origin = export_checkpoint(exported[0], tmp_path / "new", **told)
    assert json.loads((tmp_path / "new" / "mixwright.json").read_text())["run"] == origin["run"]
    with pytest.raises(DataError, match="There is no checkpoint in"):
        export_checkpoint(tmp_path, tmp_path / "new", **told)
