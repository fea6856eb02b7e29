from __future__ import annotations

import subprocess
import sys
import threading

import numpy as np
import pytest

from mixwright.core.errors import DataError
from mixwright.core.mixture import Mixture
from mixwright.core.schedule import Schedule
from mixwright.stream.loader import MixtureStream
from mixwright.stream.prefetch import micro, prefetch

NAMES, SEQ_LEN, BATCH, STEPS = ("a", "b", "c"), 8, 6, 25
SCHEDULE = Schedule.constant(Mixture(NAMES, np.array([0.2, 0.5, 0.3])), STEPS * SEQ_LEN * BATCH)


def stream(stores) -> MixtureStream:
    return MixtureStream(stores, SCHEDULE, 1, seq_len=SEQ_LEN, batch=BATCH)


@pytest.mark.parametrize("depth", [1, 2, 40])
def test_gives_the_same_batches_and_the_state_of_what_was_delivered(stores, depth: int) -> None:
    whole = stream(stores)
    with prefetch(stream(stores), depth) as ahead:
        assert ahead.state_dict() == whole.state_dict()
        for batch in whole:
            assert np.array_equal(next(ahead), batch)
            assert ahead.state_dict() == whole.state_dict()
            assert all(np.array_equal(a, b) for a, b in zip(ahead.last, whole.last, strict=True))
        for _ in range(2):
            with pytest.raises(StopIteration):
                next(ahead)
    assert not [thread for thread in threading.enumerate() if thread.name == "mixwright-prefetch"]


@pytest.mark.parametrize("at", [0, 1, 9, 25])
def test_goes_on_from_any_state(stores, at: int) -> None:
    whole = stream(stores)
    rest = list(whole)[at:]
    ahead = prefetch(stream(stores))
    next(ahead)
    ahead.load_state_dict(whole.state_at(at))
    assert [batch.tolist() for batch in ahead] == [batch.tolist() for batch in rest]


def test_closed_it_stands_after_what_was_delivered(stores) -> None:
    source = stream(stores)
    ahead = prefetch(source, 5)
    first = [next(ahead).tolist() for _ in range(3)]
    ahead.close()
    ahead.close()
    assert source.step == 3
    assert first + [batch.tolist() for batch in ahead] == [batch.tolist() for batch in stream(stores)]


def test_weights_change_after_the_batch_delivered_last(stores) -> None:
    plain, source = stream(stores), stream(stores)
    ahead = prefetch(source, 4)
    for _ in range(7):
        assert np.array_equal(next(ahead), next(plain))
    for one in (ahead, plain):
        one.change(Mixture.uniform(NAMES))
    assert np.array_equal(next(ahead), next(plain))
    longer = Schedule((*plain.schedule.phases[:2], *Schedule.constant(Mixture.uniform("abc"), 480).phases))
    for one in (ahead, plain):
        one.extend(longer)
    assert [batch.tolist() for batch in ahead] == [batch.tolist() for batch in plain]


def test_what_the_stream_raises_comes_out_where_the_batch_is_asked_for(stores, monkeypatch) -> None:
    source = stream(stores)
    gather = source._windows.gather
    broken = iter([False, False, True])
    monkeypatch.setattr(source._windows, "gather", lambda places: 1 / 0 if next(broken, False) else gather(places))
    ahead = prefetch(source)
    assert np.array_equal(next(ahead), next(iter(stream(stores))))
    next(ahead)
    with pytest.raises(ZeroDivisionError):
        next(ahead)
    assert source.step == 2
    ahead.load_state_dict(ahead.state_dict())
    assert len(list(ahead)) == STEPS - 2


def test_micro_batches_are_the_batch() -> None:
    batch = np.arange(24).reshape(6, 4)
    assert np.array_equal(np.concatenate(micro(batch, 3)), batch)
    assert all(np.shares_memory(part, batch) for part in micro(batch, 3))
    for parts in (0, 4):
        with pytest.raises(DataError, match=f"6 rows cannot be cut into {parts}"):
            micro(batch, parts)
    with pytest.raises(DataError, match="depth of 0"):
        prefetch(None, 0)  # type: ignore[arg-type]


def test_without_torch_there_is_no_torch() -> None:
    code = (
        "import sys; import mixwright.stream.loader, mixwright.stream.prefetch, mixwright.stream.documents; "
        "import mixwright; mixwright.MixtureStream; sys.exit('torch' in sys.modules or 'fsspec' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
