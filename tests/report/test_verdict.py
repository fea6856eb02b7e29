from __future__ import annotations

import copy
from typing import Any

import pytest

from mixwright.report.verdict import Verdict, verdict

Data = dict[str, Any]


def _measured(data: Data, **differences: float) -> Data:
    """The study with other measured differences to natural, each ± 0.011."""
    data = copy.deepcopy(data)
    for row in data["verify"]["rows"]:
        if row["mixture"] in differences:
            value = differences[row["mixture"]]
            row["measured"] = {"value": value, "low": value - 0.011, "high": value + 0.011}
    return data


def _of(data: Data) -> Verdict:
    found = verdict(data)
    assert found is not None
    return found


def test_a_clear_win(data: Data) -> None:
    found = _of(_measured(data, optimized=-0.233, guess=-0.127, uniform=0.041))
    assert found.tone == "better"
    assert found.headline == (
        "Use the optimized mixture: its loss on manuals and tutorials was measured 0.233 nats/token below the natural "
        "mixture's (90 % interval 0.222 to 0.244). It also beats uniform (by 0.274) and guess (by 0.106)."
    )
    assert ("−0.233", "nats/token against natural, measured") in found.facts


def test_a_tie_with_the_guess_is_printed_as_a_tie(data: Data) -> None:
    found = _of(_measured(data, optimized=-0.233, guess=-0.230, uniform=0.041))
    assert "Against guess (−0.003; 90 % interval −0.010 to +0.004) it is a tie." in found.headline
    assert "beats uniform (by 0.274)." in found.headline


def test_a_tie_with_natural_is_a_tie(data: Data) -> None:
    found = _of(_measured(data, optimized=-0.004, guess=0.01, uniform=0.041))
    assert found.tone == "tie"
    assert found.headline.startswith("A tie: on manuals and tutorials the optimized mixture could not be told from")
    assert "−0.004 (−0.015 to +0.007)" in found.headline


def test_a_better_guess_is_what_to_use(data: Data) -> None:
    found = _of(_measured(data, optimized=-0.1, guess=-0.2, uniform=0.041))
    assert found.tone == "worse"
    assert found.headline.startswith("Use the guess mixture, not the optimized one")


def test_a_worse_mixture_is_not_recommended_even_if_another_is_less_bad(data: Data) -> None:
    found = _of(_measured(data, optimized=0.2, guess=0.1, uniform=0.3))
    assert found.tone == "worse"
    assert found.headline.startswith("Stay with the natural mixture")


def test_without_a_noise_nobody_is_beaten(data: Data) -> None:
    data = _measured(data, optimized=-0.233)
    data["verify"]["objective_noise"] = None
    assert "Whether it differs from uniform and guess is not known" in _of(data).headline


def test_without_verification_the_prediction_is_called_unchecked(data: Data) -> None:
    found = _of({**data, "verify": None})
    assert found.tone == "unchecked"
    assert found.headline.endswith("No larger run has checked it.")


def test_without_a_recipe_there_is_no_verdict(data: Data) -> None:
    assert verdict({"schema": data["schema"], "sources": data["sources"], "runs": data["runs"]}) is None


def test_a_law_that_does_not_beat_the_baselines_is_called_weak(data: Data) -> None:
    weak = copy.deepcopy(data)
    weak["validation"]["scores"]["nested"]["objective"] |= {"relative": 0.05, "spearman": 0.3}
    sentence = next(text for text in _of(weak).cautions if "weak" in text)
    assert "above 1.5 %" in sentence
    assert "linear regression and predicting the mean did as well or better" in sentence
    assert "rank correlation is below 0.8" in sentence
    assert not any("weak" in text for text in _of(data).cautions)


def test_what_other_losses_pay_and_failed_runs_are_said(data: Data) -> None:
    cautions = " ".join(_of(data).cautions)
    assert "It pays elsewhere: the loss on val:cxx_headers rises by 0.437 nats/token, 73× the noise." in cautions
    assert "1 of 24 runs failed" in cautions


@pytest.mark.parametrize("missing", ["validation", "runs", "recipe", "mixtures", "target_metrics", "metrics"])
def test_any_section_may_be_missing(data: Data, missing: str) -> None:
    assert _of({key: value for key, value in data.items() if key != missing}).headline
