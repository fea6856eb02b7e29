"""Curated documents -> the tokenize artifact: a token store per domain, its held-out part, and one per target.

    tokenizer.json, facts.json        the tokenizer, and its number of ids, end of document and hash
    train/<domain>/, val/<domain>/    token stores; which documents are held out depends on text hashes alone
    target/<name>/
    corpus.json, metrics.json         the Corpus; per metric its store, tokens, bytes and documents

Held-out documents and targets lie in the order of their text hashes, so that any first part of them is a sample;
training documents in the order of the sources.

In passes, each task of which leaves a file that says it is finished: every file of documents is scanned (``.scan/``); the
tokenizer is trained; ranges of documents, whose bounds depend on the documents alone, are encoded into a shard each,
what is held out of them beside it (``.parts/``); the stores are sealed. A shard that is finished is never encoded again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixwright.core.corpus import Corpus, Domain
from mixwright.core.errors import DataError
from mixwright.engine.task import Engine, Progress, Task
from mixwright.store.artifact import MANIFEST, Draft, content_key, read_json, write_json
from mixwright.store.shards import ShardWriter, Written, read_index
from mixwright.store.tokens import TokenStore, seal_tokens
from mixwright.text import tokenizer as tokenizers
from mixwright.text.encode import MB_PER_SECOND, SHARD_BYTES, Encoder, batches
from mixwright.text.scan import Ints, Scan, parts_of
from mixwright.text.tokenizer import Facts, Options

OnProgress = Callable[[str, float, dict[str, Any]], None]
#: megabytes a second one core scans
_SCANNED = 200.0
#: tokens of held-out documents gathered at once
_GATHERED = 1 << 20


@dataclass(frozen=True)
class _Part:
    """A domain (``kind`` train) or a target, its curated documents, and the artifact it goes to."""

    kind: str
    name: str
    documents: Path
    out: Path

    @property
    def is_sealed(self) -> bool:
        return (self.out / self.kind / self.name / MANIFEST).is_file()

    @property
    def scan(self) -> Path:
        return self.out / ".scan" / self.kind / self.name

    @property
    def held_out(self) -> Path:
        """The store of what is held out: all of a target."""
        return self.out / ("val" if self.kind == "train" else self.kind) / self.name

    @property
    def shards(self) -> Path:
        """The folder whose shards' records say which ranges are encoded."""
        return self.out / "train" / self.name if self.kind == "train" else self.held_out / _PARTS


#: where a store's held-out documents wait, in the order of the sources, until all of them are there
_PARTS = ".parts"


def tokenize(
    curated: Path,
    options: Options,
    *,
    draft: Draft,
    engine: Engine,
    on_progress: OnProgress | None = None,
    seq_len: int = 128,
    base: Path = Path(),
    shard_bytes: int = SHARD_BYTES,
) -> Corpus:
    """Write the tokenize artifact into ``draft.path`` (the caller seals it) and return its corpus.

    ``curated`` is the folder of the curate artifact, ``base`` where a relative ``options.path`` starts. A shard holds
    ``shard_bytes`` of text and the rest of a document. Called again on the same draft after any interruption it encodes
    only the shards that were not finished. Raises DataError if a domain, its held-out part or a target has no whole
    window of ``seq_len`` tokens. Cost: about 2 MB/s a core; memory a process: the tokenizer, one row group and the
    largest document several times over.
    """
    summary = read_json(curated / "summary.json")
    domains = list(summary["domains"])
    targets = [name for name in summary["order"] if name in summary["targets"]]
    report = on_progress or (lambda *_: None)
    parts = [
        *(_Part("train", name, curated / "documents" / name, draft.path.resolve()) for name in domains),
        *(_Part("target", name, curated / "targets" / name, draft.path.resolve()) for name in targets),
    ]
    left = [part for part in parts if not part.is_sealed]
    untrained = not (draft.path / "facts.json").is_file()
    to_scan = [part for part in parts if part in left or (untrained and part.kind == "train")]
    _run(engine, [_scan_task(part, options) for part in to_scan if not Scan.is_there(part.scan)], report)
    if untrained:
        trained_on = [part.scan for part in parts if part.kind == "train"]
        _run(engine, [_tokenizer_task(trained_on, options, base, draft.path, engine.slots)], report)
    found = Facts(**read_json(draft.path / "facts.json"))
    _run(engine, [task for part in left for task in _encode_tasks(part, found, shard_bytes)], report)
    _run(engine, [_seal_task(part, found, shard_bytes) for part in left], report)
    return _sum_up(draft.path, domains, targets, found, summary, seq_len)


def _run(engine: Engine, tasks: Sequence[Task], report: OnProgress) -> None:
    for outcome in list(engine.run(tasks, report)) if tasks else []:
        outcome.result()


