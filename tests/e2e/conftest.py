"""A small folder of text, and the command line as a user has it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_study import STUDY, WORDS, Mixwright, documents, write_jsonl


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A folder with data and a study of a few seconds."""
    for seed, kind in enumerate(WORDS):
        write_jsonl(tmp_path / "data" / f"{kind}.jsonl", documents(kind, 150, seed))
    write_jsonl(tmp_path / "data" / "targets" / "letters.jsonl", documents("prose", 30, 99))
    (tmp_path / "study.yaml").write_text(STUDY)
    return tmp_path


@pytest.fixture
def mixwright() -> Mixwright:
    """``mixwright(folder, "run", ...)``: the command line in a folder; never a traceback unless ``faulty``."""

    def call(folder: Path, *arguments: str, **more: object) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            [sys.executable, "-m", "mixwright", *arguments],
            cwd=folder, capture_output=True, text=True, timeout=240, env=os.environ | {"COLUMNS": "120"}, **more,  # type: ignore[call-overload]
        )  # fmt: skip
        assert "Traceback" not in done.stderr, done.stderr
        return done

    return call
