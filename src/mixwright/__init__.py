"""mixwright decides what a language model learns from: which text, in what proportions, in what order.

The nouns are here at once; the verbs load what they need when they are first used. Importing costs numpy. Verbs that
share their name with a room are found in it: ``mixwright.curate.pipeline.curate``, ``mixwright.optimize.mixture.optimize``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from mixwright.core.corpus import Corpus, Domain
from mixwright.core.document import Document
from mixwright.core.errors import (
    DataError,
    Interrupted,
    MixwrightError,
    ResourceError,
    RunsFailedError,
    StudyError,
)
from mixwright.core.law import Fit, Law, Prediction, Validation
from mixwright.core.mixture import Mixture
from mixwright.core.objective import Group, Objective
from mixwright.core.observation import Observation, Runs
from mixwright.core.recipe import Forecast, Recipe
from mixwright.core.run import ModelSize, Run
from mixwright.core.schedule import Phase, Schedule

if TYPE_CHECKING:
    from mixwright.laws.validation import validate
    from mixwright.optimize.design import design
    from mixwright.report.page import write_page
    from mixwright.store.foreign_tokens import open_tokens
    from mixwright.store.runs import read_runs, write_runs
    from mixwright.store.tokens import TokenStore
    from mixwright.stream.loader import MixtureStream
    from mixwright.study.config import Study, read_study
    from mixwright.study.evaluate_one import evaluate
    from mixwright.study.flow import Flow
    from mixwright.text.files import tokenize_files
    from mixwright.text.tokenize import tokenize
    from mixwright.train.branch import branch
    from mixwright.train.sweep import sweep

__version__ = "0.1.0"

_LAZY = {
    "Flow": "mixwright.study.flow",
    "MixtureStream": "mixwright.stream.loader",
    "Study": "mixwright.study.config",
    "TokenStore": "mixwright.store.tokens",
    "branch": "mixwright.train.branch",
    "design": "mixwright.optimize.design",
    "evaluate": "mixwright.study.evaluate_one",
    "open_tokens": "mixwright.store.foreign_tokens",
    "read_runs": "mixwright.store.runs",
    "read_study": "mixwright.study.config",
    "sweep": "mixwright.train.sweep",
    "tokenize": "mixwright.text.tokenize",
    "tokenize_files": "mixwright.text.files",
    "validate": "mixwright.laws.validation",
    "write_page": "mixwright.report.page",
    "write_runs": "mixwright.store.runs",
}

__all__ = [
    "Corpus",
    "DataError",
    "Document",
    "Domain",
    "Fit",
    "Flow",
    "Forecast",
    "Group",
    "Interrupted",
    "Law",
    "Mixture",
    "MixtureStream",
    "MixwrightError",
    "ModelSize",
    "Objective",
    "Observation",
    "Phase",
    "Prediction",
    "Recipe",
    "ResourceError",
    "Run",
    "Runs",
    "RunsFailedError",
    "Schedule",
    "Study",
    "StudyError",
    "TokenStore",
    "Validation",
    "__version__",
    "branch",
    "design",
    "evaluate",
    "open_tokens",
    "read_runs",
    "read_study",
    "sweep",
    "tokenize",
    "tokenize_files",
    "validate",
    "write_page",
    "write_runs",
]


def __getattr__(name: str) -> Any:
    """A verb, loaded when it is first asked for."""
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'mixwright' has no attribute {name!r}")
