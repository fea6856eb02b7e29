from __future__ import annotations

from typing import Any

import pytest
import torch

from mixwright.core.errors import StudyError
from mixwright.core.run import ModelSize
from mixwright.train import compute
from mixwright.train.compute import Compute

SMALL, LARGE = ModelSize(16, 1), ModelSize(1024, 4)
LONG = 1e6


def chosen(size: ModelSize = SMALL, seconds: float = 10.0, **more: Any) -> Compute:
    wanted = {"precision": "auto", "compiling": "auto", "device": "auto"} | more
    return Compute.choose(size, seconds, 10_000, **wanted)


@pytest.fixture
def machine(monkeypatch):
    """``machine(bf16=, gpu=, compiler=)``: what this machine is taken to have."""

    def set_to(*, bf16: bool = False, gpu: bool = False, compiler: bool = True) -> None:
        monkeypatch.setattr(compute, "has_bf16_products", lambda: bf16)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
        monkeypatch.setattr(compute.shutil, "which", lambda name: "/usr/bin/c++" if compiler else None)

    set_to()
    return set_to


def test_bfloat16_where_the_machine_multiplies_it_and_the_model_is_wide_enough(machine) -> None:
    assert chosen(LARGE).precision == "fp32"
    machine(bf16=True)
    assert chosen(LARGE).precision == "bf16"
    assert chosen(SMALL).precision == "fp32"
    assert chosen(LARGE, precision="fp32").precision == "fp32"
    machine(gpu=True)
    assert (chosen(SMALL).device, chosen(SMALL).precision) == ("cuda", "bf16")
    assert chosen(SMALL, device="cpu").precision == "fp32"
    assert chosen(SMALL, precision="bf16", device="cpu").precision == "bf16"


def test_compiled_where_it_is_repaid_and_possible(machine) -> None:
    assert not chosen(LARGE, 10).compiled
    assert chosen(LARGE, LONG).compiled
    assert not chosen(SMALL, LONG).compiled
    assert chosen(seconds=10, compiling="on").compiled
    assert not chosen(LARGE, LONG, compiling="off").compiled
    machine(compiler=False)
    assert not chosen(LARGE, LONG).compiled


def test_a_gpu_that_is_not_there_is_told(machine) -> None:
    with pytest.raises(StudyError, match="torch sees no GPU here"):
        chosen(device="cuda")


def test_an_interrupted_run_keeps_its_precision_alone() -> None:
    begun = Compute("cuda", "bf16", True)
    assert Compute("cpu", "fp32", False).resumed(begun.to_dict()) == Compute("cpu", "bf16", False)


def test_products_are_in_the_precision_and_losses_in_float32() -> None:
    from mixwright.train.model import Model, losses

    model = Model(SMALL, torch.full((20,), 1 / 20).double().numpy(), 0)
    ids = torch.arange(12).view(1, 12)
    for precision, kind in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        with Compute("cpu", precision, False).autocast():
            assert torch.nn.functional.linear(model.hidden(ids), model.head).dtype == kind
            assert losses(model.hidden(ids), model.head, ids).dtype == torch.float32
            assert model(ids, ids, mean=True).dtype == torch.float32
            assert model.hidden(ids).dtype == torch.float32
