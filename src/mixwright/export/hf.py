"""Hugging Face ``datasets``: a script that interleaves packed rows with the recipe's weights, phase after phase."""

from __future__ import annotations

import pprint
import textwrap
from dataclasses import dataclass
from typing import Any, ClassVar

from mixwright.core.recipe import Recipe
from mixwright.export.exporter import Cut, Exporter, cut

_SCRIPT = '''\
#!/usr/bin/env python3
"""The training rows of a mixwright recipe, in order, as one Hugging Face dataset.

{statement}

    python hf_interleave.py --tokens FOLDER                what each phase will draw, nothing written
    python hf_interleave.py --tokens FOLDER --out ROWS     the rows too; read them with datasets.load_from_disk

FOLDER holds train/<domain>/ with token shards (000.bin, 001.bin ...) and manifest.json. Rows have input_ids (all of
one length: no padding, labels are the inputs) and domain. Train on them in this order: switch shuffling off (in
transformers.Trainer by a sampler of your own, since it shuffles by default), or the phases are lost.

Limits: documents are joined and cut, so a row may begin inside one; weights hold in expectation (a domain of weight w
is off by about sqrt(rows * w * (1 - w)) rows; the script prints what it drew); an index of 8 bytes a row is held in
memory; resuming is the trainer's matter.
"""

import argparse
import json
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
from datasets import Dataset, concatenate_datasets, interleave_datasets

SEQ_LEN = {seq_len}
BATCH = {batch}
SEED = {seed}
TOKENS = {tokens!r}
DOMAINS = {domains}
# rows to draw and the weight of each domain, phase after phase
PHASES = {phases}


def read_rows(folder, number, domain):
    """One domain's tokens as rows of SEQ_LEN, read from the files where they lie.

    What is left at the end of each shard, less than a row, is not read.
    """
    place = Path(folder) / "train" / domain
    manifest = json.loads((place / "manifest.json").read_text("utf-8"))
    names = [shard["name"] for shard in manifest.get("shards", [{{"name": "000"}}])]
    chunks = [rows_of(place / f"{{name}}.bin", np.dtype(manifest["dtype"])) for name in names]
    rows = pa.chunked_array([chunk for chunk in chunks if len(chunk)], type=chunks[0].type)
    if not len(rows):
        raise SystemExit(f"{{place}} holds {{manifest['tokens']}} tokens, less than one row of {{SEQ_LEN}}.")
    domains = pa.array(np.full(len(rows), number, dtype=np.int16))
    return Dataset(pa.table({{"input_ids": rows, "domain": domains}}))


def rows_of(file, dtype):
    """The whole rows of one shard; nothing is copied."""
    count = file.stat().st_size // dtype.itemsize // SEQ_LEN
    ids = np.memmap(file, dtype=dtype, mode="r") if count else np.zeros(0, dtype=dtype)
    values = pa.Array.from_buffers(pa.from_numpy_dtype(dtype), count * SEQ_LEN, [None, pa.py_buffer(ids)])
    return pa.FixedSizeListArray.from_arrays(values, SEQ_LEN)


def order(number, count, start, rows):
    """Which of a domain's `count` rows come at places start .. start + rows: every epoch in a new order."""
    places = np.arange(start, start + rows)
    epochs = places // count
    found = np.empty(rows, dtype=np.int64)
    for epoch in range(int(epochs[0]), int(epochs[-1]) + 1):
        shuffled = np.random.default_rng([SEED, number, epoch]).permutation(count)
        here = epochs == epoch
        found[here] = shuffled[places[here] % count]
    return found


def draw(sources, phase, number, used):
    """One phase: interleave just more rows of each domain than it can need, cut at the phase's length."""
    names = list(phase["weights"])
    weights = np.array([phase["weights"][name] for name in names])
    wanted, slack = phase["rows"], 6.0
    while True:
        spread = np.sqrt(wanted * weights * (1 - weights))
        supply = [math.ceil(rows) for rows in wanted * weights + slack * (spread + 3)]
        parts = [
            sources[name].select(order(DOMAINS.index(name), len(sources[name]), used[name], rows))
            for name, rows in zip(names, supply)
        ]
        mixed = interleave_datasets(
            parts, probabilities=list(weights / weights.sum()), seed=SEED + number, stopping_strategy="first_exhausted"
        )
        if len(mixed) >= wanted:
            return mixed.select(range(wanted))
        slack *= 2


def build(folder):
    """All phases as one dataset, and how many rows each phase drew of each domain."""
    wanted = {{name for phase in PHASES for name in phase["weights"]}}
    sources = {{name: read_rows(folder, n, name) for n, name in enumerate(DOMAINS) if name in wanted}}
    used = dict.fromkeys(sources, 0)
    parts, drawn = [], []
    for number, phase in enumerate(PHASES):
        part = draw(sources, phase, number, used)
        domains = part.select_columns(["domain"]).with_format("numpy")[:]["domain"]
        counts = {{name: int(np.sum(domains == DOMAINS.index(name))) for name in phase["weights"]}}
        for name, rows in counts.items():
            used[name] += rows
        parts.append(part)
        drawn.append(counts)
    epochs = {{name: used[name] / len(sources[name]) for name in sources}}
    return concatenate_datasets(parts), drawn, epochs


def main():
    parser = argparse.ArgumentParser(description="Draw the rows of a mixwright recipe.")
    parser.add_argument("--tokens", default=TOKENS, help="folder that holds train/ (default: %(default)s)")
    parser.add_argument("--out", help="folder to save the rows in; without it they are only counted")
    arguments = parser.parse_args()
    rows, drawn, epochs = build(arguments.tokens)
    for number, (phase, counts) in enumerate(zip(PHASES, drawn), 1):
        print(f"phase {{number}}: {{phase['rows']:,}} rows of {{SEQ_LEN}} tokens, {{phase['rows'] // BATCH:,}} batches")
        for name, weight in phase["weights"].items():
            print(f"  {{name}}: {{counts[name]:,}} rows = {{counts[name] / phase['rows']:.4f}}, wanted {{weight:.4f}}")
    print("epochs: " + ", ".join(f"{{name}} {{value:.3g}}" for name, value in epochs.items()))
    if arguments.out:
        rows.save_to_disk(arguments.out)
        print(f"{{len(rows):,}} rows saved in {{arguments.out}}")


if __name__ == "__main__":
    main()
'''


