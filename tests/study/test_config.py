"""A study is read once, strictly: whatever is wrong is one sentence with its line and the way out."""

from pathlib import Path

import pytest

from mixwright.core.errors import StudyError
from mixwright.study.config import read_study

GOOD = """\
schema: mixwright/study/1
sources:
  code: {path: code.jsonl}
  prose: {path: prose.jsonl}
targets:
  help: {path: help.jsonl}
curate:
  rules:
    chars: {min: 200}
objective:
  metrics: {"target:help": 1, "val:prose": 3}
  floors: 0.05
  ceilings: {code: 0.9}
verify:
  guess: {code: 0.3, prose: 0.7}
seed: 3
"""


def write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "study.yaml"
    file.write_text(text)
    return file


def test_a_good_study_is_read_with_defaults(tmp_path: Path) -> None:
    study = read_study(write(tmp_path, GOOD))
    assert study.domains == ("code", "prose")
    assert study.metrics == ("val:code", "val:prose", "target:help")
    objective = study.objective.over(study.domains)
    assert dict(objective.floors) == {"code": 0.05, "prose": 0.05}
    assert dict(objective.ceilings) == {"code": 0.9}
    assert dict(objective.metrics) == {"target:help": 0.25, "val:prose": 0.75}
    assert type(study.trainer).__name__ == "Builtin"
    assert study.folder == tmp_path


def test_without_metrics_the_objective_is_the_mean_of_the_targets(tmp_path: Path) -> None:
    text = GOOD.replace('  metrics: {"target:help": 1, "val:prose": 3}\n', "")
    study = read_study(write(tmp_path, text))
    assert study.metric_weights(study.metrics) == {"target:help": 1.0}
    assert study.metric_weights(("val:code", "val:prose")) == {"val:code": 0.5, "val:prose": 0.5}


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("  rules:", "  ruels:", r"study.yaml:8: there is no setting 'ruels' in curate. Did you mean 'rules'"),
        ("seed: 3", "sede: 3", r"study.yaml:16: .*'sede'. Did you mean 'seed'"),
        ("chars: {min: 200}", "chars: {mni: 200}", r"study.yaml:9: .*'mni' in curate.rules.chars. Did you mean 'min'"),
        ("chars: {min: 200}", "chars: {min: many}", r"study.yaml:9: curate.rules.chars: A bound is a number .*'many'"),
        ("chars: {min: 200}", "chars: {min: 200, max: 2}", r"study.yaml:9: curate.rules.chars: A rule's min must not be above"),
        ("curate:\n", "curate:\n  dedup: {near: {threshold: 2}}\n", r"study.yaml:8: curate.dedup.near.threshold is 2; it must"),
        ("curate:\n", "curate:\n  keep: 'chars > '\n", r"study.yaml:7: curate: keep: .*at character 9"),
        ("chars: {min: 200}", "cahrs: {min: 200}", r"cahrs"),
        ("seed: 3", "seed: 3\nproxy: {tokens: 0}", r"study.yaml:17: proxy.tokens is 0; it must be .*greater than or equal to 1"),
        ("seed: 3", "seed: 3\nproxy: {sizes: [big]}", r"WIDTHxLAYERS, such as 64x2; got 'big'"),
        ("seed: 3", "seed: 3\nfinal_phase: {start: 1.5}", r"study.yaml:17: final_phase.start is 1.5; it must be less than 1"),
        ("seed: 3", "seed: 3\ntrainer: {name: bultin}", r"study.yaml:17: .*'bultin'.*Did you mean 'builtin'"),
        ("seed: 3", "seed: 3\ntrainer: {batchs: 4}", r"study.yaml:17: .*'batchs' in trainer. Did you mean 'batch'"),
        ("seed: 3", "seed: 3\nlaw: {forms: [expo]}", r"laws plug-in called 'expo'"),
        ("seed: 3", "seed: 3\nexport: [megatorn]", r"Did you mean 'megatron'"),
        ("seed: 3", "seed: -1", r"study.yaml:16: seed must lie in"),
        ("seed: 3", "seed: 3\nseed: 4", r"study.yaml:17: 'seed' stands twice \(first in line 16\)"),
        ("seed: 3", "seed: 3\ncurrent: {code: 0.5, prose: 0.6}", r"study.yaml:17: current: Weights must sum to 1; .* 1.1"),
        ('"target:help": 1', '"target:hlep": 1', r"study.yaml:11: .*'target:hlep'.*Did you mean 'target:help'"),
        ("{code: 0.9}", "{cod: 0.9}", r"study.yaml:13: .*the domain 'cod'.*Did you mean 'code'"),
        ("guess: {code: 0.3, prose: 0.7}", "guess: {code: 0.3}", r"verify.guess: Weights must sum to 1; they sum to 0.3"),
        ("  code: {path: code.jsonl}", "  no: {path: code.jsonl}", r"study.yaml:3: the key 'no' is read as a bool"),
        ("  code: {path: code.jsonl}", "  code: {}", r"study.yaml:3: sources.code lacks 'path'"),
        ("mixwright/study/1", "mixwright/study/7", r"study.yaml:1: this study is in the form 'mixwright/study/7'"),
        ("  code: {path: code.jsonl}", "  code: {path: [", r"study.yaml:5: this is not valid YAML"),
        ("sources:\n  code: {path: code.jsonl}\n  prose: {path: prose.jsonl}\n", "", r"neither sources"),
        ("seed: 3", "runs: {path: r.csv}", r"study.yaml:16: a study has sources .* or runs"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert old in GOOD
    with pytest.raises(StudyError, match=says):
        read_study(write(tmp_path, GOOD.replace(old, new)))


def test_a_missing_or_binary_study_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="mixwright init FOLDER"):
        read_study(tmp_path / "study.yaml")
    (tmp_path / "study.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(StudyError, match="not a UTF-8 text file"):
        read_study(tmp_path / "study.yaml")
    with pytest.raises(StudyError, match="must be a mapping"):
        read_study(write(tmp_path, "- a\n- b\n"))
