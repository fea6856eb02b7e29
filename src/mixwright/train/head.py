"""The loss of the next id from what the head reads, without ever holding the scores of a whole batch.

Notation
    N, d, V   tokens, width, ids of the tokenizer
    z         scores ``x @ head.T`` of a chunk of tokens

Cross entropy over thousands of ids is half the work of a small model and most of its traffic: written plainly, the scores
``(N, V)`` are stored, read and written again several times. Here a chunk of them lives in the cache: its losses and its
part of both gradients are made at once (the gradient with respect to z is ``softmax(z)`` less one at the label), and the
chunk is forgotten (as in Liger Kernel: Hsu et al. 2024, arXiv:2410.10989, section 3.2). Nothing is sampled or cut.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

#: Scores held at once, in bytes of float32: on a CPU what its shared cache holds, on an accelerator enough to fill it.
CHUNK_BYTES = {"cpu": 16 << 20, "cuda": 512 << 20}


def head_loss(x: Tensor, head: Tensor, labels: Tensor) -> Tensor:
    """The mean loss in nats of ``labels (N,)`` after ``x (N, d)`` under ``head (V, d)``; differentiable in x and head.

    Products are in the type that autocast says for x's device, else in x's own; exponentials, sums and the loss are
    float32.
    """
    return _HeadLoss.apply(x, head, labels, _kind(x))


def head_losses(x: Tensor, head: Tensor, labels: Tensor) -> Tensor:
    """``head_loss`` of K models at once, ``(K,)``, for ``x (K, N, d)``, ``head (K, V, d)``, ``labels (K, N)``."""
    return _HeadLosses.apply(x, head, labels, _kind(x))


def _kind(x: Tensor) -> torch.dtype:
    """The type of products."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


class _HeadLoss(torch.autograd.Function):  # type: ignore[misc]  # torch is optional, so its classes are Any
    """As ``head_loss``; the gradients are made on the way forward, since the scores are gone afterwards."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, head: Tensor, labels: Tensor, kind: torch.dtype) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            losses, to_x, to_head = losses_and_gradients(x, head, labels, kind)
        ctx.save_for_backward(to_x, to_head)
        return losses.mean()

    @staticmethod
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override, unused-ignore]
        to_x, to_head = ctx.saved_tensors
        return to_x * scale, to_head * scale, None, None


class _HeadLosses(torch.autograd.Function):  # type: ignore[misc]  # as above
    """As ``head_losses``: model after model, since the scores of one fill a cache."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, head: Tensor, labels: Tensor, kind: torch.dtype) -> Tensor:
        means, to_x, to_head = [], torch.empty_like(x), torch.empty_like(head)
        with torch.autocast(x.device.type, enabled=False):
            for k in range(len(x)):
                losses, to_x[k], to_head[k] = losses_and_gradients(x[k], head[k], labels[k], kind)
                means.append(losses.mean())
        ctx.save_for_backward(to_x, to_head)
        return torch.stack(means)

    @staticmethod
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override, unused-ignore]
        to_x, to_head = ctx.saved_tensors
        return to_x * scale[:, None, None], to_head * scale[:, None, None], None, None


def losses_and_gradients(x: Tensor, head: Tensor, labels: Tensor, kind: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """The losses ``(N,)`` in float32, and the gradients of their mean with respect to ``x`` and ``head``."""
    count, vocab = len(x), len(head)
    chunk = max(32, CHUNK_BYTES.get(x.device.type, 16 << 20) // (4 * vocab))
    losses = torch.empty(count, dtype=torch.float32, device=x.device)
    to_x, turned = torch.empty_like(x), torch.zeros_like(head.T, memory_format=torch.contiguous_format)
    inputs, weights = x.to(kind), head.to(kind)
    for at in range(0, count, chunk):
        part = slice(at, min(count, at + chunk))
        scores = torch.mm(inputs[part], weights.T).float()
        highest, label = scores.amax(1), scores.gather(1, labels[part, None])[:, 0]
        chance = torch.softmax(scores, 1)
        # the highest score's chance is 1 / sum exp(z - max z), at least 1/V: its logarithm is as exact as the sum
        losses[part] = highest - chance.amax(1).log() - label
        chance = chance.to(kind)
        to_x[part] = torch.mm(chance, weights)
        _add_product(turned, inputs[part].T, chance)  # the narrow one first: a quarter quicker than its transpose
    to_x.sub_(head[labels]).div_(count)
    to_head = turned.T.contiguous().index_add_(0, labels, x.to(head.dtype), alpha=-1).div_(count)
    return losses, to_x, to_head


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add ``left @ right`` to the float32 ``total``, in one pass where the product is float32, too."""
    if left.dtype == total.dtype:
        total.addmm_(left, right)
    else:
        total += torch.mm(left, right)
