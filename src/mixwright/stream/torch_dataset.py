"""The stream as a torch ``IterableDataset``, for ``DataLoader``, ``StatefulDataLoader`` and ``transformers.Trainer``.

Units. Every batch of the stream is cut into ``parts`` micro-batches; these, numbered through over all batches, are the
units. With W workers, worker w gives the units w, W + w, 2W + w, ... after the dataset's position. DataLoader takes from
its workers in turn, so their number never changes what comes, nor in which order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from mixwright.core.errors import DataError
from mixwright.stream.loader import MixtureStream

SCHEMA = "mixwright/stream-dataset/1"
#: batch, unit and row of the next item, and by how many units its process moves on
_Place = tuple[int, int, int, int]


def tensor(rows: NDArray[Any]) -> torch.Tensor:
    """The ids as they are stored (uint16 or int32): cast them on the device, ``ids.to(device).long()``."""
    return torch.from_numpy(rows)


def causal(row: NDArray[Any]) -> dict[str, torch.Tensor]:
    """What Hugging Face's causal models take: ``input_ids`` and equal ``labels``, which the model itself shifts, int64.

    The last id of a window is the first of the next, so it is left out.
    """
    ids = torch.from_numpy(row[..., :-1].astype(np.int64))
    return {"input_ids": ids, "labels": ids.clone()}


class MixtureDataset(IterableDataset[Any]):  # type: ignore[misc]
    """The rest of a stream, from where the stream stands when the dataset is made; every iteration begins there.

    An item is a micro-batch, ``(batch / world / parts, seq_len + 1)``, made into what ``form`` gives: use
    ``DataLoader(dataset, batch_size=None)``. With ``rows`` an item is one row ``(seq_len + 1,)``: use
    ``batch_size=dataset.unit_rows``, for loaders that insist on collating (``transformers.Trainer``).

    ``state_dict`` is the state after the item given last in this process, exact in a plain loop, with ``num_workers=0``
    and under ``StatefulDataLoader`` with any number of workers (which asks every worker for its own). A plain
    ``DataLoader`` with workers reads ahead without telling: use ``MixtureLoader``. A state of the main process goes on
    with any number of workers, ranks and parts; one of a worker only with as many workers and parts.
    """

    def __init__(
        self,
        stream: MixtureStream,
        *,
        parts: int = 1,
        rows: bool = False,
        form: Callable[[NDArray[Any]], Any] = tensor,
    ) -> None:
        self.unit_rows, rest = divmod(stream.plan.batch // stream.world, parts)
        if parts < 1 or rest:
            raise DataError(
                f"A batch of {stream.plan.batch // stream.world} rows cannot be cut into {parts} equal parts. "
                "Take a divisor of it."
            )
        self.stream, self.parts, self.rows, self.form = stream, parts, rows, form
        self._base: _Place = (stream.step, 0, 0, 1)
        self._now = self._base

    def __len__(self) -> int:
        """Items left from where an iteration begins, over all workers."""
        step, unit, row, _ = self._base
        units = (self.stream.plan.steps - step) * self.parts - unit
        return max(0, units * self.unit_rows - row) if self.rows else units

    def __iter__(self) -> Iterator[Any]:
        step, unit, row, stride = self._first()
        while True:
            step, unit = step + unit // self.parts, unit % self.parts
            self._now = step, unit, row, stride
            if step >= self.stream.plan.steps:
                return
            self.stream.skip(step - self.stream.step)
            held = self.stream.part(unit, self.parts)
            for number in range(row, self.unit_rows - 1) if self.rows else ():
                self._now = step, unit, number + 1, stride
                yield self.form(held[number])
            self._now = step, unit + stride, 0, stride
            yield self.form(held[-1] if self.rows else held)
            unit, row = unit + stride, 0

    def state_dict(self) -> dict[str, Any]:
        """Where the next item of this process is; plain values."""
        step, unit, row, stride = self._now
        step, unit = min(step + unit // self.parts, self.stream.plan.steps), unit % self.parts
        stream = self.stream.state_at(step)
        return {"schema": SCHEMA, "stream": stream, "parts": self.parts, "unit": unit, "row": row, "stride": stride}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Begin there from now on. Raises DataError for a state of another plan or cut into other parts."""
        if state.get("schema") != SCHEMA:
            raise DataError(f"The state is in the form {state.get('schema')!r}; a dataset goes on from {SCHEMA!r}.")
        if state["parts"] != self.parts and (state["unit"] or state["row"]):
            raise DataError(
                f"The state stands inside a batch that was cut into {state['parts']} parts, not {self.parts}. "
                f"Use parts={state['parts']}, or a state from the end of a batch."
            )
        self.stream.load_state_dict(state["stream"])
        self._base = self._now = self.stream.step, state["unit"], state["row"], state["stride"]

    def go_to(self, step: int, unit: int = 0) -> None:
        """Begin after ``step`` batches of the stream, and ``unit`` micro-batches, from now on; nothing is read to get there."""
        self._base = self._now = step, unit, 0, 1

    def _stride(self) -> int:
        info = get_worker_info()
        return 1 if info is None else info.num_workers

    def _first(self) -> _Place:
        """Where this process begins: its own place in a worker's own state, else its turn from the common place on."""
        step, unit, row, written = self._base
        info, stride = get_worker_info(), self._stride()
        if written not in (1, stride):
            raise DataError(
                f"The state was written by {written} workers, each for itself; there are {stride}. "
                f"Use num_workers={written}, or MixtureLoader, whose states fit any number."
            )
        if info is None or written > 1:
            return step, unit, row, stride
        return step, unit + info.id, row if info.id == 0 else 0, stride


class MixtureLoader:
    """A ``DataLoader`` over a stream whose state is that of what was delivered, whatever its workers have read ahead.

    Iterating gives micro-batches made by ``form`` (see ``MixtureDataset``), in the same order for any number of
    ``workers``; further settings go to ``DataLoader``. An iteration goes on after what the one before delivered.
    """

    def __init__(
        self,
        stream: MixtureStream,
        *,
        parts: int = 1,
        workers: int = 0,
        form: Callable[[NDArray[Any]], Any] = tensor,
        **settings: Any,
    ) -> None:
        self.stream, self.dataset = stream, MixtureDataset(stream, parts=parts, form=form)
        self._loader = DataLoader(self.dataset, batch_size=None, num_workers=workers, **settings)
        self._done = stream.step * parts

    def __len__(self) -> int:
        """Micro-batches left."""
        return self.stream.plan.steps * self.dataset.parts - self._done

    def __iter__(self) -> Iterator[Any]:
        self.dataset.go_to(*divmod(self._done, self.dataset.parts))
        for item in self._loader:
            self._done += 1
            yield item

    def state_dict(self) -> dict[str, Any]:
        """The stream's state after what was delivered, for any number of workers and ranks.

        Raises DataError in the middle of a batch.
        """
        steps, inside = divmod(self._done, self.dataset.parts)
        if inside:
            raise DataError(
                f"The state was asked for after {inside} of a batch's {self.dataset.parts} micro-batches. Ask after the last."
            )
        return self.stream.state_at(steps)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Begin from a stream's state at the next iteration."""
        self.stream.load_state_dict(state)
        self._done = self.stream.step * self.dataset.parts
