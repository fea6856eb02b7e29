from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mixwright.core.errors import StudyError
from mixwright.core.mixture import Mixture
from mixwright.core.run import ModelSize
from mixwright.train import loop, population
from mixwright.train.branch import branch
from mixwright.train.trainer import Job
from mixwright.train.trainers.builtin import Builtin

#: 480 tokens in 15 steps of 2 windows of 16
TINY = Builtin(
    seq_len=16, batch=2, eval_tokens=128, trajectory_evals=5, trajectory_eval_tokens=32, checkpoint_seconds=1e-9,
    precision="fp32", compile="off", device="cpu",
)  # fmt: skip


class Killed(Exception):
    """Stands for a kill: nothing in the trainer catches it."""


def read(out):
    return {name: json.loads((out / f"{name}.json").read_text()) for name in ("observation", "trajectory", "facts")}


def alone(job, corpus, options=TINY):
    """One run by the loop."""
    task = options.task(job.run, corpus=corpus.path, out=job.out, checkpoints=job.checkpoints, parent=job.parent)
    loop.train_task(lambda *_, **__: None, **json.loads(json.dumps(dict(task.arguments))))
    return read(job.out)


def together(jobs, corpus, options=TINY, *, stop_at=None):
    """The group; with ``stop_at`` the process 'dies' after that step. Returns what was told and what the task gave."""
    told = []

    def progress(fraction, **facts):
        told.append(facts)
        if stop_at is not None and len(told) >= stop_at:
            raise Killed

    task = options.together(jobs, corpus=corpus.path)
    try:
        return told, population.train_together(progress, **json.loads(json.dumps(dict(task.arguments))))
    except Killed:
        return told, None


def same(one, other) -> bool:
    """Equal to the last bit in everything but time."""
    return (
        one["observation"] == other["observation"]
        and one["trajectory"] == other["trajectory"]
        and one["facts"]["train_losses"] == other["facts"]["train_losses"]
    )


@pytest.fixture
def runs(make_run):
    """Three runs of one shape that differ in mixture, seed and the text they may draw from."""
    return [
        make_run("one"),
        make_run("two", (0.1, 0.1, 0.8), seed=7),
        replace(make_run("three", (0.0, 0.5, 0.5), seed=2), subsample=0.5),
    ]


def jobs_of(runs, folder, keep=()):
    return [Job(run, folder / run.run_id, keep) for run in runs]


def close(one, other, tolerance: float = 1e-5) -> None:
    """The same run but for rounding: losses within ``tolerance`` nats/token.

    Equality to the last bit (``docs/population.md``) is the library's doing, so no test asks for it.
    """
    mine, yours = (dict(made["observation"]) for made in (one, other))
    for made in ("losses", "bpb"):
        assert mine.pop(made) == pytest.approx(yours.pop(made), abs=tolerance)
    assert mine == yours
    assert [point["tokens"] for point in one["trajectory"]] == [point["tokens"] for point in other["trajectory"]]
    for first, second in zip(one["trajectory"], other["trajectory"], strict=True):
        assert first["losses"] == pytest.approx(second["losses"], abs=tolerance)
    assert one["facts"]["train_losses"] == [
        [step, pytest.approx(loss, abs=tolerance)] for step, loss in other["facts"]["train_losses"]
    ]


def same_tensors(one, other) -> None:
    for part in ("model", "optimizer"):
        mine, yours = (load_file(folder / f"{part}.safetensors") for folder in (one, other))
        assert mine.keys() == yours.keys()
        for name in mine:
            torch.testing.assert_close(mine[name], yours[name], rtol=1e-3, atol=1e-5)


