"""Vectors of texts from a local model, for finding texts that mean the same.

h  (T, d) the last hidden states of a text's tokens; its vector is their mean, divided by its length, float32 (d,)

Texts are read in batches of few widths, filled up on the right; a mask keeps what fills up out of attention and mean. The
numbers of a text are those it has alone, to about 1e-6.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixwright.core.errors import StudyError
from mixwright.curate.language_model import (
    Device,
    Ids,
    Precision,
    encode,
    load_body,
    load_tokenizer,
    positions,
    resolve,
    width_of,
)
from mixwright.curate.token_passes import cut_text

Vectors = NDArray[np.float32]
#: tokens of a batch on a CPU, where larger ones gain nothing, and on a GPU
_BATCH = {"cpu": 4096, "cuda": 65_536}


def embedder(
    model: str | Path, *, max_tokens: int = 512, batch_tokens: int | None = None, device: Device = "auto",
    dtype: Precision = "auto",
) -> Callable[[Sequence[str]], Vectors]:  # fmt: skip
    """``embed(texts) -> (n, d)``, rows of length 1: mean-pooled last hidden states of the model in a folder of transformers.

    A text's first ``max_tokens`` tokens are read (as many as the model reads, where that is fewer), with the tokens that
    its tokenizer puts around a text; what has none has the vector 0. DataError for a folder that cannot be loaded.
    """
    if max_tokens < 1:
        raise StudyError(f"max_tokens of an embedding must be at least 1; got {max_tokens}.")
    folder = Path(model)
    place, precision = resolve(folder, device, dtype)
    words, body = load_tokenizer(folder), load_body(folder, place, precision)
    limit = min(max_tokens, positions(folder) or max_tokens)
    size = batch_tokens or _BATCH[place]

    def embed(texts: Sequence[str]) -> Vectors:
        ids = _ids(words, texts, limit)
        vectors = np.zeros((len(texts), int(body.config.hidden_size)), dtype=np.float32)
        lengths = np.array([len(one) for one in ids], dtype=np.int64)
        widths = np.array([min(width_of(length), max(limit, length)) if length else 0 for length in lengths.tolist()])
        for width in np.unique(widths[widths > 0]).tolist():
            members, rows = np.flatnonzero(widths == width), max(1, size // width)
            for at in range(0, len(members), rows):
                batch = members[at : at + rows]
                vectors[batch] = _pooled(body, [ids[row] for row in batch.tolist()], width, place)
        return vectors

    return embed


def _ids(words: Any, texts: Sequence[str], limit: int) -> list[Ids]:
    """The ids of each text with what its tokenizer puts around it, the text cut so that all are at most ``limit``."""
    around = words("", add_special_tokens=True)["input_ids"]
    room = max(0, limit - len(around))
    plain = encode(words, [cut_text(text, limit) for text in texts])
    if not around:
        return [ids[:limit] for ids in plain]
    before, behind = _sides(words)
    return [np.concatenate([before, ids[:room], behind])[:limit] for ids in plain]


def _sides(words: Any) -> tuple[Ids, Ids]:
    """What a tokenizer puts before and behind a text."""
    inner = words("a", add_special_tokens=False)["input_ids"]
    whole = words("a", add_special_tokens=True)["input_ids"]
    start = next(at for at in range(len(whole)) if whole[at : at + len(inner)] == inner)
    return np.array(whole[:start], dtype=np.int32), np.array(whole[start + len(inner) :], dtype=np.int32)


def _pooled(body: Any, ids: Sequence[Ids], width: int, device: str) -> Vectors:
    import torch

    read = np.zeros((len(ids), width), dtype=np.int64)
    mask = np.zeros((len(ids), width), dtype=np.int64)
    for row, one in enumerate(ids):
        read[row, : len(one)], mask[row, : len(one)] = one, 1
    with torch.inference_mode():
        seen = torch.from_numpy(mask).to(device)
        hidden = body(input_ids=torch.from_numpy(read).to(device), attention_mask=seen).last_hidden_state.float()
        mean = (hidden * seen[:, :, None]).sum(dim=1) / seen.sum(dim=1, keepdim=True)
        unit = mean / mean.norm(dim=1, keepdim=True).clamp_min(1e-12)
    vectors: Vectors = unit.cpu().numpy().astype(np.float32)
    return vectors
