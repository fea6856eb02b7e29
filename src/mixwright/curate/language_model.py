"""A local causal language model that gives the loss of chosen tokens, the same number whatever else is in the batch.

ids    (T,) int32  what the model reads in one pass, begin-of-text token and all
first  the first token of a pass whose loss counts, >= 1: a token's loss is given all tokens before it
width  columns of a batch: the length of its passes, filled up on the right with a token nobody reads
rows   rows of a batch: as many as keep ``rows * width`` within the tokens of a batch

Passes are read in batches of few fixed widths, without an attention mask (what stands to the right of a token never reaches
it). On one machine, with one version of torch, a pass of a width then gives the same bits in any batch; between machines,
float32 losses agree to about 1e-5.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mixwright.core.errors import DataError, StudyError
from mixwright.store import hf
from mixwright.store.artifact import file_hash

Ids = NDArray[np.int32]
Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "float32", "bfloat16", "float16"]
#: tokens of a batch on a CPU, where larger ones gain nothing, and on a GPU
_BATCH = {"cpu": 2048, "cuda": 16_384}
#: bytes that the logits of a batch may take, and their copy in float32
_LOGITS = {"cpu": 1 << 30, "cuda": 4 << 30}
#: models up to this many bytes are identified by their content, larger ones by names, sizes and times of change
_HASH_CONTENT = 2 << 30
#: what decides the numbers beside the weights
_SETTINGS = (
    "config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "tokenizer.model", "vocab.json",
    "vocab.txt", "merges.txt", "added_tokens.json", "chat_template.jinja",
)  # fmt: skip
#: shortest width of a batch
_NARROW = 16


@dataclass(frozen=True)
class Pass:
    """What the model reads at once, and from which token on its losses count."""

    ids: Ids
    first: int

    @property
    def scored(self) -> int:
        """How many tokens count."""
        return len(self.ids) - self.first


@dataclass(frozen=True)
class Work:
    """What scoring took: tokens that were read, and those of them that only filled batches up."""

    read: int = 0
    filling: int = 0

    def __add__(self, other: Work) -> Work:
        return Work(self.read + other.read, self.filling + other.filling)


def width_of(length: int) -> int:
    """The width of the batch that a pass of ``length`` tokens goes into: four widths an octave, so that a pass is filled up
    by at most a quarter of its length (above 64 tokens)."""
    step = max(_NARROW, 1 << max(0, (length - 1).bit_length() - 3))
    return -(-length // step) * step


def model_hash(folder: Path) -> str:
    """What identifies a model folder, 16 hex digits: its weights, shape and tokenizer.

    Weights above 2 GB count by names, sizes and times of change. DataError if it is none, or has pickled weights alone.
    Cost: reading at most 2 GB.
    """
    hf.read_config(folder)
    weights = hf.weight_files(folder)
    by_content = sum(file.stat().st_size for file in weights) <= _HASH_CONTENT
    digest = hashlib.sha256()
    for file in [*(folder / name for name in _SETTINGS if (folder / name).is_file()), *weights]:
        told = file_hash(file) if by_content or file not in weights else str(file.stat().st_mtime_ns)
        digest.update(f"{file.name}\x00{file.stat().st_size}\x00{told}\x00".encode())
    return digest.hexdigest()[:16]


def stamp(folder: Path) -> str:
    """When the files of a model folder were last changed: enough for one process to notice that they were."""
    found = sorted((path.name, path.stat().st_mtime_ns) for path in folder.glob("*")) if folder.is_dir() else []
    return str(found)


def positions(folder: Path) -> int | None:
    """How many tokens the model reads at once, by its ``config.json``; None where that does not say."""
    config = hf.read_config(folder)
    told = config.get("max_position_embeddings", config.get("n_positions"))
    return int(told) if told else None


def resolve(folder: Path, device: Device, dtype: Precision) -> tuple[str, str]:
    """The device and precision that ``auto`` means here: the first GPU where there is one, float32 on a CPU; on a GPU
    bfloat16 for weights stored in 16 bits, else float32. StudyError when a GPU is asked for and there is none."""
    import torch

    there = torch.cuda.is_available()
    if device == "cuda" and not there:
        raise StudyError("device is cuda, but torch finds no GPU here. Set device: auto or cpu.")
    place = "cuda" if there and device != "cpu" else "cpu"
    if dtype != "auto":
        return place, dtype
    config = hf.read_config(folder)
    stored = str(config.get("dtype", config.get("torch_dtype", "float32"))).removeprefix("torch.")
    return place, "bfloat16" if place == "cuda" and stored in ("bfloat16", "float16") else "float32"


class LanguageModel:
    """A model folder of transformers, its weights on ``device`` (``cpu`` or ``cuda``) in ``dtype``, and its tokenizer.

    ``begin`` holds the id that begins a text, or nothing where the tokenizer has none. DataError for a folder that cannot
    be loaded.
    """

    def __init__(self, folder: Path, device: str, dtype: str) -> None:
        self.folder, self.device = folder, device
        self.tokenizer = load_tokenizer(folder)
        self.model = _load(folder, "AutoModelForCausalLM", device, dtype)
        self.positions = positions(folder)
        begin = self.tokenizer.bos_token_id
        self.begin: tuple[int, ...] = () if begin is None else (int(begin),)
        self.vocabulary = int(self.model.get_output_embeddings().weight.shape[0])
        self._partial = "logits_to_keep" in inspect.signature(self.model.forward).parameters

    def encode(self, texts: Sequence[str]) -> list[Ids]:
        """The ids of each text as it stands: nothing before or behind it, no special token read out of it."""
        return encode(self.tokenizer, texts)

    def encode_marked(self, text: str) -> Ids:
        """The ids of a text whose special tokens are meant as such: what a chat template made."""
        return np.array(self.tokenizer(text, add_special_tokens=False)["input_ids"], dtype=np.int32)

    def batch_tokens(self, wanted: int | None) -> int:
        """Tokens of a batch: as wanted, or what suits the device; fewer where the logits of so many would be too large."""
        room = _LOGITS[self.device] // (4 * self.vocabulary)
        return max(1, min(wanted or _BATCH[self.device], room))

    def batches(self, passes: Sequence[Pass], batch_tokens: int | None = None) -> list[list[int]]:
        """Which passes are read together, the shortest first: numbers into ``passes``."""
        size = self.batch_tokens(batch_tokens)
        widths = np.array([self._width(len(one.ids)) for one in passes], dtype=np.int64)
        found = []
        for width in np.unique(widths).tolist():
            members, rows = np.flatnonzero(widths == width).tolist(), max(1, size // width)
            found += [members[at : at + rows] for at in range(0, len(members), rows)]
        return found

    def sums(self, batch: Sequence[Pass], batch_tokens: int | None = None) -> tuple[NDArray[np.float64], Work]:
        """The sum of the losses that count in each pass of one batch, nats, ``(n,)``; float64 sums of float32 losses."""
        import torch
        from torch.nn.functional import cross_entropy

        width = self._width(max(len(one.ids) for one in batch))
        rows = len(batch) if self.device == "cpu" else max(1, self.batch_tokens(batch_tokens) // width)
        ids = np.zeros((rows, width), dtype=np.int64)
        for row, one in enumerate(batch):
            ids[row, : len(one.ids)] = one.ids
        kept = width - min(one.first for one in batch) + 1
        sums = np.zeros(len(batch))
        with torch.inference_mode():
            read = torch.from_numpy(ids).to(self.device)
            logits = self.model(read, use_cache=False, **({"logits_to_keep": kept} if self._partial else {})).logits
            before = width - logits.shape[1]
            for row, one in enumerate(batch):
                at = logits[row, one.first - 1 - before : len(one.ids) - 1 - before].float()
                losses = cross_entropy(at, read[row, one.first : len(one.ids)], reduction="none")
                sums[row] = float(losses.double().sum())
        return sums, Work(rows * width, rows * width - sum(len(one.ids) for one in batch))

    def all_sums(
        self, passes: Sequence[Pass], batch_tokens: int | None = None
    ) -> Iterator[tuple[list[int], NDArray[np.float64], Work]]:
        """Batch by batch: which passes, their sums, what it took."""
        for members in self.batches(passes, batch_tokens):
            sums, work = self.sums([passes[at] for at in members], batch_tokens)
            yield members, sums, work

    def _width(self, length: int) -> int:
        width = width_of(length)
        return width if self.positions is None else max(length, min(width, self.positions))


@lru_cache(maxsize=1)
def open_model(folder: str, device: str, dtype: str, known: str) -> LanguageModel:
    """The model, kept for the next task of this process that wants the same; ``known`` changes when the folder does."""
    return LanguageModel(Path(folder), device, dtype)


def load_tokenizer(folder: Path) -> Any:
    """A folder's fast tokenizer. DataError if it has none."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise DataError(
            f"{folder} has no tokenizer that can be loaded: {' '.join(str(error).split())[:300]}"
        ) from error
    tokenizer.model_max_length = 1 << 62  # lengths are ours to keep
    return tokenizer


def encode(tokenizer: Any, texts: Sequence[str]) -> list[Ids]:
    """The ids of each text, nothing before or behind it, no special token read out of it; half surrogates as U+FFFD."""
    if not texts:
        return []
    whole = [text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace") for text in texts]
    found = tokenizer(whole, add_special_tokens=False, split_special_tokens=True, return_attention_mask=False)
    return [np.array(ids, dtype=np.int32) for ids in found["input_ids"]]


def _load(folder: Path, kind: str, device: str, dtype: str) -> Any:
    import transformers
    from safetensors import SafetensorError

    hf.read_config(folder)
    hf.weight_files(folder)
    transformers.utils.logging.disable_progress_bar()
    load: Callable[..., Any] = getattr(transformers, kind).from_pretrained
    try:
        return load(str(folder), local_files_only=True, dtype=dtype).to(device).eval()
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise DataError(f"{folder} cannot be loaded as a model: {' '.join(str(error).split())[:300]}") from error


def load_body(folder: Path, device: str, dtype: str) -> Any:
    """A model of transformers without its head, encoder or decoder. DataError for a folder that cannot be loaded."""
    return _load(folder, "AutoModel", device, dtype)
