"""AdamW, and how fast each parameter of the model learns.

Rates and width. Under Adam the changes that a matrix makes to its output add up over its fan-in, so matrices that read
the width d learn at a rate that falls as 1/d (muP: Yang et al. 2022, arXiv:2203.03466, table 3): those inside the model at
``lr * lr_width / d``, the head at ``HEAD`` times that. The embedding and the norms read no width and learn at ``lr``;
nothing learns faster than ``lr``. ``docs/training.md`` shows the rates at every size beside published ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from mixwright.train.model import Model

if TYPE_CHECKING:
    from mixwright.train.trainers.builtin import Builtin

#: How much faster the head learns than matrices inside: at width 48, where ``lr`` was tuned, it learns at ``lr``.
HEAD = 3.0


def peak_rate(name: str, dimensions: int, width: int, *, lr: float, lr_width: int) -> float:
    """The peak learning rate of parameter ``name`` with that many ``dimensions`` in a model of ``width``."""
    inner = lr * lr_width / width
    if decays(name, dimensions):
        return inner
    return min(lr, HEAD * inner) if name == "head" else lr


def decays(name: str, dimensions: int) -> bool:
    """Whether weight decay pulls at a parameter: at matrices inside the model only."""
    return name.startswith("blocks.") and dimensions == 2


def adamw(model: Model, options: Builtin) -> tuple[torch.optim.Optimizer, dict[Any, str]]:
    """AdamW over the model's parameters with a ``peak`` rate in each group, and each parameter's name."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    groups: dict[tuple[float, float], list[Any]] = {}
    for parameter, name in names.items():
        rate = peak_rate(name, parameter.ndim, model.size.width, lr=options.lr, lr_width=options.lr_width)
        decay = options.weight_decay if decays(name, parameter.ndim) else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    described = [{"params": own, "peak": rate, "weight_decay": decay} for (rate, decay), own in groups.items()]
    betas = (options.beta1, options.beta2)
    return torch.optim.AdamW(described, lr=options.lr, betas=betas, fused=True), names


def set_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Let every group learn at ``factor`` times its peak rate."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor


def moments(optimizer: torch.optim.Optimizer, names: Mapping[Any, str]) -> dict[str, Any]:
    """AdamW's two moments of each parameter by name: ``exp_avg.NAME`` and ``exp_avg_sq.NAME``; zero before the first step."""
    held = {}
    for parameter, name in names.items():
        state = optimizer.state.get(parameter, {})
        for part in ("exp_avg", "exp_avg_sq"):
            held[f"{part}.{name}"] = state[part] if part in state else torch.zeros_like(parameter)
    return held
