from __future__ import annotations

import errno
import json
from dataclasses import replace

import numpy as np
import pytest

from mixwright.core.errors import DataError, ResourceError, StudyError
from mixwright.core.mixture import Mixture
from mixwright.core.run import ModelSize
from mixwright.testing import check_trainer
from mixwright.train import checkpoint, loop
from mixwright.train.branch import branch
from mixwright.train.optimizer import adamw
from mixwright.train.trainers.builtin import Builtin

#: 480 tokens in 15 steps of 2 windows of 16
TINY = Builtin(
    seq_len=16, batch=2, eval_tokens=128, trajectory_evals=5, trajectory_eval_tokens=32, checkpoint_seconds=1e-9
)


class Killed(Exception):
    """Stands for a kill: nothing in the trainer catches it."""


def train(run, corpus, out, *, options=TINY, keep=(), parent=None, stop_at=None):
    """Train; with ``stop_at`` the process 'dies' after that step. Returns what was written."""
    out.mkdir(parents=True, exist_ok=True)
    steps = []

    def progress(fraction: float, **facts) -> None:
        steps.append(facts["loss"])
        if stop_at is not None and len(steps) >= stop_at:
            raise Killed

    arguments = options.task(run, corpus=corpus.path, out=out, checkpoints=keep, parent=parent).arguments
    try:
        loop.train_task(progress, **json.loads(json.dumps(arguments)))
    except Killed:
        return steps
    return {name: json.loads((out / f"{name}.json").read_text()) for name in ("observation", "trajectory", "facts")}


def same(one, other) -> bool:
    """Equal to the last bit in everything but time."""
    return (
        one["observation"]["losses"] == other["observation"]["losses"]
        and one["observation"]["bpb"] == other["observation"]["bpb"]
        and one["trajectory"] == other["trajectory"]
        and one["facts"]["train_losses"] == other["facts"]["train_losses"]
    )


def test_it_learns_and_says_what_it_measured(corpus, make_run, tmp_path) -> None:
    options = replace(TINY, lr=0.03, batch=8, checkpoint_seconds=60)
    made = train(replace(make_run(tokens=128 * 100), size=ModelSize(16, 1)), corpus, tmp_path, options=options)
    seen = made["observation"]
    assert (seen["status"], seen["tokens"], seen["step"]) == ("done", 12800, 100)
    assert set(seen["losses"]) == set(seen["bpb"]) == set(seen["unigram"])
    assert len(seen["losses"]) == 5
    assert all(seen["losses"][f"val:{name}"] < seen["unigram"][f"val:{name}"] - 0.2 for name in "abc")
    assert [point["tokens"] for point in made["trajectory"]] == [2560, 5120, 7680, 10240, 12800]
    assert set(made["trajectory"][0]["losses"]) == {"target:x", "target:y"}
    assert [step for step, _ in made["facts"]["train_losses"]] == list(range(1, 101))
    assert made["facts"]["cpu_seconds"] > 0


@pytest.mark.parametrize("stops", [[1], [7], [14], [3, 2, 5]])
def test_killed_at_any_step_and_resumed_it_is_the_same_to_the_bit(corpus, make_run, tmp_path, stops) -> None:
    run = make_run()
    whole = train(run, corpus, tmp_path / "whole")
    for stop in stops:
        assert len(train(run, corpus, tmp_path / "killed", stop_at=stop)) == stop
    resumed = train(run, corpus, tmp_path / "killed")
    assert same(whole, resumed)


@pytest.mark.parametrize(
    "how",
    [
        {"precision": "bf16"},
        {"micro_batch": 1},
        {"activation_checkpointing": True},
        {"mask_documents": True},
        {"precision": "bf16", "micro_batch": 1, "activation_checkpointing": True, "mask_documents": True},
    ],
    ids=lambda how: "+".join(how),
)
def test_in_every_way_of_computing_a_resumed_run_is_the_same_to_the_bit(corpus, make_run, tmp_path, how) -> None:
    options = replace(TINY, **how)
    whole = train(make_run(), corpus, tmp_path / "whole", options=options)
    train(make_run(), corpus, tmp_path / "killed", options=options, stop_at=6)
    assert same(whole, train(make_run(), corpus, tmp_path / "killed", options=options))


