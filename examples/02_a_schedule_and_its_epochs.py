"""A schedule with upsampling at the end, the epochs it repeats, and the exact order in which windows are drawn."""

import numpy as np

from mixwright import Mixture, Schedule
from mixwright.stream.order import Plan, order

base = Mixture.of({"web": 0.7, "code": 0.2, "maths": 0.1})
schedule = Schedule.constant(base, 1_000_000).switched(800_000, Mixture.of({"web": 0.3, "code": 0.35, "maths": 0.35}))
for name, epochs in zip(schedule.domains, schedule.epochs([2_000_000, 300_000, 40_000]), strict=True):
    print(f"{name:6} {epochs:.2f} epochs")

seq_len, batch = 128, 8
windows = {"web": 15_000, "code": 2_300, "maths": 310}
plan = Plan.of(schedule, windows, seed=1, seq_len=seq_len, batch=batch)
domain, epoch, window = order(plan, np.arange(plan.windows))
for n, name in enumerate(schedule.domains):
    drawn = domain == n
    print(f"{name:6} {drawn.sum():5} windows, epochs 0..{epoch[drawn].max()}")
    first = window[drawn & (epoch == 0)]
    assert len(set(first.tolist())) == len(first), "no window twice within an epoch"
