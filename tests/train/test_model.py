from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mixwright.core.errors import DataError
from mixwright.core.run import ModelSize
from mixwright.train.model import CONSTANT, Model, initial, rotated, rotation, shapes

FLAT = np.full(50, 1 / 50)


@pytest.mark.parametrize("size", ["8x1", "48x1", "64x2", "96x3", "200x2"])
def test_parameters_outside_embedding_and_head_are_those_of_the_size(size: str) -> None:
    wanted = ModelSize.parse(size)
    model = Model(wanted, FLAT, 0)
    assert model.inner_parameters == wanted.params
    assert sum(p.numel() for p in model.parameters()) == wanted.params + 100 * wanted.width
    assert {name: tuple(p.shape) for name, p in model.named_parameters()} == shapes(wanted, 50)
    assert list(shapes(wanted, 50)) == [name for name, _ in model.named_parameters()]


@pytest.mark.parametrize(
    ("width", "heads"), [(8, 1), (48, 3), (64, 4), (96, 6), (128, 4), (512, 8), (1000, 20), (1024, 16), (2048, 16)]
)
def test_heads_fit_the_width(width: int, heads: int) -> None:
    assert ModelSize(width, 1).heads == heads
    assert width % (2 * heads) == 0


def test_untrained_it_gives_the_unigram_frequencies() -> None:
    frequency = np.linspace(1, 5, 50) / np.linspace(1, 5, 50).sum()
    model = Model(ModelSize(16, 2), frequency, 0)
    inputs, labels = torch.arange(20).view(2, 10), torch.arange(20, 40).view(2, 10)
    assert model(inputs, labels).detach().numpy() == pytest.approx(-np.log(frequency[20:40]), abs=1e-5)


@pytest.mark.parametrize("std", [0.5, 0.01])
def test_every_embedding_begins_with_one_constant_and_one_length(std: float) -> None:
    rows = initial(ModelSize(16, 1), FLAT, 0, embedding_std=std)["embedding"]
    assert len(set(rows[:, 0].tolist())) == 1
    assert rows.norm(dim=1).numpy() == pytest.approx(np.full(50, 4 * std), rel=1e-5)
    assert float(rows[0, 0]) ** 2 == pytest.approx(CONSTANT * 16 * std**2, rel=1e-5)


def llama_logits(model: Model, ids: torch.Tensor) -> torch.Tensor:
    """The same weights in LlamaForCausalLM, named and cut as the module's docstring says."""
    transformers = pytest.importorskip("transformers")
    size, state = model.size, {name: value.detach() for name, value in model.named_parameters()}
    config = transformers.LlamaConfig(
        vocab_size=50, hidden_size=size.width, intermediate_size=size.hidden, num_hidden_layers=size.layers,
        num_attention_heads=size.heads, rms_norm_eps=1e-6, tie_word_embeddings=False,
    )  # fmt: skip
    theirs = {"model.embed_tokens.weight": state["embedding"], "model.norm.weight": state["norm"]}
    theirs["lm_head.weight"] = state["head"]
    for n in range(size.layers):
        layer, block = f"model.layers.{n}", {k: state[f"blocks.{n}.{k}"] for k in ("query_key_value", "gate_up")}
        for name, rows in zip("qkv", block["query_key_value"].chunk(3), strict=True):
            theirs[f"{layer}.self_attn.{name}_proj.weight"] = rows
        for name, rows in zip(("gate", "up"), block["gate_up"].chunk(2), strict=True):
            theirs[f"{layer}.mlp.{name}_proj.weight"] = rows
        theirs[f"{layer}.self_attn.o_proj.weight"] = state[f"blocks.{n}.attention_out"]
        theirs[f"{layer}.mlp.down_proj.weight"] = state[f"blocks.{n}.down"]
        theirs[f"{layer}.input_layernorm.weight"] = state[f"blocks.{n}.attention_norm"]
        theirs[f"{layer}.post_attention_layernorm.weight"] = state[f"blocks.{n}.feed_norm"]
    llama = transformers.LlamaForCausalLM(config)
    llama.load_state_dict(theirs, strict=True)
    with torch.no_grad():
        return llama(ids).logits


def test_a_llama_with_these_weights_is_the_same_function() -> None:
    model, ids = trained_a_little(), torch.arange(24).view(2, 12)
    assert torch.allclose(llama_logits(model, ids), model.logits(ids), atol=2e-5)
    assert float(model.logits(ids).detach().std()) > 0.1


def test_forgetting_what_is_inside_changes_nothing() -> None:
    inputs, labels = torch.arange(12).view(1, 12), torch.arange(1, 13).view(1, 12)
    gradients = []
    for remember in (True, False):
        model = trained_a_little()
        model.remember = remember
        model(inputs, labels).mean().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_turning_keeps_lengths_and_depends_on_distance_alone() -> None:
    x = torch.randn((1, 8), generator=torch.Generator().manual_seed(0)).expand(6, 8)
    turned = rotated(x, rotation(6, 8))
    assert torch.allclose(turned.norm(dim=-1), x.norm(dim=-1))
    products = turned @ turned.T
    assert torch.allclose(products.diagonal(2), products[0, 2].expand(4), atol=1e-5)


def trained_a_little() -> Model:
    """A model whose zero matrices are not zero any more."""
    model = Model(ModelSize(16, 2), FLAT, 0)
    source = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=source)
    return model


def test_no_token_sees_what_comes_after_it() -> None:
    model = trained_a_little()
    first = torch.arange(12).view(1, 12)
    second = first.clone()
    second[0, 7:] = 40
    one, two = model.logits(first), model.logits(second)
    assert torch.equal(one[:, :7], two[:, :7])
    assert not torch.allclose(one[:, 7:], two[:, 7:])


def test_where_a_token_stands_matters() -> None:
    model = trained_a_little()
    there = model.logits(torch.tensor([[3, 9, 9, 5]]))[0, -1]
    assert not torch.allclose(there, model.logits(torch.tensor([[9, 3, 9, 5]]))[0, -1], atol=1e-4)


def test_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    first = Model(ModelSize(16, 1), FLAT, 3)
    torch.manual_seed(2)
    same, other = Model(ModelSize(16, 1), FLAT, 3), Model(ModelSize(16, 1), FLAT, 4)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), same.parameters(), strict=True))
    assert not torch.equal(first.embedding, other.embedding)


def test_the_embeddings_spread_is_as_asked() -> None:
    model = Model(ModelSize(64, 1), np.full(500, 1 / 500), 0, embedding_std=0.25)
    assert float(model.embedding.detach().square().mean().sqrt()) == pytest.approx(0.25, rel=1e-5)
    assert float(model.blocks[0].query_key_value.detach().std()) == pytest.approx(1 / math.sqrt(64), rel=0.03)


def test_frequencies_of_zero_are_refused() -> None:
    with pytest.raises(DataError, match="all be positive"):
        Model(ModelSize(8, 1), np.array([0.5, 0.5, 0.0]), 0)
