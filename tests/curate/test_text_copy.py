"""Texts that are kept until they are written: the same bytes come out as from sources that are read again."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from curation_for_tests import HERE, Stopping, both, hashes, run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mixwright.core.errors import DataError
from mixwright.curate.dedup.options import Lines, Near, Substring
from mixwright.curate.dedup.options import Options as Dedup
from mixwright.curate.pipeline import Bounds, Options, decide_and_write, measure
from mixwright.curate.rules import Overrides
from mixwright.curate.shards import Shard, cut
from mixwright.curate.text_copy import CopyWriter, TextCopy, texts_again
from mixwright.curate.texts import Texts
from mixwright.engine.local import LocalEngine
from mixwright.engine.task import Engine
from mixwright.store.artifact import Draft
from mixwright.store.documents import SourceOptions, find_files

FOLDER = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SHORT = Options(rules={"words": Bounds(2, None)}, dedup=Dedup(exact=True, near=Near()))


def write(path: Path, texts: list[Any], **others: list[Any]) -> None:
    table = pa.table({"text": pa.array(texts, pa.large_binary()), **others})
    schema = table.schema.set(0, pa.field("text", pa.large_string()))
    strings = table.column(0).combine_chunks().view(pa.large_string())
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table([strings, *table.columns[1:]], schema=schema), path, row_group_size=7)


@pytest.fixture
def many(tmp_path: Path) -> tuple[Path, dict[str, SourceOptions]]:
    """Sources of every kind, with rows that cannot be read, duplicates, and fields beside the text."""
    words = [f"the {n} animals that came to the ark in pairs on day {n // 7} of the flood".encode() for n in range(40)]
    long = b"a text of one row that is longer than a batch of the reader; " * 40_000
    bad = [*words[:5], b"broken \xff here", None, b"", *words[5:30], b"x", words[3], words[4] + b" again", long, *words]
    numbers = list(range(len(bad)))
    odd = [None if n % 5 == 0 else f"value {n} \u05d0" for n in numbers]
    write(tmp_path / "a/one.parquet", bad, number=numbers, odd=odd, real=[n / 3 for n in numbers])
    write(tmp_path / "a/two.parquet", words[::-1], tags=[["x", str(n)] for n in range(40)])
    write(tmp_path / "b/bare.parquet", [words[0], b"two words", words[1]])
    (tmp_path / "c").mkdir()
    for n in range(4):
        (tmp_path / f"c/{n}.txt").write_text(f"File {n} of some more words\nthan three.\n" * (n + 1))
    rows = [{"text": f"row {n} of lines with words", "n": n} for n in range(30)]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + "no json\n")
    pairs = [{"instruction": f"say {n}", "output": f"{n} is said here", "n": n} for n in range(9)]
    (tmp_path / "e.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    halves = SourceOptions("e.jsonl", prompt=("instruction",), response="output")
    return tmp_path, {name: SourceOptions(name) for name in "abc"} | {"d": SourceOptions("d.jsonl"), "e": halves}


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"rewrite": {"mask": {}, "unicode": {}}, "shard": "1KB"},
        {"dedup": Dedup(exact=True, near=False)},
        {"dedup": Dedup(exact=True, substring=Substring(words=8))},
        {"dedup": Dedup(exact=True, near=Near(), lines=Lines(min_chars=10))},
        {"domains": {"a": Overrides(rules={"words": Bounds(10**9, None)})}},
    ],
    ids=["near", "rewritten", "exact", "substring", "lines", "nothing_kept"],
)
def test_the_same_comes_out(many: tuple[Path, dict[str, SourceOptions]], more: dict[str, Any]) -> None:
    base, sources = many
    options = dataclasses.replace(SHORT, **more)
    found = {}
    for copy in (False, True):
        chosen = dataclasses.replace(options, text_copy=copy)
        _, draft = run(base, sources, {"goal": SourceOptions("b")}, chosen, work=f"work{copy}")
        found[copy] = both(draft)
        assert not list((base / f"work{copy}").rglob("*.texts*")), "removed when everything is written"
    assert found[True] == found[False]
    assert any(name.startswith("documents/") for name in found[True])


def test_texts_are_decoded_once(many: tuple[Path, dict[str, SourceOptions]], monkeypatch: pytest.MonkeyPatch) -> None:
    base, _ = many
    times: list[str] = []
    once = Shard.counted_batches

    def counted(self: Shard, *given: Any, **more: Any) -> Any:
        times.append(self.name)
        return once(self, *given, **more)

    monkeypatch.setattr(Shard, "counted_batches", counted)
    for copy, often in ((True, 1), (False, 3), (None, 1)):
        times.clear()
        run(base, {"a": SourceOptions("a")}, {}, dataclasses.replace(SHORT, text_copy=copy), work=f"work{copy}")
        assert times.count("a/00000") == often


def test_no_copy_where_the_disk_is_full(
    many: tuple[Path, dict[str, SourceOptions]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mixwright.curate import pipeline

    base, sources = many
    monkeypatch.setattr(pipeline.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    measured, copies = base / "measured", base / "copies"
    measure(sources, {}, SHORT, base=base, folder=measured, engine=HERE, copies=copies)
    assert not list(copies.rglob("*.texts"))


class Elsewhere(Stopping):
    """An engine that is not this machine's."""


