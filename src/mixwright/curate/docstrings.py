"""Python source taken apart: its code without long docstrings, and the docstrings."""

from __future__ import annotations

import ast
import inspect
import warnings
from collections.abc import Iterator

#: what stands where a docstring was
_BLANK = b'"""..."""'

_Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def take_apart(source: str, *, long: int) -> tuple[str, list[tuple[str, str]]]:
    """Code with docstrings of several lines or ``long`` characters blanked; and (name, text) of the long ones.

    Names are qualified (``Class.method``, empty for the module's own), texts without their common indentation. Source
    that does not parse comes back whole, with no docstrings. Cost: about 5 MB/s.
    """
    plain = source.replace("\r\n", "\n").replace("\r", "\n")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(plain)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return source, []
    lines = plain.encode().split(b"\n")
    texts = []
    found = list(_docstrings(tree, ""))
    for name, node in sorted(found, key=lambda item: -item[1].lineno):
        text = inspect.cleandoc(str(node.value))
        if len(text) >= long:
            texts.append((name, text.encode("utf-8", "backslashreplace").decode()))
        if len(text) >= long or node.end_lineno != node.lineno:
            _blank(lines, node)
    return b"\n".join(lines).decode(), texts[::-1]


def _docstrings(node: _Documented, name: str) -> Iterator[tuple[str, ast.Constant]]:
    """The docstring of a module, class or function, and of those defined in it."""
    first = node.body[0] if node.body else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        yield name, first.value
    for inner in _definitions(node.body):
        yield from _docstrings(inner, f"{name}.{inner.name}" if name else inner.name)


def _definitions(body: list[ast.stmt]) -> Iterator[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    """Classes and functions defined by these statements, also below if, try and with."""
    for statement in body:
        if isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield statement
        elif isinstance(statement, ast.If | ast.Try | ast.With | ast.For | ast.While):
            yield from _definitions(statement.body)
            yield from _definitions(getattr(statement, "orelse", []))
            yield from _definitions(getattr(statement, "finalbody", []))
            for handler in getattr(statement, "handlers", []):
                yield from _definitions(handler.body)


def _blank(lines: list[bytes], node: ast.Constant) -> None:
    """Replace a literal in place; later ones must have been replaced before, so that line numbers hold."""
    first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
    lines[first : last + 1] = [lines[first][: node.col_offset] + _BLANK + lines[last][node.end_col_offset :]]
