"""Fixtures of the report's tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from made_up_study import report_data

from mixwright.core.find import find
from mixwright.core.law import Fit
from mixwright.core.observation import Runs
from mixwright.core.rng import rng


@pytest.fixture(scope="session")
def data() -> dict[str, Any]:
    """The made-up study of five domains and two targets; not to be changed in place."""
    return report_data()


@pytest.fixture(scope="session")
def fit(data: dict[str, Any]) -> Fit:
    """The exponential law, really fitted to the made-up runs."""
    rows = [run for run in data["runs"] if run["status"] == "done"]
    runs = Runs(
        tuple(data["domains"]), tuple(data["metrics"]), tuple(run["run_id"] for run in rows),
        np.array([run["weights"] for run in rows]),
        np.array([[run["losses"][metric] for metric in data["metrics"]] for run in rows]),
        role=tuple(run["role"] for run in rows), seed=tuple(run["seed"] for run in rows),
    )  # fmt: skip
    found: Fit = find("laws", "exponential")().fit(runs, rng(1, "fit"))
    return found
