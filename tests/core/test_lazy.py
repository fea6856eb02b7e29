"""Attributes that are computed once."""

import threading

from mixwright.core.lazy import lazy


class Counting:
    """A sum that may wait while it is computed."""

    def __init__(self, wait: threading.Event | None = None) -> None:
        self.times = 0
        self.wait = wait

    @lazy
    def total(self) -> int:
        """What it comes to."""
        self.times += 1
        if self.wait is not None:
            assert self.wait.wait(20)
        return 42


def test_computed_once_for_each_object() -> None:
    one, other = Counting(), Counting()
    assert (one.total, one.total, one.times, other.times) == (42, 42, 1, 0)
    assert Counting.total.__doc__ == "What it comes to."


def test_no_object_waits_for_another() -> None:
    done = threading.Event()
    slow = Counting(done)
    thread = threading.Thread(target=lambda: slow.total)
    thread.start()
    found: list[int] = []
    quick = threading.Thread(target=lambda: found.append(Counting().total))
    quick.start()
    quick.join(5)
    assert found == [42], "it waited for the other object"
    done.set()
    thread.join()
    assert slow.total == 42
