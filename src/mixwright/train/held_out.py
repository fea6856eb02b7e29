"""The loss of any model on the held-out text of a corpus: our checkpoints, and model folders of other people.

A folder with the corpus' own tokenizer reads the very windows of ids that our models read. One with another tokenizer reads
the same text in its own tokens (documents decoded, encoded again, joined by its end of a text); its nats/token are then of
its own tokens, and only bits/byte compare.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixwright.core.errors import DataError
from mixwright.store import hf
from mixwright.store.artifact import read_json
from mixwright.store.tokens import TokenStore
from mixwright.text import tokenizer as tokenizers
from mixwright.train.evaluate import Metric, measure, open_metrics
from mixwright.train.hf_llama import load_checkpoint

#: losses of each token, ``(B*T,)``, of inputs and labels ``(B, T)``
Losses = Callable[[Any, Any], Any]


def losses_task(
    progress: Callable[..., None], *, model: str, corpus: str, seq_len: int, tokens: int | None, device: str
) -> dict[str, Any]:
    """{metric: loss, standard_error, bits_per_byte, tokens} of a model on the metrics of a tokenize artifact.

    ``model`` is a checkpoint or a Hugging Face folder, ``seq_len`` the window it reads, ``tokens`` about how many of each
    metric (None: all). DataError for a folder that is neither, or whose vocabulary does not hold the corpus' ids.
    """
    folder, place = Path(model), Path(corpus)
    wanted = tokens if tokens is not None else np.iinfo(np.int64).max
    if not hf.is_model(folder):
        losses: Losses = load_checkpoint(folder)[0].to(device)
        metrics = open_metrics(place, seq_len=seq_len, tokens=wanted)
    else:
        losses = _foreign(folder, device)
        same = hf.tokenizer_hash(folder) == read_json(place / "corpus.json")["tokenizer"]
        metrics = (
            open_metrics(place, seq_len=seq_len, tokens=wanted)
            if same
            else _retokenized(folder, place, seq_len=seq_len, tokens=wanted)
        )
    found = {}
    for number, metric in enumerate(metrics):
        progress(number / len(metrics))
        found[metric.name] = dataclasses.asdict(measure(losses, metric, device=device))
    progress(1.0)
    return found


def _foreign(folder: Path, device: str) -> Losses:
    """The losses of a causal language model of transformers. DataError where it cannot be loaded."""
    from safetensors import SafetensorError
    from torch.nn.functional import cross_entropy
    from transformers import AutoModelForCausalLM

    hf.read_config(folder)
    hf.weight_files(folder)
    try:
        model = (
            AutoModelForCausalLM.from_pretrained(str(folder), local_files_only=True, dtype="float32").to(device).eval()
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise DataError(
            f"{folder} cannot be loaded as a language model: {' '.join(str(error).split())[:300]}"
        ) from error

    def losses(inputs: Any, labels: Any) -> Any:
        logits = model(inputs).logits.float()
        return cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")

    return losses


def _retokenized(folder: Path, corpus: Path, *, seq_len: int, tokens: int) -> list[Metric]:
    """The metrics' text in the tokens of the model in ``folder``. DataError if that has no tokenizer, or a text too short."""
    from transformers import AutoTokenizer

    ours = tokenizers.load(corpus / hf.TOKENIZER)
    try:
        theirs = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{folder} has no tokenizer that can be loaded: {' '.join(str(error).split())[:300]}"
        ) from error
    end = [theirs.eos_token_id] if theirs.eos_token_id is not None else []
    metrics = []
    for name, entry in read_json(corpus / "metrics.json").items():
        texts = ours.decode_batch([d.tolist() for d in _documents(TokenStore.open(corpus / entry["path"]))])
        ids = np.array([i for text in texts for i in (*theirs(text, add_special_tokens=False)["input_ids"], *end)])
        held = max(0, (len(ids) - 1) // seq_len)
        if not held:
            raise DataError(
                f"{name} has {len(ids)} tokens of {folder}'s tokenizer, too few for one window of {seq_len}."
            )
        count = min(held, max(1, tokens // seq_len))
        starts = ((2 * np.arange(count) + 1) * held) // (2 * count) * seq_len
        windows = ids[starts[:, None] + np.arange(seq_len + 1)].astype(np.int64)
        metrics.append(Metric(name, windows, sum(len(text.encode()) for text in texts) / len(ids)))
    return metrics


def _documents(store: TokenStore) -> list[NDArray[Any]]:
    """The documents of a store, without the ids that end them."""
    ids = np.asarray(store.ids)
    ends = np.flatnonzero(ids == store.end)
    return [part[part != store.end] for part in np.split(ids, ends + 1) if len(part) > 1]
