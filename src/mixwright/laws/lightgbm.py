"""Boosted trees on the weights, with LightGBM and the settings of RegMix (Liu et al. 2024, arXiv 2407.01492).

RegMix's own settings are 1000 trees at rate 0.01 and LightGBM's defaults, among them at least 20 runs in a leaf: below 40 runs
that is the constant predictor. Here leaves may be smaller where runs are few, and nothing stops early on test runs.

Trees are steps: their gradient is zero, and beyond the runs they stay where they are. Needs the extra ``mixwright[lightgbm]``.

Notation: N runs, D domains, M metrics, B members, T trees.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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

        Cost for 13 metrics: some 10 CPU-seconds with 64 runs, a minute with 512, as every fold and member is boosted anew.
        ModuleNotFoundError where LightGBM is not installed.
        """
        used, note = one_setting(runs)
        table, seed = tabulate(used), int(rng.integers(1 << 62))
        draws = stream(seed, "bootstrap").exponential(size=(self.members, len(used)))
        place = np.array([used.domains.index(domain) for domain in table.domains])
        every = np.ones(len(used), dtype=bool)
        whole = [self._boost(table, m, every, None) for m in range(len(table.metrics))]
        bags = [[self._boost(table, m, every, draw) for draw in draws] for m in range(len(table.metrics))]
        residuals, variance = self._held_out(table, draws, seed)

        def write(build: Builder, m: int) -> tuple[int, int, int]:
            weights = build.weights()
            trees = np.concatenate([_moved(forest, place) for forest in bags[m]])
            return (
                build.tree(weights, _moved(whole[m], place)),
                build.tree(weights, trees, self.member_trees), self.members,
            )  # fmt: skip

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

    def _boost(self, table: Table, metric: int, rows: NDArray[np.bool_], draw: Array | None) -> Array:
        """Trees ``(2 numbers a node)`` fitted to the runs ``rows`` that measured the metric; a member's where a draw is given."""
        chosen = np.flatnonzero(rows & table.known[metric])
        chosen = chosen if len(chosen) >= 2 else np.flatnonzero(table.known[metric])
        trees = self.trees if draw is None else self.member_trees
        weight = None if draw is None else draw[chosen]
        mean = float(np.average(table.y[metric, chosen], weights=weight))
        grown = _train(
            table.x[chosen], table.y[metric, chosen] - mean, weight,
            trees, self.rate * self.trees / trees, self._leaf(table, metric),
        )  # fmt: skip
        written = [_preorder(tree) for tree in grown] + [np.array([-1.0, 0.0])] * (trees - len(grown))
        written[0][1::2][written[0][0::2] < 0] += mean
        return np.concatenate(written)

    def _held_out(self, table: Table, draws: Array, seed: int) -> tuple[Array, Array]:
        """Per run and metric ``(N, M)``: measured less predicted when held out, and the members' variance there; else NaN."""
        residuals, variance = np.full(table.y.T.shape, np.nan), np.full(table.y.T.shape, np.nan)
        fold = deal_folds(table.x, self.folds, stream(seed, "folds"))
        for part in range(int(fold.max(initial=-1)) + 1) if fold.max(initial=-1) > 1 else ():
            outside, rows = fold != part, np.flatnonzero(fold == part)
            for m in range(len(table.metrics)):
                known = rows[table.known[m, rows]]
                build = Builder(table.domains)
                one = build.tree(build.weights(), self._boost(table, m, outside, None))
                bags = [self._boost(table, m, outside, draw) for draw in draws[:_HELD_OUT]]
                each = build.tree(build.weights(), np.concatenate(bags), self.member_trees)
                mean, members = build.graph().evaluate([one, each], table.x[known])
                residuals[known, m] = table.y[m, known] - mean[:, 0]
                variance[known, m] = members.var(axis=1, ddof=1) if members.shape[1] > 1 else 0.0
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


def _train(x: Array, y: Array, weight: Array | None, trees: int, rate: float, leaf: int) -> list[Mapping[str, Any]]:
    """The trees that LightGBM grows, as it writes them down; on one thread, the same every time."""
    import lightgbm

    settings = {
        "objective": "regression", "learning_rate": rate, "min_data_in_leaf": leaf, "boost_from_average": False,
        "num_threads": 1, "deterministic": True, "force_row_wise": True, "seed": 42, "verbosity": -1,
    }  # fmt: skip
    data = lightgbm.Dataset(x, y, weight=weight, params=settings)
    model = lightgbm.train(settings, data, num_boost_round=trees)
    return [tree["tree_structure"] for tree in model.dump_model()["tree_info"]]


def _preorder(tree: Mapping[str, Any]) -> Array:
    """A tree as the graph's operation reads it: nodes in preorder, two numbers each."""
    return np.array([number for node in _nodes(tree) for number in node])


def _nodes(tree: Mapping[str, Any]) -> Iterator[tuple[float, float]]:
    if "split_feature" not in tree:
        yield -1.0, float(tree["leaf_value"])
        return
    yield float(tree["split_feature"]), float(tree["threshold"])
    yield from _nodes(tree["left_child"])
    yield from _nodes(tree["right_child"])


def _moved(forest: Array, place: NDArray[np.int64]) -> Array:
    """The same trees over domains in another order: domain d of theirs is ``place[d]``."""
    out = forest.copy()
    tests = out[0::2] >= 0
    out[0::2][tests] = place[out[0::2][tests].astype(np.int64)]
    return out
