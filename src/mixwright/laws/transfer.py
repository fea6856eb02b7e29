"""From cheap runs to dear ones: the law of many small runs, corrected by a few large ones.

Per metric, the loss at the dear setting is

    L(r) = a + b s(r) + sum_j c_j ds/dc_j + sum_j h_j ds/dh_j + f(r) + noise

with s the cheap runs' law. Slope b: losses of large models spread less over mixtures. c and h: how much more or less a domain
gives to a larger model, and how fast it gives it, as derivatives of the additive form (``_shrunken``) at its cheap parameters.
f: a Gaussian process for the rest. All are Gaussian about "as at the cheap setting"; their widths, and the common slope,
maximize the marginal likelihood of all metrics together times a prior, so that with four dear runs almost nothing but level
and slope moves, and with sixty much does. Where dear runs are many enough for a law of their own, that law is weighed with
this one by held-out errors.

Notation: M metrics, D domains, k dear runs, F = 1 + 2 D features, B members; y, s, a and f in units of a metric's deviation over
the cheap runs; θ: log widths of b, of c, of h, log amplitudes of f and noise, log length of f, common slope.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge
from numpy.typing import NDArray

from mixwright.core.errors import DataError
from mixwright.core.find import find
from mixwright.core.law import Law
from mixwright.core.observation import Runs
from mixwright.core.rng import rng as stream
from mixwright.laws import _shrunken
from mixwright.laws._fit import GraphFit
from mixwright.laws._fitting import assemble
from mixwright.laws._noise import mixture_groups
from mixwright.laws._process import roots, write_kernels, write_roots
from mixwright.laws._table import Table, deal_folds, one_setting, settings, tabulate
from mixwright.laws.graph import Builder

Array = NDArray[np.float64]
#: variance of the level a: as good as free
_LEVEL = 100.0
#: the prior of θ: widths of slope, c, h, amplitudes of process and noise, the length in standard deviations of cube roots
#: (logarithms, each with width 1), and the slope with its width. First guesses
_CENTRE = np.array([np.log(0.15), np.log(0.15), np.log(0.1), np.log(0.05), np.log(0.05), np.log(3.0), 0.9])
_WIDTH = np.array([1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.3])
#: steps of L-BFGS for θ, and for θ without a fold; into how many folds the dear mixtures are dealt
_STEPS, _STEPS_ANEW, _FOLDS = 60, 25, 8
#: cosines that draw a member's process (Rahimi and Recht 2007)
_FEATURES = 100
#: with so many dear runs a law of their own is weighed in
_OWN_LAW = 12
#: in dear runs, how much the prior "this law alone" counts against held-out errors
_BELIEF = 8.0


@dataclass(frozen=True)
class Transfer(Law):
    """``law`` is the cheap runs' law (and the dear runs', where they have one of their own): ``hierarchical`` or another whose
    parameters have E, C and g; ``members`` draws for the spread."""

    law: str = "hierarchical"
    members: Annotated[int, Ge(2)] = 32

    def fit(self, runs: Runs, rng: np.random.Generator) -> GraphFit:
        """A fit at the dearest setting (params times tokens) of ``runs``; the cheap one is the commonest of the others.

        DataError unless there are two settings. Deterministic given ``rng``. Cost: that of the cheap runs' law, and for 64
        dear runs, 17 domains and 13 metrics a CPU-second.
        """
        seed = int(rng.integers(1 << 62))
        cheap, dear, words = _apart(runs)
        law = find("laws", self.law)(members=self.members)
        below: GraphFit = law.fit(cheap, stream(seed, "cheap"))
        table = tabulate(dear)
        corrected = _Corrected.of(table, below, self.members, seed)
        residuals, variance = corrected.held_out()
        share, above = np.zeros(len(table.metrics)), None
        if len(np.unique(mixture_groups(table.x))) >= _OWN_LAW:
            above = law.fit(dear, stream(seed, "dear"))
            own = _residuals(above, dear, table)
            share = _share(residuals, own)
            residuals = (1 - share) * residuals + share * np.where(np.isfinite(own), own, residuals)
        place = np.array([table.domains.index(domain) for domain in dear.domains])

        def write(build: Builder, m: int) -> tuple[int, int, int]:
            return corrected.write(build, m, place, above, float(share[m]))

        return assemble(
            "transfer", table, dear, residuals, variance, write, [words] * len(table.metrics),
            [corrected.describe(m) | {"weight of the dear runs' own law": float(share[m])} for m in range(len(share))],
        )  # fmt: skip

    def scored(self, runs: Runs, rng: np.random.Generator) -> Runs:
        """The rows that the fit's residuals are of: the dear runs."""
        return _apart(runs)[1]


