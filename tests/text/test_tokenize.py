"""From curated documents to token stores: held out apart, resumable, the same whatever the workers."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from curation_for_tests import HERE, Counting, Stopping, hashes, jsonl, run
from hypothesis import given, settings
from hypothesis import strategies as st

from mixwright.core.corpus import Corpus
from mixwright.core.document import text_hash
from mixwright.core.errors import DataError
from mixwright.core.rng import rng
from mixwright.curate.pipeline import Options as CurateOptions
from mixwright.engine.local import LocalEngine
from mixwright.engine.task import Engine
from mixwright.store.artifact import Draft, Workspace, read_json
from mixwright.store.tokens import TokenStore
from mixwright.text.encode import SHARD_BYTES
from mixwright.text.scan import as_keys, held_out, parts_of
from mixwright.text.tokenize import tokenize
from mixwright.text.tokenizer import Options, load

SMALL = Options(vocab=300, sample_bytes=2_000, held_out_bytes=400)
SEQ_LEN = 16


def documents(name: str, count: int) -> list[str]:
    random = rng(0, name)
    words = [f"{name}{n}" for n in range(50)]
    return [" ".join(random.choice(words, 12)) for _ in range(count)]


def curated(base: Path, counts: Mapping[str, int], target: int = 20) -> Path:
    """A curate artifact with one source per domain; ``zeta`` first, so that order is not that of names."""
    sources = {name: jsonl(base / f"{name}.jsonl", documents(name, count)) for name, count in counts.items()}
    targets = {"goal": jsonl(base / "goal.jsonl", documents("goal", target))}
    return run(base, sources, targets, CurateOptions(), work="curated")[1].path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return curated(tmp_path, {"zeta": 60, "alpha": 40})


def encode(
    folder: Path, work: str = "tokens", options: Options = SMALL, engine: Engine = HERE, seq_len: int = SEQ_LEN,
    shard_bytes: int = SHARD_BYTES,
) -> tuple[Corpus, Draft]:  # fmt: skip
    draft = Workspace(folder.parent / work).draft("tokenize", "key")
    corpus = tokenize(
        folder, options, draft=draft, engine=engine, seq_len=seq_len, base=folder.parent, shard_bytes=shard_bytes
    )
    return corpus, draft


def texts_of(store: TokenStore, tokenizer: Path) -> list[str]:
    ends = np.flatnonzero(store.ids == store.manifest["end"])
    return [load(tokenizer).decode(part.tolist()) for part in np.split(store.ids, ends + 1)[:-1]]


def test_every_text_is_in_one_store(folder: Path) -> None:
    corpus, draft = encode(folder)
    assert corpus.names == ("zeta", "alpha")
    assert corpus == Corpus.from_dict(read_json(draft.path / "corpus.json"))
    metrics = read_json(draft.path / "metrics.json")
    assert set(metrics) == {"val:zeta", "val:alpha", "target:goal"}
    for domain in corpus.domains:
        train, val = (TokenStore.open(draft.path / part / domain.name) for part in ("train", "val"))
        kept, apart = (texts_of(store, draft.path / "tokenizer.json") for store in (train, val))
        whole = pq.read_table(folder / f"documents/{domain.name}")["text"].to_pylist()
        assert sorted(kept + apart) == sorted(whole)
        assert not set(kept) & set(apart)
        assert kept == [text for text in whole if text in set(kept)]
        assert [text_hash(text) for text in apart] == sorted(text_hash(text) for text in whole)[: len(apart)]
        assert (domain.tokens, domain.documents) == (train.tokens, len(kept))
        assert domain.bytes == sum(len(text.encode()) for text in kept)
        told = metrics[f"val:{domain.name}"]
        assert told["bytes"] == sum(len(text.encode()) for text in apart) >= 400
        assert told == {
            "path": f"val/{domain.name}",
            "tokens": val.tokens,
            "documents": len(apart),
            "bytes": told["bytes"],
        }
        train.check()
        assert train.manifest["tokenizer"] == corpus.tokenizer
        assert train.vocab == corpus.vocab <= 300
    assert metrics["target:goal"]["documents"] == 20


def test_the_tokenizer_never_sees_targets_or_held_out_text(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mixwright.text import tokenizer

    seen: list[str] = []
    real = tokenizer.train

    def spy(texts: Iterator[str], vocab: int, out: Path) -> Any:
        seen.extend(texts)
        return real(iter(seen), vocab, out)

    monkeypatch.setattr(tokenizer, "train", spy)
    _, draft = encode(folder)
    per_domain = {name: sum(len(text) for text in seen if text.startswith(name)) for name in ("zeta", "alpha")}
    assert per_domain == {"zeta": 2000, "alpha": 2000}
    trained = {
        text for name in per_domain
        for text in texts_of(TokenStore.open(draft.path / "train" / name), draft.path / "tokenizer.json")
    }  # fmt: skip
    assert all(any(whole.startswith(text) for whole in trained) for text in seen)


def test_same_bytes_with_two_processes(folder: Path) -> None:
    _, one = encode(folder, "one")
    _, two = encode(folder, "two", engine=LocalEngine(2))
    assert hashes(one.path) == hashes(two.path)


TASKS = [
    *("scan zeta", "scan alpha", "scan goal", "tokenizer", "zeta", "alpha", "goal"),
    *("seal zeta", "seal alpha", "seal goal"),
]


@pytest.mark.parametrize("finished", range(len(TASKS)))
def test_interrupted_between_tasks(folder: Path, finished: int) -> None:
    _, whole = encode(folder, "whole")
    with pytest.raises(KeyboardInterrupt):
        encode(folder, engine=Stopping(finished))
    engine = Counting()
    _, draft = encode(folder, engine=engine)
    assert engine.names == TASKS[finished:]
    assert hashes(draft.path) == hashes(whole.path)


def grouped(folder: Path, rows: int) -> Path:
    """The same documents in row groups of ``rows``, as larger corpora have them."""
    for file in folder.rglob("*.parquet"):
        if file.parent.parent.name in ("documents", "targets"):
            pq.write_table(pq.read_table(file), file, row_group_size=rows)
    return folder


def split(folder: Path) -> Path:
    """The same documents in several files."""
    for file in [file for file in folder.rglob("*.parquet") if file.parent.parent.name in ("documents", "targets")]:
        table = pq.read_table(file)
        for number, start in enumerate(range(0, table.num_rows, 7)):
            pq.write_table(table.slice(start, 7), file.with_name(f"{number:05d}.parquet"), row_group_size=3)
        (file.parent / ".half.parquet").write_bytes(b"not believed")
    return folder


def test_files_and_row_groups_change_nothing(folder: Path) -> None:
    _, one = encode(folder, "one", shard_bytes=1100)
    _, many = encode(split(folder), "many", shard_bytes=1100)
    assert hashes(many.path) == hashes(one.path)


def test_a_single_file_and_a_missing_one(tmp_path: Path) -> None:
    assert parts_of(tmp_path / "nowhere") == ()
    (tmp_path / "one.parquet").touch()
    assert parts_of(tmp_path / "one.parquet") == (tmp_path / "one.parquet",)
    assert parts_of(tmp_path) == (tmp_path / "one.parquet",)


def test_several_shards_hold_what_one_would(folder: Path) -> None:
    one, whole = encode(folder, "one")
    engine = Counting()
    many, draft = encode(grouped(folder, 5), "many", engine=engine, shard_bytes=1100)
    assert (many.domains, many.tokenizer) == (one.domains, one.tokenizer)
    assert "zeta 3/5" in engine.names
    for place in ("train/zeta", "train/alpha", "val/zeta", "val/alpha", "target/goal"):
        store, same = TokenStore.open(draft.path / place), TokenStore.open(whole.path / place)
        assert store.ids.tolist() == same.ids.tolist()
        assert store.counts.tolist() == same.counts.tolist()
        assert store.manifest["text_bytes"] == same.manifest["text_bytes"]
        assert store.manifest["documents"] == same.manifest["documents"]
        store.check()
    assert len(TokenStore.open(draft.path / "train/zeta").shards) == 5
    assert hashes(encode(folder, "two", engine=LocalEngine(2), shard_bytes=1100)[1].path) == hashes(draft.path)


def test_finished_shards_are_kept_and_half_written_ones_not_believed(folder: Path) -> None:
    grouped(folder, 5)
    _, whole = encode(folder, "whole", shard_bytes=1100)
    with pytest.raises(KeyboardInterrupt):
        encode(folder, engine=Stopping(TASKS.index("zeta") + 2), shard_bytes=1100)
    train = folder.parent / "tokens/tokenize/.key.partial/train/zeta"
    assert sorted(path.name for path in train.glob(".*.json")) == [".000.json", ".001.json"]
    (train / ".001.json").unlink()
    (train / "001.bin").write_bytes(b"half")
    (train / ".002.bin.17.tmp").write_bytes(b"half")
    engine = Counting()
    _, draft = encode(folder, engine=engine, shard_bytes=1100)
    assert [name for name in engine.names if "zeta" in name] == [*(f"zeta {n}/5" for n in range(2, 6)), "seal zeta"]
    assert hashes(draft.path) == hashes(whole.path)
    assert not list((draft.path / "train/zeta").glob(".*"))


@pytest.mark.parametrize("call", range(1, 6))
def test_interrupted_while_sealing(folder: Path, call: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stores are sealed in the order val, train, val, train, target; each may be the last that was."""
    from mixwright.text import tokenize as module

    grouped(folder, 5)
    _, whole = encode(folder, "whole", shard_bytes=1100)
    calls, real = [0], module.seal_tokens

    def stop(*given: Any, **named: Any) -> Any:
        calls[0] += 1
        if calls[0] == call:
            raise KeyboardInterrupt
        return real(*given, **named)

    monkeypatch.setattr(module, "seal_tokens", stop)
    with pytest.raises(KeyboardInterrupt):
        encode(folder, shard_bytes=1100)
    monkeypatch.undo()
    engine = Counting()
    _, draft = encode(folder, engine=engine, shard_bytes=1100)
    assert all(name.startswith("seal") for name in engine.names)
    assert hashes(draft.path) == hashes(whole.path)
    assert not list(draft.path.rglob(".parts"))