def _scan_task(part: _Part, options: Options) -> Task:
    arguments = {
        "documents": str(part.documents.resolve()), "out": str(part.scan), "options": dataclasses.asdict(options),
        "all_apart": part.kind != "train",
    }  # fmt: skip
    cost = sum(file.stat().st_size for file in parts_of(part.documents)) * 4 / 1e6 / _SCANNED
    return Task(f"scan {part.name}", "mixwright.text.scan:scan_documents", arguments, cost)


def _tokenizer_task(scans: Sequence[Path], options: Options, base: Path, out: Path, threads: int) -> Task:
    arguments = {
        "scans": [str(folder) for folder in scans],
        "options": dataclasses.asdict(options),
        "base": str(base.resolve()),
        "out": str(out.resolve()),
    }
    return Task("tokenizer", "mixwright.text.tokenize:make_tokenizer", arguments, threads=threads)


def _encode_tasks(part: _Part, facts: Facts, shard_bytes: int) -> list[Task]:
    """A task per range of documents that has no finished shard."""
    scan = Scan.open(part.scan)
    bounds, tasks = scan.shards(shard_bytes), []
    for number, (first, last) in enumerate(bounds):
        shard, key = f"{number:03d}", f"{facts.hash}:{first}-{last}"
        if Written.find(part.shards, shard, key) is None:
            arguments = {
                "scan": str(part.scan), "rows": [first, last], "shard": shard, "key": key,
                "train": str(part.shards) if part.kind == "train" else None, "apart": str(part.held_out / _PARTS),
                "tokenizer": str(part.out / "tokenizer.json"), "facts": dataclasses.asdict(facts),
            }  # fmt: skip
            name = part.name if len(bounds) == 1 else f"{part.name} {number + 1}/{len(bounds)}"
            cost = float(scan.sizes[first:last].sum()) / 1e6 / MB_PER_SECOND
            tasks.append(Task(name, "mixwright.text.tokenize:encode_documents", arguments, cost))
    return tasks


def _seal_task(part: _Part, facts: Facts, shard_bytes: int) -> Task:
    shards = [f"{number:03d}" for number in range(len(Scan.open(part.scan).shards(shard_bytes)))]
    arguments = {
        "scan": str(part.scan), "shards": shards, "apart": str(part.held_out),
        "train": str(part.shards) if part.kind == "train" else None, "facts": dataclasses.asdict(facts),
    }  # fmt: skip
    return Task(f"seal {part.name}", "mixwright.text.tokenize:seal_documents", arguments)


def make_tokenizer(
    progress: Progress, *, scans: Sequence[str], options: Mapping[str, Any], base: str, out: str
) -> None:
    """Train or copy the tokenizer; ``facts.json`` is written last."""
    settings, file = Options(**options), Path(out) / "tokenizer.json"
    if settings.path is not None:
        found = tokenizers.adopt(settings.path, Path(base), file)
    else:
        texts = (text for folder in scans for text in Scan.open(Path(folder)).sample(settings.sample_bytes))
        found = tokenizers.train(texts, settings.vocab, file)
    write_json(Path(out) / "facts.json", dataclasses.asdict(found))
    progress(1.0, vocab=found.vocab)


def encode_documents(
    progress: Progress, *, scan: str, rows: Sequence[int], shard: str, key: str, train: str | None, apart: str,
    tokenizer: str, facts: Mapping[str, Any],
) -> None:  # fmt: skip
    """Encode the scanned documents ``rows[0]`` to ``rows[1]`` (exclusive).

    Held-out documents become a shard in ``apart``, the others one in ``train``, whose record is written last.
    """
    opened, found = Scan.open(Path(scan)), Facts(**facts)
    row, stop = rows
    whole, done = max(1, int(opened.sizes[row:stop].sum())), 0
    encode = Encoder.load(Path(tokenizer), found.end)
    # written in this order as the blocks end: what is held out first, the training shard last
    with (
        ShardWriter(Path(train or apart), shard, vocab=found.vocab, key=key) as kept,
        contextlib.ExitStack() as stack,
    ):
        out = stack.enter_context(ShardWriter(Path(apart), shard, vocab=found.vocab, key=key)) if train else kept
        for texts in batches(opened.texts(*rows)):
            ids, lengths = encode(texts)
            held, sizes = opened.apart[row : row + len(texts)], opened.sizes[row : row + len(texts)]
            for writer, mine in ((out, held), (kept, ~held)):
                writer.add(ids[np.repeat(mine, lengths)], lengths[mine], text_bytes=int(sizes[mine].sum()))
            row += len(texts)
            done += int(sizes.sum())
            progress(done / whole, tokens=kept.tokens + (out.tokens if train else 0))


