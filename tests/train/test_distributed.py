"""Several ranks, by gloo on the CPU: what one rank does, up to the order of float32 sums."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mixwright.core.errors import StudyError
from mixwright.stream.order import order
from mixwright.train import distributed, loop, windows_log
from mixwright.train.trainers.builtin import Builtin

#: 960 tokens in 15 steps of 4 windows of 16
TINY = Builtin(
    seq_len=16, batch=4, eval_tokens=128, trajectory_evals=5, trajectory_eval_tokens=32, checkpoint_seconds=1e-9,
    log_windows=True,
)  # fmt: skip
#: How far a loss after 15 steps may be from that of one rank, nats/token: float32 sums in another order (docs/training.md).
TOLERANCE = 2e-5


def arguments(run, corpus, out: Path, options: Builtin) -> dict:
    out.mkdir(parents=True, exist_ok=True)
    return dict(options.task(run, corpus=corpus.path, out=out, checkpoints=(384,)).arguments)


def on_ranks(folder: Path, *trainings: dict, ranks: int = 2) -> None:
    """Train what is listed on that many processes."""
    plan = folder / "plan.json"
    plan.write_text(json.dumps(trainings))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    script = Path(__file__).with_name("ranks_for_tests.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(
        [*command, str(script), str(plan)], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


def made(out: Path) -> dict:
    return {name: json.loads((out / f"{name}.json").read_text()) for name in ("observation", "trajectory", "facts")}


def assert_close(one: dict, other: dict) -> None:
    for name, loss in one["observation"]["losses"].items():
        assert other["observation"]["losses"][name] == pytest.approx(loss, abs=TOLERANCE)
    first, second = (np.array(made["facts"]["train_losses"]) for made in (one, other))
    assert first.shape == second.shape
    assert np.abs(first - second).max() < TOLERANCE
    assert [point["tokens"] for point in one["trajectory"]] == [point["tokens"] for point in other["trajectory"]]


def test_two_ranks_make_the_run_that_one_makes_and_each_goes_on_from_the_other(corpus, make_run, tmp_path) -> None:
    run = make_run(tokens=960)
    whole = arguments(run, corpus, tmp_path / "one", TINY)
    loop.train_task(lambda *_, **__: None, **whole)
    one = made(tmp_path / "one")

    begun = {"stop_at": 7}
    handed_over = {name: arguments(run, corpus, tmp_path / name, TINY) for name in ("1-2", "2-1", "ddp-fsdp", "fsdp-1")}
    stopped_alone(handed_over["1-2"], 7)
    sharded = replace(TINY, parallel="fsdp")
    on_ranks(
        tmp_path,
        {"arguments": arguments(run, corpus, tmp_path / "ddp", TINY)},
        {"arguments": arguments(run, corpus, tmp_path / "fsdp", sharded)},
        {"arguments": arguments(run, corpus, tmp_path / "micro", replace(TINY, micro_batch=1))},
        {"arguments": arguments(run, corpus, tmp_path / "fsdp-micro", replace(sharded, micro_batch=1))},
        {"arguments": arguments(run, corpus, tmp_path / "masked", replace(TINY, mask_documents=True))},
        {"arguments": handed_over["1-2"]},
        {"arguments": handed_over["2-1"], **begun},
        {"arguments": handed_over["ddp-fsdp"], **begun},
        {"arguments": arguments(run, corpus, tmp_path / "ddp-fsdp", sharded)},
        {"arguments": arguments(run, corpus, tmp_path / "fsdp-1", sharded), **begun},
    )
    for name in ("2-1", "fsdp-1"):
        loop.train_task(lambda *_, **__: None, **handed_over[name])
    masked = arguments(run, corpus, tmp_path / "masked-one", replace(TINY, mask_documents=True))
    loop.train_task(lambda *_, **__: None, **masked)
    assert_close(made(tmp_path / "masked-one"), made(tmp_path / "masked"))
    assert made(tmp_path / "masked")["facts"]["train_losses"] != one["facts"]["train_losses"]
    for name in ("ddp", "fsdp", "micro", "fsdp-micro", *handed_over):
        assert_close(one, made(tmp_path / name))
        assert windows_log.read(tmp_path / name) == windows_log.read(tmp_path / "one")
        shapes = {k: v.shape for k, v in checkpoint_of(tmp_path / name).items()}
        assert shapes == {k: v.shape for k, v in checkpoint_of(tmp_path / "one").items()}
    assert made(tmp_path / "ddp")["facts"]["compute"]["ranks"] == 2


def stopped_alone(arguments: dict, at: int) -> None:
    """One process that ends after ``at`` steps as if killed."""
    sys.path.insert(0, str(Path(__file__).parent))
    try:
        from ranks_for_tests import train

        train(arguments, at)
    finally:
        sys.path.pop(0)


def checkpoint_of(out: Path) -> dict:
    from safetensors.torch import load_file

    return load_file(out / "checkpoint-384" / "optimizer.safetensors")


def test_the_log_of_windows_is_the_orders_pure_function(corpus, make_run, tmp_path) -> None:
    run = replace(make_run(tokens=960), subsample=0.5)
    task = arguments(run, corpus, tmp_path, TINY)
    loop.train_task(lambda *_, **__: None, **task)
    training = loop.Training(run, corpus.path, tmp_path / "other", TINY, ())
    logged = windows_log.read(tmp_path)
    assert [step for step, _ in logged] == list(range(1, 16))
    plan = training.stream.plan
    expected = np.stack(order(plan, np.arange(plan.windows)), axis=1).reshape(15, 4, 3)
    for (_, rows), wanted in zip(logged, expected.tolist(), strict=True):
        assert sorted(rows) == sorted(wanted)


def test_a_batch_that_cannot_be_dealt_evenly_is_told() -> None:
    with pytest.raises(StudyError, match="A batch of 4 windows cannot be dealt to 3 ranks"):
        distributed.Ranks(0, 3).check_batch(4)


def test_alone_nothing_is_joined_summed_or_gathered(monkeypatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with distributed.join() as ranks:
        assert (ranks, ranks.first) == (distributed.Ranks(0, 1), True)
        assert ranks.sum(1.5, 2.0) == [1.5, 2.0]
        assert ranks.gather("x") == ["x"]
        assert ranks.told("y") == "y"
    model = torch.nn.Linear(2, 2)
    assert ranks.wrap(model, "fsdp", params=10, device="cpu") is model