def test_runs_trained_together_are_those_trained_alone(corpus, runs, tmp_path) -> None:
    keep = (256, 384)
    single = [alone(job, corpus) for job in jobs_of(runs, tmp_path / "alone", keep)]
    told, value = together(jobs_of(runs, tmp_path / "together", keep), corpus)
    assert [facts["run"] for facts in told[:4]] == ["two", "three", "one", "two"]
    for run, by_itself in zip(runs, single, strict=True):
        made = read(tmp_path / "together" / run.run_id)
        close(by_itself, made)
        assert value["runs"][run.run_id]["losses"] == made["observation"]["losses"]
        for tokens in keep:
            one, other = (tmp_path / side / run.run_id / f"checkpoint-{tokens}" for side in ("alone", "together"))
            same_tensors(one, other)
            mine, yours = (json.loads((folder / "state.json").read_text()) for folder in (one, other))
            assert mine.keys() == yours.keys()
            assert all(mine[name] == yours[name] for name in ("run", "step", "stream", "compute"))


@pytest.mark.parametrize("size", [ModelSize(24, 2), ModelSize(40, 1)])
def test_after_some_hundred_steps_they_still_are(corpus, make_run, tmp_path, size) -> None:
    options = replace(TINY, lr=0.03, checkpoint_seconds=60, batch=3)
    runs = [replace(make_run(f"r{seed}", tokens=48 * 200, seed=seed), size=size) for seed in range(4)]
    together(jobs_of(runs, tmp_path / "together"), corpus, options)
    made = read(tmp_path / "together" / "r2")
    assert made["observation"]["losses"]["val:a"] < made["observation"]["unigram"]["val:a"] - 0.1
    close(alone(jobs_of(runs, tmp_path / "alone")[2], corpus, options), made, 1e-3)


def test_in_bfloat16_they_agree_within_rounding(corpus, runs, tmp_path) -> None:
    options = replace(TINY, precision="bf16")
    together(jobs_of(runs, tmp_path / "together"), corpus, options)
    for job in jobs_of(runs, tmp_path / "alone"):
        close(alone(job, corpus, options), read(tmp_path / "together" / job.run.run_id), 2e-3)


@pytest.mark.parametrize("stops", [[1], [7], [14], [3, 2, 5]])
def test_killed_at_any_step_the_group_goes_on_to_the_same_bits(corpus, runs, tmp_path, stops) -> None:
    together(jobs_of(runs, tmp_path / "whole"), corpus)
    killed = jobs_of(runs, tmp_path / "killed")
    for stop in stops:
        assert len(together(killed, corpus, stop_at=stop)[0]) == stop
    told, _ = together(killed, corpus)
    assert 0 < len(told) < 15
    assert all(same(read(tmp_path / "whole" / run.run_id), read(tmp_path / "killed" / run.run_id)) for run in runs)


def test_a_kill_while_checkpoints_are_written_leaves_a_step_that_all_have(corpus, runs, tmp_path) -> None:
    jobs = jobs_of(runs, tmp_path / "killed")
    together(jobs, corpus, stop_at=8)
    shutil.rmtree(jobs[1].out / ".resume" / "0000000008")  # killed after the first run's, before the second's
    together(jobs, corpus)
    together(jobs_of(runs, tmp_path / "whole"), corpus)
    assert all(same(read(tmp_path / "whole" / run.run_id), read(job.out)) for run, job in zip(runs, jobs, strict=True))


def test_an_interrupted_run_goes_on_alone_and_a_lone_one_in_a_group(corpus, runs, tmp_path) -> None:
    whole, changed = jobs_of(runs, tmp_path / "whole"), jobs_of(runs, tmp_path / "changed")
    together(whole, corpus)
    together(changed, corpus, stop_at=5)
    alone(changed[0], corpus)  # finishes one by itself
    shutil.rmtree(changed[2].out)  # another begins anew
    told, value = together(changed, corpus)
    assert {facts["run"] for facts in told} == {"two", "three"}
    assert set(value["runs"]) == {"one", "two", "three"}
    for one, other in zip(whole, changed, strict=True):
        close(read(one.out), read(other.out))


