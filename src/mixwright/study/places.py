"""YAML with places: a mapping whose every value knows its line, so that errors can name it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mixwright.core.errors import StudyError

#: a path of keys and list positions from the root of a document
Where = tuple[str | int, ...]


@dataclass(frozen=True)
class Placed:
    """The values of a YAML file and the line (from 1) of each, by its path of keys."""

    file: Path
    text: str
    values: Mapping[str, Any]
    lines: Mapping[Where, int]

    def at(self, where: Where) -> str:
        """``study.yaml:12`` for a value, or for the nearest one around it."""
        while where and where not in self.lines:
            where = where[:-1]
        line = self.lines.get(where)
        return f"{self.file.name}:{line}" if line else self.file.name


def read_yaml(file: Path) -> Placed:
    """Parse a YAML mapping. StudyError with the line for bad syntax, a repeated key, or a key that is not text."""
    try:
        text = file.read_text("utf-8")
    except FileNotFoundError:
        raise StudyError(
            f"There is no study at {file}. Make one with: mixwright init FOLDER (a folder of your data), or name one with "
            "--study PATH."
        ) from None
    except (UnicodeDecodeError, IsADirectoryError) as error:
        raise StudyError(f"{file} is not a UTF-8 text file: {error}.") from error
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{file.name}:{mark.line + 1}" if mark else file.name
        raise StudyError(f"{place}: this is not valid YAML ({getattr(error, 'problem', None) or error}).") from error
    lines: dict[Where, int] = {}
    if root is not None:
        _walk(root, (), lines, file)
    values = yaml.safe_load(text)
    if not isinstance(values, dict):
        raise StudyError(f"{file.name} must be a mapping of keys to values; it holds {_kind(values)}.")
    return Placed(file, text, values, lines)


def _walk(node: yaml.Node, where: Where, lines: dict[Where, int], file: Path) -> None:
    lines.setdefault(where, node.start_mark.line + 1)
    if isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            _walk(item, (*where, number), lines, file)
    elif isinstance(node, yaml.MappingNode):
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag != "tag:yaml.org,2002:str":
                raise StudyError(
                    f"{file.name}:{line}: the key {key_node.value!r} is read as a {key_node.tag.rpartition(':')[2]}, not as "
                    "text. Put it in quotes."
                )
            path = (*where, key_node.value)
            if path in lines:
                raise StudyError(f"{file.name}:{line}: {key_node.value!r} stands twice (first in line {lines[path]}).")
            lines[path] = line
            _walk(value_node, path, lines, file)


def _kind(value: object) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"
