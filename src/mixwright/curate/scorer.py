"""A scored signal: numbers that a language model gives. It says what the model reads; ``scoring.py`` runs it.

A row is planned (which passes, which tokens count), its passes are scored, and its numbers made from their sums. A row that
cannot be scored has NaN in the columns concerned, and the reasons are counted.
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mixwright.core.errors import StudyError
from mixwright.curate.language_model import (
    Device,
    LanguageModel,
    Pass,
    Precision,
    Work,
    model_hash,
    open_model,
    resolve,
    stamp,
)
from mixwright.curate.signal import Floats, Signal, Texts
from mixwright.store.artifact import content_key, read_json, write_json

#: changes when the same model and options give other numbers
VERSION = 1
#: the name of what ``prepare`` leaves
_PREPARED = "model.json"
#: options that decide how scoring runs, not its numbers (device and precision count as what they turn out to be)
_HOW_ONLY = frozenset({"model", "batch_tokens", "device", "dtype"})


@dataclass(frozen=True)
class Half:
    """A row: its ``text``, and ``prompt`` and ``response`` of an instruction row."""

    text: str
    prompt: str | None = None
    response: str | None = None


@dataclass(frozen=True)
class Plan:
    """What the model reads for one row; ``failed`` are reasons (their places in ``Scorer.reasons``) known before."""

    passes: tuple[Pass, ...] = ()
    failed: tuple[int, ...] = ()
    truncated: bool = False


@dataclass(frozen=True)
class Scorer(Signal):
    """A signal that a local causal language model measures.

    ``model`` is a folder of transformers with safetensors weights and a tokenizer, relative to the study file's folder.
    ``max_tokens`` is how many tokens are read at once (none: 1024, or as many as the model reads), ``batch_tokens`` how many
    go through the model together (none: what suits the device). ``device`` ``auto`` is a GPU where there is one; ``dtype``
    ``auto`` is float32 on a CPU, and on a GPU bfloat16 for weights stored in 16 bits.
    """

    always = False
    scored = True
    may_fail = True
    #: why a row may have no number
    reasons: ClassVar[tuple[str, ...]]
    #: whether it reads prompt and response, not the text
    instructions: ClassVar[bool] = False

    model: str
    max_tokens: int | None = None
    batch_tokens: int | None = None
    device: Device = "auto"
    dtype: Precision = "auto"

    def __post_init__(self) -> None:
        for name in ("max_tokens", "batch_tokens"):
            value = getattr(self, name)
            if value is not None and value < 2:
                raise StudyError(f"{name} of a model's signal must be at least 2; got {value}.")

    @abstractmethod
    def plans(self, model: LanguageModel, rows: Sequence[Half]) -> list[Plan]:
        """What the model reads for each row."""

    @abstractmethod
    def numbers(self, plan: Plan, sums: Sequence[float]) -> tuple[list[float], list[int]]:
        """A value per column, NaN where there is none, and the reasons (more of them than the plan knew)."""

    def prepare(self, base: Path, folder: Path) -> None:
        place = self._place(base)
        known = model_hash(place)
        write_json(folder / _PREPARED, {"model": str(place), "hash": known})

    def opened(self, folder: Path) -> Scorer:
        return dataclasses.replace(self, model=read_json(folder / _PREPARED)["model"])

    def identity(self, base: Path) -> str:
        return model_hash(self._place(base))

    def _place(self, base: Path) -> Path:
        if not self.model:
            raise StudyError("A model's signal needs model: the folder of a local transformers model.")
        return (base / Path(self.model).expanduser()).resolve()

    def key(self, known: str) -> str:
        """What its numbers depend on, 16 hex digits: ``known`` (the model's hash), options, device and precision."""
        given = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in _HOW_ONLY}
        where = resolve(Path(self.model), self.device, self.dtype)
        return content_key(VERSION, type(self).__name__, known, given, where)

    def load(self, known: str = "") -> LanguageModel:
        """Its model, kept for the next task of this process; ``known`` is its hash, where that has been taken."""
        return open_model(
            self.model, *resolve(Path(self.model), self.device, self.dtype), known or stamp(Path(self.model))
        )

    def limit(self, model: LanguageModel) -> int:
        """How many tokens are read at once. StudyError when that is more than the model reads."""
        if self.max_tokens is None:
            return min(1024, model.positions or 1024)
        if model.positions is not None and self.max_tokens > model.positions:
            raise StudyError(
                f"max_tokens is {self.max_tokens}, but {model.folder} reads {model.positions} tokens at once. Lower it."
            )
        return self.max_tokens

    def measure(self, texts: Texts) -> dict[str, Floats]:
        model = self.load()
        values, _, _ = score_plans(self, model, self.plans(model, halves(texts)))
        return {column: np.ascontiguousarray(values[:, at]) for at, column in enumerate(self.columns)}


def prepared_hash(folder: Path) -> str:
    """The model's hash that ``prepare`` left in ``folder``."""
    return str(read_json(folder / _PREPARED)["hash"])


def halves(texts: Texts) -> list[Half]:
    """The rows of a batch as strings."""
    none = [None] * len(texts)
    prompts = none if texts.prompts is None else texts.prompts.to_pylist()
    responses = none if texts.responses is None else texts.responses.to_pylist()
    return [Half(*row) for row in zip(texts, prompts, responses, strict=True)]


def score_plans(scorer: Scorer, model: LanguageModel, plans: Sequence[Plan]) -> tuple[Floats, NDArray[np.int64], Work]:
    """The numbers of each row ``(n, columns)``, its reasons as bits ``(n,)``, and what it took."""
    passes = [one for plan in plans for one in plan.passes]
    sums, work = np.zeros(len(passes)), Work()
    for members, found, took in model.all_sums(passes, scorer.batch_tokens):
        sums[members] = found
        work += took
    values, failed = np.full((len(plans), len(scorer.columns)), np.nan), np.zeros(len(plans), dtype=np.int64)
    at = 0
    for row, plan in enumerate(plans):
        values[row], reasons = scorer.numbers(plan, sums[at : at + len(plan.passes)].tolist())
        failed[row] = sum(1 << reason for reason in {*plan.failed, *reasons})
        at += len(plan.passes)
    return values, failed, work


def count(scorer: Scorer, failed: NDArray[np.int64]) -> dict[str, int]:
    """How many rows have each reason; those that no row has are left out."""
    found: Mapping[str, int] = {reason: int((failed >> at & 1).sum()) for at, reason in enumerate(scorer.reasons)}
    return {reason: rows for reason, rows in found.items() if rows}


def made(signal: type[Scorer], options: Mapping[str, Any]) -> Scorer:
    """The signal with options as a study gives them. StudyError as pydantic finds, in one sentence."""
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(signal).validate_python(dict(options))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise StudyError(f"{place} of the signal {signal.__name__.lower()}: {first['msg']}.") from error
