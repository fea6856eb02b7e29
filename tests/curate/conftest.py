"""Small sources on disk."""

from pathlib import Path

import pytest
from curation_for_tests import jsonl

from mixwright.store.documents import SourceOptions


@pytest.fixture
def small(tmp_path: Path) -> tuple[Path, dict[str, SourceOptions], dict[str, SourceOptions]]:
    """Three sources, two of them one domain, and a target; with duplicates, bad rows and shared words."""
    long = " ".join(f"word{n}" for n in range(40))
    sources = {
        "zoo": jsonl(tmp_path / "zoo.jsonl", [long, "a short one", "the cat sat on the mat", "the cat sat on the mat"]),
        "arks": jsonl(tmp_path / "arks.jsonl", ["the cat sat on the mat", "two by two they came", "x", long]),
        "more": jsonl(tmp_path / "more.jsonl", ["an animal story", "another animal story"]),
    }
    with (tmp_path / "arks.jsonl").open("a") as stream:
        stream.write('not json\n{"body": "no text"}\n')
    sources["more"] = SourceOptions("more.jsonl", domain="zoo")
    shared = "before " + " ".join(f"WORD{n}" for n in range(3, 16)) + " after"
    targets = {"goal": jsonl(tmp_path / "goal.jsonl", ["something else entirely", shared, "two by two they came"])}
    return tmp_path, sources, targets
