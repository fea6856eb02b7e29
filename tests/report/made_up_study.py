"""A made-up but coherent study for the page and the tables, of any number of domains and targets.

``python tests/report/made_up_study.py report.html [domains [targets]]`` writes its page.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixwright.core.mixture import Mixture
from mixwright.core.objective import Objective
from mixwright.core.recipe import Forecast, Recipe
from mixwright.core.rng import rng
from mixwright.core.schedule import Schedule
from mixwright.laws.graph import Builder

Array = NDArray[np.float64]
NAMES = ("py_code", "py_tests", "py_docs", "cxx_headers", "dectest")
TARGETS = ("manuals", "tutorials")
RULES = (
    ("unreadable", "", None, None), ("exact_duplicate", "", None, None), ("chars", "chars", 200, None),
    ("alnum_ratio", "alnum_ratio", 0.4, None), ("longest_line", "longest_line", None, 4000),
)  # fmt: skip
#: the made-up noise of one small training run, nats/token
NOISE = 0.012


class World:
    """Losses as the study would measure them: ``c + exp(a + t.r)`` per metric."""

    def __init__(self, domains: tuple[str, ...], metrics: tuple[str, ...], seed: int) -> None:
        source = rng(seed, "world")
        self.domains, self.metrics = domains, metrics
        count = len(domains)
        self.level = source.uniform(3.6, 4.6, len(metrics))
        self.start = source.uniform(0.4, 0.8, len(metrics))
        self.slopes = -source.uniform(0.1, 0.9, (len(metrics), count)) * min(1, 8 / count)
        for number, metric in enumerate(metrics):
            if metric.startswith("val:"):
                self.slopes[number, domains.index(metric[4:])] -= 2.2
            else:
                self.slopes[number, (number * 2) % count] -= 1.4

    def losses(self, weights: Array, scale: float = 1.0) -> Array:
        return scale * self.level + np.exp(self.start + np.atleast_2d(weights) @ self.slopes.T)

    def graph(self, seed: int, members: int) -> dict[str, Any]:
        source, build = rng(seed, "members"), Builder(self.domains)
        tiled = build.tile(build.weights(), members)
        for number, metric in enumerate(self.metrics):
            slopes = self.slopes[number] + 0.03 * source.standard_normal((members, len(self.domains)))
            start = self.start[number] + 0.004 * source.standard_normal(members)
            inner = build.sum(build.apply("mul", tiled, build.const(slopes)), len(self.domains))
            loss = build.apply("exp", build.apply("add", inner, build.const(start)))
            loss = build.apply("add", loss, build.const(self.level[number]))
            mean = build.apply("mul", build.sum(loss), build.const(1 / members))
            apart = build.apply("add", loss, build.apply("mul", mean, build.const(-1)))
            square = build.apply("mul", build.sum(build.apply("mul", apart, apart)), build.const(1 / (members - 1)))
            spread = build.apply("pow", square, build.const(0.5))
            build.output(metric, mean=mean, spread=spread, members=loss)
        return build.graph().to_dict()


def _sources(names: tuple[str, ...], kind: str, seed: int) -> list[dict[str, Any]]:
    rows = []
    for number, name in enumerate(names):
        source = rng(seed, "sources", name)
        read = int(source.integers(900, 9000))
        first = {
            rule: int(read * share) for (rule, *_), share in zip(RULES, source.dirichlet([1] * 5) * 0.3, strict=True)
        }
        first = {rule: count for rule, count in first.items() if count}
        if kind == "targets":
            first["shares_13gram"] = int(read * 0.02)
        kept = read - sum(first.values())
        rows.append({
            "name": name, "domain": name, "licence": ["PSF-2.0", "BSD-3-Clause", "Apache-2.0", ""][number % 4],
            "rule": f"every {name.replace('_', ' ')} file found in the installed packages, comments kept",
            "read": {"documents": read, "bytes": read * 3100}, "kept": {"documents": kept, "bytes": kept * 3300},
            "dropped": {rule: int(count * 1.2) for rule, count in first.items()}, "first_dropped": first,
            "alone": {rule: int(count * 0.7) for rule, count in first.items()}, "stages": _stages(read, first),
        })  # fmt: skip
    return rows


def _stages(read: int, first: Mapping[str, int]) -> list[dict[str, Any]]:
    """What enters and leaves every stage, the longer texts first."""
    rows, left = [], read
    for number, rule in enumerate([*(rule for rule, *_ in RULES), "shares_13gram"]):
        gone = first.get(rule, 0)
        entering = {"documents": left, "bytes": left * 3100, "median_bytes": 1300 - 20 * number}
        rows.append({"rule": rule, "entering": entering, "dropped": {"documents": gone, "bytes": gone * 3100}})
        left -= gone
    last = {"documents": left, "bytes": left * 3100, "median_bytes": 1200 if left else None}
    return [*rows, {"rule": "kept", "entering": last, "dropped": {"documents": 0, "bytes": 0}}]


def _overlap(sources: list[dict[str, Any]]) -> list[list[Any]]:
    failing = {rule: sum(row["dropped"].get(rule, 0) for row in sources) for rule, *_ in RULES}
    pairs = [(one, other) for one, other in itertools.combinations(failing, 2) if "unreadable" not in (one, other)]
    return [[one, other, min(failing[one], failing[other]) * (n + 1) // 9] for n, (one, other) in enumerate(pairs)]


_DUPLICATES = {
    "dropped": {"exact_duplicate": 611, "near_duplicate": 402}, "clusters": 590, "sizes": [[1, 402], [2, 120], [4, 60], [64, 8]],
    "similarity": {"near_duplicate": [0] * 16 + [40, 82, 130, 150]},
}  # fmt: skip


def _samples(names: tuple[str, ...]) -> list[dict[str, Any]]:
    texts = {
        "unreadable": "", "exact_duplicate": "# Copyright (c) The Authors\n#\n# Permission is hereby granted",
        "chars": "from .core import *\n", "alnum_ratio": "+-------+-------+\n|   *   |   *   |\n+-------+",
        "longest_line": "DATA = b'\\x00\\x12\\x3f" + "\\xaa\\x5e" * 12,
    }  # fmt: skip
    return [
        {"id": f"{n:032x}", "source": names[n % len(names)], "path": f"lib/package/file_{n}.py", "row": n + 1,
         "rules": [rule], "values": [None if rule == "unreadable" else 12.0 + n],
         "thresholds": [f"{signal} >= {low}" if low else ""], "start": texts[rule][:120]}
        for n, (rule, signal, low, _) in enumerate(RULES)
    ]  # fmt: skip


def _runs(world: World, designed: Array, natural: Array, seed: int, targets: list[str]) -> list[dict[str, Any]]:
    source, rows = rng(seed, "runs"), []
    points = [("design", weights) for weights in designed] + [("repeat", natural)] * 3
    for number, (role, weights) in enumerate(points):
        exact = world.losses(weights)[0]
        losses = exact + NOISE * source.standard_normal(len(exact))
        failed = number == 3
        rows.append({
            "run_id": f"{role}-{number:02d}", "role": role, "weights": weights.tolist(),
            "losses": {} if failed else dict(zip(world.metrics, losses.tolist(), strict=True)),
            "bpb": {} if failed else dict(zip(world.metrics, (losses / np.log(2) / 2.9).tolist(), strict=True)),
            "unigram": dict(zip(world.metrics, (exact + 1.1 + 0.2 * source.random(len(exact))).tolist(), strict=True)),
            "status": "failed" if failed else "done", "seed": 7 if role == "design" else 7 + number,
            "reason": "the loss became NaN at step 212 of 600" if failed else "", "params": 28_000, "tokens": 307_200,
        })  # fmt: skip
    return rows


def _fit(world: World, runs: list[dict[str, Any]], seed: int) -> dict[str, Any]:
    count, done = len(world.metrics), [run for run in runs if run["status"] == "done"]
    mix = rng(seed, "misfit").standard_normal((count, count))
    return {
        "schema": "mixwright/fit/1", "law": "auto", "domains": list(world.domains), "metrics": list(world.metrics),
        "forms": dict.fromkeys(world.metrics, "exponential"), "noise": [NOISE] * count, "status": ["converged"] * count,
        "parameters": {}, "misfit": (1e-5 * mix @ mix.T / count).tolist(), "reach": 0.6,
        "runs": [run["run_id"] for run in done], "swept": [run["weights"] for run in done],
        "residuals": [[0.0] * count for _ in done], "graph": world.graph(seed, 24),
    }  # fmt: skip


def _validation(world: World, runs: list[dict[str, Any]], objective: Array, seed: int) -> dict[str, Any]:
    source = rng(seed, "validation")
    forms = {"nested": 0.004, "exponential": 0.0042, "additive": 0.006, "linear": 0.012, "mean": 0.045}
    metrics = [*world.metrics, "objective"]
    scores = {
        form: {
            metric: {"mae": error * 5 * k, "relative": error * k, "spearman": None if form == "mean" else 1 - 9 * error * k,
                     "coverage": 0.9}
            for metric, k in zip(metrics, source.uniform(0.8, 1.2, len(metrics)), strict=True)
        }
        for form, error in forms.items()
    }  # fmt: skip
    held_out: dict[str, dict[str, list[float]]] = {}
    done = [run for run in runs if run["status"] == "done"]
    for number, metric in enumerate(metrics):
        held_out[metric] = {}
        for run in done:
            values = np.array([run["losses"][name] for name in world.metrics])
            measured = float(values @ objective if metric == "objective" else values[number])
            held_out[metric][run["run_id"]] = [measured, measured + 0.02 * float(source.standard_normal()), 0.045]
    chosen = {metric: "exponential" if n % 3 else "additive" for n, metric in enumerate(world.metrics)}
    return {
        "scores": scores, "chosen": chosen, "held_out": held_out, "folds": 5, "repeats": 2,
        "notes": ["Repeats of one mixture always lie in the same fold."],
    }  # fmt: skip


def _curve(final: float, tokens: int, name: str, points: int = 40) -> list[list[float]]:
    source = rng(1, "curve", name)
    steps = np.arange(1, points + 1) / points
    losses = final + 1.2 * (steps**-0.32 - 1) + 0.004 * source.standard_normal(points) * (steps < 1)
    return [[int(step * tokens), float(loss)] for step, loss in zip(steps, losses, strict=True)]


def _reached(points: list[list[float]], level: float) -> float | None:
    """The share of the run at which a curve first comes down to a level, between its points by a straight line."""
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if y1 <= level < y0:
            return (x0 + (x1 - x0) * (y0 - level) / (y0 - y1)) / points[-1][0]
    return None


def _interval(value: float, half: float) -> dict[str, float]:
    return {"value": value, "low": value - half, "high": value + half}


def _verify(world: World, mixtures: Mapping[str, Array], objective: Array, seed: int) -> dict[str, Any]:
    source, tokens, rows, trajectories = rng(seed, "verify"), 614_400, [], []
    large = {name: world.losses(weights, 0.9)[0] for name, weights in mixtures.items()}
    difference = {name: float((large[name] - large["natural"]) @ objective) for name in mixtures}
    ranked = sorted(difference, key=lambda name: difference[name])
    level = float(large["natural"] @ objective)
    for name, weights in mixtures.items():
        seeds = [large[name] + 0.005 * source.standard_normal(len(objective)) for _ in range(2)]
        losses = np.mean(seeds, axis=0)
        gap, half = difference[name], 0.011
        verdict = "as good as natural: the interval holds 0" if abs(gap) < half else "better than natural"
        rows.append({
            "mixture": name, "weights": weights.tolist(),
            "predicted": None if name == "natural" else _interval(gap * 1.08, 0.02),
            "measured": None if name == "natural" else _interval(gap, half),
            "rank_predicted": ranked.index(name) + 1, "rank_measured": ranked.index(name) + 1,
            "steps_share": 1.0 if name == "natural" else _reached(_curve(level + gap, tokens, f"{name}0"), level),
            "losses": dict(zip(world.metrics, losses.tolist(), strict=True)),
            "bpb": dict(zip(world.metrics, (losses / np.log(2) / 2.9).tolist(), strict=True)),
            "per_seed": [dict(zip(world.metrics, values.tolist(), strict=True)) for values in seeds],
            "verdict": "what the others are measured against" if name == "natural" else verdict if gap <= half else "worse",
        })  # fmt: skip
        for number, values in enumerate(seeds):
            points = _curve(float(values @ objective), tokens, f"{name}{number}")
            trajectories.append({"mixture": name, "seed": number, "points": points})
    return {
        "size": "96x3", "params": 333_000, "tokens": tokens, "seeds": [0, 1], "objective_noise": 0.004,
        "noise": dict.fromkeys(world.metrics, 0.006), "rows": rows, "trajectories": trajectories,
    }  # fmt: skip


def _final_phase(world: World, base: Array, objective: Array, seed: int) -> dict[str, Any]:
    source, tokens = rng(seed, "final"), 614_400
    upsampled = 0.5 * base
    upsampled[int(np.argmin(objective @ world.slopes))] += 0.5
    before, after = world.losses(base, 0.9)[0], world.losses(0.8 * base + 0.2 * upsampled, 0.9)[0]
    rows = [
        {"metric": metric, "continued": float(b), "upsampled": float(a), "difference": float(a - b), "noise": 0.006,
         "kind": metric.split(":")[0]}
        for metric, b, a in zip(world.metrics, before, after + 0.004 * source.standard_normal(len(after)), strict=True)
    ]  # fmt: skip
    continued = [point for point in _curve(float(before @ objective), tokens, "final") if point[0] >= 0.8 * tokens]
    gain = float((after - before) @ objective)
    raised = [[at, loss + gain * (at / tokens - 0.8) / 0.2] for at, loss in continued]
    trajectories = [{"branch": "continued", "points": continued}, {"branch": "upsampled", "points": raised}]
    return {
        "start": 0.8, "tokens": tokens, "switch_tokens": int(0.8 * tokens), "base": base.tolist(),
        "weights": upsampled.tolist(), "rows": rows, "trajectories": trajectories,
    }  # fmt: skip


def _optimum(names: tuple[str, ...], best: Array, gain: dict[str, float]) -> dict[str, Any]:
    forecast = {"metric": "objective", "kind": "difference", "unit": "nats/token", **gain}
    return {
        "gain": forecast | {"reference": "natural"},
        "ranges": {name: [w / 2, min(1.0, 2 * w)] for name, w in zip(names, best, strict=True)},
        "worst": {names[0]: 1.0}, "certificate": "No allowed mixture is better by more than 1e-09 nats/token.",
        "contrasts": [forecast | {"reference": "uniform"},
                      forecast | {"reference": "worst", "value": -2.0, "low": -3.0, "high": -1.0}],
        "prices": [
            {"kind": "floor", "name": name, "stated": 0.02, "price": 0.1 * n, "words": f"The floor of {name} binds."}
            for n, name in enumerate(names)
        ],
        "notes": [],
    }  # fmt: skip


def report_data(domains: int = 5, targets: int = 2, seed: int = 7, names: tuple[str, ...] = NAMES) -> dict[str, Any]:
    """The whole dict of a finished study; deterministic."""
    names = tuple(names[n] if n < len(names) else f"domain_{n:02d}" for n in range(domains))
    target_names = tuple(TARGETS[n] if n < len(TARGETS) else f"target_{n:02d}" for n in range(targets))
    target_metrics = [f"target:{name}" for name in target_names]
    metrics = (*(f"val:{name}" for name in names), *target_metrics)
    world, source = World(names, metrics, seed), rng(seed, "report")
    objective = np.array([1 / targets if metric in target_metrics else 0.0 for metric in metrics])
    supply = source.uniform(4e5, 4e6, domains).round()
    natural, uniform = supply / supply.sum(), np.full(domains, 1 / domains)
    designed = source.dirichlet(4 * natural * domains / 2 + 0.2, 21)
    guess = 0.6 * natural + 0.4 * np.eye(domains)[min(2, domains - 1)]
    floor = 0.5 / domains * 0.2
    best = np.full(domains, floor)
    pull = -(objective @ world.slopes)
    best += (1 - best.sum()) * (pull**4 / (pull**4).sum())
    mixtures = {"natural": natural, "uniform": uniform, "guess": guess, "optimized": best}
    runs = _runs(world, designed, natural, seed, target_metrics)
    stated = Objective(dict.fromkeys(target_metrics, 1.0), floors=dict.fromkeys(names, floor), epoch_cap=4)
    verify = _verify(world, mixtures, objective, seed)
    final = _final_phase(world, natural, objective, seed)
    measured = verify["rows"][3]["predicted"]
    schedule = Schedule.constant(Mixture(names, best), 3_000_000).switched(
        2_400_000, Mixture.normalized(names, final["weights"])
    )
    recipe = Recipe(
        schedule, stated, supply={name: int(tokens) for name, tokens in zip(names, supply, strict=True)}, params=333_000,
        forecasts=(
            Forecast("objective", "difference", measured["value"], measured["low"], measured["high"],
                     reference="natural", params=28_000, tokens=307_200),
        ),
        fingerprints={"corpus": "9f2c41d07a36be58", "runs": "0b7e5d1188c2fa13", "fit": "77aa90c3e41b02dd"},
        notes=("The intervals hold at the size of the proxies; at the larger size only differences were checked.",),
    )  # fmt: skip
    return {
        "schema": "mixwright/report/1", "title": "What should this model learn from?", "version": "0.1.0",
        "created": "2026-01-05T12:00:00+00:00",
        "study": "# the study\nsources:\n" + "".join(f"  {n}: {{path: {n}}}\n" for n in names),
        "seconds": {"curate": 14.2, "tokenize": 9.1, "sweep": 148.0, "fit": 4.2, "optimize": 0.4, "verify": 131.0},
        "cpu_seconds": {"curate": 22.0, "tokenize": 9.0, "sweep": 289.0, "fit": 4.1, "optimize": 0.4, "verify": 255.0},
        "sources": _sources(names, "sources", seed), "targets": _sources(target_names, "targets", seed),
        "rules": [{"rule": rule, "signal": signal, "min": low, "max": high} for rule, signal, low, high in RULES],
        "samples": _samples(names), "overlap": _overlap(_sources(names, "sources", seed)), "duplicates": _DUPLICATES,
        "agreement": {"ifd_vote": {
            "names": ["small.ifd", "large.ifd"], "spearman": [[1.0, 0.71], [0.71, 1.0]], "kept": [800, 900],
            "jaccard": [[1.0, 0.64], [0.64, None]], "compared": [[990, 985], [985, 990]], "votes": [200, 150, 640],
        }},
        "corpus": [
            {"domain": name, "tokens": int(tokens), "bytes": int(tokens * (2.2 + n % 3 / 3)), "documents": int(tokens / 700),
             "held_out_tokens": int(tokens / 20)}
            for n, (name, tokens) in enumerate(zip(names, supply, strict=True))
        ],
        "tokenizer": {"vocab": 4096, "hash": "c41d07a36be589f2"},
        "domains": list(names), "metrics": list(metrics), "target_metrics": target_metrics,
        "metric_weights": dict.fromkeys(target_metrics, 1 / targets), "runs": runs,
        "noise": {metric: {"sd": NOISE, "runs": 3} for metric in metrics},
        "validation": _validation(world, runs, objective, seed),
        "fit": _fit(world, runs, seed),
        "objective": stated.to_dict(), "bounds": {"low": [floor] * domains, "high": [0.8] * domains},
        "mixtures": {name: weights.tolist() for name, weights in mixtures.items()},
        "optimum": _optimum(names, best, measured),
        "verify": verify, "final_phase": final, "recipe": recipe.to_dict(),
        "files": [{"name": "recipe.yaml", "what": "the recipe"}, {"name": "runs.parquet", "what": "every run"},
                  {"name": "export/megatron.sh", "what": "the recipe for Megatron-LM"}],
        "notes": ["The domains are small: this shows how the method works, not a production mixture."],
    }  # fmt: skip


if __name__ == "__main__":
    from mixwright.report.page import write_page

    write_page(report_data(*(int(number) for number in sys.argv[2:])), Path(sys.argv[1]))
