"""The structured part of the hierarchical law: an additive form whose prior is learned from all metrics together.

``L(r) = E + (sum_j exp(c_j) (r_j + eps)^g_j)^(-p)``: every domain adds to what the model learns, with diminishing returns
(g_j <= 1, so the sum is concave and L convex in r). With p = 1 it is the mixture term of Apple's scaling laws (arXiv 2507.09404)
at fixed size and tokens, with all g_j = 1 the power of a linear form.

Notation: M metrics, N runs, D domains, P = 3 + 2 D parameters of a metric: u = log E, then c_j, then h_j = log g_j <= 0, then
log p, then log eps; x ``(N, D)`` mixtures, y ``(M, N)`` losses, w ``(M, N)`` weights of the runs (0: not measured, or held out).

The prior of a metric's parameters has its own parameters, learned by expectation-maximization over all metrics with the
Gaussian approximation of each metric's posterior (MacKay 1992): the bonus b of a metric's own domain, the covariance
between domains of the c_j (domains of like text help like metrics), mean and width of the h_j, and how far each metric's
runs scatter about the form. Where metrics are few these stay near the values they start from.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mixwright.laws._solver import Problems, solve
from mixwright.laws._table import Table, alike
from mixwright.laws.graph import Builder

Array = NDArray[np.float64]

#: rounds of expectation-maximization; a fifth changes held-out errors in the fourth digit
_ROUNDS = 4
#: widths of the prior before any run is seen: of c about its level, of log g, of log E, of log p, of log eps
WIDTH_C, WIDTH_G, WIDTH_E, WIDTH_P, WIDTH_EPS = 0.7, 0.25, 0.3, 0.4, 1.0
#: of the common level of the c_j: none to speak of
_WIDTH_LEVEL = 5.0
#: centres of the prior: of g, of the own domain's bonus, of E in lowest losses seen, of eps (half a unit of tables printed
#: to three decimals, and a little less)
POWER, BONUS, FLOOR_PART, EPSILON = 0.5, 1.0, 0.75, 3e-4
#: in metrics, how much the starting covariance of the c_j and their starting width count
_BELIEF_COVARIANCE, _BELIEF_WIDTH = 40, 20
#: in numbers of g, in metrics, and in runs: the same for the width of log g, the bonus, and the scatter about the form
_BELIEF_G, _BELIEF_BONUS, _BELIEF_SCATTER = 40, 1, 10
#: scatter about the form before any run is seen, in standard deviations of a metric's losses, and runs that it counts as
_SCATTER, _SCATTER_RUNS = 0.1, 2
#: Huber's threshold in such scatters: tables round weights, and a few runs then lie far off
_HUBER = 2.0


@dataclass(frozen=True)
class Hyper:
    """What all metrics share, and each metric's ``scatter (M,)`` about the form, in nats."""

    bonus: float
    covariance_c: Array
    power: float
    width_g: float
    scatter: Array


@dataclass(frozen=True)
class Shrunken:
    """Each metric's parameters ``theta (M, P)``, their posterior covariance ``(M, P, P)``, and what was learned."""

    theta: Array
    covariance: Array
    hyper: Hyper
    settled: NDArray[np.bool_]


def split(theta: Array) -> tuple[Array, Array, Array, Array, Array]:
    """Of parameters ``(..., P)``: log E, c, log g, log p, log eps."""
    domains = (theta.shape[-1] - 3) // 2
    return theta[..., 0], theta[..., 1 : 1 + domains], theta[..., 1 + domains : -2], theta[..., -2], theta[..., -1]


def evaluate(theta: Array, x: Array) -> tuple[Array, Array]:
    """Losses ``(K, N)`` at mixtures ``x (N, D)`` for parameters ``theta (K, P)``, and derivatives ``(K, N, P)``."""
    u, c, h, log_p, log_eps = split(theta)
    domains = x.shape[1]
    eps = np.exp(log_eps)[:, None, None]
    shifted = x[None] + eps
    g = np.exp(h)[:, None, :]
    gain = g * np.log(shifted)
    s = np.exp(c[:, None, :] + gain)
    total = s.sum(axis=2)
    p = np.exp(log_p)[:, None]
    above = total**-p
    slope = -p * above / total
    floor = np.exp(u)[:, None]
    J = np.empty((*above.shape, theta.shape[1]))
    J[:, :, 0] = floor
    by_c = J[:, :, 1 : 1 + domains]
    np.multiply(slope[:, :, None], s, out=by_c)
    np.multiply(by_c, gain, out=J[:, :, 1 + domains : -2])
    J[:, :, -2] = -p * np.log(total) * above
    J[:, :, -1] = slope * (s * g * eps / shifted).sum(axis=2)
    return floor + above, J


def reordered(theta: Array, place: NDArray[np.int64]) -> Array:
    """Parameters ``(..., P)`` with the domains in the order ``place``."""
    size = len(place)
    return theta[..., np.concatenate([[0], 1 + place, 1 + size + place, [1 + 2 * size, 2 + 2 * size]])]


def above_floor(theta: Array, x: Array) -> Array:
    """L - E, ``(K, N)``."""
    return np.asarray(evaluate(theta, x)[0] - np.exp(theta[:, :1]))


