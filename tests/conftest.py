"""Before any test: setuptools takes the place of the standard library's distutils, or packages that want it later refuse."""

import contextlib

with contextlib.suppress(ImportError):
    import setuptools  # noqa: F401