def _apart(runs: Runs) -> tuple[Runs, Runs, str]:
    """Cheap runs, dear runs, and a sentence on both."""
    places = settings(runs.usable())
    if len(places) < 2:
        raise DataError(
            "Transfer needs runs of two settings (sizes or token counts), many cheap ones and a few dear ones; these are of "
            f"{len(places)}. Use the law hierarchical."
        )
    dear = max(
        places, key=lambda part: float(np.nan_to_num(part.params, nan=1.0)[0] * np.nan_to_num(part.tokens, nan=1.0)[0])
    )
    rest = [part for part in places if part is not dear]
    cheap, _ = one_setting(max(rest, key=len))
    dear, _ = one_setting(dear)
    missing = [metric for metric in dear.metrics if np.isfinite(cheap.losses[:, cheap.metrics.index(metric)]).sum() < 2]
    if missing:
        raise DataError(
            f"The cheap runs did not measure {', '.join(missing)}, so nothing can be carried over. Leave it out."
        )
    left = len(runs.usable()) - len(cheap) - len(dear)
    words = f"from {len(cheap)} runs of {_named(cheap)} and {len(dear)} of {_named(dear)}"
    return cheap, dear, words + (f"; {left} rows of other settings left out" if left else "")


def _named(runs: Runs) -> str:
    return f"{float(np.nanmedian(runs.params)):.3g} parameters at {float(np.nanmedian(runs.tokens)):.3g} tokens"


def _residuals(fit: GraphFit, runs: Runs, table: Table) -> Array:
    """A fit's held-out residuals in the table's order of rows and metrics."""
    rows = sorted(range(len(runs)), key=lambda n: runs.run_id[n])
    at = {name: n for n, name in enumerate(fit.run_id)}
    columns = [fit.metrics.index(metric) for metric in table.metrics]
    return np.asarray(fit.residuals[[at[runs.run_id[n]] for n in rows]][:, columns])


def _share(one: Array, other: Array) -> Array:
    """The weight ``(M,)`` in 0..1 of the ``other`` way, one for all metrics, from held-out errors ``(k, M)`` of both."""
    known = np.isfinite(one) & np.isfinite(other)
    a, b = np.where(known, one, 0.0), np.where(known, other, 0.0)
    scale = np.maximum((a**2).sum(axis=0) / np.maximum(known.sum(axis=0), 1), 1e-300)
    apart = ((a - b) ** 2 / scale).sum() / a.shape[1]
    gain = ((a - b) * a / scale).sum() / a.shape[1]
    return np.full(a.shape[1], float(np.clip(gain / (apart + _BELIEF), 0.0, 1.0)))