@pytest.mark.parametrize("gone", [["train/zeta/*"], ["train/zeta/manifest.json", "train/zeta/000.idx"], ["facts.json"]])
def test_interrupted_while_writing(folder: Path, gone: list[str]) -> None:
    """What a killed process leaves: everything up to a file, and not what comes after it."""
    _, whole = encode(folder, "whole")
    _, draft = encode(folder)
    for pattern in gone:
        for path in draft.path.glob(pattern):
            path.unlink()
    assert hashes(draft.path) != hashes(whole.path)
    encode(folder)
    assert hashes(draft.path) == hashes(whole.path)


def test_adopted_tokenizer(folder: Path) -> None:
    _, draft = encode(folder, "first")
    corpus, second = encode(folder, "second", Options(path=str(draft.path / "tokenizer.json"), held_out_bytes=400))
    assert corpus == encode(folder, "first")[0]
    assert hashes(second.path) == hashes(draft.path)


@pytest.mark.parametrize(
    ("counts", "target", "sentence"),
    [
        ({"a": 60, "b": 1}, 20, r"held-out part of domain b has 0 tokens, .* curation kept 1 of 1 documents"),
        ({"a": 60, "b": 0}, 20, r"Domain b has 0 tokens, too few for one window of 17; curation kept 0 of 0"),
        ({"a": 60}, 0, r"Target goal has 0 tokens"),
    ],
)
def test_too_small_for_one_window(tmp_path: Path, counts: dict[str, int], target: int, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        encode(curated(tmp_path, counts, target))


def test_a_window_longer_than_a_domain(folder: Path) -> None:
    with pytest.raises(DataError, match=r"Domain zeta has \d+ tokens, too few for one window of 100001"):
        encode(folder, seq_len=100_000)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([text_hash(str(n)) for n in range(30)]), st.integers(0, 1000)), max_size=40))
def test_held_out_by_hash(rows: list[tuple[str, int]]) -> None:
    size_of = dict(rows)
    names, sizes = [name for name, _ in rows], np.array([size_of[name] for name, _ in rows], dtype=np.int64)
    options = Options(held_out=0.1, held_out_bytes=50)
    apart = held_out(as_keys(names), sizes, options)
    chosen = {name for name, out in zip(names, apart, strict=True) if out}
    assert chosen.isdisjoint(name for name, out in zip(names, apart, strict=True) if not out)
    assert bool(chosen) == (len(set(names)) > 1)
    if len(chosen) > 1:
        assert sizes[apart].sum() <= 0.2 * sizes.sum()
    order = rng(0, "order").permutation(len(rows))
    again = held_out(as_keys([names[at] for at in order]), sizes[order], options)
    assert {names[at] for at, out in zip(order, again, strict=True) if out} == chosen
