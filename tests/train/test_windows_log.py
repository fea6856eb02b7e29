from __future__ import annotations

import json
from dataclasses import replace

import numpy as np

from mixwright.train import loop, windows_log
from mixwright.train.trainers.builtin import Builtin

OPTIONS = Builtin(
    seq_len=16, batch=2, eval_tokens=128, trajectory_evals=0, checkpoint_seconds=1e9, log_windows=True
)  # fmt: skip


def rows(*numbers: int) -> windows_log.Rows:
    return tuple(np.array(numbers) + 100 * part for part in range(3))  # type: ignore[return-value]


def test_rows_of_ranks_are_put_back_in_the_batchs_order(tmp_path) -> None:
    windows_log.append(tmp_path, 1, [rows(0, 2, 4), rows(1, 3, 5)])
    assert windows_log.read(tmp_path) == [(1, [[n, 100 + n, 200 + n] for n in range(6)])]


def test_what_lies_after_the_step_is_cut_off_and_so_is_half_a_line(tmp_path) -> None:
    for step in (1, 2, 3):
        windows_log.append(tmp_path, step, [rows(step)])
    with (tmp_path / windows_log.NAME).open("a") as stream:
        stream.write('{"step": 4, "windo')
    windows_log.cut(tmp_path, 9)
    assert [step for step, _ in windows_log.read(tmp_path)] == [1, 2, 3]
    windows_log.cut(tmp_path, 1)
    assert [step for step, _ in windows_log.read(tmp_path)] == [1]
    windows_log.cut(tmp_path / "nothing", 1)


def test_the_log_of_a_killed_run_is_that_of_one_that_was_not(corpus, make_run, tmp_path) -> None:
    logs = []
    for name, options, stop in (("whole", OPTIONS, None), ("killed", replace(OPTIONS, checkpoint_seconds=1e-9), 5),
                                ("lost", OPTIONS, 9)):  # fmt: skip
        (tmp_path / name).mkdir()
        task = options.task(make_run(), corpus=corpus.path, out=tmp_path / name).arguments
        for at in (stop, None):
            steps = []

            def progress(fraction: float, *, steps=steps, at=at, **facts) -> None:
                steps.append(facts["step"])
                if len(steps) == at:
                    raise KeyboardInterrupt

            try:
                loop.train_task(progress, **json.loads(json.dumps(task)))
            except KeyboardInterrupt:
                assert at is not None
        logs.append(windows_log.read(tmp_path / name))
    assert len(logs[0]) == 15
    assert logs[0] == logs[1] == logs[2]
