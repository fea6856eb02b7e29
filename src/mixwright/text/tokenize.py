"""Curated documents -> the tokenize artifact: a token store per domain, its held-out part, and one per target.

    tokenizer.json, facts.json        the tokenizer, and its number of ids, end of document and hash
    train/<domain>/, val/<domain>/    token stores; which documents are held out depends on text hashes alone
    target/<name>/
    corpus.json, metrics.json         the Corpus; per metric its store, tokens, bytes and documents

Held-out documents and targets lie in the order of their text hashes, so that any first part of them is a sample;
training documents in the order of the sources.
"""

from __future__ import annotations

import dataclasses
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
from mixwright.store.tokens import TokenStore, write_tokens
from mixwright.text import tokenizer as tokenizers
from mixwright.text.tokenizer import Facts, Options

OnProgress = Callable[[str, float, dict[str, Any]], None]
#: the greatest part of a domain's bytes that is held out
_MOST_HELD_OUT = 0.2
#: megabytes a second one core encodes, for the cost of a task
_MB_PER_SECOND = 3.0
#: bytes of text encoded at once
_BATCH = 1 << 20


def tokenize(
    curated: Path,
    options: Options,
    *,
    draft: Draft,
    engine: Engine,
    on_progress: OnProgress | None = None,
    seq_len: int = 128,
    base: Path = Path(),
) -> Corpus:
    """Write the tokenize artifact into ``draft.path`` (the caller seals it) and return its corpus.

    ``curated`` is the folder of the curate artifact, ``base`` where a relative ``options.path`` starts. Called again on
    the same draft after any interruption it encodes only the domains that were not finished. Raises DataError if a
    domain, its held-out part or a target has no whole window of ``seq_len`` tokens. Cost: about 3 MB/s a core.
    """
    summary = read_json(curated / "summary.json")
    domains = list(summary["domains"])
    targets = [name for name in summary["order"] if name in summary["targets"]]
    report = on_progress or (lambda *_: None)
    found = _tokenizer(curated, domains, options, draft.path, base, engine, report)
    tasks = []
    for kind, name, file in [
        *(("train", name, curated / "documents" / f"{name}.parquet") for name in domains),
        *(("target", name, curated / "targets" / f"{name}.parquet") for name in targets),
    ]:
        if (draft.path / kind / name / MANIFEST).is_file():
            continue
        arguments = {
            "documents": str(file.resolve()), "kind": kind, "name": name, "out": str(draft.path.resolve()),
            "options": dataclasses.asdict(options), "facts": dataclasses.asdict(found),
        }  # fmt: skip
        cost = file.stat().st_size * 4 / 1e6 / _MB_PER_SECOND
        tasks.append(Task(name, "mixwright.text.tokenize:encode_documents", arguments, cost))
    for outcome in list(engine.run(tasks, report)) if tasks else []:
        outcome.result()
    return _sum_up(draft.path, domains, targets, found, summary, seq_len)


def _tokenizer(
    curated: Path, domains: Sequence[str], options: Options, out: Path, base: Path, engine: Engine, report: OnProgress
) -> Facts:
    if not (out / "facts.json").is_file():
        arguments = {
            "files": [str((curated / "documents" / f"{name}.parquet").resolve()) for name in domains],
            "options": dataclasses.asdict(options),
            "base": str(base.resolve()),
            "out": str(out.resolve()),
        }
        task = Task("tokenizer", "mixwright.text.tokenize:make_tokenizer", arguments, threads=engine.slots)
        for outcome in list(engine.run([task], report)):
            outcome.result()
    return Facts(**read_json(out / "facts.json"))


def make_tokenizer(
    progress: Progress, *, files: Sequence[str], options: Mapping[str, Any], base: str, out: str
) -> None:
    """Train or copy the tokenizer; ``facts.json`` is written last."""
    settings, file = Options(**options), Path(out) / "tokenizer.json"
    if settings.path is not None:
        found = tokenizers.adopt(settings.path, Path(base), file)
    else:
        texts = (text for name in files for text in _sample(Path(name), settings))
        found = tokenizers.train(texts, settings.vocab, file)
    write_json(Path(out) / "facts.json", dataclasses.asdict(found))
    progress(1.0, vocab=found.vocab)


