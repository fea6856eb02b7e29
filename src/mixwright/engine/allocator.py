"""Memory that a process frees and asks for again: kept, rather than given back to the system each time.

Batches are freed and asked for again by the thousand. glibc gives large blocks back to the system at once, which then clears
every page of the next: 0.5 s of 3.0 s of finding near-duplicates in 376 MB of text (LOG.md, 2026-11-25).
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache

#: numbers of mallopt(3), glibc's malloc.h
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
#: bytes that may lie free at the end of the heap, and the largest block that is taken from it (the most glibc allows)
_KEPT, _LARGEST = 128 << 20, 32 << 20


@cache
def keep_freed() -> None:
    """Let this process keep up to 128 MB of freed memory; elsewhere than with glibc this does nothing."""
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGEST)
        mallopt(_TRIM_THRESHOLD, _KEPT)
