"""What the study may say of rules: presets, votes, overrides, names; everything else is refused before data is read."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from mixwright.core.errors import StudyError
from mixwright.curate.expressions import Quantile
from mixwright.curate.presets import preset, presets
from mixwright.curate.rules import Bounds, Options, Overrides

MODELS: dict[str, Any] = {"perplexity": {"model": "a-folder"}, "ifd": {"model": "a-folder"}}


@pytest.mark.parametrize("name", presets())
def test_presets_load_with_their_sources(name: str) -> None:
    options = Options(presets=(name,), measure=MODELS)
    assert options.conditions == tuple(f"{name}.{rule.name}" for rule in preset(name))
    assert all(rule.source for rule in preset(name))
    told = {row["rule"]: row for row in options.told()}
    assert all(told[rule]["source"] and told[rule]["text"] for rule in options.conditions)
    measured = {column for entry in options.measured for column in entry.columns}
    assert set(options.columns_needed) <= measured


def test_thresholds_of_the_papers() -> None:
    gopher = {rule.name: rule.keep for rule in preset("gopher")}
    assert gopher["words"] == "50 <= words <= 100000"
    assert [gopher[f"duplicate_{n}gram"].split()[-1] for n in range(5, 11)] == [
        "0.15",
        "0.14",
        "0.13",
        "0.12",
        "0.11",
        "0.10",
    ]
    assert [rule.keep for rule in preset("bettermixture")] == [
        "20 <= chars <= 2000", "lang_score > 0.2", "20 <= lm_perplexity <= 1000", "0.2 <= ifd_loss <= 0.9"
    ]  # fmt: skip


def test_a_keep_without_a_name_is_a_rule_per_part() -> None:
    options = Options(keep="words > 2  and 20 <= chars <= 2000 and (digit_ratio < .5 or words > 100)")
    assert options.conditions == ("words > 2", "20 <= chars <= 2000", "(digit_ratio < .5 or words > 100)")
    assert options.ruleset()["words > 2"].signal == "words"
    assert Options(keep={"long": "words > 2 and chars > 3"}).conditions == ("long",)


def test_the_order_of_the_waterfall() -> None:
    options = Options(presets=("code",), rules={"words": Bounds(1)}, keep={"a": "chars > 1"})
    assert options.waterfall == (
        "unreadable", "code.longest_line", "code.mean_line", "code.alnum", "words", "a", "shares_13gram", "exact_duplicate"
    )  # fmt: skip
    assert options.columns_needed == ("longest_line", "chars", "lines", "alnum_ratio", "words")


def test_rules_of_a_preset_are_changed_and_switched_off() -> None:
    options = Options(presets=("code",), rules={"code.alnum": Bounds(0.1), "code.longest_line": None})
    assert options.conditions == ("code.mean_line", "code.alnum")
    assert options.ruleset()["code.alnum"].text == "alnum_ratio >= 0.1"
    assert "longest_line" not in options.columns_needed
    with pytest.raises(StudyError, match="looks at several columns"):
        Options(presets=("code",), rules={"code.mean_line": Bounds(0.1)})


def test_domains_and_languages_replace_and_add() -> None:
    options = Options(
        rules={"words": Bounds(5), "chars": Bounds(20)},
        keep="digit_ratio < 0.9",
        domains={"code": Overrides(rules={"words": None}, keep="longest_line < 1000", presets=("code",))},
        languages={"zh": Overrides(rules={"words": Bounds(50)})},
    )
    assert list(options.ruleset()) == ["words", "chars", "digit_ratio < 0.9"]
    assert list(options.ruleset("code")) == [
        "chars",
        "code.longest_line",
        "code.mean_line",
        "code.alnum",
        "longest_line < 1000",
    ]
    assert options.ruleset("web", "zh")["words"].min == 50
    assert next(iter(options.ruleset("code", "zh"))) == "words"
    assert "lang" in options.columns_needed
    places = {row["rule"]: row["places"] for row in options.told()}
    assert places["words"] == ["domains.code", "languages.zh"]
    assert places["chars"] == []


def test_a_vote() -> None:
    scorers = ("chars", "words", "digit_ratio", "alnum_ratio")
    assert [Bounds(1, columns=scorers[:n]).votes for n in (1, 2, 3, 4)] == [1, 2, 2, 3]
    assert Bounds(1, columns=scorers, at_least="all").votes == 4
    assert Bounds(1, columns=scorers, at_least=1).votes == 1
    options = Options(rules={"vote": Bounds(0.2, 0.9, columns=scorers)})
    assert options.columns_needed == scorers
    assert options.ruleset()["vote"].signal is None


def test_percentiles_as_bounds() -> None:
    options = Options(rules={"chars": Bounds("p25", "p75"), "words": Bounds("p5 per all", 900)})
    assert options.quantiles == (
        Quantile(25, "chars", "domain"), Quantile(75, "chars", "domain"), Quantile(5, "words", "all")
    )  # fmt: skip


def test_signals_of_the_study_have_names_of_their_own() -> None:
    options = Options(
        measure={"small": {"signal": "perplexity", "model": "a"}, "large": {"signal": "perplexity", "model": "b"}},
        keep="small.lm_perplexity < 2 * large.lm_perplexity",
    )
    assert options.columns_needed == ("small.lm_perplexity", "large.lm_perplexity")
    assert {entry.name for entry in options.measured} >= {"small", "large"}
    assert "perplexity" not in {entry.name for entry in options.measured}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"presets": ("gofer",)}, "no preset 'gofer'. Did you mean 'gopher'?"),
        ({"rules": {"wrods": Bounds(1)}}, "No signal measures 'wrods', named in rules. Did you mean 'words'?"),
        ({"rules": {"vote": Bounds(1, columns=("words", "wrods"))}}, "No signal measures 'wrods'"),
        ({"rules": {"words": None}}, "rules: there is no rule 'words' to switch off."),
        ({"rules": {"words": Bounds(1)}, "keep": {"words": "words > 1"}}, "'words' is a rule under rules as well"),
        ({"keep": {"short": "wrods < 3"}}, "keep.short: 'wrods < 3', at character 1"),
        ({"domains": {"code": Overrides(keep="wrods < 3")}}, "domains.code.keep"),
        ({"domains": {"code": Overrides(rules={"wrods": Bounds(1)})}}, "named in domains.code.rules"),
        ({"languages": {"zz": Overrides(keep="words < 3")}}, "lang is never 'zz'"),
        ({"keep": "lm_perplexity < 3"}, "the signal perplexity needs options; list it under curate.measure"),
        ({"measure": {"perplexty": {}}}, "measure.perplexty: .*Did you mean 'perplexity'?"),
        ({"measure": {"perplexity": {"modl": 1}}}, "has no option 'modl'. Did you mean 'model'?"),
        ({"measure": {"a b": {"signal": "perplexity"}}}, "cannot name an entry"),
    ],
)
def test_refused(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(
        StudyError, match=sentence.replace("?", r"\?").replace(".*", "@").replace(".", r"\.").replace("@", ".*")
    ):
        Options(**given)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({}, "needs a finite min"),
        ({"min": 3, "max": 2}, "min must not be above its max; got 3"),
        ({"min": "p75", "max": "p25"}, "min must not be above its max; got p75"),
        ({"min": "q25"}, "a number or a percentile such as p25"),
        ({"min": "p25 per page"}, "a number or a percentile such as p25"),
        ({"min": "p101"}, "a number or a percentile such as p25"),
        ({"min": 1, "at_least": 2}, "name its columns"),
        ({"min": 1, "at_least": 3, "columns": ("words", "chars")}, "must lie in 1..2"),
    ],
)
def test_refused_bounds(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(StudyError, match=sentence):
        Bounds(**given)


def test_options_survive_json() -> None:
    options = Options(
        presets=("code",),
        rules={"words": Bounds("p5", 9), "code.alnum": None, "vote": Bounds(1, columns=("words", "chars"))},
        keep={"a": "chars > 1"},
        domains={"d": Overrides(rules={"words": None}, keep="words > 3")},
    )
    assert Options.from_dict(json.loads(json.dumps(options.to_dict()))) == options


def test_reading_rules_loads_nothing_heavy() -> None:
    code = (
        "import sys; from mixwright.curate.rules import Bounds, Options, Overrides; "
        "Options(presets=('gopher',), keep='words > p5', languages={'zh': Overrides(keep='words > 1')}); "
        "print([name for name in ('numba', 'pyarrow', 'polars', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def _shown() -> list[str]:
    page = (Path(__file__).parents[2] / "docs" / "curation-rules.md").read_text()
    return re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)


@pytest.mark.parametrize("text", _shown())
def test_what_the_page_shows_is_understood(text: str) -> None:
    options = Options.from_dict(yaml.safe_load(text)["curate"])
    assert options.conditions
    assert Options.from_dict(json.loads(json.dumps(options.to_dict()))) == options


def test_presets_stand_on_the_page() -> None:
    page = (Path(__file__).parents[2] / "docs" / "curation-rules.md").read_text()
    assert all(f"`{name}`" in page for name in presets())
