"""The report as one self-contained page: style, script and data inside, no request leaves it.

The page's figures are drawn by its own script from the JSON inside it (``page*.js``, joined here in order). A strict
Content-Security-Policy names the one style and the one script by their hashes and forbids everything else.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from mixwright.core.errors import DataError
from mixwright.report.verdict import Verdict, verdict
from mixwright.store.artifact import write_atomic

SCHEMA = "mixwright/report/1"
#: in order: each may use what stands before it
_SCRIPTS = (
    "page_words.js", "page_graph.js", "page_figures.js", "page_supply.js", "page_mixtures.js", "page_evidence.js",
    "page_try.js", "page_outcome.js", "page_recipe.js", "page.js",
)  # fmt: skip
#: significant digits of a fit's numbers in the page; its predictions then agree with the fit's own to about 1e-8
_DIGITS = 10
#: characters that could end the script element, or a line in old parsers
_ESCAPES = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&\u2028\u2029"}


def write_page(data: Mapping[str, Any], path: Path) -> None:
    """Write the report's page to ``path``, atomically; the same data gives the same bytes.

    ``data`` is the report's dict (schema ``mixwright/report/1``); a section that is missing or None is left out.
    Raises DataError for another schema.
    """
    write_atomic(path, render(data).encode("utf-8", "replace"))


def render(data: Mapping[str, Any]) -> str:
    """The page as text."""
    if data.get("schema") != SCHEMA:
        raise DataError(f"The report's data have the schema {data.get('schema')!r}; this version draws {SCHEMA!r}.")
    values = dict(plain(data))
    if values.get("fit"):
        values["fit"] = _lighter(values["fit"])
    if values.get("recipe"):
        values["recipe_yaml"] = yaml.safe_dump(values["recipe"], sort_keys=False, allow_unicode=True, width=100)
    style, script = _own("page.css"), script_text()
    title = str(values.get("title") or "mixwright report")
    made = " · ".join(part for part in (_moment(values), _version(values)) if part)
    slots = {
        "POLICY": (
            f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; img-src data:; "
            "base-uri 'none'; form-action 'none'"
        ),
        "TITLE": html.escape(title),
        "MADE": html.escape(made),
        "VERDICT": _verdict_markup(verdict(values)),
        "STYLE": style,
        "DATA": embed(values),
        "SCRIPT": script,
    }
    return re.sub(r"\{\{([A-Z]+)\}\}", lambda match: slots[match[1]], _own("page.html"))


def script_text() -> str:
    """The page's script, all parts joined in one function so that no name leaks."""
    return '\n"use strict";\n(() => {\n' + "\n".join(_own(name) for name in _SCRIPTS) + "})();\n"


def plain(value: Any) -> Any:
    """JSON values only: arrays as lists, NaN and infinities as null, keys as text."""
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def _lighter(fit: Mapping[str, Any]) -> dict[str, Any]:
    """The fit as the page needs it: numbers to as many digits as any reading of them has, held-out errors left out."""
    kept = {key: value for key, value in fit.items() if key != "residuals"}
    if kept.get("graph"):
        kept["graph"] = _rounded(kept["graph"])
    return kept


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value


def embed(value: Any) -> str:
    """JSON that may stand inside a script element: nothing in it can end the element."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).translate(_ESCAPES)


def _own(name: str) -> str:
    return files("mixwright.report").joinpath(name).read_text("utf-8")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _moment(values: Mapping[str, Any]) -> str:
    """``2026-01-05T12:00:00+00:00`` as ``2026-01-05 12:00 UTC``; any other form as it is."""
    text = str(values.get("created") or "")
    match = re.fullmatch(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d)\S*(?:\+00:00|Z)", text)
    return f"{match[1]} {match[2]} UTC" if match else text


def _version(values: Mapping[str, Any]) -> str:
    return f"mixwright {values['version']}" if values.get("version") else ""


def _verdict_markup(found: Verdict | None) -> str:
    """The verdict as HTML; it stands in the page itself, so that it can be read without the script."""
    if found is None:
        return ""
    escape = html.escape
    facts = "".join(f"<div><dt>{escape(label)}</dt><dd>{escape(number)}</dd></div>" for number, label in found.facts)
    checks = "".join(f"<li>{escape(sentence)}</li>" for sentence in found.checks)
    cautions = "".join(f'<li class="caution">{escape(sentence)}</li>' for sentence in found.cautions)
    return (
        f'<p class="headline {found.tone}">{escape(found.headline)}</p>'
        + (f'<dl class="facts">{facts}</dl>' if facts else "")
        + '<div id="answer"></div>'
        + (f"<h2>How this is known</h2><ul>{checks}{cautions}</ul>" if checks or cautions else "")
    )
