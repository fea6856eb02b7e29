"""One system measured in a process of its own: ``python -m benchmarks.stream.one SYSTEM`` prints one line of JSON.

A system gives ``start(position)``: a fresh iterator over batches that begins at a position counted in samples, or raises
``Unreachable``. Its imports are done before anything is measured, its data is written and in the page cache.
"""

import importlib.machinery
import json
import resource
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.stream import data

WARM, FAR = 64, 10_000_000
#: CPU-seconds of one segment; the best of three is reported
SEGMENT, SEGMENTS = 2.0, 3
EPOCH = 12_000_000


class Unreachable(Exception):
    """Why a position cannot be reached, or what reaching it would take."""


def ours(domains: int = 6, tokens: int = data.TOKENS) -> Callable[[int], Iterator[Any]]:
    from mixwright.core.mixture import Mixture
    from mixwright.core.schedule import Schedule
    from mixwright.store.tokens import TokenStore
    from mixwright.stream.loader import MixtureStream

    folder = data.ours(domains, tokens)
    names = [f"d{number}" for number in range(domains)]
    wanted = Schedule.constant(Mixture.normalized(names, data.weights(domains)), EPOCH * data.SEQ_LEN)
    stores = {name: TokenStore.open(folder / name) for name in names}
    for store in stores.values():
        np.asarray(store.ids).sum()

    def start(position: int) -> Iterator[Any]:
        stream = MixtureStream(stores, wanted, 0, seq_len=data.SEQ_LEN, batch=data.BATCH)
        stream.load_state_dict(stream.state_at(position // data.BATCH))
        return stream

    return start


def ours_int64() -> Callable[[int], Iterator[Any]]:
    import torch
    from torch.utils.data import DataLoader

    from mixwright.stream.torch_dataset import MixtureDataset

    start = ours()

    def begin(position: int) -> Iterator[Any]:
        dataset = MixtureDataset(start(position), form=lambda rows: torch.from_numpy(rows.astype(np.int64)))
        return iter(DataLoader(dataset, batch_size=None))

    return begin


def grain() -> Callable[[int], Iterator[Any]]:
    return _grain(0)


def grain_threads() -> Callable[[int], Iterator[Any]]:
    return _grain(16)


def _grain(threads: int) -> Callable[[int], Iterator[Any]]:
    import grain as gr

    folder = data.arrays()
    sources = [np.load(folder / f"d{number}" / "rows.npy", mmap_mode="r") for number in range(6)]
    for source in sources:
        source.sum()

    class Source:
        def __init__(self, rows: Any) -> None:
            self.rows = rows

        def __len__(self) -> int:
            return len(self.rows)

        def __getitem__(self, index: Any) -> Any:
            return self.rows[index]

    def start(position: int) -> Iterator[Any]:
        parts = [
            gr.MapDataset.source(Source(rows)).seed(number).shuffle().repeat() for number, rows in enumerate(sources)
        ]
        mixed = gr.MapDataset.mix(parts, weights=data.WEIGHTS).batch(data.BATCH, drop_remainder=True)
        found = iter(mixed.to_iter_dataset(gr.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)))
        state = found.get_state()
        if position:
            key = next(key for key in state if "index" in key)
            found.set_state(state | {key: position // data.BATCH})
        return found

    return start


def without_images() -> None:
    """Let streaming be imported where torchvision was built for another torch (not CPU-only): no image is read here."""
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        for name in ("", ".datasets", ".transforms", ".transforms.functional", ".datasets.folder"):
            module = types.ModuleType(f"torchvision{name}")
            module.__spec__ = importlib.machinery.ModuleSpec(module.__name__, None)
            module.__getattr__ = _anything  # type: ignore[method-assign]
            module.__path__ = []
            sys.modules[module.__name__] = module


def _anything(name: str) -> type:
    if name.startswith("__"):
        raise AttributeError(name)
    return type(name, (), {})


def mosaicml() -> Callable[[int], Iterator[Any]]:
    without_images()
    import streaming
    from streaming import Stream, StreamingDataLoader, StreamingDataset

    folder = data.mds()

    def start(position: int) -> Iterator[Any]:
        streaming.base.util.clean_stale_shared_memory()
        streams = [Stream(local=str(folder / f"d{n}" / "mds"), proportion=w) for n, w in enumerate(data.WEIGHTS)]
        dataset = StreamingDataset(
            streams=streams, shuffle=True, shuffle_seed=0, batch_size=data.BATCH, epoch_size=EPOCH if position else None
        )
        loader = StreamingDataLoader(dataset, batch_size=data.BATCH)
        if position:
            loader.load_state_dict(
                {"epoch": 0, "sample_in_epoch": position, "num_canonical_nodes": dataset.num_canonical_nodes or 64,
                 "shuffle_seed": 0, "initial_physical_nodes": 1}
            )  # fmt: skip
        return iter(loader)

    return start


def hf_map() -> Callable[[int], Iterator[Any]]:
    from datasets import interleave_datasets, load_from_disk
    from torch.utils.data import DataLoader

    folder = data.arrow()

    def start(position: int) -> Iterator[Any]:
        parts = [load_from_disk(str(folder / f"d{n}" / "arrow")).with_format("torch") for n in range(6)]
        mixed = interleave_datasets(parts, list(data.WEIGHTS), seed=0, stopping_strategy="all_exhausted")
        if position > len(mixed):
            raise Unreachable(f"ends after {len(mixed):,} samples")
        return iter(DataLoader(mixed, batch_size=data.BATCH))

    return start


def hf_iterable() -> Callable[[int], Iterator[Any]]:
    from datasets import interleave_datasets, load_from_disk
    from torch.utils.data import DataLoader

    folder = data.arrow()

    def mixed() -> Any:
        parts = [load_from_disk(str(folder / f"d{n}" / "arrow")).to_iterable_dataset() for n in range(6)]
        found = interleave_datasets(parts, list(data.WEIGHTS), seed=0, stopping_strategy="all_exhausted")
        return found.shuffle(seed=0, buffer_size=1000).with_format("torch")

    def start(position: int) -> Iterator[Any]:
        if position:
            few, begin = 5_000, time.perf_counter()
            next(iter(mixed().skip(few)))
            each = (time.perf_counter() - begin) / few
            raise Unreachable(
                f"skip() reads: {each * 1e6:.0f} us a sample, {each * position:.0f} s in all", each * position
            )
        return iter(DataLoader(mixed(), batch_size=data.BATCH))

    return start


def litdata() -> Callable[[int], Iterator[Any]]:
    from litdata import CombinedStreamingDataset, StreamingDataLoader, StreamingDataset, TokensLoader

    folder = data.lit()

    def start(position: int) -> Iterator[Any]:
        parts = [
            StreamingDataset(
                str(folder / f"d{n}" / "lit"), item_loader=TokensLoader(block_size=data.SEQ_LEN), shuffle=True
            )
            for n in range(6)
        ]
        if position > sum(len(part) for part in parts):
            raise Unreachable(f"its state ends with the data, after {sum(len(part) for part in parts):,} samples")
        mixed = CombinedStreamingDataset(parts, seed=0, weights=list(data.WEIGHTS), iterate_over_all=False)
        return iter(StreamingDataLoader(mixed, batch_size=data.BATCH))

    return start


SYSTEMS: dict[str, Callable[[], Callable[[int], Iterator[Any]]]] = {
    "ours": ours,
    "ours, 100 domains": lambda: ours(100),
    "ours, 1,000 domains": lambda: ours(1000),
    "ours, a tenth of the tokens": lambda: ours(6, data.TOKENS // 10),
    "ours, int64 torch through DataLoader": ours_int64,
    "Grain": grain,
    "Grain, 16 threads": grain_threads,
    "LitData": litdata,
    "Hugging Face, map": hf_map,
    "Hugging Face, iterable": hf_iterable,
    "mosaicml-streaming": mosaicml,
}


def cpu() -> float:
    """CPU-seconds of this process with its threads and of its children that ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def anonymous() -> float:
    """MiB this process holds that are no mapped files."""
    with Path("/proc/self/status").open() as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon")) / 1024


def went(stream: Any) -> float:
    """Seconds from a state in hand to its first batch, for a stream that is there."""
    state, begin = stream.state_at(FAR // data.BATCH), time.perf_counter()
    stream.load_state_dict(state)
    next(stream)
    return time.perf_counter() - begin


def measure(name: str) -> dict[str, Any]:
    start = SYSTEMS[name]()
    held, out = anonymous(), {"system": name}
    begin = time.perf_counter()
    batches = start(0)
    first = next(batches)
    out["start_s"] = time.perf_counter() - begin
    first = first["tokens"] if isinstance(first, dict) else first
    out["dtype"], out["shape"] = str(first.dtype).removeprefix("torch."), list(first.shape)
    rates = []
    for _ in range(SEGMENTS):
        for _ in range(WARM):
            next(batches)
        done, before, wall = 0, cpu(), time.perf_counter()
        while cpu() - before < SEGMENT:
            for _ in range(16):
                if next(batches, None) is None:
                    batches = start(0)
            done += 16
        rates.append(
            (
                done * data.BATCH * data.SEQ_LEN / (cpu() - before),
                done * data.BATCH * data.SEQ_LEN / (time.perf_counter() - wall),
            )
        )
    out["tokens_per_cpu_s"], out["tokens_per_s"] = (max(rate) for rate in zip(*rates, strict=True))
    out["held_mib"] = anonymous() - held
    if hasattr(batches, "state_at"):
        out["go_s"] = min(went(batches) for _ in range(5))
    del batches
    try:
        times = []
        for _ in range(5):
            begin = time.perf_counter()
            next(start(FAR))
            times.append(time.perf_counter() - begin)
            if times[0] > 1:
                break
        out["resume_s"], out["resume_cold_s"] = min(times), times[0]
    except Unreachable as why:
        out["resume_s"], out["resume_note"] = (why.args[1] if len(why.args) > 1 else None), why.args[0]
    out["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return out


if __name__ == "__main__":
    print("RESULT " + json.dumps(measure(sys.argv[1])), flush=True)
