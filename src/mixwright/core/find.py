"""The folder is the registry: ``find("laws", "exponential")`` is the class ``Exponential`` of ``laws/exponential.py``.

A plug-in's name in the study file is its file's name; its class is that name in CamelCase. Files that begin with an
underscore are machinery. Outsiders name ``package.module:Class`` or register the entry-point group
``mixwright.<family>``.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from mixwright.core.errors import StudyError

#: family -> (package that holds the plug-ins, files in it that are machinery)
FAMILIES: dict[str, tuple[str, frozenset[str]]] = {
    "signals": ("mixwright.curate.signals", frozenset()),
    "laws": ("mixwright.laws", frozenset({"crossing", "graph", "repetition", "reuse", "sizes", "steps", "validation"})),
    "trainers": ("mixwright.train.trainers", frozenset()),
    "export": ("mixwright.export", frozenset({"exporter"})),
}


def camel(name: str) -> str:
    """``log_linear`` -> ``LogLinear``."""
    return "".join(part.capitalize() for part in name.split("_"))


def names(family: str) -> tuple[str, ...]:
    """The built-in plug-ins of a family and those that entry points add, sorted."""
    package, machinery = FAMILIES[family]
    found = importlib.util.find_spec(package)
    folders = list(found.submodule_search_locations or []) if found else []
    built_in = {
        path.stem
        for folder in folders
        for path in Path(folder).glob("*.py")
        if not path.stem.startswith("_") and path.stem not in machinery
    }
    return tuple(sorted(built_in | {point.name for point in entry_points(group=f"mixwright.{family}")}))


def find(family: str, name: str) -> Any:
    """The plug-in class called ``name``. Raises StudyError, with the nearest name and the whole list, if none is."""
    if ":" in name:
        module, _, attribute = name.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise StudyError(
                f"Cannot load {family} plug-in {name!r}: {error}. Write it as package.module:Class."
            ) from error
    for point in entry_points(group=f"mixwright.{family}"):
        if point.name == name:
            return point.load()
    known = names(family)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise StudyError(f"There is no {family} plug-in called {name!r}.{hint} Known: {', '.join(known)}.")
    module_name = f"{FAMILIES[family][0]}.{name}"
    return getattr(importlib.import_module(module_name), camel(name))
