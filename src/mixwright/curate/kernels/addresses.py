"""Where bytes may be read many at a time, up to the last one of the data.

base, tail  addresses of the data and of its ``tail``; they are taken once per call, for taking one counts a reference
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixwright.curate.compiled import inlined
from mixwright.curate.kernels.bits import eight, ones

_BLOCK = 64
_EACH = 0x0101010101010101

Bytes = NDArray[np.uint8]


def frozen(data: Bytes) -> tuple[Bytes, Bytes]:
    """The same bytes, contiguous and read-only, so that kernels are compiled for one type; and their tail.

    The tail is the last 64 bytes (fewer if there are none) and zeros after them.
    """
    view = np.ascontiguousarray(data).view()
    view.flags.writeable = False
    count = min(_BLOCK, len(view))
    tail = np.zeros(3 * _BLOCK, dtype=np.uint8)
    tail[:count] = view[len(view) - count :]
    return view, tail


@inlined
def place(base: Any, tail: Any, size: Any, at: Any) -> Any:
    """An address at which byte ``at`` of ``size``, or their end, is followed by 63 readable ones."""
    return base + at if at + _BLOCK <= size else tail + at - (size - min(_BLOCK, size))


@inlined
def characters(base: Any, tail: Any, size: Any, start: Any, stop: Any) -> Any:
    """How many characters begin in bytes ``start`` to ``stop`` of ``size``."""
    count = stop - start
    for at in range(start, stop, 8):
        block = eight(place(base, tail, size, at))
        inner = (block >> np.uint64(7)) & ~(block >> np.uint64(6)) & np.uint64(_EACH)
        count -= ones(inner << np.uint64(max(0, 8 * (at + 8 - stop))))
    return count
