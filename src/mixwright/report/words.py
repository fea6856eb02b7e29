"""Numbers as people read them; the page's script has the same functions under the same names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

#: stands where a number is not known
MISSING = "–"
_MINUS = "−"


def signed(value: float | None, digits: int = 3) -> str:
    """With its sign: ``+0.120``, ``−0.120``; what rounds to zero has none."""
    if value is None or not math.isfinite(value):
        return MISSING
    text = f"{abs(value):.{digits}f}"
    if float(text) == 0:
        return text
    return (_MINUS if value < 0 else "+") + text


def fixed(value: float | None, digits: int = 3) -> str:
    """With that many decimals."""
    if value is None or not math.isfinite(value):
        return MISSING
    return f"{value:.{digits}f}".replace("-", _MINUS)


def percent(share: float | None, digits: int = 1) -> str:
    """A fraction in percent: 0.125 is ``12.5 %``."""
    return MISSING if share is None or not math.isfinite(share) else f"{fixed(100 * share, digits)} %"


def scaled(value: float | None) -> str:
    """Three digits and a suffix: 307200 is ``307 k``; ``k``, ``M``, ``G``, ``T`` are powers of a thousand."""
    if value is None or not math.isfinite(value):
        return MISSING
    for power, suffix in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= power * 0.9995:
            number = value / power
            return f"{number:.{0 if abs(number) >= 99.95 else 1 if abs(number) >= 9.995 else 2}f}{suffix}"
    return f"{value:.0f}"


def whole(value: float | None) -> str:
    """A count with thousands apart: ``12,345``."""
    return MISSING if value is None or not math.isfinite(value) else f"{value:,.0f}"


def interval(values: Mapping[str, Any] | None, digits: int = 3) -> str:
    """``{"value", "low", "high"}`` as ``−0.120 (−0.140 to −0.100)``."""
    if not values:
        return MISSING
    return f"{signed(values['value'], digits)} ({signed(values['low'], digits)} to {signed(values['high'], digits)})"


def multiple(value: float | None, noise: float | None) -> str:
    """How many times the noise a difference is: ``3.1×``."""
    if value is None or not noise or not math.isfinite(value):
        return MISSING
    times = abs(value) / noise
    return f"{times:.0f}×" if times >= 9.95 else f"{times:.1f}×"
