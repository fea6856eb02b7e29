"""The tokenizer: a byte-level BPE trained on the sources, or one that exists."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le

from mixwright.core.errors import DataError
from mixwright.store.artifact import file_hash, read_json, write_atomic

#: ends every document of a tokenizer that is trained here
END = "<|endoftext|>"
#: what other tokenizers call it, looked for in this order when their folder does not say
_ENDS = (END, "<|end_of_text|>", "</s>", "<eos>", "<|eos|>", "<|im_end|>", "[SEP]")
_FILE, _SETTINGS = "tokenizer.json", "tokenizer_config.json"


@dataclass(frozen=True)
class Options:
    """How text becomes tokens.

    ``path`` is a ``tokenizer.json`` or a Hugging Face folder with one, relative to the study file's folder; without it
    a BPE of ``vocab`` ids is trained on ``sample_bytes`` bytes of each domain (targets and held-out text never).
    ``held_out`` is the fraction of each domain's bytes kept for validation, chosen by text hash: at least
    ``held_out_bytes``, at most a fifth of the domain.
    """

    path: str | None = None
    vocab: Annotated[int, Ge(300), Le(1_000_000)] = 4096
    sample_bytes: Annotated[int, Ge(1_000)] = 1_000_000
    held_out: Annotated[float, Gt(0), Le(0.2)] = 0.05
    held_out_bytes: Annotated[int, Ge(1)] = 64_000


@dataclass(frozen=True)
class Facts:
    """What a token store needs to know of its tokenizer: ``vocab`` ids, the ``end`` id, the ``hash`` of the file."""

    vocab: int
    end: int
    end_token: str
    hash: str


def fingerprint(options: Options, base: Path) -> str:
    """The hash of an existing tokenizer's file, for keys; empty when one is trained. DataError if it is missing."""
    return "" if options.path is None else file_hash(_existing(options.path, base))


def train(texts: Iterator[str], vocab: int, out: Path) -> Facts:
    """Train a byte-level BPE (GPT-2's splitting, every byte a letter) and write it; the same texts give the same bytes.

    Cost: about 0.3 s of CPU a megabyte, part of it spread over the threads of the ``tokenizers`` library.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=[END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    write_atomic(out, tokenizer.to_str())
    return facts(out)


def adopt(path: str, base: Path, out: Path) -> Facts:
    """Copy an existing tokenizer; its folder's settings name the end of a document, else the usual names are tried.

    Raises DataError if there is none, the file is not one, or no end of a document is found in it.
    """
    file = _existing(path, base)
    settings = file.with_name(_SETTINGS)
    stated = read_json(settings).get("eos_token") if settings.is_file() else None
    name = stated.get("content") if isinstance(stated, dict) else stated
    found = facts(file, name)
    write_atomic(out, file.read_bytes())
    return found


def facts(file: Path, end_token: str | None = None) -> Facts:
    """The facts of a tokenizer file. Raises DataError if it is not one, or has no id that ends a document."""
    ids = load(file).get_vocab(with_added_tokens=True)
    name = next((name for name in ([end_token] if end_token else _ENDS) if name in ids), None)
    if name is None:
        tried = repr(end_token) if end_token else ", ".join(_ENDS)
        raise DataError(
            f"{file} has no token that ends a document (tried {tried}). Name one as eos_token in {_SETTINGS} beside it."
        )
    return Facts(max(ids.values()) + 1, ids[name], name, file_hash(file)[:16])


def load(file: Path) -> Any:
    """A ``tokenizers.Tokenizer`` that takes text as it is: no truncation, no padding, no special token read from it."""
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises bare Exception
        raise DataError(f"{file} is not a tokenizer.json of the tokenizers library ({error}).") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    with contextlib.suppress(AttributeError):
        tokenizer.encode_special_tokens = True
    return tokenizer


def _existing(path: str, base: Path) -> Path:
    file = base / Path(path).expanduser()
    file = file / _FILE if file.is_dir() else file
    if not file.is_file():
        raise DataError(
            f"There is no tokenizer at {file}. Set tokenizer.path to a {_FILE}, or leave it out to train one."
        )
    return file
