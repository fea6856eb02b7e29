"""The loss on a metric while a run is trained: its windows dealt to the ranks, each reading as many.

Under FSDP every rank must call the model equally often, so ranks with fewer windows read one again and do not count it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from mixwright.train.distributed import Ranks
from mixwright.train.evaluate import Metric

#: Windows that go through the model at once.
_CHUNK = 16


def metric_loss(model: Any, metric: Metric, ranks: Ranks, device: str) -> float:
    """The model's loss in nats/token, the same on every rank; every window is read without what came before it."""
    own = metric.windows[ranks.rank :: ranks.world]
    wanted = -(-len(metric.windows) // ranks.world)
    rows = own if len(own) == wanted else np.concatenate([own, metric.windows[:1]])
    total = 0.0
    with torch.no_grad():
        for start in range(0, wanted, _CHUNK):
            part = torch.from_numpy(rows[start : start + _CHUNK]).to(device)
            each = model(part[:, :-1], part[:, 1:]).view(len(part), -1)
            total += float(each[: max(0, len(own) - start)].sum(dtype=torch.float64))
    (everywhere,) = ranks.sum(total)
    return everywhere / metric.windows[:, 1:].size
