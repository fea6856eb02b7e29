from __future__ import annotations

import json

import numpy as np
import pytest

from mixwright.core.errors import DataError
from mixwright.core.mixture import Mixture
from mixwright.core.schedule import Phase, Schedule
from mixwright.store.tokens import TokenStore, write_tokens
from mixwright.stream.loader import MixtureStream, ledger
from mixwright.stream.order import order

NAMES, SEQ_LEN = ("a", "b", "c"), 8
FIRST, SECOND = Mixture(NAMES, np.array([0.2, 0.5, 0.3])), Mixture(NAMES, np.array([0.6, 0.2, 0.2]))
BATCH = 6
SCHEDULE = Schedule((Phase(20 * BATCH * SEQ_LEN, FIRST), Phase(10 * BATCH * SEQ_LEN, SECOND)))


def stream(stores, schedule: Schedule = SCHEDULE, seed: int = 1, **more) -> MixtureStream:
    return MixtureStream(stores, schedule, seed, **({"seq_len": SEQ_LEN, "batch": BATCH} | more))


def test_batches_hold_the_planned_windows(stores) -> None:
    source = stream(stores)
    batches = list(source)
    assert len(batches) == 30 == source.plan.steps
    assert all(batch.shape == (BATCH, SEQ_LEN + 1) and batch.dtype == np.uint16 for batch in batches)
    domain, _, window = order(source.plan, np.arange(source.plan.windows))
    for number, batch in enumerate(batches):
        rows = slice(number * BATCH, (number + 1) * BATCH)
        wanted = sorted((domain[rows] * 1000 + window[rows] * SEQ_LEN).tolist())
        assert sorted(batch[:, 0].tolist()) == wanted
        assert np.all(np.diff(batch.astype(int), axis=1) == 1)


def test_the_rows_of_a_batch_are_dealt_anew_each_time(stores) -> None:
    uniform = Schedule.constant(Mixture.uniform(NAMES), 60 * BATCH * SEQ_LEN)
    first = [batch[0, 0] // 1000 for batch in stream(stores, uniform)]
    assert 10 < first.count(0) < 32


@pytest.mark.parametrize("world", [1, 2, 3, 6])
def test_ranks_share_every_batch_without_rest(stores, world: int) -> None:
    whole = list(stream(stores))
    parts = [list(stream(stores, rank=rank, world=world)) for rank in range(world)]
    for number, batch in enumerate(whole):
        together = np.concatenate([part[number] for part in parts])
        assert sorted(together[:, 0].tolist()) == sorted(batch[:, 0].tolist())


@pytest.mark.parametrize("at", [0, 1, 19, 20, 21, 29, 30])
@pytest.mark.parametrize("world", [1, 3])
def test_resumed_anywhere_on_any_ranks_it_goes_on_the_same(stores, at: int, world: int) -> None:
    whole = list(stream(stores, rank=world - 1, world=world))
    source = stream(stores)
    for _ in range(at):
        next(source)
    state = json.loads(json.dumps(source.state_dict()))
    other = stream(stores, rank=world - 1, world=world)
    next(other)
    other.load_state_dict(state)
    assert other.position == at * BATCH
    rest = list(other)
    assert len(rest) == 30 - at
    assert all(np.array_equal(a, b) for a, b in zip(rest, whole[at:], strict=True))


def test_a_branch_goes_on_from_its_parents_state(stores) -> None:
    parent = stream(stores, Schedule.constant(FIRST, SCHEDULE.tokens))
    for _ in range(20):
        next(parent)
    child = stream(stores)
    child.load_state_dict(parent.state_dict())
    seen = [batch.tolist() for batch in child]
    assert seen == [batch.tolist() for batch in list(stream(stores))[20:]]


def test_a_branch_keeps_the_roundings_its_parent_began_with(tmp_path) -> None:
    """Cut where nearest rounding ends more than a window off, the plan would choose another; the state says which."""
    weights = [0.15089217, 0.48030904, 0.00097586, 0.33067699, 0.03714594]
    names = tuple("abcde")
    for name in names:
        write_tokens(tmp_path / name, [np.arange(200)], vocab=200, tokenizer="t", end=0, text_bytes=200)
    held = {name: TokenStore.open(tmp_path / name) for name in names}
    unit, whole = 4 * SEQ_LEN, Schedule.constant(Mixture.normalized(names, weights), 2000 * 4 * SEQ_LEN)
    cuts = (whole.switched(steps * unit, Mixture.uniform(names)) for steps in range(1000, 2000))
    cut = next(s for s in cuts if stream(held, s, batch=4).plan.phases[0].variant > 0)
    parent, child = stream(held, whole, batch=4), stream(held, cut, batch=4)
    parent.load_state_dict(
        parent.state_dict()
        | {
            "position": cut.phases[0].tokens // SEQ_LEN,
            "plan": parent.plan.fingerprint(cut.phases[0].tokens // SEQ_LEN),
            "variants": [0],
        }
    )
    child.load_state_dict(parent.state_dict())
    assert child.plan.variants[0] == parent.plan.variants[0] == 0
    first = next(child)
    assert first.shape == (4, SEQ_LEN + 1)
    assert np.array_equal(child.plan.counts(parent.position), parent.plan.counts(parent.position))


def other_text(stores):
    return stores | {"b": stores["c"]}


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 2},
        {"batch": 3},
        {"seq_len": 4},
        {"schedule": Schedule.constant(SECOND, SCHEDULE.tokens)},
        {"text": True},
    ],
)
def test_a_state_of_another_plan_is_refused(stores, change) -> None:
    source = stream(stores)
    next(source)
    state = source.state_dict()
    held = other_text(stores) if change.pop("text", False) else stores
    with pytest.raises(DataError, match="another plan"):
        stream(held, **change).load_state_dict(state)


def test_states_that_make_no_sense_are_refused(stores) -> None:
    state = stream(stores).state_dict()
    for bad, words in (
        ({"position": 7}, "no batch boundary"),
        ({"position": 10**9}, "no batch boundary"),
        ({"order_version": 0}, "order version 0"),
        ({"schema": "other"}, "'other'"),
    ):
        with pytest.raises(DataError, match=words):
            stream(stores).load_state_dict(state | bad)


def test_what_cannot_be_is_refused_with_a_sentence(stores) -> None:
    with pytest.raises(DataError, match="batch must be a multiple of world"):
        stream(stores, world=4)
    with pytest.raises(DataError, match="draws from b, of which there are no tokens"):
        stream({name: store for name, store in stores.items() if name != "b"})
    with pytest.raises(DataError, match="Domain a has a weight but not one window"):
        stream(stores, seq_len=64)


def test_the_ledger_adds_up(stores) -> None:
    source = stream(stores)
    rows = ledger(source.plan)
    assert sum(row.tokens for row in rows) == SCHEDULE.tokens
    domain, epoch, _ = order(source.plan, np.arange(source.plan.windows))
    for d, name in enumerate(NAMES):
        mine = [row for row in rows if row.domain == name]
        assert [row.phase for row in mine] == [0, 1]
        assert mine[1].total_epochs == pytest.approx(sum(row.epochs for row in mine))
        assert int(np.ceil(mine[1].total_epochs)) - 1 == epoch[domain == d].max()
