"""The tasks of scored signals: a shard's rows through a language model, each text at most once, resumed by the chunk.

What it leaves: ``signals/<source>/<number>.<name>.parquet``, a float64 column per column of the signal (with the entry's
prefix), one line per readable row in reading order. How many rows could not be scored, by reason, stands in the file's
metadata (``facts``). The file depends on texts, model and options alone: not on workers, chunks, or what the cache held.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mixwright.core.find import find
from mixwright.curate.entries import Entry
from mixwright.curate.hashing import Halves, text_hashes
from mixwright.curate.language_model import Work
from mixwright.curate.rules import Options
from mixwright.curate.score_cache import ScoreCache
from mixwright.curate.scorer import Plan, Scorer, count, halves, made, prepared_hash, score_plans
from mixwright.curate.shards import Shard
from mixwright.curate.signal import Floats
from mixwright.curate.texts import Texts
from mixwright.engine.task import Progress, Task
from mixwright.store.artifact import content_key, to_json, written_aside

#: seconds of scoring after which a chunk is kept
_CHUNK = 10.0
#: megabytes of text that a core scores in a second with a model of 100M parameters, for the cost of a task
_MB_PER_SECOND = 0.002
_FACTS = b"mixwright"


def scored_entries(options: Options) -> tuple[Entry, ...]:
    """The signals that are measured and that a model scores, in order."""
    return tuple(entry for entry in options.measured if entry.kind.scored)


def place(draft: Path, shard: Shard, name: str) -> Path:
    """The file of a shard's scores under an entry's name."""
    return draft / "signals" / shard.source / f"{shard.number:05d}.{name}.parquet"


def scoring_tasks(
    shards: Sequence[Shard], options: Options, *, draft: Path, prepared: Path, cache: Path, threads: int = 1
) -> list[Task]:
    """A task per shard and scored entry whose file is not there yet; entry by entry, so that a model stays loaded.

    ``prepared / <entry name>`` holds what ``Signal.prepare`` left; ``cache`` outlives the draft. Call it when no such task
    is running: it merges what earlier tasks left in the cache.
    """
    tasks = []
    for entry in scored_entries(options):
        signal = entry.signal()
        assert isinstance(signal, Scorer)
        opened = signal.opened(prepared / entry.name)
        waiting = [shard for shard in shards if not place(draft, shard, entry.name).is_file()]
        if waiting:
            ScoreCache(cache / opened.key(prepared_hash(prepared / entry.name)), len(signal.columns)).merge()
        for shard in waiting:
            arguments = {
                "shard": shard.to_dict(), "name": entry.name, "prefix": entry.prefix, "signal": _path(entry.kind),
                "options": dict(entry.options), "prepared": str((prepared / entry.name).resolve()),
                "out": str(place(draft, shard, entry.name).resolve()), "cache": str(cache.resolve()),
            }  # fmt: skip
            cost = scoring_cost(shard.size)
            name = f"{shard.name}.{entry.name}"
            tasks.append(Task(name, "mixwright.curate.scoring:score_shard", arguments, cost, threads=threads, gpus=1))
    return tasks


def scoring_cost(size: int) -> float:
    """About how many CPU-seconds a model of 100M parameters takes for ``size`` bytes of text."""
    return size / 1e6 / _MB_PER_SECOND


def score_shard(
    progress: Progress,
    *,
    shard: Mapping[str, Any],
    name: str,
    prefix: str,
    signal: str,
    options: Mapping[str, Any],
    prepared: str,
    out: str,
    cache: str,
) -> dict[str, Any]:
    """Score the rows of a shard that the cache does not know, and write those of all.

    Returns ``rows``, ``known`` (from the cache), ``scored`` (distinct), ``failed`` (reason -> rows), ``tokens`` read,
    ``filling`` (those of them that filled batches up) and ``seconds``. Killed and called again it loses at most one chunk,
    about 10 s of work. Memory: the shard's texts and their tokens.
    """
    scorer = made(find("signals", signal), options).opened(Path(prepared))
    whole, known_as, begun = Shard.from_dict(shard), prepared_hash(Path(prepared)), time.monotonic()
    store, task = ScoreCache(Path(cache) / scorer.key(known_as), len(scorer.columns)), content_key(whole.name, name)
    store.own(task)
    hashes, wanted = _read(whole, scorer, known_as, store)
    work = _score(progress, scorer, known_as, wanted, store, task)
    store.own(task)
    known, failed, values = store.find(hashes)
    assert known.all(), "a row was neither known nor scored"
    facts = {"rows": len(hashes), "failed": count(scorer, failed)}
    _write(Path(out), [prefix + column for column in scorer.columns], values, facts)
    progress(1.0)
    done = {"known": len(hashes) - wanted.rows, "scored": len(wanted.plans), "seconds": time.monotonic() - begun}
    return {**facts, **done, "tokens": work.read, "filling": work.filling}


@dataclass
class _Wanted:
    """The distinct rows that are to be scored: their plans and hashes; ``rows`` of the shard have one of these."""

    plans: list[Plan] = field(default_factory=list)
    hashes: list[Halves] = field(default_factory=list)
    rows: int = 0


def _read(shard: Shard, scorer: Scorer, known_as: str, store: ScoreCache) -> tuple[Halves, _Wanted]:
    """The hashes of all readable rows ``(n, 2)``, and what is to be scored."""
    every, wanted, seen = [np.zeros((0, 2), dtype=np.uint64)], _Wanted(), set[bytes]()
    for batch in shard.batches():
        texts = Texts(batch.texts, prompts=batch.prompts, responses=batch.responses)
        hashes = row_hashes(texts, instructions=scorer.instructions)
        every.append(hashes)
        missing = np.flatnonzero(~store.find(hashes)[0]).tolist()
        wanted.rows += len(missing)
        names = {hashes[at].tobytes(): at for at in reversed(missing)}
        fresh = sorted(at for name, at in names.items() if name not in seen)
        if fresh:
            seen.update(names)
            rows = halves(texts)
            wanted.plans += scorer.plans(scorer.load(known_as), [rows[at] for at in fresh])
            wanted.hashes.append(hashes[fresh])
    return np.concatenate(every), wanted


def row_hashes(texts: Texts, *, instructions: bool) -> Halves:
    """The hash of what a scorer reads of each row, ``(n, 2)``: the text, or prompt and response (0 where there are none)."""
    if not instructions:
        return text_hashes(texts)
    if texts.prompts is None or texts.responses is None:
        return np.zeros((len(texts), 2), dtype=np.uint64)
    from xxhash import xxh3_128_digest

    both = np.concatenate([text_hashes(Texts(half)) for half in (texts.prompts, texts.responses)], axis=1)
    digests = b"".join([xxh3_128_digest(row.tobytes()) for row in np.ascontiguousarray(both)])
    return np.frombuffer(digests, dtype="<u8").reshape(-1, 2).astype(np.uint64)


def _score(progress: Progress, scorer: Scorer, known_as: str, wanted: _Wanted, store: ScoreCache, task: str) -> Work:
    """Score in chunks, rows of one length together, and keep each chunk."""
    work = Work()
    if not wanted.plans:
        return work
    model, hashes, number = scorer.load(known_as), np.concatenate(wanted.hashes), store.next_number(task)
    total, pace = sum(map(_tokens, wanted.plans)), _Pace()
    for members in _chunks(wanted.plans, model.batch_tokens(scorer.batch_tokens), pace):
        plans = [wanted.plans[at] for at in members]
        values, failed, took = score_plans(scorer, model, plans)
        store.put(task, number, hashes[members], failed, values)
        number, work = number + 1, work + took
        pace.tokens += sum(map(_tokens, plans))
        progress(pace.tokens / max(1, total), tokens=work.read, filling=work.filling)
    return work


@dataclass
class _Pace:
    """How many tokens have been scored since it was made."""

    tokens: int = 0
    begun: float = field(default_factory=time.monotonic)

    @property
    def rate(self) -> float:
        """Tokens a second."""
        return self.tokens / max(1e-3, time.monotonic() - self.begun)


def _chunks(plans: Sequence[Plan], smallest: int, pace: _Pace) -> Iterator[list[int]]:
    """Numbers of plans, the longest last: at least ``smallest`` tokens of them, or what ``_CHUNK`` seconds are enough for."""
    order = sorted(range(len(plans)), key=lambda at: max((len(one.ids) for one in plans[at].passes), default=0))
    chunk: list[int] = []
    held, most = 0, smallest
    for at in order:
        chunk.append(at)
        held += _tokens(plans[at])
        if held >= most:
            yield chunk
            chunk, held, most = [], 0, max(smallest, int(_CHUNK * pace.rate))
    if chunk:
        yield chunk


def _tokens(plan: Plan) -> int:
    return sum(len(one.ids) for one in plan.passes)


def _write(path: Path, columns: Sequence[str], values: Floats, facts: Mapping[str, Any]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({column: np.ascontiguousarray(values[:, at]) for at, column in enumerate(columns)})
    table = table.replace_schema_metadata({_FACTS: to_json(facts).encode()})
    with written_aside(path) as aside:
        pq.write_table(table, aside, compression="zstd", compression_level=1, row_group_size=65_536)


def facts(path: Path) -> dict[str, Any]:
    """What a file of scores says of itself: ``rows``, and ``failed`` (reason -> rows)."""
    import pyarrow.parquet as pq

    told: dict[str, Any] = json.loads(pq.read_schema(path).metadata[_FACTS])
    return told


def _path(kind: type[Any]) -> str:
    """What ``find`` knows a signal by wherever it comes from."""
    return f"{kind.__module__}:{kind.__qualname__}"
