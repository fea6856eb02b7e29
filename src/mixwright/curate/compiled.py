"""Functions compiled to machine code: the one door to numba, which only modules of kernels go through.

Their code is kept on disk beside the source, under a name that tells of every module of kernels it is made from: numba
itself would take the code of before where a function that was made part of another has changed in a file of its own.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

from numba import njit
from numba.core.caching import CompileResultCacheImpl, FunctionCache
from numba.extending import intrinsic

F = TypeVar("F", bound=Callable[..., Any])
_IMPORT = re.compile(rb"^from (mixwright[\w.]*) import (\w*)", re.MULTILINE)


def compiled(function: F) -> F:
    """Compile at the first call for its types, keep the code on disk beside the source, release the GIL while it runs."""
    return _kept(function)


def borrowing(function: F) -> F:
    """The same for a function that makes no array: it counts no references to those it is given, which loops feel."""
    return _kept(function, _nrt=False)


def inlined(function: F) -> F:
    """The same for a small function inside loops of others: it becomes part of every function that calls it."""
    return _kept(function, _nrt=False, forceinline=True)


def instruction(function: Callable[..., Any]) -> Any:
    """A function in kernels that is given as LLVM code: ``function`` returns its signature and what generates the code."""
    return intrinsic(function)


def sources(module: str) -> tuple[Path, ...]:
    """The files of a module that is being imported and of the modules of this package it is made from, in any depth."""
    files: dict[str, Path] = {}
    ahead = [module]
    while ahead:
        name = ahead.pop()
        file = getattr(sys.modules.get(name), "__file__", None)
        if name in files or file is None or not Path(file).is_file():
            continue
        files[name] = Path(file)
        for package, first in _IMPORT.findall(files[name].read_bytes()):
            ahead += [package.decode(), f"{package.decode()}.{first.decode()}"]
    return tuple(files[name] for name in sorted(files))


@cache
def digest(module: str) -> str:
    """The hash of their content, in 12 hexadecimal digits; read once."""
    content = b"".join(file.read_bytes() for file in sources(module))
    return hashlib.blake2b(content, digest_size=6).hexdigest()


class _Code(CompileResultCacheImpl):  # type: ignore[misc]  # numba has no types
    """As numba's, in files named after the sources, too."""

    def get_filename_base(self, fullname: str, abiflags: str) -> str:
        return f"{super().get_filename_base(fullname, abiflags)}-{self._digest}"

    def __init__(self, function: Any) -> None:
        self._digest = digest(function.__module__)
        super().__init__(function)


class _Cache(FunctionCache):  # type: ignore[misc]
    _impl_class = _Code


def _kept(function: F, **options: bool) -> F:
    dispatcher = njit(nogil=True, **options)(function)
    dispatcher._cache = _Cache(function)
    return cast(F, dispatcher)
