"""The peers as their own documentation uses them, or, where labelled so, our plain re-implementation from papers and notes.

Notation: N runs, D domains, T mixtures to predict; every function takes x ``(N, D)``, one metric's losses y ``(N,)``, and
xt ``(T, D)``, and gives predictions ``(T,)``. All run on one thread.
"""

import warnings

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
#: RegMix's notebook: 1000 trees, rate .01, LightGBM's defaults else (31 leaves of at least 20 rows); its early stopping looks
#: at the test set, which we leave out
REGMIX = {"n_estimators": 1000, "learning_rate": 0.01, "random_state": 42, "n_jobs": 1, "verbose": -1}
#: Olmix's Huber threshold
OLMIX_HUBER = 0.02


def mean(x: Array, y: Array, xt: Array) -> Array:
    return np.full(len(xt), y.mean())


def linear(x: Array, y: Array, xt: Array) -> Array:
    """Least squares with an intercept; the shortest solution where runs are fewer than domains."""
    centre = x.mean(axis=0)
    slope = np.linalg.lstsq(x - centre, y - y.mean(), rcond=None)[0]
    return y.mean() + (xt - centre) @ slope


def lightgbm(x: Array, y: Array, xt: Array, leaf: int = 20) -> Array:
    """RegMix's regressor without the leak; ``leaf`` is the least number of rows in a leaf (20 in RegMix)."""
    import lightgbm as lgb

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = lgb.LGBMRegressor(**REGMIX, min_child_samples=leaf).fit(x, y)
        return np.asarray(model.predict(xt))


def lightgbm_small(x: Array, y: Array, xt: Array) -> Array:
    """The same with leaves of three rows, which a few runs need."""
    return lightgbm(x, y, xt, leaf=3)


def gp(x: Array, y: Array, xt: Array) -> Array:
    """Gaussian process of scikit-learn: Matern 5/2, a length per domain, on the cube root of the weights; noise learned."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    lengths = np.full(x.shape[1], 2.0)
    kernel = ConstantKernel(1.0, (1e-2, 1e3)) * Matern(lengths, (0.05, 1e3), nu=2.5) + WhiteKernel(1e-3, (1e-6, 1.0))
    model = GaussianProcessRegressor(kernel, normalize_y=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return np.asarray(model.fit(np.cbrt(x), y).predict(np.cbrt(xt)))


def log_linear(x: Array, y: Array, xt: Array) -> Array:
    """Re-implementation: Olmix's log-linear law L = c + exp(a · r) under its Huber loss, one start, analytic gradient.

    The same objective that Olmix searches with 300 random starts (``authors.olmix``), solved once; the notes found the
    lower value of the two here.
    """
    from scipy.optimize import minimize

    def objective(theta: Array) -> tuple[float, Array]:
        above = np.exp(np.clip(x @ theta[1:], -50, 50))
        floor = np.exp(theta[0])
        off = floor + above - y
        inside = np.clip(off, -OLMIX_HUBER, OLMIX_HUBER)
        value = np.mean(inside * (off - 0.5 * inside))
        slope = np.concatenate([[inside.sum() * floor], (inside * above) @ x])
        return float(value), slope / len(y)

    low = y.min()
    best: tuple[float, Array] | None = None
    for part in (0.5, 0.9, 0.98):
        level = np.log(np.maximum(y - part * low, 1e-3))
        slope = np.linalg.solve(x.T @ x + 1e-2 * np.eye(x.shape[1]), x.T @ level)
        found = minimize(
            objective, np.concatenate([[np.log(part * low)], slope]), jac=True, method="L-BFGS-B",
            options={"maxiter": 3000, "maxfun": 6000, "ftol": 1e-13, "gtol": 1e-9},
        )  # fmt: skip
        if best is None or found.fun < best[0]:
            best = float(found.fun), found.x
    assert best is not None
    theta = best[1]
    return np.exp(theta[0]) + np.exp(np.clip(xt @ theta[1:], -50, 50))


#: name in tables -> function
EVERY_RUN = {
    "linear": linear,
    "LightGBM, RegMix settings": lightgbm,
    "LightGBM, 3 rows per leaf": lightgbm_small,
    "log-linear, its optimum (own)": log_linear,
    "GP, ARD Matern, cube root": gp,
}
