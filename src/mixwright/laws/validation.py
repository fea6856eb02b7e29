"""How well laws predict runs they have not seen: nested cross-validation over all swept runs.

Notation: N runs, M metrics, q ``(M,)`` the objective's weights of the metrics.

In each repetition the mixtures are dealt into folds (runs of one mixture share a fold). Every law is fitted without a fold
and predicts it. The row ``nested`` is what a user of the tool gets: in every outer fold each metric is predicted by the
law that did best on the inner folds, which were cut from the outer fold's training runs alone. So no number here has
seen the run it is about, and neither has the choice of law. The metric ``objective`` is the weighted mean of metrics,
predicted as the weighted mean of their predictions; it is never fitted itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixwright.core.errors import StudyError
from mixwright.core.find import find
from mixwright.core.law import Law, Validation
from mixwright.core.observation import Runs
from mixwright.core.rng import rng as stream
from mixwright.laws._calibration import Z90
from mixwright.laws._fit import GraphFit, join
from mixwright.laws._noise import mixture_groups, seed_noise
from mixwright.laws._table import deal_folds, one_setting

Array = NDArray[np.float64]
#: the pseudo-metric that is the weighted mean of the objective's metrics
OBJECTIVE = "objective"
#: the pseudo-law that is, in each fold, the law chosen in the inner folds
NESTED = "nested"
#: members of the ensembles fitted only to see whether their intervals cover
_MEMBERS = 12
#: with more runs than this, what the folds of one fit say of a law is settled
MANY_RUNS = 128
#: fewer mixtures than this cannot be cross-validated
_FEWEST = 3


@dataclass(frozen=True)
class _Held:
    """Predictions ``mean`` and standard deviation ``total`` (law and seed noise) of held-out losses, ``(N, M + 1)``.

    The last column is the objective.
    """

    mean: Array
    total: Array


@dataclass(frozen=True)
class _Round:
    """One outer fold: which repetition, which rows were held out, and what each law predicts for all rows."""

    repeat: int
    rows: NDArray[np.int64]
    held: Mapping[str, _Held]


def validate(
    runs: Runs,
    laws: Sequence[str] = ("hierarchical",),
    baselines: Sequence[str] = ("linear", "mean"),
    *,
    metric_weights: Array | None = None,
    folds: int = 5,
    repeats: int = 2,
    rng: np.random.Generator,
    on_progress: Callable[[float], None] | None = None,
) -> Validation:
    """Score laws and baselines on held-out runs, and choose a law for every metric: ``laws`` stand in order of preference.

    The hierarchical law weighs three ways to predict by held-out errors itself, so the default has no other beside it.
    ``metric_weights (M,)`` sum to one (None: equal). Only usable runs of the commonest size and token count enter. Raises
    StudyError for an unknown law. With fewer than three mixtures nothing can be held out: the scores are empty, the
    first law is chosen and a note says so. Cost: ``repeats * folds + 1`` fits per law; for 20 runs, 7 metrics and 4
    laws a few CPU-seconds. With more than ``MANY_RUNS`` runs, laws that no metric would choose are fitted once only.
    """
    used, note = one_setting(runs)
    q = np.full(len(used.metrics), 1 / len(used.metrics)) if metric_weights is None else np.asarray(metric_weights)
    seed = int(rng.integers(1 << 62))
    order = np.argsort(np.array(used.run_id))  # so that the rows' order cannot matter
    used = used.take(order)
    names = (*laws, *(name for name in baselines if name not in laws))
    mixtures = int(mixture_groups(used.mixtures()).max(initial=-1)) + 1
    notes = [f"{note[0].upper()}{note[1:]}."] if note else []
    first = dict.fromkeys(used.metrics, laws[0])
    splits = _splits(used, folds, repeats, seed) if mixtures >= _FEWEST else []
    scored = _scorable(used, splits)
    if not splits or not q[scored].any():
        notes.append(
            f"{mixtures} different mixtures, or their losses, are too few to hold any out: no law could be scored."
        )
        return Validation({}, first, {}, 0, 0, tuple(notes))
    if not scored.all():
        thin = ", ".join(metric for metric, fine in zip(used.metrics, scored, strict=True) if not fine)
        notes.append(f"Measured in too few runs to be held out: {thin}. The objective is scored without.")
        used = used.only([metric for metric, fine in zip(used.metrics, scored, strict=True) if fine])
        q = q[scored] / q[scored].sum()
    truth = np.concatenate([used.losses, (used.losses[:, q > 0] @ q[q > 0])[:, None]], axis=1)
    noise = np.append(seed_noise(used).sd, seed_noise(used, truth[:, -1:]).sd)
    if not np.isfinite(noise).any():
        notes.append(
            "No mixture was trained twice, so the seed noise is unknown and counts as part of the laws' misfit."
        )
    whole = {name: _fitted(name, used, seed, members=_MEMBERS) for name in laws}
    chosen = first | dict(zip(used.metrics, _best(whole, laws, used), strict=True))
    if len(used) > MANY_RUNS:
        dropped = [name for name in laws[1:] if name not in chosen.values()]
        laws, names = [n for n in laws if n not in dropped], tuple(n for n in names if n not in dropped)
        if dropped:
            notes.append(
                f"Not better than {laws[0]} for any metric on runs held out, and not tried further: {', '.join(dropped)}."
            )
    rounds: list[_Round] = []
    for repeat, fit_rows, held_rows in splits:
        rounds.append(_Round(repeat, held_rows, _predict(used.take(fit_rows), used, names, laws, q, noise, seed)))
        if on_progress:
            on_progress(len(rounds) / (len(splits) + 1))
    labels = (*used.metrics, OBJECTIVE)
    scores = {
        name: {label: _score(truth[:, m], rounds, name, m) for m, label in enumerate(labels)}
        for name in (*names, NESTED)
    }
    held_out = {label: _pairs(truth[:, m], rounds, m, used.run_id) for m, label in enumerate(labels)}
    notes += _remarks(scores, baselines, float(noise[-1]))
    if on_progress:
        on_progress(1.0)
    return Validation(scores, chosen, held_out, min(folds, mixtures), repeats, tuple(notes))


def fit_chosen(runs: Runs, chosen: Mapping[str, str], *, rng: np.random.Generator) -> GraphFit:
    """A fit in which each metric follows the law ``chosen`` for it (as ``Validation.chosen``); metrics keep their order.

    The members of all laws see the same reweighted runs, so differences between metrics of different laws are as sound
    as within one. Raises StudyError for an unknown law or a metric that the runs lack.
    """
    missing = [metric for metric in chosen if metric not in runs.metrics]
    if missing:
        raise StudyError(
            f"A law was chosen for {', '.join(missing)}, but the runs have only {', '.join(runs.metrics)}."
        )
    seed = int(rng.integers(1 << 62))
    names = sorted(set(chosen.values()))
    fits = [_fitted(name, runs, seed) for name in names]
    place = {metric: names.index(chosen[metric]) for metric in runs.metrics if metric in chosen}
    return join(fits, place, names[0] if len(names) == 1 else "auto")


def held_out(fit: GraphFit, rows: Runs, metric_weights: Array) -> Validation:
    """The scores of a fit's own held-out residuals, for laws that span settings: folds of mixtures, not of settings.

    ``rows`` are those the residuals are of, losses included; the last row of each run is scored. Rank correlations are those
    within one size and token count, averaged over the runs. No law is chosen here, and intervals are calibrated on the
    same residuals, so that coverage is a check of the calibration, no more. Cost: one evaluation per row.
    """
    place = _rows_of(fit, rows)
    residuals = fit.residuals[place[:, 0]]
    parts = rows.take(place[:, 1]).only(fit.metrics)
    used = np.asarray(metric_weights) > 0
    q = np.asarray(metric_weights)
    truth = np.concatenate([parts.losses, (parts.losses[:, used] @ q[used])[:, None]], axis=1)
    off = np.concatenate([residuals, (residuals[:, used] @ q[used])[:, None]], axis=1)
    spread = _spreads(fit, parts, q)
    noise = np.nan_to_num(np.append(fit.noise, fit.seed_noise(q)), nan=0.0)
    half = Z90 * np.sqrt(spread**2 + noise**2)
    labels = (*fit.metrics, OBJECTIVE)
    scores = {label: _own_score(truth[:, m], off[:, m], half[:, m], parts) for m, label in enumerate(labels)}
    shown = {
        label: {
            parts.run_id[n]: (float(truth[n, m]), float(truth[n, m] - off[n, m]), float(half[n, m]))
            for n in np.flatnonzero(np.isfinite(off[:, m])).tolist()
        }
        for m, label in enumerate(labels)
    }
    note = (
        f"The law {fit.law} spans sizes and token counts: its errors are of mixtures left out within the fit, of "
        f"{len(parts)} runs at their last moment{' as carried to the target' if fit.law == 'nested' else ''}"
        + ("." if fit.law == "transfer" else "; there is no test of the way to larger sizes and more tokens in them.")
    )
    return Validation(
        {NESTED: scores}, dict.fromkeys(fit.metrics, fit.law), shown, 0, 1, (note,), "mixtures left out within the fit"
    )


def _rows_of(fit: GraphFit, rows: Runs) -> NDArray[np.int64]:
    """Pairs ``(K, 2)``: a row of the fit's residuals and the row of ``rows`` it is of, the last of every run."""
    order = sorted(range(len(rows)), key=lambda n: (rows.run_id[n], float(np.nan_to_num(rows.tokens[n]))))
    last = {rows.run_id[n]: n for n in order}
    own = {name: n for n, name in enumerate(fit.run_id)}  # a run's rows stand in the order of their tokens
    return np.array([(own[name], last[name]) for name in sorted(own) if name in last], dtype=np.int64).reshape(-1, 2)


