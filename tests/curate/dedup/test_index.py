"""A later run drops what an earlier one kept, and says of which document it is a duplicate, and how similar."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dedup_for_tests import HERE, found, jaccard, planted

from mixwright.core.document import document_id, text_hash
from mixwright.core.errors import DataError, StudyError
from mixwright.curate.dedup.index import build_index
from mixwright.curate.dedup.options import Near, Options


def indexed(folder: Path, texts: list[str], near: Near | None, files: int = 2) -> Path:
    """An index of documents in some files beside it."""
    paths = []
    for number in range(files):
        mine = texts[number::files]
        ids = [document_id("earlier", f"{number}", row) for row in range(len(mine))]
        paths.append(folder / "documents" / f"{number}.parquet")
        paths[-1].parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"id": ids, "text": pa.array(mine, pa.large_string())}), paths[-1])
    build_index(paths, folder / "dedup-index", near, engine=HERE)
    return folder / "dedup-index"


@pytest.mark.parametrize("seed", range(2))
def test_what_an_earlier_run_holds_is_dropped(tmp_path: Path, seed: int) -> None:
    texts = planted(seed, 80)
    earlier = list(texts[::2])
    for line in found(tmp_path / "1", {"a": [texts[::2]]}, Options(near=True))[1]:
        earlier.remove(line["text"])
    index = indexed(tmp_path / "earlier", earlier, Near())
    later = texts[1::2]
    counts, lines = found(tmp_path / "2", {"a": [later[::2], later[1::2]]}, Options(near=True, against=(str(index),)))
    assert counts["rows"] == len(later)
    repeated = [text for text in later if any(text == one or jaccard(text, one) >= 0.8 for one in earlier)]
    assert sorted(line["text"] for line in lines if line["rule"] == "earlier_run") == sorted(repeated)
    assert len(repeated) > 5
    for line in lines:
        if line["rule"] == "earlier_run":
            assert line["twin"] in earlier
            assert line["similarity"] == (1 if line["text"] == line["twin"] else jaccard(line["text"], line["twin"]))
    left = list(later)
    for line in lines:
        left.remove(line["text"])
    assert not [one for one in left for other in [*left, *earlier] if one is not other and jaccard(one, other) >= 0.8]


@pytest.mark.parametrize("exact", [True, False])
def test_equal_texts_of_an_earlier_run_are_dropped_without_band_keys(tmp_path: Path, exact: bool) -> None:
    index = indexed(tmp_path, ["one text", "two"], None)
    _, lines = found(tmp_path / "now", {"a": [["two", "three", "two"]]}, Options(exact=exact, against=(str(index),)))
    assert [(line["index"], line["rule"], line["twin"], line["similarity"]) for line in lines] == [
        (0, "earlier_run", "two", 1.0), (2, "earlier_run", "two", 1.0),
    ]  # fmt: skip


def test_two_earlier_runs(tmp_path: Path) -> None:
    first = indexed(tmp_path / "1", ["one text", "the same"], None)
    second = indexed(tmp_path / "2", ["another", "the same"], None)
    options = Options(against=(str(first), str(second)))
    _, lines = found(tmp_path / "now", {"a": [["another", "one text", "the same", "new"]]}, options)
    assert [line["text"] for line in lines] == ["another", "one text", "the same"]


def test_indexes_that_cannot_be_compared_are_refused(tmp_path: Path) -> None:
    def run(index: Path, near: bool | Near = True) -> None:
        found(tmp_path / "now", {"a": [["some text"]]}, Options(near=near, against=(str(index),)))

    with pytest.raises(StudyError, match=r"holds no index\.json"):
        run(tmp_path / "none")
    index = indexed(tmp_path / "1", ["one text"], Near())
    with pytest.raises(StudyError, match="ngram: 5, bands: 25, rows: 5, the study ngram: 5, bands: 20, rows: 5"):
        run(index, Near(bands=20))
    with pytest.raises(StudyError, match="settings of exact duplicates alone"):
        run(indexed(tmp_path / "2", ["one text"], None))
    facts = json.loads((index / "index.json").read_text())
    (index / "index.json").write_text(json.dumps(facts | {"hash_version": 0}))
    with pytest.raises(DataError, match="hashed by version 0 of the word hash"):
        run(index)


def test_documents_that_are_gone_are_named(tmp_path: Path) -> None:
    text = " ".join(f"w{n}" for n in range(30))
    index = indexed(tmp_path, [text], Near(), files=1)
    (tmp_path / "documents" / "0.parquet").unlink()
    with pytest.raises(DataError, match=r"documents.*0\.parquet of an earlier run cannot be read"):
        found(tmp_path / "now", {"a": [[text + " more"]]}, Options(near=True, against=(str(index),)))


def test_an_index_is_built_once(tmp_path: Path) -> None:
    index = indexed(tmp_path, ["one text"], Near())
    before = {path.name: path.read_bytes() for path in index.iterdir()}
    indexed(tmp_path, ["other text"], Near())
    assert {path.name: path.read_bytes() for path in index.iterdir()} == before
    assert text_hash("one text") != text_hash("other text")
