"""The page in a real browser: nothing breaks, nothing is fetched, names stay text, labels do not lie on one another."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from headless_browser import Browser, chromium
from made_up_study import report_data

from mixwright.core.law import Fit
from mixwright.report.page import write_page
from mixwright.report.words import signed

Data = dict[str, Any]
PROGRAM = chromium()
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="chromium is not installed")
#: figures of a whole study: answer, 2 funnels, stages, rules, overlap, similarity, tokens, weights, bars, losses, held-out,
#: try, verify, curves, 2 final, times
FIGURES = 18
SECTIONS = (
    "sources", "corpus", "mixtures", "runs", "law", "try", "verify", "curves", "others", "final", "recipe", "made"
)  # fmt: skip
HOSTILE = (
    "<script>window.hit=1</script>", "<img src=x onerror=window.hit=2>", "</script><b>", "constructor", "a&amp;b\u2028c"
)  # fmt: skip

#: pairs of texts of one kind in one figure whose boxes lie on one another
_OVERLAPS = """
[...document.querySelectorAll(".drawing svg")].flatMap((picture) => ["label", "tick", "end", "side"].flatMap((kind) => {
  const texts = [...picture.querySelectorAll(`text.${kind}`)];
  const boxes = texts.map((node) => [node.textContent, node.getBoundingClientRect()]);
  const meet = (a, b) => a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 3 && b.top < a.bottom - 3;
  return boxes.flatMap(([one, a], n) =>
    boxes.slice(n + 1).filter(([, b]) => meet(a, b)).map(([two]) => `${kind}: ${one} | ${two}`));
}))
"""
#: texts that stick out of their figure
_OUTSIDE = """
[...document.querySelectorAll(".drawing svg")].flatMap((picture) => {
  const frame = picture.getBoundingClientRect();
  return [...picture.querySelectorAll("text")].filter((node) => {
    const box = node.getBoundingClientRect();
    return box.left < frame.left - 2 || box.right > frame.right + 2 || box.bottom > frame.bottom + 2;
  }).map((node) => node.textContent);
})
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser(str(PROGRAM)) as opened:
        yield opened


@pytest.fixture
def show(browser: Browser, tmp_path: Path) -> Any:
    def open_page(data: Data, **how: Any) -> Browser:
        write_page(data, tmp_path / "report.html")
        browser.open(tmp_path / "report.html", **how)
        return browser

    return open_page


def _state(browser: Browser) -> Data:
    return dict(json.loads(browser.run("JSON.stringify(window.__mixwright)")))


def _clean(browser: Browser, page_only: bool = True) -> None:
    assert _state(browser)["errors"] == []
    assert browser.problems == []
    if page_only:
        assert [address for address in browser.requests if not address.startswith(("file:", "data:"))] == []
        assert sum(address.startswith("file:") for address in browser.requests) == 1


def test_every_figure_is_drawn_and_nothing_is_fetched(show: Any, data: Data) -> None:
    browser = show(data)
    _clean(browser)
    assert _state(browser)["figures"] == FIGURES
    assert browser.run("document.querySelectorAll('figure svg[role=img]').length") == FIGURES
    assert browser.run("[...document.querySelectorAll('main > section')].map((s) => s.id)") == list(SECTIONS)
    assert browser.run(
        "[...document.querySelectorAll('figure')].every((f) => f.querySelectorAll('svg .mark').length > 0)"
    )
    assert browser.run("[...document.querySelectorAll('nav a')].every((a) => document.querySelector(a.hash))")


def test_a_request_would_be_refused(show: Any, data: Data) -> None:
    browser = show(data)
    for attempt in (
        "fetch('http://127.0.0.1:9/x').then(() => 'got', () => 'refused')",
        "new Promise((r) => { const i = new Image(); i.onload = () => r('got'); i.onerror = () => r('refused');"
        " i.src = 'http://127.0.0.1:9/x.png'; })",
        "new Promise((r) => { const s = document.createElement('script'); s.textContent = 'window.hit = 3';"
        " document.body.append(s); r(window.hit === 3 ? 'got' : 'refused'); })",
    ):
        assert browser.run(attempt) == "refused"
    assert len([error for error in _state(browser)["errors"] if "blocked" in error]) == 3
    assert not [address for address in browser.requests if "127.0.0.1" in address]


def test_names_with_html_in_them_are_text(show: Any) -> None:
    hostile = report_data(names=HOSTILE)
    for row in hostile["samples"]:
        row["start"] = "<img src=x onerror=window.hit=4>"
    hostile["study"] = "</pre><script>window.hit=5</script>"
    browser = show(hostile)
    _clean(browser)
    assert _state(browser)["figures"] == FIGURES
    assert browser.run("window.hit") is None
    assert browser.run("document.querySelectorAll('img, b, body script:not([id]):not(:last-of-type)').length") == 0
    text = browser.run("document.body.textContent")
    for name in HOSTILE:
        assert name in text