def _spreads(fit: GraphFit, rows: Runs, q: Array) -> Array:
    """Standard deviations of every metric and the objective at the rows' own mixtures, sizes and tokens, ``(N, M + 1)``."""
    x = rows.mixtures()
    if not fit.graph.free:
        return np.concatenate([fit.predict(x).spread, fit.spread(x, q)[:, None]], axis=1)
    out = np.empty((len(rows), len(fit.metrics) + 1))
    for n in range(len(rows)):
        here = fit.at(tokens=float(rows.tokens[n]), params=float(rows.params[n]))
        out[n] = np.append(here.predict(x[n : n + 1]).spread, here.spread(x[n : n + 1], q))
    return out


def _own_score(truth: Array, off: Array, half: Array, rows: Runs) -> dict[str, float | None]:
    """Scores of held-out residuals ``off`` of one metric."""
    known = np.isfinite(off) & np.isfinite(truth)
    if not known.any():
        return {"mae": None, "relative": None, "spearman": None, "coverage": None}
    ranks, weights = [], []
    setting = np.log1p(np.nan_to_num(np.stack([rows.params, rows.tokens], axis=1), nan=0.0)).round(1)
    for here in np.unique(setting, axis=0):
        part = known & (setting == here).all(axis=1)
        rank = spearman(truth[part] - off[part], truth[part]) if part.sum() >= _FEWEST else None
        if rank is not None:
            ranks.append(rank)
            weights.append(float(part.sum()))
    mae, level = float(np.abs(off[known]).mean()), float(np.abs(truth[known].mean()))
    return {
        "mae": mae,
        "relative": mae / level if level > 0 else None,
        "spearman": float(np.average(ranks, weights=weights)) if ranks else None,
        "coverage": float((np.abs(off[known]) <= half[known]).mean()),
    }


