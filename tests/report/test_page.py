from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixwright.core.errors import DataError
from mixwright.report.page import embed, plain, render, write_page

Data = dict[str, Any]


def _inside(page: str) -> Any:
    match = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    assert match
    return json.loads(match[1])


def test_the_data_come_back_as_they_were(data: Data) -> None:
    inside = _inside(render(data))
    inside.pop("recipe_yaml")
    given = json.loads(json.dumps(data))
    fit, whole = inside.pop("fit"), given.pop("fit")
    assert inside == given
    graph, exact = fit.pop("graph"), whole.pop("graph")
    assert fit == {key: value for key, value in whole.items() if key != "residuals"}
    for node, its in zip(graph["nodes"], exact["nodes"], strict=True):
        assert node.keys() == its.keys()
        assert node.get("value", []) == pytest.approx(its.get("value", []), rel=1e-9)


def test_the_same_data_give_the_same_bytes(data: Data, tmp_path: Path) -> None:
    write_page(data, tmp_path / "a.html")
    write_page(data, tmp_path / "b.html")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "b.html"]


@settings(max_examples=50, deadline=None)
@given(st.text())
def test_nothing_in_the_data_can_end_the_script_element(text: str) -> None:
    for value in (text, f"</script>{text}", f"<!--{text}\u2028"):
        found = embed({"x": value})
        assert not set(found) & set("<>&\u2028\u2029")
        assert json.loads(found) == {"x": value}


def test_the_policy_names_the_one_style_and_the_one_script(data: Data) -> None:
    page = render(data)
    policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1])  # type: ignore[index]
    assert policy.startswith("default-src 'none'; ")
    for kind, tag in (("script", "<script>"), ("style", "<style>")):
        assert page.count(tag) == 1
        content = page.split(tag)[1].split(tag.replace("<", "</"))[0]
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert not re.search(r"https?:|unsafe|\*", policy)


def test_nothing_is_fetched_from_anywhere(data: Data) -> None:
    page = render(data)
    for address in re.findall(r"""(?:src|href|action|url)\s*=\s*["']?([^"'\s>]+)""", page.split('id="data">')[0]):
        assert address.startswith(("#", "data:"))
    assert "@import" not in page
    assert "url(" not in page.split('id="data">')[0]
    script = page.split("<script>")[1]
    assert re.findall(r"https?://[^\"']+", script) == ["http://www.w3.org/2000/svg"]


def test_title_and_verdict_stand_in_the_page_as_text(data: Data) -> None:
    page = render({**data, "title": "<img src=x onerror=alert(1)> & more"})
    assert "<img" not in page
    assert "&lt;img src=x onerror=alert(1)&gt; &amp; more" in page
    assert "Use the optimized mixture" in page.split("<main")[0]


def test_markers_in_the_data_are_left_alone(data: Data) -> None:
    page = render({**data, "title": "{{SCRIPT}}", "study": "{{DATA}} {{POLICY}}"})
    assert "<title>{{SCRIPT}}</title>" in page
    assert _inside(page)["study"] == "{{DATA}} {{POLICY}}"


def test_arrays_and_missing_numbers_become_json() -> None:
    given_values = {
        "a": np.arange(3),
        "b": np.float32(0.5),
        "c": float("nan"),
        "d": np.inf,
        "e": (1, True),
        "f": Path("x"),
    }
    assert plain(given_values) == {"a": [0, 1, 2], "b": 0.5, "c": None, "d": None, "e": [1, True], "f": "x"}


def test_text_that_is_not_unicode_does_not_stop_the_page(data: Data, tmp_path: Path) -> None:
    write_page({**data, "title": "file \udcff name", "study": "\udcff"}, tmp_path / "r.html")
    assert "file ? name" in (tmp_path / "r.html").read_text("utf-8")


@pytest.mark.parametrize("schema", ["mixwright/report/2", None])
def test_another_schema_is_refused(data: Data, schema: str | None) -> None:
    with pytest.raises(DataError, match="this version draws 'mixwright/report/1'"):
        render({**data, "schema": schema})


def test_the_recipe_can_be_copied_as_yaml(data: Data) -> None:
    import yaml

    from mixwright.core.recipe import Recipe

    text = _inside(render(data))["recipe_yaml"]
    assert Recipe.from_dict(yaml.safe_load(text)).to_dict() == data["recipe"]
