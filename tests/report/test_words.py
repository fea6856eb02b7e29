from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixwright.report.words import fixed, interval, multiple, percent, scaled, signed, whole


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.1234, "+0.123"), (-0.1234, "−0.123"), (0.0, "0.000"), (-0.0004, "0.000"), (None, "–"), (float("nan"), "–")],
)
def test_signed(value: float | None, text: str) -> None:
    assert signed(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (999, "999"), (999.6, "1.00 k"), (307_200, "307 k"), (1_234_567, "1.23 M"), (12_345_678, "12.3 M"),
     (99_960_000, "100 M"), (3e12, "3.00 T"), (None, "–")],
)  # fmt: skip
def test_scaled(value: float | None, text: str) -> None:
    assert scaled(value) == text


@settings(max_examples=100, deadline=None)
@given(st.floats(1, 9e14))
def test_scaled_keeps_three_digits(value: float) -> None:
    number, _, suffix = scaled(value).partition(" ")
    power = {"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}[suffix]
    assert float(number) * power == pytest.approx(value, rel=0.0051 if suffix else 0.5)


def test_the_others() -> None:
    assert percent(0.1256) == "12.6 %"
    assert percent(None) == "–"
    assert fixed(-1.5, 1) == "−1.5"
    assert whole(1234567.2) == "1,234,567"
    assert interval({"value": -0.12, "low": -0.14, "high": -0.1}) == "−0.120 (−0.140 to −0.100)"
    assert interval(None) == "–"
    assert multiple(-0.03, 0.01) == "3.0×"
    assert multiple(0.3, 0.01) == "30×"
    assert multiple(0.3, None) == "–"