def seal_documents(
    progress: Progress, *, scan: str, shards: Sequence[str], apart: str, train: str | None, facts: Mapping[str, Any]
) -> None:
    """Put what is held out into the order of its text hashes, then write the manifests, the training store's last."""
    found, folder = Facts(**facts), Path(apart)
    about: dict[str, Any] = {"vocab": found.vocab, "tokenizer": found.hash, "end": found.end}
    if not (folder / MANIFEST).is_file():
        opened = Scan.open(Path(scan))
        with ShardWriter(folder, "000", vocab=found.vocab) as writer:
            for ids, lengths, rows in _by_hash(opened, folder / _PARTS, shards):
                writer.add(ids, lengths, text_bytes=int(opened.sizes[rows].sum()))
                progress(0.9 * writer.tokens / max(1, opened.bytes), tokens=writer.tokens)
        assert writer.record is not None
        seal_tokens(folder, [writer.record], **about)
    if train is not None:
        seal_tokens(Path(train), [Written(**read_json(Path(train) / f".{name}.json")) for name in shards], **about)
    shutil.rmtree(folder / _PARTS, ignore_errors=True)


def _by_hash(scan: Scan, parts: Path, shards: Sequence[str]) -> Iterator[tuple[NDArray[Any], NDArray[np.int32], Ints]]:
    """The held-out documents of all parts by text hash, some at a time: ids, lengths ``(n,)``, rows ``(n,)``.

    Memory: the parts' indexes and some 32 bytes a held-out document; ids are mapped.
    """
    rows = np.flatnonzero(scan.apart)
    order = np.searchsorted(rows, scan.by_hash(rows))
    lengths, offsets, files, dtype = [], [], [], "uint16"
    for number, name in enumerate(shards):
        length, offset, _, dtype = read_index(parts / f"{name}.idx")
        lengths.append(length)
        offsets.append(offset // np.dtype(dtype).itemsize)
        files.append(np.full(len(length), number))
    length, offset, file = (np.concatenate(values)[order] for values in (lengths, offsets, files))
    ids = [_mapped(parts / f"{name}.bin", dtype) for name in shards]
    batch = np.cumsum(length, dtype=np.int64) // _GATHERED
    for chosen in np.split(np.arange(len(order)), np.flatnonzero(np.diff(batch)) + 1) if len(order) else []:
        pieces = [ids[file[at]][offset[at] : offset[at] + length[at]] for at in chosen]
        yield np.concatenate(pieces), length[chosen], rows[order[chosen]]


def _mapped(file: Path, dtype: str) -> NDArray[Any]:
    return np.memmap(file, dtype=dtype, mode="r") if file.stat().st_size else np.zeros(0, dtype=dtype)


def _sum_up(
    out: Path, domains: Sequence[str], targets: Sequence[str], facts: Facts, summary: Mapping[str, Any], seq_len: int
) -> Corpus:
    """Write metrics and corpus after checking that every store has a window."""
    metrics, files, members = {}, {}, []
    for name in domains:
        train = _checked(TokenStore.open(out / "train" / name), f"Domain {name}", name, summary, seq_len)
        members.append(Domain(name, train.tokens, train.manifest["text_bytes"], train.manifest["documents"]))
        files[f"train/{name}"] = train.manifest["files"]
    parts = [*((f"val:{n}", f"val/{n}") for n in domains), *((f"target:{n}", f"target/{n}") for n in targets)]
    for metric, place in parts:
        name = metric.partition(":")[2]
        what = f"Target {name}" if metric.startswith("target:") else f"The held-out part of domain {name}"
        store = _checked(TokenStore.open(out / place), what, name, summary, seq_len)
        facts_of = store.manifest
        metrics[metric] = {
            "path": place, "tokens": store.tokens, "bytes": facts_of["text_bytes"], "documents": facts_of["documents"]
        }  # fmt: skip
        files[place] = facts_of["files"]
    corpus = Corpus(tuple(members), facts.hash, facts.vocab, content_key(files))
    write_json(out / "metrics.json", metrics)
    write_json(out / "corpus.json", corpus.to_dict())
    return corpus


def _checked(store: TokenStore, what: str, name: str, summary: Mapping[str, Any], seq_len: int) -> TokenStore:
    if store.windows(seq_len):
        return store
    rows = [
        row
        for key, row in {**summary["sources"], **summary["targets"]}.items()
        if name == key or (key in summary["sources"] and row["domain"] == name)
    ]
    kept, read = (sum(row[part]["documents"] for row in rows) for part in ("kept", "read"))
    raise DataError(
        f"{what} has {store.tokens} tokens, too few for one window of {seq_len + 1}; curation kept {kept} of {read} "
        "documents. Give it more text or more documents, loosen its rules (the ledger tells what was dropped), lower "
        "seq_len, or leave it out."
    )
