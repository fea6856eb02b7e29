"""The tokens all systems read: random uint16 ids, written once in each system's own format."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "benchmarks" / ".envs" / "stream-data"
SEQ_LEN, BATCH, TOKENS, VOCAB = 1024, 32, 200_000_000, 50_000
#: weights of the six domains, and the part of all tokens each holds
WEIGHTS = (0.45, 0.20, 0.15, 0.08, 0.08, 0.04)
PARTS = (0.49, 0.15, 0.14, 0.10, 0.07, 0.05)


def weights(domains: int) -> NDArray[np.float64]:
    if domains == len(WEIGHTS):
        return np.array(WEIGHTS)
    return np.random.default_rng(domains).dirichlet(np.full(domains, 0.5)) * 0.99 + 0.01 / domains


def sizes(domains: int, tokens: int = TOKENS) -> list[int]:
    """Tokens of each domain: whole windows and one more id."""
    parts = PARTS if domains == len(PARTS) else np.full(domains, 1 / domains)
    return [int(tokens * part) // SEQ_LEN * SEQ_LEN + 1 for part in parts]


def ids(domain: int, size: int) -> NDArray[np.uint16]:
    return np.random.default_rng(domain).integers(1, VOCAB, size, dtype=np.uint16)


def rows(domain: int, size: int) -> NDArray[np.uint16]:
    """The same ids as rows of a window each."""
    return ids(domain, size)[:-1].reshape(-1, SEQ_LEN)


def ours(domains: int, tokens: int = TOKENS) -> Path:
    from mixwright.store.tokens import write_tokens

    def write(folder: Path, domain: int, size: int) -> None:
        held = ids(domain, size)
        write_tokens(folder, [held], vocab=VOCAB, tokenizer="random", end=0, text_bytes=held.size)

    return _made(f"ours-{domains}-{tokens}", domains, tokens, write)


def arrays() -> Path:
    def write(folder: Path, domain: int, size: int) -> None:
        np.save(folder / "rows.npy", rows(domain, size))

    return _made("arrays", len(WEIGHTS), TOKENS, write)


def mds() -> Path:
    from streaming import MDSWriter

    def write(folder: Path, domain: int, size: int) -> None:
        with MDSWriter(out=str(folder / "mds"), columns={"tokens": f"ndarray:uint16:{SEQ_LEN}"}) as out:
            for row in rows(domain, size):
                out.write({"tokens": row})

    return _made("mds", len(WEIGHTS), TOKENS, write)


def arrow() -> Path:
    from datasets import Dataset

    def write(folder: Path, domain: int, size: int) -> None:
        import pyarrow as pa

        held = rows(domain, size)
        values = pa.array(held.ravel())
        column = pa.FixedSizeListArray.from_arrays(values, SEQ_LEN)
        table = pa.table({"tokens": column})
        Dataset(table).save_to_disk(str(folder / "arrow"))

    return _made("arrow", len(WEIGHTS), TOKENS, write)


def lit() -> Path:
    """As ``optimize`` writes it, by the writer below it: ``optimize`` itself starts processes and waits for them."""
    import torch
    from litdata import TokensLoader
    from litdata.streaming.writer import BinaryWriter

    def write(folder: Path, domain: int, size: int) -> None:
        held = ids(domain, size)[:-1].astype(np.int32)
        (folder / "lit").mkdir()
        writer = BinaryWriter(
            str(folder / "lit"), chunk_size=SEQ_LEN * 8012, item_loader=TokensLoader(block_size=SEQ_LEN)
        )
        for number, first in enumerate(range(0, held.size, 1000 * SEQ_LEN)):
            writer.add_item(number, torch.from_numpy(held[first : first + 1000 * SEQ_LEN]))
        writer.done()
        writer.merge()

    return _made("lit", len(WEIGHTS), TOKENS, write)


def _made(name: str, domains: int, tokens: int, write: Callable[[Path, int, int], None]) -> Path:
    folder = FOLDER / name
    done = folder / "done.json"
    if not done.exists():
        shutil.rmtree(folder, ignore_errors=True)
        for domain, size in enumerate(sizes(domains, tokens)):
            (folder / f"d{domain}").mkdir(parents=True)
            write(folder / f"d{domain}", domain, size)
        done.write_text(json.dumps({"domains": domains, "tokens": tokens}))
    return folder


def free() -> None:
    """Remove all that was written."""
    shutil.rmtree(FOLDER, ignore_errors=True)
