"""Fixtures of the report's tests."""

from __future__ import annotations

from typing import Any

import pytest
from made_up_study import report_data


@pytest.fixture(scope="session")
def data() -> dict[str, Any]:
    """The made-up study of five domains and two targets; not to be changed in place."""
    return report_data()