@pytest.mark.parametrize(("engine", "copied"), [(LocalEngine(2, "threads"), True), (Elsewhere(10**6), False)])
def test_only_one_machine_copies_unasked(
    many: tuple[Path, dict[str, SourceOptions]], engine: Engine, copied: bool
) -> None:
    base, sources = many
    measure(sources, {}, SHORT, base=base, folder=base / "measured", engine=engine, copies=base / "copies")
    assert bool(list((base / "copies").rglob("*.texts"))) == copied


@pytest.mark.parametrize("harm", ["changed", "cut", "gone", "without sizes"])
def test_a_copy_that_is_not_whole(many: tuple[Path, dict[str, SourceOptions]], harm: str) -> None:
    base, sources = many
    want = both(run(base, sources, {}, SHORT)[1])
    folder, copies = base / "work/measure/key", base / "copies"
    measure(sources, {}, SHORT, base=base, folder=folder, engine=HERE, copies=copies)
    assert list(copies.rglob("*.texts"))
    for path in copies.rglob("*.texts"):
        content = path.read_bytes()
        if harm == "changed":
            path.write_bytes(content.replace(b"a", b"b"))
        elif harm == "cut":
            path.write_bytes(content[:-1])
        elif harm == "gone":
            path.unlink()
        else:
            path.with_name(f"{path.name}.sizes.npy").unlink()
    draft = Draft(base / "again/curate/.key.partial", base / "again/curate/key", "curate", "key")
    draft.path.mkdir(parents=True)

    def write_it() -> None:
        decide_and_write(folder, sources, {}, SHORT, base=base, draft=draft, engine=HERE, copies=copies)

    if harm == "changed":
        with pytest.raises(DataError, match=r"is damaged: its texts are not those that were measured\. Remove it"):
            write_it()
        for path in copies.rglob("*.texts"):
            path.unlink()
    write_it()
    written = {name: value for name, value in want.items() if not name.startswith("measured/")}
    assert hashes(draft.path) == written
    assert not copies.exists()


@FOLDER
@given(st.lists(st.text(max_size=12), max_size=30), st.data())
def test_spans_hold_what_is_wanted(tmp_path: Path, texts: list[str], data: st.DataObject) -> None:
    path = tmp_path / "some.texts"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(texts)), max_size=3)))
    with CopyWriter(path) as writer:
        for start, stop in zip([0, *cuts], [*cuts, len(texts)], strict=True):
            writer.add(Texts(pa.array(texts[start:stop], pa.large_string())))
    held = TextCopy.find(path, len(texts))
    assert held is not None
    assert TextCopy.find(path, len(texts) + 1) is None
    wanted = np.array(data.draw(st.lists(st.booleans(), min_size=len(texts), max_size=len(texts))), dtype=bool)
    size = data.draw(st.integers(1, 100))
    found: dict[int, str] = {}
    for first, some in held.spans(np.flatnonzero(wanted), size):
        some.validate(full=True)
        assert len(some) == 1 or some.nbytes - 8 * (len(some) + 1) <= size
        assert wanted[first]
        assert wanted[first + len(some) - 1]
        assert not set(found) & set(range(first, first + len(some)))
        found |= dict(enumerate(some.to_pylist(), first))
    assert {row: found[row] for row in np.flatnonzero(wanted)} == {
        row: text for row, text in enumerate(texts) if wanted[row]
    }


def _write_and_fail(path: Path) -> None:
    with CopyWriter(path) as writer:
        writer.add(Texts(["one"]))
        raise DataError("made up")


def test_a_copy_that_was_not_finished_is_none(tmp_path: Path) -> None:
    path = tmp_path / "some.texts"
    for _ in range(2):
        with pytest.raises(DataError):
            _write_and_fail(path)
        assert TextCopy.find(path) is None
        with CopyWriter(path) as writer:
            writer.add(Texts(["one", "two"]))
        assert TextCopy.find(path, 2) is not None
    assert TextCopy.find(None) is None


def test_other_rows_than_were_measured_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n')
    given = SourceOptions("a.jsonl")
    shard = cut("a", given, find_files(given, tmp_path)[0], Options(), order=0, target=False)[0]
    assert [(at, len(texts)) for at, texts in texts_again(shard, None, np.array([1]), of=2)] == [(0, 2)]
    with pytest.raises(DataError, match="a/00000: 3 rows were measured, but 2 were read again: a file has changed"):
        list(texts_again(shard, tmp_path / "none", np.array([1]), of=3))