@dataclass(frozen=True, eq=False)
class _Corrected:
    """The cheap law corrected. Arrays are in the table's order of domains, metrics and rows.

    ``form (M, P)`` are the additive form's parameters at the cheap setting, ``unit (M,)`` and ``middle (M,)`` deviation and mean
    of the cheap law over the cheap runs; ``drawn (M, k, B)`` what its members say of the dear runs; ``features
    (M, k, F)``, ``y (M, k)``, ``theta`` as in the notation; ``scale (D,)`` the deviation of cube roots.
    """

    table: Table
    below: GraphFit
    form: Array
    unit: Array
    middle: Array
    features: Array
    drawn: Array
    y: Array
    theta: Array
    scale: Array
    members: int
    seed: int

    @classmethod
    def of(cls, table: Table, below: GraphFit, members: int, seed: int) -> _Corrected:
        """From the dear runs and the cheap law."""
        place = [below.domains.index(domain) for domain in table.domains]
        columns = [below.metrics.index(metric) for metric in table.metrics]
        form = np.stack([_parameters(below.parameters[metric], table.domains) for metric in table.metrics])
        swept = below.predict(below.swept).mean[:, columns]
        unit, middle = np.maximum(swept.std(axis=0), 1e-9), swept.mean(axis=0)
        x = np.empty_like(table.x)
        x[:, place] = table.x
        said = (below.predict(x).mean[:, columns] - middle) / unit
        nodes = [below.graph.outputs[metric]["members"] for metric in table.metrics]
        drawn = (np.stack(below.graph.evaluate(nodes, x)) - middle[:, None, None]) / unit[:, None, None]
        features = np.stack([_features(f, table.x, s, u) for f, s, u in zip(form, said.T, unit, strict=True)])
        y = np.where(table.known, (table.y - middle[:, None]) / unit[:, None], 0.0)
        u = roots(below.swept[:, place])
        made = cls(
            table, below, form, unit, middle, features, drawn, y, _CENTRE, np.maximum(u.std(axis=0), 1e-3), members, seed
        )  # fmt: skip
        return replace(made, theta=made._learned(np.ones(len(table.x), dtype=bool), _STEPS))

    def _learned(self, rows: NDArray[np.bool_], steps: int) -> Array:
        """θ at the largest marginal likelihood of these dear runs times the prior, from where it is."""
        from scipy.optimize import minimize

        bounds = [(-7.0, 2.0)] * 5 + [(-1.0, 3.0), (0.0, 3.0)]
        found = minimize(
            self._loss, self.theta, args=(rows,), jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": steps}
        )
        return np.asarray(found.x)

    @cached_property
    def _square(self) -> Array:
        """Squared distances ``(k, k)`` of the dear runs' cube roots."""
        u = roots(self.table.x) / self.scale
        square: Array = ((u[:, None] - u[None]) ** 2).sum(axis=2)
        return np.maximum(square, 1e-12)

    def _widths(self, theta: Array) -> Array:
        """Variances ``(F,)`` of the features' coefficients."""
        size = self.table.x.shape[1]
        return np.asarray(np.exp(2 * np.repeat(theta[:3], [1, size, size])))

    def _loss(self, theta: Array, used: NDArray[np.bool_]) -> tuple[float, Array]:
        """Minus log marginal likelihood times prior, and its slope."""
        away = (theta - _CENTRE) / _WIDTH
        value, slope = 0.5 * float(away @ away), away / _WIDTH
        k, by_length = _matern(self._square, theta[5])
        variances = np.exp(2 * theta[:5])
        size = self.table.x.shape[1]
        for m, known in enumerate(self.table.known):
            rows = np.flatnonzero(known & used)
            F = self.features[m][rows]
            grid = np.ix_(rows, rows)
            parts = [np.outer(F[:, 0], F[:, 0]), F[:, 1 : 1 + size] @ F[:, 1 : 1 + size].T, F[:, 1 + size :] @ F[:, 1 + size :].T,
                     k[grid], np.eye(len(rows))]  # fmt: skip
            C = _LEVEL + sum(v * part for v, part in zip(variances, parts, strict=True))
            L = np.linalg.cholesky(C)
            P = np.linalg.inv(C)
            left = self.y[m, rows] - theta[6] * F[:, 0]
            alpha = P @ left
            value += 0.5 * float(left @ alpha) + float(np.log(np.diag(L)).sum())
            G = 0.5 * (P - np.outer(alpha, alpha))
            slope[:5] += 2 * variances * np.array([(G * part).sum() for part in parts])
            slope[5] += float(variances[3] * (G * by_length[grid]).sum())
            slope[6] -= float(alpha @ F[:, 0])
        return value, slope

    def _solved(self, m: int) -> tuple[NDArray[np.int64], Array, Array]:
        """Rows that measured the metric, precision, and what is left of y after the common slope."""
        rows = np.flatnonzero(self.table.known[m])
        F = self.features[m][rows]
        k = np.exp(2 * self.theta[3]) * _matern(self._square, self.theta[5])[0][np.ix_(rows, rows)]
        C = _LEVEL + (F * self._widths(self.theta)) @ F.T + k + np.exp(2 * self.theta[4]) * np.eye(len(rows))
        return rows, np.linalg.inv(C), self.y[m, rows] - self.theta[6] * F[:, 0]

    def held_out(self) -> tuple[Array, Array]:
        """Per dear run and metric ``(k, M)``: measured less predicted with the run's mixture left out, and the variance there.

        θ is learned anew without each fold of mixtures; one that has seen a run errs less on it than on others.
        """
        residuals, variance = np.full(self.table.y.T.shape, np.nan), np.full(self.table.y.T.shape, np.nan)
        groups = mixture_groups(self.table.x)
        fold = deal_folds(self.table.x, _FOLDS, stream(self.seed, "folds"))
        for part in range(int(fold.max()) + 1 if fold.max() > 1 else 0):
            inside = fold == part
            anew = replace(self, theta=self._learned(~inside, _STEPS_ANEW))
            for m in range(len(self.y)):
                anew._left_out(m, groups, inside, residuals, variance)
        return residuals, variance

    def _left_out(
        self, m: int, groups: NDArray[np.int64], wanted: NDArray[np.bool_], residuals: Array, variance: Array
    ) -> None:
        """Fill in the wanted runs of one metric, each mixture left out by itself."""
        rows, P, left = self._solved(m)
        alpha, noise = P @ left, np.exp(2 * self.theta[4])
        for group in np.unique(groups[rows[wanted[rows]]]):
            inside = np.flatnonzero(groups[rows] == group)
            block = np.linalg.inv(P[np.ix_(inside, inside)])
            residuals[rows[inside], m] = block @ alpha[inside] * self.unit[m]
            variance[rows[inside], m] = np.maximum(np.diag(block) - noise, 0.0) * self.unit[m] ** 2

    def _coefficients(self, m: int) -> tuple[Array, Array, Array]:
        """Of the mean, then of each member: ``(1 + B, 1 + F)`` on a constant and the features, ``(1 + B, k)`` on the kernels; of
        the members ``(B, features)`` on the cosines."""
        rows, P, left = self._solved(m)
        F = self.features[m][rows]
        widths = self._widths(self.theta)
        draw = stream(self.seed, "members", self.table.metrics[m])
        w = draw.standard_normal((self.members, len(widths))) * np.sqrt(widths)
        level = draw.standard_normal(self.members) * np.sqrt(_LEVEL)
        waves = draw.standard_normal((self.members, _FEATURES)) * np.exp(self.theta[3]) * np.sqrt(2 / _FEATURES)
        f = waves @ self._waves(rows).T
        noise = draw.standard_normal((self.members, len(rows))) * np.exp(self.theta[4])
        own = self.drawn[m][rows].T  # the cheap law's members at the dear runs
        prior = level[:, None] + w @ F.T + f + noise + (self.theta[6] + w[:, :1]) * (own - F[:, 0])
        alpha = np.concatenate([left[None], left - prior]) @ P
        zero = np.zeros((1, len(widths)))
        on_features = np.concatenate([zero, w]) + (alpha @ F) * widths
        on_level = np.append(0.0, level) + _LEVEL * alpha.sum(axis=1)
        on_features[:, 0] += self.theta[6]
        on_kernel = np.zeros((1 + self.members, len(self.table.x)))
        on_kernel[:, rows] = alpha * np.exp(2 * self.theta[3])
        return np.concatenate([on_level[:, None], on_features], axis=1), on_kernel, waves

    @cached_property
    def _directions(self) -> tuple[Array, Array]:
        """Of the cosines that draw the process: directions ``(features, D)`` in lengths, and phases."""
        draw = stream(self.seed, "features")
        tails = np.sqrt(draw.chisquare(5.0, size=_FEATURES) / 5.0)  # Matérn-5/2: Student's t with 5 degrees
        directions = draw.standard_normal((_FEATURES, self.table.x.shape[1])) / tails[:, None]
        return directions * np.exp(-self.theta[5]), draw.uniform(0, 2 * np.pi, _FEATURES)

    def _waves(self, rows: NDArray[np.int64]) -> Array:
        """The cosines ``(k, features)`` at dear runs."""
        directions, phases = self._directions
        return np.asarray(np.cos(roots(self.table.x[rows]) / self.scale @ directions.T + phases))

    def write(
        self, build: Builder, m: int, place: NDArray[np.int64], above: GraphFit | None, share: float
    ) -> tuple[int, int, int]:
        """The mean at the dear setting, the members before calibration, and how many these are."""
        coefficients, on_kernel, on_waves = self._coefficients(m)
        metric, unit, middle = self.table.metrics[m], float(self.unit[m]), float(self.middle[m])
        cheap = self.below.graph.only([metric])
        grafted, outputs = build.graft(cheap, _reordered(build, self.below.domains)), cheap.outputs[metric]
        said = _affine(build, grafted[outputs["mean"]], 1 / unit, -middle / unit)
        theirs = _affine(build, grafted[outputs["members"]], 1 / unit, -middle / unit)
        by_domain = self._write_features(build, m, place)
        u = write_roots(build, build.weights(), self.scale[place])
        runs = (roots(self.table.x) / self.scale)[:, place]
        kernels = write_kernels(build, u, runs, np.full(len(place), np.exp(-self.theta[5])))
        directions, phases = self._directions
        waves = build.apply("cos", build.apply("add", build.matmul(directions[:, place], u), build.const(phases)))
        size = len(place)
        order = np.concatenate([2 + place, 2 + size + place])

        def combined(rows: slice, of_law: int) -> int:
            return build.apply(
                "add", build.const(unit * coefficients[rows, 0] + middle),
                build.apply("mul", build.const(unit * coefficients[rows, 1]), of_law),
                build.matmul(unit * coefficients[rows][:, order], by_domain), build.matmul(unit * on_kernel[rows], kernels),
            )  # fmt: skip

        mean = combined(slice(0, 1), said)
        members = build.apply("add", combined(slice(1, None), theirs), build.matmul(unit * on_waves, waves))
        if above is not None and share > 0:
            graph = above.graph.only([metric])
            other = build.graft(graph, _reordered(build, above.domains))[graph.outputs[metric]["mean"]]
            moved = build.apply(
                "mul", build.const(share), build.apply("add", other, build.apply("mul", build.const(-1.0), mean))
            )
            mean, members = build.apply("add", mean, moved), build.apply("add", members, moved)
        return mean, members, self.members

    def _write_features(self, build: Builder, m: int, place: NDArray[np.int64]) -> int:
        """The 2 D derivatives of the additive form, of c and of h, in units of the metric."""
        _, c, h, log_p, log_eps = _shrunken.split(self.form[m])
        size, p = len(place), float(np.exp(log_p))
        logs = build.apply("log", build.apply("add", build.weights(), build.const(np.exp(log_eps))))
        gain = build.apply("mul", build.const(np.exp(h[place])), logs)
        s = build.apply("exp", build.apply("add", build.const(c[place]), gain))
        total = build.sum(s)
        slope = build.apply("mul", build.const(-p / self.unit[m]), build.apply("pow", total, build.const(-p - 1)))
        by_c = build.apply("mul", slope, s)
        by_h = build.apply("mul", by_c, gain)
        first = build.matmul(np.eye(2 * size)[:, :size], by_c)
        return build.apply("add", first, build.matmul(np.eye(2 * size)[:, size:], by_h))

    def describe(self, m: int) -> dict[str, Any]:
        """Slope against the cheap law, and what all metrics share."""
        widths = np.exp(self.theta[:6]).tolist()
        return {
            "slope": float(self._coefficients(m)[0][0, 1]), "common slope": float(self.theta[6]),
            **dict(zip(("width of slope", "width of c", "width of log g", "process", "noise", "length"), widths, strict=True)),
        }  # fmt: skip


