"""A fit at given tokens and parameters."""

from __future__ import annotations

import numpy as np
import pytest

from mixwright.core.errors import DataError
from mixwright.laws._fit import GraphFit, load_fit
from mixwright.laws.graph import Builder


def scaled_fit() -> GraphFit:
    """1 + r0 / tokens**0.5, which does not depend on params."""
    build = Builder(("a", "b"))
    share = build.sum(build.apply("mul", build.weights(), build.const([1.0, 0.0])))
    mean = build.apply(
        "add", build.const(1.0), build.apply("mul", share, build.apply("pow", build.apply("tokens"), build.const(-0.5)))
    )
    members = build.apply("add", mean, build.const([-0.1, 0.1]))
    build.output("val:a", mean=mean, spread=build.const(0.1), members=members)
    return GraphFit(
        "power", ("a", "b"), ("val:a",), np.array([0.01]), np.array([[1e-4]]), ("converged",), build.graph(), ("power",),
        np.zeros((1, 1)), 1.0, np.array([[0.5, 0.5]]), ("r",), np.zeros((1, 1)),
    )  # fmt: skip


def test_a_fit_that_depends_on_tokens_asks_for_them() -> None:
    fit, at, q = scaled_fit(), np.array([[0.5, 0.5]]), np.ones(1)
    for ask in (fit.predict, lambda r: fit.mean(r, q), lambda r: fit.members(r, q), lambda r: fit.spread(r, q)):
        with pytest.raises(DataError, match=r"depend on tokens: say at how many, with fit.at\(tokens=...\)"):
            ask(at)


def test_at_fixes_them_and_survives_json() -> None:
    fit = load_fit(scaled_fit().to_dict())
    at, q = np.array([[0.5, 0.5], [1.0, 0.0]]), np.ones(1)
    fixed = fit.at(tokens=100, params=1e6)
    np.testing.assert_allclose(fixed.predict(at).mean[:, 0], [1.05, 1.1])
    np.testing.assert_allclose(fixed.mean_and_slope(at, q)[1], [[0.1, 0.0], [0.1, 0.0]])
    np.testing.assert_allclose(load_fit(fixed.to_dict()).members(at, q), [[0.95, 1.15], [1.0, 1.2]])
