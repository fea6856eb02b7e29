"""The runs a study wants: how they repeat their domains, and where they are logged."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_study import STUDY, WORDS, documents, write_jsonl

from mixwright.core.errors import StudyError
from mixwright.study.config import read_study
from mixwright.study.epochs import epochs_of
from mixwright.study.flow import Flow
from mixwright.study.listener import Listener

pytest.importorskip("tokenizers")


class Notes(Listener):
    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


def flow_of(folder: Path, **replaced: str) -> Flow:
    for seed, kind in enumerate(WORDS):
        write_jsonl(folder / "data" / f"{kind}.jsonl", documents(kind, 40, seed))
    write_jsonl(folder / "data" / "targets" / "letters.jsonl", documents("prose", 20, 90))
    lines = [line for line in STUDY.splitlines() if line.split(":")[0] not in replaced]
    lines += [f"{key}: {value}" for key, value in replaced.items()]
    (folder / "study.yaml").write_text("\n".join(lines) + "\n")
    return Flow(read_study(folder / "study.yaml"), listener=Notes())


def test_runs_repeat_as_the_run_of_the_budget_will(tmp_path: Path) -> None:
    flow = flow_of(tmp_path, trainer="{name: toy}")
    runs = flow.trainings.of_sweep()
    assert {run.subsample for run in runs} == {2560 / 50_000}
    target = {n: 50_000 * w / flow.supply[n] for n, w in runs[1].schedule.mixture().to_dict().items()}
    assert epochs_of(runs[1], flow.supply) == pytest.approx(target)
    flow.make("sweep")
    assert any(text.startswith("Epochs of a whole run at most: ") for text in flow.listener.said)  # type: ignore[attr-defined]


def test_matching_can_be_left_out_and_excludes_the_laws_own_correction(tmp_path: Path) -> None:
    flow = flow_of(tmp_path, proxy="{sizes: [16x1], tokens: 2560, match_repetition: false}")
    assert {run.subsample for run in flow.trainings.of_sweep()} == {1.0}
    with pytest.raises(StudyError, match=r"law\.repetition.*repeat as the target run will"):
        flow_of(tmp_path, law="{repetition: true}")


def test_every_run_is_logged_where_the_study_says(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    flow = flow_of(tmp_path, trainer="{name: toy}", logging="{tensorboard: true}")
    flow.make("sweep")
    logged = {path.name for path in (tmp_path / "logs" / "tensorboard").iterdir()}
    assert logged == {run.run_id for run in flow.trainings.of_sweep()}


def test_branches_that_anneal_are_compared_with_a_run_that_anneals(tmp_path: Path) -> None:
    flow = flow_of(tmp_path, trainer="{name: toy}", final_phase="{rate: anneal, weights: {prose: 1}}", verify="null")
    base, goes_on, upsampled = flow.trainings.of_branch()
    assert (goes_on.rate, upsampled.rate, base.rate) == ("anneal", "anneal", "continue")
    assert goes_on.parent == upsampled.parent == base.run_id
    assert goes_on.schedule.mixture() == base.schedule.mixture()
    assert upsampled.schedule.phases[-1].mixture["prose"] == 1
    flow.make("branch")
    labels = [curve["branch"] for curve in flow.make("branch").json("final_phase.json")["trajectories"]]
    assert labels == ["continued", "upsampled"]


def test_the_page_says_how_proxies_repeat(tmp_path: Path) -> None:
    flow = flow_of(tmp_path, trainer="{name: toy}", verify="null", final_phase="null", export="[]")
    flow.run()
    assert "drew from 5.12% of each domain's unique tokens" in (tmp_path / "report.html").read_text()
