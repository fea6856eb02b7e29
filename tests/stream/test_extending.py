"""Weights that change while training runs, parts of a batch, subsamples, shards."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixwright.core.errors import DataError
from mixwright.core.mixture import Mixture
from mixwright.core.schedule import Phase, Schedule
from mixwright.store.tokens import TokenStore, write_tokens
from mixwright.stream.loader import MixtureStream, ledger
from mixwright.stream.order import Plan, order, stretch
from mixwright.stream.reading import Windows

NAMES, SEQ_LEN, BATCH = ("a", "b", "c"), 8, 6
UNIT = SEQ_LEN * BATCH
FIRST, SECOND = Mixture(NAMES, np.array([0.2, 0.5, 0.3])), Mixture(NAMES, np.array([0.6, 0.1, 0.3]))
SCHEDULE = Schedule((Phase(20 * UNIT, FIRST), Phase(10 * UNIT, SECOND)))


def stream(stores, schedule: Schedule = SCHEDULE, **more) -> MixtureStream:
    return MixtureStream(stores, schedule, 1, **({"seq_len": SEQ_LEN, "batch": BATCH} | more))


def drawn(source: MixtureStream, batches: int | None = None) -> list[list[list[int]]]:
    return [next(source).tolist() for _ in range(source.plan.steps - source.step if batches is None else batches)]


@pytest.mark.parametrize("at", [1, 7, 20, 25, 30])
@pytest.mark.parametrize("world", [1, 3])
def test_an_extended_stream_goes_on_from_its_checkpoint_alone(stores, at: int, world: int) -> None:
    source = stream(stores)
    past = drawn(source, at)
    longer = Schedule((*SCHEDULE.until(at * UNIT).phases, Phase(15 * UNIT, Mixture.uniform(NAMES))))
    source.extend(longer)
    assert past == drawn(stream(stores), at)
    drawn(source, 4)
    state = json.loads(json.dumps(source.state_dict()))
    rest = drawn(source)
    assert len(rest) == 11
    again = [stream(stores, rank=rank, world=world) for rank in range(world)]
    for part in again:
        part.load_state_dict(state)
    together = [np.stack(rows, axis=1).reshape(BATCH, -1).tolist() for rows in zip(*again, strict=True)]
    assert together == rest
    assert again[0].schedule == longer


def test_the_weights_after_a_change_are_what_was_asked_for(stores) -> None:
    source = stream(stores)
    drawn(source, 7)
    source.change(Mixture(NAMES, np.array([0.0, 1.0, 0.0])))
    domains = np.concatenate([source.last[0] for _ in source])
    assert set(domains.tolist()) == {1}
    assert source.step == 30
    with pytest.raises(DataError, match="has ended"):
        source.change(FIRST)


def test_a_change_before_the_first_batch_changes_everything(stores) -> None:
    source = stream(stores)
    source.change(SECOND)
    assert drawn(source) == drawn(stream(stores, Schedule.constant(SECOND, 30 * UNIT)))


def test_a_state_without_extension_goes_back_to_the_schedule_the_stream_was_built_with(stores) -> None:
    source = stream(stores)
    drawn(source, 5)
    state = source.state_dict()
    source.change(SECOND)
    source.load_state_dict(state)
    assert drawn(source) == drawn(stream(stores))[5:]


def test_changes_follow_one_another(stores) -> None:
    source = stream(stores)
    for mixture in (SECOND, FIRST, Mixture.uniform(NAMES)):
        drawn(source, 6)
        source.change(mixture)
    state = source.state_dict()
    rest, other = drawn(source), stream(stores)
    other.load_state_dict(state)
    assert drawn(other) == rest
    assert [phase.start for phase in other.plan.phases] == [0, 36, 72, 108]


def test_the_past_cannot_be_changed(stores) -> None:
    source = stream(stores)
    drawn(source, 22)
    for schedule, words in (
        (Schedule.constant(FIRST, 30 * UNIT), "first 22 batches"),
        (SCHEDULE.until(21 * UNIT), "first 22 batches"),
        (Schedule.constant(Mixture.uniform(["a", "b"]), 30 * UNIT), "domains are a, b"),
    ):
        with pytest.raises(DataError, match=words):
            source.extend(schedule)
    assert drawn(source) == drawn(stream(stores))[22:]


def test_the_last_rows_say_where_they_come_from(stores) -> None:
    source = stream(stores, rank=1, world=2)
    assert source.last[0].size == 0
    for batch in source:
        domain, epoch, window = source.last
        assert np.array_equal(batch[:, 0], domain * 1000 + window * SEQ_LEN)
        assert epoch.shape == (BATCH // 2,)


def test_parts_are_the_batch_and_do_not_move_on(stores) -> None:
    source, whole = stream(stores), stream(stores)
    for batch in whole:
        parts = [source.part(number, 3) for number in (2, 0, 1)]
        assert np.array_equal(np.concatenate([parts[1], parts[2], parts[0]]), batch)
        source.skip(1)
    with pytest.raises(DataError, match="ended after 30 batches"):
        source.part(0, 1)
    source.skip(-30)
    with pytest.raises(DataError, match="no part 3 of 3"):
        source.part(3, 3)
    assert drawn(source, 30) == drawn(stream(stores))


def plan_of(supply: list[int], subsample: float, seed: int = 0, windows: int = 400) -> Plan:
    names = [f"d{n}" for n in range(len(supply))]
    wanted = Schedule.constant(Mixture.uniform(names), windows * 8)
    held = dict(zip(names, supply, strict=True))
    return Plan.of(wanted, held, seed, seq_len=8, batch=4, subsample=subsample)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=4), st.floats(0.01, 1), st.floats(0.01, 1), st.integers(0, 99))
def test_subsamples_repeat_and_the_smaller_lies_in_the_larger(supply, one: float, other: float, seed: int) -> None:
    seen = []
    for fraction in sorted((one, other)):
        plan = plan_of(supply, fraction, seed)
        domain, epoch, window = order(plan, np.arange(plan.windows))
        assert all(np.array_equal(a, b) for a, b in zip((domain, epoch, window), stretch(plan, 0, 400), strict=True))
        sets = []
        for d, held in enumerate(supply):
            size = max(1, round(fraction * held))
            assert plan.supply[d] == size
            mine = window[domain == d]
            assert epoch[domain == d].tolist() == [n // size for n in range(mine.size)]
            assert len(set(mine[:size].tolist())) == min(size, mine.size)
            sets.append(set(mine.tolist()))
            assert sets[-1] <= set(range(held))
            assert len(sets[-1]) <= size
        seen.append(sets)
    whole = [len(s) == max(1, round(min(one, other) * n)) for s, n in zip(seen[0], supply, strict=True)]
    larger = [len(s) == max(1, round(max(one, other) * n)) for s, n in zip(seen[1], supply, strict=True)]
    for small, large, complete in zip(*seen, np.array(whole) & np.array(larger), strict=True):
        assert small <= large or not complete


def test_a_subsample_is_part_of_the_plan(stores) -> None:
    half, whole = stream(stores, subsample=0.5), stream(stores)
    assert half.plan.fingerprint() != whole.plan.fingerprint()
    assert whole.plan.fingerprint() == stream(stores, subsample=1.0).plan.fingerprint()
    rows = {row.domain: row for row in ledger(half.plan) if row.phase == 0}
    assert rows["b"].epochs == pytest.approx(rows["b"].tokens / (20 * SEQ_LEN))
    with pytest.raises(DataError, match="another plan"):
        half.load_state_dict(whole.state_dict())
    with pytest.raises(DataError, match="subsample must lie above 0"):
        stream(stores, subsample=0.0)
    half.load_state_dict(half.state_dict() | {"position": 0})
    drawn(half, 6)
    half.change(SECOND)
    assert half.plan.subsample == 0.5


def shards(folder: Path, ids: np.ndarray, cuts: list[int], vocab: int = 5000) -> TokenStore:
    """A store of several shards, cut after these tokens."""
    parts = np.split(ids, cuts)
    write_tokens(folder, parts, vocab=vocab, tokenizer="t", end=0, text_bytes=ids.size, shard_tokens=1)
    return TokenStore.open(folder)


def test_windows_run_over_the_ends_of_shards(stores, tmp_path) -> None:
    cut = {
        name: shards(tmp_path / f"cut-{name}", np.array(store.ids), cuts)
        for (name, store), cuts in zip(stores.items(), [[3, 4, 5, 20], [160], [16, 17]], strict=True)
    }
    assert [len(store.shards) for store in cut.values()] == [5, 2, 3]
    assert drawn(stream(cut)) == drawn(stream(stores))


def test_domains_of_several_widths_are_read_together(tmp_path) -> None:
    held = [
        shards(tmp_path / str(number), np.arange(9 * SEQ_LEN + 1) + number * 90_000, [], vocab)
        for number, vocab in enumerate((500, 100_000))
    ]
    windows = Windows(held, SEQ_LEN)
    domain, window = np.repeat([0, 1], 9), np.tile(np.arange(9), 2)
    rows = windows.read(windows.locate(domain, window), domain, window)
    assert rows.dtype == np.int32
    assert np.array_equal(rows, domain[:, None] * 90_000 + window[:, None] * SEQ_LEN + np.arange(SEQ_LEN + 1))
