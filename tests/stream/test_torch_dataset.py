from __future__ import annotations

import json
import pickle
from itertools import chain

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from mixwright.core.errors import DataError
from mixwright.core.mixture import Mixture
from mixwright.core.schedule import Schedule
from mixwright.stream.loader import MixtureStream
from mixwright.stream.torch_dataset import MixtureDataset, MixtureLoader, causal

#: what torch and torchdata say of themselves on a machine of two cores
pytestmark = [
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
]
NAMES, SEQ_LEN, BATCH, STEPS = ("a", "b", "c"), 8, 6, 11
SCHEDULE = Schedule.constant(Mixture(NAMES, np.array([0.2, 0.5, 0.3])), STEPS * SEQ_LEN * BATCH)


def stream(stores, **more) -> MixtureStream:
    return MixtureStream(stores, SCHEDULE, 1, **({"seq_len": SEQ_LEN, "batch": BATCH} | more))


def whole(stores, **more) -> list[list[list[int]]]:
    return [batch.tolist() for batch in stream(stores, **more)]


def batches(items, parts: int) -> list[list[list[int]]]:
    units = [item.tolist() for item in items]
    return [list(chain.from_iterable(units[n : n + parts])) for n in range(0, len(units), parts)]


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("parts", [1, 2])
def test_workers_and_parts_never_change_the_batches(stores, workers: int, parts: int) -> None:
    loader = DataLoader(MixtureDataset(stream(stores), parts=parts), batch_size=None, num_workers=workers)
    for _ in range(2 if workers == 0 else 1):
        items = list(loader)
        assert items[0].dtype == torch.uint16
        assert len(items) == len(loader) == STEPS * parts
        assert batches(items, parts) == whole(stores)


@pytest.mark.parametrize("workers", [0, 2])
def test_single_rows_are_collated_to_the_same_batches(stores, workers: int) -> None:
    dataset = MixtureDataset(stream(stores), parts=2, rows=True, form=causal)
    items = list(DataLoader(dataset, batch_size=dataset.unit_rows, num_workers=workers))
    together = batches([item["input_ids"] for item in items], 2)
    assert together == [[row[:-1] for row in batch] for batch in whole(stores)]
    assert torch.equal(items[0]["labels"], items[0]["input_ids"])
    assert len(dataset) == STEPS * BATCH


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(("parts", "rows"), [(1, False), (3, False), (2, True)])
def test_stateful_data_loader_resumes_anywhere(stores, workers: int, parts: int, rows: bool) -> None:
    def loader() -> StatefulDataLoader:
        dataset = MixtureDataset(stream(stores), parts=parts, rows=rows)
        return StatefulDataLoader(dataset, batch_size=dataset.unit_rows if rows else None, num_workers=workers)

    expected = list(chain.from_iterable(whole(stores)))
    for at in (1, 4):
        first, seen = loader(), []
        for number, item in enumerate(first, 1):
            seen += item.tolist()
            if number == at:
                break
        state = pickle.loads(pickle.dumps(first.state_dict()))
        del first
        other = loader()
        other.load_state_dict(state)
        for item in other:
            seen += item.tolist()
        assert seen == expected


def test_a_state_in_the_middle_of_a_unit_goes_on_with_its_next_row(stores) -> None:
    rows = list(chain.from_iterable(whole(stores)))
    dataset, seen = MixtureDataset(stream(stores), parts=2, rows=True), []
    for item in dataset:
        seen.append(item.tolist())
        if len(seen) == 10:
            break
    state = json.loads(json.dumps(dataset.state_dict()))
    other = MixtureDataset(stream(stores), parts=2, rows=True)
    other.load_state_dict(state)
    assert len(other) == len(rows) - 10
    assert seen + [item.tolist() for item in other] == rows
    with pytest.raises(DataError, match="cut into 2 parts, not 3"):
        MixtureDataset(stream(stores), parts=3).load_state_dict(state)
    with pytest.raises(DataError, match="in the form None"):
        MixtureDataset(stream(stores)).load_state_dict({})


@pytest.mark.parametrize(("before", "after"), [(0, 2), (2, 0), (3, 2)])
def test_the_loaders_state_fits_other_workers_ranks_and_parts(stores, before: int, after: int) -> None:
    expected = whole(stores)
    loader = MixtureLoader(stream(stores), workers=before, parts=2)
    seen = []
    for item in loader:
        seen.append(item)
        if len(seen) == 8:
            break
    state = json.loads(json.dumps(loader.state_dict()))
    assert state == stream(stores).state_at(4)
    other = MixtureLoader(stream(stores), workers=after, parts=3)
    other.load_state_dict(state)
    assert len(other) == 3 * (STEPS - 4)
    assert batches(seen, 2) + batches(other, 3) == expected
    ranks = [MixtureLoader(stream(stores, rank=rank, world=2), workers=after) for rank in range(2)]
    for loader in ranks:
        loader.load_state_dict(state)
    together = [np.stack(parts, axis=1).reshape(BATCH, -1).tolist() for parts in zip(*ranks, strict=True)]
    assert together == expected[4:]


def test_a_loader_goes_on_where_it_stopped(stores) -> None:
    loader = MixtureLoader(stream(stores), workers=2)
    first = next(iter(loader)).tolist()
    assert [first, *batches(loader, 1)] == whole(stores)


def test_what_cannot_be_is_refused_with_a_sentence(stores) -> None:
    with pytest.raises(DataError, match="6 rows cannot be cut into 4"):
        MixtureDataset(stream(stores), parts=4)
    loader = MixtureLoader(stream(stores), parts=3)
    next(iter(loader))
    with pytest.raises(DataError, match="after 1 of a batch's 3 micro-batches"):
        loader.state_dict()
    dataset = MixtureDataset(stream(stores))
    dataset.load_state_dict(dataset.state_dict() | {"stride": 2})
    with pytest.raises(DataError, match="num_workers=2"):
        next(iter(dataset))


def test_a_stream_goes_to_another_process_without_its_tokens(stores) -> None:
    source = stream(stores)
    next(source)
    packed = pickle.dumps(source)
    assert len(packed) < 50_000
    assert [batch.tolist() for batch in pickle.loads(packed)] == whole(stores)[1:]