def test_any_section_may_be_missing(show: Any, data: Data) -> None:
    for number, section in enumerate(key for key in data if key != "schema"):
        part = {key: value for key, value in data.items() if key != section}
        browser = show(part if number % 2 else {**part, section: None})
        assert (section, _state(browser)["errors"], browser.problems) == (section, [], [])
        assert _state(browser)["figures"] >= 8


def test_an_empty_report_is_a_page(show: Any) -> None:
    browser = show({"schema": "mixwright/report/1"})
    _clean(browser)
    assert _state(browser)["figures"] == 0
    assert browser.run("document.querySelectorAll('main > section').length") == 0


def test_another_reference_is_called_by_its_name(show: Any, data: Data) -> None:
    renamed = json.loads(json.dumps(data).replace('"natural"', '"current"'))
    browser = show(renamed)
    _clean(browser)
    assert _state(browser)["figures"] == FIGURES
    assert "difference to the current mixture" in browser.run("document.querySelector('#verify').textContent")
    assert "below the current mixture's" in browser.run("document.querySelector('.headline').textContent")


def test_a_validation_without_scores_is_said_in_its_notes(show: Any, data: Data) -> None:
    few = {"scores": {}, "chosen": {}, "held_out": {}, "folds": 0, "repeats": 0, "notes": ["Too few mixtures."]}
    browser = show({**data, "validation": few})
    _clean(browser)
    assert browser.run("document.querySelector('#law').textContent.includes('Too few mixtures.')")


def test_a_table_of_runs_alone(show: Any, data: Data) -> None:
    """What someone has who brought only a CSV of runs."""
    wanted = ("schema", "domains", "metrics", "runs", "validation", "fit", "objective", "mixtures", "recipe")
    part = {key: copy.deepcopy(data[key]) for key in wanted}
    for run in part["runs"]:
        run |= {"unigram": {}, "bpb": {}, "params": None, "tokens": None, "seed": None}
    part["recipe"] |= {"epochs": {}, "supply": {}, "params": None}
    part["mixtures"] = {"optimized": part["mixtures"]["optimized"]}
    browser = show(part)
    _clean(browser)
    assert _state(browser)["figures"] == 6
    assert "The supplies are not known" in browser.run("document.querySelector('#recipe').textContent")


@pytest.mark.parametrize(("domains", "targets"), [(2, 1), (5, 2), (60, 58)])
@pytest.mark.parametrize("width", [390, 800, 1440])
def test_labels_never_overlap_and_the_page_never_scrolls_sideways(
    show: Any, domains: int, targets: int, width: int
) -> None:
    browser = show(report_data(domains, targets), width=width)
    _clean(browser)
    assert _state(browser)["figures"] == FIGURES
    assert browser.run(_OVERLAPS) == []
    assert browser.run(_OUTSIDE) == []
    assert browser.run("document.documentElement.scrollWidth") <= width


def test_very_long_names_are_cut_and_told_in_the_tip(show: Any) -> None:
    names = tuple(f"{'a_very_long_domain_name_' * 4}{n}" for n in range(5))
    browser = show(report_data(names=names), width=390)
    _clean(browser)
    assert browser.run("document.documentElement.scrollWidth") <= 390
    assert browser.run(_OUTSIDE) == []
    assert browser.run("[...document.querySelectorAll('text.label.mark')].some((t) => t.textContent.endsWith('…'))")


def test_a_slider_gives_what_the_fit_predicts(show: Any, data: Data, fit: Fit) -> None:
    browser = show({**data, "fit": fit.to_dict()})
    browser.run(
        "(() => { document.querySelectorAll('#try .buttons button')[0].click();"  # natural
        " const slider = document.querySelectorAll('#try input[type=range]')[2];"
        " slider.value = 700; slider.dispatchEvent(new Event('input'));"
        " return new Promise((done) => setTimeout(done, 200)); })()"
    )
    natural = np.array(data["mixtures"]["natural"])
    weights = natural * (1 - 0.49) / (1 - natural[2])
    weights[2] = 0.49
    objective = np.array([data["metric_weights"].get(metric, 0.0) for metric in fit.metrics])
    gap = float(fit.difference(weights[None], natural, objective)[0][0])
    level = float(fit.predict(weights[None]).mean[0] @ objective)
    sides = browser.run("[...document.querySelectorAll('#try svg text.side')].map((t) => t.textContent)")
    assert f"{signed(gap)} → {level:.3f}" in sides
    shown = browser.run("[...document.querySelectorAll('#try output')].map((o) => o.textContent)")
    assert shown == [f"{100 * weight:.1f} %" for weight in weights]
    _clean(browser)