def fit_shrunken(table: Table) -> Shrunken:
    """Fit all metrics of a table and learn their common prior.

    Cost: some 20 evaluations of the form per round for all metrics at once; for 64 runs, 17 domains and 13 metrics about 0.2
    CPU-seconds.
    """
    w = table.known.astype(float)
    hyper = _first(table)
    theta: Array | None = None
    for _ in range(_ROUNDS):
        R, q = _prior(table, w, hyper)
        problems = _problems(table, w, hyper, R, q)
        theta = _started(table, w, problems) if theta is None else theta
        solved = solve(lambda t: evaluate(t, table.x), theta, problems, iterations=100, tolerance=1e-7)
        theta = solved.theta
        f, J = evaluate(theta, table.x)
        Js = J * (np.sqrt(w) / hyper.scatter[:, None])[:, :, None]
        covariance = np.linalg.inv(np.matmul(Js.transpose(0, 2, 1), Js) + np.matmul(R.transpose(0, 2, 1), R))
        learned = _learn(table, w, theta, covariance, f, J, hyper)
        last, hyper = hyper, learned
    assert theta is not None
    return Shrunken(theta, covariance, last, solved.settled)


def refit(table: Table, fitted: Shrunken, w: Array) -> Array:
    """Parameters ``(S, M, P)`` for other weights of the runs ``w (S, M, N)``, with what was learned kept; from the fit on."""
    sets, count, _ = w.shape
    problems = []
    for part in w:
        R, q = _prior(table, part, fitted.hyper)
        problems.append(_problems(table, part, fitted.hyper, R, q))
    start = np.tile(fitted.theta, (sets, 1))
    solved = solve(lambda t: evaluate(t, table.x), start, Problems.joined(problems), iterations=25, tolerance=1e-5)
    return solved.theta.reshape(sets, count, -1)


def _first(table: Table) -> Hyper:
    """Before any run is seen."""
    _, sd, _ = _spread(table, table.known.astype(float))
    size = table.x.shape[1]
    scatter = np.hypot(_SCATTER * sd, table.noise)
    return Hyper(BONUS, np.eye(size) * WIDTH_C**2, float(np.log(POWER)), WIDTH_G, scatter)


def _spread(table: Table, w: Array) -> tuple[Array, Array, Array]:
    """Mean, standard deviation (never nothing) and lowest loss per metric, ``(M,)`` each."""
    total = np.maximum(w.sum(axis=1), 1e-12)
    mean = (w * table.y).sum(axis=1) / total
    sd = np.sqrt((w * (table.y - mean[:, None]) ** 2).sum(axis=1) / total)
    low = np.where(w > 0, table.y, np.inf).min(axis=1)
    return mean, np.maximum(sd, 1e-4 * np.abs(mean) + 1e-9), np.where(np.isfinite(low), low, mean)


def _typical(x: Array) -> float:
    """The sum over domains of r^0.5, averaged over runs: what sets the level of the c_j."""
    return float(np.mean((np.maximum(x, EPSILON) ** POWER).sum(axis=1)))


def _prior(table: Table, w: Array, hyper: Hyper) -> tuple[Array, Array]:
    """``R (M, P, P)`` and ``q (M, P)``: the prior is ``|R theta - q|² / 2``."""
    mean, _, low = _spread(table, w)
    count, size = table.own.shape
    R, centre = np.zeros((count, 3 + 2 * size, 3 + 2 * size)), np.zeros((count, 3 + 2 * size))
    mid, end = slice(1, 1 + size), slice(1 + size, 1 + 2 * size)
    wide = hyper.covariance_c + _WIDTH_LEVEL**2
    R[:, 0, 0] = 1 / WIDTH_E
    R[:, mid, mid] = np.linalg.cholesky(np.linalg.inv(wide)).T
    R[:, end, end] = np.eye(size) / hyper.width_g
    R[:, -2, -2], R[:, -1, -1] = 1 / WIDTH_P, 1 / WIDTH_EPS
    centre[:, 0] = np.log(FLOOR_PART * low)
    level = -np.log(np.maximum(mean - FLOOR_PART * low, 1e-6) * _typical(table.x))
    centre[:, mid] = hyper.bonus * table.own + level[:, None]
    centre[:, end] = hyper.power
    centre[:, -1] = np.log(EPSILON)
    q = np.matmul(R, centre[:, :, None])[:, :, 0]
    return alike(R, q, table, [(mid, WIDTH_C), (end, WIDTH_G)])


def _problems(table: Table, w: Array, hyper: Hyper, R: Array, q: Array) -> Problems:
    shape = len(R), R.shape[2]
    low, high = np.full(shape, -np.inf), np.full(shape, np.inf)
    size = table.x.shape[1]
    high[:, 1 + size : 1 + 2 * size] = 0.0  # g <= 1: convex
    return Problems(table.y, w, hyper.scatter, R, q, low, high, np.full(len(q), _HUBER))


