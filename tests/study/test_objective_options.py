"""All an objective can say in a study file, and how a wrong line is pointed at."""

from __future__ import annotations

from pathlib import Path

import pytest

from mixwright.core.errors import StudyError
from mixwright.study.config import Study, read_study

HEAD = """\
sources:
  code: {path: code.txt}
  prose: {path: prose.txt}
targets:
  help: {path: help.txt}
objective:
"""


def study(tmp_path: Path, text: str) -> Study:
    for name in ("code", "prose", "help"):
        (tmp_path / f"{name}.txt").write_text("words\n")
    (tmp_path / "study.yaml").write_text(HEAD + text)
    return read_study(tmp_path / "study.yaml")


FULL = """\
  metrics: {"target:help": 1}
  fixed: {code: 0.3}
  within: {prior: natural, kl: 0.2, l1: 0.5}
  costs: {code: 2.0, prose: 0.5}
  cost_cap: 1.5
  budgets:
    "val:prose": {percent: 1}
    general: {nats: 0.02, metrics: {"val:code": 1, "val:prose": 2}}
  risk: 0.9
  trust: 0.05
"""


def test_every_constraint_can_be_written(tmp_path: Path) -> None:
    objective = study(tmp_path, FULL).objective.over(("code", "prose"))
    assert dict(objective.fixed) == {"code": 0.3}
    assert objective.within is not None
    assert (objective.within.prior, objective.within.kl, objective.within.l1) == ("natural", 0.2, 0.5)
    assert (objective.cost_cap, objective.risk, objective.trust) == (1.5, 0.9, 0.05)
    assert objective.budgets["val:prose"].percent == 1
    assert dict(objective.budgets["general"].metrics) == pytest.approx({"val:code": 1 / 3, "val:prose": 2 / 3})
    own = study(tmp_path, "  within: {prior: {code: 0.4, prose: 0.6}, l1: 0.1}\n").objective.over(("code", "prose"))
    assert own.within is not None
    assert own.within.prior == {"code": 0.4, "prose": 0.6}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("  fixed: {cod: 0.3}\n", r"study.yaml:7.*'cod', which the study does not have. Did you mean 'code'"),
        ("  within: {priors: natural, kl: 1}\n", "no setting 'priors' in objective.within. Did you mean 'prior'"),
        ("  within: {prior: natural}\n", "needs kl .* or l1"),
        ("  within: {prior: {code: 0.4}, l1: 1}\n", "prior is no mixture: Weights must sum to 1"),
        ("  within: {prior: {cod: 1.0}, l1: 1}\n", "names the domain 'cod'"),
        ("  budgets: {\"val:prose\": {nat: 1}}\n", "no setting 'nat' in objective.budgets.val:prose. Did you mean 'nats'"),
        ("  budgets: {\"val:pros\": {nats: 1}}\n", "metric 'val:pros', which the study does not have. Did you mean 'val:prose'"),
        ("  budgets: {\"val:prose\": {nats: 1, percent: 2}}\n", "exactly one of nats, percent and at_most"),
        ("  risk: 0.3\n", "study.yaml:7: objective.risk is 0.3; it must be greater than 0.5"),
        ("  cost_cap: 1\n", "cost_cap must be .* with costs beside it"),
        ("  costs: {prosa: 1}\n", "names the domain 'prosa'"),
    ],
)  # fmt: skip
def test_a_wrong_line_is_pointed_at(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=words):
        study(tmp_path, text)
