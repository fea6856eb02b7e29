from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from mixwright.train import head
from mixwright.train.attention import _written_out, attention
from mixwright.train.head import head_loss


def drawn(count: int, width: int, vocab: int, spread: float = 1.0):
    source = torch.Generator().manual_seed(count)
    x = (spread * torch.randn(count, width, generator=source)).requires_grad_()
    weight = torch.randn(vocab, width, generator=source).requires_grad_()
    return x, weight, torch.randint(0, vocab, (count,), generator=source)


def plain(x, weight, labels):
    return functional.cross_entropy(functional.linear(x, weight).float(), labels)


def with_gradients(loss, x, weight, labels, scale: float = 1.0):
    value = scale * loss(x, weight, labels)
    return value.detach(), *torch.autograd.grad(value, (x, weight))


@pytest.mark.parametrize("count", [1, 31, 32, 33, 200])
@pytest.mark.parametrize("spread", [1.0, 100.0])
def test_it_is_cross_entropy_with_its_gradients(monkeypatch, count, spread) -> None:
    monkeypatch.setattr(head, "CHUNK_BYTES", {"cpu": 1})  # chunks of 32 tokens
    given = drawn(count, 24, 300, spread)
    for ours, theirs in zip(with_gradients(head_loss, *given, 0.3), with_gradients(plain, *given, 0.3), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=2e-5, atol=2e-6)


def test_far_scores_neither_overflow_nor_vanish() -> None:
    x, weight, labels = drawn(40, 16, 100, 1e4)
    loss, to_x, to_weight = with_gradients(head_loss, x, weight, labels)
    assert torch.isfinite(loss)
    assert torch.isfinite(to_x).all()
    assert torch.isfinite(to_weight).all()
    torch.testing.assert_close(loss, plain(x, weight, labels).detach(), rtol=1e-6, atol=0)


def test_a_number_that_is_not_finite_shows_in_the_loss() -> None:
    x, weight, labels = drawn(40, 16, 100)
    with torch.no_grad():
        x[3, 2] = float("nan")
    assert torch.isnan(head_loss(x, weight, labels))


def test_under_autocast_products_are_bfloat16_and_the_loss_float32() -> None:
    given = drawn(100, 64, 500, 0.3)
    exact = with_gradients(plain, *given)
    with torch.autocast("cpu", torch.bfloat16):
        loss, to_x, to_weight = with_gradients(head_loss, *given)
    assert loss.dtype == to_x.dtype == to_weight.dtype == torch.float32
    assert not torch.equal(loss, exact[0])
    for ours, theirs in zip((loss, to_x, to_weight), exact, strict=True):
        assert (ours - theirs).norm() < 0.01 * theirs.norm()


def test_attention_written_out_is_torchs() -> None:
    source = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, 3, 33, 8, generator=source) for _ in range(3))
    torch.testing.assert_close(_written_out(query, key, value), attention(query, key, value), rtol=1e-5, atol=1e-6)
    exact = attention(query, key, value)
    near = attention(*(x.bfloat16() for x in (query, key, value)))
    assert near.dtype == torch.bfloat16
    assert (near.float() - exact).norm() < 0.01 * exact.norm()
