from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mixwright.core.mixture import Mixture
from mixwright.core.run import ModelSize
from mixwright.engine.local import LocalEngine
from mixwright.train.branch import branch
from mixwright.train.grouping import GPU_MOST, dealt, fitting, has_gpu, largest, member_bytes, split
from mixwright.train.model import Model
from mixwright.train.sweep import sweep
from mixwright.train.trainer import FACTS, Job
from mixwright.train.trainers.builtin import Builtin

SMALL = ModelSize(8, 1)


def jobs_of(runs) -> list[Job]:
    return [Job(run, Path(run.run_id)) for run in runs]


def names(groups) -> list[list[str]]:
    return [[job.run.run_id for job in group] for group in groups]


@pytest.mark.parametrize(
    ("jobs", "most", "slots"), [(19, 4, 2), (16, 16, 2), (3, 8, 2), (5, 2, 3), (1, 4, 2), (64, 7, 4)]
)
def test_groups_are_even_and_a_multiple_of_the_slots(make_run, jobs, most, slots) -> None:
    given = jobs_of([make_run(f"r{n}") for n in range(jobs)])
    groups = dealt(given, most, slots)
    assert [job for group in groups for job in group] == given
    lengths = [len(group) for group in groups]
    assert max(lengths) <= most
    assert max(lengths) - min(lengths) <= 1
    assert len(groups) % slots == 0 or len(groups) == jobs


def test_only_runs_that_make_their_steps_together_are_grouped(make_run) -> None:
    parent = make_run("parent")
    other = Mixture.uniform(("a", "b", "c"))
    runs = [
        make_run("r0"),
        make_run("long", tokens=960),
        make_run("r1", (0.1, 0.1, 0.8), seed=3),
        replace(make_run("wide"), size=ModelSize(16, 1)),
        branch(parent, 384, other, run_id="b0"),
        replace(make_run("r2"), subsample=0.5),
        branch(parent, 384, other, run_id="b1"),
        branch(parent, 384, other, run_id="annealed", rate="anneal"),
    ]
    groups = split(jobs_of(runs), slots=1, tokens=32, gpu=False, choice="auto")
    assert names(groups) == [["r0", "r1", "r2"], ["long"], ["wide"], ["b0", "b1"], ["annealed"]]


def test_together_only_where_it_was_measured_to_be_faster(make_run) -> None:
    assert largest(SMALL, 32, gpu=False) == 16
    assert largest(ModelSize(48, 1), 256, gpu=False) == 8
    assert largest(ModelSize(48, 1), 4 * 128, gpu=False) == 1
    assert largest(ModelSize(128, 2), 4 * 128, gpu=False) == 1
    assert largest(ModelSize.parse("1M"), 8 * 256, gpu=True) == GPU_MOST
    assert largest(ModelSize.parse("70M"), 8 * 256, gpu=True) == 1


@pytest.mark.parametrize(("choice", "groups"), [("auto", 4), ("off", 4), ("on", 2)])
def test_the_choice_is_kept_to(make_run, choice, groups) -> None:
    runs = [replace(make_run(f"r{n}"), size=ModelSize(128, 2)) for n in range(4)]
    assert len(split(jobs_of(runs), slots=2, tokens=512, gpu=False, choice=choice)) == groups


@pytest.mark.parametrize("alone", [{"micro_batch": 1}, {"mask_documents": True}, {"activation_checkpointing": True}])
def test_what_only_runs_alone_can_do_keeps_them_alone(make_run, alone) -> None:
    options = Builtin(seq_len=16, batch=2, device="cpu")
    jobs = jobs_of([make_run(f"r{n}") for n in range(4)])
    assert len(options.groups(jobs, slots=1)) == 1
    assert len(replace(options, **alone).groups(jobs, slots=1)) == 4


def test_a_driver_without_a_device_is_no_gpu(monkeypatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert not has_gpu("auto")
    assert not has_gpu("cpu")
    assert has_gpu("cuda")


def test_population_is_no_part_of_a_runs_key() -> None:
    assert Builtin(population="on").identity() == Builtin(population="off").identity()


@pytest.mark.parametrize(("size", "tokens"), [(ModelSize(16, 1), (4, 32)), (ModelSize(64, 3), (2, 64))])
def test_the_memory_planned_is_what_a_step_keeps(size, tokens) -> None:
    """Counted: every tensor saved for the way back, each storage once, against the plan."""
    import numpy as np

    vocab = 128
    model, held = Model(size, np.full(vocab, 1 / vocab), 0), {}

    def pack(tensor):
        held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    ids = torch.randint(0, vocab, tokens)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(ids, ids, mean=True)
    parameters = sum(p.numel() for p in model.parameters())
    known = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept = sum(storage.nbytes() for at, storage in held.items() if at not in known)
    planned = member_bytes(size, ids.numel(), vocab=vocab)
    assert 0.9 * (16 * parameters + kept) < planned < 1.6 * (16 * parameters + kept)


def test_what_fits_grows_with_the_memory() -> None:
    size = ModelSize.parse("1M")
    counts = [fitting(size, 2048, vocab=8192, gpu_bytes=gib << 30, head_bytes=512 << 20) for gib in (1, 16, 80)]
    assert counts[0] == 1
    assert counts[0] < counts[1] < counts[2]
    each = member_bytes(size, 2048, vocab=8192)
    assert counts[2] * each + 3 * (512 << 20) <= 0.8 * (80 << 30)


def test_a_sweep_trains_groups_and_gives_what_it_gives_without(corpus, make_run, workspace, tmp_path) -> None:
    options = Builtin(
        seq_len=16,
        batch=2,
        eval_tokens=64,
        trajectory_evals=2,
        trajectory_eval_tokens=32,
        device="cpu",
        precision="fp32",
    )
    runs, told = [make_run(f"r{n}", seed=n) for n in range(3)], set()
    together = sweep(
        runs, options, workspace=workspace, corpus=corpus, engine=LocalEngine(1),
        on_progress=lambda name, fraction, facts: told.add(name),
    )  # fmt: skip
    assert told == {"r0", "r1", "r2"}
    for run, finished in zip(runs, together, strict=True):
        alone = options.task(run, corpus=corpus.path, out=tmp_path / run.run_id).call(lambda *_, **__: None)
        assert dict(finished.observation.losses) == pytest.approx(alone["losses"], abs=1e-5)
        assert finished.artifact.json(FACTS)["together"] == 3