@pytest.mark.parametrize("how", [{"micro_batch": 1}, {"activation_checkpointing": True}])
def test_how_a_run_is_computed_changes_it_by_rounding_alone(corpus, make_run, tmp_path, how) -> None:
    plain = train(make_run(), corpus, tmp_path / "plain")
    other = train(make_run(), corpus, tmp_path / "other", options=replace(TINY, **how))
    assert TINY.identity() == replace(TINY, **how).identity()
    for name, loss in plain["observation"]["losses"].items():
        assert other["observation"]["losses"][name] == pytest.approx(loss, abs=2e-5)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the compiler's own
def test_compiled_it_resumes_to_the_bit_and_differs_by_rounding(corpus, make_run, tmp_path) -> None:
    options = replace(TINY, compile="on")
    whole = train(make_run(), corpus, tmp_path / "whole", options=options)
    assert whole["facts"]["compute"]["compiled"]
    train(make_run(), corpus, tmp_path / "killed", options=options, stop_at=6)
    assert same(whole, train(make_run(), corpus, tmp_path / "killed", options=options))
    plain = train(make_run(), corpus, tmp_path / "plain")
    for name, loss in plain["observation"]["losses"].items():
        assert whole["observation"]["losses"][name] == pytest.approx(loss, abs=2e-5)


def test_precision_and_masks_are_part_of_what_a_run_is(corpus, make_run, tmp_path) -> None:
    plain = train(make_run(), corpus, tmp_path / "plain")["observation"]["losses"]
    for number, how in enumerate(({"precision": "bf16"}, {"mask_documents": True})):
        options = replace(TINY, **how)
        assert options.identity() != TINY.identity()
        other = train(make_run(), corpus, tmp_path / str(number), options=options)["observation"]["losses"]
        assert other != plain
        assert all(abs(other[name] - plain[name]) < 0.1 for name in plain)


def test_an_interrupted_run_keeps_the_precision_it_began_with(corpus, make_run, tmp_path, monkeypatch) -> None:
    whole = train(make_run(), corpus, tmp_path / "whole", options=replace(TINY, precision="bf16"))
    monkeypatch.setattr("mixwright.train.compute.BF16_WIDTH", 8)
    monkeypatch.setattr("mixwright.train.compute.has_bf16_products", lambda: True)
    auto = replace(TINY, device="cpu")
    train(make_run(), corpus, tmp_path / "moved", options=auto, stop_at=6)
    monkeypatch.setattr("mixwright.train.compute.has_bf16_products", lambda: False)
    assert same(whole, train(make_run(), corpus, tmp_path / "moved", options=auto))


def test_the_first_token_of_a_document_counts_where_nothing_is_masked(corpus, make_run, tmp_path) -> None:
    options = replace(TINY, mask_documents=True, lr=1e-9)
    masked = train(make_run(), corpus, tmp_path, options=options)["facts"]["train_losses"]
    training = loop.Training(make_run(), corpus.path, tmp_path / "other", options, ())
    for batch, (_, loss) in zip(training.stream, masked, strict=True):
        each = -np.log(training.frequency)[batch[:, 1:].astype(int)]
        assert loss == pytest.approx(each[batch[:, :-1] != 0].mean(), abs=1e-4)


def test_progress_says_where_the_run_is(corpus, make_run, tmp_path) -> None:
    told = []
    task = TINY.task(make_run(), corpus=corpus.path, out=tmp_path)
    loop.train_task(lambda fraction, **facts: told.append((fraction, facts)), **task.arguments)
    assert [facts["step"] for _, facts in told] == list(range(1, 16))
    assert [facts["tokens"] for _, facts in told] == [32 * step for step in range(1, 16)]
    assert max(facts["lr"] for _, facts in told) <= TINY.lr
    assert told[-1][1]["seconds_left"] == 0
    assert told[7][1]["seconds_left"] > 0


