"""What a run compiles, compiled before its tasks, by doing all of it to a few short texts.

On a machine that has not curated before compiling takes some 20 seconds, once; tasks that began with it would do it at the
same time, each for itself.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mixwright.core.document import document_ids
from mixwright.curate.decontaminate import HashSet, ngrams
from mixwright.curate.dedup.lines import Cuts, LineWriter, find_cuts
from mixwright.curate.dedup.options import Options as Dedup
from mixwright.curate.dedup.options import Substring
from mixwright.curate.dedup.signing import BandWriter
from mixwright.curate.dedup.stage import Noted, dropped, find_pairs
from mixwright.curate.dedup.substring import MarkWriter, Spans, find_spans, note_windows
from mixwright.curate.hashing import hexes, text_hashes
from mixwright.curate.measuring import Measured, opened
from mixwright.curate.rules import Options
from mixwright.curate.shards import Shard, cut
from mixwright.curate.texts import Texts
from mixwright.engine.local import LocalEngine
from mixwright.store.documents import SourceOptions, find_files

if TYPE_CHECKING:
    import pyarrow as pa

_LINE = (
    "A line that stands in two texts, one of which has other lines beside, so that it can be cut out of one of them.\n"
)
#: two that are similar, one of them the longer, and one of a few words that is like none
_TEXTS = (_LINE * 3, _LINE * 3 + "One more sentence.\n\n", "1 2")


def warm(place: Measured, options: Options) -> None:
    """Measure, compare and cut a few texts as the tasks of a run would; nothing of it is kept. What models do is left out,
    and what deciding and writing compile of rules: nothing. Cost: some 0.2 s where everything is compiled."""
    import pyarrow as pa

    held = pa.array(_TEXTS, pa.large_string())
    texts = Texts(held)
    for _, signal in opened(place, json.dumps(options.to_dict(), sort_keys=True))[1]:
        signal.measure(texts)
    grams = ngrams(texts, 2)
    known = HashSet.of(grams.hashes)
    known.grams(texts, 2)
    known.has(grams.hashes)
    dedup = options.dedup
    if dedup.near or dedup.lines or dedup.substring:
        with tempfile.TemporaryDirectory() as folder:
            _compare(Path(folder), held, Dedup(near=dedup.near, lines=dedup.lines, substring=dedup.substring))


def _compare(folder: Path, held: pa.Array, dedup: Dedup) -> None:
    """Look for duplicates among the texts, and for lines or runs of words that repeat."""
    texts, shard = Texts(held), _written(folder)
    near, lines, bands = dedup.for_near, dedup.for_lines, folder / "bands"
    if near:
        with BandWriter(bands, near) as writer:
            writer.add(texts)
    noted = Noted(shard, _signals(folder, shard, texts), bands if near else None)
    engine, passing = LocalEngine(1, "threads"), [np.ones(len(texts), dtype=bool)]
    find_pairs([noted], folder / "dedup", dedup, engine=engine)
    dropped(folder / "dedup", passing, dedup)
    if lines:
        few = dataclasses.replace(lines, min_chars=1)
        with LineWriter(folder / "lines", few) as lined:
            lined.add(texts)
        find_cuts(folder / "dedup", [folder / "lines"], passing, folder / "cuts", few, engine=engine, memory=1 << 20)
        Cuts.of(folder / "cuts", 0).cut(held, 0)
    if dedup.substring:
        short, marks, windows = Substring(words=2), folder / "marks", folder / "windows"
        with MarkWriter(marks, short) as marked:
            marked.add(texts)
        note_windows([shard], [marks], [windows], folder / "shared", short, engine=engine, memory=1 << 20)
        find_spans(folder / "dedup", [windows], passing, folder / "cuts", short, engine=engine, memory=1 << 20)
        Spans.of(folder / "cuts", 0).cut(held, 0)


def _written(folder: Path) -> Shard:
    """The texts as a shard of a file."""
    rows = "".join(json.dumps({"text": text}) + "\n" for text in _TEXTS)
    (folder / "texts.jsonl").write_text(rows)
    given = SourceOptions("texts.jsonl")
    return cut("texts", given, find_files(given, folder)[0], Options(), order=0, target=False)[0]


def _signals(folder: Path, shard: Shard, texts: Texts) -> Path:
    """What dedup reads of signals."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    ids = document_ids(shard.source, "texts.jsonl", np.arange(len(texts)))
    columns = {"id": hexes(ids), "text_hash": hexes(text_hashes(texts)), "bytes": texts.bytes}
    pq.write_table(pa.table(columns), folder / "signals.parquet")
    return folder / "signals.parquet"