def _law(name: str, **changes: Any) -> Law:
    """The law called ``name`` with its default settings, but for ``changes`` that it has."""
    law = find("laws", name)()
    if not isinstance(law, Law):
        raise StudyError(f"{name} is no law: it gives no fit with an expression graph.")
    known = {field.name for field in fields(law)}  # type: ignore[arg-type]  # laws are dataclasses
    return replace(law, **{k: v for k, v in changes.items() if k in known})  # type: ignore[type-var]


def _fitted(name: str, runs: Runs, seed: int, **changes: Any) -> GraphFit:
    """A law's fit; StudyError if it gives no expression graph."""
    fit = _law(name, **changes).fit(runs, stream(seed, "fit"))
    if not isinstance(fit, GraphFit):
        raise StudyError(f"The law {name} gives no expression graph, so it cannot be compared and joined with others.")
    return fit


def _splits(runs: Runs, folds: int, repeats: int, seed: int) -> list[tuple[int, NDArray[np.int64], NDArray[np.int64]]]:
    """The repetition, the rows to fit on and the rows held out, for every fold of every repetition."""
    out = []
    for repeat in range(repeats):
        fold = deal_folds(runs.mixtures(), folds, stream(seed, "outer", repeat))
        out += [(repeat, np.flatnonzero(fold != f), np.flatnonzero(fold == f)) for f in range(int(fold.max()) + 1)]
    return out


