"""Artifacts are whole or not there; the folder has one owner."""

import subprocess
import sys
from pathlib import Path

import pytest

from mixwright.core.errors import DataError, StudyError
from mixwright.store.artifact import Workspace, content_key, to_json, write_atomic, write_json, written_aside


def seal(workspace: Workspace, key: str = "k", text: str = "hello") -> None:
    draft = workspace.draft("curate", key)
    write_atomic(draft.path / "inside" / "a.txt", text)
    draft.seal(settings={"x": 1}, inputs={"raw": "1"}, info={"n": 3})


def test_an_artifact_is_found_only_when_sealed(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    draft = workspace.draft("curate", "k")
    write_atomic(draft.path / "a.txt", "half")
    assert workspace.find("curate", "k") is None
    assert workspace.all("curate") == []
    again = workspace.draft("curate", "k")
    assert (again.path / "a.txt").read_text() == "half", "what a killed process left is still there"
    artifact = again.seal(settings={}, inputs={})
    found = workspace.find("curate", "k")
    assert found is not None
    assert found.fingerprint == artifact.fingerprint
    assert not draft.path.exists()


def test_leftovers_of_a_kill_do_not_enter_the_artifact(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    draft = workspace.draft("curate", "k")
    (draft.path / ".a.txt.99.tmp").write_text("torn")
    write_atomic(draft.path / "a.txt", "whole")
    artifact = draft.seal(settings={}, inputs={})
    assert list(artifact.manifest["files"]) == ["a.txt"]


def test_damage_is_reported_with_the_file(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    seal(workspace)
    file = tmp_path / "curate" / "k" / "inside" / "a.txt"
    file.write_text("jello")
    artifact = workspace.find("curate", "k")
    assert artifact is not None
    with pytest.raises(DataError, match=r"a\.txt has changed"):
        artifact.check(contents=True)
    file.write_text("hell")
    with pytest.raises(DataError, match=r"a\.txt is missing or truncated"):
        workspace.find("curate", "k")


def test_a_newer_form_is_refused(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    seal(workspace)
    manifest = tmp_path / "curate" / "k" / "manifest.json"
    manifest.write_text(manifest.read_text().replace("mixwright/artifact/1", "mixwright/artifact/9"))
    with pytest.raises(DataError, match="mixwright/artifact/9"):
        workspace.find("curate", "k")


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    file = tmp_path / "a"
    write_atomic(file, "old")

    def interrupted() -> None:
        with written_aside(file) as aside:
            aside.write_text("new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()
    assert file.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_keys_depend_on_every_part() -> None:
    assert content_key({"a": 1, "b": 2}) == content_key({"b": 2, "a": 1})
    assert to_json({"b": 2, "a": 1}).index("b") < to_json({"b": 2, "a": 1}).index("a"), "the order of domains is kept"
    assert content_key("a", "b") != content_key("ab")
    assert content_key({"a": 0.1}) != content_key({"a": 0.1 + 1e-17 + 1e-16})


def test_a_file_that_is_not_json_is_named(tmp_path: Path) -> None:
    write_json(tmp_path / "good.json", {"a": [1, 2]})
    (tmp_path / "bad.json").write_text("{")
    from mixwright.store.artifact import read_json

    assert read_json(tmp_path / "good.json") == {"a": [1, 2]}
    with pytest.raises(DataError, match=r"bad\.json is not valid JSON"):
        read_json(tmp_path / "bad.json")


def test_one_process_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mixwright.store.artifact._LOCK_PATIENCE", 0.3)
    code = f"""
import time; from pathlib import Path; from mixwright.store.artifact import Workspace
with Workspace(Path({str(tmp_path)!r})).lock():
    print("held", flush=True); time.sleep(30)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == "held\n"
            with pytest.raises(StudyError, match=f"process {other.pid}"), Workspace(tmp_path).lock():
                pass
        finally:
            other.kill()
    with Workspace(tmp_path).lock():  # a killed owner does not hold it
        pass
