"""Two made-up worlds with seed noise, from text to recipe: one whose law is in the fitted family, one whose law is not."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize
from small_study import WORDS, documents, write_jsonl

from mixwright.core.mixture import Mixture
from mixwright.study.config import read_study
from mixwright.study.flow import Flow

pytest.importorskip("tokenizers")

STUDY = """\
sources:
  code: {{path: data/code.jsonl}}
  prose: {{path: data/prose.jsonl}}
  maths: {{path: data/maths.jsonl}}
targets:
  one: {{path: data/one.jsonl}}
  two: {{path: data/two.jsonl}}
curate: {{rules: {{chars: {{min: 50}}}}}}
tokenizer: {{vocab: 320, held_out: 0.1}}
trainer: {trainer}
proxy: {{sizes: [16x1], tokens: 100_000}}
design: {{runs: 24, repeats: 4}}
law: {{forms: {forms}, repeats: 1}}
objective: {{metrics: {{"target:one": 1, "target:two": 1}}, floors: 0.05}}
budget: {{tokens: 100_000}}
verify: {{size: 16x1, tokens: 100_000, seeds: 2, guess: {{code: 0.4, prose: 0.4, maths: 0.2}}}}
final_phase: null
export: []
seed: 11
"""


def world(tmp_path: Path, trainer: str, forms: str) -> Flow:
    for seed, kind in enumerate(WORDS):
        write_jsonl(tmp_path / "data" / f"{kind}.jsonl", documents(kind, 60, seed))
    for seed, name in enumerate(("one", "two")):
        write_jsonl(tmp_path / "data" / f"{name}.jsonl", documents("prose", 20, 90 + seed))
    (tmp_path / "study.yaml").write_text(STUDY.format(trainer=trainer, forms=forms))
    flow = Flow(read_study(tmp_path / "study.yaml"))
    flow.run()
    return flow


def truth(flow: Flow) -> tuple[Any, Mixture]:
    """The objective as it really is, without noise, and where it is least within the floors (to about 1e-6)."""
    law = flow.study.trainer.truth(flow.corpus.names, ("target:one", "target:two"))
    params = flow.trainings.of_sweep()[0].size.params

    def objective(weights: np.ndarray) -> float:
        return float(law.losses(np.asarray(weights)[None], 100_000, params).mean())

    starts = [np.eye(3)[d] * 0.85 + 0.05 for d in range(3)] + [np.full(3, 1 / 3)]
    fits = [
        minimize(
            objective, start, method="SLSQP", bounds=[(0.05, 1)] * 3, options={"ftol": 1e-13, "maxiter": 500},
            constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        )
        for start in starts
    ]  # fmt: skip
    grid = [np.array([a, b, 1 - a - b]) for a in np.arange(0.05, 0.91, 0.01) for b in np.arange(0.05, 0.951 - a, 0.01)]
    best = min([f.x for f in fits] + grid, key=objective)
    return objective, Mixture.normalized(flow.corpus.names, np.clip(best, 0, 1))


def test_a_law_in_the_family_gives_the_known_optimum(tmp_path: Path) -> None:
    trainer = (
        "{name: toy, kind: exponential, noise: 0.004, tokens_power: 0, params_power: 0, "
        'c: {"target:one": 2.0, "target:two": 2.2}, k: {"target:one": 3.0, "target:two": 2.5}, '
        't: {"target:one": {code: -4.0, prose: 0.3, maths: 0.0}, "target:two": {code: 0.2, prose: -3.5, maths: 0.1}}}'
    )
    flow = world(tmp_path, trainer, "[exponential, additive]")
    _, best = truth(flow)
    assert 0.1 < best["prose"] < 0.85, "the known optimum is a real trade-off"
    assert flow.optimized.l1(best) < 0.02, f"found {flow.optimized}, truth {best}"
    measured = {row["mixture"]: row for row in flow.make("verify").json("verify.json")["rows"]}
    assert measured["optimized"]["measured"]["high"] < 0, "the gain is real"
    assert measured["optimized"]["predicted"]["low"] - 0.02 <= measured["optimized"]["measured"]["value"]
    assert measured["optimized"]["predicted"]["high"] + 0.02 >= measured["optimized"]["measured"]["value"]


def test_a_law_outside_the_family_is_reported_and_costs_little(tmp_path: Path) -> None:
    noise = 0.02
    trainer = (
        f"{{name: toy, kind: kinked, noise: {noise}, kink: 0.4, tokens_power: 0, params_power: 0, "
        't: {"target:one": {code: -2.0, prose: 0.1, maths: 0.0}, "target:two": {code: 0.1, prose: -2.0, maths: 0.1}}}'
    )
    flow = world(tmp_path, trainer, "[exponential]")
    objective, best = truth(flow)
    regret = objective(flow.optimized.weights) - objective(best.weights)
    assert regret < 2 * noise, f"found {flow.optimized}, truth {best}"
    validation = json.loads((flow.make("fit").path / "validation.json").read_text())
    error = validation["scores"]["nested"]["objective"]["mae"]
    alone = noise / np.sqrt(2) * np.sqrt(2 / np.pi)  # what seed noise alone would give, two metrics averaged
    assert error > 1.25 * alone, "the kink really is outside the family"
    assert any("misfit" in note for note in validation["notes"]), validation["notes"]
    assert any("misfit" in note for note in flow.make("report").json("report.json")["notes"])
