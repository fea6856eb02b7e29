from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mixwright.core.errors import DataError
from mixwright.core.run import ModelSize
from mixwright.train.model import Model, heads_for

FLAT = np.full(50, 1 / 50)


@pytest.mark.parametrize("size", ["8x1", "48x1", "64x2", "96x3", "200x2"])
def test_parameters_outside_embedding_and_head_are_those_of_the_size(size: str) -> None:
    wanted = ModelSize.parse(size)
    model = Model(wanted, FLAT, 0)
    assert model.inner_parameters == wanted.params
    assert sum(p.numel() for p in model.parameters()) == wanted.params + 50 * (2 * wanted.width + 1)


@pytest.mark.parametrize(
    ("width", "heads"), [(8, 1), (48, 3), (64, 4), (96, 6), (128, 4), (512, 8), (1000, 20), (2048, 32)]
)
def test_heads_fit_the_width(width: int, heads: int) -> None:
    assert heads_for(width) == heads
    assert width % (2 * heads) == 0


def test_untrained_it_gives_the_unigram_frequencies() -> None:
    frequency = np.linspace(1, 5, 50) / np.linspace(1, 5, 50).sum()
    model = Model(ModelSize(16, 2), frequency, 0)
    inputs, labels = torch.arange(20).view(2, 10), torch.arange(20, 40).view(2, 10)
    assert model(inputs, labels).detach().numpy() == pytest.approx(-np.log(frequency[20:40]), abs=1e-5)


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
    assert float(model.embedding.detach().std()) == pytest.approx(0.25, rel=0.02)
    assert float(model.blocks[0].query_key_value.detach().std()) == pytest.approx(1 / math.sqrt(64), rel=0.03)


def test_frequencies_of_zero_are_refused() -> None:
    with pytest.raises(DataError, match="all be positive"):
        Model(ModelSize(8, 1), np.array([0.5, 0.5, 0.0]), 0)