def test_branches_start_from_their_parents(corpus, make_run, tmp_path) -> None:
    parent = make_run("parent")
    alone(Job(parent, tmp_path / "parent", (384,)), corpus)
    mixtures = [Mixture(("a", "b", "c"), np.array(weights)) for weights in ((0.0, 0.0, 1.0), (0.5, 0.3, 0.2))]
    branches = [branch(parent, 384, mixture, run_id=f"b{n}") for n, mixture in enumerate(mixtures)]
    jobs = [Job(run, tmp_path / run.run_id, (), tmp_path / "parent") for run in branches]
    told, _ = together(jobs, corpus)
    assert len(told) == 3
    for job in jobs:
        close(alone(replace(job, out=tmp_path / "alone" / job.run.run_id), corpus), read(job.out))
    mine, yours = (read(tmp_path / name)["observation"]["losses"] for name in ("parent", "b1"))
    assert mine == pytest.approx(yours, abs=1e-5)


@pytest.mark.parametrize("where", ["loss", "diverged", "evaluation"])
def test_a_run_that_fails_is_written_and_the_others_do_not_notice(corpus, runs, tmp_path, monkeypatch, where) -> None:
    together(jobs_of(runs, tmp_path / "healthy"), corpus)

    def broken(self, loss, *, original=loop.Training.stepped):
        sick = self.run.run_id == "two" and self.step == 6
        if sick and where == "loss":
            loss = float("nan")
        if sick and where == "diverged":
            return "it diverged"
        return original(self, loss)

    monkeypatch.setattr(loop.Training, "stepped", broken)
    if where == "evaluation":
        measure = loop.Training._measure
        monkeypatch.setattr(
            loop.Training, "_measure",
            lambda self, metrics: measure(self, metrics) | ({"val:a": float("nan")} if self.run.run_id == "two" else {}),
        )  # fmt: skip
    told, value = together(jobs_of(runs, tmp_path / "sick"), corpus)
    assert value["runs"]["two"]["status"] == "failed"
    assert read(tmp_path / "sick" / "two")["observation"]["losses"] == {}
    assert "two" not in {facts["run"] for facts in told[7:]}
    for name in ("one", "three"):
        assert same(read(tmp_path / "healthy" / name), read(tmp_path / "sick" / name))


def test_numbers_that_are_not_finite_reach_no_other_run(corpus, runs, tmp_path, monkeypatch) -> None:
    together(jobs_of(runs, tmp_path / "healthy"), corpus)
    learn = population.Population._learn

    def poisoned(self, step):
        if step == 4:
            with torch.no_grad():
                self.stack.parameters["blocks.0.gate_up"][1, 3] = float("inf")
        return learn(self, step)

    monkeypatch.setattr(population.Population, "_learn", poisoned)
    _, value = together(jobs_of(runs, tmp_path / "sick"), corpus)
    assert value["runs"]["two"]["status"] == "failed"
    assert "nan at step 5" in value["runs"]["two"]["reason"]
    for name in ("one", "three"):
        assert same(read(tmp_path / "healthy" / name), read(tmp_path / "sick" / name))


def test_when_all_fail_the_group_ends(corpus, runs, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(loop.Training, "stepped", lambda self, loss: "it diverged")
    told, value = together(jobs_of(runs, tmp_path), corpus)
    assert not told
    assert {one["reason"] for one in value["runs"].values()} == {"it diverged"}


def test_finished_runs_are_left_as_they_are(corpus, runs, tmp_path) -> None:
    jobs = jobs_of(runs, tmp_path)
    _, first = together(jobs, corpus)
    told, again = together(jobs, corpus)
    assert not told
    assert again == first


def test_cpu_seconds_are_shared(corpus, runs, tmp_path) -> None:
    together(jobs_of(runs, tmp_path), corpus)
    spent = [read(tmp_path / run.run_id)["facts"]["cpu_seconds"] for run in runs]
    assert 0 < spent[0] <= max(spent) < 2 * min(spent)


def test_no_corpus_is_told(runs, tmp_path) -> None:
    task = TINY.together(jobs_of(runs, tmp_path), corpus=None)
    with pytest.raises(StudyError, match="needs tokens"):
        population.train_together(lambda *_, **__: None, **task.arguments)