def _started(table: Table, w: Array, problems: Problems) -> Array:
    """The better of two starts with equal domains, after some steps: ``(M, P)``."""
    mean, _, low = _spread(table, w)
    count, size = table.own.shape
    starts = np.zeros((2, count, 3 + 2 * size))
    for start, part in zip(starts, (0.6, 0.85), strict=True):
        start[:, 0] = np.log(part * low)
        start[:, 1 : 1 + size] = -np.log(np.maximum(mean - part * low, 1e-6) * _typical(table.x))[:, None]
        start[:, 1 + size : 1 + 2 * size] = np.log(POWER)
        start[:, -1] = np.log(EPSILON)
    both = Problems.joined([problems, problems])
    solved = solve(lambda t: evaluate(t, table.x), starts.reshape(2 * count, -1), both, iterations=30, tolerance=1e-4)
    best = solved.objective.reshape(2, count).argmin(axis=0)
    return np.asarray(solved.theta.reshape(2, count, -1)[best, np.arange(count)])


def _learn(table: Table, w: Array, theta: Array, covariance: Array, f: Array, J: Array, hyper: Hyper) -> Hyper:
    """The maximization step: what all metrics share, given each one's parameters and how uncertain they are."""
    count, size = table.own.shape
    _, c, h, _, _ = split(theta)
    centred = np.eye(size) - 1 / size
    away = c @ centred
    bonus = _bonus(table.own, away)
    rest = (c - bonus * table.own) @ centred
    of_c = covariance[:, 1 : 1 + size, 1 : 1 + size]
    second = (rest[:, :, None] * rest[:, None, :] + centred @ of_c @ centred).sum(axis=0)
    width = (np.trace(second) / max(size - 1, 1) + _BELIEF_WIDTH * WIDTH_C**2) / (count + _BELIEF_WIDTH)
    covariance_c = (second + _BELIEF_COVARIANCE * width * np.eye(size)) / (count + _BELIEF_COVARIANCE)
    power = float(h.mean())
    of_h = np.einsum("mdd->", covariance[:, 1 + size : 1 + 2 * size, 1 + size : 1 + 2 * size])
    width_g = np.sqrt((((h - power) ** 2).sum() + of_h + _BELIEF_G * WIDTH_G**2) / (count * size + _BELIEF_G))
    return Hyper(bonus, covariance_c, power, float(width_g), _scatter(table, w, covariance, f, J, hyper))


def _bonus(own: NDArray[np.bool_], away: Array) -> float:
    """How much more a metric's own domain counts than the others, from all metrics that have one."""
    each = [
        row[mine].mean() - row[~mine].mean() for row, mine in zip(away, own, strict=True) if 0 < mine.sum() < len(mine)
    ]
    return float((_BELIEF_BONUS * BONUS + sum(each)) / (_BELIEF_BONUS + len(each)))


def _scatter(table: Table, w: Array, covariance: Array, f: Array, J: Array, hyper: Hyper) -> Array:
    """Each metric's scatter about the form ``(M,)`` in nats: its own, shrunk towards that of all relative to their spreads."""
    _, sd, _ = _spread(table, w)
    off = np.abs(f - table.y)
    robust = np.minimum(1.0, _HUBER * hyper.scatter[:, None] / np.maximum(off, 1e-300))
    of_theta = (np.matmul(J, covariance) * J).sum(axis=2)
    square = (w * (robust * off**2 + of_theta)).sum(axis=1) / sd**2
    runs = w.sum(axis=1)
    pooled = square.sum() / max(runs.sum(), 1e-12)
    own = square + _BELIEF_SCATTER * pooled + _SCATTER_RUNS * _SCATTER**2
    return np.asarray(np.maximum(np.sqrt(own / (runs + _BELIEF_SCATTER + _SCATTER_RUNS)) * sd, table.noise))


def with_variance(
    table: Table, fitted: Shrunken, theta: Array, w: Array, rows: NDArray[np.bool_]
) -> tuple[Array, Array]:
    """Losses ``(M, N)`` for ``theta (M, P)``, found with weights ``w (M, N)``, and their posterior variance at ``rows``."""
    f, J = evaluate(theta, table.x)
    R, _ = _prior(table, w, fitted.hyper)
    Js = J * (np.sqrt(w) / fitted.hyper.scatter[:, None])[:, :, None]
    covariance: Array = np.linalg.inv(np.matmul(Js.transpose(0, 2, 1), Js) + np.matmul(R.transpose(0, 2, 1), R))
    part = J[:, rows]
    variance: Array = (np.matmul(part, covariance) * part).sum(axis=2)
    return f, variance


def write(build: Builder, theta: Array) -> tuple[int, int]:
    """The form with parameters ``theta (B, P)``: the node of the B losses, and that of the losses above the floor."""
    u, c, h, log_p, log_eps = split(theta)
    size, domains = c.shape
    shifted = build.apply("add", build.tile(build.weights(), size), build.const(np.repeat(np.exp(log_eps), domains)))
    inside = build.apply("add", build.const(c), build.apply("mul", build.const(np.exp(h)), build.apply("log", shifted)))
    total = build.sum(build.apply("exp", inside), domains)
    above = build.apply("pow", total, build.const(-np.exp(log_p)))
    return build.apply("add", above, build.const(np.exp(u))), above
