"""Our models in Llama's layout and back: the same function, parameter for parameter (see ``model.py`` for the map).

A folder written here is loaded by ``AutoModelForCausalLM`` and ``AutoTokenizer`` as any Llama is, without a network; its
logits equal ours up to the order in which float32 sums are taken. The way back takes Llama folders whose shape our model
has: as many key as query heads, our hidden width and heads, no biases, plain rotary angles; a tied head becomes one of
its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mixwright.core.errors import DataError
from mixwright.core.run import ModelSize, Run
from mixwright.store import hf
from mixwright.store.artifact import file_hash
from mixwright.train import checkpoint

if TYPE_CHECKING:
    from mixwright.train.model import Model

Array = NDArray[Any]

#: (our name, Llama's name, which parts of our rows are Llama's); our rows are these parts one after the other
_LAYER: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("attention_norm", ("input_layernorm",)),
    ("query_key_value", ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")),
    ("attention_out", ("self_attn.o_proj",)),
    ("feed_norm", ("post_attention_layernorm",)),
    ("gate_up", ("mlp.gate_proj", "mlp.up_proj")),
    ("down", ("mlp.down_proj",)),
)
_OUTER = {"embedding": "model.embed_tokens.weight", "norm": "model.norm.weight", "head": "lm_head.weight"}


def names(layers: int) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each of our parameters with Llama's names of its parts, which lie in it row block after row block."""
    for ours, theirs in _OUTER.items():
        yield ours, (theirs,)
    for layer in range(layers):
        for ours, parts in _LAYER:
            yield f"blocks.{layer}.{ours}", tuple(f"model.layers.{layer}.{part}.weight" for part in parts)


def to_llama(values: Mapping[str, Array], layers: int) -> dict[str, Array]:
    """Our parameters by Llama's names; views where they can be."""
    return {
        theirs: part
        for ours, parts in names(layers)
        for theirs, part in zip(parts, np.split(values[ours], len(parts)), strict=True)
    }


def from_llama(tensors: Mapping[str, Array], layers: int) -> dict[str, Array]:
    """Llama's parameters by our names. DataError if one is missing."""
    tied = {**tensors, _OUTER["head"]: tensors.get(_OUTER["head"], tensors.get(_OUTER["embedding"]))}
    found = {}
    for ours, parts in names(layers):
        missing = [name for name in parts if tied.get(name) is None]
        if missing:
            raise DataError(f"The weights lack {missing[0]}: this is no whole Llama model of {layers} layers.")
        found[ours] = np.concatenate([tied[name] for name in parts])
    return found


def config_of(size: ModelSize, vocab: int, *, length: int, end: int) -> dict[str, Any]:
    """``config.json`` of a model of this size over ``vocab`` ids; ``length`` is the context it was trained with."""
    from mixwright.train.model import EPSILON, ROPE_BASE

    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": vocab, "hidden_size": size.width,
        "intermediate_size": size.hidden, "num_hidden_layers": size.layers, "num_attention_heads": size.heads,
        "num_key_value_heads": size.heads, "head_dim": size.width // size.heads, "max_position_embeddings": length,
        "rms_norm_eps": EPSILON, "rope_theta": ROPE_BASE, "hidden_act": "silu", "attention_bias": False, "mlp_bias": False,
        "tie_word_embeddings": False, "bos_token_id": None, "eos_token_id": end, "pad_token_id": None,
        "torch_dtype": "float32",
    }  # fmt: skip


def size_of(config: Mapping[str, Any]) -> ModelSize:
    """The size of a Llama that our model can hold. DataError, with the first value that it cannot, for any other."""
    from mixwright.train.model import EPSILON, ROPE_BASE

    try:
        size = ModelSize(int(config["hidden_size"]), int(config["num_hidden_layers"]))
        heads = int(config["num_attention_heads"])
    except KeyError as error:
        raise DataError(f"The model's config.json lacks {error}, so it is no Llama's.") from error
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    wanted = {
        "model_type": ("llama", config.get("model_type")),
        "intermediate_size": (size.hidden, config.get("intermediate_size")),
        "num_attention_heads": (size.heads, heads),
        "num_key_value_heads": (size.heads, config.get("num_key_value_heads", heads)),
        "head_dim": (size.width // size.heads, config.get("head_dim") or size.width // heads),
        "rms_norm_eps": (EPSILON, config.get("rms_norm_eps", 1e-6)),
        "rope_theta": (ROPE_BASE, rope.get("rope_theta", config.get("rope_theta", 10_000.0))),
        "rope_type": ("default", rope.get("rope_type", "default")),
        "hidden_act": ("silu", config.get("hidden_act", "silu")),
        "attention_bias": (False, config.get("attention_bias", False)),
        "mlp_bias": (False, config.get("mlp_bias", False)),
    }
    for name, (ours, theirs) in wanted.items():
        if ours != theirs:
            raise DataError(
                f"Our model of size {size} has {name} {ours}; this one has {theirs}, so it cannot be taken over."
            )
    return size


def export_checkpoint(
    folder: Path, out: Path, *, tokenizer: Path, end_token: str, length: int, end: int
) -> dict[str, Any]:
    """Write the model of a checkpoint as a Hugging Face folder; gives what ``mixwright.json`` says.

    ``tokenizer`` is the ``tokenizer.json`` it was trained with, ``end`` and ``end_token`` its id and text of the end of a
    document, ``length`` the context. DataError for a folder that is no checkpoint.
    """
    tensors, state = checkpoint.load(folder, ("model",))
    run = Run.from_dict(state["run"])
    values = {name: np.asarray(tensor) for name, tensor in tensors["model"].items()}
    origin = {
        "run": run.to_dict(), "step": state["step"], "checkpoint": file_hash(folder / "model.safetensors")[:16],
        "tokenizer": file_hash(tokenizer)[:16],
    }  # fmt: skip
    config = config_of(run.size, len(values["embedding"]), length=length, end=end)
    hf.write_model(
        out, to_llama(values, run.size.layers), config, tokenizer=tokenizer, end_token=end_token, origin=origin
    )
    return origin


def load_llama(folder: Path) -> Model:
    """The model of a Llama folder as ours, float32. DataError for a folder that is no model, or one ours cannot hold."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    size = size_of(hf.read_config(folder))
    tensors: dict[str, Any] = {}
    for file in hf.weight_files(folder):
        try:
            tensors |= load_file(file)
        except (SafetensorError, OSError) as error:
            raise DataError(f"{file} is damaged ({error}).") from error
    values = from_llama({name: value.to(torch.float32).numpy() for name, value in tensors.items()}, size.layers)
    return model_of(size, values)


def load_checkpoint(folder: Path) -> tuple[Model, Run]:
    """The model of one of our checkpoints, and the run it is of. DataError for a folder that is no checkpoint."""
    tensors, state = checkpoint.load(folder, ("model",))
    run = Run.from_dict(state["run"])
    return model_of(run.size, {name: np.asarray(tensor) for name, tensor in tensors["model"].items()}), run


def model_of(size: ModelSize, values: Mapping[str, Array]) -> Model:
    """A model with these parameters. DataError where names or shapes are not those of its size."""
    import torch

    from mixwright.train.model import Model, shapes

    vocab = len(values["embedding"])
    wanted = shapes(size, vocab)
    wrong = [name for name in {**wanted, **values} if name not in values or values[name].shape != wanted.get(name)]
    if wrong:
        raise DataError(f"{wrong[0]} is not what a model of size {size} over {vocab} ids has there.")
    model = Model(size, np.full(vocab, 1.0 / vocab), 0)
    model.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in values.items()})
    return model
