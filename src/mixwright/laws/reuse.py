"""When domains change: older runs keep their value.

Notation: N runs, D domains of today, A domains of the axis on which old and new runs meet (today's, and earlier versions of
revised ones), K coordinates; r a mixture ``(D,)``, z its coordinates ``(K,)``.

Two ways, from exact and narrow to approximate and wide:

* ``reuse``: the unchanged domains keep their proportions among one another and move as one, so that a new sweep has only the
  changed domains and one more to vary (conditional reuse, Olmix, arXiv 2602.12237). Where those proportions would not
  change at the new optimum this loses nothing.
* ``combined``: old and new runs in one table, each old weight put where its text now is, and the same law fitted to all;
  new runs are needed only where the old ones say nothing.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from mixwright.core.errors import DataError, StudyError
from mixwright.core.mixture import Mixture
from mixwright.core.objective import Group, Objective, Within
from mixwright.core.observation import Runs
from mixwright.laws._fit import GraphFit
from mixwright.laws._table import own_domains
from mixwright.laws.graph import Builder, Graph, Node

Array = NDArray[np.float64]
#: a weight below this counts as none when runs that had a removed domain are left out
NONE = 1e-6
#: mixtures whose coordinates give them back to within this are of the family
SAME = 1e-6
_TINY = 1e-300


@dataclass(frozen=True)
class Changes:
    """What became of the domains of older runs; a domain not named here is the same text under the same name.

    ``split`` gives per old domain the new ones and the part of its tokens that went to each (they sum to one), ``merged`` per
    new domain the old ones it holds, ``revised`` per new domain the old one that it is a new version of (the name may be
    the same), ``removed`` the old ones that are gone, ``added`` the new ones that were not there. StudyError for parts that
    do not sum to one and for a domain named twice.
    """

    split: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    merged: Mapping[str, Sequence[str]] = field(default_factory=dict)
    added: Sequence[str] = ()
    removed: Sequence[str] = ()
    revised: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for old, parts in self.split.items():
            total = sum(parts.values())
            if not (abs(total - 1) <= NONE and all(part >= 0 for part in parts.values())):
                raise StudyError(f"The parts of the split domain {old} must sum to one; they sum to {total:.6g}.")
        for names, which in ((self.old, "older"), (self.new, "newer")):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise StudyError(
                    f"The changes name the {which} domain {twice[0]} twice; one thing happens to a domain."
                )

    @property
    def old(self) -> tuple[str, ...]:
        """The older runs' domains that something happened to."""
        merged = [name for names in self.merged.values() for name in names]
        return (*self.split, *merged, *self.removed, *self.revised.values())

    @property
    def new(self) -> tuple[str, ...]:
        """The domains of today that something happened to."""
        parts = [name for names in self.split.values() for name in names]
        return (*parts, *self.merged, *self.added, *self.revised)

    def earlier(self, new: str) -> str:
        """The name under which the old text of a revised domain goes on beside the new one."""
        old = self.revised[new]
        return f"{old} (before)" if old == new else old


@dataclass(frozen=True, eq=False)
class Combined:
    """Old and new ``runs`` on one axis, today's ``domains``, and sentences on what was done.

    The table's domains are today's and then earlier versions of revised ones, whose weight is zero in new runs.
    """

    runs: Runs
    domains: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def over_today(self) -> Runs:
        """The runs over today's domains, an earlier version's weight put on the domain that came after it."""
        if self.runs.domains == self.domains:
            return self.runs
        weights = self.runs.weights @ self._onward(self.runs.domains).T
        own = {m: tuple(d for d in names if d in self.domains) for m, names in self.runs.own.items()}
        return replace(self.runs, domains=self.domains, weights=weights, own=own, related={})

    def _onward(self, domains: Sequence[str]) -> Array:
        """``(D, A)``: takes mixtures over ``domains`` to today's, earlier versions to what came after them."""
        return np.array(
            [[float(name == a or self.runs.related.get(name) == a) for a in domains] for name in self.domains]
        )

    def today(self, fit: GraphFit) -> GraphFit:
        """A fit of these runs as a function of mixtures of today's domains."""
        if self.runs.domains == self.domains:
            return fit
        matrix = np.array([[float(name == a) for name in self.domains] for a in fit.domains])
        return through(fit, self.domains, matrix, fit.swept @ self._onward(fit.domains).T)


