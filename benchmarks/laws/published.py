"""The published tables (read where they lie, never copied) as arrays and as tables of runs, and the protocols' rows.

Notation: N rows, D domains, V validation sets; overall = the sum over the 22 Pile subsets of weight x loss.
"""

import csv
import os
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mixwright.core.observation import Runs
from mixwright.store.runs import read_runs

Array = NDArray[np.float64]
ROOT = Path(__file__).parents[2]
#: tokens of one step of the mixing-laws runs (README of the tables)
STEP_TOKENS = 1_048_576
#: non-embedding parameters by the authors' labels
PARAMS = {"70M": 18_915_328, "160M": 85_056_000, "305M": 201_541_632, "410M": 302_311_424}
#: run 999's c4 entry as the README corrects it: with it the weights sum to 1
DEFAULT_C4 = 38 / 256
#: the one RedPajama run with missing checkpoints, which the authors leave out where curves are fitted
LEFT_OUT = 207
#: which RedPajama source a Pile subset belongs to, by its name (a map that a user would write down)
REDPAJAMA_OWN = {
    "Github": ("github",),
    "ArXiv": ("arxiv",),
    "StackExchange": ("stackexchange",),
    "Wikipedia_en": ("wikipedia",),
    "Books3": ("books",),
    "BookCorpus2": ("books",),
    "PG19": ("books",),
    "Pile-CC": ("common_crawl", "c4"),
    "OpenWebText2": ("common_crawl", "c4"),
}
#: the first subset's permutation seed; the others follow
FIRST_SEED = 1000


def folder() -> Path:
    """Where the tables lie: MIXWRIGHT_PUBLISHED_RUNS, or ``../shared/published-runs`` beside the repository."""
    given = os.environ.get("MIXWRIGHT_PUBLISHED_RUNS")
    path = Path(given) if given else ROOT.parent / "shared" / "published-runs"
    if not (path / "regmix").is_dir():
        raise SystemExit(
            f"The published runs are not in {path}; set MIXWRIGHT_PUBLISHED_RUNS to the folder that has them."
        )
    return path


@cache
def regmix(name: str) -> Runs:
    """``train_1m`` (512 runs), ``test_1m`` or ``test_60m`` (256 each, row for row the same mixtures)."""
    return read_runs(folder() / "regmix" / f"{name}.csv").runs


def subset(number: int, seed: int) -> NDArray[np.int64]:
    """The first ``number`` rows of the seed's permutation of the 512 training rows."""
    return np.random.default_rng(seed).permutation(512)[:number]


@dataclass(frozen=True, eq=False)
class Curves:
    """Rows of one mixing-laws table: ``mix (N, D)``, ``losses (N, V)`` in nats/token, one row per run and checkpoint."""

    run: tuple[str, ...]
    index: NDArray[np.int64]
    params: NDArray[np.int64]
    step: NDArray[np.int64]
    fitted: NDArray[np.bool_]
    domains: tuple[str, ...]
    metrics: tuple[str, ...]
    mix: Array
    losses: Array

    def __len__(self) -> int:
        return len(self.run)

    def take(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> "Curves":
        index = np.flatnonzero(rows) if np.asarray(rows).dtype == bool else np.asarray(rows)
        same = {"domains", "metrics"}
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        picked = {
            k: v if k in same else tuple(v[i] for i in index) if k == "run" else v[index] for k, v in values.items()
        }
        return replace(self, **picked)

    def at(self, size: str | None = None, step: int | None = None) -> "Curves":
        keep = np.ones(len(self), dtype=bool)
        if size is not None:
            keep &= self.params == PARAMS[size]
        if step is not None:
            keep &= self.step == step
        return self.take(keep)

    def overall(self) -> Array:
        """The authors' overall validation loss, ``(N,)``; NaN where a subset was not measured."""
        return self.losses @ weights(self.metrics)

    def runs(self, own: bool = True) -> Runs:
        """As a table of runs, a row per checkpoint. With ``own`` the map of metrics to domains goes with it."""
        more = {}
        if own and any(f.name == "own" for f in fields(Runs)):
            more["own"] = own_map(self.domains, self.metrics)
        return Runs(
            domains=self.domains, metrics=self.metrics, run_id=self.run, weights=self.mix, losses=self.losses,
            tokens=self.step * float(STEP_TOKENS), params=self.params.astype(float),
            step=tuple(int(s) for s in self.step), **more,
        )  # fmt: skip


@cache
def mixing(name: str) -> Curves:
    """One table of mixing-laws: ``2mix``, ``3mix``, ``5mix``, ``redpajama`` or ``continual``."""
    with (folder() / "mixing-laws" / f"{name}.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["mix_sum"]]
    domains = tuple(
        c.removeprefix("mix_") for c in rows[0] if c.startswith("mix_") and c not in ("mix_index", "mix_sum")
    )
    metrics = tuple(c.removeprefix("loss_") for c in rows[0] if c.startswith("loss_"))

    def table(prefix: str, names: tuple[str, ...]) -> Array:
        return np.array([[float(row[prefix + n] or "nan") for n in names] for row in rows])

    mix = table("mix_", domains)
    index = np.array([int(row["mix_index"]) for row in rows])
    if name == "redpajama":
        mix[index == 999, domains.index("c4")] = DEFAULT_C4
    return Curves(
        tuple(row["run_id"] for row in rows), index, np.array([int(row["model_size"]) for row in rows]),
        np.array([int(row["step"]) for row in rows]), np.array([row["fit_set"] == "1" for row in rows]),
        domains, metrics, mix / mix.sum(axis=1, keepdims=True), table("loss_", metrics),
    )  # fmt: skip


@cache
def _valid() -> dict[str, tuple[float, str, str]]:
    """Per Pile subset: weight, the paper's group, the authors' pipeline group."""
    with (folder() / "mixing-laws" / "valid_weights.csv").open(newline="") as file:
        return {
            row["valid_domain"]: (float(row["weight"]), row["group"], row["pipeline_group"])
            for row in csv.DictReader(file)
        }


def weights(metrics: tuple[str, ...]) -> Array:
    """The weight of each metric in the overall loss, ``(V,)``; 0 for what is not one of the 22 Pile subsets."""
    return np.array([_valid().get(metric, (0.0, "", ""))[0] for metric in metrics])


def groups(metrics: tuple[str, ...]) -> tuple[tuple[str, ...], Array]:
    """The paper's five groups and the matrix ``(V, 5)`` that averages subsets into them."""
    names = ("academic", "prose", "dialogue", "symbolic", "internet")
    return names, _averaging(metrics, names, 1)


def pipeline_groups(metrics: tuple[str, ...]) -> Array:
    """The matrix ``(V, 5)`` that averages subsets into the arbitrary groups of the authors' RedPajama pipeline."""
    return _averaging(metrics, tuple(f"subset_{n}" for n in range(5)), 2)


def _averaging(metrics: tuple[str, ...], names: tuple[str, ...], column: int) -> Array:
    none = (0.0, "", "")
    member = np.array([[_valid().get(metric, none)[column] == name for name in names] for metric in metrics])
    share = member * weights(metrics)[:, None]
    return share / share.sum(axis=0)


def own_map(domains: tuple[str, ...], metrics: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Which domains a metric belongs to: by the paper's groups (5-mix), or by name (RedPajama)."""
    if "academic" in domains:
        return {m: (_valid()[m][1],) for m in metrics if m in _valid()}
    return {m: own for m, own in REDPAJAMA_OWN.items() if m in metrics and set(own) <= set(domains)}
