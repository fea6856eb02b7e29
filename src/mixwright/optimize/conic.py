"""Convex programs with linear, quadratic and exponential parts, solved to rounding, with the price of every row.

Notation: x ``(n,)`` the variables; H ``(n, n)`` positive semidefinite; rows ``A x = b``, ``A x <= b``; a triple (u, v, z) is in
the exponential cone if ``v > 0`` and ``v exp(u / v) <= z``, in the quadratic cone if ``|(v, z, ...)| <= u``.

The solver is Clarabel (Goulart and Chen 2024, arXiv:2405.12762), a primal-dual interior point method which comes with cvxpy; it
is called directly, since building a program in cvxpy takes longer than solving it here.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Rows = tuple[Array, Array]
#: residuals and duality gap asked for; rounding ends most programs near 1e-13
_TOLERANCE = 1e-12
#: what a solver that stopped early must have reached to be believed
_ACCEPTED = 1e-7


@dataclass(frozen=True, eq=False)
class Program:
    """Rows over ``size`` variables: equalities, inequalities, exponential triples and one quadratic cone.

    ``triples`` and ``ball`` hold ``(A, b)`` such that ``b - A x`` lies in the cone (triples one after another).
    """

    size: int
    equal: Rows
    less: Rows
    triples: Rows
    ball: Rows

    @classmethod
    def empty(cls, size: int) -> Program:
        """No rows yet."""
        none = (np.zeros((0, size)), np.zeros(0))
        return cls(size, none, none, none, none)

    def wider(self, more: int) -> Program:
        """The same rows with ``more`` variables behind the others that enter none of them."""
        parts = (self.equal, self.less, self.triples, self.ball)
        return Program(self.size + more, *((np.pad(A, ((0, 0), (0, more))), b) for A, b in parts))

    def plus(
        self,
        *,
        equal: Rows | None = None,
        less: Rows | None = None,
        triples: Rows | None = None,
        ball: Rows | None = None,
    ) -> Program:
        """The same program with these rows behind its own."""
        parts = ((self.equal, equal), (self.less, less), (self.triples, triples), (self.ball, ball))
        return Program(self.size, *(own if new is None else _below(own, new) for own, new in parts))

    def around(self, x: Array) -> Program:
        """The same rows for the step ``x - origin`` away from an origin that has these first coordinates."""
        used = len(x)
        parts = (self.equal, self.less, self.triples, self.ball)
        return Program(self.size, *((A, b - A[:, :used] @ x) for A, b in parts))

    def solve(self, slope: Array, H: Array | None = None) -> Answer:
        """The x that minimizes ``x · H x / 2 + slope · x``; see Answer. Cost: some (n + rows)^3 operations."""
        import clarabel
        from scipy import sparse

        A = np.concatenate([self.equal[0], self.less[0], self.triples[0], self.ball[0]])
        b = np.concatenate([self.equal[1], self.less[1], self.triples[1], self.ball[1]])
        cones = [
            *([clarabel.ZeroConeT(len(self.equal[1]))] if len(self.equal[1]) else []),
            *([clarabel.NonnegativeConeT(len(self.less[1]))] if len(self.less[1]) else []),
            *[clarabel.ExponentialConeT()] * (len(self.triples[1]) // 3),
            *([clarabel.SecondOrderConeT(len(self.ball[1]))] if len(self.ball[1]) else []),
        ]
        P = np.zeros((self.size, self.size))
        if H is not None:
            P[: len(H), : len(H)] = np.triu(H)
        settings = clarabel.DefaultSettings()
        settings.verbose = False
        settings.max_iter = 100
        settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = _TOLERANCE
        settings.reduced_tol_gap_abs = settings.reduced_tol_gap_rel = settings.reduced_tol_feas = _ACCEPTED
        found = clarabel.DefaultSolver(
            sparse.csc_matrix(P), np.pad(slope, (0, self.size - len(slope))), sparse.csc_matrix(A), b, cones, settings
        ).solve()
        ends = np.cumsum([len(self.equal[1]), len(self.less[1])])
        z = np.array(found.z)
        solved = str(found.status) in ("Solved", "AlmostSolved", "InsufficientProgress") and (
            max(found.r_prim, found.r_dual) < _ACCEPTED
        )
        return Answer(np.array(found.x), float(found.obj_val), solved, z[: ends[0]], z[ends[0] : ends[1]])


@dataclass(frozen=True, eq=False)
class Answer:
    """``x`` and the ``value`` reached; ``solved`` is False for a program without a solution.

    ``equal_prices`` and ``less_prices`` are the multipliers of the rows: how much the value falls per unit of more ``b``
    (of an inequality at least 0).
    """

    x: Array
    value: float
    solved: bool
    equal_prices: Array = field(default_factory=lambda: np.zeros(0))
    less_prices: Array = field(default_factory=lambda: np.zeros(0))


def _below(own: Rows, new: Rows) -> Rows:
    A, b = np.atleast_2d(new[0]), np.atleast_1d(new[1])
    return np.concatenate([own[0], np.pad(A, ((0, 0), (0, own[0].shape[1] - A.shape[1])))]), np.concatenate([own[1], b])
