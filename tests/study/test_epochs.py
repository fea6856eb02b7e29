"""What is said of epochs before runs are trained."""

from __future__ import annotations

import pytest

from mixwright.core.mixture import Mixture
from mixwright.core.run import ModelSize, Run
from mixwright.core.schedule import Schedule
from mixwright.study.epochs import epochs_of, notes

SUPPLY = {"web": 10_000, "code": 1_000}


def run(name: str, code: float, tokens: int = 4_000, subsample: float = 1.0) -> Run:
    mixture = Mixture.of({"web": 1 - code, "code": code})
    return Run(name, Schedule.constant(mixture, tokens), ModelSize(16, 1), subsample=subsample)


def test_a_subsample_repeats_as_the_target_run_does() -> None:
    whole = epochs_of(run("target", 0.5, 40_000), SUPPLY)
    assert whole == {"web": 2.0, "code": 20.0}
    assert epochs_of(run("proxy", 0.5, 4_000, 0.1), SUPPLY) == pytest.approx(whole)


def test_runs_that_repeat_nothing_are_said_to() -> None:
    assert notes([run("a", 0.1), run("b", 0.25)], SUPPLY) == [
        "Epochs: no run sees any of its 2 domains more than once."
    ]


def test_the_most_repeated_domain_is_named_with_its_run_and_a_warning_above_four() -> None:
    said = notes([run("a", 0.1), run("b", 0.5), run("c", 0.9, 8_000)], SUPPLY)
    assert said[0] == "Epochs of a whole run at most: code 7.2 (c); the other at most once."
    assert said[1].startswith("Warning: 1 of 3 runs repeat a domain more than 4 times (c);")
    assert len(notes([run("b", 0.5)], SUPPLY)) == 1
    assert len(notes([run("cap", 1.0, 4_001)], SUPPLY)) == 1  # 4.0, as it is printed