def _scorable(runs: Runs, splits: Sequence[tuple[int, NDArray[np.int64], NDArray[np.int64]]]) -> NDArray[np.bool_]:
    """Which metrics ``(M,)`` every part to fit on has measured at least twice."""
    known = np.isfinite(runs.losses)
    return np.array(
        [all(known[rows, m].sum() >= 2 for _, rows, _ in splits) for m in range(len(runs.metrics))], dtype=bool
    )


def _predict(
    part: Runs, runs: Runs, names: Sequence[str], laws: Sequence[str], q: Array, noise: Array, seed: int
) -> dict[str, _Held]:
    """What each law fitted on ``part``, and the choice among ``laws``, predicts for all ``runs``."""
    fits = {name: _fitted(name, part, seed, members=_MEMBERS) for name in names}
    best = _best(fits, laws, part)
    used = sorted(set(best))
    place = {metric: used.index(law) for metric, law in zip(part.metrics, best, strict=True)}
    fits[NESTED] = join([fits[law] for law in used], place, "auto")
    x = runs.mixtures()
    seen = np.nan_to_num(noise, nan=0.0)
    out = {}
    for name, fit in fits.items():
        each = fit.predict(x)
        mean = np.concatenate([each.mean, fit.mean(x, q)[:, None]], axis=1)
        spread = np.concatenate([each.spread, fit.spread(x, q)[:, None]], axis=1)
        out[name] = _Held(mean, np.sqrt(spread**2 + seen**2))
    return out


def _best(fits: Mapping[str, GraphFit], laws: Sequence[str], runs: Runs) -> list[str]:
    """Per metric, the law with the smallest absolute error on the inner folds; the first of those that cannot be told apart.

    Few runs choose badly one metric at a time, so each metric's advantage of a law over the first one (relative, from
    pairs of errors on the same run) is shrunk towards the mean over metrics: as far as its standard error is large
    against the spread between metrics (empirical Bayes, the moment estimate of DerSimonian and Laird 1986). Another law
    than the first is taken when its advantage is larger than its standard error.
    """
    errors = np.stack([np.abs(fits[name].residuals) for name in laws])
    known = np.isfinite(errors).all(axis=0)
    count = np.maximum(known.sum(axis=0), 1)
    level = np.maximum(np.where(known, errors, 0.0).mean(axis=0).sum(axis=0) / count, 1e-300)
    total = np.zeros((len(laws), len(runs.metrics)))
    for number in range(1, len(laws)):
        pair = np.where(known, (errors[number] - errors[0]) / level, 0.0)
        mean = pair.sum(axis=0) / count
        square = (np.where(known, pair - mean, 0.0) ** 2).sum(axis=0) / np.maximum(count - 1, 1) / count
        total[number] = np.add(*_shrunk(mean, np.maximum(square, 1e-12)))
    return [laws[i] for i in total.argmin(axis=0)]


def _shrunk(mean: Array, square: Array) -> tuple[Array, Array]:
    """Estimates ``mean (M,)`` with squared standard errors ``square``, each shrunk towards what they have in common.

    Given with their standard errors after shrinking.
    """
    weight = 1 / square
    centre = (weight * mean).sum() / weight.sum()
    heterogeneity = (weight * (mean - centre) ** 2).sum() - (len(mean) - 1)
    between = max(0.0, heterogeneity / max(weight.sum() - (weight**2).sum() / weight.sum(), 1e-300))
    total = 1 / (square + between)
    centre = (mean * total).sum() / total.sum()
    own = between / (between + square)
    return centre + own * (mean - centre), np.sqrt(own * square + (1 - own) ** 2 / total.sum())


