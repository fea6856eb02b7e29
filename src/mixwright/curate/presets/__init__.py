"""Named sets of rules with their sources, one YAML file each: ``rules: {name: {keep: expression, source: where from}}``."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from mixwright.core.errors import StudyError


@dataclass(frozen=True)
class PresetRule:
    """One rule of a preset: what must hold, and the paper and table that say so."""

    name: str
    keep: str
    source: str


@cache
def presets() -> tuple[str, ...]:
    """The names of all presets, sorted."""
    names = (entry.name for entry in files(__name__).iterdir())
    return tuple(sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml")))


@cache
def preset(name: str) -> tuple[PresetRule, ...]:
    """The rules of a preset, in order. StudyError, with the nearest name, if there is none of that name."""
    import yaml

    if name not in presets():
        near = difflib.get_close_matches(name, presets(), n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise StudyError(f"There is no preset {name!r}.{hint} There are: {', '.join(presets())}.")
    values = yaml.safe_load((files(__name__) / f"{name}.yaml").read_text("utf-8"))
    return tuple(PresetRule(rule, given["keep"], given["source"]) for rule, given in values["rules"].items())
