"""Several processes on one run: ranks under ``torchrun``, with whole models (DDP) or pieces of one (FSDP2).

Notation
    r, R     rank of a process, number of ranks

Every rank takes its rows of the global batch; gradients are averaged over ranks, so R ranks make the step that one would,
up to the order in which float32 sums are taken. Checkpoints hold whole tensors, whatever number of ranks wrote them, and
any number goes on from them. Rank 0 writes files and speaks.

Only ``join`` looks at the environment that torchrun leaves; everything else asks torch whether a group was joined.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

import torch
from torch import distributed

from mixwright.core.errors import StudyError
from mixwright.train.ranks_engine import launched

Parallel = Literal["auto", "ddp", "fsdp"]

#: How long ranks wait for one another: while rank 0 tokenizes, the others do.
_PATIENCE = timedelta(days=7)
#: Parameters from which ``auto`` takes FSDP on a GPU: weights, gradients and AdamW's moments of 1B parameters are 16 GB
#: in float32, a fifth of a large accelerator's memory.
_WHOLE = 1_000_000_000


@contextmanager
def join() -> Iterator[Ranks]:
    """The group of all ranks that torchrun started; this process alone where it started none. Left in the end."""
    if not launched():
        yield Ranks()
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    distributed.init_process_group(backend, timeout=_PATIENCE)
    try:
        yield Ranks.current()
    finally:
        distributed.destroy_process_group()


@dataclass(frozen=True)
class Ranks:
    """A process' ``rank`` among ``world`` ranks."""

    rank: int = 0
    world: int = 1

    @classmethod
    def current(cls) -> Ranks:
        """Those of the group that was joined; one alone where none was."""
        if not (distributed.is_available() and distributed.is_initialized()):
            return cls()
        return cls(distributed.get_rank(), distributed.get_world_size())

    @property
    def first(self) -> bool:
        """Whether this is the rank that writes and speaks."""
        return self.rank == 0

    def wrap(self, model: Any, parallel: Parallel, *, params: int, device: str) -> Any:
        """The model to call: itself, under DDP, or with its parameters spread over the ranks by FSDP2."""
        if self.world == 1:
            return model
        if parallel == "fsdp" or (parallel == "auto" and device == "cuda" and params >= _WHOLE):
            from torch.distributed.device_mesh import init_device_mesh
            from torch.distributed.fsdp import fully_shard

            mesh = init_device_mesh(device, (self.world,))
            for block in model.blocks:
                fully_shard(block, mesh=mesh)
            return fully_shard(model, mesh=mesh)
        return torch.nn.parallel.DistributedDataParallel(model)

    def sum(self, *values: float, device: str = "cpu") -> list[float]:
        """Each value summed over ranks, the same on all of them."""
        if self.world == 1:
            return list(values)
        together = torch.tensor(values, dtype=torch.float64, device=device)
        distributed.all_reduce(together)
        return [float(value) for value in together.tolist()]

    def gather(self, value: Any) -> list[Any]:
        """``value`` (anything that can be pickled; between our own processes only) of every rank, on every rank."""
        if self.world == 1:
            return [value]
        found: list[Any] = [None] * self.world
        distributed.all_gather_object(found, value)
        return found

    def told(self, value: Any = None) -> Any:
        """What rank 0 says, on every rank."""
        if self.world == 1:
            return value
        said = [value]
        distributed.broadcast_object_list(said, src=0, device=torch.device("cpu"))
        return said[0]

    def check_batch(self, batch: int) -> None:
        """StudyError unless every rank has equally many of ``batch`` windows."""
        if batch % self.world:
            raise StudyError(
                f"A batch of {batch} windows cannot be dealt to {self.world} ranks evenly. Start a number of ranks that divides "
                "trainer.batch."
            )


@contextmanager
def unsynchronized(model: Any, wanted: bool) -> Iterator[None]:
    """No averaging of gradients over ranks inside, where ``wanted``: micro-batches before the last of a step need none."""
    if wanted and isinstance(model, torch.nn.parallel.DistributedDataParallel):
        with model.no_sync():
            yield
        return
    shards = hasattr(model, "set_requires_gradient_sync")
    if shards:
        model.set_requires_gradient_sync(not wanted)
    try:
        yield
    finally:
        if shards:
            model.set_requires_gradient_sync(True)


def placed(tensor: Any, like: Any) -> Any:
    """The part that this rank has of a whole ``tensor``, where and how ``like`` lies."""
    if not hasattr(like, "device_mesh"):
        return tensor.to(like.device)
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
