"""Scoring a shard: the rows in order, each text once, whatever the cache holds, and on after a kill."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from models_for_tests import save

from mixwright.curate import scoring
from mixwright.curate.rules import Options
from mixwright.curate.score_cache import ScoreCache
from mixwright.curate.scoring import facts, place, scored_entries, scoring_tasks
from mixwright.curate.shards import Shard
from mixwright.curate.signal import Texts
from mixwright.curate.signals.ifd import Ifd
from mixwright.curate.signals.perplexity import Perplexity
from mixwright.engine.task import Task
from mixwright.store.artifact import file_hash
from mixwright.store.documents import SourceOptions, find_files
from mixwright.store.pieces import Piece

pytest.importorskip("transformers")

TEXTS = [f"the cat sat on mat {n % 7}. " * (1 + n % 5) for n in range(40)] + ["", "a dog", "日本語"]


def quiet(fraction: float, **facts: object) -> None:
    """A listener that does not listen."""


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return save(tmp_path_factory.mktemp("models") / "tiny")


def shard_of(path: Path, *, number: int = 0) -> Shard:
    given = SourceOptions(path.name)
    (file,), _ = find_files(given, path.parent)
    return Shard("web", number, number, "web", False, given, (Piece(file, size=file.bytes),), (0,))


@pytest.fixture
def shard(tmp_path: Path) -> Shard:
    (tmp_path / "web.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS) + "broken\n")
    return shard_of(tmp_path / "web.jsonl")


def plan(base: Path, model: Path, shards: list[Shard], draft: str = "draft", **given: object) -> list[Task]:
    """The tasks, after what the signals prepare."""
    options = Options(measure={"perplexity": {"model": str(model), "max_tokens": 64, "batch_tokens": 256, **given}})
    for entry in scored_entries(options):
        (base / "prepared" / entry.name).mkdir(parents=True, exist_ok=True)
        entry.signal().prepare(base, base / "prepared" / entry.name)
    return scoring_tasks(shards, options, draft=base / draft, prepared=base / "prepared", cache=base / "cache")


def test_rows_come_in_reading_order_and_repeats_are_scored_once(tmp_path, model, shard) -> None:
    (task,) = plan(tmp_path, model, [shard])
    assert (task.name, task.gpus) == ("web/00000.perplexity", 1)
    done = task.call(quiet)
    out = place(tmp_path / "draft", shard, "perplexity")
    table = pq.read_table(out)
    expected = Perplexity(str(model), max_tokens=64, batch_tokens=256).measure(Texts(TEXTS))
    assert table.column_names == list(Perplexity.columns)
    for column, values in expected.items():
        np.testing.assert_array_equal(table[column].to_numpy(), values)
    assert done["rows"] == len(TEXTS)
    assert done["scored"] == len(set(TEXTS))
    assert done["failed"] == facts(out)["failed"] == {"no token that a loss could be given for": 1}
    assert done["tokens"] > done["filling"] >= 0


def test_a_whole_cache_gives_the_same_file_and_loads_no_model(tmp_path, model, shard, monkeypatch) -> None:
    plan(tmp_path, model, [shard])[0].call(quiet)
    first = file_hash(place(tmp_path / "draft", shard, "perplexity"))
    assert plan(tmp_path, model, [shard]) == []
    monkeypatch.setattr(Perplexity, "load", lambda *_: pytest.fail("the model was loaded"))
    (task,) = plan(tmp_path, model, [shard], draft="again")
    done = task.call(quiet)
    assert (done["known"], done["scored"], done["tokens"]) == (len(TEXTS), 0, 0)
    assert file_hash(place(tmp_path / "again", shard, "perplexity")) == first


def test_a_part_of_the_cache_gives_the_same_file(tmp_path, model, shard) -> None:
    (tmp_path / "other.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS[::3]))
    plan(tmp_path, model, [shard])[0].call(quiet)
    alone = file_hash(place(tmp_path / "draft", shard, "perplexity"))
    other = tmp_path / "other"
    plan(other, model, [shard_of(tmp_path / "other.jsonl")])[0].call(quiet)
    (task,) = plan(other, model, [shard], draft="second")
    done = task.call(quiet)
    assert 0 < done["known"] < len(TEXTS)
    assert file_hash(place(other / "second", shard, "perplexity")) == alone


def test_a_killed_task_loses_one_chunk_and_gives_the_same_bytes(tmp_path, model, shard, monkeypatch) -> None:
    plan(tmp_path / "whole", model, [shard])[0].call(quiet)
    whole = file_hash(place(tmp_path / "whole" / "draft", shard, "perplexity"))
    monkeypatch.setattr(scoring, "_CHUNK", 0.0)  # a chunk of every batch
    real, left = scoring.score_plans, 3

    def stopping(*given):
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return real(*given)

    monkeypatch.setattr(scoring, "score_plans", stopping)
    (task,) = plan(tmp_path, model, [shard])
    with pytest.raises(KeyboardInterrupt):
        task.call(quiet)
    runs = list(tmp_path.glob("cache/*/runs/*.npy"))
    assert len(runs) == 3
    assert not place(tmp_path / "draft", shard, "perplexity").exists()
    kept = sum(len(np.load(run)) for run in runs)
    left = 1000
    done = task.call(quiet)  # at once, as an engine repeats a task whose process died
    assert done["scored"] == len(set(TEXTS)) - kept
    assert file_hash(place(tmp_path / "draft", shard, "perplexity")) == whole


def test_other_weights_options_and_tokenizers_have_another_key(tmp_path, model) -> None:
    def key(folder: Path, **given: object) -> str:
        return Perplexity(str(folder), **given).key(Perplexity(str(folder)).identity(tmp_path))

    other = save(tmp_path / "other", seed=1)
    same = save(tmp_path / "same")
    assert key(same) == key(model)
    assert key(same, batch_tokens=64) == key(model)
    found = {key(model), key(other), key(model, max_tokens=64), key(model, long="stride"), key(model, dtype="bfloat16")}
    settings = json.loads((same / "tokenizer_config.json").read_text())
    (same / "tokenizer_config.json").write_text(json.dumps(settings | {"bos_token": None}))
    assert len(found | {key(same)}) == 6


def test_entries_of_their_own_name_prefix_their_columns(tmp_path, model, shard) -> None:
    options = Options(
        measure={
            "small": {"signal": "ifd", "model": str(model)},
            "perplexity": {"model": str(model)},
        }
    )
    assert [(entry.name, entry.columns[0]) for entry in scored_entries(options)] == [
        ("small", "small.ifd_loss"), ("perplexity", "lm_perplexity"),
    ]  # fmt: skip
    for entry in scored_entries(options):
        (tmp_path / "prepared" / entry.name).mkdir(parents=True)
        entry.signal().prepare(tmp_path, tmp_path / "prepared" / entry.name)
    tasks = scoring_tasks([shard], options, draft=tmp_path, prepared=tmp_path / "prepared", cache=tmp_path / "cache")
    assert tasks[0].call(quiet)["failed"] == {"no instruction row": len(TEXTS)}
    table = pq.read_table(place(tmp_path, shard, "small"))
    assert table.column_names[0] == "small.ifd_loss"
    assert np.isnan(table["small.ifd_ppl"].to_numpy()).all()


def test_halves_of_instruction_rows_are_scored_as_rewrites_leave_them(tmp_path, model) -> None:
    rows = [("Who is it?", "Write to cat@mat.org and dog@hill.org."), ("Name it.", "the cat"), ("Name it.", "")]
    fields = [{"question": q, "answer": a} for q, a in rows]
    (tmp_path / "web.jsonl").write_text("".join(json.dumps(row) + "\n" for row in fields))
    given = SourceOptions("web.jsonl", prompt=("question",), response="answer")
    (file,), _ = find_files(given, tmp_path)
    shard = Shard("web", 0, 0, "web", False, given, (Piece(file, size=file.bytes),), (0,), {"mask": {}})
    options = Options(measure={"ifd": {"model": str(model)}})
    (tmp_path / "prepared" / "ifd").mkdir(parents=True)
    scored_entries(options)[0].signal().prepare(tmp_path, tmp_path / "prepared" / "ifd")
    (task,) = scoring_tasks([shard], options, draft=tmp_path, prepared=tmp_path / "prepared", cache=tmp_path / "cache")
    assert task.call(quiet)["failed"] == {"no token in the target": 1}
    masked = [(q, a.replace("cat@mat.org", "<email>").replace("dog@hill.org", "<email>")) for q, a in rows]
    prompts, responses = (pa.array(half, pa.large_string()) for half in zip(*masked, strict=True))
    texts = Texts([f"{q}\n{a}" for q, a in masked], prompts=prompts, responses=responses)
    expected = Ifd(str(model)).measure(texts)
    table = pq.read_table(place(tmp_path, shard, "ifd"))
    for column, values in expected.items():
        np.testing.assert_array_equal(table[column].to_numpy(), values)
    assert np.isfinite(expected["ifd_loss"]).tolist() == [True, True, False]


def rows(numbers: range) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hashes that often share their first half, failures and values."""
    of = np.array(list(numbers), dtype=np.uint64)
    hashes = np.stack([of // np.uint64(3) * np.uint64(0x0123456789ABCDEF), of], axis=1)
    return hashes, of.astype(np.int64) % 4, np.stack([of * 1.0, of * 2.0], axis=1)


def test_the_cache_finds_what_was_put_and_nothing_else(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("mixwright.curate.score_cache._PART", 2000)  # merged in many parts
    store = ScoreCache(tmp_path / "cache", 2)
    assert not store.find(rows(range(5))[0])[0].any()
    for number, some in enumerate((range(50), range(40, 90), range(200, 230))):
        store.put("a", number, *rows(some))
        if number == 1:
            store.merge()
    known = store.find(rows(range(250))[0])[0]
    assert np.flatnonzero(known).tolist() == list(range(90)), "runs of others are not seen before they are merged"
    store.own("a")
    hashes, failed, values = rows(range(250))
    known, found_failed, found = store.find(hashes)
    assert np.flatnonzero(known).tolist() == [*range(90), *range(200, 230)]
    np.testing.assert_array_equal(found[known], values[known])
    np.testing.assert_array_equal(found_failed[known], failed[known])
    store.merge()
    again = ScoreCache(tmp_path / "cache", 2)
    assert np.flatnonzero(again.find(hashes)[0]).tolist() == [*range(90), *range(200, 230)]
    assert [path.name for path in (tmp_path / "cache").glob("merged-*")] == ["merged-2"]
    assert (tmp_path / "cache" / "merged-2" / "first.u64").stat().st_size == 120 * 8, "each hash once"


def test_a_damaged_run_is_not_believed(tmp_path) -> None:
    store = ScoreCache(tmp_path, 2)
    store.put("a", 0, *rows(range(5)))
    store.put("a", 1, *rows(range(5, 9)))
    path = tmp_path / "runs" / "a-0.npy"
    path.write_bytes(path.read_bytes()[:-40])
    store.own("a")
    assert np.flatnonzero(store.find(rows(range(20))[0])[0]).tolist() == [5, 6, 7, 8]
    assert not path.exists()