def combined(new: Runs, older: Sequence[tuple[Runs, Changes]]) -> Combined:
    """The new runs and older ones, with each old weight where its text now is.

    A split domain's weight goes to its parts as given (exact, if the parts were mixed so), a merged one's to the new
    domain (exact only if the parts' proportions stayed), an added domain has none, a run with a removed domain is left
    out and counted, and a revised domain's earlier version stays a domain of its own, to which laws expect the new one
    to be alike (``Runs.related``). Metrics go by name and must be in the same unit. DataError for a domain that the
    changes do not explain. Cost: the tables once.
    """
    axis = list(new.domains)
    for _, changes in older:
        axis += [name for name in map(changes.earlier, changes.revised) if name not in axis]
    metrics = tuple(dict.fromkeys([*new.metrics, *(m for runs, _ in older for m in runs.metrics)]))
    related = {name: changes.earlier(name) for _, changes in older for name in changes.revised}
    tables, notes = [(new, np.array([[float(a == d) for d in new.domains] for a in axis]))], list[str]()
    for number, (runs, changes) in enumerate(older, 1):
        kept, matrix, said = _carried(runs, changes, axis, new.domains, number)
        tables.append((kept, matrix))
        notes += said
    runs = _stacked(tables, tuple(axis), metrics, notes)
    return Combined(replace(runs, own=_own(tables, axis), related=related), new.domains, tuple(notes))


def _carried(
    runs: Runs, changes: Changes, axis: Sequence[str], today: Sequence[str], number: int
) -> tuple[Runs, Array, list[str]]:
    """The runs that can be carried over, the matrix ``(A, D)`` that takes their weights to the axis, and sentences."""
    _explained(runs, changes, today)
    matrix = np.zeros((len(axis), len(runs.domains)))
    place = {name: n for n, name in enumerate(axis)}
    touched = frozenset(changes.old)
    for d, name in enumerate(runs.domains):
        if name not in touched:
            matrix[place[name], d] = 1.0
        for part, share in changes.split.get(name, {}).items():
            matrix[place[part], d] = share
    for target, parts in changes.merged.items():
        matrix[place[target], [runs.domains.index(name) for name in parts]] = 1.0
    for revised, old in changes.revised.items():
        matrix[place[changes.earlier(revised)], runs.domains.index(old)] = 1.0
    gone = [runs.domains.index(name) for name in changes.removed]
    had = np.asarray((runs.weights[:, :, gone] > NONE).any(axis=(1, 2)))
    said = []
    if had.any():
        said.append(
            f"{int(had.sum())} of {len(runs)} runs of older table {number} were left out for having removed domains "
            f"({', '.join(changes.removed)})."
        )
    if had.all():
        raise DataError(
            f"Every run of older table {number} has one of the removed domains {', '.join(changes.removed)}."
        )
    added = [name for name in today if not matrix[place[name]].any() and name not in changes.revised]
    if added:
        said.append(f"Taken as added, with no weight in older table {number}: {', '.join(added)}.")
    return runs.take(np.flatnonzero(~had)), matrix, said


def _explained(runs: Runs, changes: Changes, today: Sequence[str]) -> None:
    """DataError for a domain that the changes name and that is not there, or that is gone without a word."""
    for given, known, which in ((changes.old, runs.domains, "older runs"), (changes.new, today, "runs of today")):
        for name in given:
            if name not in known:
                raise DataError(
                    f"The changes name the domain {name!r}, which the {which} do not have.{_near(name, known)}"
                )
    lost = [name for name in runs.domains if name not in changes.old and name not in today]
    if lost:
        raise DataError(
            f"The older runs have the domain {lost[0]!r}, which those of today do not have.{_near(lost[0], today)} Say what "
            "became of it: split, merged, removed or revised."
        )
    untold = [name for name in changes.new if name in runs.domains and name not in changes.old]
    if untold:
        raise DataError(
            f"The changes say how the domain {untold[0]!r} came about, but the older runs have it too. If its text is "
            f"another one now, say revised: {{{untold[0]}: {untold[0]}}}."
        )


