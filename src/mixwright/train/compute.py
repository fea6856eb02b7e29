"""Where a run is computed, in what precision, and whether it is compiled first.

Precision decides what comes out (bfloat16 has 8 bits of significand, Kalamkar et al. 2019, arXiv:1905.12322, table 1), so it
is part of a run's key and of its checkpoints; device and compilation change the order of sums at most. Under ``bf16``
products of matrices are in bfloat16 by autocast; weights, gradients, optimizer, norms, the residual stream, softmax sums
and losses stay float32.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch

from mixwright.core.errors import StudyError
from mixwright.core.run import ModelSize

if TYPE_CHECKING:
    from mixwright.train.model import Model

Precision = Literal["auto", "fp32", "bf16"]
Compile = Literal["auto", "on", "off"]
Device = Literal["auto", "cpu", "cuda"]

#: Width from which ``auto`` is bf16 on a CPU that multiplies bfloat16: 1.3 to 1.8 times as fast, and losses within a
#: hundredth of the seeds' spread (``docs/training.md``, precision and speed). Below it gains less.
BF16_WIDTH = 64
#: CPU-seconds that compiling takes on a server core, and the part of a step's time that it saves at widths from 128 on;
#: narrower models gain nothing (``docs/training.md``, speed). It must be repaid ``_REPAID`` times over: both are estimates.
COMPILE_SECONDS, COMPILE_SAVES, COMPILE_WIDTH, _REPAID = 80.0, 0.1, 128, 2.0
#: Products and sums per second that a GPU is taken to do on a small model, eager: assumed, not measured.
_GPU_FLOPS = 5e13


@dataclass(frozen=True)
class Compute:
    """``device`` (``cpu`` or ``cuda``), ``precision`` (``fp32`` or ``bf16``), and whether blocks are ``compiled``."""

    device: str
    precision: str
    compiled: bool

    @classmethod
    def choose(
        cls,
        size: ModelSize,
        cpu_seconds: float,
        tokens: int,
        *,
        precision: Precision,
        compiling: Compile,
        device: Device,
    ) -> Compute:
        """What ``auto`` stands for on this machine, for a run of ``tokens`` that one core would take ``cpu_seconds`` for.

        Precision: bf16 on a GPU, and on a CPU with bfloat16 products from a width of ``BF16_WIDTH`` on. Compile: where
        the time saved repays compiling twice, and there is a compiler. Raises StudyError for a GPU that is not there.
        """
        if device == "cuda" and not torch.cuda.is_available():
            raise StudyError("trainer.device is cuda, but torch sees no GPU here. Set it to auto or cpu.")
        place = "cuda" if device == "cuda" or (device == "auto" and torch.cuda.is_available()) else "cpu"
        if precision == "auto":
            pays = place == "cuda" or (size.width >= BF16_WIDTH and has_bf16_products())
            precision = "bf16" if pays else "fp32"
        seconds = cpu_seconds if place == "cpu" else 6 * size.params * tokens / _GPU_FLOPS
        gains = place == "cuda" or size.width >= COMPILE_WIDTH
        worth = gains and seconds * COMPILE_SAVES > _REPAID * COMPILE_SECONDS and has_compiler(place)
        return cls(place, precision, compiling == "on" or (compiling == "auto" and worth))

    def resumed(self, state: Mapping[str, Any]) -> Compute:
        """The same, in the precision that an interrupted run began with (``state`` is what ``to_dict`` gave)."""
        return Compute(self.device, str(state["precision"]), self.compiled)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    def autocast(self) -> Any:
        """The context that products are computed in."""
        return torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.precision == "bf16")

    def compile(self, model: Model) -> None:
        """Compile the blocks: all have one shape, so the first pays for all. The loss of the head is quicker as it is."""
        if not self.compiled:
            return
        # what a block reads is no leaf, which the compiler looks at all the same
        warnings.filterwarnings("ignore", "The .grad attribute of a Tensor that is not a leaf", UserWarning)
        for block in model.blocks:
            block.compile(dynamic=False)


def has_bf16_products() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware (AVX512-BF16 or AMX)."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def has_compiler(device: str) -> bool:
    """Whether torch can compile here: a GPU, or a C++ compiler on the path."""
    return device == "cuda" or any(shutil.which(name) for name in ("g++", "clang++", "c++"))