@dataclass(frozen=True)
class Hf(Exporter):
    """Files for Hugging Face ``datasets``: ``hf_interleave.py``, a script that needs no mixwright.

    ``seed`` fixes which domain comes next and the order inside each.
    """

    seed: int = 0

    unit: ClassVar[str] = (
        "Weights are fractions of training tokens; interleave_datasets applies them to rows, all of the same length "
        "here, so they mean the same. On documents of unequal length they would not."
    )
    repeats: ClassVar[str] = (
        "A domain that runs out is repeated in a new order, and no row comes twice before its domain's epoch ends, "
        "also across phases. Each phase stops at exactly its number of rows (stopping strategy first_exhausted over "
        "sources that are longer than it can need)."
    )
    tested: ClassVar[str] = "Tried with datasets 5.2.0, pyarrow 26.0.1 and numpy 2.4.6."

    def files(self, recipe: Recipe, *, tokens_root: str | None, seq_len: int, batch: int) -> dict[str, str]:
        """See ``Exporter.files``."""
        cuts = cut(recipe.schedule, seq_len=seq_len, batch=batch)
        lines = [textwrap.fill(line, 116, break_long_words=False) for line in self.statement(recipe, cuts)]
        return {
            "hf_interleave.py": _SCRIPT.format(
                statement="\n".join(lines).replace("\\", "\\\\").replace('"""', "'''"),
                seq_len=seq_len,
                batch=batch,
                seed=self.seed,
                tokens=tokens_root or ".",
                domains=_literal(list(recipe.schedule.domains)),
                phases=_literal([_phase(part) for part in cuts]),
            )
        }


def _phase(part: Cut) -> dict[str, Any]:
    return {"rows": part.samples, "weights": part.weights()}


def _literal(value: object) -> str:
    """A Python literal over several lines; floats keep every bit."""
    return pprint.pformat(value, width=100, sort_dicts=False)
