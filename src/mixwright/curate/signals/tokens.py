"""How long a text is, in tokens of a tokenizer."""

from __future__ import annotations

import dataclasses
import itertools
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mixwright.core.errors import DataError
from mixwright.curate.signal import Floats, Signal, Texts

_FILE = "tokenizer.json"


@dataclass(frozen=True)
class Tokens(Signal):
    """``tokens``: tokens of the tokenizer at ``tokenizer`` (a ``tokenizer.json`` or its folder), no special ones added.

    Special tokens that stand in the text are cut up like any other text. Cost: that of the tokenizers library, which
    releases the GIL and uses the cores there are: 2 to 5 MB/s a core for a BPE.
    """

    columns = ("tokens",)
    always = False

    tokenizer: str

    def prepare(self, base: Path, folder: Path) -> None:
        """Copy the tokenizer. Raises DataError if there is none or it cannot be read."""
        from mixwright.text.tokenizer import load

        load(self._path(base))
        shutil.copyfile(self._path(base), folder / _FILE)

    def opened(self, folder: Path) -> Tokens:
        """The signal with the copied tokenizer."""
        from mixwright.text.tokenizer import load

        one = dataclasses.replace(self)
        one.__dict__["_loaded"] = load(folder / _FILE)
        return one

    def identity(self, base: Path) -> str:
        """The SHA-256 of the tokenizer."""
        from mixwright.store.artifact import file_hash

        return file_hash(self._path(base))

    def measure(self, texts: Texts) -> dict[str, Floats]:
        tokenizer: Any = self.__dict__["_loaded"]
        content, places = texts.data.tobytes(), texts.offsets.tolist()
        given = [
            content[start:stop].decode("utf-8", "replace")
            for start, stop in itertools.pairwise(places)
        ]  # fmt: skip
        found = tokenizer.encode_batch_fast(given, add_special_tokens=False)
        return {"tokens": np.array([len(one.ids) for one in found], dtype=np.float64)}

    def _path(self, base: Path) -> Path:
        file = base / Path(self.tokenizer).expanduser()
        file = file / _FILE if file.is_dir() else file
        if not file.is_file():
            raise DataError(f"There is no tokenizer at {file}, named by tokenizer of the signal tokens.")
        return file
