"""Functions compiled to machine code: the one door to numba, which only modules of kernels go through."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit
from numba.extending import intrinsic

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile at the first call for its types, keep the code on disk beside the source, release the GIL while it runs."""
    return cast(F, njit(cache=True, nogil=True)(function))


def borrowing(function: F) -> F:
    """The same for a function that makes no array: it counts no references to those it is given, which loops feel."""
    return cast(F, njit(cache=True, nogil=True, _nrt=False)(function))


def inlined(function: F) -> F:
    """The same for a small function inside loops of others: it becomes part of every function that calls it."""
    return cast(F, njit(cache=True, nogil=True, _nrt=False, forceinline=True)(function))


def instruction(function: Callable[..., Any]) -> Any:
    """A function in kernels that is given as LLVM code: ``function`` returns its signature and what generates the code."""
    return intrinsic(function)