def held_out(hashes: Sequence[str], sizes: NDArray[np.int64], options: Options) -> NDArray[np.bool_]:
    """Which documents are held out, ``(n,)``: those of the smallest text hashes, equal texts together.

    ``sizes`` are their bytes, ``(n,)``. A text that would make it more than a fifth of the bytes is passed over; if that
    leaves none, the smallest text is held out, unless there is only one.
    """
    whole: dict[str, int] = {}
    for value, size in zip(hashes, sizes.tolist(), strict=True):
        whole[value] = whole.get(value, 0) + size
    most = _MOST_HELD_OUT * float(sizes.sum())
    goal = min(max(options.held_out * float(sizes.sum()), options.held_out_bytes), most)
    chosen: set[str] = set()
    total = 0
    for value in sorted(whole):
        if total >= goal:
            break
        if total + whole[value] <= most:
            chosen.add(value)
            total += whole[value]
    if not chosen and len(whole) > 1:
        chosen = {min(whole, key=lambda value: (whole[value], value))}
    return np.array([value in chosen for value in hashes], dtype=bool)


@dataclass(frozen=True)
class _Documents:
    """A Parquet file of documents, its texts streamed."""

    file: Path
    hashes: list[str]
    sizes: NDArray[np.int64]

    @classmethod
    def open(cls, file: Path) -> _Documents:
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        hashes: list[str] = []
        sizes: list[int] = []
        with pq.ParquetFile(file) as table:
            for batch in table.iter_batches(batch_size=1024, columns=["text_hash", "text"]):
                hashes += batch["text_hash"].to_pylist()
                sizes += pc.binary_length(batch["text"]).to_pylist()
        return cls(file, hashes, np.array(sizes, dtype=np.int64))

    def texts(self) -> Iterator[str]:
        import pyarrow.parquet as pq

        with pq.ParquetFile(self.file) as table:
            for batch in table.iter_batches(batch_size=256, columns=["text"]):
                yield from batch["text"].to_pylist()


def _sample(file: Path, options: Options) -> Iterator[str]:
    """Training text of one domain to train the tokenizer on: the documents of the greatest hashes, the last one cut."""
    documents = _Documents.open(file)
    kept = ~held_out(documents.hashes, documents.sizes, options)
    left, room = options.sample_bytes, {}
    for at in sorted(np.flatnonzero(kept).tolist(), key=lambda at: (documents.hashes[at], at), reverse=True):
        if left <= 0:
            break
        room[at] = left
        left -= int(documents.sizes[at])
    for at, text in enumerate(documents.texts()):
        if at in room:
            yield text.encode()[: room[at]].decode("utf-8", "ignore")


def encode_documents(
    progress: Progress, *, documents: str, kind: str, name: str, out: str, options: Mapping[str, Any],
    facts: Mapping[str, Any],
) -> None:  # fmt: skip
    """Encode one domain into ``val/`` and then ``train/``, or one target; the store written last marks it finished."""
    settings, found, folder = Options(**options), Facts(**facts), Path(out)
    opened = _Documents.open(Path(documents))
    ids = list(_encode(opened, folder / "tokenizer.json", found, progress))

    def store(part: str, rows: Sequence[int]) -> None:
        write_tokens(
            folder / part / name, [ids[row] for row in rows], vocab=found.vocab, tokenizer=found.hash, end=found.end,
            text_bytes=int(opened.sizes[list(rows)].sum()),
        )  # fmt: skip

    def shuffled(rows: NDArray[np.int64]) -> list[int]:
        return sorted(rows.tolist(), key=lambda row: (opened.hashes[row], row))

    if kind == "target":
        store("target", shuffled(np.arange(len(ids))))
    else:
        apart = held_out(opened.hashes, opened.sizes, settings)
        store("val", shuffled(np.flatnonzero(apart)))
        store("train", np.flatnonzero(~apart).tolist())


def _encode(documents: _Documents, file: Path, facts: Facts, progress: Progress) -> Iterator[NDArray[Any]]:
    """The ids of each document, each ending with the end of a document."""
    tokenizer = tokenizers.load(file)
    whole, done, tokens = max(1, int(documents.sizes.sum())), 0, 0
    for batch in _batches(documents.texts()):
        for encoding in tokenizer.encode_batch_fast(batch, add_special_tokens=False):
            yield np.array([*encoding.ids, facts.end], dtype=np.int32)
            tokens += len(encoding.ids) + 1
        done += sum(len(text.encode()) for text in batch)
        progress(done / whole, tokens=tokens)


def _batches(texts: Iterator[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= _BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


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