def _affine(build: Builder, node: int, factor: float, shift: float) -> int:
    return build.apply("add", build.apply("mul", node, build.const(factor)), build.const(shift))


def _reordered(build: Builder, domains: tuple[str, ...]) -> int:
    """The weights node, in another fit's order of domains."""
    if domains == build.domains:
        return build.weights()
    order = np.zeros((len(domains), len(domains)))
    order[np.arange(len(domains)), [build.domains.index(domain) for domain in domains]] = 1.0
    return build.matmul(order, build.weights())


def _parameters(named: Any, domains: tuple[str, ...]) -> Array:
    """The additive form's parameters ``(P,)`` from the names a fit gives them. DataError for a law without."""
    try:
        return np.concatenate(
            [[np.log(named["E"])], np.log([named["C"][d] for d in domains]), np.log([named["g"][d] for d in domains]),
             [np.log(named.get("p", 1.0)), np.log(named.get("eps", _shrunken.EPSILON))]]
        )  # fmt: skip
    except (KeyError, TypeError) as error:
        raise DataError("Transfer needs a cheap law with parameters E, C and g: hierarchical or additive.") from error


def _features(form: Array, x: Array, said: Array, unit: float) -> Array:
    """``(k, F)``: the cheap law, and the additive form's derivatives with respect to c and h, in units."""
    _, J = _shrunken.evaluate(form[None], x)
    return np.concatenate([said[:, None], J[0, :, 1:-2] / unit], axis=1)


def _matern(square: Array, log_length: float) -> tuple[Array, Array]:
    """The Matérn-5/2 kernel and its derivative with respect to the log length."""
    far = np.sqrt(5.0 * square) * np.exp(-log_length)
    decay = np.exp(-far)
    return (1 + far + far**2 / 3) * decay, far**2 / 3 * (1 + far) * decay
