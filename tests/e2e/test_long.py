"""Long tests (`make test-long`): kills at random moments, fuzzed files, a folder of some size. Small samples run always."""

import gzip
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_study import Mixwright, documents

from mixwright.store.batches import read_batches
from mixwright.store.documents import SourceOptions, find_files
from mixwright.store.pieces import Piece


def run_losses(folder: Path) -> dict[str, Any]:
    runs = [path for path in (folder / "work" / "runs").iterdir() if not path.name.startswith(".")]
    return {path.name: json.loads((path / "observation.json").read_text())["losses"] for path in runs}


@pytest.mark.long
def test_kills_at_random_moments(study: Path, tmp_path_factory: Any, mixwright: Mixwright) -> None:
    pytest.importorskip("torch")
    calm = tmp_path_factory.mktemp("calm") / "study"
    shutil.copytree(study, calm)
    begun = time.monotonic()
    assert mixwright(calm, "run", "-q").returncode == 0
    whole = time.monotonic() - begun
    draw = random.Random(1)
    for _ in range(25):
        process = subprocess.Popen(
            [sys.executable, "-m", "mixwright", "run", "-q"], cwd=study, stdout=subprocess.DEVNULL
        )
        try:
            process.wait(draw.uniform(0.2, whole / 4))
            break
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
    assert mixwright(study, "run", "-q").returncode == 0
    assert run_losses(study) == run_losses(calm)
    assert (study / "recipe.yaml").read_text() == (calm / "recipe.yaml").read_text()


def _count(folder: Path, content: bytes, name: str) -> tuple[int, int]:
    (folder / name).write_bytes(content)
    given = SourceOptions(name)
    batches = [batch for file in find_files(given, folder)[0] for batch in read_batches(Piece(file), given)]
    return sum(len(batch.rows) for batch in batches), sum(len(batch.unreadable) for batch in batches)


def _fuzz(folder: Path, content: bytes) -> None:
    """No row is lost and nothing crashes, whatever the bytes are."""
    rows, unreadable = _count(folder, content, "plain.jsonl")
    wanted = [
        line
        for n, line in enumerate(content.split(b"\n"))
        if (line.removeprefix(b"\xef\xbb\xbf") if n == 0 else line).strip()
    ]
    assert rows + unreadable == len(wanted)
    for name, data in (("broken.jsonl.gz", content), ("cut.jsonl.gz", gzip.compress(content)[:-5])):
        assert sum(_count(folder, data, name)) >= 1, "a damaged stream is at least one unreadable row"


line = st.one_of(
    st.binary(max_size=40),
    st.text(max_size=20).map(lambda text: json.dumps({"text": text}).encode()),
    st.just(b'{"text": 1}'),
)
contents = st.lists(line, max_size=8).map(b"\n".join)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(contents)
def test_a_sample_of_fuzzed_files(tmp_path: Path, content: bytes) -> None:
    _fuzz(tmp_path, content)


@pytest.mark.long
@settings(max_examples=5000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(contents)
def test_fuzzed_files(tmp_path: Path, content: bytes) -> None:
    _fuzz(tmp_path, content)


@pytest.mark.long
def test_a_hundred_thousand_documents(study: Path, mixwright: Mixwright) -> None:
    texts = documents("code", 100_000, 3)
    (study / "data" / "code.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    done = mixwright(study, "curate", "--json")
    assert done.returncode == 0, done.stderr
    folder = study / json.loads(done.stdout)["artifact"]
    row = json.loads((folder / "summary.json").read_text())["sources"]["code"]
    assert row["read"]["documents"] == 100_000
    dropped = json.loads((folder / "summary.json").read_text())["first_dropped"]["code"]
    assert row["kept"]["documents"] + sum(dropped.values()) == 100_000