def _score(truth: Array, rounds: Sequence[_Round], name: str, m: int) -> dict[str, float | None]:
    """The scores of one law on one metric: pooled errors, and the rank correlation of each repetition, averaged."""
    error, covered = [], []
    for part in rounds:
        rows = part.rows[np.isfinite(truth[part.rows])]
        off = np.abs(part.held[name].mean[rows, m] - truth[rows])
        error.append(off)
        covered.append(off <= Z90 * part.held[name].total[rows, m])
    errors = np.concatenate(error)
    if not errors.size:
        return {"mae": None, "relative": None, "spearman": None, "coverage": None}
    mae, level = float(errors.mean()), float(np.abs(np.nanmean(truth)))
    ranks = [_ranks(truth, [p for p in rounds if p.repeat == r], name, m) for r in sorted({p.repeat for p in rounds})]
    known = [rank for rank in ranks if rank is not None]
    return {
        "mae": mae,
        "relative": mae / level if level > 0 else None,
        "spearman": float(np.mean(known)) if known else None,
        "coverage": float(np.concatenate(covered).mean()),
    }


def _ranks(truth: Array, rounds: Sequence[_Round], name: str, m: int) -> float | None:
    """Rank correlation of one repetition's held-out predictions with the truth.

    None for predictions that do not depend on the mixture: their differences between folds are the folds' doing.
    """
    predicted = np.full(len(truth), np.nan)
    for part in rounds:
        predicted[part.rows] = part.held[name].mean[part.rows, m]
    if all(np.ptp(p.held[name].mean[:, m]) <= 1e-12 * np.abs(p.held[name].mean[:, m]).max() for p in rounds):
        return None
    known = np.isfinite(truth) & np.isfinite(predicted)
    return spearman(predicted[known], truth[known]) if known.sum() >= _FEWEST else None


def spearman(first: Array, second: Array) -> float | None:
    """The rank correlation, ties sharing their mean rank; None where one side is constant."""
    ranks = [_rank(values) for values in (first, second)]
    if any(np.ptp(rank) == 0 for rank in ranks):
        return None
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _rank(values: Array) -> Array:
    _, inverse, number = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(number) - (number - 1) / 2)[inverse])


def _pairs(truth: Array, rounds: Sequence[_Round], m: int, ids: Sequence[str]) -> dict[str, tuple[float, float, float]]:
    """Per run, in the first repetition: measured, predicted by the nested choice, half width of the 90 % interval."""
    out = {}
    for part in rounds:
        for n in part.rows.tolist():
            if part.repeat == 0 and np.isfinite(truth[n]):
                held = part.held[NESTED]
                out[ids[n]] = (float(truth[n]), float(held.mean[n, m]), float(Z90 * held.total[n, m]))
    return out


def _remarks(
    scores: Mapping[str, Mapping[str, Mapping[str, float | None]]], baselines: Sequence[str], noise: float
) -> list[str]:
    """What a reader should conclude about the objective, where it is not simply good news."""
    notes = []
    own = scores[NESTED][OBJECTIVE]
    if own["mae"] is None:
        return ["No run measured all of the objective's metrics, so the objective could not be scored."]
    for name in baselines:
        other = scores[name][OBJECTIVE]["mae"]
        if other is not None and other <= own["mae"]:
            notes.append(
                f"The baseline {name} predicts held-out objectives as well (error {other:.4f}) as the chosen laws "
                f"({own['mae']:.4f}): these runs do not show how the loss depends on the mixture beyond that."
            )
    alone = float(np.sqrt(2 / np.pi) * noise)  # the mean absolute error that seed noise alone would give
    if np.isfinite(noise) and own["mae"] > 1.25 * alone:
        rest = float(np.sqrt(max(np.pi / 2 * own["mae"] ** 2 - noise**2, 0.0)))
        notes.append(
            f"The held-out error of the objective ({own['mae']:.4f}) is more than seed noise alone would give ({alone:.4f}): "
            f"the laws' misfit, or what these runs leave open, is about {rest:.4f} nats/token (sd); the intervals contain it."
        )
    elif np.isfinite(noise):
        notes.append(
            f"The held-out error of the objective ({own['mae']:.4f}) is what seed noise alone (sd {noise:.4f}) would give: "
            "a better law could not be told apart from this one with these runs."
        )
    return notes