def test_a_run_that_diverges_is_stopped_with_its_step(corpus, make_run, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("mixwright.train.divergence.FIRST", 2)
    monkeypatch.setattr("mixwright.train.divergence.LAST", 4)
    monkeypatch.setattr(loop, "factor", lambda *_, **__: 1000.0)
    made = train(make_run(), corpus, tmp_path)
    assert made["observation"]["status"] == "failed"
    assert "it diverged" in made["observation"]["reason"]
    assert made["observation"]["step"] < 15
    assert str(made["observation"]["step"]) in made["observation"]["reason"]


def test_a_resumed_run_does_not_begin_again(corpus, make_run, tmp_path) -> None:
    train(make_run(), corpus, tmp_path, stop_at=10)
    left = train(make_run(), corpus, tmp_path, stop_at=100)
    assert isinstance(left, dict)
    folders = [path.name for path in (tmp_path / ".resume").iterdir()]
    assert sorted(folders) == ["0000000013", "0000000014"]


def flip(path, at: int = -5) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 4
    path.write_bytes(bytes(content))


def test_a_damaged_state_is_passed_over_for_the_one_before(corpus, make_run, tmp_path) -> None:
    whole = train(make_run(), corpus, tmp_path / "whole")
    train(make_run(), corpus, tmp_path / "killed", stop_at=9)
    newest = tmp_path / "killed" / ".resume" / "0000000009"
    flip(newest / "optimizer.safetensors")
    resumed = train(make_run(), corpus, tmp_path / "killed")
    assert same(whole, resumed)
    (said,) = resumed["facts"]["damaged"]
    assert said.startswith(f"{newest / 'optimizer.safetensors'} has changed since it was written")
    assert whole["facts"]["damaged"] == []


def test_with_no_whole_state_left_it_says_so(corpus, make_run, tmp_path) -> None:
    train(make_run(), corpus, tmp_path, stop_at=9)
    for folder in (tmp_path / ".resume").iterdir():
        (folder / "state.json").write_text('{"step": 9')
    with pytest.raises(DataError, match=r"state\.json is damaged .* Remove .*/\.resume/00000000\d\d and train again"):
        train(make_run(), corpus, tmp_path)


def test_a_state_of_another_plan_or_a_pickled_one_is_refused(corpus, make_run, tmp_path) -> None:
    train(make_run(seed=3), corpus, tmp_path, stop_at=9)
    with pytest.raises(DataError, match="belongs to another plan"):
        train(make_run(), corpus, tmp_path)
    (tmp_path / ".resume" / "0000000009" / "optimizer.pt").write_bytes(b"\x80\x04.")
    with pytest.raises(DataError, match=r"optimizer\.pt, a pickled checkpoint"):
        train(make_run(seed=3), corpus, tmp_path)


def test_a_run_whose_disk_was_full_goes_on_from_the_last_good_state(corpus, make_run, tmp_path, monkeypatch) -> None:
    whole = train(make_run(), corpus, tmp_path / "whole")
    kept = checkpoint._sync

    def full(path) -> None:
        if "0000000007" in str(path):
            raise OSError(errno.ENOSPC, "No space left on device")
        kept(path)

    monkeypatch.setattr(checkpoint, "_sync", full)
    with pytest.raises(ResourceError, match=r"No space left while writing .*/0000000007\."):
        train(make_run(), corpus, tmp_path / "full")
    left = sorted(path.name for path in (tmp_path / "full" / ".resume").iterdir())
    assert left == ["0000000005", "0000000006"]
    monkeypatch.setattr(checkpoint, "_sync", kept)
    assert same(whole, train(make_run(), corpus, tmp_path / "full"))


def test_seed_and_mixture_matter(corpus, make_run, tmp_path) -> None:
    first = train(make_run(), corpus, tmp_path / "1")["observation"]["losses"]
    assert train(make_run(), corpus, tmp_path / "2")["observation"]["losses"] == first
    assert train(make_run(seed=1), corpus, tmp_path / "3")["observation"]["losses"] != first
    assert train(make_run(weights=(0.1, 0.1, 0.8)), corpus, tmp_path / "4")["observation"]["losses"] != first


@pytest.mark.parametrize("kind", ["linear", "cosine", "wsd"])
def test_a_branch_that_changes_nothing_is_its_parent_to_the_bit(corpus, make_run, tmp_path, kind) -> None:
    options = replace(TINY, lr_schedule=kind)
    parent = make_run()
    whole = train(parent, corpus, tmp_path / "parent", options=options, keep=(384,))
    child = branch(parent, 384, parent.schedule.phases[0].mixture, run_id="child")
    again = train(child, corpus, tmp_path / "child", options=options, parent=tmp_path / "parent")
    assert same(whole, again)


def test_a_branch_shares_the_past_and_not_the_rest(corpus, make_run, tmp_path) -> None:
    parent = make_run()
    whole = train(parent, corpus, tmp_path / "parent", keep=(384,))
    child = branch(parent, 384, Mixture(("a", "b", "c"), np.array([0.0, 0.0, 1.0])), run_id="child")
    other = train(child, corpus, tmp_path / "child", parent=tmp_path / "parent")
    assert other["facts"]["train_losses"][:12] == whole["facts"]["train_losses"][:12]
    assert other["facts"]["train_losses"][13:] != whole["facts"]["train_losses"][13:]
    assert other["trajectory"][:4] == whole["trajectory"][:4]
    assert other["observation"]["losses"] != whole["observation"]["losses"]
    killed = tmp_path / "killed"
    train(child, corpus, killed, parent=tmp_path / "parent", stop_at=2)
    assert same(other, train(child, corpus, killed, parent=tmp_path / "parent"))


def test_a_branch_that_anneals_ends_lower_in_rate_and_elsewhere_in_loss(corpus, make_run, tmp_path) -> None:
    parent, options = make_run(), replace(TINY, lr_schedule="cosine")
    train(parent, corpus, tmp_path / "parent", options=options, keep=(240,))
    mixture, made = parent.schedule.phases[0].mixture, {}
    for rate in ("continue", "anneal"):
        child = branch(parent, 240, mixture, run_id=rate, rate=rate)
        made[rate] = train(child, corpus, tmp_path / rate, options=options, parent=tmp_path / "parent")
        assert made[rate]["observation"]["run"]["rate"] == rate
    for a, b in zip(*(one["facts"]["train_losses"][:8] for one in made.values()), strict=True):
        assert a == b  # the first rate is the parent's, whatever follows
    assert made["continue"]["observation"]["losses"] != made["anneal"]["observation"]["losses"]
    killed = branch(parent, 240, mixture, run_id="killed", rate="anneal")
    train(killed, corpus, tmp_path / "killed", options=options, parent=tmp_path / "parent", stop_at=3)
    assert same(made["anneal"], train(killed, corpus, tmp_path / "killed", options=options, parent=tmp_path / "parent"))


def test_a_branch_needs_a_checkpoint_that_fits(corpus, make_run, tmp_path) -> None:
    parent, mixture = make_run(), Mixture.uniform(("a", "b", "c"))
    train(parent, corpus, tmp_path / "parent", keep=(384,))
    child = branch(parent, 352, mixture, run_id="child")
    with pytest.raises(DataError, match="kept no checkpoint"):
        train(child, corpus, tmp_path / "1", parent=tmp_path / "parent")
    stranger = branch(make_run(seed=5), 384, mixture, run_id="child")
    with pytest.raises(DataError, match="belongs to another plan"):
        train(stranger, corpus, tmp_path / "2", parent=tmp_path / "parent")
    larger = branch(replace(parent, size=ModelSize(16, 1)), 384, mixture, run_id="child")
    with pytest.raises(DataError, match="another shape than 16x1"):
        train(larger, corpus, tmp_path / "3", parent=tmp_path / "parent")
    with pytest.raises(DataError, match="must start between its tokens 0 and 480"):
        branch(parent, 480, mixture, run_id="child")


@pytest.mark.parametrize(
    ("broken", "reason", "learnt", "watched"),
    [
        (6, "its loss is nan at step 8 (256 tokens)", 7, 2),
        (5, "its loss on target:x is not finite after step 6", 6, 1),
        (14, "its loss on target:x is not finite after step 15", 15, 4),
    ],
)
def test_a_loss_that_is_not_finite_fails_the_run_with_its_step(
    corpus, make_run, tmp_path, monkeypatch, broken, reason, learnt, watched
) -> None:
    monkeypatch.setattr(loop, "factor", lambda kind, step, steps, **_: float("inf") if step == broken else 1.0)
    made = train(make_run(), corpus, tmp_path)
    assert made["observation"]["status"] == "failed"
    assert made["observation"]["reason"] == reason
    assert made["observation"]["losses"] == {}
    assert len(made["facts"]["train_losses"]) == learnt
    assert len(made["trajectory"]) == watched


def test_checkpoints_asked_for_within_one_step_are_both_kept(corpus, make_run, tmp_path) -> None:
    train(make_run(), corpus, tmp_path, keep=(384, 390, 480))
    kept = sorted(path.name for path in tmp_path.glob("checkpoint-*"))
    assert kept == ["checkpoint-384", "checkpoint-390", "checkpoint-480"]


def test_checkpoints_outside_the_run_are_refused(corpus, make_run, tmp_path) -> None:
    for tokens in (3, 5000):
        with pytest.raises(StudyError, match="the run goes from 32 to 480"):
            train(make_run(), corpus, tmp_path, keep=(tokens,))


def test_no_corpus_is_told(make_run, tmp_path) -> None:
    task = TINY.task(make_run(), corpus=None, out=tmp_path)
    with pytest.raises(StudyError, match="needs tokens"):
        loop.train_task(lambda *_, **__: None, **task.arguments)


def test_matrices_inside_follow_the_width() -> None:
    model = loop.Model(ModelSize(96, 1), np.full(10, 0.1), 0)
    optimizer, names = adamw(model, Builtin(lr=0.02, lr_width=48))
    peak = {names[p]: group["peak"] for group in optimizer.param_groups for p in group["params"]}
    assert peak["blocks.0.down"] == peak["blocks.0.query_key_value"] == pytest.approx(0.01)
    assert {peak[name] for name in ("embedding", "head", "norm", "blocks.0.feed_norm")} == {0.02}  # nothing above lr
    assert len(peak) == len(list(model.parameters()))


def test_it_keeps_the_promises_of_a_trainer(corpus, tmp_path) -> None:
    options = replace(TINY, batch=16, checkpoint_seconds=60)
    check_trainer(options, tmp_path, corpus.path, ("a", "b", "c"))


def test_a_task_has_one_thread_an_allocator_that_keeps_memory_and_a_cost_that_grows(make_run, tmp_path) -> None:
    small = TINY.task(make_run(), corpus=None, out=tmp_path)
    assert small.threads == 1
    assert set(small.environment) == {"MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"}
    larger = replace(make_run(), size=ModelSize(64, 2))
    assert small.cost < TINY.cost(larger) < TINY.cost(replace(larger, schedule=make_run(tokens=10**6).schedule))
    mixture = larger.schedule.phases[0].mixture
    assert TINY.cost(branch(larger, 384, mixture, run_id="child")) < TINY.cost(larger)
