"""Model folders in Hugging Face's layout: written and read without torch or transformers.

    config.json                 architecture and shapes; generation_config.json: the id that ends a text
    model.safetensors           the weights (others' folders may have several files and an index)
    tokenizer.json, tokenizer_config.json
    mixwright.json              where it comes from; others' folders have none

Weights lie in safetensors files, which hold numbers and nothing that could run; folders with pickled weights alone are
refused.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixwright.core.errors import DataError
from mixwright.store.artifact import file_hash, read_json, to_json

CONFIG, ORIGIN, TOKENIZER = "config.json", "mixwright.json", "tokenizer.json"
SCHEMA = "mixwright/model/1"
_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"


def write_model(
    folder: Path,
    tensors: Mapping[str, NDArray[Any]],
    config: Mapping[str, Any],
    *,
    tokenizer: Path,
    end_token: str,
    origin: Mapping[str, Any],
) -> None:
    """Write a model folder, whole or not at all; an older model there is replaced, anything else is not.

    ``config`` is what ``config.json`` says; its ``eos_token_id`` and ``max_position_embeddings`` go into generation and
    tokenizer settings, too. ``tokenizer`` is a ``tokenizer.json``, ``end_token`` the text of its end of a document.
    DataError when ``folder`` holds something else. Cost: the bytes of the tensors.
    """
    from safetensors.numpy import save_file

    if folder.exists() and not (folder / CONFIG).is_file() and any(folder.iterdir()):
        raise DataError(
            f"{folder} is there and is no model folder, so no model is written over it. Give another place."
        )
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    length = config["max_position_embeddings"]
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast", "eos_token": end_token, "model_max_length": length,
        "clean_up_tokenization_spaces": False, "add_bos_token": False, "add_eos_token": False,
    }  # fmt: skip
    files = {
        CONFIG: config,
        "generation_config.json": {"eos_token_id": config["eos_token_id"], "do_sample": False},
        "tokenizer_config.json": settings,
        ORIGIN: {"schema": SCHEMA, **origin},
    }
    try:
        save_file(
            {name: np.ascontiguousarray(value) for name, value in tensors.items()}, aside / _WEIGHTS, {"format": "pt"}
        )
        shutil.copyfile(tokenizer, aside / TOKENIZER)
        for name, values in files.items():
            (aside / name).write_text(to_json(values) + "\n", "utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside.rename(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def is_model(folder: Path) -> bool:
    """Whether a folder holds a model in this layout, ours or someone else's."""
    return (folder / CONFIG).is_file()


def read_config(folder: Path) -> dict[str, Any]:
    """What ``config.json`` says. DataError if there is none, or it is no mapping that names an architecture."""
    if not is_model(folder):
        raise DataError(f"{folder} is no model folder: it has no {CONFIG}.")
    config = read_json(folder / CONFIG)
    if not isinstance(config, dict) or not config.get("architectures"):
        raise DataError(f"{folder / CONFIG} names no architecture, so it is no model's.")
    return config


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model. DataError if one is missing, or the weights are only there as pickles."""
    if (folder / _INDEX).is_file():
        index = read_json(folder / _INDEX)
        files = sorted({folder / name for name in index["weight_map"].values()})
    else:
        files = [folder / _WEIGHTS]
    missing = [file.name for file in files if not file.is_file()]
    if not missing:
        return files
    pickled = [path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in sorted(folder.glob(pattern))]
    if pickled:
        raise DataError(
            f"{folder} has its weights in {pickled[0]}, a pickle: loading it could run any code inside it, so it is refused. "
            "Convert it to safetensors where you trust it."
        )
    raise DataError(f"{folder} lacks {missing[0]}, so it holds no whole model.")


def tokenizer_hash(folder: Path) -> str:
    """The hash by which token stores name their tokenizer; empty if the folder has no ``tokenizer.json``."""
    file = folder / TOKENIZER
    return file_hash(file)[:16] if file.is_file() else ""
