"""On a GPU: model FLOPs utilization, a population beside its runs one by one, and the time of RegMix's sweep.

Without a GPU the rows are there with no goal and a note.
"""

import statistics
from dataclasses import dataclass

from benchmarks.laws.scores import Row
from benchmarks.train import flops
from benchmarks.train.case import Case
from benchmarks.train.work import run

from mixwright.core.run import ModelSize

#: size -> windows of a step; windows of 1,024 tokens over 32,768 ids
UTILIZED = {"70M": 64, "160M": 32, "410M": 16}
GOAL = 0.45
#: proxies of 1M parameters: windows of 256 over 8,192 ids
PROXY = Case("ours", "1M", vocab=8192, seq_len=256, batch=8, precision="bf16", device="cuda", steps=30, warm=5)
TOGETHER, FASTER = 64, 10.0
#: RegMix's design (Liu et al. 2024, arXiv:2407.01492, section 3): proxies and tokens of each
SWEEP, SWEEP_TOKENS = 512, 1e9
ABSENT = "needs a CUDA device; none here"


@dataclass(frozen=True)
class Device:
    """The GPU's name."""

    name: str

    @classmethod
    def here(cls) -> "Device | None":
        """The first one, if there is one."""
        import torch

        return cls(torch.cuda.get_device_name(0)) if torch.cuda.is_available() else None


def rows(rounds: int, until: float) -> list[Row]:
    """All rows, measured or with the note that they cannot be."""
    device = Device.here()
    if device is None:
        return absent()
    return [*utilization(device, rounds), *population(device, rounds)]


def absent() -> list[Row]:
    """The rows without a GPU."""
    names = [*(f"MFU at {size}, bf16" for size in UTILIZED), f"{TOGETHER} proxies of 1M together", _sweep_name()]
    units = [*("part of the peak" for _ in UTILIZED), "tokens/s", "hours on one GPU"]
    return [Row(name, unit, None, None, note=ABSENT) for name, unit in zip(names, units, strict=True)]


def utilization(device: Device, rounds: int) -> list[Row]:
    """MFU of our loop, compiled, at three sizes."""
    out = []
    for name, batch in UTILIZED.items():
        case = Case(
            "ours", name, vocab=32768, seq_len=1024, batch=batch, precision="bf16", compiled=True, device="cuda",
            steps=20, warm=5,
        )  # fmt: skip
        speed = statistics.median(run(case)["per_second"] for _ in range(rounds))
        part = flops.utilization(speed, ModelSize.parse(name), case.vocab, case.seq_len, device.name)
        goal = None if part is None else (">=", GOAL)
        note = f"{speed:,.0f} tokens/s on {device.name}" + ("" if goal else ", whose peak is not known here")
        out.append(Row(f"MFU at {name}, bf16", "part of the peak", part, goal, note=note))
    return out


def population(device: Device, rounds: int) -> list[Row]:
    """Many proxies together beside one after another, and what that makes of a sweep."""
    together, alone = [], []
    for _ in range(rounds):
        together.append(run(Case(**{**PROXY.__dict__, "models": TOGETHER}))["per_second"])
        alone.append(run(PROXY)["per_second"])
    speed, single = statistics.median(together), statistics.median(alone)
    note = f"ratio {speed / single:.1f}, goal {FASTER:g}; {device.name}"
    return [
        Row(f"{TOGETHER} proxies of 1M together", "tokens/s", speed, (">=", FASTER * single), "one after another", single, note),
        Row(_sweep_name(), "hours on one GPU", sweep_hours(speed), None, note=f"extrapolated from {speed:,.0f} tokens/s"),
    ]  # fmt: skip


def sweep_hours(tokens_per_second: float) -> float:
    """Hours that the sweep takes at a population's speed."""
    return SWEEP * SWEEP_TOKENS / tokens_per_second / 3600


def _sweep_name() -> str:
    return f"{SWEEP} proxies of 1M on {SWEEP_TOKENS:.0e} tokens each (RegMix's design)"
