"""Boosted trees on the weights, with LightGBM and the settings of RegMix (Liu et al. 2024, arXiv 2407.01492).

RegMix's own settings are 1000 trees at rate 0.01 and LightGBM's defaults, among them at least 20 runs in a leaf: below 40 runs
that is the constant predictor. Here leaves may be smaller where runs are few, and nothing stops early on test runs.

Trees are steps: their gradient is zero, and beyond the runs they stay where they are. Needs the extra ``mixwright[lightgbm]``.

Notation: N runs, D domains, M metrics, B members, T trees.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Gt
from numpy.typing import NDArray

from mixwright.core.law import Law
from mixwright.core.observation import Runs
from mixwright.core.rng import rng as stream
from mixwright.laws._fit import GraphFit
from mixwright.laws._fitting import assemble
from mixwright.laws._table import Table, deal_folds, one_setting, tabulate
from mixwright.laws.graph import Builder

Array = NDArray[np.float64]
#: LightGBM's, and so RegMix's, number of runs in a leaf
_LEAF = 20
#: where runs are few: a leaf has at least so many, and otherwise this part of them
_FEWEST, _PART = 3, 6
#: members fitted for each held-out fold
_HELD_OUT = 4


@dataclass(frozen=True)
class Lightgbm(Law):
    """``trees`` at ``rate``, leaves of at least ``leaf`` runs (None: 20, or a sixth of the runs where that is less, at least 3).

    Members are fitted to runs reweighted by independent exponential draws, with ``member_trees`` each at a rate as much
    larger as these are fewer: they scatter by more than that matters.
    """

    members: Annotated[int, Ge(2)] = 32
    folds: Annotated[int, Ge(2)] = 5
    trees: Annotated[int, Ge(1)] = 1000
    rate: Annotated[float, Gt(0)] = 0.01
    member_trees: Annotated[int, Ge(1)] = 50
    leaf: Annotated[int, Ge(1)] | None = None

    def fit(self, runs: Runs, rng: np.random.Generator) -> GraphFit:
        """Fit every metric of ``runs``, all of one size and token count as for other laws.

        Cost for 13 metrics: some seconds with 64 runs, half a minute with 512, as every fold and member is boosted anew.
        ModuleNotFoundError where LightGBM is not installed.
        """
        used, note = one_setting(runs)
        table, seed = tabulate(used), int(rng.integers(1 << 62))
        draws = stream(seed, "bootstrap").exponential(size=(self.members, len(used)))
        place = np.array([used.domains.index(domain) for domain in table.domains])
        every = np.ones(len(used), dtype=bool)
        whole = [self._boost(table, m, every, None).written() for m in range(len(table.metrics))]
        bags = [
            np.concatenate([self._boost(table, m, every, draw).written() for draw in draws])
            for m in range(len(table.metrics))
        ]
        residuals, variance = self._held_out(table, draws, seed)

        def write(build: Builder, m: int) -> tuple[int, int, int]:
            weights = build.weights()
            members = build.tree(weights, _moved(bags[m], place), self.member_trees)
            return build.tree(weights, _moved(whole[m], place)), members, self.members

        return assemble(
            "lightgbm", table, used, residuals, variance, write,
            [self._status(table, m, whole[m], note) for m in range(len(whole))],
            [{"leaf": self._leaf(table, m), "trees": self.trees} for m in range(len(whole))],
        )  # fmt: skip

    def _leaf(self, table: Table, metric: int) -> int:
        """The least number of runs in a leaf."""
        if self.leaf is not None:
            return self.leaf
        return min(_LEAF, max(_FEWEST, int(table.known[metric].sum()) // _PART))

    def _boost(self, table: Table, metric: int, rows: NDArray[np.bool_], draw: Array | None) -> _Boosted:
        """Trees fitted to the runs ``rows`` that measured the metric; a member's where a draw is given."""
        chosen = np.flatnonzero(rows & table.known[metric])
        chosen = chosen if len(chosen) >= 2 else np.flatnonzero(table.known[metric])
        trees = self.trees if draw is None else self.member_trees
        weight = None if draw is None else draw[chosen]
        rate = self.rate * self.trees / trees
        return _Boosted.grow(table.x[chosen], table.y[metric, chosen], weight, trees, rate, self._leaf(table, metric))

    def _held_out(self, table: Table, draws: Array, seed: int) -> tuple[Array, Array]:
        """Per run and metric ``(N, M)``: measured less predicted when held out, and the members' variance there; else NaN."""
        residuals, variance = np.full(table.y.T.shape, np.nan), np.full(table.y.T.shape, np.nan)
        fold = deal_folds(table.x, self.folds, stream(seed, "folds"))
        for part in range(int(fold.max(initial=-1)) + 1) if fold.max(initial=-1) > 1 else ():
            outside, rows = fold != part, np.flatnonzero(fold == part)
            for m in range(len(table.metrics)):
                known = rows[table.known[m, rows]]
                if known.size:
                    x = table.x[known]
                    residuals[known, m] = table.y[m, known] - self._boost(table, m, outside, None).predict(x)
                    each = [self._boost(table, m, outside, draw).predict(x) for draw in draws[:_HELD_OUT]]
                    variance[known, m] = np.var(each, axis=0, ddof=1)
        return residuals, variance

    def _status(self, table: Table, metric: int, forest: Array, note: str) -> str:
        """``converged``, or what a reader of this metric's predictions must know."""
        known, runs = int(table.known[metric].sum()), table.known.shape[1]
        words = [note] if note else []
        if known < runs:
            words.append(f"fitted on the {known} of {runs} runs that measured it")
        if (forest[0::2] < 0).all():
            words.append(
                f"the trees never split ({known} runs, at least {self._leaf(table, metric)} in a leaf): this is the mean"
            )
        return "; ".join(words) or "converged"


