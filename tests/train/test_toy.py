from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from mixwright.core.mixture import Mixture
from mixwright.core.run import ModelSize, Run
from mixwright.core.schedule import Phase, Schedule
from mixwright.train.branch import branch
from mixwright.train.trainers.toy import Toy, toy_task

NAMES = ("a", "b", "c")


def run_of(weights=(0.5, 0.3, 0.2), *, seed: int = 0, tokens: int = 10**6, size: str = "48x1") -> Run:
    return Run("r", Schedule.constant(Mixture.normalized(NAMES, weights), tokens), ModelSize.parse(size), seed)


def measured(toy: Toy, run: Run, out, parent=None, keep=()) -> dict:
    task = toy.task(run, corpus=None, out=out, checkpoints=keep, parent=parent)
    toy_task(lambda *_, **__: None, **json.loads(json.dumps(task.arguments)))
    return {name: json.loads((out / f"{name}.json").read_text()) for name in ("observation", "trajectory", "facts")}


def test_without_noise_it_gives_the_truth(tmp_path) -> None:
    toy, run = Toy(noise=0), run_of()
    truth = toy.truth(NAMES)
    losses = measured(toy, run, tmp_path)["observation"]["losses"]
    wanted = truth.losses(run.schedule.mixture().weights, 10**6, run.size.params)
    assert losses == dict(zip(truth.metrics, wanted.tolist(), strict=True))
    by_hand = (
        truth.c[0] + truth.k[0] * np.exp(truth.t[0] @ run.schedule.mixture().weights) * (run.size.params / 1e5) ** -0.05
    )
    assert losses["val:a"] == pytest.approx(by_hand)


def test_noise_has_the_spread_that_was_asked_and_belongs_to_the_seed(tmp_path) -> None:
    toy = Toy(noise=0.05, targets=tuple(f"t{n}" for n in range(40)))
    quiet = measured(replace(toy, noise=0), run_of(), tmp_path)["observation"]["losses"]

    def noise(seed: int) -> np.ndarray:
        losses = measured(toy, run_of(seed=seed), tmp_path)["observation"]["losses"]
        return np.array([losses[name] - quiet[name] for name in quiet])

    off = [noise(seed) for seed in range(8)]
    assert np.std(off) == pytest.approx(0.05, rel=0.15)
    assert abs(np.corrcoef(off[0], off[1])[0, 1]) < 0.5
    assert np.array_equal(noise(1), off[1])


def test_the_mean_of_targets_has_an_optimum_inside_the_simplex() -> None:
    truth = Toy().truth(NAMES)
    grid = np.array([(i, j, 20 - i - j) for i in range(21) for j in range(21 - i)]) / 20
    targets = [n for n, name in enumerate(truth.metrics) if name.startswith("target:")]
    best = grid[truth.losses(grid, 10**6, 10**5)[:, targets].mean(axis=1).argmin()]
    assert best.min() > 0
    assert best.max() < 1


def test_the_kinked_law_is_flat_beyond_its_kink() -> None:
    smooth, kinked = Toy().truth(NAMES), Toy(kind="kinked").truth(NAMES)
    m = kinked.metrics.index("val:a")
    for weight in (0.0, 0.1, 0.2, 0.5):
        point = np.array([weight, 1 - weight, 0])
        gap = kinked.losses(point, 10**6, 10**5)[m] - smooth.losses(point, 10**6, 10**5)[m]
        assert gap == pytest.approx(0.3 * max(0, 1 - weight / 0.2))


def test_size_and_tokens_lower_the_loss() -> None:
    truth, point = Toy().truth(NAMES), np.array([0.2, 0.3, 0.5])
    small = truth.losses(point, 10**6, 10**5)
    assert np.all(truth.losses(point, 4 * 10**6, 10**5) < small)
    assert np.all(truth.losses(point, 10**6, 4 * 10**5) < small)


def test_parameters_can_be_given(tmp_path) -> None:
    toy = Toy(noise=0, c={"val:a": 1.0}, k={"val:a": 2.0}, t={"val:a": {"a": -1.0, "b": 0.0, "c": 0.0}}, params_power=0)
    assert measured(toy, run_of((1, 0, 0)), tmp_path)["observation"]["losses"]["val:a"] == pytest.approx(1 + 2 / np.e)


def test_a_branch_to_the_same_mixture_is_its_parent_and_late_tokens_count_more(tmp_path) -> None:
    toy, run = Toy(recency=3.0), run_of()
    parent = measured(toy, run, tmp_path / "parent", keep=(800_000,))
    child = branch(run, 800_000, run.schedule.phases[0].mixture, run_id="child")
    assert measured(toy, child, tmp_path / "child", tmp_path / "parent")["observation"]["losses"] == pytest.approx(
        parent["observation"]["losses"], abs=1e-12
    )
    late = Schedule((Phase(800, Mixture.uniform(NAMES)), Phase(200, Mixture(NAMES, np.array([1.0, 0, 0])))))
    assert toy.effective(late)[0] > late.mixture().weights[0] + 0.05
    assert Toy().effective(late) == pytest.approx(late.mixture().weights)


def test_the_trajectory_ends_where_the_run_ends(tmp_path) -> None:
    made = measured(Toy(trajectory_evals=4), run_of(), tmp_path)
    assert [point["tokens"] for point in made["trajectory"]] == [250_000, 500_000, 750_000, 1_000_000]
    last = made["trajectory"][-1]["losses"]
    assert last == {name: made["observation"]["losses"][name] for name in last}
    assert set(last) == {"target:one", "target:two", "target:three"}


def test_a_seed_that_diverges_is_failed(tmp_path) -> None:
    made = measured(Toy(nan_seeds=(4,)), run_of(seed=4), tmp_path)
    assert made["observation"]["status"] == "failed"
    assert "loss is nan at step 976" in made["observation"]["reason"]
    assert made["trajectory"][-1]["tokens"] == 500_000


def test_settings_that_say_how_do_not_change_its_identity() -> None:
    assert Toy().identity() == replace(Toy(), seconds=3.0, crash_seeds=(1,)).identity()
    assert Toy().identity() != Toy(noise=0.5).identity()
