from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixwright.core.errors import DataError
from mixwright.core.mixture import Mixture
from mixwright.core.run import ModelSize, Run
from mixwright.core.schedule import Schedule


@pytest.mark.parametrize(
    ("name", "size"),
    [("0.4M", "128x2"), ("1M", "128x5"), ("4M", "288x4"), ("70M", "768x10"), ("160M", "832x19"), ("410M", "1344x19"),
     ("1B", "1792x26")],
)  # fmt: skip
def test_members_of_the_family_by_their_names(name: str, size: str) -> None:
    assert str(ModelSize.parse(name)) == size


@given(st.floats(math.log(4e5), math.log(1e10)))
def test_the_dial_finds_a_shape_with_the_parameters_asked_for(log_params: float) -> None:
    params = math.exp(log_params)
    size = ModelSize.dial(params)
    assert size.params == pytest.approx(params, rel=0.14)
    assert 16 <= size.width / size.layers <= 145
    assert size.width // size.heads in (16, 32, 64, 128) or size.width % (2 * size.heads) == 0


@given(st.floats(math.log(1e4), math.log(1e10)), st.floats(0, 0.2))
def test_more_parameters_are_never_far_fewer(log_params: float, more: float) -> None:
    first, second = (ModelSize.dial(math.exp(x)).params for x in (log_params, log_params + more))
    assert second > 0.6 * first


@pytest.mark.parametrize("name", ["1m", "M", "1T", "-1M", "0K", "1K", "900B", "1e6"])
def test_what_the_dial_does_not_know_is_told(name: str) -> None:
    with pytest.raises(DataError, match=r"written as parameters, such as 1M|family of models goes from 10K"):
        ModelSize.parse(name)


def test_only_branches_anneal_and_the_rate_is_part_of_a_run() -> None:
    run = Run("r", Schedule.constant(Mixture.of({"a": 1.0}), 1000), ModelSize(16, 1))
    with pytest.raises(DataError, match="rate is continue or, for a branch, anneal; got 'anneal' without a parent"):
        replace(run, rate="anneal")
    branch = replace(run, parent="p", parent_tokens=500, rate="anneal")
    assert Run.from_dict(branch.to_dict()) == branch
    assert branch.to_dict() != replace(branch, rate="continue").to_dict()
    with pytest.raises(DataError, match="got 'cosine'"):
        replace(branch, rate="cosine")