@dataclass(frozen=True, eq=False)
class _Boosted:
    """What LightGBM grew on losses less their mean: a booster asked for ``trees``, and that mean."""

    booster: Any
    trees: int
    mean: float

    @classmethod
    def grow(cls, x: Array, y: Array, weight: Array | None, trees: int, rate: float, leaf: int) -> _Boosted:
        """On one thread, the same every time."""
        import lightgbm

        settings = {
            "objective": "regression", "learning_rate": rate, "min_data_in_leaf": leaf, "boost_from_average": False,
            "num_threads": 1, "deterministic": True, "force_row_wise": True, "seed": 42, "verbosity": -1,
        }  # fmt: skip
        mean = float(np.average(y, weights=weight))
        data = lightgbm.Dataset(x, y - mean, weight=weight, params=settings)
        grown = lightgbm.train(settings, data, num_boost_round=trees, keep_training_booster=True)
        return cls(grown, trees, mean)

    def predict(self, x: Array) -> Array:
        """Losses ``(N,)``."""
        return np.asarray(self.booster.predict(x)) + self.mean

    def written(self) -> Array:
        """The trees as the graph's operation reads them; the mean is in the first one, absent trees are zero."""
        trees = [_preorder(text) for text in self.booster.model_to_string().split("Tree=")[1:]]
        trees += [[-1.0, 0.0] for _ in range(self.trees - len(trees))]
        first = np.array(trees[0])
        first[1::2][first[0::2] < 0] += self.mean
        return np.concatenate([first, *trees[1:]])


def _preorder(text: str) -> list[float]:
    """A tree from LightGBM's text: nodes in preorder, two numbers each.

    LightGBM numbers forks from 0; the child ``-1 - n`` is leaf n.
    """
    lines = text.partition("end of trees")[0].splitlines()
    field = {name: values.split() for name, _, values in (line.partition("=") for line in lines)}
    leaves = field["leaf_value"]
    if len(leaves) == 1:
        return [-1.0, float(leaves[0])]
    out: list[float] = []
    stack = [0]
    while stack:
        at = stack.pop()
        if at < 0:
            out += [-1.0, float(leaves[-1 - at])]
        else:
            out += [float(field["split_feature"][at]), float(field["threshold"][at])]
            stack += [int(field["right_child"][at]), int(field["left_child"][at])]
    return out


def _moved(forest: Array, place: NDArray[np.int64]) -> Array:
    """The same trees over domains in another order: domain d of theirs is ``place[d]``."""
    out = forest.copy()
    tests = out[0::2] >= 0
    out[0::2][tests] = place[out[0::2][tests].astype(np.int64)]
    return out
