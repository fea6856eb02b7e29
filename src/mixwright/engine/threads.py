"""One thread for linear algebra on small matrices.

Fits solve many systems of a few dozen unknowns. There a second BLAS thread saves nothing, and on a machine that is busy with
something else threads wait for one another in loops: the same fit then takes several times the CPU time.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

Args = ParamSpec("Args")
Result = TypeVar("Result")


def one_thread(call: Callable[Args, Result]) -> Callable[Args, Result]:
    """The same function, with one BLAS thread while it runs."""

    @wraps(call)
    def limited(*args: Args.args, **kwargs: Args.kwargs) -> Result:
        import scipy.linalg  # noqa: F401  # it brings a BLAS of its own, which must be there to be limited
        from threadpoolctl import threadpool_limits

        with threadpool_limits(1):
            return call(*args, **kwargs)

    return limited
