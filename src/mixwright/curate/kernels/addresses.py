"""Where bytes may be read many at a time, up to the last one of the data.

base, tail  addresses of the data and of its ``tail``; they are taken once per call, for taking one counts a reference
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixwright.curate.compiled import inlined

_BLOCK = 64

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
