"""Reading ahead in one thread, and cutting batches into micro-batches."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixwright.core.errors import DataError
from mixwright.core.mixture import Mixture
from mixwright.core.schedule import Schedule
from mixwright.stream.loader import MixtureStream, Rows

_Item = tuple[NDArray[Any], dict[str, Any], Rows] | BaseException | None


def prefetch(stream: MixtureStream, depth: int = 2) -> Prefetch:
    """The batches of ``stream``, up to ``depth`` of them read ahead by one thread."""
    return Prefetch(stream, depth)


class Prefetch(Iterator[NDArray[Any]]):
    """An iterator over the same batches as its stream, read ahead by one thread.

    ``state_dict`` and ``last`` are those of the batch delivered last, whatever has been read ahead. What the stream raises
    is raised here. ``close`` (or the end of a ``with`` block) stops the thread and moves the stream back to what was
    delivered. The stream must not be used meanwhile.
    """

    def __init__(self, stream: MixtureStream, depth: int = 2) -> None:
        if depth < 1:
            raise DataError(f"At least one batch must be read ahead; got a depth of {depth}.")
        self.stream, self.depth = stream, depth
        self._state, self.last = stream.state_dict(), stream.last
        self._thread: threading.Thread | None = None
        self._ended = False

    def __next__(self) -> NDArray[Any]:
        if self._ended:
            raise StopIteration
        if self._thread is None:
            self._start()
        item = self._queue.get()
        if isinstance(item, tuple):
            batch, self._state, self.last = item
            return batch
        self.close()
        self._ended = True
        if item is None:
            raise StopIteration
        raise item

    def state_dict(self) -> dict[str, Any]:
        """The state after the batch delivered last."""
        return self._state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from ``state``; what was read ahead is dropped."""
        self.close()
        self.stream.load_state_dict(state)
        self._state, self.last, self._ended = self.stream.state_dict(), self.stream.last, False

    def extend(self, schedule: Schedule) -> None:
        """``MixtureStream.extend`` from the batch after the one delivered last."""
        self.close()
        self.stream.extend(schedule)
        self._state, self._ended = self.stream.state_dict(), False

    def change(self, mixture: Mixture) -> None:
        """``MixtureStream.change`` from the batch after the one delivered last."""
        self.close()
        self.stream.change(mixture)
        self._state, self._ended = self.stream.state_dict(), False

    def close(self) -> None:
        """Stop the thread; the stream stands after the batch delivered last. The next ``next`` starts it again."""
        if self._thread is None:
            return
        self._stop.set()
        while self._thread.is_alive():
            try:
                self._queue.get(timeout=0.01)
            except queue.Empty:
                continue
        self._thread.join()
        self._thread = None
        self.stream.load_state_dict(self._state)

    def __enter__(self) -> Prefetch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_thread", None) is not None:
            self._stop.set()

    def _start(self) -> None:
        self._queue: queue.Queue[_Item] = queue.Queue(self.depth)
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=_fill, args=(self.stream, self._queue, self._stop), name="mixwright-prefetch", daemon=True
        )
        self._thread.start()


def _fill(stream: MixtureStream, into: queue.Queue[_Item], stop: threading.Event) -> None:
    while not stop.is_set():
        item: _Item
        try:
            batch = next(stream)
            item = batch, stream.state_dict(), stream.last
        except StopIteration:
            item = None
        except BaseException as error:  # raised again where the batch is asked for
            item = error
        while not stop.is_set():
            try:
                into.put(item, timeout=0.05)
                break
            except queue.Full:
                continue
        if not isinstance(item, tuple):
            return


def micro(batch: NDArray[Any], parts: int) -> list[NDArray[Any]]:
    """A batch cut into ``parts`` micro-batches of equally many rows, in order; views, nothing is copied."""
    if parts < 1 or batch.shape[0] % parts:
        raise DataError(
            f"A batch of {batch.shape[0]} rows cannot be cut into {parts} equal parts. Take a divisor of it."
        )
    return list(np.split(batch, parts))
