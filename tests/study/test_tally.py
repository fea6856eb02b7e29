import pytest

from mixwright.study.tally import Tally


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_time_left_is_work_left_by_the_rate_of_work(clock: Clock) -> None:
    tally = Tally({"a": 10.0, "b": 10.0, "c": 20.0}, clock)
    assert tally.seconds_left() is None
    for clock.now in (0.0, 2.0, 4.0):
        tally.heard("a", clock.now / 10, {"loss": 1.0})
        tally.heard("b", clock.now / 20, {"loss": 1.0})
    # one and a half CPU-seconds a second; 10 + 10 + 20 - 6 are left
    assert tally.seconds_left() == pytest.approx(34 / 1.5)
    assert tally.share == pytest.approx(6 / 40)
    assert tally.count() == {"done": 0, "failed": 0, "running": 2, "waiting": 1}
    tally.cost("c", 50.0)
    assert tally.seconds_left() == pytest.approx(64 / 1.5)


def test_what_was_found_done_is_no_measure_of_the_rate(clock: Clock) -> None:
    tally = Tally(dict.fromkeys("abcd", 10.0), clock)
    for name in "ab":
        tally.heard(name, 1.0, {"status": "done"})
    for clock.now in (0.0, 5.0):
        tally.heard("c", clock.now / 10, {"loss": 1.0})
    assert tally.seconds_left() == pytest.approx(15.0)
    assert tally.count() == {"done": 2, "failed": 0, "running": 1, "waiting": 1}


def test_no_less_than_the_longest_still_needs(clock: Clock) -> None:
    tally = Tally({"a": 10.0, "b": 10.0}, clock)
    for clock.now in (0.0, 4.0):
        tally.heard("a", clock.now / 4.1, {"loss": 1.0})
        tally.heard("b", clock.now / 100, {"loss": 1.0})
    assert tally.seconds_left() == pytest.approx(96.0)
    tally.heard("b", 0.04, {"loss": 1.0, "seconds_left": 50.0})
    assert tally.seconds_left() == pytest.approx(50.0), "its own word goes before its rate"


def test_a_training_ends_with_its_status_other_tasks_at_one(clock: Clock) -> None:
    training, other = Tally({"a": 1.0}, clock), Tally({"a": 1.0}, clock)
    training.heard("a", 1.0, {"loss": 2.0})
    assert training.count()["running"] == 1, "it is being evaluated"
    training.heard("a", 1.0, {"status": "failed"})
    assert training.count() == {"done": 0, "failed": 1, "running": 0, "waiting": 0}
    other.heard("a", 0.5, {"documents": 5})
    other.heard("a", 1.0, {"documents": 9})
    assert other.count()["done"] == 1


def test_a_run_that_is_begun_again_is_not_at_work_until_it_says_so(clock: Clock) -> None:
    tally = Tally({"a": 10.0, "b": 10.0}, clock)
    tally.heard("a", 0.9, {"loss": 1.0})
    tally.heard("a", 0.0, {"again": "its process died"})
    assert tally.count() == {"done": 0, "failed": 0, "running": 0, "waiting": 2}
    assert tally.share == 0.0


def test_tasks_that_were_not_announced_are_counted(clock: Clock) -> None:
    tally = Tally({}, clock)
    tally.heard("new", 0.5, {})
    assert list(tally.running()) == ["new"]
    assert Tally({}, clock).share == 0.0