def test_choosers_redraw_and_marks_can_be_walked_by_keys(show: Any, data: Data) -> None:
    browser = show(data)
    browser.run(
        "(() => { for (const select of document.querySelectorAll('select')) for (const option of select.options) {"
        " select.value = option.value; select.dispatchEvent(new Event('change')); } })()"
    )
    _clean(browser)
    assert "bits/byte" in browser.run("document.querySelector('#others').textContent")
    tip = browser.run(
        "(() => { const picture = document.querySelector('#verify .drawing svg'); picture.focus();"
        " picture.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight', bubbles: true}));"
        " picture.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight', bubbles: true}));"
        " const tip = document.querySelector('#tip'); return [tip.hidden, tip.textContent]; })()"
    )
    assert tip[0] is False
    assert tip[1].startswith("uniform")


def test_every_figure_and_table_has_a_name_for_those_who_listen(show: Any, data: Data) -> None:
    browser = show(data)
    assert browser.run(
        "[...document.querySelectorAll('svg[role=img], .scroll, section, nav, input, select')]"
        ".every((n) => n.getAttribute('aria-label') || n.getAttribute('aria-labelledby') || n.closest('label'))"
    )
    assert browser.run("document.querySelectorAll('h1').length") == 1


@pytest.mark.parametrize("dark", [False, True])
def test_text_stands_out_from_the_page(show: Any, data: Data, dark: bool) -> None:
    """Contrast of at least 4.5 (WCAG 2.1, 1.4.3) for what is read, in light and dark."""
    browser = show(data, dark=dark)
    colours = browser.run(
        "(() => { const of = (selector, what = 'color') => getComputedStyle(document.querySelector(selector))[what];"
        " return [of('body', 'backgroundColor'), of('svg text.tick', 'fill'), ...['body', 'figcaption', '.note', 'summary',"
        " 'li.caution', 'td small', '.made', 'nav a', '.facts dt'].map((s) => of(s))]; })()"
    )

    def light(colour: str) -> float:
        parts = [float(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    paper, *inks = [light(colour) for colour in colours]
    assert (paper < 0.1) == dark
    for ink in inks:
        assert (max(paper, ink) + 0.05) / (min(paper, ink) + 0.05) >= 4.5


def test_stages_of_one_source_and_rules_that_fail_together(show: Any) -> None:
    data = report_data()
    page = show(data)
    named = {name for one, other, _ in data["overlap"] for name in (one, other)}
    assert page.run("document.querySelectorAll('#sources .heat').length") == len(named) ** 2
    assert page.run("document.querySelectorAll('#sources .heat.own').length") == len(named)
    stage = "[...document.querySelectorAll('#sources figure')].find((f) => f.textContent.startsWith('Stage by stage'))"
    before = page.run(f"{stage}.querySelector('.drawing svg').textContent")
    page.run(f"""(() => {{ const one = {stage}.querySelector('select');
        one.value = {json.dumps(data["targets"][0]["name"])}; one.dispatchEvent(new Event('change')); }})()""")
    after = page.run(f"{stage}.querySelector('.drawing svg').textContent")
    kept = f"{data['targets'][0]['kept']['documents']:,}"
    assert kept in after
    assert kept not in before
    assert kept in page.run(f"{stage}.querySelector('table').textContent")
    agreed = page.run("document.querySelector('#sources table[aria-label=\"Votes of ifd_vote\"]').textContent")
    assert "small.ifdlarge.ifd" in agreed
    assert "0.71" in agreed
    assert "64 %" in agreed
    _clean(page)


def test_many_rules_share_a_colour(show: Any) -> None:
    data = report_data()
    for n in range(20):
        for row in (*data["sources"], *data["targets"]):
            row["first_dropped"][f"preset.rule_{n}"] = row["dropped"][f"preset.rule_{n}"] = 3
            row["kept"]["documents"] -= 3
    page = show(data)
    legends = page.run("[...document.querySelectorAll('#sources .legend')].slice(0, 2).map((one) => one.textContent)")
    assert all("other rules" in words and words.count("preset.rule_") == 0 for words in legends)
    _clean(page)


def test_a_study_curated_without_stages_still_shows_its_sources(show: Any) -> None:
    data = report_data()
    for row in (*data["sources"], *data["targets"]):
        del row["stages"], row["alone"]
    data |= {"overlap": [], "duplicates": None}
    page = show(data)
    assert page.run("document.querySelectorAll('#sources figure').length") == 2
    _clean(page)
