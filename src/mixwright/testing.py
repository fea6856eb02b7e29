"""The kits plug-ins are tested with, ours and yours: each raises AssertionError with a sentence when a promise is broken.

from mixwright.testing import check_signal
def test_my_signal(): check_signal(MySignal())
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mixwright.core.mixture import Mixture
from mixwright.core.objective import Objective
from mixwright.core.observation import DONE, Observation, Runs
from mixwright.core.recipe import Recipe
from mixwright.core.rng import rng
from mixwright.core.run import ModelSize, Run
from mixwright.core.schedule import Schedule

if TYPE_CHECKING:
    from mixwright.core.law import Law
    from mixwright.curate.signal import Signal
    from mixwright.export.exporter import Exporter
    from mixwright.train.trainer import Trainer

#: texts that break naive signals: empty, blank, one character, no letters, other scripts, a lone surrogate, NUL
AWKWARD = (
    "",
    " \n\t",
    "x",
    "1234 5678",
    "日本語のテキスト。",
    "مرحبا بالعالم",
    "a\x00b",
    "\ud800 half",
    "line\n" * 50,
    "word " * 3000,
)


def check_signal(signal: Signal) -> None:
    """A signal gives one number per text and column, the same whatever other texts are in the batch.

    Numbers are finite; those of a signal that ``may_fail`` may be NaN. A signal with ``prepare`` is handed in ``opened``.
    """
    from mixwright.curate.signal import Texts

    together = signal.measure(Texts(AWKWARD))
    assert set(together) == set(signal.columns), f"{signal} promises {signal.columns} but measured {tuple(together)}"
    for column, values in together.items():
        assert values.shape == (len(AWKWARD),), f"{column} has shape {values.shape} for {len(AWKWARD)} texts"
        assert values.dtype == np.float64, f"{column} is {values.dtype}, not float64"
        fine = np.isfinite(values) | (np.isnan(values) & signal.may_fail)
        assert fine.all(), f"{column} is not finite for {AWKWARD[int(np.argmin(fine))]!r}"
    for at, text in enumerate(AWKWARD):
        alone = signal.measure(Texts([text]))
        for column in signal.columns:
            same = np.array_equal(alone[column], together[column][at : at + 1], equal_nan=True)
            assert same, f"{column} of {text[:20]!r} depends on its neighbours"
    assert all(len(values) == 0 for values in signal.measure(Texts([])).values()), "no texts give no numbers"


def made_up_runs(count: int = 24, domains: int = 3, noise: float = 0.01, seed: int = 0) -> Runs:
    """A table of runs whose losses follow an exponential law with normal noise; metric 1 misses one value."""
    draw = rng(seed, "made up runs")
    weights = draw.dirichlet(np.ones(domains), count)
    names = tuple(f"d{n}" for n in range(domains))
    slopes = -2.0 * np.eye(domains) - 0.3
    losses = 2.0 + 2.0 * np.exp(weights @ slopes.T) + noise * draw.standard_normal((count, domains))
    losses[0, 1 % domains] = np.nan
    ids = tuple(f"r{n}" for n in range(count))
    return Runs(names, tuple(f"val:{name}" for name in names), ids, weights, losses)


def check_law(law: Law, runs: Runs | None = None) -> None:
    """A law fits every metric with finite predictions and spreads, whatever the order of rows and domains, and survives JSON.

    ``runs`` for a law that wants others than ``made_up_runs()``: of several sizes, say.
    """
    import json

    from mixwright.laws import load_fit
    from mixwright.store.artifact import to_json

    runs = made_up_runs() if runs is None else runs
    fit = law.fit(runs, rng(0, "kit"))
    assert fit.metrics == runs.metrics, f"the fit has {fit.metrics}, the runs {runs.metrics}"
    points = rng(1, "kit").dirichlet(np.ones(len(runs.domains)), 16)
    found = fit.predict(points)
    assert found.mean.shape == found.spread.shape == (16, len(runs.metrics)), "predict gives (N, M) twice"
    assert np.isfinite(found.mean).all(), "a prediction is not finite"
    assert np.isfinite(found.spread).all(), "a spread is not finite"
    assert (found.spread >= 0).all(), "a spread is negative"
    again = law.fit(runs, rng(0, "kit")).predict(points)
    assert np.array_equal(found.mean, again.mean), "the same runs and stream gave another fit"
    order = np.arange(len(runs))[::-1]
    reordered = law.fit(runs.take(order), rng(0, "kit")).predict(points)
    assert np.allclose(found.mean, reordered.mean, atol=1e-6), "the order of rows changes predictions"
    loaded = load_fit(json.loads(to_json(fit.to_dict()))).predict(points)
    assert np.allclose(found.mean, loaded.mean, atol=1e-12), "a fit read back from JSON predicts something else"
    assert np.allclose(found.spread, loaded.spread, atol=1e-12), "a fit read back from JSON has another spread"
    weights = np.full(len(runs.metrics), 1 / len(runs.metrics))
    mean, spread = fit.difference(points, points[0], weights)
    assert abs(mean[0]) < 1e-9, "a mixture differs from itself"
    assert abs(spread[0]) < 1e-9, "a mixture's difference from itself is uncertain"
    expected = (found.mean - found.mean[0]) @ weights
    assert np.allclose(mean, expected, atol=1e-6), "difference is not the difference of predictions"


def check_trainer(
    trainer: Trainer, folder: Path, corpus: Path | None = None, domains: tuple[str, ...] = ("a", "b")
) -> None:
    """A trainer leaves its files, gives the same run the same losses to the last bit, and states a cost.

    ``corpus`` is the folder of a tokenize artifact over ``domains`` where the trainer needs one.
    """
    from mixwright.store.artifact import read_json

    run = Run("kit", Schedule.constant(Mixture.uniform(domains), 8192), ModelSize(16, 1), seed=1)
    assert trainer.cost(run) > 0, "a run costs something"
    found = []
    for attempt in ("first", "second"):
        task = trainer.task(run, corpus=corpus, out=folder / attempt, checkpoints=(4096,))
        assert task.name == run.run_id, "the task bears the run's name"
        task.call(lambda fraction, **facts: None)
        observation = Observation.from_dict(read_json(folder / attempt / "observation.json"))
        trajectory = read_json(folder / attempt / "trajectory.json")
        assert observation.status == DONE, observation.reason
        assert observation.run == run, "the observation is of another run"
        assert observation.losses, "no metric was measured"
        assert (folder / attempt / "checkpoint-4096").is_dir(), "the checkpoint asked for is missing"
        tokens = [point["tokens"] for point in trajectory]
        assert tokens == sorted(tokens), "the trajectory goes back in time"
        assert all(set(point["losses"]) <= set(observation.losses) for point in trajectory)
        found.append((dict(observation.losses), trajectory))
    assert found[0] == found[1], "the same run gave other losses"


def check_exporter(exporter: Exporter) -> None:
    """An exporter says its unit, what repeats and the version it was tried with, and writes one and two phases."""
    mixture = Mixture.of({"web": 0.75, "code": 0.25})
    one = Schedule.constant(mixture, 100 * 4 * 128)
    two = one.switched(80 * 4 * 128, Mixture.of({"web": 0.5, "code": 0.5}))
    for schedule in (one, two):
        recipe = Recipe(schedule, Objective(), supply={"web": 20_000, "code": 30_000})
        files: dict[str, Any] = exporter.files(recipe, tokens_root="tokens", seq_len=128, batch=4)
        assert files, "no file was written"
        together = "\n".join(files.values())
        for name in ("web", "code"):
            assert name in together, f"the domain {name} is nowhere"
        for sentence in (exporter.unit, exporter.repeats, exporter.tested):
            assert sentence.strip(), "unit, repeats and tested are sentences"
