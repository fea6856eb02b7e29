"""Compiled code on disk is that of the sources as they are."""

from pathlib import Path

import pytest

from mixwright.curate.compiled import digest, sources
from mixwright.curate.kernels import bits, repetition


def test_sources_are_those_of_all_depths() -> None:
    names = {file.name for file in sources(repetition.__name__)}
    assert {"repetition.py", "first_seen.py", "addresses.py", "bits.py", "counts.py", "compiled.py"} <= names
    assert not {"scanning.py", "lines.py", "texts.py"} & names


def test_a_change_in_an_imported_module_makes_another_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = digest(repetition.__name__)
    base = repetition.gram_space._cache._impl.filename_base  # type: ignore[attr-defined]
    assert base.endswith(before)
    changed = tmp_path / "bits.py"
    changed.write_text(Path(str(bits.__file__)).read_text() + "\n# changed\n")
    monkeypatch.setattr(bits, "__file__", str(changed))
    digest.cache_clear()
    assert digest(repetition.__name__) != before
    digest.cache_clear()


def test_sources_of_what_is_no_file() -> None:
    assert sources("builtins") == ()