def _near(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def _stacked(
    tables: Sequence[tuple[Runs, Array]], axis: tuple[str, ...], metrics: tuple[str, ...], notes: list[str]
) -> Runs:
    """All rows under one another; ids that stand in several tables get the table's number before them."""
    phases = max(runs.weights.shape[1] for runs, _ in tables)
    taken: set[str] = set()
    ids: list[str] = []
    for number, (runs, _) in enumerate(tables):
        clash = taken & set(runs.run_id)
        names = [f"{number}/{name}" if name in clash else name for name in runs.run_id]
        if clash:
            notes.append(
                f"{len(clash)} run ids stand in several tables; those of older table {number} begin with {number}/."
            )
        taken |= set(names)
        ids += names
    units = {m: u for runs, _ in reversed(tables) for m, u in zip(runs.metrics, runs.units, strict=True)}
    for runs, _ in tables:
        for metric, unit in zip(runs.metrics, runs.units, strict=True):
            if unit != units[metric]:
                raise DataError(f"{metric} is in {units[metric]} in one table of runs and in {unit} in another.")

    def wide(values: Array, runs: Runs) -> Array:
        out = np.full((len(runs), len(metrics)), np.nan)
        out[:, [metrics.index(metric) for metric in runs.metrics]] = values
        return out

    def phased(values: Array) -> Array:
        return np.pad(values, [(0, 0), (0, phases - values.shape[1]), *[(0, 0)] * (values.ndim - 2)])

    # a single phase whose length is not known has the length 1
    return Runs(
        axis, metrics, tuple(ids),
        np.concatenate([phased(runs.weights @ matrix.T) for runs, matrix in tables]),
        np.concatenate([wide(runs.losses, runs) for runs, _ in tables]),
        phase_tokens=np.concatenate([phased(runs.phase_tokens) for runs, _ in tables]),
        tokens=np.concatenate([runs.tokens for runs, _ in tables]),
        params=np.concatenate([runs.params for runs, _ in tables]),
        bpb=np.concatenate([wide(runs.bpb, runs) for runs, _ in tables]),
        unigram=np.concatenate([wide(runs.unigram, runs) for runs, _ in tables]),
        step=tuple(value for runs, _ in tables for value in runs.step),
        seed=tuple(value for runs, _ in tables for value in runs.seed),
        status=tuple(value for runs, _ in tables for value in runs.status),
        role=tuple(value for runs, _ in tables for value in runs.role),
        units=tuple(units[metric] for metric in metrics),
    )  # fmt: skip


def _own(tables: Sequence[tuple[Runs, Array]], axis: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Which metrics belong to which domains: what belonged to an old one belongs to what it became."""
    found: dict[str, set[str]] = {}
    for runs, matrix in tables:
        own = own_domains(runs.metrics, runs.domains, runs.own)
        for metric, mine in zip(runs.metrics, own, strict=True):
            found.setdefault(metric, set()).update(
                axis[a] for a in np.flatnonzero(matrix[:, mine].any(axis=1)).tolist()
            )
    return {metric: tuple(name for name in axis if name in names) for metric, names in found.items()}


def through(fit: GraphFit, domains: Sequence[str], matrix: Array, swept: Array) -> GraphFit:
    """``fit`` as a function of other weights z ``(K,)`` over ``domains``: its own are ``matrix (D, K) @ z``.

    ``swept (R, K)`` are the mixtures it was fitted on, in the new weights. Exact.
    """
    build = Builder(domains)
    nodes = build.graft(fit.graph, weights=build.matmul(matrix, build.weights()))
    for metric, outputs in fit.graph.outputs.items():
        build.output(metric, **{name: nodes[node] for name, node in outputs.items()})
    return replace(fit, domains=tuple(domains), graph=build.graph(), swept=swept)


def underneath(fit: GraphFit) -> tuple[GraphFit, Array] | None:
    """The inverse of ``through``: a fit over more basic weights and the matrix that leads to them, or None if there is none.

    Its domains are numbers. What is convex in those weights is convex in the fit's own.
    """
    nodes = fit.graph.nodes
    fronts = [n for n, node in enumerate(nodes) if node.op == "matmul" and nodes[node.args[1]].op == "weights"]
    users = [n for n, node in enumerate(nodes) if any(nodes[arg].op == "weights" for arg in node.args)]
    if len(fronts) != 1 or users != fronts:
        return None
    matrix = np.array(nodes[nodes[fronts[0]].args[0]].value).reshape(-1, len(fit.domains))
    names = tuple(str(d) for d in range(len(matrix)))
    inner = tuple(Node("weights") if n == fronts[0] else node for n, node in enumerate(nodes) if node.op != "weights")
    place = np.cumsum([node.op != "weights" for node in nodes]) - 1
    inner = tuple(replace(node, args=tuple(int(place[arg]) for arg in node.args)) for node in inner)
    outputs = {m: {name: int(place[n]) for name, n in o.items()} for m, o in fit.graph.outputs.items()}
    return replace(fit, domains=names, graph=Graph(names, inner, outputs), swept=fit.swept @ matrix.T), matrix


@dataclass(frozen=True, eq=False)
class Reuse:
    """A family of mixtures of ``domains (D,)``: those with unchanged domains in fixed proportions.

    ``free (K,)`` are its coordinates, each a weight: all unchanged domains together, then every changed one; they sum to
    one, and the mixture is ``matrix (D, K) @ z``. Design, fit and optimize on ``free``, then take ``mixtures``.
    """

    domains: tuple[str, ...]
    free: tuple[str, ...]
    matrix: Array

    @property
    def member(self) -> Array:
        """``(D, K)``: 1 where a domain belongs to a coordinate, also where its part of it is none."""
        where = [self.free.index(name) if name in self.free else 0 for name in self.domains]
        return np.eye(len(self.free))[where]

    def mixtures(self, z: Array) -> Array:
        """Mixtures ``(N, D)`` from coordinates ``(N, K)``."""
        return np.asarray(np.atleast_2d(z) @ self.matrix.T)

    def coordinates(self, weights: Array) -> Array:
        """Coordinates ``(N, K)`` of mixtures ``(N, D)``; of one outside the family, those with the same sums."""
        return np.asarray(np.atleast_2d(weights) @ self.member)

    def runs(self, runs: Runs) -> tuple[Runs, str]:
        """The runs whose mixtures are of the family, over ``free``, and a sentence on those that are not."""
        weights = runs.weights[:, :, [runs.domains.index(name) for name in self.domains]]
        z = weights @ self.member
        inside = (np.abs(z @ self.matrix.T - weights).max(axis=2) <= SAME).all(axis=1)
        if not inside.any():
            raise DataError("No run has the unchanged domains in the proportions that are reused.")
        own = own_domains(runs.metrics, self.domains, runs.own)
        changed = np.array([name in self.free for name in self.domains])  # a part of the group is not the metric's own
        mine = {
            metric: tuple(name for name, has in zip(self.domains, row & changed, strict=True) if has)
            for metric, row in zip(runs.metrics, own, strict=True)
        }
        kept = replace(runs, domains=self.free, weights=z, own=mine, related={}).take(inside)
        left = len(runs) - len(kept)
        if not left:
            return kept, ""
        return kept, f"{left} of {len(runs)} runs have the unchanged domains in other proportions and are left out."

    def fit(self, fit: GraphFit) -> GraphFit:
        """A fit over ``domains`` as one over ``free``: exact within the family."""
        order = [self.domains.index(name) for name in fit.domains]
        return through(fit, self.free, self.matrix[order], fit.swept @ self.member[order])

    def supply(self, supply: Array) -> Array:
        """Unique tokens per coordinate ``(K,)`` from those per domain ``(D,)``: of the group, what its scarcest allows."""
        each = np.asarray(supply, dtype=np.float64)[:, None] / np.maximum(self.matrix, _TINY)
        return np.asarray(np.where(self.matrix > 0, each, np.inf).min(axis=0))

    def objective(self, objective: Objective) -> Objective:
        """The objective over ``free``, exactly: bounds and costs of unchanged domains become those of their group.

        StudyError for a group of domains, or a prior mixture, that the family cannot express.
        """
        low, high = objective.bounds(self.domains)
        if np.any((low > 0) & (self.matrix.max(axis=1) == 0)):
            raise StudyError("A domain with a floor has no weight in the mixture whose proportions are reused.")
        floors = np.where(self.matrix > 0, low[:, None] / np.maximum(self.matrix, _TINY), 0.0).max(axis=0)
        ceilings = np.where(self.matrix > 0, high[:, None] / np.maximum(self.matrix, _TINY), 1.0).min(axis=0)
        costs = np.array([objective.costs.get(name, 0.0) for name in self.domains]) @ self.matrix
        return replace(
            objective, fixed={}, floors=self._named(np.minimum(floors, 1.0)), ceilings=self._named(np.minimum(ceilings, 1.0)),
            costs=self._named(costs) if objective.costs else {}, within=self._within(objective.within),
            groups={name: self._group(name, group) for name, group in objective.groups.items()},
        )  # fmt: skip

    def _named(self, values: Array) -> dict[str, float]:
        return dict(zip(self.free, values.tolist(), strict=True))

    def _group(self, name: str, group: Group) -> Group:
        inside = np.array([domain in group.domains for domain in self.domains], dtype=float)
        share = inside @ self.matrix
        if np.any((share > SAME) & (share < 1 - SAME)):
            raise StudyError(
                f"objective.groups.{name} holds some but not all of the unchanged domains, which move as one here. Leave it "
                "out, or sweep all domains."
            )
        return replace(group, domains=tuple(free for free, part in zip(self.free, share, strict=True) if part > 0.5))

    def _within(self, within: Within | None) -> Within | None:
        if within is None:
            return None
        prior = None if isinstance(within.prior, str) else within.over(self.domains, {})
        z = None if prior is None else self.coordinates(prior)
        if prior is None or z is None or np.abs(self.mixtures(z) - prior).max() > SAME:
            raise StudyError(
                "objective.within needs a prior, given by its weights, in which the unchanged domains have the proportions "
                "that are reused; this one is not."
            )
        return replace(within, prior=self._named(z[0]))


def reuse(optimum: Mixture | Mapping[str, float], domains: Sequence[str], changes: Changes | None = None) -> Reuse:
    """The family in which the domains that did not change keep the proportions they have in ``optimum``.

    ``domains`` are today's; those that the optimum does not have, or that ``changes`` name, are free one by one. DataError
    if nothing is unchanged.
    """
    weights = optimum.to_dict() if isinstance(optimum, Mixture) else dict(optimum)
    touched = frozenset(changes.new) if changes else frozenset()
    same = [name for name in domains if name in weights and name not in touched]
    total = sum(weights[name] for name in same)
    if not total > 0:
        raise DataError("No domain with any weight is unchanged, so there are no proportions to reuse.")
    together = "unchanged"
    while together in domains:
        together += "*"
    changed = [name for name in domains if name not in same]
    matrix = np.zeros((len(domains), 1 + len(changed)))
    for d, name in enumerate(domains):
        matrix[d, 0 if name in same else 1 + changed.index(name)] = weights[name] / total if name in same else 1.0
    return Reuse(tuple(domains), (together, *changed), matrix)
