import numpy as np
import threadpoolctl

from mixwright.engine.threads import one_thread


def threads() -> set[int]:
    np.linalg.inv(np.eye(4))
    return {pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"}


def test_one_thread_while_it_runs_and_as_before_afterwards() -> None:
    before = threads()
    assert one_thread(threads)() == {1}
    assert threads() == before
